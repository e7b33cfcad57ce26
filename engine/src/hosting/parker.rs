//! The waker of a thread's blocking forms.

use std::{
    sync::Arc,
    task::{Wake, Waker},
};

use corewire_rings::sync::AtomicFlag;

use super::HostedShard;

/// Wakes a thread that drives shards: the flag tells that a poll is due, the alarm ends the sleep.
struct HostWaker {
    woken: AtomicFlag,
    alarm: Waker,
}

impl Wake for HostWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // AcqRel: what the waker did comes before the poll that its wake causes. The flag comes before the
        // alarm: a sleep that the alarm ends, or prevents, is followed by a look at the flag.
        if !self.woken.set(true) {
            self.alarm.wake_by_ref();
        }
    }
}

/// A [`HostWaker`] and the waker made of it.
pub(super) struct HostParker {
    shared: Arc<HostWaker>,
    waker: Waker,
}

/// Gives the parker back at the end, also when a poll panics. A wait inside a poll makes a parker of its own.
pub(super) struct HostParkerLoan<'a> {
    shard: &'a HostedShard,
    parker: Option<HostParker>,
}

impl<'a> HostParkerLoan<'a> {
    pub(super) fn of(shard: &'a HostedShard) -> Self {
        let parker = shard.parker.take().unwrap_or_else(|| {
            let shared = Arc::new(HostWaker { woken: AtomicFlag::default(), alarm: shard.alarm.clone() });
            HostParker { waker: Waker::from(shared.clone()), shared }
        });
        Self { shard, parker: Some(parker) }
    }

    fn parker(&self) -> &HostParker {
        self.parker.as_ref().expect("a loan has its parker until it is dropped")
    }

    pub(super) fn waker(&self) -> &Waker {
        &self.parker().waker
    }

    pub(super) fn take_woken(&self) -> bool {
        let woken = &self.parker().shared.woken;
        // A plain load first: it is looked at after each turn.
        woken.get() && woken.set(false)
    }
}

impl Drop for HostParkerLoan<'_> {
    fn drop(&mut self) {
        self.shard.parker.set(self.parker.take());
        self.shard.rest();
    }
}
