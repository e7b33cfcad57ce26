//! What all handles of one producer share, and the one way by which a datum enters the ring.
//!
//! Not inside: waiting. A claim is tried here and made by whoever waits ([`super::send`], [`super::sink`]).

use std::sync::Arc;
use std::task::{Context, Poll};

use corewire_engine::node::Publication;
use corewire_engine::rings::{Claim, Refused, Turn, Writer};

use super::{Error, Stats};
use crate::datum::{Codec, EncodeError, encode, measure};
use crate::id::StreamId;
use crate::streams::board::Board;
use crate::streams::cells::Tally;
use crate::streams::policy::OnFull;

/// What all handles of one producer share.
pub(crate) struct Core {
    pub(super) stream_id: StreamId,
    pub(super) policy: OnFull,
    pub(super) writer: Writer,
    pub(super) board: Arc<Board>,
    pub(super) tallies: Tallies,
    pub(super) publication: Publication,
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

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            // More writers wait than the ring keeps places for: to this one the stream is full.
            Refused::Full | Refused::Crowded => Self::Full,
            Refused::Closed => Self::Closed,
            Refused::TooLarge { limit, .. } => Self::TooLarge(limit),
        }
    }
}

impl Core {
    pub(super) fn is_closed(&self) -> bool {
        self.writer.ring().is_closed()
    }

    pub(super) fn close(&self) {
        self.publication.close();
        self.board.close();
    }

    /// Measures, claims, encodes and publishes, or says why not. Never waits, and does not look at the online
    /// condition.
    #[inline]
    pub(super) fn try_put<D, C: Codec<D>>(&self, datum: &D) -> Result<(), Refusal> {
        let len = measure::<D, C>(datum).map_err(Refusal::Encoding)?;
        fill::<D, C>(self.writer.try_claim(len)?, datum)
    }

    /// As [`try_put`](Self::try_put) for a datum of `len` encoded bytes; under `PauseUpstream` it waits for room in
    /// the order of arrival. `turn` is the place in that order.
    pub(super) fn poll_put<D, C: Codec<D>>(
        &self,
        datum: &D,
        len: usize,
        turn: &mut Turn,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Refusal>> {
        let claim = match self.policy {
            OnFull::PauseUpstream => match self.writer.poll_claim(turn, len, cx) {
                Poll::Ready(claim) => claim,
                Poll::Pending => return Poll::Pending,
            },
            OnFull::Fail => self.writer.try_claim(len),
        };
        Poll::Ready(claim.map_err(Refusal::from).and_then(|claim| fill::<D, C>(claim, datum)))
    }

    /// Counts a refusal and gives the datum back.
    #[cold]
    pub(super) fn refuse<D>(&self, datum: D, refusal: Refusal) -> Error<D> {
        let tally = match refusal {
            Refusal::Offline => &self.tallies.offline,
            Refusal::Full => &self.tallies.full,
            Refusal::Closed => &self.tallies.closed,
            Refusal::TooLarge(_) => &self.tallies.too_large,
            Refusal::Encoding(_) => &self.tallies.unencodable,
        };
        tally.add_one();
        refusal.with(datum)
    }

    /// Counts a datum that was offered and then withdrawn.
    pub(super) fn cancel(&self) {
        self.tallies.cancelled.add_one();
    }

    pub(super) fn stats(&self) -> Stats {
        let ring = self.writer.ring();
        let counted = ring.stats();
        Stats {
            accepted: counted.accepted.saturating_sub(counted.abandoned),
            refused_full: self.tallies.full.get(),
            refused_offline: self.tallies.offline.get(),
            refused_closed: self.tallies.closed.get(),
            too_large: self.tallies.too_large.get(),
            unencodable: self.tallies.unencodable.get(),
            cancelled: self.tallies.cancelled.get(),
            in_ring: ring.len() as u64,
            capacity: ring.config().datums as u64,
            predicate_panics: self.board.predicate_panics(),
        }
    }
}

/// Encodes into the claimed room and publishes. After an error the room is given up and readers skip it.
#[inline]
fn fill<D, C: Codec<D>>(mut claim: Claim<'_>, datum: &D) -> Result<(), Refusal> {
    encode::<D, C>(datum, &mut claim).map_err(Refusal::Encoding)?;
    claim.commit();
    Ok(())
}
