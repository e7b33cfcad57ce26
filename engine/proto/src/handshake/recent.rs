//! First messages that arrived lately, by their ephemeral key.
//!
//! An initiator repeats its first message until it is answered. The same bytes from the same address get the
//! same reply again, without a curve operation. Any other packet with a known ephemeral key is a replay.

use alloc::{collections::VecDeque, vec::Vec};
use core::{net::SocketAddr, time::Duration};

use super::{cookie::COOKIE_PERIOD, initiator::GIVE_UP_AFTER};
use crate::{ordered::OrderedMap, time::Instant};

/// How long a first message is remembered: as long as a cookie in it can be accepted.
const REMEMBERED_FOR: Duration = Duration::from_secs(2 * COOKIE_PERIOD.as_secs());

/// Times that one reply is repeated. An initiator does not ask more often before it gives up.
const MAX_REPEATS: u8 = 8;

#[derive(Debug)]
struct SeenMessage {
    at: Instant,
    from: SocketAddr,
    /// `None` when the message was refused.
    reply: Option<Vec<u8>>,
    /// Times that the reply was repeated.
    repeats: u8,
}

/// What is known of a first message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Lookup {
    /// It is new.
    Unknown,
    /// The initiator repeats it: it gets this reply again.
    Repeated(Vec<u8>),
    /// It is a replay, or was refused.
    Replayed,
}

/// A bounded memory: the oldest entry makes room for the newest.
#[derive(Debug)]
pub(super) struct Recent {
    seen: OrderedMap<[u8; 32], SeenMessage>,
    /// The keys of `seen`, oldest first.
    order: VecDeque<[u8; 32]>,
    /// Most entries; at least 1.
    capacity: usize,
}

impl Recent {
    pub(super) fn new(capacity: usize) -> Self {
        Self { seen: OrderedMap::new(), order: VecDeque::new(), capacity: capacity.max(1) }
    }

    /// Looks a first message up, and counts a repetition.
    pub(super) fn look_up(&mut self, now: Instant, ephemeral: &[u8; 32], from: &SocketAddr) -> Lookup {
        let Some(seen) = self.seen.get_mut(ephemeral).filter(|seen| now - seen.at < REMEMBERED_FOR) else {
            return Lookup::Unknown;
        };
        if seen.from != *from || seen.repeats >= MAX_REPEATS || now - seen.at > GIVE_UP_AFTER {
            return Lookup::Replayed;
        }
        seen.repeats += 1;
        seen.reply.clone().map_or(Lookup::Replayed, Lookup::Repeated)
    }

    /// Remembers a first message, with its reply unless it was refused.
    pub(super) fn remember(
        &mut self,
        now: Instant,
        ephemeral: [u8; 32],
        from: SocketAddr,
        reply: Option<Vec<u8>>,
    ) {
        let entry = SeenMessage { at: now, from, reply, repeats: 0 };
        if self.seen.insert(ephemeral, entry).is_none() {
            self.order.push_back(ephemeral);
            if self.order.len() > self.capacity
                && let Some(oldest) = self.order.pop_front()
            {
                self.seen.remove(&oldest);
            }
        }
    }

    /// Forgets a first message: it is decided anew when it is repeated.
    pub(super) fn forget(&mut self, ephemeral: &[u8; 32]) {
        if self.seen.remove(ephemeral).is_some() {
            self.order.retain(|key| key != ephemeral);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    fn from(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn same_sender_gets_the_same_reply_a_few_times() {
        let now = Instant::from_nanos(1);
        let mut recent = Recent::new(4);
        assert_eq!(recent.look_up(now, &[1; 32], &from(1)), Lookup::Unknown);
        recent.remember(now, [1; 32], from(1), Some(vec![7]));
        for _ in 0..MAX_REPEATS {
            assert_eq!(recent.look_up(now, &[1; 32], &from(1)), Lookup::Repeated(vec![7]));
        }
        assert_eq!(recent.look_up(now, &[1; 32], &from(1)), Lookup::Replayed);
        recent.remember(now, [2; 32], from(1), Some(vec![8]));
        assert_eq!(
            recent.look_up(now, &[2; 32], &from(2)),
            Lookup::Replayed,
            "from elsewhere it is a replay"
        );
        let late = now + GIVE_UP_AFTER + Duration::from_secs(1);
        assert_eq!(
            recent.look_up(late, &[2; 32], &from(1)),
            Lookup::Replayed,
            "no initiator waits for the reply any more"
        );
        assert_eq!(recent.look_up(now + REMEMBERED_FOR, &[2; 32], &from(1)), Lookup::Unknown);
    }

    #[test]
    fn memory_stays_within_its_capacity() {
        let mut recent = Recent::new(4);
        for n in 0..100 {
            recent.remember(Instant::ZERO, [n; 32], from(1), None);
            recent.remember(Instant::ZERO, [n; 32], from(1), None);
        }
        assert_eq!((recent.len(), recent.order.len()), (4, 4));
        assert_eq!(recent.look_up(Instant::ZERO, &[99; 32], &from(1)), Lookup::Replayed);
        assert_eq!(recent.look_up(Instant::ZERO, &[95; 32], &from(1)), Lookup::Unknown);
    }
}
