//! Reads a definition, and finds what is wrong with it.

use proc_macro2::{Span, TokenStream};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Error, Expr, Generics, Ident, Lit, LitStr, Path, Result, Token, Type, Visibility};

use super::keys::{self, CODEC, Key, Side};

/// A definition: everything between the brackets of `stream!`.
pub(super) struct Definition {
    /// The path of the `corewire` crate at the place of the call.
    pub(super) krate: TokenStream,
    /// Documentation and other attributes of the struct.
    pub(super) attributes: Vec<Attribute>,
    pub(super) visibility: Visibility,
    /// The only side that is generated; `None`: both.
    pub(super) only: Option<Side>,
    pub(super) name: Ident,
    pub(super) generics: Generics,
    pub(super) datum: Type,
    /// `None`: derived from the datum's type.
    pub(super) id: Option<StreamName>,
    pub(super) codec: Option<Path>,
    pub(super) entries: Vec<Entry>,
}

/// How a definition names its stream.
pub(super) enum StreamName {
    Text(LitStr),
    Constant(Expr),
}

/// A key with its value, and the sides that it configures.
pub(super) struct Entry {
    pub(super) key: &'static Key,
    /// The key as it was written, for its place in the source.
    pub(super) written: Ident,
    pub(super) sides: Vec<Side>,
    pub(super) value: Expr,
}

impl Parse for Definition {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let krate;
        syn::bracketed!(krate in input);
        let krate = krate.parse()?;
        if input.is_empty() {
            return Err(Error::new(
                Span::call_site(),
                "expected a stream, as in `stream!(pub Prices = PriceUpdate, \"prices\")`",
            ));
        }
        if input.peek(Token![#]) && input.peek2(Token![!]) {
            return Err(input.error("attributes of a stream stand before it: write `#[..]`, without `!`"));
        }
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        let only = mode(input)?;
        let name = input
            .parse::<Ident>()
            .map_err(|error| Error::new(error.span(), "expected the name of the stream, as in `Prices`"))?;
        let generics = if input.peek(Token![<]) { input.parse()? } else { Generics::default() };
        let datum = datum(input)?;
        let (id, codec, entries) = (None, None, Vec::new());
        let mut definition =
            Self { krate, attributes, visibility, only, name, generics, datum, id, codec, entries };
        while !input.is_empty() {
            if !input.peek(Token![,]) {
                return Err(input.error("expected `,`"));
            }
            input.parse::<Token![,]>()?;
            if !input.is_empty() {
                definition.parse_part(input)?;
            }
        }
        Ok(definition)
    }
}

/// The word before the name that asks for one side only.
fn mode(input: ParseStream<'_>) -> Result<Option<Side>> {
    let Some((side, span)) = mode_word(input)? else { return Ok(None) };
    if input.peek(Token![pub]) {
        return Err(input.error(format!("the visibility comes first: write `pub {side}`")));
    }
    if let Some((_, second)) = mode_word(input)? {
        let span = span.join(second).unwrap_or(second);
        return Err(Error::new(
            span,
            "a stream has one mode: `producer`, `consumer`, or neither word for both sides",
        ));
    }
    Ok(Some(side))
}

/// Takes a mode's word. A stream may itself be called `producer`: then no word follows.
fn mode_word(input: ParseStream<'_>) -> Result<Option<(Side, Span)>> {
    let ahead = input.fork();
    let Ok(word) = ahead.parse::<Ident>() else { return Ok(None) };
    match Side::named(&word.to_string()) {
        Some(side) if ahead.peek(Ident::peek_any) => Ok(Some((side, input.parse::<Ident>()?.span()))),
        _ => Ok(None),
    }
}

/// The `=` and the type behind it.
fn datum(input: ParseStream<'_>) -> Result<Type> {
    if !input.peek(Token![=]) {
        return Err(input.error("expected `=` and the type of the datums, as in `Prices = PriceUpdate`"));
    }
    input.parse::<Token![=]>()?;
    if input.is_empty() || input.peek(Token![,]) || input.peek(Lit) {
        return Err(input.error("expected the type of the datums after `=`, as in `Prices = PriceUpdate`"));
    }
    let datum = input.parse()?;
    if input.peek(Token![where]) {
        return Err(
            input.error("bounds stand behind their parameter, as in `Feed<T: Datum> = T`, not in a `where`")
        );
    }
    Ok(datum)
}

impl Definition {
    /// What stands between two commas: the id, or a key with its value.
    fn parse_part(&mut self, input: ParseStream<'_>) -> Result<()> {
        let ahead = input.fork();
        let Ok(word) = ahead.parse::<Ident>() else { return self.parse_id(input) };
        let is_key_and_value = ahead.peek(Token![:]) && !ahead.peek(Token![::]);
        if is_key_and_value {
            return self.parse_entry(None, input);
        }
        if ahead.peek(Ident) {
            let Some(side) = Side::named(&word.to_string()) else {
                let text = format!("expected `producer` or `consumer` before the key, not `{word}`");
                return Err(Error::new(word.span(), text));
            };
            let prefix = input.parse::<Ident>()?;
            return self.parse_entry(Some((side, prefix)), input);
        }
        if ahead.peek(Token![=]) && !ahead.peek(Token![==]) {
            return Err(ahead.error(format!("a key and its value are joined by `:`, as in `{word}: ..`")));
        }
        if keys::is_key(&word.to_string()) && (ahead.is_empty() || ahead.peek(Token![,])) {
            return Err(Error::new(word.span(), format!("`{word}` has no value: write `{word}: ..`")));
        }
        self.parse_id(input)
    }

    fn parse_id(&mut self, input: ParseStream<'_>) -> Result<()> {
        let begins = input.span();
        let id = match input.parse::<Expr>()? {
            Expr::Lit(literal) => match literal.lit {
                Lit::Str(text) => StreamName::Text(text),
                other => {
                    return Err(Error::new(
                        other.span(),
                        "an id is text, as in `\"prices\"`, or a constant of type `StreamId`",
                    ));
                }
            },
            constant => StreamName::Constant(constant),
        };
        if self.id.is_some() {
            return Err(Error::new(begins, "the stream has an id already"));
        }
        if !self.entries.is_empty() || self.codec.is_some() {
            return Err(Error::new(begins, "the id stands before the keys, right behind the type"));
        }
        self.id = Some(id);
        Ok(())
    }

    fn parse_entry(&mut self, prefix: Option<(Side, Ident)>, input: ParseStream<'_>) -> Result<()> {
        let written: Ident = input.parse()?;
        let name = written.to_string();
        if !input.peek(Token![:]) {
            return Err(input.error(format!("expected `:` and the value of `{name}`")));
        }
        input.parse::<Token![:]>()?;
        if input.is_empty() || input.peek(Token![,]) {
            return Err(Error::new(written.span(), format!("`{name}` has no value: write `{name}: ..`")));
        }
        if name == CODEC {
            return self.parse_codec(prefix, &written, input);
        }
        let key = keys::find(&name).map_err(|text| Error::new(written.span(), text))?;
        let sides = self.sides(prefix, key, &written)?;
        let value = input.parse()?;
        self.entries.push(Entry { key, written, sides, value });
        Ok(())
    }

    /// The sides that a key configures, or why it configures none.
    fn sides(&self, prefix: Option<(Side, Ident)>, key: &Key, written: &Ident) -> Result<Vec<Side>> {
        let name = &self.name;
        let refuse = |span, text: String| Err(Error::new(span, text));
        if let Some((side, prefix)) = &prefix
            && key.method(*side).is_none()
        {
            let owner = side.other();
            let text = format!("`{}` is a key of the {owner} only: write it without `{side}`", key.name);
            return refuse(prefix.span(), text);
        }
        let wanted: Vec<Side> = match &prefix {
            Some((side, _)) => vec![*side],
            None => {
                [Side::Producer, Side::Consumer].into_iter().filter(|side| key.configures(*side)).collect()
            }
        };
        let made = |side: &Side| self.only.is_none_or(|only| only == *side);
        let sides: Vec<Side> = wanted.iter().copied().filter(made).collect();
        if let (true, Some(only)) = (sides.is_empty(), self.only) {
            let (span, lost) = (prefix.map_or(written.span(), |(_, word)| word.span()), only.other());
            let text = format!(
                "`{}` configures the {lost} here, and `{only} {name}` has none: \
                 remove the key, or the word `{only}` before `{name}`",
                key.name
            );
            return refuse(span, text);
        }
        let repeated = |side: &Side| {
            self.entries.iter().any(|entry| entry.key.name == key.name && entry.sides.contains(side))
        };
        match sides.iter().find(|side| !key.stackable && repeated(side)) {
            Some(side) => {
                refuse(written.span(), format!("`{}` of the {side} is given a second time", key.name))
            }
            None => Ok(sides),
        }
    }

    fn parse_codec(
        &mut self,
        prefix: Option<(Side, Ident)>,
        written: &Ident,
        input: ParseStream<'_>,
    ) -> Result<()> {
        if let Some((side, prefix)) = prefix {
            let text = format!("both sides of a stream have one codec: write `codec` without `{side}`");
            return Err(Error::new(prefix.span(), text));
        }
        if self.codec.is_some() {
            return Err(Error::new(written.span(), "`codec` is given a second time"));
        }
        let codec = input.parse().map_err(|error: Error| {
            Error::new(
                error.span(),
                "expected the name of a codec that is a unit struct, as in `codec: Plain`",
            )
        })?;
        self.codec = Some(codec);
        Ok(())
    }
}
