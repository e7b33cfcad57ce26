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

use corewire_engine::rings::Refused;

use super::core::{Core, Refusal, fill};
use crate::contain::contain;
use crate::datum::{Codec, measure};
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
pub(super) struct Pressed<D> {
    since: Option<Instant>,
    cheaper: Cheaper<D>,
}

impl<D> Default for Pressed<D> {
    fn default() -> Self {
        Self { since: None, cheaper: None }
    }
}

impl<D> Pressed<D> {
    fn is_over(&mut self) -> bool {
        self.since.get_or_insert_with(Instant::now).elapsed() >= PATIENCE
    }
}

/// The cheaper form of a datum that has to try again, so that the degrader runs once for each datum; `None` inside if
/// the degrader panicked. Boxed because hardly any datum comes to this.
type Cheaper<D> = Option<Box<Option<D>>>;

impl Core {
    /// Puts a datum of `len` encoded bytes for which there was no room, as the policy has it. Never waits.
    #[cold]
    pub(super) fn put_when_full<D: 'static, C: Codec<D>>(
        &self,
        datum: &D,
        len: usize,
        kept: Option<&mut Pressed<D>>,
    ) -> Result<(), Refusal> {
        self.note(Refused::Full);
        match self.common.policy {
            BackpressurePolicy::DropOldest => self.put_evicting::<D, C>(datum, len),
            BackpressurePolicy::DegradeQuality => self.put_degraded::<D, C>(datum, len, kept),
            BackpressurePolicy::PauseUpstream | BackpressurePolicy::Fail => Err(Refusal::Full),
        }
    }

    /// As [`put_when_full`](Self::put_when_full), for a moment. Looks for ordinary room each time, which `put` does.
    pub(super) fn poll_put_insisting<D: 'static, C: Codec<D>>(
        &self,
        datum: &D,
        len: usize,
        pressed: &mut Pressed<D>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Refusal>> {
        let put = match self.writer.try_claim(len) {
            Ok(claim) => fill::<D, C>(claim, datum),
            Err(Refused::Full) => self.put_when_full::<D, C>(datum, len, Some(pressed)),
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

    fn put_evicting<D, C: Codec<D>>(&self, datum: &D, len: usize) -> Result<(), Refusal> {
        // The ring counts what each reader lost.
        fill::<D, C>(self.writer.claim_evicting(len, |_, _| {})?, datum)
    }

    fn put_degraded<D: 'static, C: Codec<D>>(
        &self,
        datum: &D,
        len: usize,
        kept: Option<&mut Pressed<D>>,
    ) -> Result<(), Refusal> {
        let mut fresh = None;
        let cheaper = match kept.as_ref().and_then(|kept| kept.cheaper.as_deref()) {
            Some(cheaper) => cheaper,
            None => fresh.insert(self.degrade(datum)),
        };
        let put = match cheaper {
            Some(cheaper) => self.put_cheaper::<D, C>(cheaper),
            None => self.put_evicting::<D, C>(datum, len),
        };
        if let (Err(Refusal::Full), Some(kept), Some(fresh)) = (&put, kept, fresh) {
            kept.cheaper = Some(Box::new(fresh));
        }
        put
    }

    fn put_cheaper<D, C: Codec<D>>(&self, cheaper: &D) -> Result<(), Refusal> {
        let len = measure::<D, C>(cheaper).map_err(Refusal::Encoding)?;
        self.put_evicting::<D, C>(cheaper, len)?;
        self.common.tallies.degraded.add_one();
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
