//! The shard's tables: sessions by slot and generation, channels and streams by slot, labels by session.
//!
//! Every table has a bound that its maker gives, grows only when something is added, and finds an entry with
//! one index. Each kind of slot has its own type, so that a slot of one table can't be used in another.

use std::{collections::VecDeque, fmt, marker::PhantomData};

use corewire_proto::{channel::Label, wire::header::ReceiverIndex};

/// The index of an entry in a table of one kind of thing. A slot is used again after its entry has left.
pub(crate) trait SlabSlot: Copy + Eq + fmt::Debug {
    /// The slot with this number.
    fn from_u32(number: u32) -> Self;

    /// Its number.
    fn to_u32(self) -> u32;

    /// Its number, as an index.
    #[inline]
    fn at(self) -> usize {
        self.to_u32() as usize
    }
}

macro_rules! slots {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
            pub(crate) struct $name(u32);

            impl SlabSlot for $name {
                #[inline]
                fn from_u32(number: u32) -> Self {
                    Self(number)
                }

                #[inline]
                fn to_u32(self) -> u32 {
                    self.0
                }
            }
        )*
    };
}

slots! {
    /// Where a session is in the [`SessionTable`]: the slot of its [`ReceiverIndex`].
    SessionSlot;
    /// Where a channel is in the shard's table of channels.
    ChannelSlot;
    /// Where a ring that the shard reads is in its table of streams.
    StreamSlot;
}

/// A table that picks the slots of its entries.
#[derive(Debug)]
pub(crate) struct Slab<K, T> {
    entries: Vec<Option<T>>,
    /// Slots below `entries.len()` without an entry.
    free: Vec<K>,
    limit: usize,
}

impl<K: SlabSlot, T> Slab<K, T> {
    /// An empty table of at most `limit` entries.
    pub(crate) fn new(limit: usize) -> Self {
        Self { entries: Vec::new(), free: Vec::new(), limit }
    }

    /// Whether nothing more fits.
    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.limit
    }

    /// The slot that the next entry will get; `None` when the table is full.
    pub(crate) fn vacant(&self) -> Option<K> {
        let unused = || K::from_u32(self.entries.len() as u32);
        (!self.is_full()).then(|| self.free.last().copied().unwrap_or_else(unused))
    }

    /// Adds an entry at [`Slab::vacant`]; gives it back when the table is full.
    pub(crate) fn insert(&mut self, value: T) -> Result<K, T> {
        let Some(slot) = self.vacant() else { return Err(value) };
        if self.free.pop().is_some() {
            debug_assert!(self.entries[slot.at()].is_none(), "{slot:?} is free and in use");
            self.entries[slot.at()] = Some(value);
        } else {
            self.entries.push(Some(value));
        }
        Ok(slot)
    }

    #[inline]
    pub(crate) fn get(&self, slot: K) -> Option<&T> {
        self.entries.get(slot.at())?.as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: K) -> Option<&mut T> {
        self.entries.get_mut(slot.at())?.as_mut()
    }

    pub(crate) fn remove(&mut self, slot: K) -> Option<T> {
        let value = self.entries.get_mut(slot.at())?.take()?;
        self.free.push(slot);
        Some(value)
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Every entry with its slot. Visits every slot: for rare moments only.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, &T)> {
        let entries = self.entries.iter().enumerate();
        entries.filter_map(|(slot, entry)| Some((K::from_u32(slot as u32), entry.as_ref()?)))
    }

    /// Takes every entry out.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        self.free.clear();
        self.entries.drain(..).flatten()
    }
}

/// The sessions of a shard. The clerk picks slot and generation of each, in its [`ReceiverIndex`].
#[derive(Debug)]
pub(crate) struct SessionTable<T> {
    /// By slot: the generation and the session.
    entries: Vec<Option<(u32, T)>>,
    limit: usize,
    len: usize,
}

impl<T> SessionTable<T> {
    /// An empty table whose slots are below `limit`.
    pub(crate) fn new(limit: usize) -> Self {
        Self { entries: Vec::new(), limit, len: 0 }
    }

    /// Installs a session at its index; gives it back when the slot is taken or not below the limit.
    pub(crate) fn install(&mut self, index: ReceiverIndex, value: T) -> Result<SessionSlot, T> {
        let slot = SessionSlot(index.slot());
        if slot.at() >= self.limit || self.get(slot).is_some() {
            return Err(value);
        }
        if slot.at() >= self.entries.len() {
            self.entries.resize_with(slot.at() + 1, || None);
        }
        self.entries[slot.at()] = Some((index.generation(), value));
        self.len += 1;
        Ok(slot)
    }

    /// The slot of the session with exactly this index. The caller checks the index's shard.
    #[inline]
    pub(crate) fn find(&self, index: ReceiverIndex) -> Option<SessionSlot> {
        let slot = SessionSlot(index.slot());
        match self.entries.get(slot.at())? {
            Some((generation, _)) if *generation == index.generation() => Some(slot),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn get(&self, slot: SessionSlot) -> Option<&T> {
        Some(&self.entries.get(slot.at())?.as_ref()?.1)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: SessionSlot) -> Option<&mut T> {
        Some(&mut self.entries.get_mut(slot.at())?.as_mut()?.1)
    }

    pub(crate) fn remove(&mut self, slot: SessionSlot) -> Option<T> {
        let (_, value) = self.entries.get_mut(slot.at())?.take()?;
        self.len -= 1;
        Some(value)
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Every session with its slot. Visits every slot: for rare moments only.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SessionSlot, &T)> {
        let entries = self.entries.iter().enumerate();
        entries.filter_map(|(slot, entry)| Some((SessionSlot(slot as u32), &entry.as_ref()?.1)))
    }
}

/// A queue of slots in which each stands at most once.
///
/// It tells nothing about the entries: a slot stays listed when its entry leaves, and then stands for the
/// next entry of that slot, or for none: what is popped has to be looked up.
#[derive(Debug)]
pub(crate) struct SlotQueue<K> {
    queue: VecDeque<u32>,
    /// By slot: whether it is in `queue`.
    listed: Vec<bool>,
    kind: PhantomData<K>,
}

impl<K> Default for SlotQueue<K> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), listed: Vec::new(), kind: PhantomData }
    }
}

impl<K: SlabSlot> SlotQueue<K> {
    /// Lists `slot`; `false` when it was listed already.
    #[inline]
    fn list(&mut self, slot: K) -> bool {
        if slot.at() >= self.listed.len() {
            self.listed.resize(slot.at() + 1, false);
        }
        !std::mem::replace(&mut self.listed[slot.at()], true)
    }

    /// Adds `slot` at the end, unless it is listed already.
    #[inline]
    pub(crate) fn push(&mut self, slot: K) {
        if self.list(slot) {
            self.queue.push_back(slot.to_u32());
        }
    }

    /// Adds `slot` at the front, unless it is listed already.
    pub(crate) fn push_front(&mut self, slot: K) {
        if self.list(slot) {
            self.queue.push_front(slot.to_u32());
        }
    }

    /// Takes the slot at the front out.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<K> {
        let slot = K::from_u32(self.queue.pop_front()?);
        debug_assert!(self.listed[slot.at()], "{slot:?} is queued and not listed");
        self.listed[slot.at()] = false;
        Some(slot)
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        while self.pop().is_some() {}
    }
}

/// The channels of one session by label: one index, for each side that may have opened them.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    /// `[opened here, opened by the peer]`, by the label's slot.
    sides: [Vec<Option<(Label, ChannelSlot)>>; 2],
}

impl Labels {
    /// Notes that `label` is the channel in `channel`. It replaces what had the label's slot: a label is
    /// never used twice in a session, so that channel has ended.
    pub(crate) fn insert(&mut self, label: Label, channel: ChannelSlot) {
        let side = &mut self.sides[usize::from(label.is_by_peer())];
        let slot = label.slot();
        if slot >= side.len() {
            side.resize(slot + 1, None);
        }
        side[slot] = Some((label, channel));
    }

    /// The channel of exactly this label; `None` for one that ended, even if its slot is in use again.
    #[inline]
    pub(crate) fn get(&self, label: Label) -> Option<ChannelSlot> {
        match self.sides[usize::from(label.is_by_peer())].get(label.slot())? {
            Some((its, channel)) if *its == label => Some(*channel),
            _ => None,
        }
    }

    pub(crate) fn remove(&mut self, label: Label) -> Option<ChannelSlot> {
        let channel = self.get(label)?;
        self.sides[usize::from(label.is_by_peer())][label.slot()] = None;
        Some(channel)
    }

    /// Every channel of the session.
    pub(crate) fn channels(&self) -> impl Iterator<Item = ChannelSlot> + '_ {
        self.sides.iter().flatten().flatten().map(|&(_, channel)| channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(slot: u32, generation: u32) -> ReceiverIndex {
        ReceiverIndex::new(0, slot, generation).unwrap()
    }

    #[test]
    fn a_session_slot_answers_only_to_its_own_generation() {
        let mut table = SessionTable::new(4);
        let slot = table.install(index(2, 7), "first").unwrap();
        assert_eq!(slot, SessionSlot(2));
        assert_eq!(table.install(index(2, 8), "second"), Err("second"), "the slot is taken");
        assert_eq!(table.install(index(4, 1), "beyond"), Err("beyond"));
        assert_eq!(table.find(index(2, 7)), Some(slot));
        assert_eq!(table.find(index(2, 8)), None);
        assert_eq!(table.find(index(3, 7)), None);
        assert_eq!(table.find(index(1 << 20, 7)), None);
        assert_eq!(table.remove(slot), Some("first"));
        assert_eq!(table.find(index(2, 7)), None);
        table.install(index(2, 8), "second").unwrap();
        assert_eq!(table.find(index(2, 7)), None);
        assert_eq!(table.iter().collect::<Vec<_>>(), [(slot, &"second")]);
    }

    #[test]
    fn a_slab_reuses_slots_and_keeps_its_limit() {
        let mut slab: Slab<ChannelSlot, char> = Slab::new(2);
        let slots = [ChannelSlot(0), ChannelSlot(1)];
        assert_eq!(slab.insert('a'), Ok(slots[0]));
        assert_eq!(slab.vacant(), Some(slots[1]));
        assert_eq!(slab.insert('b'), Ok(slots[1]));
        assert_eq!(slab.insert('c'), Err('c'));
        assert_eq!(slab.vacant(), None);
        assert_eq!(slab.remove(slots[0]), Some('a'));
        assert_eq!(slab.remove(slots[0]), None);
        assert_eq!(slab.vacant(), Some(slots[0]));
        assert_eq!(slab.insert('d'), Ok(slots[0]));
        assert_eq!(slab.iter().collect::<Vec<_>>(), [(slots[0], &'d'), (slots[1], &'b')]);
        assert_eq!(slab.drain().count(), 2);
        assert_eq!((slab.len(), slab.vacant()), (0, Some(slots[0])));
    }

    #[test]
    fn a_slot_queue_lists_each_slot_once_in_order() {
        let mut queue = SlotQueue::default();
        for number in [5, 3, 5, 9, 3] {
            queue.push(StreamSlot(number));
        }
        queue.push_front(StreamSlot(9));
        queue.push_front(StreamSlot(1));
        assert_eq!(queue.pop(), Some(StreamSlot(1)));
        assert_eq!(queue.pop(), Some(StreamSlot(5)));
        queue.push(StreamSlot(5));
        assert_eq!(queue.len(), 3);
        let rest: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(rest, [StreamSlot(3), StreamSlot(9), StreamSlot(5)]);
        assert!(queue.is_empty());
    }
}
