//! Configuring a stream: its sizes, its degrader, its codec.

use core::fmt;
use core::marker::PhantomData;
use core::mem::needs_drop;

use corewire_engine::rings::limits::{MAX_RECORD_BYTES, UNIT_BYTES};
use corewire_engine::rings::{Ring, RingConfig};

use crate::datum::{Codec, Postcard};
use crate::local::annotation::BackpressureAnnotation;
use crate::local::core::Core;
use crate::local::error::BuildError;
use crate::local::stream::{DegradationFn, Shared, Stream};
use crate::streams::BackpressurePolicy;

/// Bytes that the datums of a stream share by default, if their type owns memory elsewhere: text, lists.
const DEFAULT_BYTES: usize = 4 << 20;

/// What that may come to for one datum, in bytes.
const DEFAULT_DATUM_BYTES: core::ops::RangeInclusive<usize> = 4 << 10..=64 << 10;

/// The least default for one datum of a type that owns no memory elsewhere, in bytes.
const DEFAULT_FLAT_BYTES: usize = 64;

/// How much longer than in memory such a datum is assumed to be in its encoded form, at most. Postcard's integers
/// grow by a quarter and its options by a byte; names of variants, which some types serialize, need more.
const DEFAULT_FLAT_GROWTH: usize = 4;

const _: () = assert!(DEFAULT_FLAT_BYTES.is_multiple_of(UNIT_BYTES), "nothing is lost to rounding");

/// Configures a stream; made by [`Stream::builder`].
///
/// ```
/// use corewire::local::Stream;
/// use corewire::{BackpressurePolicy, Plain};
///
/// let ticks = Stream::<[u64; 4]>::builder(BackpressurePolicy::DropOldest).capacity(256).codec(Plain).build()?;
/// ticks.try_push([1, 2, 3, 4])?;
/// assert_eq!(ticks.try_pop(), Ok([1, 2, 3, 4]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder<T, C = Postcard> {
    annotation: BackpressureAnnotation,
    capacity: Option<usize>,
    max_datum_bytes: Option<usize>,
    degrader: Option<DegradationFn<T>>,
    codec: PhantomData<fn(C)>,
}

impl<T> Builder<T> {
    pub(super) fn new(annotation: BackpressureAnnotation) -> Self {
        Self { annotation, capacity: None, max_datum_bytes: None, degrader: None, codec: PhantomData }
    }

    /// How datums become bytes: [`Postcard`], the default, or [`Plain`](crate::Plain).
    pub fn codec<K: Codec<T>>(self, _codec: K) -> Builder<T, K> {
        let Self { annotation, capacity, max_datum_bytes, degrader, codec: _ } = self;
        Builder { annotation, capacity, max_datum_bytes, degrader, codec: PhantomData }
    }
}

impl<T, C> Builder<T, C> {
    /// How many datums the stream holds, exactly; from 1 to 8,388,608. Default: the annotation's `buffer_size`. Two
    /// that differ are an error, because either of them would be ignored.
    pub fn capacity(mut self, datums: usize) -> Self {
        self.capacity = Some(datums);
        self
    }

    /// The longest datum, in encoded bytes. The stream has memory for as many of these as its capacity says, so that
    /// its capacity is exact, and takes it when it is built. Longer datums are refused with
    /// [`TooLarge`](super::StreamError::TooLarge).
    ///
    /// Default: for types that own memory elsewhere (text, lists) 64 KiB up to a capacity of 64, then an equal share
    /// of 4 MiB, but 4 KiB at least; for other types four times their size, but 64 bytes at least.
    pub fn max_datum_bytes(mut self, bytes: usize) -> Self {
        self.max_datum_bytes = Some(bytes);
        self
    }

    /// What makes datums cheaper under `DegradeQuality`. The other policies do not use it.
    pub fn degrader(mut self, degrader: DegradationFn<T>) -> Self {
        self.degrader = Some(degrader);
        self
    }

    /// Makes the stream.
    ///
    /// # Errors
    ///
    /// [`BuildError`].
    pub fn build(self) -> Result<Stream<T, C>, BuildError>
    where
        C: Codec<T>,
    {
        let capacity = match (self.capacity, self.annotation.buffer_size()) {
            (Some(capacity), Some(size)) if capacity != size.get() => {
                return Err(BuildError::CapacityConflict { capacity, buffer_size: size.get() });
            }
            (Some(capacity), _) => capacity,
            (None, Some(size)) => size.get(),
            (None, None) => return Err(BuildError::NoCapacity),
        };
        let max_datum_bytes = self.max_datum_bytes.unwrap_or_else(|| default_datum_bytes::<T>(capacity));
        // The ring takes records of one byte at least; datums without any bytes fit as well.
        let bytes = capacity.saturating_mul(RingConfig::cost(max_datum_bytes.min(MAX_RECORD_BYTES + 1)));
        let ring = Ring::new(RingConfig {
            datums: capacity,
            bytes,
            max_record: max_datum_bytes,
            readers: 1,
            scatter_small: false,
        })?;
        let reader = ring.subscribe().expect("a new ring has a place for its reader");
        let drops = matches!(
            self.annotation.policy(),
            BackpressurePolicy::DropOldest | BackpressurePolicy::DegradeQuality
        );
        Ok(Stream::of(Shared {
            core: Core::new(&ring, reader, drops),
            annotation: self.annotation,
            degrader: self.degrader,
            capacity,
            max_datum_bytes,
        }))
    }
}

/// The longest datum unless told otherwise.
fn default_datum_bytes<T>(capacity: usize) -> usize {
    if needs_drop::<T>() {
        (DEFAULT_BYTES / capacity.max(1)).clamp(*DEFAULT_DATUM_BYTES.start(), *DEFAULT_DATUM_BYTES.end())
    } else {
        (size_of::<T>().saturating_mul(DEFAULT_FLAT_GROWTH)).clamp(DEFAULT_FLAT_BYTES, MAX_RECORD_BYTES)
    }
}

impl<T, C> fmt::Debug for Builder<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("annotation", &self.annotation)
            .field("capacity", &self.capacity)
            .field("max_datum_bytes", &self.max_datum_bytes)
            .finish_non_exhaustive()
    }
}
