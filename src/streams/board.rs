//! The notice board of one handle: which channels it has, whether it is online, and who waits for a change.
//!
//! The engine changes channels; here they are only looked at. Nothing runs here by itself: [`Board::refresh`] is
//! called by whoever changed something, and waiting futures are polled by their own executors.
//!
//! No wake-up is lost: a waiter registers before it checks, and a refresh publishes before it wakes. Users'
//! predicates are called without any lock of ours held.

use std::mem::replace;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Waker};

use corewire_engine::publication::{self, Channel};
use tokio::sync::watch;

use super::cells::{Flag, Tally};
use super::channel::ChannelInfo;
use super::conditions::Spec;
use crate::contain::contain;

/// The channels of a handle as one snapshot.
pub(crate) type Channels = Arc<[ChannelInfo]>;

/// Where the engine shows the channels of a publication or a subscription.
pub(crate) type Source = watch::Receiver<publication::Channels>;

/// See the module.
pub(crate) struct Board {
    /// Whether the condition of `online_when` holds.
    online: Flag,
    /// Panics of the predicates of `online_when`.
    predicate_panics: Tally,
    /// The condition of `online_when`.
    condition: Spec,
    /// Set once the engine knows the handle.
    source: OnceLock<Source>,
    /// Set with it: whether the handle is over.
    over: OnceLock<Over>,
    state: Mutex<State>,
}

/// Whether a handle is over.
type Over = Box<dyn Fn() -> bool + Send + Sync>;

struct State {
    channels: Channels,
    /// No change will ever make this handle online again.
    closed: bool,
    /// Refreshes begun, and the newest one that was published: an older one that finishes late changes nothing.
    begun: u64,
    published: u64,
    waiters: Waiters,
}

impl Board {
    pub(crate) fn new(condition: Spec) -> Self {
        let board = Self {
            online: Flag::default(),
            predicate_panics: Tally::default(),
            condition,
            source: OnceLock::new(),
            over: OnceLock::new(),
            state: Mutex::new(State {
                channels: Arc::new([]),
                closed: false,
                begun: 0,
                published: 0,
                waiters: Waiters::default(),
            }),
        };
        // A condition such as "at least none" holds from the start.
        board.refresh();
        board
    }

    /// Follows these channels from now on, until the handle is `over`: then no condition makes it online.
    pub(crate) fn follow(&self, source: Source, over: impl Fn() -> bool + Send + Sync + 'static) {
        let _ = self.over.set(Box::new(over));
        // A board follows one handle for its life; a second source would be a defect and changes nothing.
        let _ = self.source.set(source);
        self.refresh();
    }

    /// Looks at the channels again, and wakes all who wait: after any change that a condition can see.
    pub(crate) fn refresh(&self) {
        let (ticket, known) = {
            let mut state = self.lock();
            state.begun += 1;
            (state.begun, state.channels.clone())
        };
        // Read after the ticket was drawn: of two refreshes, the later ticket has the newer channels or is followed
        // by the refresh of the change that it missed.
        let channels =
            self.source.get().map_or_else(|| known.clone(), |source| windows(&source.borrow(), &known));
        let met = contain(|| self.condition.is_met(&channels)).unwrap_or_else(|| {
            self.predicate_panics.add_one();
            false
        });
        let over = self.over.get().is_some_and(|over| over());
        let (replaced, woken) = {
            let mut state = self.lock();
            // For good, and so also when a later refresh has overtaken this one.
            if over {
                state.closed = true;
                self.online.set(false);
            }
            if state.published > ticket {
                return;
            }
            state.published = ticket;
            self.online.set(met && !state.closed);
            (replace(&mut state.channels, channels), state.waiters.take())
        };
        drop(replaced);
        wake_all(woken);
    }

    /// Never online again. Wakes all who wait.
    pub(crate) fn close(&self) {
        let woken = {
            let mut state = self.lock();
            state.closed = true;
            self.online.set(false);
            state.waiters.take()
        };
        wake_all(woken);
    }

    /// Whether the condition of `online_when` holds. One load.
    #[inline]
    pub(crate) fn is_online(&self) -> bool {
        self.online.get()
    }

    /// The channels at the latest refresh.
    pub(crate) fn channels(&self) -> Channels {
        self.lock().channels.clone()
    }

    /// How often a predicate of `online_when` panicked; each time the condition counted as not met.
    pub(crate) fn predicate_panics(&self) -> u64 {
        self.predicate_panics.get()
    }

    /// Nothing that can panic runs while the lock is held, so a poisoned lock has a sound state.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes all of them, also when one panics: wakers are code of the users' executors.
fn wake_all(wakers: Vec<Waker>) {
    for waker in wakers {
        let _ = contain(|| waker.wake());
    }
}

/// A window on each channel; those that are known already are kept.
fn windows(channels: &[Arc<Channel>], known: &[ChannelInfo]) -> Channels {
    // Channels come at the end and go anywhere, so the search goes on where it succeeded last.
    let mut rest = known.iter();
    channels
        .iter()
        .map(|channel| {
            rest.find(|info| info.shows(channel)).cloned().unwrap_or_else(|| ChannelInfo::new(channel))
        })
        .collect()
}

/// Wakers in numbered places, so that each waiter can replace or withdraw its own.
#[derive(Default)]
struct Waiters {
    places: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Waiters {
    /// Keeps `waker` in `place`, or in a new one. Gives back the place and the waker that was there before.
    fn put(&mut self, place: Option<usize>, waker: Waker) -> (usize, Option<Waker>) {
        let place = place.or_else(|| self.free.pop()).unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        (place, self.places[place].replace(waker))
    }

    fn withdraw(&mut self, place: usize) -> Option<Waker> {
        self.free.push(place);
        self.places[place].take()
    }

    fn take(&mut self) -> Vec<Waker> {
        self.places.iter_mut().filter_map(Option::take).collect()
    }
}

/// One waiter's place on a board. Dropping it withdraws the waker.
#[derive(Default)]
pub(crate) struct Waiter(Option<(Arc<Board>, usize)>);

impl Waiter {
    /// Asks to be woken by the next change. Call this before looking whether there is anything to wait for.
    pub(crate) fn register(&mut self, board: &Arc<Board>, cx: &Context<'_>) {
        let place = self.0.as_ref().map(|(_, place)| *place);
        // Cloning and dropping a waker run an executor's code: neither happens under the lock.
        let waker = cx.waker().clone();
        let (place, replaced) = board.lock().waiters.put(place, waker);
        drop(replaced);
        if self.0.is_none() {
            self.0 = Some((board.clone(), place));
        }
    }

    /// Does not wait any more.
    pub(crate) fn withdraw(&mut self) {
        if let Some((board, place)) = self.0.take() {
            let waker = board.lock().waiters.withdraw(place);
            drop(waker);
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.withdraw();
    }
}
