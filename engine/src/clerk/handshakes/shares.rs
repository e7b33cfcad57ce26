//! What each source may cost once the common budget of answers is used up.
//!
//! Not inside: the common budget, and the proof that a packet comes from its source (a cookie).

use std::time::Duration;

use corewire_proto::{ordered::OrderedMap, time::Instant};

use crate::clerk::bucket::TokenBucket;

/// Answers per second of one kind of sources, all of them together, and as many at once. At a quarter of a
/// millisecond each, this is an eighth of the clerk's time.
pub(super) const ANSWERS_PER_SECOND: u32 = 500;

/// Sources whose buckets are remembered. With the shares that are used here at most about a thousand can be
/// short of tokens, because each answer is paid from the budget of all: a bucket that makes room is full, or
/// nearly so.
const MAX_SOURCES: usize = 1_024;

/// The share of one source: a token bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// In which one token comes back.
    pub(super) every: Duration,
    /// The most tokens.
    pub(super) burst: u32,
}

/// The token buckets of all sources of one kind, and the budget that they have in common.
#[derive(Debug)]
pub(super) struct Shares<K> {
    share: Share,
    all: TokenBucket,
    /// When the bucket of each source is full again; without an entry it is full now. At most
    /// [`MAX_SOURCES`].
    full_at: OrderedMap<K, Instant>,
}

impl<K: Ord + Copy> Shares<K> {
    pub(super) fn new(share: Share, now: Instant) -> Self {
        Self { share, all: TokenBucket::new(ANSWERS_PER_SECOND, now), full_at: OrderedMap::new() }
    }

    /// Takes one token of the source and one of the common budget; `false`, and none is taken, when either
    /// has none.
    pub(super) fn take(&mut self, now: Instant, source: K) -> bool {
        let known = self.full_at.get(&source).copied();
        let full_at = known.unwrap_or(now).max(now) + self.share.every;
        if full_at - now > self.share.every * self.share.burst || !self.all.take(now) {
            return false;
        }
        if known.is_none() && self.full_at.len() >= MAX_SOURCES {
            self.forget_fullest();
        }
        self.full_at.insert(source, full_at);
        true
    }

    /// Makes room. The bucket that is full first gains least from being forgotten; of several, the source
    /// that is first in order.
    fn forget_fullest(&mut self) {
        let fullest = self.full_at.iter().min_by_key(|(_, at)| **at).map(|(source, _)| *source);
        if let Some(source) = fullest {
            self.full_at.remove(&source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARE: Share = Share { every: Duration::from_millis(50), burst: 50 };

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    fn taken(shares: &mut Shares<u32>, now: Instant, source: u32, tries: usize) -> usize {
        (0..tries).filter(|_| shares.take(now, source)).count()
    }

    #[test]
    fn a_source_gets_its_burst_and_then_its_rate() {
        let mut shares = Shares::new(SHARE, at(0));
        assert_eq!(taken(&mut shares, at(0), 1, 200), 50);
        assert_eq!(taken(&mut shares, at(49), 1, 10), 0);
        assert_eq!(taken(&mut shares, at(50), 1, 10), 1);
        let second: usize = (51..=1_050).map(|millis| taken(&mut shares, at(millis), 1, 10)).sum();
        assert_eq!(second, 20);
        assert_eq!(taken(&mut shares, at(1_000_000), 1, 200), 50, "no more than a burst is saved up");
    }

    #[test]
    fn one_that_floods_takes_nothing_from_another() {
        let mut shares = Shares::new(SHARE, at(0));
        for millis in 0..10_000 {
            taken(&mut shares, at(millis), 1, 5);
            if millis % 100 == 0 {
                assert!(shares.take(at(millis), 2), "at {millis} ms");
            }
        }
    }

    #[test]
    fn all_sources_share_a_budget_in_a_table_that_does_not_grow() {
        let mut shares = Shares::new(SHARE, at(0));
        let mut answers = 0;
        for millis in 0..4_000_u32 {
            let now = at(u64::from(millis));
            answers += (0..5).filter(|n| shares.take(now, millis * 5 + n)).count();
            assert!(shares.full_at.len() <= MAX_SOURCES);
        }
        assert_eq!(answers, 5 * 500 - 1, "a burst, and the rate for 3,999 ms");
        assert_eq!(shares.full_at.len(), MAX_SOURCES);
    }

    #[test]
    fn the_fullest_bucket_makes_room_and_refusals_take_no_place() {
        let mut shares = Shares::new(SHARE, at(0));
        assert_eq!(taken(&mut shares, at(0), 0, 50), 50);
        let last = u32::try_from(MAX_SOURCES).expect("small");
        shares.full_at.extend((1..last).map(|source| (source, at(100))));
        assert!(!shares.take(at(1), 0), "it is empty");
        assert!(shares.take(at(1), last));
        assert!(!shares.full_at.contains_key(&1), "of those that are equal the first in order goes");
        assert!(!shares.take(at(1), 0), "the one that is empty stays so");
        assert_eq!(shares.full_at.len(), MAX_SOURCES);
    }
}
