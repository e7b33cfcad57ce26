//! Which sent packets arrived and which were lost: RFC 9002, section 6.
//!
//! Not inside: what follows from it. The frames of acknowledged and lost packets are handed to the session.

use alloc::collections::VecDeque;
use core::time::Duration;

use super::{MIN_PACKET_BYTES, rtt::Rtt};
use crate::{channel::SentFrame, mutate, time::Instant, wire::frames::Ack};

/// A packet is lost when one sent this much later arrived (RFC 9002, 6.1.1).
const PACKET_THRESHOLD: u64 = 3;
/// Everything that was sent over this many probe timeouts was lost: the congestion controller starts over
/// (RFC 9002, 7.6).
const PERSISTENT_TIMEOUTS: u32 = 3;
/// The peer's delay of acknowledgements that is believed before the peer has declared its own (RFC 9000,
/// 18.2).
const UNDECLARED_ACK_DELAY: Duration = Duration::from_millis(25);
/// The longest delay that a peer may declare: longer ones only slow down its own resends.
const MAX_ACK_DELAY: Duration = Duration::from_secs(1);
/// Debug builds sum up the bytes of so many packets.
const CHECKED_PACKETS: usize = 256;
/// Numbers left out that are remembered.
const SKIPPED_NUMBERS: usize = 16;
/// Packets that ask for no acknowledgement of which the time is remembered. An acknowledgement whose highest
/// number is older than these gives no round trip.
const UNTRACKED_PACKETS: usize = 8;
/// The probe timeout doubles up to this, so that a path that heals is noticed within a second.
const MAX_PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// A packet that asks for an acknowledgement. Others are not tracked.
#[derive(Debug)]
struct SentPacket {
    number: u64,
    at: Instant,
    bytes: u32,
    /// Its frames are `frames[first_frame - frames_base..][..frame_count]`.
    first_frame: u64,
    frame_count: u32,
    /// Its ACK frame covered the peer's packets up to this number; 0 when it had none.
    acked_to: u64,
    acked: bool,
    /// A probe handed its frames out as [`FrameFate::Probed`].
    requeued: bool,
    /// A padded PING that tries a size: its loss says nothing about congestion.
    path_probe: bool,
}

/// What tracking a packet costs, for [`super::SessionConfig::memory_bound`].
pub(super) const SENT_PACKET_BYTES: usize = size_of::<SentPacket>();

/// What an acknowledgement or a timer brought to light.
#[derive(Debug, Default)]
pub(super) struct RecoveryOutcome {
    /// Bytes in flight before.
    pub(super) in_flight_before: u64,
    /// Bytes newly acknowledged of this path.
    pub(super) acked_bytes: u64,
    /// When the youngest newly acknowledged packet was sent.
    pub(super) youngest_acked: Option<Instant>,
    /// The peer has seen acknowledgements of its packets up to this number.
    pub(super) acked_to: u64,
    /// Packets newly lost, on this path or an earlier one.
    pub(super) lost: u64,
    /// When the youngest packet newly lost on this path was sent.
    pub(super) youngest_lost: Option<Instant>,
    /// The youngest packet newly acknowledged that tried a size.
    pub(super) path_probe_acked: Option<u64>,
    /// The youngest packet newly lost that tried a size.
    pub(super) path_probe_lost: Option<u64>,
    /// Size of the largest packet newly acknowledged.
    pub(super) acked_size: usize,
    /// Packets newly lost that were larger than the smallest size and than any that arrived of those sent
    /// later.
    pub(super) large_lost: u32,
    /// Size of the smallest of them.
    pub(super) large_lost_size: usize,
    /// Acknowledgements show that everything over several probe timeouts was lost.
    pub(super) persistent: bool,
    /// The probe timer fired: a packet may leave even if the window is full.
    pub(super) probe: bool,
}

/// What became of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FrameFate {
    /// It arrived.
    Acked,
    /// An acknowledgement shows that it is lost: it is to be sent again, if it still matters.
    Lost,
    /// It is to be sent again likewise, because a probe timer fired: it may have arrived.
    Probed,
    /// An acknowledgement shows that it is lost. It was handed out as `Probed` before.
    ProbedLost,
}

impl FrameFate {
    /// Whether it is to be sent again.
    pub(super) const fn sends_again(self) -> bool {
        matches!(self, Self::Lost | Self::Probed)
    }
}

/// An ACK frame names a packet that was never sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct AckOfUnsent;

/// The packets in flight.
#[derive(Debug)]
pub(super) struct Recovery {
    /// By ascending number, from the oldest packet whose fate is open.
    sent: VecDeque<SentPacket>,
    /// The frames of all packets in `sent`, in order, and those of the packet being filled.
    frames: VecDeque<SentFrame>,
    /// Absolute number of `frames[0]`.
    frames_base: u64,
    /// Bytes of the packets in `sent` that are not acknowledged, without those of an earlier path.
    in_flight: u64,
    /// Packets below this number went another path: their fate says nothing about this one (RFC 9000, 9.4).
    path_from: u64,
    largest_acked: Option<u64>,
    pub(super) rtt: Rtt,
    /// When the oldest packet counts as lost for its age.
    loss_at: Option<Instant>,
    /// When a probe is due; set while a packet waits for its acknowledgement.
    probe_at: Option<Instant>,
    /// Probes in a row without an acknowledgement.
    pub(super) probe_count: u32,
    /// Packets that may leave even if the window is full.
    pub(super) probes_due: u32,
    /// How long the peer may wait before it acknowledges: as it declared, or as this side does.
    ack_delay: Duration,
    /// As much of the delay that an ACK names is believed.
    believed_delay: Duration,
    /// When the first of the latest packets that were all lost was sent.
    lost_since: Option<Instant>,
    /// When the round trip was first measured.
    measured_at: Option<Instant>,
    /// The latest numbers that were left out, at most [`SKIPPED_NUMBERS`].
    skipped: VecDeque<u64>,
    /// Number and time of the latest packets that are not tracked, at most [`UNTRACKED_PACKETS`]: the round
    /// trip is that of the highest number acknowledged, which may be one of them.
    untracked: VecDeque<(u64, Instant)>,
}

impl Recovery {
    pub(super) fn new(initial_rtt: Duration, ack_delay: Duration, granularity: Duration) -> Self {
        Self {
            sent: VecDeque::new(),
            frames: VecDeque::new(),
            frames_base: 0,
            in_flight: 0,
            path_from: 0,
            largest_acked: None,
            rtt: Rtt::new(initial_rtt, granularity),
            loss_at: None,
            probe_at: None,
            probe_count: 0,
            probes_due: 0,
            ack_delay,
            believed_delay: UNDECLARED_ACK_DELAY,
            lost_since: None,
            measured_at: None,
            skipped: VecDeque::with_capacity(SKIPPED_NUMBERS),
            untracked: VecDeque::with_capacity(UNTRACKED_PACKETS),
        }
    }

    /// From the packet with the number `next` on the path is another one, of which nothing is known.
    pub(super) fn forget_path(&mut self, now: Instant, initial_rtt: Duration, next: u64) {
        self.rtt = Rtt::new(initial_rtt, self.rtt.granularity);
        (self.lost_since, self.measured_at) = (None, None);
        (self.path_from, self.in_flight, self.probe_count) = (next, 0, 0);
        self.untracked.clear();
        self.arm_probe(now);
    }

    /// The peer has declared how long it may wait before it acknowledges.
    pub(super) fn declare_ack_delay(&mut self, delay: Duration) {
        self.ack_delay = delay.min(MAX_ACK_DELAY);
        self.believed_delay = self.ack_delay;
    }

    pub(super) const fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Whether a packet waits for its acknowledgement.
    pub(super) fn is_waiting(&self) -> bool {
        // The front is never an acknowledged packet.
        !self.sent.is_empty()
    }

    /// Packets that are tracked.
    pub(super) fn packets(&self) -> usize {
        self.sent.len()
    }

    /// Where the frames of the next packet are recorded.
    pub(super) fn frames(&mut self) -> &mut VecDeque<SentFrame> {
        &mut self.frames
    }

    /// The number of the oldest packet whose fate is open.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.sent.front().map(|sent| sent.number)
    }

    /// The time after which a packet without an acknowledgement is probed for.
    pub(super) fn timeout(&self) -> Duration {
        self.rtt.probe_timeout(self.ack_delay)
    }

    fn arm_probe(&mut self, from: Instant) {
        self.probe_at = self.is_waiting().then(|| {
            let timeout = self.timeout();
            let backoff = timeout.saturating_mul(1 << self.probe_count.min(16));
            from + backoff.min(MAX_PROBE_TIMEOUT.max(timeout))
        });
    }

    /// A packet was sent, with the last `new_frames` of the recorded frames.
    pub(super) fn handle_sent(
        &mut self,
        now: Instant,
        number: u64,
        bytes: usize,
        new_frames: usize,
        acked_to: u64,
        path_probe: bool,
    ) {
        debug_assert!(self.sent.back().is_none_or(|last| last.number < number), "numbers ascend");
        let end = self.frames_base + self.frames.len() as u64;
        self.in_flight += bytes as u64;
        self.sent.push_back(SentPacket {
            number,
            at: now,
            bytes: bytes as u32,
            first_frame: end - new_frames as u64,
            frame_count: new_frames as u32,
            acked_to,
            acked: false,
            requeued: false,
            path_probe,
        });
        self.probes_due = self.probes_due.saturating_sub(1);
        self.arm_probe(now);
    }

    /// A packet was sent that asks for no acknowledgement.
    pub(super) fn handle_untracked(&mut self, now: Instant, number: u64) {
        if self.untracked.len() == UNTRACKED_PACKETS {
            self.untracked.pop_front();
        }
        self.untracked.push_back((number, now));
    }

    /// No packet has this number, which follows the last.
    pub(super) fn handle_skipped(&mut self, number: u64) {
        if self.skipped.len() == SKIPPED_NUMBERS {
            self.skipped.pop_front();
        }
        self.skipped.push_back(number);
    }

    /// An ACK frame arrived. `next`: the number of the next packet.
    pub(super) fn handle_ack(
        &mut self,
        now: Instant,
        ack: &Ack<'_>,
        next: u64,
        fate: &mut impl FnMut(FrameFate, SentFrame),
    ) -> Result<RecoveryOutcome, AckOfUnsent> {
        let unsent = |(low, high)| self.skipped.iter().any(|skipped| (low..=high).contains(skipped));
        let invented = mutate!(ack.ranges().any(unsent), "skipped-numbers-acked" => false);
        if ack.largest >= next || invented {
            return Err(AckOfUnsent);
        }
        let mut outcome = RecoveryOutcome { in_flight_before: self.in_flight, ..RecoveryOutcome::default() };
        let mut largest_sent_at = None;
        for (low, high) in ack.ranges() {
            let from = self.sent.partition_point(|sent| sent.number < low);
            if self.sent.front().is_none_or(|front| high < front.number) {
                break;
            }
            for index in from..self.sent.len() {
                let sent = &mut self.sent[index];
                if sent.number > high {
                    break;
                }
                if sent.acked {
                    continue;
                }
                sent.acked = true;
                outcome.acked_to = outcome.acked_to.max(sent.acked_to);
                if sent.number >= self.path_from {
                    self.in_flight -= u64::from(sent.bytes);
                    outcome.acked_bytes += u64::from(sent.bytes);
                    outcome.youngest_acked = outcome.youngest_acked.max(Some(sent.at));
                    if sent.path_probe {
                        outcome.path_probe_acked = outcome.path_probe_acked.max(Some(sent.number));
                    } else {
                        outcome.acked_size = outcome.acked_size.max(sent.bytes as usize);
                    }
                    if sent.number == ack.largest {
                        largest_sent_at = Some(sent.at);
                    }
                }
                let (first, count) = (sent.first_frame, sent.frame_count);
                self.each_frame(first, count, |frame| fate(FrameFate::Acked, frame));
            }
        }
        if self.largest_acked < Some(ack.largest) && outcome.acked_bytes > 0 {
            // RFC 9002, 5.1: any of the packets newly acknowledged asked for it.
            let untracked = || self.untracked.iter().find(|(number, _)| *number == ack.largest);
            largest_sent_at = largest_sent_at.or_else(|| untracked().map(|(_, at)| *at));
        }
        let is_highest = self.largest_acked <= Some(ack.largest);
        self.largest_acked = self.largest_acked.max(Some(ack.largest));
        // The delay is that of the highest number of all.
        if let Some(at) = largest_sent_at.filter(|_| is_highest) {
            let delay = Duration::from_nanos(u64::from(ack.delay_ns));
            let delay = mutate!(delay.min(self.believed_delay), "any-ack-delay-believed" => delay);
            self.rtt.update(now - at, delay);
            self.measured_at.get_or_insert(now);
        }
        if outcome.acked_bytes > 0 {
            self.probe_count = 0;
            self.probes_due = 0;
        }
        self.detect_lost(now, &mut outcome, fate);
        let settled = outcome.acked_bytes > 0 || outcome.lost > 0 || outcome.path_probe_lost.is_some();
        if settled || !self.is_waiting() {
            let last = self.sent.back().map_or(now, |sent| sent.at);
            // Never in the past: a probe that is overdue leaves a granule from now.
            self.arm_probe(last);
            self.probe_at = self.probe_at.map(|at| at.max(now + self.rtt.granularity));
        }
        Ok(outcome)
    }

    fn each_frame(&self, first: u64, count: u32, mut each: impl FnMut(SentFrame)) {
        let start = (first - self.frames_base) as usize;
        for frame in self.frames.range(start..start + count as usize) {
            each(*frame);
        }
    }

    /// Declares packets lost that later ones overtook, by count or by time; forgets those whose fate is
    /// known.
    fn detect_lost(
        &mut self,
        now: Instant,
        outcome: &mut RecoveryOutcome,
        fate: &mut impl FnMut(FrameFate, SentFrame),
    ) {
        self.loss_at = None;
        let delay = self.rtt.loss_delay();
        let largest = self.largest_acked;
        let mut passed = None;
        while let Some(front) = self.sent.front() {
            if !front.acked {
                let Some(largest) = largest.filter(|largest| front.number <= *largest) else { break };
                let lost_at = front.at + delay;
                if largest - front.number < PACKET_THRESHOLD && lost_at > now {
                    self.loss_at = Some(lost_at);
                    break;
                }
            }
            let Some(sent) = self.sent.pop_front() else { break };
            let start = (sent.first_frame - self.frames_base) as usize;
            let this_path = sent.number >= self.path_from;
            if sent.acked {
                self.lost_since = None;
            } else {
                if !this_path {
                    outcome.lost += 1;
                } else if sent.path_probe {
                    self.in_flight -= u64::from(sent.bytes);
                    outcome.path_probe_lost = outcome.path_probe_lost.max(Some(sent.number));
                } else {
                    self.in_flight -= u64::from(sent.bytes);
                    outcome.persistent |= self.note_lost(sent.at);
                    outcome.lost += 1;
                    outcome.youngest_lost = outcome.youngest_lost.max(Some(sent.at));
                    let size = sent.bytes as usize;
                    if size > MIN_PACKET_BYTES && size > self.passed_size(&mut passed) {
                        outcome.large_lost_size =
                            if outcome.large_lost == 0 { size } else { size.min(outcome.large_lost_size) };
                        outcome.large_lost += 1;
                    }
                }
                let lost = if sent.requeued { FrameFate::ProbedLost } else { FrameFate::Lost };
                self.each_frame(sent.first_frame, sent.frame_count, |frame| fate(lost, frame));
            }
            // The oldest packet's frames are the oldest frames.
            let gone = start + sent.frame_count as usize;
            self.frames.drain(..gone);
            self.frames_base += gone as u64;
        }
        let open = |sent: &&SentPacket| !sent.acked && sent.number >= self.path_from;
        let sum = || self.sent.iter().filter(open).map(|sent| u64::from(sent.bytes)).sum::<u64>();
        debug_assert!(
            self.sent.len() > CHECKED_PACKETS || self.in_flight == sum(),
            "bytes in flight are the sum over packets in flight"
        );
    }

    /// Size of the largest packet in `sent` that arrived. `passed` keeps its number and size while packets
    /// are only taken from the front.
    fn passed_size(&self, passed: &mut Option<(u64, usize)>) -> usize {
        let front = self.sent.front().map_or(u64::MAX, |sent| sent.number);
        let (_, size) = passed.filter(|(number, _)| *number >= front).unwrap_or_else(|| {
            let arrived = self.sent.iter().filter(|sent| sent.acked && !sent.path_probe);
            let largest =
                arrived.map(|sent| (sent.number, sent.bytes as usize)).max_by_key(|(_, size)| *size);
            *passed.insert(largest.unwrap_or((u64::MAX, 0)))
        });
        size
    }

    /// A packet sent at `at` is lost, like all from `lost_since` on. Returns whether that is persistent
    /// congestion: packets sent so far apart, after the round trip was known, and none between them arrived.
    fn note_lost(&mut self, at: Instant) -> bool {
        if self.measured_at.is_none_or(|measured| at <= measured) {
            return false;
        }
        let since = *self.lost_since.get_or_insert(at);
        let persistent = at - since >= self.timeout() * PERSISTENT_TIMEOUTS;
        if persistent {
            self.lost_since = None;
        }
        persistent
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match (self.loss_at, self.probe_at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// A timer may have fired.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        fate: &mut impl FnMut(FrameFate, SentFrame),
    ) -> RecoveryOutcome {
        let mut outcome = RecoveryOutcome { in_flight_before: self.in_flight, ..RecoveryOutcome::default() };
        if self.loss_at.is_some_and(|at| at <= now) {
            self.detect_lost(now, &mut outcome, fate);
            self.arm_probe(now);
            return outcome;
        }
        if self.probe_at.is_none_or(|at| at > now) {
            return outcome;
        }
        outcome.probe = true;
        self.probe_count += 1;
        outcome.persistent = mutate!(false, "timeouts-collapse-window" => self.probe_count >= 2);
        self.probes_due = 1;
        self.arm_probe(now);
        // The oldest packet is most likely lost: its content is sent again, before it is declared lost.
        if let Some(index) = self.sent.iter().position(|sent| !sent.acked && !sent.requeued) {
            self.sent[index].requeued = true;
            let (first, count) = (self.sent[index].first_frame, self.sent[index].frame_count);
            self.each_frame(first, count, |frame| fate(FrameFate::Probed, frame));
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frames::{Frame, Frames, Out};

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(1_000 + ms)
    }

    fn recovery() -> Recovery {
        Recovery::new(Duration::from_millis(10), Duration::from_millis(1), Duration::from_micros(100))
    }

    fn ack(recovery: &mut Recovery, now: Instant, delay: Duration, range: (u64, u64)) -> RecoveryOutcome {
        let mut buf = [0; 64];
        let mut out = Out::new(&mut buf);
        assert_eq!(out.put_ack(0, delay.as_nanos() as u32, [range].into_iter()), 1);
        let written = out.written();
        let Some(Ok(Frame::Ack(ack))) = Frames::new(&buf[..written]).next() else { panic!("an ACK") };
        recovery.handle_ack(now, &ack, 1_000, &mut |_, _| {}).unwrap()
    }

    /// Sends packets 1 to 5 over 400 ms while every probe stays unanswered.
    fn silence(recovery: &mut Recovery) {
        recovery.handle_sent(at(0), 0, 100, 0, 0, false);
        ack(recovery, at(10), Duration::ZERO, (0, 0));
        for number in 1..=5 {
            let now = at(number * 100);
            recovery.handle_sent(now, number, 100, 0, 0, false);
            let outcome = recovery.handle_timeout(now + Duration::from_millis(90), &mut |_, _| {});
            assert!(!outcome.persistent && outcome.lost == 0, "a timer is no evidence");
        }
        assert!(recovery.probe_count > 0);
    }

    #[test]
    fn persistent_congestion_takes_an_acknowledgement_that_shows_it() {
        let mut lost = recovery();
        silence(&mut lost);
        lost.handle_sent(at(700), 6, 100, 0, 0, false);
        let outcome = ack(&mut lost, at(710), Duration::ZERO, (6, 6));
        assert!(outcome.persistent && outcome.lost == 5);

        // The peer stood still, and everything arrived.
        let mut late = recovery();
        silence(&mut late);
        late.handle_sent(at(700), 6, 100, 0, 0, false);
        let outcome = ack(&mut late, at(710), Duration::ZERO, (1, 6));
        assert!(!outcome.persistent && outcome.lost == 0);
    }

    #[test]
    fn one_arrival_between_two_losses_is_no_persistent_congestion() {
        let mut recovery = recovery();
        let mut lost = 0;
        for number in 0..=6 {
            let now = at(number * 200);
            recovery.handle_sent(now, number, 100, 0, 0, false);
            if number % 2 == 0 {
                let arrived = (number, number);
                let outcome = ack(&mut recovery, now + Duration::from_millis(10), Duration::ZERO, arrived);
                assert!(!outcome.persistent);
                lost += outcome.lost;
            }
        }
        assert_eq!(lost, 3);
    }

    #[test]
    fn acknowledgement_of_a_number_that_was_left_out_is_refused() {
        let mut recovery = recovery();
        for number in [0, 1, 3] {
            recovery.handle_sent(at(number), number, 100, 0, 0, false);
        }
        recovery.handle_skipped(2);
        let mut buf = [0; 64];
        let mut out = Out::new(&mut buf);
        assert_eq!(out.put_ack(0, 0, [(0, 3)].into_iter()), 1);
        let written = out.written();
        let Some(Ok(Frame::Ack(lie))) = Frames::new(&buf[..written]).next() else { panic!("an ACK") };
        assert!(recovery.handle_ack(at(10), &lie, 4, &mut |_, _| {}).is_err());
        assert_eq!(ack(&mut recovery, at(10), Duration::ZERO, (0, 1)).acked_bytes, 200);
        assert_eq!(ack(&mut recovery, at(10), Duration::ZERO, (3, 3)).acked_bytes, 100);
    }

    #[test]
    fn round_trip_is_measured_when_the_highest_number_asked_for_nothing() {
        let mut recovery = recovery();
        recovery.handle_sent(at(0), 0, 100, 0, 0, false);
        for number in 1..100 {
            recovery.handle_untracked(at(number), number);
        }
        assert_eq!(recovery.untracked.len(), UNTRACKED_PACKETS);
        ack(&mut recovery, at(107), Duration::ZERO, (0, 99));
        assert_eq!(recovery.rtt.measured_ns(), 8_000_000, "it is that of the last packet");
        ack(&mut recovery, at(300), Duration::ZERO, (99, 99));
        assert_eq!(recovery.rtt.measured_ns(), 8_000_000, "nothing new was acknowledged");
    }

    #[test]
    fn delay_beyond_what_the_peer_declared_counts_as_round_trip() {
        let mut recovery = recovery();
        recovery.declare_ack_delay(Duration::from_millis(2));
        recovery.handle_sent(at(0), 0, 100, 0, 0, false);
        ack(&mut recovery, at(10), Duration::ZERO, (0, 0));
        for number in 1..200 {
            let now = at(number * 100);
            recovery.handle_sent(now, number, 100, 0, 0, false);
            ack(&mut recovery, now + Duration::from_millis(60), Duration::from_millis(50), (number, number));
        }
        let smoothed = recovery.rtt.smoothed();
        assert!(smoothed > Duration::from_millis(57), "58 ms, and not 10: {smoothed:?}");
        assert!(recovery.timeout() >= smoothed + Duration::from_millis(2), "it waits for the peer's delay");
    }
}
