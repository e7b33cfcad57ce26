//! Why a datum could not be encoded or decoded.

use core::fmt;

/// Why a datum has no encoded form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodeError(pub(super) Encoding);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Postcard(postcard::Error),
    SizeChanged,
    /// `skip_serializing_if` left out this field.
    Skipped(&'static str),
    /// The type asks for a value of any kind.
    NotDescribed,
    /// The type asks for fields by name.
    Flattened,
    Panicked,
    Custom(String),
}

impl EncodeError {
    /// The error of a codec's own, with the text that it shows.
    ///
    /// ```
    /// let error = corewire::EncodeError::custom("a price is never negative");
    /// assert_eq!(error.to_string(), "a price is never negative");
    /// ```
    pub fn custom(text: impl fmt::Display) -> Self {
        Self(Encoding::Custom(text.to_string()))
    }

    pub(super) fn postcard(error: postcard::Error) -> Self {
        Self(Encoding::Postcard(error))
    }

    /// Whether the codec, or the `Serialize` implementation, panicked.
    pub fn is_panic(&self) -> bool {
        self.0 == Encoding::Panicked
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Encoding::Postcard(postcard::Error::SerializeSeqLengthUnknown) => f.write_str(
                "the value has a sequence or map of unknown length, which postcard cannot carry: give its \
                 length, and remove #[serde(flatten)], or use another codec",
            ),
            Encoding::Postcard(error) => write!(f, "the value cannot be serialized: {error}"),
            Encoding::Skipped(field) => write!(
                f,
                "the field `{field}` was left out, and postcard writes no names by which a reader could know: \
                 remove #[serde(skip_serializing_if)] from it, or use another codec"
            ),
            Encoding::NotDescribed => f.write_str(
                "the type asks what comes next, which postcard does not write: remove #[serde(untagged)] and \
                 #[serde(tag)] from its enums, or use another codec",
            ),
            Encoding::Flattened => f.write_str(
                "the type asks for fields by name, which postcard does not write: remove #[serde(flatten)], \
                 or use another codec",
            ),
            Encoding::SizeChanged => f.write_str(
                "the datum was encoded to another length than a moment before: its codec, or its Serialize \
                 implementation, must give the same bytes each time",
            ),
            Encoding::Panicked => {
                f.write_str("the codec, or the Serialize implementation, panicked: see the panic message")
            }
            Encoding::Custom(text) => f.write_str(text),
        }
    }
}

impl core::error::Error for EncodeError {}

/// Why bytes are not a datum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError(pub(super) Decoding);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decoding {
    Postcard(postcard::Error),
    Trailing(usize),
    WrongSize { expected: usize, found: usize },
    Panicked,
    Custom(String),
}

impl DecodeError {
    /// The error of a codec's own, with the text that it shows.
    ///
    /// ```
    /// let error = corewire::DecodeError::custom("not one of our records");
    /// assert_eq!(error.to_string(), "not one of our records");
    /// ```
    pub fn custom(text: impl fmt::Display) -> Self {
        Self(Decoding::Custom(text.to_string()))
    }

    pub(super) fn postcard(error: postcard::Error) -> Self {
        Self(Decoding::Postcard(error))
    }

    pub(super) fn wrong_size<D>(found: usize) -> Self {
        Self(Decoding::WrongSize { expected: size_of::<D>(), found })
    }

    /// Whether the codec, or the `Deserialize` implementation, panicked.
    pub fn is_panic(&self) -> bool {
        self.0 == Decoding::Panicked
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Decoding::Postcard(error) => write!(f, "the bytes are not a value of this type: {error}"),
            Decoding::Trailing(n) => {
                write!(f, "{n} bytes follow the value: does the producer send another type on this stream?")
            }
            Decoding::WrongSize { expected, found } => write!(
                f,
                "a plain datum of {expected} bytes was expected and {found} bytes came: \
                 does the producer send another type, or with another codec?"
            ),
            Decoding::Panicked => {
                f.write_str("the codec, or the Deserialize implementation, panicked: see the panic message")
            }
            Decoding::Custom(text) => f.write_str(text),
        }
    }
}

impl core::error::Error for DecodeError {}
