//! `stream!`: a named stream as a struct with its id, its type and its configuration.
//!
//! `keys` knows the keys, `parse` reads a definition, and this module writes the code.

mod keys;
mod parse;

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::{GenericParam, Generics};

use self::keys::Side;
use self::parse::{Definition, StreamName};

/// Expands `[path of corewire] definition`.
pub(crate) fn expand(input: TokenStream) -> syn::Result<TokenStream> {
    let definition: Definition = syn::parse2(input)?;
    let sides = [Side::Producer, Side::Consumer];
    let made = sides.into_iter().filter(|side| definition.only.is_none_or(|only| only == *side));
    let (of_struct, of_id) = (definition.of_struct(), definition.of_id());
    let of_sides = made.map(|side| definition.of_side(side));
    Ok(quote! { #of_struct #of_id #(#of_sides)* })
}

impl Definition {
    fn of_struct(&self) -> TokenStream {
        let Self { attributes, visibility, name, generics, .. } = self;
        if generics.params.is_empty() {
            return quote! { #(#attributes)* #visibility struct #name; };
        }
        let mentioned = mentioned(generics);
        quote! {
            #(#attributes)*
            #visibility struct #name #generics (::core::marker::PhantomData<fn() -> (#(#mentioned,)*)>);
        }
    }

    fn of_id(&self) -> TokenStream {
        let Self { krate, visibility, name, generics, datum, .. } = self;
        let (impl_generics, type_generics, bounds) = generics.split_for_impl();
        let value = self.id.as_ref().map(|id| match id {
            StreamName::Text(text) => {
                let bytes = crate::digest_of(&text.value());
                quote! { #krate::StreamId::from_bytes([#(#bytes),*]) }
            }
            StreamName::Constant(id) => quote! { #id },
        });
        let (constant, id) = match value {
            Some(value) => {
                let constant = quote! {
                    /// The stream's id.
                    #[allow(dead_code)]
                    #visibility const STREAM_ID: #krate::StreamId = #value;
                };
                (constant, quote! { Self::STREAM_ID })
            }
            None => (quote!(), quote! { #krate::__private::derived_stream_id::<#datum>() }),
        };
        quote! {
            impl #impl_generics #name #type_generics #bounds {
                #constant
                /// The stream's id.
                #[allow(dead_code)]
                #visibility fn stream_id() -> #krate::StreamId {
                    #id
                }
            }
        }
    }

    fn of_side(&self, side: Side) -> TokenStream {
        let Self { krate, name, generics, datum, .. } = self;
        let (impl_generics, type_generics, bounds) = generics.split_for_impl();
        let (codec, set_codec) = match &self.codec {
            Some(codec) => (quote! { #codec }, quote! { .codec(#codec) }),
            None => (quote! { #krate::Postcard }, quote!()),
        };
        let calls = self.entries.iter().filter(|entry| entry.sides.contains(&side)).map(|entry| {
            let method = entry.key.method(side).expect("the parser checked it");
            let (method, value) = (format_ident!("{method}", span = entry.written.span()), &entry.value);
            quote_spanned! { entry.written.span()=> .#method(#value) }
        });
        let (module, handle) = match side {
            Side::Producer => (format_ident!("producer"), format_ident!("Producer")),
            Side::Consumer => (format_ident!("consumer"), format_ident!("Consumer")),
        };
        let (declared, builder) = (format_ident!("Stream{handle}"), format_ident!("{module}_builder"));
        quote! {
            impl #impl_generics #krate::declare::#declared for #name #type_generics #bounds {
                type Datum = #datum;
                type Codec = #codec;
                type #handle = #krate::#handle<#datum, #codec>;

                fn #builder(
                    network: &impl ::core::convert::AsRef<#krate::streams::Streams>,
                ) -> #krate::streams::#module::Builder<#datum, #codec> {
                    ::core::convert::AsRef::<#krate::streams::Streams>::as_ref(network)
                        .#module::<#datum>()
                        .with_stream_id(Self::stream_id())
                        #set_codec
                        #(#calls)*
                }
            }
        }
    }
}

/// A type for each parameter, so that the struct uses them all.
fn mentioned(generics: &Generics) -> Vec<TokenStream> {
    let of = |parameter: &GenericParam| match parameter {
        GenericParam::Type(of_type) => {
            let name = &of_type.ident;
            Some(quote! { *const #name })
        }
        GenericParam::Lifetime(of_lifetime) => {
            let name = &of_lifetime.lifetime;
            Some(quote! { &#name () })
        }
        GenericParam::Const(_) => None,
    };
    generics.params.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use proc_macro2::TokenStream;
    use quote::{format_ident, quote};

    use super::expand;

    /// The expansion of a definition in a crate that is called `k`, without white space.
    fn expanded(definition: TokenStream) -> String {
        let code = expand(quote! { [k] #definition }).expect("a definition").to_string();
        code.split_whitespace().collect()
    }

    /// Which builders get the call `.method(7)`.
    fn called(code: &str, method: &str) -> [bool; 2] {
        let (producer, consumer) = code.split_once("k::declare::StreamConsumer").unwrap_or((code, ""));
        [producer, consumer].map(|side| side.contains(&format!(".{method}(7)")))
    }

    #[test]
    fn each_key_calls_its_method_on_its_side() {
        for (key, producer, consumer) in [
            ("max_consumers", Some("with_max_consumers"), None),
            ("buffer_size", Some("with_buffer_size"), None),
            ("max_bandwidth", Some("with_max_bandwidth"), None),
            ("buffer_bytes", Some("with_buffer_bytes"), None),
            ("max_datum_bytes", Some("with_max_datum_bytes"), None),
            ("disconnect_lagging", Some("disconnect_lagging"), None),
            ("resume_for", Some("resume_for"), None),
            ("on_full", Some("on_full"), None),
            ("degrader", Some("degrader"), None),
            ("fairness_weight", Some("fairness_weight"), None),
            ("key", Some("with_key"), None),
            ("undelivered_sink", Some("with_undelivered_sink"), None),
            ("criteria", None, Some("with_criteria")),
            ("prefer", None, Some("prefer")),
            ("backoff", None, Some("with_backoff")),
            ("window_bytes", None, Some("with_window_bytes")),
            ("window_datums", None, Some("with_window_datums")),
            ("require", Some("require"), Some("require")),
            ("require_ticket", Some("require_ticket"), Some("require_ticket")),
            ("online_when", Some("online_when"), Some("online_when")),
            ("reliability", Some("reliability"), Some("reliability")),
        ] {
            let key = format_ident!("{key}");
            let code = expanded(quote! { pub A = u8, #key: 7 });
            let expected = [producer.is_some(), consumer.is_some()];
            let method = producer.or(consumer).unwrap();
            assert_eq!(called(&code, method), expected, "{key}: {code}");
        }
    }

    #[test]
    fn prefixes_name_the_side_that_is_configured() {
        let code = expanded(quote! { A = u8, producer require: 7, consumer online_when: 7 });
        assert_eq!(called(&code, "require"), [true, false]);
        assert_eq!(called(&code, "online_when"), [false, true]);
        let code = expanded(quote! { A = u8, buffer_size: 8, consumer buffer_size: 7 });
        assert_eq!(called(&code, "with_window_datums"), [false, true]);
        let code = expanded(quote! { producer A = u8, require: 7, require: 7 });
        assert_eq!(code.matches(".require(7)").count(), 2, "requirements add up");
    }

    #[test]
    fn modes_generate_one_trait_or_both() {
        let traits = |definition| {
            let code = expanded(definition);
            ["StreamProducer", "StreamConsumer"].map(|name| code.contains(name))
        };
        assert_eq!(traits(quote! { pub A = u8 }), [true, true]);
        assert_eq!(traits(quote! { pub(crate) producer A = u8, "a" }), [true, false]);
        assert_eq!(traits(quote! { consumer A = u8, ID, }), [false, true]);
        assert_eq!(traits(quote! { producer = u8 }), [true, true], "a stream that is called `producer`");
        assert_eq!(traits(quote! { consumer consumer = u8 }), [false, true]);
    }

    #[test]
    fn struct_has_the_attributes_visibility_and_generics_as_written() {
        let code = expanded(quote! {
            /// Text.
            #[derive(Debug)]
            pub(super) Feed<'a, T: Datum, const N: usize> = [T; N], crate::ids::FEED
        });
        let head = "#[derive(Debug)]pub(super)structFeed<'a,T:Datum,constN:usize>\
                    (::core::marker::PhantomData<fn()->(&'a(),*constT,)>);";
        let (doc, rest) = code.split_once("]").unwrap();
        assert!(doc.starts_with("#[doc=") && doc.contains("Text."), "{code}");
        assert!(rest.starts_with(head), "{code}");
        assert!(code.contains("STREAM_ID:k::StreamId=crate::ids::FEED;"), "{code}");
    }

    #[test]
    fn text_that_names_the_stream_is_hashed_or_decoded() {
        let id_of = |definition| {
            let code = expanded(definition);
            let bytes =
                code.split_once("from_bytes([").unwrap().1.split_once(']').unwrap().0.replace("u8", "");
            bytes.split(',').map(|byte| byte.parse::<u8>().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(id_of(quote! { A = u8, "oracle.price" }), blake3::hash(b"oracle.price").as_bytes());
        let digits = "0aFf".repeat(16);
        assert_eq!(id_of(quote! { A = u8, #digits }), [0x0a, 0xff].repeat(16));
        let derived = expanded(quote! { A = u8 });
        assert!(
            derived.contains("k::__private::derived_stream_id::<u8>()") && !derived.contains("STREAM_ID")
        );
    }
}
