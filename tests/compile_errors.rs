//! What must not compile, and what the compiler says then.

#[test]
fn misuse_of_ids_and_codecs_is_a_compile_error_that_names_the_cure() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*.rs");
}
