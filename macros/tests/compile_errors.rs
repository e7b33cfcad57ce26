//! Programs that must not compile, and the compiler's messages.

#[test]
fn id_from_other_than_one_text_is_a_compile_error_with_its_cure() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*.rs");
}

#[test]
fn mistakes_in_a_stream_are_compile_errors_that_name_them() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/stream/*.rs");
}

#[test]
fn mistakes_in_a_layout_are_compile_errors_that_name_the_cure() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/layout/*.rs");
}
