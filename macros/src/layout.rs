//! `#[derive(PlainLayout)]`: where the fields of a struct are, as constants of the compiler.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{Data, DeriveInput, GenericParam, LitStr, Member, Path, parse_quote, spanned::Spanned};

/// Expands the definition of a struct.
pub(crate) fn expand(input: TokenStream) -> syn::Result<TokenStream> {
    let mut input: DeriveInput = syn::parse2(input)?;
    let krate = krate(&input)?;
    let Data::Struct(of_struct) = &input.data else {
        const CURE: &str = "`PlainLayout` is derived for structs; implement it by hand with the layout of \
                            the number: `const FIELDS: &'static [PlainField] = <u8 as PlainLayout>::FIELDS;`";
        return Err(syn::Error::new(input.ident.span(), CURE));
    };
    let fields: Vec<TokenStream> = of_struct
        .fields
        .members()
        .zip(&of_struct.fields)
        .map(|(member, field): (Member, _)| {
            let datum = &field.ty;
            // Errors point at the field, and lints take the code for a macro's.
            let span = Span::mixed_site().located_at(datum.span());
            quote_spanned! { span =>
                #krate::PlainField::at::<#datum>(::core::mem::offset_of!(Self, #member))
            }
        })
        .collect();
    for parameter in &mut input.generics.params {
        if let GenericParam::Type(parameter) = parameter {
            parameter.bounds.push(parse_quote! { #krate::PlainLayout });
        }
    }
    let name = &input.ident;
    let (impl_generics, type_generics, bounds) = input.generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #impl_generics #krate::PlainLayout for #name #type_generics #bounds {
            const FIELDS: &'static [#krate::PlainField] = &[#(#fields),*];
        }
    })
}

/// The path of corewire: `#[plain_layout(crate = "path")]`, or `::corewire`.
fn krate(input: &DeriveInput) -> syn::Result<Path> {
    let mut krate = parse_quote! { ::corewire };
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("plain_layout")) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("crate") {
                return Err(meta.error("expected `crate = \"path of corewire\"`"));
            }
            krate = meta.value()?.parse::<LitStr>()?.parse()?;
            Ok(())
        })?;
    }
    Ok(krate)
}
