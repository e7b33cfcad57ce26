//! Sets in order.

use core::{fmt, ops::RangeBounds};

use super::OrderedMap;

/// Keys in order: an [`OrderedMap`] without values.
///
/// ```
/// use corewire_proto::ordered::OrderedSet;
///
/// let mut seen: OrderedSet<u32> = [5, 3, 9].into_iter().collect();
/// assert!(!seen.insert(5), "it is there already");
/// assert_eq!(seen.pop_first(), Some(3));
/// assert_eq!(seen.range(6..).collect::<Vec<_>>(), [&9]);
/// ```
pub struct OrderedSet<K>(OrderedMap<K, ()>);

impl<K> OrderedSet<K> {
    /// An empty set. It allocates nothing.
    pub const fn new() -> Self {
        Self(OrderedMap::new())
    }

    /// The number of keys.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no keys.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes all keys.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The keys, in order.
    pub fn iter(&self) -> impl Iterator<Item = &K> + Clone {
        self.0.keys()
    }

    /// The least key.
    pub fn first(&self) -> Option<&K> {
        self.0.first().map(|(key, ())| key)
    }

    /// Removes the least key.
    pub fn pop_first(&mut self) -> Option<K> {
        self.0.pop_first().map(|(key, ())| key)
    }
}

impl<K: Ord> OrderedSet<K> {
    /// Whether the key is there.
    pub fn contains(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    /// Inserts a key. `false`: it was there.
    pub fn insert(&mut self, key: K) -> bool {
        self.0.insert(key, ()).is_none()
    }

    /// Removes a key. `false`: it was not there.
    pub fn remove(&mut self, key: &K) -> bool {
        self.0.remove(key).is_some()
    }

    /// The keys in the range, in order.
    pub fn range(&self, range: impl RangeBounds<K>) -> impl Iterator<Item = &K> {
        self.0.range(range).map(|(key, ())| key)
    }
}

impl<K> Default for OrderedSet<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: fmt::Debug> fmt::Debug for OrderedSet<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl<K: Ord> Extend<K> for OrderedSet<K> {
    fn extend<I: IntoIterator<Item = K>>(&mut self, keys: I) {
        for key in keys {
            self.insert(key);
        }
    }
}

impl<K: Ord> FromIterator<K> for OrderedSet<K> {
    fn from_iter<I: IntoIterator<Item = K>>(keys: I) -> Self {
        let mut set = Self::new();
        set.extend(keys);
        set
    }
}

impl<K> IntoIterator for OrderedSet<K> {
    type Item = K;
    type IntoIter = core::iter::Map<super::IntoEntries<K, ()>, fn((K, ())) -> K>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().map(|(key, ())| key)
    }
}
