//! The status of one handle: its channels, whether it is online, and the tasks that wait for a change.
//!
//! The engine changes channels and then calls [`StreamStatus::refresh`] and, when it has refreshed all
//! statuses, [`StreamStatus::wake`]; waiting futures are polled by their own executors. Two invariants:
//!
//! * No wake-up is lost: a waiter registers before it checks, and a refresh publishes before it wakes.
//! * Code of the user (predicates, wakers) is never called with the lock held.

use std::mem::replace;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Waker};

use corewire_engine::publication::{ChangeHook, Channel, ShownChannels};
use corewire_rings::sync::{AtomicFlag, EventCounter, Lock};

use super::channel::ChannelInfo;
use super::conditions::ConditionSpec;
use crate::contain::contain;
use crate::discovery::PeerEntry;
use crate::id::PeerId;

/// The channels of a handle as one snapshot.
pub(crate) type ChannelList = Arc<[ChannelInfo]>;

/// What is known about a peer at present.
type PeerView = Box<dyn Fn(&PeerId) -> Option<PeerEntry> + Send + Sync>;

/// See the module.
pub(crate) struct StreamStatus {
    /// Whether `condition` holds, as of the latest refresh. Always false once `StatusState::closed` is set.
    online: AtomicFlag,
    /// Panics of the predicates in `condition`.
    predicate_panics: EventCounter,
    /// The condition of `online_when`.
    condition: ConditionSpec,
    /// Set by [`attach`](Self::attach).
    shown: OnceLock<ShownChannels>,
    /// Set before `shown`.
    peer_view: OnceLock<PeerView>,
    /// No code that can panic runs under it.
    state: Lock<StatusState>,
}

struct StatusState {
    channels: ChannelList,
    /// Final: a closed handle never goes online again.
    closed: bool,
    /// Number of refreshes begun.
    begun: u64,
    /// Ticket of the newest refresh that was published. An older one that finishes later changes nothing.
    published: u64,
    wakers: WakerSlots,
}

impl StreamStatus {
    pub(crate) fn new(condition: ConditionSpec) -> Self {
        let status = Self {
            online: AtomicFlag::default(),
            predicate_panics: EventCounter::default(),
            condition,
            shown: OnceLock::new(),
            peer_view: OnceLock::new(),
            state: Lock::new(StatusState {
                channels: Arc::new([]),
                closed: false,
                begun: 0,
                published: 0,
                wakers: WakerSlots::default(),
            }),
        };
        // `minimum_of(0)` holds from the start.
        status.refresh();
        status
    }

    /// Conditions ask `view` for the peers of channels, so that they see changes of an entry.
    pub(crate) fn look_up_peers(&self, view: impl Fn(&PeerId) -> Option<PeerEntry> + Send + Sync + 'static) {
        let _ = self.peer_view.set(Box::new(view));
    }

    /// The entry of a channel's peer as it is now; that of its beginning once the peer is forgotten.
    pub(crate) fn entry_of(&self, channel: &ChannelInfo) -> PeerEntry {
        let current = self.peer_view.get().and_then(|view| view(channel.peer().id()));
        current.unwrap_or_else(|| channel.peer().clone())
    }

    /// Follows the channels of a publication or subscription until that is closed.
    pub(crate) fn attach(&self, shown: ShownChannels) {
        assert!(self.shown.set(shown).is_ok(), "a status is attached once");
        self.refresh();
    }

    /// Reads the channels again. Called after each change that a condition can see; [`wake`](Self::wake)
    /// has to follow.
    pub(crate) fn refresh(&self) {
        let (ticket, known) = {
            let mut state = self.state.lock();
            state.begun += 1;
            (state.begun, state.channels.clone())
        };
        // Read after the ticket was drawn: of two refreshes, the one with the later ticket has the newer
        // channels, or is followed by the refresh of the change that it missed.
        let channels =
            self.shown.get().map_or_else(|| known.clone(), |at| infos_of(&at.channels.borrow(), &known));
        let met = contain(|| self.condition.is_met(self, &channels)).unwrap_or_else(|| {
            self.predicate_panics.add_one();
            false
        });
        let closed = self.shown.get().is_some_and(|at| (at.is_over)());
        let replaced = {
            let mut state = self.state.lock();
            // Closing is final, so it counts even if a later refresh has published already.
            if closed {
                state.closed = true;
                self.online.set(false);
            }
            if state.published > ticket {
                return;
            }
            state.published = ticket;
            self.online.set(met && !state.closed);
            replace(&mut state.channels, channels)
        };
        drop(replaced);
    }

    /// Wakes all waiters.
    pub(crate) fn wake(&self) {
        let woken = self.state.lock().wakers.take_all();
        wake_all(woken);
    }

    /// Takes the handle offline for the rest of its life and wakes all waiters.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        self.online.set(false);
        drop(state);
        self.wake();
    }

    /// Whether the condition of `online_when` holds. One load.
    #[inline]
    pub(crate) fn is_online(&self) -> bool {
        self.online.get()
    }

    /// The channels at the latest refresh.
    pub(crate) fn channels(&self) -> ChannelList {
        self.state.lock().channels.clone()
    }

    /// How often a predicate of `online_when` panicked. Each time the condition counted as not met.
    pub(crate) fn predicate_panics(&self) -> u64 {
        self.predicate_panics.get()
    }
}

/// What the engine calls when channels have changed. Once the handle is dropped it does nothing.
pub(crate) struct StatusHook {
    status: Weak<StreamStatus>,
    /// Set before a consumer sees the change, so that it looks for new legs.
    news: Option<Arc<AtomicFlag>>,
}

impl StatusHook {
    pub(crate) fn new(status: &Arc<StreamStatus>, news: Option<Arc<AtomicFlag>>) -> Arc<Self> {
        Arc::new(Self { status: Arc::downgrade(status), news })
    }
}

impl ChangeHook for StatusHook {
    fn attach(&self, shown: ShownChannels) {
        if let Some(status) = self.status.upgrade() {
            status.attach(shown);
        }
    }

    fn refresh(&self) {
        if let Some(news) = &self.news {
            news.set(true);
        }
        if let Some(status) = self.status.upgrade() {
            status.refresh();
        }
    }

    fn wake(&self) {
        if let Some(status) = self.status.upgrade() {
            status.wake();
        }
    }
}

/// Wakes all wakers even if one panics: they are code of the users' executors.
fn wake_all(wakers: Vec<Waker>) {
    for waker in wakers {
        let _ = contain(|| waker.wake());
    }
}

/// A [`ChannelInfo`] for each channel; those in `known` are reused.
fn infos_of(channels: &[Arc<Channel>], known: &[ChannelInfo]) -> ChannelList {
    // Both lists are in the order in which channels were added, so each search goes on where the last one
    // succeeded.
    let mut rest = known.iter();
    channels
        .iter()
        .map(|channel| {
            rest.find(|info| info.is_of(channel)).cloned().unwrap_or_else(|| ChannelInfo::new(channel))
        })
        .collect()
}

/// Wakers in numbered slots. A waiter owns its slot and can replace or withdraw its waker.
#[derive(Default)]
struct WakerSlots {
    slots: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl WakerSlots {
    /// Stores `waker` in `slot`, or in a new one. Returns the slot and the waker that was there before.
    fn put(&mut self, slot: Option<usize>, waker: Waker) -> (usize, Option<Waker>) {
        let slot = slot.or_else(|| self.free.pop()).unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        (slot, self.slots[slot].replace(waker))
    }

    fn withdraw(&mut self, slot: usize) -> Option<Waker> {
        self.free.push(slot);
        self.slots[slot].take()
    }

    fn take_all(&mut self) -> Vec<Waker> {
        self.slots.iter_mut().filter_map(Option::take).collect()
    }
}

/// One waiter's slot at a [`StreamStatus`]. Dropping it withdraws the waker.
#[derive(Default)]
pub(crate) struct StatusWaiter(Option<(Arc<StreamStatus>, usize)>);

impl StatusWaiter {
    /// Registers the task to be woken by the next change. To be called before the check for that change.
    pub(crate) fn register(&mut self, status: &Arc<StreamStatus>, cx: &Context<'_>) {
        let slot = self.0.as_ref().map(|(_, slot)| *slot);
        // Cloning and dropping a waker run code of an executor, so neither happens with the lock held.
        let waker = cx.waker().clone();
        let (slot, replaced) = status.state.lock().wakers.put(slot, waker);
        drop(replaced);
        if self.0.is_none() {
            self.0 = Some((status.clone(), slot));
        }
    }

    /// Withdraws the waker, if one is registered.
    pub(crate) fn withdraw(&mut self) {
        if let Some((status, slot)) = self.0.take() {
            let waker = status.state.lock().wakers.withdraw(slot);
            drop(waker);
        }
    }
}

impl Drop for StatusWaiter {
    fn drop(&mut self) {
        self.withdraw();
    }
}
