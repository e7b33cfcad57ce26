//! What the datums of a stream are: a fingerprint, which is compared, and a name, which is shown to people.

use alloc::{boxed::Box, string::String};
use core::fmt;

/// Most bytes of a [`TypeName`].
pub const MAX_TYPE_NAME_BYTES: usize = 100;

/// The name of a datum type and its codec, of at most [`MAX_TYPE_NAME_BYTES`]. For people: it is not
/// compared.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct TypeName(Box<str>);

impl TypeName {
    /// `name`; a longer one is cut and ends with three dots.
    pub fn new(name: &str) -> Self {
        if name.len() <= MAX_TYPE_NAME_BYTES {
            return Self(name.into());
        }
        let fits = |end: &usize| name.is_char_boundary(*end);
        let end = (0..=MAX_TYPE_NAME_BYTES - 3).rev().find(fits).unwrap_or(0);
        let mut cut = String::from(&name[..end]);
        cut.push_str("...");
        Self(cut.into())
    }

    /// The name in a message; `None` when it is too long or no text.
    pub(crate) fn from_wire(bytes: &[u8]) -> Option<Self> {
        let name = core::str::from_utf8(bytes).ok()?;
        (name.len() <= MAX_TYPE_NAME_BYTES).then(|| Self(name.into()))
    }

    /// The text; empty when none was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The length in a message.
    pub(crate) fn wire_len(&self) -> u8 {
        self.0.len() as u8
    }
}

impl fmt::Display for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What the datums of one end of a stream are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DatumForm {
    /// Equal for ends that read each other's bytes. Zeros: not stated, which agrees with every form.
    pub fingerprint: [u8; 16],
    /// Type and codec.
    pub name: TypeName,
}

impl DatumForm {
    /// Whether a channel may connect the two.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let stated = self.fingerprint != [0; 16] && other.fingerprint != [0; 16];
        !stated || self.fingerprint == other.fingerprint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_between_characters() {
        let name = "é".repeat(MAX_TYPE_NAME_BYTES);
        let cut = TypeName::new(&name);
        assert!(cut.as_str().ends_with("é..."));
        assert_eq!(cut.as_str().len(), MAX_TYPE_NAME_BYTES - 1);
        let fits = "x".repeat(MAX_TYPE_NAME_BYTES);
        assert_eq!(TypeName::new(&fits).as_str(), fits);
    }

    #[test]
    fn a_form_that_is_not_stated_agrees_with_every_other() {
        let form = |byte| DatumForm { fingerprint: [byte; 16], ..DatumForm::default() };
        assert!(form(1).agrees_with(&form(1)) && !form(1).agrees_with(&form(2)));
        assert!(form(0).agrees_with(&form(1)) && form(1).agrees_with(&form(0)));
    }
}
