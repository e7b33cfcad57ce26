//! Which datums of a stream a consumer wants.

use core::fmt;
use core::ops::{Bound, RangeBounds};
use std::sync::Arc;

use corewire_engine::criteria::{KeyKind, KeyRule, MAX_KEY_BYTES, MAX_KEYS, StreamCriteria, number_key};

/// The key of a datum, by which consumers choose: an integer of any type but `u128`, or text or bytes of at
/// most 64 bytes.
///
/// Made by the function that [`with_key`](super::producer::Builder::with_key) takes, and given to
/// [`Criteria`]. Integers of different types are comparable with each other, and so are text and bytes.
pub trait StreamKey {
    #[doc(hidden)]
    const KIND: KeyKind;

    /// Passes the bytes on whose order is that of the keys.
    #[doc(hidden)]
    fn with_bytes<R>(&self, read: impl FnOnce(&[u8]) -> R) -> R;
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl StreamKey for $number {
            const KIND: KeyKind = KeyKind::Number;

            #[inline]
            fn with_bytes<R>(&self, read: impl FnOnce(&[u8]) -> R) -> R {
                read(&number_key(*self as i128))
            }
        }
    )*};
}

numbers!(u8, u16, u32, u64, usize, i8, i16, i32, i64, i128, isize);

macro_rules! texts {
    ($($text:ty),*) => {$(
        impl StreamKey for $text {
            const KIND: KeyKind = KeyKind::Text;

            #[inline]
            fn with_bytes<R>(&self, read: impl FnOnce(&[u8]) -> R) -> R {
                let bytes: &[u8] = (**self).as_ref();
                read(bytes)
            }
        }
    )*};
}

texts!(String, Box<str>, Arc<str>, Vec<u8>);

impl StreamKey for str {
    const KIND: KeyKind = KeyKind::Text;

    #[inline]
    fn with_bytes<R>(&self, read: impl FnOnce(&[u8]) -> R) -> R {
        read(self.as_bytes())
    }
}

impl StreamKey for [u8] {
    const KIND: KeyKind = KeyKind::Text;

    #[inline]
    fn with_bytes<R>(&self, read: impl FnOnce(&[u8]) -> R) -> R {
        read(self)
    }
}

impl<const N: usize> StreamKey for [u8; N] {
    const KIND: KeyKind = KeyKind::Text;

    #[inline]
    fn with_bytes<R>(&self, read: impl FnOnce(&[u8]) -> R) -> R {
        read(self)
    }
}

impl<K: StreamKey + ?Sized> StreamKey for &K {
    const KIND: KeyKind = K::KIND;

    #[inline]
    fn with_bytes<R>(&self, read: impl FnOnce(&[u8]) -> R) -> R {
        (**self).with_bytes(read)
    }
}

fn bytes_of(key: &(impl StreamKey + ?Sized)) -> Box<[u8]> {
    key.with_bytes(|bytes| bytes.into())
}

/// Which datums a consumer wants. The producer applies them before it sends: what is not wanted costs neither
/// bandwidth nor decoding, and is counted as [filtered](super::Stats::filtered), never as a gap.
///
/// Keys are those that the producer takes out of its datums ([`with_key`]). A producer whose datums have no
/// keys, or keys of another kind, refuses the consumer with
/// [`CloseCode::CRITERIA_MISMATCH`](super::CloseCode::CRITERIA_MISMATCH) (10422). [`every`](Self::every)
/// needs no keys.
///
/// ```
/// use corewire::streams::Criteria;
/// use corewire::{Network, NetworkId};
///
/// let network = Network::new_blocking(NetworkId::random())?;
/// let streams = network.streams();
/// let producer = streams.producer::<(String, f64)>().with_key(|(symbol, _)| symbol.clone()).build()?;
/// let mut consumer = streams.consumer::<(String, f64)>().with_criteria(Criteria::key("ETH")).build();
/// for (symbol, price) in [("BTC", 65_000.0), ("ETH", 3_200.0)] {
///     producer.send_blocking((symbol.into(), price))?;
/// }
/// assert_eq!(consumer.recv_blocking(), Some(("ETH".into(), 3_200.0)));
/// assert_eq!((consumer.stats().filtered(), consumer.stats().skipped()), (1, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// [`with_key`]: super::producer::Builder::with_key
#[derive(Clone, PartialEq, Eq)]
pub struct Criteria {
    rules: StreamCriteria,
}

impl Criteria {
    /// Datums with this key.
    ///
    /// ```
    /// use corewire::streams::Criteria;
    ///
    /// assert_eq!(Criteria::key("ETH"), Criteria::keys(["ETH"]));
    /// ```
    pub fn key(key: impl StreamKey) -> Self {
        Self::keys([key])
    }

    /// Datums with one of these keys: at most 1,024, of at most 64 bytes each. With none, no datum.
    ///
    /// ```
    /// use corewire::streams::Criteria;
    ///
    /// let _some_instruments = Criteria::keys([7, 11, 13]);
    /// ```
    ///
    /// # Panics
    ///
    /// With more or longer keys. [`range`](Self::range) and [`prefix`](Self::prefix) name many at once.
    #[track_caller]
    pub fn keys<K: StreamKey>(keys: impl IntoIterator<Item = K>) -> Self {
        let keys: Vec<_> = keys.into_iter().map(|key| bytes_of(&key)).collect();
        assert!(keys.len() <= MAX_KEYS, "{} keys are more than the {MAX_KEYS} of one set", keys.len());
        keys.iter().for_each(|key| check(key));
        Self::of(K::KIND, KeyRule::one_of(keys))
    }

    /// Datums whose key, which is text or bytes, begins like this. At most 64 bytes.
    ///
    /// ```
    /// use corewire::streams::Criteria;
    ///
    /// let _pairs_with_euro = Criteria::prefix("EUR/");
    /// ```
    ///
    /// # Panics
    ///
    /// With a longer prefix.
    #[track_caller]
    pub fn prefix(prefix: impl AsRef<[u8]>) -> Self {
        check(prefix.as_ref());
        Self::of(KeyKind::Text, KeyRule::Prefix(prefix.as_ref().into()))
    }

    /// Datums whose key is in the range.
    ///
    /// ```
    /// use corewire::streams::Criteria;
    ///
    /// let _thousands = Criteria::range(1_000..10_000);
    /// let _from_m = Criteria::range("m".to_string()..);
    /// ```
    ///
    /// # Panics
    ///
    /// With a bound of more than 64 bytes.
    #[track_caller]
    pub fn range<K: StreamKey>(range: impl RangeBounds<K>) -> Self {
        let bound = |bound: Bound<&K>| bound.map(|key| bytes_of(key));
        let (from, to) = (bound(range.start_bound()), bound(range.end_bound()));
        for bound in [&from, &to] {
            if let Bound::Included(key) | Bound::Excluded(key) = bound {
                check(key);
            }
        }
        Self::of(K::KIND, KeyRule::Range(from, to))
    }

    /// Every `n`th datum of the stream: those whose sequence number is a multiple of `n`, so that all
    /// consumers with this `n` get the same. 0 counts as 1: all.
    ///
    /// ```
    /// use corewire::streams::Criteria;
    ///
    /// let _tenth = Criteria::every(10);
    /// let _tenth_of_one_symbol = Criteria::key("ETH").and_every(10);
    /// ```
    pub fn every(n: u64) -> Self {
        Self { rules: StreamCriteria { every: n.max(1), keys: None } }
    }

    /// Of these datums, only those that [`every`](Self::every) `n` takes as well.
    #[must_use]
    pub fn and_every(mut self, n: u64) -> Self {
        self.rules.every = n.max(1);
        self
    }

    fn of(kind: KeyKind, rule: KeyRule) -> Self {
        Self { rules: StreamCriteria { every: 1, keys: Some((kind, rule)) } }
    }

    pub(super) fn into_rules(self) -> Arc<StreamCriteria> {
        Arc::new(self.rules)
    }
}

#[track_caller]
fn check(key: &[u8]) {
    assert!(
        key.len() <= MAX_KEY_BYTES,
        "a key of {} bytes is longer than {MAX_KEY_BYTES}: use a shorter one, or a hash of it",
        key.len()
    );
}

impl fmt::Debug for Criteria {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Criteria").field("every", &self.rules.every).field("keys", &self.rules.keys).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts<K: StreamKey>(criteria: &Criteria, seq: u64, key: K) -> bool {
        key.with_bytes(|bytes| criteria.rules.accepts(seq, Some(bytes)))
    }

    #[test]
    fn integers_of_every_type_are_one_kind_of_key() {
        let criteria = Criteria::range(-1i64..=300);
        assert!(
            accepts(&criteria, 0, 300u64) && accepts(&criteria, 0, -1i8) && accepts(&criteria, 0, 0usize)
        );
        assert!(!accepts(&criteria, 0, 301u16) && !accepts(&criteria, 0, u64::MAX));
    }

    #[test]
    fn text_is_compared_by_its_bytes() {
        assert!(accepts(&Criteria::key("é"), 0, String::from("é")));
        assert!(accepts(&Criteria::keys(["a", "b"]), 0, *b"b"));
        assert!(
            accepts(&Criteria::prefix("EUR/"), 0, "EUR/USD") && !accepts(&Criteria::prefix("E"), 0, "USD")
        );
    }

    #[test]
    fn every_nth_narrows_other_criteria() {
        let criteria = Criteria::key(7).and_every(2);
        assert!(accepts(&criteria, 4, 7) && !accepts(&criteria, 5, 7) && !accepts(&criteria, 4, 8));
        assert_eq!(Criteria::every(0), Criteria::every(1));
    }

    #[test]
    #[should_panic(expected = "longer than 64")]
    fn a_key_that_no_datum_can_have_is_a_mistake() {
        let _ = Criteria::key("x".repeat(65));
    }
}
