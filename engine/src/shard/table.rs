//! Where things stand in a shard: sessions by slot and generation, streams and channels by slot, labels by
//! session.
//!
//! Not inside: what they do. Every table has a bound that its maker gives, grows only when something is added,
//! and finds a thing with one index.

use corewire_proto::{channel::Label, wire::header::ReceiverIndex};

/// A table of things that are known by a small number, which is used again after they leave.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    entries: Vec<Option<T>>,
    free: Vec<u32>,
    limit: usize,
    len: usize,
}

impl<T> Slab<T> {
    /// An empty table of at most `limit` things.
    pub(crate) fn new(limit: usize) -> Self {
        Self { entries: Vec::new(), free: Vec::new(), limit, len: 0 }
    }

    /// Whether nothing more fits.
    pub(crate) fn is_full(&self) -> bool {
        self.len >= self.limit
    }

    /// The slot that the next thing will get; `None` when the table is full.
    pub(crate) fn vacant(&self) -> Option<u32> {
        if self.is_full() {
            return None;
        }
        Some(self.free.last().copied().unwrap_or(self.entries.len() as u32))
    }

    /// Adds a thing at [`Slab::vacant`]; gives it back when the table is full.
    pub(crate) fn insert(&mut self, value: T) -> Result<u32, T> {
        if self.is_full() {
            return Err(value);
        }
        self.len += 1;
        match self.free.pop() {
            Some(slot) => {
                self.entries[slot as usize] = Some(value);
                Ok(slot)
            }
            None => {
                self.entries.push(Some(value));
                Ok((self.entries.len() - 1) as u32)
            }
        }
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&T> {
        self.entries.get(slot as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.entries.get_mut(slot as usize)?.as_mut()
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<T> {
        let value = self.entries.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        self.len -= 1;
        Some(value)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Every thing with its slot. Looks at every slot: for rare moments only.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.entries.iter().enumerate().filter_map(|(slot, entry)| Some((slot as u32, entry.as_ref()?)))
    }

    /// Takes everything out.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        self.len = 0;
        self.free.clear();
        self.entries.drain(..).flatten()
    }
}

/// Sessions by the index in the packets: the clerk picks slot and generation, a shard only follows.
#[derive(Debug)]
pub(crate) struct SessionTable<T> {
    entries: Vec<Option<(u32, T)>>,
    limit: usize,
    len: usize,
}

impl<T> SessionTable<T> {
    /// An empty table whose slots are below `limit`.
    pub(crate) fn new(limit: usize) -> Self {
        Self { entries: Vec::new(), limit, len: 0 }
    }

    /// Installs a session at its index; gives it back when the slot is taken or beyond the limit.
    pub(crate) fn install(&mut self, index: ReceiverIndex, value: T) -> Result<(), T> {
        let slot = index.slot() as usize;
        if slot >= self.limit || self.entries.get(slot).is_some_and(Option::is_some) {
            return Err(value);
        }
        if slot >= self.entries.len() {
            self.entries.resize_with(slot + 1, || None);
        }
        self.entries[slot] = Some((index.generation(), value));
        self.len += 1;
        Ok(())
    }

    /// The slot of a session that is alive under exactly this index. The shard byte is the caller's to check.
    pub(crate) fn find(&self, index: ReceiverIndex) -> Option<u32> {
        let slot = index.slot();
        match self.entries.get(slot as usize)? {
            Some((generation, _)) if *generation == index.generation() => Some(slot),
            _ => None,
        }
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&T> {
        Some(&self.entries.get(slot as usize)?.as_ref()?.1)
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        Some(&mut self.entries.get_mut(slot as usize)?.as_mut()?.1)
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<T> {
        let (_, value) = self.entries.get_mut(slot as usize)?.take()?;
        self.len -= 1;
        Some(value)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The slots in use. Looks at every slot: for rare moments only.
    pub(crate) fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.entries.len() as u32).filter(|&slot| self.entries[slot as usize].is_some())
    }
}

/// The channels of one session by label: one index, for each side that may have opened them.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    /// `[opened here, opened by the peer]`, by the label's slot.
    sides: [Vec<Option<(Label, u32)>>; 2],
}

impl Labels {
    /// Notes that `label` is the channel in `channel`. A label is never used twice in a session, so whoever had
    /// its slot before is gone.
    pub(crate) fn insert(&mut self, label: Label, channel: u32) {
        let side = &mut self.sides[usize::from(label.is_by_peer())];
        let slot = label.slot();
        if slot >= side.len() {
            side.resize(slot + 1, None);
        }
        side[slot] = Some((label, channel));
    }

    /// The channel of exactly this label; `None` for one that ended, even if its slot is in use again.
    pub(crate) fn get(&self, label: Label) -> Option<u32> {
        match self.sides[usize::from(label.is_by_peer())].get(label.slot())? {
            Some((its, channel)) if *its == label => Some(*channel),
            _ => None,
        }
    }

    pub(crate) fn remove(&mut self, label: Label) -> Option<u32> {
        let channel = self.get(label)?;
        self.sides[usize::from(label.is_by_peer())][label.slot()] = None;
        Some(channel)
    }

    /// Every channel of the session.
    pub(crate) fn channels(&self) -> impl Iterator<Item = u32> + '_ {
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
    fn a_slot_answers_only_to_its_own_generation() {
        let mut table = SessionTable::new(4);
        table.install(index(2, 7), "first").unwrap();
        assert_eq!(table.install(index(2, 8), "second"), Err("second"), "the slot is taken");
        assert_eq!(table.install(index(4, 1), "beyond"), Err("beyond"));
        assert_eq!(table.find(index(2, 7)), Some(2));
        assert_eq!(table.find(index(2, 8)), None);
        assert_eq!(table.find(index(3, 7)), None);
        assert_eq!(table.find(index(1 << 20, 7)), None);
        assert_eq!(table.remove(2), Some("first"));
        assert_eq!(table.find(index(2, 7)), None);
        table.install(index(2, 8), "second").unwrap();
        assert_eq!(table.find(index(2, 7)), None);
        assert_eq!(table.slots().collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_slab_reuses_slots_and_keeps_its_limit() {
        let mut slab = Slab::new(2);
        assert_eq!(slab.insert('a'), Ok(0));
        assert_eq!(slab.vacant(), Some(1));
        assert_eq!(slab.insert('b'), Ok(1));
        assert_eq!(slab.insert('c'), Err('c'));
        assert_eq!(slab.vacant(), None);
        assert_eq!(slab.remove(0), Some('a'));
        assert_eq!(slab.remove(0), None);
        assert_eq!(slab.vacant(), Some(0));
        assert_eq!(slab.insert('d'), Ok(0));
        assert_eq!(slab.iter().map(|(slot, c)| (slot, *c)).collect::<Vec<_>>(), [(0, 'd'), (1, 'b')]);
    }
}
