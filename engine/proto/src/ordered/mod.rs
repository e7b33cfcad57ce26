//! Maps and sets in the order of their keys, for tables that are not on a datum's way.
//!
//! They do what `BTreeMap` and `BTreeSet` do. The compiler makes a copy of a map's code for each pair of
//! types that it is used with, and the engine and the protocol have more than fifty pairs: theirs was half
//! of what was compiled for the engine. This code is short. Entries are kept in blocks of up to 32, so that
//! a change moves at most the entries of one block, and three words for each other block.
//!
//! ```
//! use corewire_proto::ordered::OrderedMap;
//!
//! let mut ports = OrderedMap::new();
//! ports.insert("https", 443);
//! ports.insert("domain", 53);
//! assert_eq!(ports.get(&"domain"), Some(&53));
//! assert_eq!(ports.keys().copied().collect::<Vec<_>>(), ["domain", "https"]);
//! ```

mod set;
#[cfg(test)]
mod tests;

use alloc::vec::{self, Vec};
use core::{
    fmt,
    mem::{replace, take},
    ops::{Bound, Index, RangeBounds},
    slice,
};

pub use set::OrderedSet;

/// Entries in a block.
const BLOCK: usize = 32;

/// Values by their keys, in the order of the keys.
///
/// A look-up takes logarithmic time. An insertion or a removal also moves up to 32 entries. There are at
/// most four blocks per 32 entries, and one more; a map that is empty again keeps none.
#[derive(Clone)]
pub struct OrderedMap<K, V> {
    /// In order, as the entries in each. None is empty, and two neighbours hold more than half a block.
    blocks: Vec<Vec<(K, V)>>,
    /// Entries in all blocks.
    len: usize,
}

/// Where an entry is, or would be inserted: its block, and its place in that.
type EntryPlace = (usize, usize);

impl<K, V> OrderedMap<K, V> {
    /// An empty map. It allocates nothing.
    pub const fn new() -> Self {
        Self { blocks: Vec::new(), len: 0 }
    }

    /// The number of entries.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no entries.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// The entries, in the order of the keys.
    pub fn iter(&self) -> Entries<'_, K, V> {
        self.iter_from((0, 0))
    }

    /// The entries, in the order of the keys.
    pub fn iter_mut(&mut self) -> EntriesMut<'_, K, V> {
        self.iter_mut_from((0, 0))
    }

    /// The keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> + Clone {
        self.iter().map(|(key, _)| key)
    }

    /// The values, in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> + Clone {
        self.iter().map(|(_, value)| value)
    }

    /// The values, in the order of their keys.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.iter_mut().map(|(_, value)| value)
    }

    /// The values, in the order of their keys.
    pub fn into_values(self) -> impl Iterator<Item = V> {
        self.into_iter().map(|(_, value)| value)
    }

    /// The entry with the least key.
    pub fn first(&self) -> Option<(&K, &V)> {
        self.blocks.first()?.first().map(|(key, value)| (key, value))
    }

    /// Removes the entry with the least key.
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        self.pop_first_if(|_, _| true)
    }

    /// Removes the entry with the least key, if `is_due` returns `true` for it.
    pub fn pop_first_if(&mut self, is_due: impl FnOnce(&K, &V) -> bool) -> Option<(K, V)> {
        let (key, value) = self.first()?;
        is_due(key, value).then(|| self.remove_at((0, 0)))
    }

    /// Removes the entries for which `keep` returns `false`; all of them if it panics.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        let mut kept = Self::new();
        for mut block in take(self).blocks {
            block.retain_mut(|(key, value)| keep(key, value));
            kept.len += block.len();
            match kept.blocks.last_mut() {
                Some(last) if last.len() + block.len() <= BLOCK => last.append(&mut block),
                _ if block.is_empty() => {}
                _ => kept.blocks.push(block),
            }
        }
        *self = kept;
    }

    fn iter_from(&self, (block, at): EntryPlace) -> Entries<'_, K, V> {
        let mut blocks = self.blocks.get(block..).unwrap_or_default().iter();
        let first = blocks.next().and_then(|block| block.get(at..)).unwrap_or_default();
        Entries { block: first.iter(), blocks }
    }

    fn iter_mut_from(&mut self, (block, at): EntryPlace) -> EntriesMut<'_, K, V> {
        let mut blocks = self.blocks.get_mut(block..).unwrap_or_default().iter_mut();
        let first = blocks.next().and_then(|block| block.get_mut(at..)).unwrap_or_default();
        EntriesMut { block: first.iter_mut(), blocks }
    }

    fn insert_at(&mut self, (mut block, mut at): EntryPlace, key: K, value: V) -> &mut V {
        if self.blocks.is_empty() {
            self.blocks.push(Vec::new());
        }
        if self.blocks[block].len() == BLOCK {
            // Keys that ascend fill each block.
            let kept = if at == BLOCK { BLOCK } else { BLOCK / 2 };
            let rest = self.blocks[block].split_off(kept);
            self.blocks.insert(block + 1, rest);
            if at >= kept {
                (block, at) = (block + 1, at - kept);
            }
        }
        self.len += 1;
        self.blocks[block].insert(at, (key, value));
        &mut self.blocks[block][at].1
    }

    fn remove_at(&mut self, (block, at): EntryPlace) -> (K, V) {
        let removed = self.blocks[block].remove(at);
        self.len -= 1;
        if self.blocks[block].is_empty() {
            self.blocks.remove(block);
        }
        // With the block after it, then with the one before.
        for left in [Some(block), block.checked_sub(1)].into_iter().flatten() {
            if let Some([one, other]) = self.blocks.get_mut(left..).and_then(<[_]>::first_chunk_mut)
                && one.len() + other.len() <= BLOCK / 2
            {
                one.append(other);
                self.blocks.remove(left + 1);
            }
        }
        removed
    }
}

impl<K: Ord, V> OrderedMap<K, V> {
    fn find(&self, key: &K) -> Result<EntryPlace, EntryPlace> {
        let before = |block: &Vec<(K, V)>| block.last().is_some_and(|(last, _)| last < key);
        let block = self.blocks.partition_point(before);
        match self.blocks.get(block) {
            Some(entries) => match entries.binary_search_by(|(other, _)| other.cmp(key)) {
                Ok(at) => Ok((block, at)),
                Err(at) => Err((block, at)),
            },
            None => Err(self.blocks.last().map_or((0, 0), |last| (block - 1, last.len()))),
        }
    }

    /// Where the entries of a range begin.
    fn start_of(&self, range: &impl RangeBounds<K>) -> EntryPlace {
        match range.start_bound() {
            Bound::Unbounded => (0, 0),
            Bound::Included(key) => self.find(key).unwrap_or_else(|place| place),
            Bound::Excluded(key) => self.find(key).map_or_else(|place| place, |(block, at)| (block, at + 1)),
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        let (block, at) = self.find(key).ok()?;
        Some(&self.blocks[block][at].1)
    }

    /// The value of a key.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let (block, at) = self.find(key).ok()?;
        Some(&mut self.blocks[block][at].1)
    }

    /// Whether the key has a value.
    pub fn contains_key(&self, key: &K) -> bool {
        self.find(key).is_ok()
    }

    /// Gives the key this value, and returns the one that it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(&key) {
            Ok((block, at)) => Some(replace(&mut self.blocks[block][at].1, value)),
            Err(place) => {
                self.insert_at(place, key, value);
                None
            }
        }
    }

    /// The value of the key, which is inserted if there is none.
    pub fn get_or_insert_with(&mut self, key: K, value: impl FnOnce() -> V) -> &mut V {
        match self.find(&key) {
            Ok((block, at)) => &mut self.blocks[block][at].1,
            Err(place) => self.insert_at(place, key, value()),
        }
    }

    /// Removes the entry of a key, and returns its value.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.find(key).ok().map(|place| self.remove_at(place).1)
    }

    /// The entries with keys in the range, in order.
    pub fn range(&self, range: impl RangeBounds<K>) -> impl Iterator<Item = (&K, &V)> {
        let entries = self.iter_from(self.start_of(&range));
        entries.take_while(move |(key, _)| is_before_end(*key, &range))
    }

    /// The entries with keys in the range, in order.
    pub fn range_mut(&mut self, range: impl RangeBounds<K>) -> impl Iterator<Item = (&K, &mut V)> {
        let start = self.start_of(&range);
        self.iter_mut_from(start).take_while(move |(key, _)| is_before_end(*key, &range))
    }
}

fn is_before_end<K: Ord>(key: &K, range: &impl RangeBounds<K>) -> bool {
    match range.end_bound() {
        Bound::Unbounded => true,
        Bound::Included(end) => key <= end,
        Bound::Excluded(end) => key < end,
    }
}

impl<K, V> Default for OrderedMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for OrderedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for OrderedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::new();
        map.extend(entries);
        map
    }
}

impl<K: Ord, V> Extend<(K, V)> for OrderedMap<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

impl<K: Ord, V> Index<&K> for OrderedMap<K, V> {
    type Output = V;

    /// # Panics
    ///
    /// If the key has no value.
    fn index(&self, key: &K) -> &V {
        self.get(key).expect("the key has a value")
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for OrderedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other)
    }
}

impl<K: Eq, V: Eq> Eq for OrderedMap<K, V> {}

impl<'a, K, V> IntoIterator for &'a OrderedMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Entries<'a, K, V>;

    fn into_iter(self) -> Entries<'a, K, V> {
        self.iter()
    }
}

impl<K, V> IntoIterator for OrderedMap<K, V> {
    type Item = (K, V);
    type IntoIter = IntoEntries<K, V>;

    fn into_iter(self) -> IntoEntries<K, V> {
        IntoEntries { block: Vec::new().into_iter(), blocks: self.blocks.into_iter() }
    }
}

/// The entries of an [`OrderedMap`], in the order of the keys.
#[derive(Debug)]
pub struct Entries<'a, K, V> {
    block: slice::Iter<'a, (K, V)>,
    blocks: slice::Iter<'a, Vec<(K, V)>>,
}

impl<K, V> Clone for Entries<'_, K, V> {
    fn clone(&self) -> Self {
        Self { block: self.block.clone(), blocks: self.blocks.clone() }
    }
}

impl<'a, K, V> Iterator for Entries<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        // No block is empty, except the first one of a range.
        loop {
            if let Some((key, value)) = self.block.next() {
                return Some((key, value));
            }
            self.block = self.blocks.next()?.iter();
        }
    }
}

/// The entries of an [`OrderedMap`], in the order of the keys, with values that can be changed.
#[derive(Debug)]
pub struct EntriesMut<'a, K, V> {
    block: slice::IterMut<'a, (K, V)>,
    blocks: slice::IterMut<'a, Vec<(K, V)>>,
}

impl<'a, K, V> Iterator for EntriesMut<'a, K, V> {
    type Item = (&'a K, &'a mut V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, value)) = self.block.next() {
                return Some((key, value));
            }
            self.block = self.blocks.next()?.iter_mut();
        }
    }
}

/// The entries of an [`OrderedMap`] that is used up, in the order of the keys.
#[derive(Debug)]
pub struct IntoEntries<K, V> {
    block: vec::IntoIter<(K, V)>,
    blocks: vec::IntoIter<Vec<(K, V)>>,
}

impl<K, V> Iterator for IntoEntries<K, V> {
    type Item = (K, V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.block.next() {
                return Some(entry);
            }
            self.block = self.blocks.next()?.into_iter();
        }
    }
}
