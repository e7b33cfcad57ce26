//! corewire's procedural macros.
//!
//! What `macro_rules!` cannot do: hashing text at compile time, deriving the layout of a struct, and reading
//! the definition of a stream with errors that name the mistake. The macros that users write (`unique_id!`,
//! `tag!`, `declare::stream!`) are `macro_rules!` in the `corewire` crate, so that they work when that crate
//! is renamed in a manifest; a derive macro is told the name by an attribute.

mod layout;
mod stream;

use proc_macro::TokenStream;
use quote::quote;
use syn::LitStr;

/// Expands to the `[u8; 32]` for a text: exactly 64 hexadecimal digits are decoded, any other text is hashed
/// with BLAKE3. `corewire::UniqueId::from_text` does the same at run time; a test of `corewire` compares the
/// two.
#[proc_macro]
pub fn digest(input: TokenStream) -> TokenStream {
    match expand_digest(input.into()) {
        Ok(tokens) => tokens.into(),
        Err(error) => error.into_compile_error().into(),
    }
}

/// Expands `[path of corewire] definition` to what `corewire::declare::stream!` promises for the definition.
#[proc_macro]
pub fn stream(input: TokenStream) -> TokenStream {
    match stream::expand(input.into()) {
        Ok(tokens) => tokens.into(),
        Err(error) => error.into_compile_error().into(),
    }
}

/// Implements `corewire::PlainLayout` for a struct: the kind and offset of each of its fields.
///
/// Type parameters get the bound `PlainLayout`. `#[plain_layout(crate = "path")]` names corewire where it is
/// not called `::corewire`.
#[proc_macro_derive(PlainLayout, attributes(plain_layout))]
pub fn plain_layout(input: TokenStream) -> TokenStream {
    match layout::expand(input.into()) {
        Ok(tokens) => tokens.into(),
        Err(error) => error.into_compile_error().into(),
    }
}

/// Parses the literal and writes the array.
fn expand_digest(input: proc_macro2::TokenStream) -> syn::Result<proc_macro2::TokenStream> {
    const CURE: &str = "expected one string literal, as in `unique_id!(\"my.stream\")`; \
                        for text that is only known at run time use `UniqueId::from_text`";
    if input.is_empty() {
        return Err(syn::Error::new(proc_macro2::Span::call_site(), CURE));
    }
    let literal: LitStr = syn::parse2(input).map_err(|error| syn::Error::new(error.span(), CURE))?;
    let bytes = digest_of(&literal.value());
    Ok(quote! { [#(#bytes),*] })
}

fn digest_of(text: &str) -> [u8; 32] {
    decode_hex(text).unwrap_or_else(|| *blake3::hash(text.as_bytes()).as_bytes())
}

/// Decodes exactly 64 hexadecimal digits of either case.
fn decode_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0u8; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::{digest_of, expand_digest};
    use quote::quote;

    #[test]
    fn sixty_four_hex_digits_of_either_case_are_decoded() {
        assert_eq!(digest_of(&"0aFf".repeat(16)), {
            let mut bytes = [0u8; 32];
            for pair in bytes.chunks_exact_mut(2) {
                pair.copy_from_slice(&[0x0a, 0xff]);
            }
            bytes
        });
    }

    #[test]
    fn any_other_text_is_hashed() {
        for text in ["a", "g".repeat(64).as_str(), "0".repeat(63).as_str(), "0".repeat(65).as_str()] {
            assert_eq!(digest_of(text), *blake3::hash(text.as_bytes()).as_bytes(), "{text}");
        }
    }

    #[test]
    fn input_other_than_one_literal_is_refused() {
        for bad in [quote!(), quote!(1), quote!("a", "b"), quote!(name), quote!(b"a")] {
            assert!(expand_digest(bad.clone()).is_err(), "{bad}");
        }
    }
}
