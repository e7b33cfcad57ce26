//! Which datums of a stream a consumer wants: criteria, the keys that they look at, and where a key is kept.
//!
//! The typed layer takes the key out of a datum and puts it behind the datum in its record, so that a shard
//! can choose without knowing the datum's type. A reader of the ring takes the key off again
//! ([`Selection::split`]); the key is never sent.
//!
//! ```text
//! record of a stream with keys:  datum | key | length of the key, one byte
//! ```
//!
//! Keys of one stream are of one kind, so that comparing their bytes compares their values.

use std::{ops::Bound, sync::Arc};

/// Most bytes of a key.
pub const MAX_KEY_BYTES: usize = 64;

/// Bytes by which the longest key lengthens a record.
pub const KEY_ROOM: usize = MAX_KEY_BYTES + 1;

/// Most keys of one set.
pub const MAX_KEYS: usize = 1_024;

/// What the keys of a stream are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyKind {
    /// Integers, as 16 bytes.
    Number,
    /// Text or bytes.
    Text,
}

impl KeyKind {
    const fn byte(self) -> u8 {
        match self {
            Self::Number => 1,
            Self::Text => 2,
        }
    }
}

/// The bytes of an integer key: in their order as the integers.
pub fn number_key(number: i128) -> [u8; 16] {
    (number ^ i128::MIN).to_be_bytes()
}

/// Which keys are wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyRule {
    /// One of these; sorted, without duplicates.
    OneOf(Vec<Box<[u8]>>),
    /// Those that begin with these bytes.
    Prefix(Box<[u8]>),
    /// Those between two bounds.
    Range(Bound<Box<[u8]>>, Bound<Box<[u8]>>),
}

impl KeyRule {
    /// One of `keys`.
    pub fn one_of(mut keys: Vec<Box<[u8]>>) -> Self {
        keys.sort();
        keys.dedup();
        Self::OneOf(keys)
    }

    fn accepts(&self, key: &[u8]) -> bool {
        match self {
            Self::OneOf(keys) => keys.binary_search_by(|wanted| (**wanted).cmp(key)).is_ok(),
            Self::Prefix(prefix) => key.starts_with(prefix),
            Self::Range(from, to) => {
                (match from {
                    Bound::Included(from) => key >= &**from,
                    Bound::Excluded(from) => key > &**from,
                    Bound::Unbounded => true,
                }) && (match to {
                    Bound::Included(to) => key <= &**to,
                    Bound::Excluded(to) => key < &**to,
                    Bound::Unbounded => true,
                })
            }
        }
    }
}

/// Which datums a consumer wants: those that satisfy both rules.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamCriteria {
    /// Those whose sequence number is a multiple of this, which is at least 1.
    pub every: u64,
    /// Those with such keys, which are of this kind.
    pub keys: Option<(KeyKind, KeyRule)>,
}

impl StreamCriteria {
    /// Whether the datum `seq` is wanted. `key` is `None` in a stream without keys.
    pub fn accepts(&self, seq: u64, key: Option<&[u8]>) -> bool {
        let of_key = |(_, rule): &(KeyKind, KeyRule)| key.is_some_and(|key| rule.accepts(key));
        seq.is_multiple_of(self.every.max(1)) && self.keys.as_ref().is_none_or(of_key)
    }

    /// Whether a stream with keys of this kind, or without any, can be chosen from.
    pub fn fits(&self, kind: Option<KeyKind>) -> bool {
        self.keys.as_ref().is_none_or(|(wanted, _)| kind == Some(*wanted))
    }

    /// The bytes for an OPEN:
    /// `every u64 | kind u8 | rule u8 | bounds u8 | count u16 | count x { length u8, bytes }`.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.every.to_le_bytes().to_vec();
        let Some((kind, rule)) = &self.keys else {
            out.extend([0; 5]);
            return out;
        };
        let bound = |bound: &Bound<Box<[u8]>>| match bound {
            Bound::Unbounded => (0, None),
            Bound::Included(key) => (1, Some(key.clone())),
            Bound::Excluded(key) => (2, Some(key.clone())),
        };
        let (number, bounds, keys) = match rule {
            KeyRule::OneOf(keys) => (1, 0, keys.clone()),
            KeyRule::Prefix(prefix) => (2, 0, vec![prefix.clone()]),
            KeyRule::Range(from, to) => {
                let ((from, first), (to, last)) = (bound(from), bound(to));
                (3, from | to << 4, first.into_iter().chain(last).collect())
            }
        };
        out.extend([kind.byte(), number, bounds]);
        out.extend((keys.len().min(MAX_KEYS) as u16).to_le_bytes());
        for key in keys.iter().take(MAX_KEYS) {
            let key = &key[..key.len().min(MAX_KEY_BYTES)];
            out.push(key.len() as u8);
            out.extend_from_slice(key);
        }
        out
    }

    /// The criteria of an OPEN; `None` when they are malformed.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (every, rest) = bytes.split_first_chunk::<8>()?;
        let (&[kind, rule, bounds, low, high], mut rest) = rest.split_first_chunk::<5>()?;
        let count = usize::from(u16::from_le_bytes([low, high]));
        // The vector grows with the keys that are there, not with the announced number.
        let mut keys: Vec<Box<[u8]>> = Vec::new();
        for _ in 0..count {
            let (len, after) = rest.split_first()?;
            let (key, after) = after.split_at_checked(usize::from(*len))?;
            if key.len() > MAX_KEY_BYTES || keys.len() == MAX_KEYS {
                return None;
            }
            keys.push(key.into());
            rest = after;
        }
        let every = u64::from_le_bytes(*every);
        if !rest.is_empty() || every == 0 {
            return None;
        }
        let kind = match kind {
            0 => return (rule == 0 && bounds == 0 && keys.is_empty()).then_some(Self { every, keys: None }),
            1 => KeyKind::Number,
            2 => KeyKind::Text,
            _ => return None,
        };
        let mut keys = keys.into_iter();
        let mut bound = |code| match code {
            0 => Some(Bound::Unbounded),
            1 => keys.next().map(Bound::Included),
            2 => keys.next().map(Bound::Excluded),
            _ => None,
        };
        let rule = match (rule, bounds) {
            (1, 0) => KeyRule::one_of(keys.by_ref().collect()),
            (2, 0) => KeyRule::Prefix(keys.next()?),
            (3, bounds) => {
                let from = bound(bounds & 15)?;
                KeyRule::Range(from, bound(bounds >> 4)?)
            }
            _ => return None,
        };
        keys.next().is_none().then_some(Self { every, keys: Some((kind, rule)) })
    }
}

/// What a channel passes on of the records of its stream.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// The records end with keys.
    pub keyed: bool,
    /// `None`: all.
    pub criteria: Option<Arc<StreamCriteria>>,
}

impl Selection {
    /// Whether records are the datums, and all are wanted.
    pub fn is_trivial(&self) -> bool {
        !self.keyed && self.criteria.is_none()
    }

    /// The datum of a record, and its key if it has one.
    #[inline]
    pub fn split<'a>(&self, record: &'a [u8]) -> (&'a [u8], Option<&'a [u8]>) {
        if self.keyed
            && let Some((len, rest)) = record.split_last()
            && let Some(datum) = rest.len().checked_sub(usize::from(*len))
        {
            let (datum, key) = rest.split_at(datum);
            return (datum, Some(key));
        }
        (record, None)
    }

    /// The datum of the record `seq`, if it is wanted.
    #[inline]
    pub fn choose<'a>(&self, seq: u64, record: &'a [u8]) -> Option<&'a [u8]> {
        let (datum, key) = self.split(record);
        let wanted = self.criteria.as_ref().is_none_or(|criteria| criteria.accepts(seq, key));
        wanted.then_some(datum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(rule: KeyRule) -> StreamCriteria {
        StreamCriteria { every: 1, keys: Some((KeyKind::Text, rule)) }
    }

    fn boxed(key: &str) -> Box<[u8]> {
        key.as_bytes().into()
    }

    fn all() -> Vec<StreamCriteria> {
        let bounds = |key: &str| [Bound::Unbounded, Bound::Included(boxed(key)), Bound::Excluded(boxed(key))];
        let ranges = bounds("b")
            .into_iter()
            .flat_map(|from| bounds("d").map(|to| text(KeyRule::Range(from.clone(), to))));
        let mut all: Vec<_> = ranges.collect();
        all.push(text(KeyRule::one_of(vec![boxed("c"), boxed("a"), boxed("c")])));
        all.push(text(KeyRule::one_of(Vec::new())));
        all.push(text(KeyRule::Prefix(boxed("ab"))));
        all.push(StreamCriteria { every: 7, keys: None });
        let four = KeyRule::one_of(vec![number_key(-4).into()]);
        all.push(StreamCriteria { every: 2, keys: Some((KeyKind::Number, four)) });
        all
    }

    #[test]
    fn criteria_survive_the_wire_and_their_cuts_are_refused() {
        for criteria in all() {
            let bytes = criteria.encode();
            assert_eq!(StreamCriteria::decode(&bytes), Some(criteria.clone()));
            for cut in 0..bytes.len() {
                assert_eq!(StreamCriteria::decode(&bytes[..cut]), None, "{criteria:?} cut to {cut}");
            }
            let longer = [&bytes[..], &[0]].concat();
            assert_eq!(StreamCriteria::decode(&longer), None);
        }
        assert_eq!(StreamCriteria::decode(&[0; 13]), None, "every zeroth datum");
    }

    #[test]
    fn rules_accept_the_keys_that_they_name() {
        let accepted = |criteria: &StreamCriteria| -> String {
            let keys = ["a", "ab", "abc", "b", "c", "d", "e"];
            keys.into_iter()
                .filter(|key| criteria.accepts(0, Some(key.as_bytes())))
                .collect::<Vec<_>>()
                .join(" ")
        };
        let shown: Vec<_> = all().iter().map(accepted).collect();
        let expected = [
            "a ab abc b c d e",
            "a ab abc b c d",
            "a ab abc b c",
            "b c d e",
            "b c d",
            "b c",
            "c d e",
            "c d",
            "c",
            "a c",
            "",
            "ab abc",
            "a ab abc b c d e",
            "",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn every_nth_goes_by_the_sequence_and_needs_no_key() {
        let third = StreamCriteria { every: 3, keys: None };
        let wanted: Vec<u64> = (10..20).filter(|seq| third.accepts(*seq, None)).collect();
        assert_eq!(wanted, [12, 15, 18]);
        assert!(third.fits(None) && third.fits(Some(KeyKind::Text)));
        assert!(!text(KeyRule::Prefix(boxed(""))).fits(Some(KeyKind::Number)));
        assert!(!text(KeyRule::Prefix(boxed(""))).fits(None));
    }

    #[test]
    fn numbers_are_ordered_by_their_bytes() {
        let numbers = [i128::MIN, -70_000, -1, 0, 1, 255, 256, i128::from(u64::MAX), i128::MAX];
        assert!(numbers.windows(2).all(|pair| number_key(pair[0]) < number_key(pair[1])));
    }

    #[test]
    fn a_key_is_taken_off_its_record() {
        let keyed = Selection { keyed: true, criteria: None };
        assert_eq!(keyed.split(b"datumkey\x03"), (&b"datum"[..], Some(&b"key"[..])));
        assert_eq!(keyed.split(b"\x00"), (&b""[..], Some(&b""[..])));
        assert_eq!(Selection::default().split(b"ab\x01"), (&b"ab\x01"[..], None));
    }
}
