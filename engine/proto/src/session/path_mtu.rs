//! How large a packet the path carries: packetization layer path MTU discovery (RFC 8899).
//!
//! The search starts at the base size, which nearly every path carries. Its first probe, a padded PING,
//! tries the largest size: within a host that ends the search at once, and a smaller interface refuses it
//! without sending it. After that it tries the next usual size. A size that stays without an acknowledgement
//! three times ends the search for a while. When packets vanish that are larger than the base size, packets
//! go back to it at once, and the search begins anew; when those of the base size vanish, to what every IPv4
//! host takes; when those vanish too, to the smallest size.
//!
//! Not inside: loss detection (`recovery`), which reports what became of packets.

use core::time::Duration;

use super::{BASE_PACKET_BYTES, MIN_PACKET_BYTES};
use crate::{mutate, time::Instant};

/// What every IPv4 host takes (576 bytes), minus IPv4 and UDP headers.
const IPV4_PACKET_BYTES: usize = 548;
/// Sizes that packets fall back to, descending.
const STEPS: [usize; 3] = [BASE_PACKET_BYTES, IPV4_PACKET_BYTES, MIN_PACKET_BYTES];
/// Sizes of UDP payload worth a probe, ascending: radio and serial links (RFC 1191, 7.1), tunnels of IPv4
/// below 1,280 bytes, tunnels of IPv6, Ethernet (IPv6, IPv4), jumbo frames, and larger ones of loopback and
/// virtual links. The limit of the session follows in any case.
const SIZES: [usize; 20] = [
    380,
    480,
    IPV4_PACKET_BYTES,
    772,
    972,
    1_172,
    BASE_PACKET_BYTES,
    1_332,
    1_382,
    1_412,
    1_432,
    1_452,
    1_472,
    1_952,
    4_048,
    8_152,
    8_952,
    8_972,
    16_336,
    32_720,
];
/// Lost probes of one size that end the search (RFC 8899, 5.1.2).
const MAX_PROBES: u8 = 3;
/// When a search that ended is taken up again (RFC 8899, 5.1.1: PMTU_RAISE_TIMER).
const RAISE_AFTER: Duration = Duration::from_secs(600);
/// When a search that a report has bounded is taken up again; doubles with each report up to [`RAISE_AFTER`].
/// A report may be forged, a probe shows what is true.
const DOUBT_AFTER: Duration = Duration::from_secs(5);
/// Large packets lost in a row, while smaller ones arrive, that show a black hole.
const BLACK_HOLE_LOSSES: u32 = 6;
/// Probe timeouts in a row that show one for packets above the base size.
const BLACK_HOLE_TIMEOUTS: u32 = 2;
/// Likewise for packets up to the base size, and up to what every IPv4 host takes. They pass on nearly every
/// path, so a silent peer is the likelier cause.
const BASE_TIMEOUTS: u32 = 4;
const IPV4_TIMEOUTS: u32 = 5;

/// The search.
#[derive(Debug)]
pub(super) struct PathMtu {
    /// Packets are at most this large; at least [`MIN_PACKET_BYTES`] and at most `max`.
    validated: usize,
    /// Largest size that the session may use.
    max: usize,
    /// The largest size was tried once, or the path is known to carry less.
    tried_max: bool,
    /// Sizes from here on are known not to pass, until the search begins anew; above `validated`.
    fails_from: usize,
    /// Probes of the next size that were lost.
    lost_probes: u8,
    /// Packet number and size of the probe in flight. What became of an earlier one says nothing about it.
    in_flight: Option<(u64, usize)>,
    /// When a search that ended begins anew; `None` while it goes on.
    raise_at: Option<Instant>,
    /// For how long the next report bounds the search.
    report_for: Duration,
    /// The smallest size that reports refused, until a packet of it has arrived.
    reported: usize,
    /// Packets lost since one of their size arrived.
    large_losses: u32,
    /// Size of the smallest of them.
    lost_size: usize,
}

impl PathMtu {
    pub(super) const fn new(max: usize) -> Self {
        Self {
            validated: BASE_PACKET_BYTES,
            max,
            tried_max: false,
            fails_from: usize::MAX,
            lost_probes: 0,
            in_flight: None,
            raise_at: None,
            report_for: DOUBT_AFTER,
            reported: usize::MAX,
            large_losses: 0,
            lost_size: usize::MAX,
        }
    }

    /// Largest packet that may be sent now, in bytes.
    pub(super) const fn packet_bytes(&self) -> usize {
        self.validated
    }

    /// Packets cannot be smaller.
    pub(super) const fn is_smallest(&self) -> bool {
        self.validated <= MIN_PACKET_BYTES
    }

    /// The next size to try.
    fn candidate(&self) -> Option<usize> {
        let at_once = !self.tried_max && self.max < self.fails_from;
        let usual = SIZES.into_iter().find(|size| *size > self.validated && !at_once);
        let next = usual.map_or(self.max, |size| size.min(self.max));
        (next > self.validated && next < self.fails_from).then_some(next)
    }

    /// The size of a probe that is due, if there is one.
    pub(super) fn due(&mut self, now: Instant) -> Option<usize> {
        if self.in_flight.is_some() {
            return None;
        }
        if let Some(at) = self.raise_at {
            if at > now {
                return None;
            }
            self.restart();
        }
        let next = self.candidate();
        if next.is_none() && self.fails_from != usize::MAX && self.raise_at.is_none() {
            // A report had bounded the search.
            self.end_reported(now);
        }
        next
    }

    /// A probe left.
    pub(super) const fn handle_sent(&mut self, number: u64, size: usize) {
        self.in_flight = Some((number, size));
    }

    /// The size of the probe in flight, which has ended, if packet `number` is it.
    fn take_probe(&mut self, number: u64) -> Option<usize> {
        self.in_flight.take_if(|(probe, _)| *probe == number).map(|(_, size)| size)
    }

    /// The probe that went for the largest size at once did not arrive: the usual sizes come first.
    fn give_up_max(&mut self, size: usize) -> bool {
        size == self.max && !core::mem::replace(&mut self.tried_max, true)
    }

    /// A probe arrived. Returns whether packets may be larger now.
    pub(super) fn handle_probe_acked(&mut self, number: u64) -> bool {
        let Some(size) = self.take_probe(number) else { return false };
        let larger = size > self.validated && size < self.fails_from;
        if larger {
            if size >= self.reported {
                // The report was not true.
                (self.reported, self.report_for) = (usize::MAX, DOUBT_AFTER);
            }
            (self.validated, self.lost_probes) = (size, 0);
            self.forget_losses();
        }
        larger
    }

    /// A probe was lost.
    pub(super) fn handle_probe_lost(&mut self, now: Instant, number: u64) {
        let Some(size) = self.take_probe(number) else { return };
        if self.give_up_max(size) {
            return;
        }
        self.lost_probes += 1;
        if self.lost_probes >= MAX_PROBES {
            self.end_search(now, size);
        }
    }

    fn end_search(&mut self, now: Instant, fails_from: usize) {
        (self.fails_from, self.lost_probes) = (fails_from, 0);
        self.raise_at = Some(now + RAISE_AFTER);
    }

    fn end_reported(&mut self, now: Instant) {
        self.end_search(now, self.fails_from);
        self.raise_at = Some(now + self.report_for);
        self.report_for = (self.report_for * 2).min(RAISE_AFTER);
    }

    const fn restart(&mut self) {
        (self.fails_from, self.lost_probes, self.raise_at) = (usize::MAX, 0, None);
    }

    /// A packet of `size` that was no probe arrived.
    pub(super) const fn handle_acked(&mut self, size: usize) {
        if size >= self.lost_size {
            self.forget_losses();
        }
    }

    const fn forget_losses(&mut self) {
        (self.large_losses, self.lost_size) = (0, usize::MAX);
    }

    /// `count` packets of `size` bytes or more were lost, and of those sent later only smaller ones arrived.
    /// Returns whether packets have to be smaller now.
    pub(super) fn handle_lost(&mut self, count: u32, size: usize) -> bool {
        if count == 0 {
            return false;
        }
        self.large_losses = self.large_losses.saturating_add(count);
        self.lost_size = self.lost_size.min(size);
        self.large_losses >= BLACK_HOLE_LOSSES && self.fall_back()
    }

    /// `count` probe timeouts in a row passed without an acknowledgement. Returns whether packets have to be
    /// smaller now.
    pub(super) fn handle_timeouts(&mut self, count: u32) -> bool {
        let enough = if self.validated <= IPV4_PACKET_BYTES {
            IPV4_TIMEOUTS
        } else if self.validated <= BASE_PACKET_BYTES {
            BASE_TIMEOUTS
        } else {
            BLACK_HOLE_TIMEOUTS
        };
        count >= enough && self.fall_back()
    }

    /// A host or router refused a packet of `size` as too large. Returns whether packets have to be smaller
    /// now.
    pub(super) fn handle_too_large(&mut self, now: Instant, size: usize) -> bool {
        if size <= MIN_PACKET_BYTES {
            return false;
        }
        if self.in_flight.is_some_and(|(_, probe)| probe >= size) {
            self.in_flight = None;
        }
        self.reported = self.reported.min(size);
        let mut smaller = false;
        while size <= self.validated && self.fall_back() {
            smaller = true;
        }
        if size < self.fails_from {
            self.fails_from = size;
        }
        if self.candidate().is_none() && self.raise_at.is_none() {
            self.end_reported(now);
        }
        smaller
    }

    fn fall_back(&mut self) -> bool {
        let steps = mutate!(&STEPS[..], "base-size-trusted" => &STEPS[..1]);
        let next = steps.iter().copied().find(|size| *size < self.validated);
        let next = mutate!(next, "black-hole-unseen" => None);
        if let Some(next) = next {
            self.tried_max = true;
            self.validated = next;
            self.restart();
        }
        self.forget_losses();
        next.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(second)
    }

    /// Probes until none is due; sizes up to `mtu` arrive.
    fn search(path: &mut PathMtu, now: Instant, mtu: usize) -> u32 {
        let mut probes = 0;
        while let Some(size) = path.due(now) {
            probes += 1;
            path.handle_sent(0, size);
            assert_eq!(path.due(now), None, "one probe at a time");
            if size <= mtu {
                assert!(path.handle_probe_acked(0));
            } else {
                path.handle_probe_lost(now, 0);
            }
        }
        probes
    }

    #[test]
    fn search_finds_usual_sizes_and_ends_after_three_lost_probes() {
        for (mtu, found) in [(1_232, 1_232), (1_472, 1_472), (8_972, 8_972), (9_100, 8_972), (65_507, 65_507)]
        {
            let mut path = PathMtu::new(65_507);
            assert_eq!(path.packet_bytes(), BASE_PACKET_BYTES);
            assert!(search(&mut path, at(0), mtu) <= 16);
            assert_eq!(path.packet_bytes(), found);
        }
        let mut limited = PathMtu::new(1_400);
        search(&mut limited, at(0), 65_507);
        assert_eq!(limited.packet_bytes(), 1_400);
        let mut smallest = PathMtu::new(BASE_PACKET_BYTES);
        assert_eq!(smallest.due(at(0)), None);
    }

    #[test]
    fn first_probe_tries_the_largest_size_and_its_loss_ends_nothing() {
        let mut path = PathMtu::new(65_507);
        assert_eq!(path.due(at(0)), Some(65_507));
        assert_eq!(search(&mut path, at(0), 65_507), 1);
        assert_eq!(path.packet_bytes(), 65_507);

        let mut path = PathMtu::new(65_507);
        path.handle_sent(0, 65_507);
        path.handle_probe_lost(at(0), 0);
        assert_eq!(path.due(at(0)), Some(1_332));
        search(&mut path, at(0), 65_507);
        assert_eq!(path.packet_bytes(), 65_507, "it was lost by chance");

        let mut path = PathMtu::new(65_507);
        path.handle_sent(0, 65_507);
        assert!(!path.handle_too_large(at(0), 65_507));
        assert_eq!(path.due(at(0)), Some(1_332));
    }

    #[test]
    fn fate_of_an_earlier_probe_says_nothing_about_the_one_in_flight() {
        let mut path = PathMtu::new(65_507);
        path.handle_sent(0, 65_507);
        assert!(!path.handle_too_large(at(0), 65_507), "the interface refused it");
        path.handle_sent(5, 1_332);
        path.handle_probe_lost(at(0), 0);
        assert_eq!(path.due(at(0)), None, "the second is still in flight");
        assert!(path.handle_probe_acked(5) && path.packet_bytes() == 1_332);
        path.handle_sent(21, 1_382);
        assert!(!path.handle_probe_acked(20) && path.packet_bytes() == 1_332);
    }

    #[test]
    fn search_is_taken_up_again_after_ten_minutes() {
        let mut path = PathMtu::new(9_000);
        search(&mut path, at(0), 1_472);
        assert_eq!(path.due(at(599)), None);
        assert_eq!(search(&mut path, at(600), 1_472), 3);
        search(&mut path, at(1_200), 9_000);
        assert_eq!(path.packet_bytes(), 9_000);
    }

    #[test]
    fn vanishing_large_packets_lead_back_to_the_smallest_size() {
        let mut path = PathMtu::new(9_000);
        search(&mut path, at(0), 9_000);
        for _ in 0..5 {
            assert!(!path.handle_lost(1, 9_000));
        }
        path.handle_acked(9_000);
        assert!((0..5).all(|_| !path.handle_lost(1, 9_000)));
        path.handle_acked(200);
        assert!(path.handle_lost(1, 9_000), "small ones arrive, large ones do not");
        assert_eq!(path.packet_bytes(), BASE_PACKET_BYTES);
        assert_eq!(path.due(at(0)), Some(1_332), "the search begins anew");

        search(&mut path, at(0), 9_000);
        assert!(!path.handle_timeouts(1) && path.handle_timeouts(2) && !path.handle_timeouts(3));
        assert_eq!(path.packet_bytes(), BASE_PACKET_BYTES);
    }

    #[test]
    fn refused_size_bounds_the_search_at_once() {
        let mut path = PathMtu::new(65_507);
        path.handle_sent(0, 1_452);
        assert!(!path.handle_too_large(at(0), 1_452));
        search(&mut path, at(0), 65_507);
        assert_eq!(path.packet_bytes(), 1_432);
        assert_eq!(path.due(at(1)), None);
        assert_eq!(path.due(at(601)), Some(65_507), "the search is taken up again");
        assert!(path.handle_too_large(at(1), 1_400));
        assert_eq!(path.packet_bytes(), BASE_PACKET_BYTES);
        search(&mut path, at(1), 65_507);
        assert_eq!(path.packet_bytes(), 1_382);
        assert!(!path.handle_too_large(at(2), 100), "every path carries it");
    }

    #[test]
    fn report_that_is_not_true_holds_for_seconds_and_one_that_is_for_longer() {
        let mut path = PathMtu::new(1_452);
        search(&mut path, at(0), 1_452);
        for n in 1..10 {
            assert!(path.handle_too_large(at(n * 10), 549));
            assert_eq!((path.packet_bytes(), path.due(at(n * 10 + 4))), (548, None));
            search(&mut path, at(n * 10 + 5), 1_452);
            assert_eq!(path.packet_bytes(), 1_452, "report {n}");
        }

        let mut path = PathMtu::new(1_452);
        let mut asked = 0;
        for second in 0..3_600 {
            while let Some(size) = path.due(at(second)) {
                asked += 1;
                path.handle_sent(second, size);
                if size > 1_400 {
                    path.handle_too_large(at(second), size);
                } else {
                    path.handle_probe_acked(second);
                }
            }
        }
        assert_eq!(path.packet_bytes(), 1_382);
        assert!(asked < 60, "{asked} probes in an hour");
    }

    #[test]
    fn path_below_the_base_size_is_used_up_to_its_size() {
        for (mtu, found) in [(548, 548), (700, 548), (972, 972), (1_172, 1_172), (1_231, 1_172)] {
            for refused in [true, false] {
                let mut path = PathMtu::new(65_507);
                if refused {
                    assert!(path.handle_too_large(at(0), BASE_PACKET_BYTES));
                } else {
                    assert!(!path.handle_timeouts(3) && path.handle_timeouts(4) && !path.handle_timeouts(4));
                }
                assert_eq!(path.packet_bytes(), IPV4_PACKET_BYTES);
                assert!(search(&mut path, at(0), mtu) <= 6);
                assert_eq!(path.packet_bytes(), found);
                assert_eq!(path.due(at(1)), None);
            }
        }
        for (mtu, found) in [(288, 288), (379, 288), (380, 380), (500, 480), (547, 480)] {
            for refused in [true, false] {
                let mut path = PathMtu::new(65_507);
                if refused {
                    assert!(path.handle_too_large(at(0), IPV4_PACKET_BYTES));
                } else {
                    assert!(path.handle_timeouts(4) && path.handle_timeouts(5));
                }
                assert_eq!(path.packet_bytes(), MIN_PACKET_BYTES);
                assert!(search(&mut path, at(0), mtu) <= 5);
                assert_eq!(path.packet_bytes(), found);
            }
        }
    }

    #[test]
    fn path_that_shrinks_below_the_base_size_is_noticed_in_steps() {
        let mut path = PathMtu::new(1_452);
        search(&mut path, at(0), 1_452);
        for bytes in STEPS {
            for _ in 1..6 {
                assert!(!path.handle_lost(1, 520));
                path.handle_acked(400);
            }
            assert!(path.handle_lost(1, 500), "none of five hundred bytes arrives");
            assert_eq!(path.packet_bytes(), bytes);
        }
        assert!(!path.handle_lost(6, 500) && !path.handle_timeouts(9), "it is the smallest");

        // A router names a size far below the one in use.
        let mut path = PathMtu::new(1_452);
        search(&mut path, at(0), 1_452);
        assert!(path.handle_too_large(at(0), 973));
        search(&mut path, at(0), 1_452);
        assert_eq!(path.packet_bytes(), 972);
    }
}
