//! Datums that are read where they lie.

use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;

use super::leg::Borrowed;
use crate::datum::InPlace;
use crate::id::PeerId;

/// A datum borrowed where it lies: in the producer's ring, or in the inbox that a shard filled. Dropping it takes
/// the datum and gives its room back; until then the producer cannot use that room.
///
/// ```
/// # use corewire::{Consumer, Plain};
/// # async fn example(mut consumer: Consumer<u64, Plain>) {
/// while let Some(number) = consumer.recv_ref().await {
///     println!("{}: {}", number.seq(), *number);
/// }
/// # }
/// ```
pub struct Ref<'a, D, C> {
    borrowed: Borrowed<'a>,
    types: PhantomData<(&'a D, C)>,
}

impl<'a, D, C: InPlace<D>> Ref<'a, D, C> {
    /// The caller has seen that the codec accepts the bytes.
    #[inline(always)]
    pub(super) fn new(borrowed: Borrowed<'a>) -> Self {
        Self { borrowed, types: PhantomData }
    }
}

impl<D, C> Ref<'_, D, C> {
    /// The datum's sequence number in its producer's ring.
    pub fn seq(&self) -> u64 {
        self.borrowed.place().seq
    }

    /// How many datums of the same producer are missing just before this one.
    pub fn skipped_before(&self) -> u64 {
        self.borrowed.place().skipped_before
    }

    /// Who produced it.
    pub fn producer(&self) -> PeerId {
        *self.borrowed.place().producer
    }
}

impl<D, C: InPlace<D>> Deref for Ref<'_, D, C> {
    type Target = D;

    #[inline]
    fn deref(&self) -> &D {
        match C::view(self.borrowed.datum()) {
            Ok(datum) => datum,
            Err(error) => unreachable!("a codec refused the same bytes that it had accepted before: {error}"),
        }
    }
}

impl<D: fmt::Debug, C: InPlace<D>> fmt::Debug for Ref<'_, D, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
