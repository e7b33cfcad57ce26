//! Channels by label.

use alloc::{boxed::Box, collections::VecDeque, vec::Vec};

use crate::channel::Label;

#[derive(Debug)]
struct TableSlot<T> {
    /// The life of its latest channel; `None` before the first. It only grows.
    life: Option<u32>,
    /// Present while that channel is open.
    channel: Option<Box<T>>,
}

/// The channels of one direction. A lookup is an index and a comparison.
#[derive(Debug)]
pub(super) struct Table<T> {
    /// Grows up to `max`.
    slots: Vec<TableSlot<T>>,
    /// Slots without a channel, in the order in which they became free, so that each rests as long as
    /// possible. Empty when the peer allocates the labels.
    free: VecDeque<u32>,
    /// Most slots.
    max: usize,
    /// Slots with a channel.
    open: usize,
    /// Whether the peer opens these channels.
    by_peer: bool,
}

/// What a label that the peer named stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LabelStatus {
    /// A channel.
    Open,
    /// A channel that is gone.
    Stale,
    /// It was never used.
    Unused,
}

impl<T> Table<T> {
    pub(super) fn new(max: usize, by_peer: bool) -> Self {
        Self { slots: Vec::new(), free: VecDeque::new(), max: max.min(Label::MAX_CHANNELS), open: 0, by_peer }
    }

    pub(super) const fn len(&self) -> usize {
        self.open
    }

    #[inline]
    pub(super) fn get(&self, label: Label) -> Option<&T> {
        self.slots
            .get(label.slot())
            .filter(|slot| slot.life == Some(label.life()) && label.is_by_peer() == self.by_peer)?
            .channel
            .as_deref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, label: Label) -> Option<&mut T> {
        self.slots
            .get_mut(label.slot())
            .filter(|slot| slot.life == Some(label.life()) && label.is_by_peer() == self.by_peer)?
            .channel
            .as_deref_mut()
    }

    /// The channel in a slot.
    #[inline]
    pub(super) fn at(&mut self, slot: u32) -> Option<&mut T> {
        self.slots.get_mut(slot as usize)?.channel.as_deref_mut()
    }

    /// What a label stands for.
    pub(super) fn status(&self, label: Label) -> LabelStatus {
        match self.slots.get(label.slot()) {
            Some(TableSlot { life: Some(life), channel }) if *life == label.life() => {
                if channel.is_some() {
                    LabelStatus::Open
                } else {
                    LabelStatus::Stale
                }
            }
            Some(TableSlot { life: Some(life), .. }) if *life > label.life() => LabelStatus::Stale,
            _ => LabelStatus::Unused,
        }
    }

    /// An unused label for a channel opened here. `None`: the table is full, or all lives of its slots are
    /// used up.
    pub(super) fn allocate(&mut self) -> Option<Label> {
        if self.slots.len() < self.max {
            self.slots.push(TableSlot { life: None, channel: None });
            return Some(Label::new(self.slots.len() - 1, 0, self.by_peer));
        }
        while let Some(slot) = self.free.pop_front() {
            let life = self.slots[slot as usize].life.map_or(0, |life| life + 1);
            if life < Label::LIFE_LIMIT {
                return Some(Label::new(slot as usize, life, self.by_peer));
            }
        }
        None
    }

    /// Stores a channel under an unused label; returns the channel that was in the slot.
    pub(super) fn insert(&mut self, label: Label, channel: T) -> Option<Box<T>> {
        while self.slots.len() <= label.slot() {
            self.slots.push(TableSlot { life: None, channel: None });
        }
        let slot = &mut self.slots[label.slot()];
        debug_assert!(slot.life.is_none_or(|life| life < label.life()), "a label is never reused");
        slot.life = Some(label.life());
        let former = slot.channel.replace(Box::new(channel));
        if former.is_none() {
            self.open += 1;
        }
        former
    }

    pub(super) fn remove(&mut self, label: Label) -> Option<Box<T>> {
        self.get(label)?;
        let channel = self.slots[label.slot()].channel.take();
        self.open -= 1;
        if !self.by_peer {
            self.free.push_back(label.slot() as u32);
        }
        channel
    }

    /// Whether the slot of a label exists.
    pub(super) fn admits(&self, label: Label) -> bool {
        label.slot() < self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_never_reused_and_former_ones_are_stale() {
        let mut table = Table::new(2, false);
        let first = table.allocate().unwrap();
        table.insert(first, 'a');
        let second = table.allocate().unwrap();
        table.insert(second, 'b');
        assert!(table.allocate().is_none());
        assert_eq!(table.remove(first).as_deref(), Some(&'a'));
        assert_eq!(table.status(first), LabelStatus::Stale);
        let third = table.allocate().unwrap();
        assert_eq!((third.slot(), third.life()), (0, 1));
        assert_eq!(table.status(third), LabelStatus::Unused);
        table.insert(third, 'c');
        assert_eq!((table.get(first), table.get(third)), (None, Some(&'c')));
        assert_eq!((table.status(first), table.status(third)), (LabelStatus::Stale, LabelStatus::Open));
        assert_eq!(table.remove(first), None);
        assert_eq!(table.len(), 2);
    }
}
