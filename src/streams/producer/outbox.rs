//! A datum that a sink took while the ring was full.
//!
//! A sink's caller may stop polling at any time and keep the handle. A place in the queue for room that nobody polls
//! would hold up everybody behind it. So the queue does not wait for the sink's task here: what it calls when there
//! is room is the outbox itself, which puts the bytes into the ring wherever it is called. They were encoded before;
//! nothing of the user's runs then.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use corewire_engine::publication::FullNotice;
use corewire_engine::rings::{ClaimError, WaitTicket, Writer};

/// See the module.
pub(super) struct Outbox {
    writer: Writer,
    notice: FullNotice,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The bytes and their place in the queue. Empty while they are being put, and afterwards.
    waiting: Option<(Vec<u8>, WaitTicket)>,
    /// Somebody is putting the bytes; somebody else was called meanwhile.
    busy: bool,
    again: bool,
    /// There is room for the bytes, and they are going there: too late to withdraw.
    going: bool,
    /// The handle is gone, or wants nothing to be sent any more.
    withdrawn: bool,
    outcome: Option<Result<(), ClaimError>>,
    owner: Option<Waker>,
}

impl Outbox {
    /// Queues `bytes` for room in the ring.
    pub(super) fn queue(writer: Writer, notice: FullNotice, bytes: Vec<u8>) -> Arc<Self> {
        let state = State { waiting: Some((bytes, WaitTicket::default())), ..State::default() };
        let outbox = Arc::new(Self { writer, notice, state: Mutex::new(state) });
        outbox.attempt();
        outbox
    }

    /// Whether the bytes are in the ring, or never will be.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<(), ClaimError>> {
        let waker = cx.waker().clone();
        let mut state = self.lock();
        if let Some(outcome) = state.outcome {
            return Poll::Ready(outcome);
        }
        let replaced = state.owner.replace(waker);
        drop(state);
        drop(replaced);
        Poll::Pending
    }

    /// Gives the place in the queue up. `false`: too late, the bytes are in the ring or on their way there. A refusal
    /// that the owner never heard of counts as withdrawn.
    pub(super) fn withdraw(&self) -> bool {
        let mut state = self.lock();
        if state.going {
            return false;
        }
        state.withdrawn = true;
        let gone = (state.waiting.take(), state.owner.take());
        drop(state);
        drop(gone);
        true
    }

    /// Puts the bytes into the ring if it is their turn and there is room.
    fn attempt(self: &Arc<Self>) {
        loop {
            let (bytes, mut turn) = {
                let mut state = self.lock();
                state.again |= state.busy;
                match state.waiting.take() {
                    Some(waiting) => {
                        state.busy = true;
                        waiting
                    }
                    None => return,
                }
            };
            // Without the lock: the ring may call us, or another outbox, before this returns.
            let waker = Waker::from(self.clone());
            let outcome =
                match self.writer.poll_claim(&mut turn, bytes.len(), &mut Context::from_waker(&waker)) {
                    Poll::Ready(Ok(mut claim)) => {
                        let mut state = self.lock();
                        if state.withdrawn {
                            drop(state);
                            return;
                        }
                        state.going = true;
                        drop(state);
                        claim.copy_from_slice(&bytes);
                        claim.commit();
                        Some(Ok(()))
                    }
                    Poll::Ready(Err(refused)) => Some(Err(refused)),
                    Poll::Pending => {
                        // Each time: the engine forgets a full ring once there was room, and there is none again.
                        self.notice.note_full();
                        None
                    }
                };
            let mut state = self.lock();
            state.busy = false;
            if outcome.is_some() {
                state.outcome = outcome;
                let owner = state.owner.take();
                drop(state);
                owner.into_iter().for_each(Waker::wake);
                return;
            }
            if state.withdrawn {
                // `turn` gives its place up on the way out, without the lock.
                drop(state);
                return;
            }
            state.waiting = Some((bytes, turn));
            if !mem::take(&mut state.again) {
                return;
            }
        }
    }

    /// Nothing that can panic runs under the lock, so a poisoned lock has a sound state.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

thread_local! {
    /// Outboxes that were called while another one was at work on this thread: one that has been served calls the
    /// next, and a thousand of them must not stand on one stack.
    static CALLED: RefCell<Option<VecDeque<Arc<Outbox>>>> = const { RefCell::new(None) };
}

impl Wake for Outbox {
    fn wake(self: Arc<Self>) {
        let outermost = CALLED.with_borrow_mut(|called| match called {
            Some(called) => {
                called.push_back(self.clone());
                false
            }
            None => {
                *called = Some(VecDeque::new());
                true
            }
        });
        if !outermost {
            return;
        }
        let mut next = Some(self);
        while let Some(outbox) = next {
            outbox.attempt();
            next = CALLED.with_borrow_mut(|called| {
                let next = called.as_mut().and_then(VecDeque::pop_front);
                if next.is_none() {
                    *called = None;
                }
                next
            });
        }
    }
}
