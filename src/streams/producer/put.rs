//! Putting one datum into the ring.
//!
//! A put combines the datum's encoded form ([`Encoded`]) with how long the caller waits for room
//! ([`WaitForRoom`]):
//!
//! - [`put`](ProducerCore::put) never waits. It is the hot path and is inlined where the datum is made.
//! - [`try_put`](ProducerCore::try_put) is one attempt for a caller that keeps the datum and may try again.
//! - [`poll_put`](ProducerCore::poll_put) waits as the policy has it. The future ([`super::send`]) and the
//!   sink ([`super::sink`]) drive it.
//!
//! All three meet a full ring in [`put_full`](ProducerCore::put_full), the only place that applies the policy
//! to a datum. The ring evicts nothing that a reader has pinned, and a consumer may keep a borrowed datum
//! pinned for any time; so under the policies that drop a wait lasts [`RETRY_TIME`] at most.

use core::any::Any;
use core::task::{Context, Poll};
use core::time::Duration;
use std::thread;
use std::time::Instant;

use corewire_rings::{ClaimError, RecordClaim, WaitTicket};

use super::Error;
use super::select::KeyTail;
use super::shared::{ProducerCore, Refusal};
use crate::blocking::{flush, make_room};
use crate::contain::contain;
use crate::datum::{Codec, EncodeError, STAGING_BYTES, encode, encode_what_fits, measure};
use crate::policy::BackpressurePolicy;
use crate::scratch::with_scratch;

/// How long a send retries while the oldest datum cannot be evicted. A shard pins a record for tens of
/// microseconds; a pin that lasts longer is a consumer's borrow, or its thread has lost the processor.
const RETRY_TIME: Duration = Duration::from_millis(1);

/// How a send waits for room.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum WaitForRoom {
    /// Not at all.
    No,
    /// It retries for [`RETRY_TIME`] at most.
    Brief,
    /// In the ring's queue, in order of arrival, without limit.
    Queue,
}

impl From<BackpressurePolicy> for WaitForRoom {
    fn from(policy: BackpressurePolicy) -> Self {
        match policy {
            BackpressurePolicy::PauseUpstream => Self::Queue,
            BackpressurePolicy::DropOldest | BackpressurePolicy::DegradeQuality => Self::Brief,
            BackpressurePolicy::Fail => Self::No,
        }
    }
}

/// The encoded form of a datum on its way into the ring.
#[derive(Clone, Copy)]
enum Encoded<'a> {
    /// The bytes, encoded outside of the ring: user code has run before room is claimed.
    Bytes(&'a [u8]),
    /// The length in bytes. The codec writes into the claimed room.
    Measured(usize),
}

impl<'a> Encoded<'a> {
    /// Encodes a short datum into `staging`, if the codec may panic; measures any other.
    #[inline(always)]
    fn of<D, C: Codec<D>>(datum: &D, staging: &'a mut [u8; STAGING_BYTES]) -> Result<Self, EncodeError> {
        if !C::MAY_PANIC {
            return measure::<D, C>(datum).map(Self::Measured);
        }
        let len = encode_what_fits::<D, C>(datum, staging)?;
        Ok(staging.get(..len).map_or(Self::Measured(len), Self::Bytes))
    }

    #[inline(always)]
    fn len(self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Measured(len) => len,
        }
    }

    /// Fills `room`, which has [`len`](Self::len) bytes.
    #[inline(always)]
    fn write<D, C: Codec<D>>(self, datum: &D, room: &mut [u8]) -> Result<(), EncodeError> {
        debug_assert_eq!(room.len(), self.len());
        match self {
            Self::Bytes(bytes) => room.copy_from_slice(bytes),
            Self::Measured(_) => encode::<D, C>(datum, room)?,
        }
        Ok(())
    }
}

/// A datum that [`put`](ProducerCore::put) did not put, with the reason. Made on the cold path only.
enum Rejected<D> {
    Offline(D),
    Unencodable(D, EncodeError),
    /// With its encoded length.
    NoRoom(D, usize, ClaimError),
}

/// What a datum that found no room keeps between two attempts.
#[derive(Default)]
pub(super) struct RetryState {
    /// The encoded length, known after the first attempt: later ones do not measure again.
    len: Option<usize>,
    /// The place in the ring's queue, under [`WaitForRoom::Queue`].
    ticket: WaitTicket,
    /// When the first attempt failed, under [`WaitForRoom::Brief`].
    since: Option<Instant>,
    /// The bytes for an evicting claim: the degrader runs once per datum.
    prepared: Option<Prepared>,
}

/// Bytes that enter the ring by eviction.
struct Prepared {
    bytes: Vec<u8>,
    degraded: bool,
}

impl RetryState {
    /// Whether no attempt has found the ring full.
    pub(super) fn is_first_attempt(&self) -> bool {
        self.len.is_none()
    }

    /// Leaves the ring's queue: the waiters behind move up.
    pub(super) fn leave_queue(&mut self) {
        self.ticket.cancel();
    }

    fn is_over(&mut self) -> bool {
        self.since.get_or_insert_with(Instant::now).elapsed() >= RETRY_TIME
    }
}

impl ProducerCore {
    /// How the waiting forms of this stream wait for room.
    pub(super) fn wait_for_room(&self) -> WaitForRoom {
        self.shared.policy.into()
    }

    /// Puts `datum` into the ring if the producer is online and the ring, or the policy, has room; counts a
    /// refusal. Never waits.
    ///
    /// Do not let the address of `datum` escape on the hot path: passing it to anything but the codec forces
    /// the datum into memory, and the codec's wider loads then wait for the stores of the fields. Every other
    /// exit moves the datum into a [`Rejected`].
    #[inline(always)]
    pub(super) fn put<D: 'static, C: Codec<D>>(&self, datum: D) -> Result<(), Error<D>> {
        if !self.is_online() {
            return self.put_slow::<D, C>(Rejected::Offline(datum));
        }
        if self.selects() {
            return self.put_selected::<D, C>(datum);
        }
        let mut staging = [0; STAGING_BYTES];
        let encoded = match Encoded::of::<D, C>(&datum, &mut staging) {
            Ok(encoded) => encoded,
            Err(error) => return self.put_slow::<D, C>(Rejected::Unencodable(datum, error)),
        };
        let mut claim = match self.writer.try_claim(encoded.len()) {
            Ok(claim) => claim,
            Err(error) => return self.put_slow::<D, C>(Rejected::NoRoom(datum, encoded.len(), error)),
        };
        if let Err(error) = encoded.write::<D, C>(&datum, &mut claim) {
            drop(claim);
            return self.put_slow::<D, C>(Rejected::Unencodable(datum, error));
        }
        claim.commit();
        flush(1);
        Ok(())
    }

    /// [`put`](Self::put) of a stream with keys, or with an undelivered sink.
    #[cold]
    #[inline(never)]
    fn put_selected<D: 'static, C: Codec<D>>(&self, datum: D) -> Result<(), Error<D>> {
        match self.try_put::<D, C>(&datum, &mut RetryState::default()) {
            Ok(()) => {
                self.sent(datum);
                Ok(())
            }
            Err(refusal) => Err(self.refuse(datum, refusal)),
        }
    }

    /// Cold path of [`put`](Self::put).
    #[cold]
    #[inline(never)]
    fn put_slow<D: 'static, C: Codec<D>>(&self, rejected: Rejected<D>) -> Result<(), Error<D>> {
        let (datum, refusal) = match rejected {
            Rejected::Offline(datum) => (datum, self.offline_refusal()),
            Rejected::Unencodable(datum, error) => (datum, error.into()),
            Rejected::NoRoom(datum, len, ClaimError::Full) => {
                match self.put_full::<D, C>(&datum, len, None) {
                    Ok(()) => return Ok(()),
                    Err(refusal) => (datum, refusal),
                }
            }
            Rejected::NoRoom(datum, _, error) => (datum, error.into()),
        };
        Err(self.refuse(datum, refusal))
    }

    /// One attempt to put `datum`, whether the producer is online or not. Never waits.
    pub(super) fn try_put<D: 'static, C: Codec<D>>(
        &self,
        datum: &D,
        retry: &mut RetryState,
    ) -> Result<(), Refusal> {
        let mut staging = [0; STAGING_BYTES];
        let encoded = match retry.len {
            Some(len) => Encoded::Measured(len),
            None => Encoded::of::<D, C>(datum, &mut staging)?,
        };
        let tail = self.tail(datum)?;
        let len = encoded.len() + tail.as_slice().len();
        self.check_len(encoded.len())?;
        match self.writer.try_claim(len) {
            Ok(claim) => fill::<D, C>(claim, encoded, datum, &tail),
            Err(ClaimError::Full) => {
                retry.len = Some(encoded.len());
                self.put_full::<D, C>(datum, encoded.len(), Some(retry))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Puts `datum`, waiting for room as the policy has it.
    pub(super) fn poll_put<D: 'static, C: Codec<D>>(
        &self,
        datum: &D,
        retry: &mut RetryState,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Refusal>> {
        if !retry.ticket.is_queued() {
            match self.try_put::<D, C>(datum, retry) {
                Err(Refusal::Full) => {}
                done => return Poll::Ready(done),
            }
        }
        debug_assert!(retry.len.is_some(), "a datum that found no room was measured");
        match (self.wait_for_room(), retry.len) {
            (WaitForRoom::Queue, Some(len)) => self.poll_queue::<D, C>(datum, len, &mut retry.ticket, cx),
            (WaitForRoom::Brief, _) if !retry.is_over() => {
                // The reader in the way may need this processor, or this task's executor, to unpin.
                thread::yield_now();
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            _ => Poll::Ready(Err(Refusal::Full)),
        }
    }

    /// Waits in the ring's queue for `len` bytes of room.
    fn poll_queue<D: 'static, C: Codec<D>>(
        &self,
        datum: &D,
        len: usize,
        ticket: &mut WaitTicket,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Refusal>> {
        let tail = self.tail(datum)?;
        let Poll::Ready(claimed) = self.writer.poll_claim(ticket, len + tail.as_slice().len(), cx) else {
            // Each time: the engine forgets a full ring once there was room.
            self.publication.note_full();
            return Poll::Pending;
        };
        Poll::Ready(
            claimed
                .map_err(Refusal::from)
                .and_then(|claim| fill::<D, C>(claim, Encoded::Measured(len), datum, &tail)),
        )
    }

    /// Applies the policy to a datum of `len` encoded bytes that found the ring full. Never waits. `retry`
    /// keeps the bytes if eviction fails.
    #[cold]
    pub(super) fn put_full<D: 'static, C: Codec<D>>(
        &self,
        datum: &D,
        len: usize,
        retry: Option<&mut RetryState>,
    ) -> Result<(), Refusal> {
        self.publication.note_full();
        let degrades = match self.shared.policy {
            BackpressurePolicy::PauseUpstream | BackpressurePolicy::Fail if make_room() => {
                let tail = self.tail(datum)?;
                let claim = self.writer.try_claim(len + tail.as_slice().len())?;
                return fill::<D, C>(claim, Encoded::Measured(len), datum, &tail);
            }
            BackpressurePolicy::PauseUpstream | BackpressurePolicy::Fail => return Err(Refusal::Full),
            BackpressurePolicy::DropOldest => false,
            BackpressurePolicy::DegradeQuality => true,
        };
        if let Some(prepared) = retry.as_ref().and_then(|retry| retry.prepared.as_ref()) {
            return self.put_evicting(&prepared.bytes, prepared.degraded);
        }
        let degraded = if degrades { self.degrade(datum) } else { None };
        let (datum, len) = match &degraded {
            Some(cheaper) => (cheaper, measure::<D, C>(cheaper)?),
            None => (datum, len),
        };
        self.check_len(len)?;
        let tail = self.tail(datum)?;
        // Encoded before room is made: a datum without an encoded form costs no consumer a datum.
        let put = with_scratch(|bytes| {
            bytes.resize(len, 0);
            encode::<D, C>(datum, bytes)?;
            bytes.extend_from_slice(tail.as_slice());
            let put = self.put_evicting(bytes, degraded.is_some());
            if let (Err(Refusal::Full), Some(retry)) = (&put, retry) {
                retry.prepared = Some(Prepared { bytes: bytes.clone(), degraded: degraded.is_some() });
            }
            put
        });
        // The datum has entered the ring or not; a destructor that panics must not change the count.
        let _ = contain(|| drop(degraded));
        put
    }

    /// Claims room by evicting the oldest datums, and copies `bytes` there. The ring counts what each reader
    /// lost.
    fn put_evicting(&self, bytes: &[u8], degraded: bool) -> Result<(), Refusal> {
        let mut claim = self.writer.claim_evicting(bytes.len(), |_, _| {})?;
        claim.copy_from_slice(bytes);
        claim.commit();
        flush(1);
        if degraded {
            self.shared.counters.degraded.add_one();
        }
        Ok(())
    }

    /// Calls the degrader. `None`: it panicked, and the datum is sent as it is.
    fn degrade<D: 'static>(&self, datum: &D) -> Option<D> {
        let degrader = self.shared.degrader.as_ref()?.of::<D>()?;
        let cheaper = contain(|| degrader(datum));
        if cheaper.is_none() {
            self.shared.counters.degrader_panics.add_one();
        }
        cheaper
    }
}

/// Fills the claimed room and publishes it. After an error the room is given up, and readers skip it.
#[inline]
fn fill<D, C: Codec<D>>(
    mut claim: RecordClaim<'_>,
    encoded: Encoded<'_>,
    datum: &D,
    tail: &KeyTail,
) -> Result<(), Refusal> {
    let (room, end) = claim.split_at_mut(encoded.len());
    encoded.write::<D, C>(datum, room)?;
    end.copy_from_slice(tail.as_slice());
    claim.commit();
    flush(1);
    Ok(())
}

/// Makes a datum cheaper.
type Degrader<D> = dyn Fn(&D) -> D + Send + Sync;

/// A degrader whose datum type is erased: the state that handles share does not name it.
pub(crate) struct AnyDegrader(Box<dyn Any + Send + Sync>);

impl AnyDegrader {
    pub(super) fn new<D: 'static>(degrader: impl Fn(&D) -> D + Send + Sync + 'static) -> Self {
        let degrader: Box<Degrader<D>> = Box::new(degrader);
        Self(Box::new(degrader))
    }

    fn of<D: 'static>(&self) -> Option<&Degrader<D>> {
        self.0.downcast_ref::<Box<Degrader<D>>>().map(|degrader| &**degrader)
    }
}
