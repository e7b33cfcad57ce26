//! What must not compile, and what the compiler says then.

#[test]
fn an_id_that_is_not_one_text_is_a_compile_error_that_names_the_cure() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*.rs");
}
