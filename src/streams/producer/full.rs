//! A full ring under the policies that drop: what is made of the incoming datum, and how long it insists on room.
//!
//! Not inside: which readers lose what; that is the ring's. No wait of unknown length either: the ring takes nothing
//! from a reader that reads in place, and that may be for as long as a consumer likes to hold a borrowed datum. A
//! policy that drops promises that a consumer does not stop the producer. So the forms that wait insist for a moment,
//! which outlasts the usual reason (a shard in the middle of a turn), and then give the datum back.

use core::any::Any;
use core::task::{Context, Poll};
use core::time::Duration;
use std::thread;
use std::time::Instant;

use corewire_engine::rings::ClaimError;

use super::core::{Core, Refusal, fill};
use crate::contain::contain;
use crate::datum::{Codec, encode, measure};
use crate::scratch::with_scratch;
use crate::streams::policy::BackpressurePolicy;

/// How long the waiting forms insist. A shard reads in place for tens of microseconds at a time; longer than this it
/// does so only if the system has taken its core away, or if the reader is a consumer that holds a borrowed datum.
const PATIENCE: Duration = Duration::from_millis(1);

/// What makes a datum cheaper.
type Degrader<D> = dyn Fn(&D) -> D + Send + Sync;

/// A degrader of datums whose type its keeper does not know.
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

/// What a datum that found no room keeps between two attempts.
#[derive(Default)]
pub(super) struct Pressed {
    since: Option<Instant>,
    ready: Option<Ready>,
}

impl Pressed {
    fn is_over(&mut self) -> bool {
        self.since.get_or_insert_with(Instant::now).elapsed() >= PATIENCE
    }
}

/// What goes into the ring once there is room, so that the degrader runs once for each datum.
struct Ready {
    bytes: Vec<u8>,
    degraded: bool,
}

impl Core {
    /// Puts a datum of `len` encoded bytes for which there was no room, as the policy has it. Never waits.
    #[cold]
    pub(super) fn put_when_full<D: 'static, C: Codec<D>>(
        &self,
        datum: &D,
        len: usize,
        kept: Option<&mut Pressed>,
    ) -> Result<(), Refusal> {
        self.note(ClaimError::Full);
        if !self.common.policy.drops() {
            return Err(Refusal::Full);
        }
        if let Some(ready) = kept.as_ref().and_then(|kept| kept.ready.as_ref()) {
            return self.put_evicting(&ready.bytes, ready.degraded);
        }
        let degrades = self.common.policy == BackpressurePolicy::DegradeQuality;
        let cheaper = if degrades { self.degrade(datum) } else { None };
        let (datum, len) = match &cheaper {
            Some(cheaper) => (cheaper, measure::<D, C>(cheaper).map_err(Refusal::Encoding)?),
            None => (datum, len),
        };
        let limit = self.publication.ring().config().max_record;
        if len > limit {
            return Err(Refusal::TooLarge(limit));
        }
        // Before room is made: nobody loses a datum for one that turns out to have no encoded form.
        with_scratch(|bytes| {
            bytes.resize(len, 0);
            encode::<D, C>(datum, bytes).map_err(Refusal::Encoding)?;
            let put = self.put_evicting(bytes, cheaper.is_some());
            if let (Err(Refusal::Full), Some(kept)) = (&put, kept) {
                kept.ready = Some(Ready { bytes: bytes.clone(), degraded: cheaper.is_some() });
            }
            put
        })
    }

    /// As [`put_when_full`](Self::put_when_full), for a moment. Looks for ordinary room each time, which `put` does.
    pub(super) fn poll_put_insisting<D: 'static, C: Codec<D>>(
        &self,
        datum: &D,
        len: usize,
        pressed: &mut Pressed,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Refusal>> {
        let put = match self.writer.try_claim(len) {
            Ok(claim) => fill::<D, C>(claim, datum),
            Err(ClaimError::Full) => self.put_when_full::<D, C>(datum, len, Some(pressed)),
            Err(refused) => Err(refused.into()),
        };
        match put {
            Err(Refusal::Full) if !pressed.is_over() => {
                // Whoever is in the way may need this core, or this task's executor, to get out of it.
                thread::yield_now();
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            done => Poll::Ready(done),
        }
    }

    fn put_evicting(&self, bytes: &[u8], degraded: bool) -> Result<(), Refusal> {
        // The ring counts what each reader lost.
        let mut claim = self.writer.claim_evicting(bytes.len(), |_, _| {})?;
        claim.copy_from_slice(bytes);
        claim.commit();
        if degraded {
            self.common.tallies.degraded.add_one();
        }
        Ok(())
    }

    /// Asks the degrader, before any room is claimed. `None`: it panicked.
    fn degrade<D: 'static>(&self, datum: &D) -> Option<D> {
        // A producer that degrades is not built without one.
        let degrader = self.common.degrader.as_ref()?.of::<D>()?;
        let cheaper = contain(|| degrader(datum));
        if cheaper.is_none() {
            self.common.tallies.degrader_panics.add_one();
        }
        cheaper
    }
}
