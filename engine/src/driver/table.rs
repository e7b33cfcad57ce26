//! The sockets of one driver under names that are never used twice. Not inside: what a socket is.

use super::SocketId;

/// A bounded table. A slot is used again, its generation never is.
#[derive(Debug)]
pub(super) struct SocketTable<T> {
    slots: Vec<Option<(u32, T)>>,
    limit: u16,
    next_generation: u32,
}

impl<T> SocketTable<T> {
    pub(super) fn new(limit: u16) -> Self {
        Self { slots: Vec::new(), limit, next_generation: 0 }
    }

    /// Puts what `make` returns for its new name into the table; `None` when the table is full.
    pub(super) fn insert(&mut self, make: impl FnOnce(SocketId) -> T) -> Option<SocketId> {
        let slot = match self.slots.iter().position(Option::is_none) {
            Some(slot) => slot,
            None if self.slots.len() < usize::from(self.limit) => {
                self.slots.push(None);
                self.slots.len() - 1
            }
            None => return None,
        };
        let id = SocketId { slot: slot as u16, generation: self.next_generation };
        // Four thousand million sockets of one driver: a driver does not live that long.
        self.next_generation = self.next_generation.checked_add(1)?;
        self.slots[slot] = Some((id.generation, make(id)));
        Some(id)
    }

    pub(super) fn get_mut(&mut self, id: SocketId) -> Option<&mut T> {
        match self.slots.get_mut(usize::from(id.slot)) {
            Some(Some((generation, socket))) if *generation == id.generation => Some(socket),
            _ => None,
        }
    }

    pub(super) fn get(&self, id: SocketId) -> Option<&T> {
        match self.slots.get(usize::from(id.slot)) {
            Some(Some((generation, socket))) if *generation == id.generation => Some(socket),
            _ => None,
        }
    }

    pub(super) fn remove(&mut self, id: SocketId) -> Option<T> {
        self.get(id)?;
        self.slots[usize::from(id.slot)].take().map(|(_, socket)| socket)
    }

    /// How many slots were ever used at one time; slots beyond that are empty.
    pub(super) fn high_water(&self) -> usize {
        self.slots.len()
    }

    /// The socket in a slot.
    pub(super) fn at(&mut self, slot: usize) -> Option<(SocketId, &mut T)> {
        let (generation, socket) = self.slots.get_mut(slot)?.as_mut()?;
        Some((SocketId { slot: slot as u16, generation: *generation }, socket))
    }

    /// Every socket in the table.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (SocketId, &mut T)> {
        self.slots.iter_mut().enumerate().filter_map(|(slot, entry)| {
            let (generation, socket) = entry.as_mut()?;
            Some((SocketId { slot: slot as u16, generation: *generation }, socket))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_used_again_under_another_name_and_the_table_is_bounded() {
        let mut table = SocketTable::new(2);
        let first = table.insert(|_| "first").unwrap();
        let second = table.insert(|_| "second").unwrap();
        assert!(table.insert(|_| "third").is_none());
        assert_eq!(table.remove(first), Some("first"));
        assert_eq!(table.remove(first), None);
        let third = table.insert(|_| "third").unwrap();
        assert_eq!(third.slot, first.slot);
        assert!(table.get_mut(first).is_none());
        assert_eq!(table.get(third), Some(&"third"));
        assert_eq!(table.iter_mut().map(|(id, _)| id).collect::<Vec<_>>(), [third, second]);
        assert_eq!(table.at(1).map(|(id, _)| id), Some(second));
        assert_eq!(table.high_water(), 2);
    }
}
