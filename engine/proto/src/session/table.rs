//! Channels by label. Not inside: what a channel is.

use alloc::{boxed::Box, collections::VecDeque, vec::Vec};

use crate::channel::Label;

#[derive(Debug)]
struct TableSlot<T> {
    /// The last life that the slot has seen; `None` before the first.
    life: Option<u32>,
    channel: Option<Box<T>>,
}

/// Channels of one direction. Finding one is an index and a comparison.
#[derive(Debug)]
pub(super) struct Table<T> {
    slots: Vec<TableSlot<T>>,
    /// Slots whose last channel is gone, longest first: a label comes back as late as possible.
    free: VecDeque<u32>,
    max: usize,
    open: usize,
    by_peer: bool,
}

/// What a label that the peer names stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LabelStatus {
    /// A channel.
    Open,
    /// A channel that is gone.
    Stale,
    /// Nothing that ever was.
    Never,
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

    /// The channel that lives in a slot now.
    #[inline]
    pub(super) fn at(&mut self, slot: u32) -> Option<&mut T> {
        self.slots.get_mut(slot as usize)?.channel.as_deref_mut()
    }

    pub(super) fn judge(&self, label: Label) -> LabelStatus {
        match self.slots.get(label.slot()) {
            Some(TableSlot { life: Some(life), channel }) if *life == label.life() => {
                if channel.is_some() {
                    LabelStatus::Open
                } else {
                    LabelStatus::Stale
                }
            }
            Some(TableSlot { life: Some(life), .. }) if *life > label.life() => LabelStatus::Stale,
            _ => LabelStatus::Never,
        }
    }

    /// A label that was never used, for a channel opened here. `None`: the table is full, or used up.
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

    /// Puts a channel under a fresh label; returns the one that lived in the slot before.
    pub(super) fn insert(&mut self, label: Label, channel: T) -> Option<Box<T>> {
        while self.slots.len() <= label.slot() {
            self.slots.push(TableSlot { life: None, channel: None });
        }
        let slot = &mut self.slots[label.slot()];
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

    /// Whether the peer may use this slot at all.
    pub(super) fn admits(&self, label: Label) -> bool {
        label.slot() < self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_never_used_twice_and_former_ones_are_stale() {
        let mut table = Table::new(2, false);
        let first = table.allocate().unwrap();
        table.insert(first, 'a');
        let second = table.allocate().unwrap();
        table.insert(second, 'b');
        assert!(table.allocate().is_none());
        assert_eq!(table.remove(first).as_deref(), Some(&'a'));
        assert_eq!(table.judge(first), LabelStatus::Stale);
        let third = table.allocate().unwrap();
        assert_eq!((third.slot(), third.life()), (0, 1));
        assert_eq!(table.judge(third), LabelStatus::Never);
        table.insert(third, 'c');
        assert_eq!((table.get(first), table.get(third)), (None, Some(&'c')));
        assert_eq!((table.judge(first), table.judge(third)), (LabelStatus::Stale, LabelStatus::Open));
        assert_eq!(table.remove(first), None);
        assert_eq!(table.len(), 2);
    }
}
