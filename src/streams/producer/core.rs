//! What all handles of one producer share, and how a datum enters the ring.
//!
//! Not inside: waiting. A claim is tried here and made by whoever waits ([`super::send`], [`super::sink`]).

use core::any::{TypeId, type_name};
use std::sync::Arc;
use std::task::{Context, Poll};

use corewire_engine::publication::{FullNotice, Publication};
use corewire_engine::rings::{ClaimError, RecordClaim, WaitTicket, Writer};

use super::full::{AnyDegrader, Pressed};
use super::{Error, Stats};
use crate::datum::{Codec, EncodeError, encode, encode_short, measure};
use crate::id::StreamId;
use crate::pack::Short;
use crate::streams::board::Board;
use crate::streams::cells::Tally;
use crate::streams::policy::BackpressurePolicy;

/// What one handle holds of its producer.
#[derive(Clone)]
pub(crate) struct Core {
    pub(super) common: Arc<Common>,
    pub(super) writer: Writer,
    pub(super) publication: Publication,
}

/// What all handles of one producer share. The engine keeps it with the publication, so that a second `build`
/// finds it; it must not own the publication.
pub(crate) struct Common {
    pub(super) stream_id: StreamId,
    pub(super) policy: BackpressurePolicy,
    pub(super) degrader: Option<AnyDegrader>,
    pub(super) board: Arc<Board>,
    pub(super) tallies: Tallies,
    carries: Carried,
}

/// The type and the codec of a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Carried {
    id: TypeId,
    name: &'static str,
}

impl Carried {
    pub(crate) fn of<D: 'static, C: 'static>() -> Self {
        Self { id: TypeId::of::<(D, C)>(), name: type_name::<(D, C)>() }
    }

    pub(crate) fn name(self) -> &'static str {
        self.name
    }
}

impl Common {
    pub(crate) fn new(
        stream_id: StreamId,
        policy: BackpressurePolicy,
        degrader: Option<AnyDegrader>,
        board: Arc<Board>,
        carries: Carried,
    ) -> Self {
        Self { stream_id, policy, degrader, board, tallies: Tallies::default(), carries }
    }

    pub(crate) fn carries(&self) -> Carried {
        self.carries
    }
}

/// Counts what was offered and not accepted. What was accepted is counted by the ring, without a shared write.
#[derive(Default)]
pub(super) struct Tallies {
    full: Tally,
    offline: Tally,
    closed: Tally,
    too_large: Tally,
    unencodable: Tally,
    cancelled: Tally,
    /// Accepted, but made cheaper before.
    pub(super) degraded: Tally,
    pub(super) degrader_panics: Tally,
}

/// Why a datum did not enter the ring.
#[derive(Debug)]
pub(super) enum Refusal {
    Offline,
    Full,
    Closed,
    TooLarge(usize),
    Encoding(EncodeError),
}

impl Refusal {
    /// The error that gives `datum` back.
    pub(super) fn with<D>(self, datum: D) -> Error<D> {
        match self {
            Self::Offline => Error::Offline(datum),
            Self::Full => Error::Full(datum),
            Self::Closed => Error::Closed(datum),
            Self::TooLarge(limit) => Error::TooLarge(datum, limit),
            Self::Encoding(error) => Error::Encoding(datum, error),
        }
    }
}

impl From<ClaimError> for Refusal {
    fn from(refused: ClaimError) -> Self {
        match refused {
            // More writers wait than the ring keeps places for: to this one the stream is full.
            ClaimError::Full | ClaimError::TooManyWaiters => Self::Full,
            ClaimError::Closed => Self::Closed,
            ClaimError::TooLarge { limit, .. } => Self::TooLarge(limit),
        }
    }
}

/// A datum that was moved to another place, and why it is not in the ring.
enum Aside<D> {
    Offline(D),
    Unencodable(D, EncodeError),
    /// With its encoded length.
    Refused(D, usize, ClaimError),
}

impl Core {
    /// A handle of `publication`, to which `common` is attached.
    pub(crate) fn new(publication: Publication, common: Arc<Common>) -> Self {
        Self { common, writer: publication.writer(), publication }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.publication.is_closed()
    }

    pub(super) fn close(&self) {
        self.publication.close();
        self.common.board.close();
    }

    /// Measures, claims, encodes and publishes, or says why not. Never waits, and does not look at the online
    /// condition.
    #[inline]
    pub(super) fn try_put<D: 'static, C: Codec<D>>(&self, datum: &D) -> Result<(), Refusal> {
        self.try_put_keeping::<D, C>(datum, None)
    }

    /// Sends a datum that is encoded where it belongs, if the producer is online, and counts a refusal. Never waits.
    ///
    /// Inlined where the datum was made: then the fields of one that was just built go from registers to the ring. Going
    /// through memory, they would be stored one by one and copied in wider pieces, and a load that is wider than the stores
    /// before it waits until those, and all before them, have reached the cache. For that nobody but the codec may learn
    /// where the datum lies; whatever goes wrong gets it moved [`Aside`].
    #[inline(always)]
    pub(super) fn try_put_here<D: 'static, C: Codec<D>>(&self, datum: D) -> Result<(), Error<D>> {
        if !self.common.board.is_online() {
            return self.not_put::<D, C>(Aside::Offline(datum));
        }
        let len = match measure::<D, C>(&datum) {
            Ok(len) => len,
            Err(error) => return self.not_put::<D, C>(Aside::Unencodable(datum, error)),
        };
        let mut claim = match self.writer.try_claim(len) {
            Ok(claim) => claim,
            Err(refused) => return self.not_put::<D, C>(Aside::Refused(datum, len, refused)),
        };
        if let Err(error) = encode::<D, C>(&datum, &mut claim) {
            drop(claim);
            return self.not_put::<D, C>(Aside::Unencodable(datum, error));
        }
        claim.commit();
        Ok(())
    }

    /// The rest of [`try_put_here`](Self::try_put_here), out of its way.
    #[cold]
    #[inline(never)]
    fn not_put<D: 'static, C: Codec<D>>(&self, aside: Aside<D>) -> Result<(), Error<D>> {
        let (datum, refusal) = match aside {
            Aside::Offline(datum) => (datum, self.why_offline()),
            Aside::Unencodable(datum, error) => (datum, Refusal::Encoding(error)),
            Aside::Refused(datum, len, ClaimError::Full) => {
                match self.put_when_full::<D, C>(&datum, len, None) {
                    Ok(()) => return Ok(()),
                    Err(refusal) => (datum, refusal),
                }
            }
            Aside::Refused(datum, _, refused) => (datum, refused.into()),
        };
        Err(self.refuse(datum, refusal))
    }

    /// As [`try_put`](Self::try_put), for somebody who tries again: `kept` keeps what was made of the datum.
    #[inline]
    pub(super) fn try_put_keeping<D: 'static, C: Codec<D>>(
        &self,
        datum: &D,
        kept: Option<&mut Pressed>,
    ) -> Result<(), Refusal> {
        if !C::ENCODES_SHORT {
            return self.put_measured::<D, C>(datum, kept);
        }
        let mut short = Short::new();
        if encode_short::<D, C>(datum, &mut short).map_err(Refusal::Encoding)? {
            return match self.writer.try_claim(short.len()) {
                Ok(mut claim) => {
                    short.copy_to(&mut claim);
                    claim.commit();
                    Ok(())
                }
                Err(ClaimError::Full) => self.put_when_full::<D, C>(datum, short.len(), kept),
                Err(refused) => Err(refused.into()),
            };
        }
        self.put_long::<D, C>(datum, kept)
    }

    /// [`put_measured`](Self::put_measured), out of the way of small datums.
    #[inline(never)]
    fn put_long<D: 'static, C: Codec<D>>(
        &self,
        datum: &D,
        kept: Option<&mut Pressed>,
    ) -> Result<(), Refusal> {
        self.put_measured::<D, C>(datum, kept)
    }

    /// [`try_put_keeping`](Self::try_put_keeping) for a datum that is encoded where it belongs.
    #[inline]
    fn put_measured<D: 'static, C: Codec<D>>(
        &self,
        datum: &D,
        kept: Option<&mut Pressed>,
    ) -> Result<(), Refusal> {
        let len = measure::<D, C>(datum).map_err(Refusal::Encoding)?;
        match self.writer.try_claim(len) {
            Ok(claim) => fill::<D, C>(claim, datum),
            Err(ClaimError::Full) => self.put_when_full::<D, C>(datum, len, kept),
            Err(refused) => Err(refused.into()),
        }
    }

    /// As [`try_put`](Self::try_put) for a datum of `len` encoded bytes. Under `PauseUpstream` it waits for room in
    /// the order of arrival; `turn` is the place in that order. Under the policies that drop it insists for a moment;
    /// `pressed` says since when.
    pub(super) fn poll_put<D: 'static, C: Codec<D>>(
        &self,
        datum: &D,
        len: usize,
        turn: &mut WaitTicket,
        pressed: &mut Pressed,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Refusal>> {
        match self.common.policy {
            BackpressurePolicy::PauseUpstream => {}
            BackpressurePolicy::Fail => return Poll::Ready(self.try_put::<D, C>(datum)),
            BackpressurePolicy::DropOldest | BackpressurePolicy::DegradeQuality => {
                return self.poll_put_insisting::<D, C>(datum, len, pressed, cx);
            }
        }
        match self.writer.poll_claim(turn, len, cx) {
            Poll::Ready(Ok(claim)) => Poll::Ready(fill::<D, C>(claim, datum)),
            Poll::Ready(Err(refused)) => Poll::Ready(Err(refused.into())),
            Poll::Pending => {
                self.note(ClaimError::Full);
                Poll::Pending
            }
        }
    }

    /// Tells the engine of a full ring, which counts the grace of slow consumers from there.
    #[cold]
    pub(super) fn note(&self, refused: ClaimError) {
        if refused == ClaimError::Full {
            self.publication.note_full();
        }
    }

    /// [`note`](Self::note) for a datum that waits outside of any handle.
    pub(super) fn full_notice(&self) -> FullNotice {
        self.publication.full_notice()
    }

    /// Counts a refusal and gives the datum back.
    #[cold]
    pub(super) fn refuse<D>(&self, datum: D, refusal: Refusal) -> Error<D> {
        let tally = match refusal {
            Refusal::Offline => &self.common.tallies.offline,
            Refusal::Full => &self.common.tallies.full,
            Refusal::Closed => &self.common.tallies.closed,
            Refusal::TooLarge(_) => &self.common.tallies.too_large,
            Refusal::Encoding(_) => &self.common.tallies.unencodable,
        };
        tally.add_one();
        refusal.with(datum)
    }

    /// Counts a datum that was offered and then withdrawn.
    pub(super) fn cancel(&self) {
        self.cancel_many(1);
    }

    /// As [`cancel`](Self::cancel), for several.
    pub(super) fn cancel_many(&self, datums: u64) {
        self.common.tallies.cancelled.add(datums);
    }

    pub(super) fn stats(&self) -> Stats {
        let ring = self.publication.ring();
        let counted = ring.stats();
        Stats {
            accepted: counted.accepted.saturating_sub(counted.abandoned),
            refused_full: self.common.tallies.full.get(),
            refused_offline: self.common.tallies.offline.get(),
            refused_closed: self.common.tallies.closed.get(),
            too_large: self.common.tallies.too_large.get(),
            unencodable: self.common.tallies.unencodable.get(),
            cancelled: self.common.tallies.cancelled.get(),
            degraded: self.common.tallies.degraded.get(),
            dropped_oldest: counted.evicted,
            degrader_panics: self.common.tallies.degrader_panics.get(),
            in_ring: ring.len() as u64,
            capacity: ring.config().datums as u64,
            predicate_panics: self.common.board.predicate_panics(),
        }
    }
}

/// Encodes into the claimed room and publishes. After an error the room is given up and readers skip it.
#[inline]
pub(super) fn fill<D, C: Codec<D>>(mut claim: RecordClaim<'_>, datum: &D) -> Result<(), Refusal> {
    encode::<D, C>(datum, &mut claim).map_err(Refusal::Encoding)?;
    claim.commit();
    Ok(())
}
