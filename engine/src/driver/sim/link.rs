//! How one direction between two hosts treats what is sent over it. Not inside: the hosts and their sockets.

use std::time::Duration;

use corewire_proto::time::Instant;

use super::rng::Dice;

/// The properties of one direction of a link. Probabilities are per datagram, 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// The time from the end of the sending to the arrival.
    pub delay: Duration,
    /// Up to this much is added to each delay. Jitter alone does not reorder.
    pub jitter: Duration,
    /// The datagram vanishes.
    pub loss: f64,
    /// The datagram arrives twice.
    pub duplicate: f64,
    /// The datagram is late by up to [`reorder_by`](Self::reorder_by) and lets others pass.
    pub reorder: f64,
    /// How late a reordered datagram can be.
    pub reorder_by: Duration,
    /// One to three bits are flipped.
    pub corrupt: f64,
    /// The end is cut off.
    pub truncate: f64,
    /// How fast the link is; `None` takes no time.
    pub bytes_per_second: Option<u64>,
    /// How much may wait before the link when it is slower than its senders; what comes then is dropped.
    pub queue_bytes: u64,
    /// Datagrams with a larger payload vanish.
    pub mtu_bytes: usize,
    /// Their sender is told, as by a router that sends ICMP.
    pub reports_mtu: bool,
}

impl Link {
    /// 20 µs, and nothing goes wrong.
    pub const CLEAN: Self = Self {
        delay: Duration::from_micros(20),
        jitter: Duration::ZERO,
        loss: 0.0,
        duplicate: 0.0,
        reorder: 0.0,
        reorder_by: Duration::ZERO,
        corrupt: 0.0,
        truncate: 0.0,
        bytes_per_second: None,
        queue_bytes: 1 << 20,
        mtu_bytes: 65_535,
        reports_mtu: false,
    };
}

impl Default for Link {
    fn default() -> Self {
        Self::CLEAN
    }
}

/// What became of a datagram on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkFate {
    Lost,
    TooLarge,
    QueueFull,
    Arrives { first: Arrival, second: Option<Arrival> },
}

/// When and how one copy arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) at: Instant,
    pub(super) reordered: bool,
    pub(super) corrupt: bool,
    pub(super) truncate: bool,
}

/// One direction between two hosts, with its state.
#[derive(Clone, Debug)]
pub(super) struct LinkDirection {
    pub(super) link: Link,
    pub(super) cut: bool,
    pub(super) dice: Dice,
    /// When the last byte of what was sent so far has left.
    idle_from: Instant,
    /// The latest arrival in order.
    last_arrival: Instant,
}

impl LinkDirection {
    pub(super) fn new(link: Link, dice: Dice) -> Self {
        Self { link, cut: false, dice, idle_from: Instant::ZERO, last_arrival: Instant::ZERO }
    }

    /// Sends `bytes` over the link now.
    pub(super) fn carry(&mut self, now: Instant, bytes: usize) -> LinkFate {
        if bytes > self.link.mtu_bytes {
            return LinkFate::TooLarge;
        }
        let Some(left) = self.leave(now, bytes) else { return LinkFate::QueueFull };
        if self.dice.chance(self.link.loss) {
            return LinkFate::Lost;
        }
        let first = self.arrive(left);
        let second = self.dice.chance(self.link.duplicate).then(|| self.arrive(left));
        LinkFate::Arrives { first, second }
    }

    /// When `bytes` have left onto the link, or `None` when its queue is full.
    fn leave(&mut self, now: Instant, bytes: usize) -> Option<Instant> {
        let Some(rate) = self.link.bytes_per_second else { return Some(now) };
        let rate = u128::from(rate.max(1));
        let waiting = self.idle_from.saturating_since(now).as_nanos() * rate / 1_000_000_000;
        if waiting > u128::from(self.link.queue_bytes) {
            return None;
        }
        let nanos = bytes as u128 * 1_000_000_000 / rate;
        self.idle_from =
            self.idle_from.max(now) + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        Some(self.idle_from)
    }

    fn arrive(&mut self, left: Instant) -> Arrival {
        let at = left + self.link.delay + self.up_to(self.link.jitter);
        let reordered = self.dice.chance(self.link.reorder);
        let at = if reordered {
            at + self.up_to(self.link.reorder_by)
        } else {
            self.last_arrival = self.last_arrival.max(at);
            self.last_arrival
        };
        let corrupt = self.dice.chance(self.link.corrupt);
        let truncate = self.dice.chance(self.link.truncate);
        Arrival { at, reordered, corrupt, truncate }
    }

    fn up_to(&mut self, span: Duration) -> Duration {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        if nanos == 0 {
            Duration::ZERO
        } else {
            Duration::from_nanos(self.dice.below(nanos.saturating_add(1)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direction(link: Link) -> LinkDirection {
        LinkDirection::new(link, Dice::new(1, 1))
    }

    fn arrivals(direction: &mut LinkDirection, count: usize) -> Vec<Instant> {
        let mut at = Vec::new();
        for _ in 0..count {
            if let LinkFate::Arrives { first, .. } = direction.carry(Instant::ZERO, 100) {
                at.push(first.at);
            }
        }
        at
    }

    #[test]
    fn jitter_alone_keeps_the_order_and_reordering_does_not() {
        let mut jittery = direction(Link { jitter: Duration::from_millis(1), ..Link::CLEAN });
        assert!(arrivals(&mut jittery, 200).is_sorted());
        let reordering = Link { reorder: 0.2, reorder_by: Duration::from_millis(1), ..Link::CLEAN };
        assert!(!arrivals(&mut direction(reordering), 200).is_sorted());
    }

    #[test]
    fn loss_comes_at_its_rate() {
        let mut lossy = direction(Link { loss: 0.25, ..Link::CLEAN });
        let arrived = arrivals(&mut lossy, 10_000).len();
        assert!((7_300..7_700).contains(&arrived), "{arrived} of 10,000 arrived");
    }

    #[test]
    fn a_slow_link_spreads_arrivals_and_drops_what_its_queue_cannot_hold() {
        let link = Link { bytes_per_second: Some(1_000_000), queue_bytes: 1_000, ..Link::CLEAN };
        let mut slow = direction(link);
        let at = arrivals(&mut slow, 50);
        // 100 bytes take 100 µs; 1,000 bytes may wait, so that 11 datagrams get through.
        assert_eq!(at.len(), 11);
        assert!(at.windows(2).all(|pair| pair[1] - pair[0] == Duration::from_micros(100)));
        assert_eq!(slow.carry(Instant::ZERO, 100), LinkFate::QueueFull);
        assert_eq!(slow.carry(Instant::ZERO, 70_000), LinkFate::TooLarge);
    }
}
