//! Which of our packets arrived and which were lost: RFC 9002, section 6.
//!
//! Not inside: what to do about it. The records of acknowledged and lost packets are handed to the session.

use alloc::collections::VecDeque;
use core::time::Duration;

use super::rtt::Rtt;
use crate::{channel::SentFrame, time::Instant, wire::frames::Ack};

/// A packet is lost when one sent this much later arrived (RFC 9002, 6.1.1).
const PACKET_THRESHOLD: u64 = 3;
/// Probes in a row without an answer after which the controller starts over (RFC 9002, 7.6).
pub(super) const PERSISTENT_PROBES: u32 = 3;
/// The probe timeout doubles up to this.
const MAX_PROBE_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum SentState {
    InFlight,
    Acked,
}

/// A packet that asks for an acknowledgement. Others are not remembered.
#[derive(Debug)]
struct SentPacket {
    number: u64,
    at: Instant,
    bytes: u32,
    /// Its records are `records[first_record - base..][..count]`.
    first_record: u64,
    records: u32,
    /// Up to this number of the peer's it carried an acknowledgement; 0 none (then number 0 is told again).
    acked_to: u64,
    state: SentState,
    /// A probe took its records for sending again already.
    requeued: bool,
}

/// What an acknowledgement or a timer found out.
#[derive(Debug, Default)]
pub(super) struct RecoveryOutcome {
    /// Bytes in flight before.
    pub(super) in_flight_before: u64,
    /// Newly acknowledged: bytes and when the packet was sent, summed up by the youngest.
    pub(super) acked_bytes: u64,
    pub(super) youngest_acked: Option<Instant>,
    /// The peer knows our acknowledgements up to here.
    pub(super) acked_to: u64,
    /// Packets lost, and when the youngest of them was sent.
    pub(super) lost: u64,
    pub(super) youngest_lost: Option<Instant>,
}

/// What became of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FrameFate {
    Acked,
    Lost,
}

/// Packets in flight.
#[derive(Debug)]
pub(super) struct Recovery {
    sent: VecDeque<SentPacket>,
    records: VecDeque<SentFrame>,
    /// Absolute number of `records[0]`.
    records_base: u64,
    in_flight: u64,
    largest_acked: Option<u64>,
    pub(super) rtt: Rtt,
    loss_at: Option<Instant>,
    probe_at: Option<Instant>,
    pub(super) probe_count: u32,
    /// Packets that may leave whatever the window says.
    pub(super) probes_due: u32,
    ack_delay: Duration,
}

impl Recovery {
    pub(super) fn new(initial_rtt: Duration, ack_delay: Duration) -> Self {
        Self {
            sent: VecDeque::new(),
            records: VecDeque::new(),
            records_base: 0,
            in_flight: 0,
            largest_acked: None,
            rtt: Rtt::new(initial_rtt),
            loss_at: None,
            probe_at: None,
            probe_count: 0,
            probes_due: 0,
            ack_delay,
        }
    }

    pub(super) const fn in_flight(&self) -> u64 {
        self.in_flight
    }

    pub(super) fn packets(&self) -> usize {
        self.sent.len()
    }

    /// Where the next packet's records go.
    pub(super) fn records(&mut self) -> &mut VecDeque<SentFrame> {
        &mut self.records
    }

    /// The number of the oldest packet whose fate is open.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.sent.front().map(|sent| sent.number)
    }

    pub(super) fn timeout(&self) -> Duration {
        self.rtt.probe_timeout(self.ack_delay)
    }

    fn arm_probe(&mut self, from: Instant) {
        self.probe_at = (self.in_flight > 0).then(|| {
            let timeout = self.timeout();
            let backoff = timeout.saturating_mul(1 << self.probe_count.min(16));
            from + backoff.min(MAX_PROBE_TIMEOUT.max(timeout))
        });
    }

    /// A packet left; its records are those pushed since the packet before.
    pub(super) fn handle_sent(
        &mut self,
        now: Instant,
        number: u64,
        bytes: usize,
        new_records: usize,
        acked_to: u64,
    ) {
        let end = self.records_base + self.records.len() as u64;
        self.in_flight += bytes as u64;
        self.sent.push_back(SentPacket {
            number,
            at: now,
            bytes: bytes as u32,
            first_record: end - new_records as u64,
            records: new_records as u32,
            acked_to,
            state: SentState::InFlight,
            requeued: false,
        });
        self.probes_due = self.probes_due.saturating_sub(1);
        self.arm_probe(now);
    }

    /// `Err`: the frame acknowledges what was never sent. `next`: the number of the next packet.
    pub(super) fn handle_ack(
        &mut self,
        now: Instant,
        ack: &Ack<'_>,
        next: u64,
        fate: &mut impl FnMut(FrameFate, SentFrame),
    ) -> Result<RecoveryOutcome, ()> {
        if ack.largest >= next {
            return Err(());
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
                if sent.state == SentState::Acked {
                    continue;
                }
                sent.state = SentState::Acked;
                self.in_flight -= u64::from(sent.bytes);
                outcome.acked_bytes += u64::from(sent.bytes);
                outcome.acked_to = outcome.acked_to.max(sent.acked_to);
                outcome.youngest_acked = outcome.youngest_acked.max(Some(sent.at));
                if sent.number == ack.largest {
                    largest_sent_at = Some(sent.at);
                }
                let (first, count) = (sent.first_record, sent.records);
                self.each_record(first, count, |record| fate(FrameFate::Acked, record));
            }
        }
        self.largest_acked = self.largest_acked.max(Some(ack.largest));
        if let Some(at) = largest_sent_at {
            self.rtt.update(now - at, Duration::from_nanos(u64::from(ack.delay_ns)));
        }
        if outcome.acked_bytes > 0 {
            self.probe_count = 0;
            self.probes_due = 0;
        }
        self.detect_lost(now, &mut outcome, fate);
        if outcome.acked_bytes > 0 || outcome.lost > 0 {
            let last = self.sent.back().map_or(now, |sent| sent.at);
            // Never in the past: a probe that is overdue leaves a granule from now.
            self.arm_probe(last);
            self.probe_at = self.probe_at.map(|at| at.max(now + super::rtt::GRANULARITY));
        }
        Ok(outcome)
    }

    fn each_record(&self, first: u64, count: u32, mut each: impl FnMut(SentFrame)) {
        let start = (first - self.records_base) as usize;
        for record in self.records.range(start..start + count as usize) {
            each(*record);
        }
    }

    /// Declares lost what later packets overtook, by count or by time.
    fn detect_lost(
        &mut self,
        now: Instant,
        outcome: &mut RecoveryOutcome,
        fate: &mut impl FnMut(FrameFate, SentFrame),
    ) {
        self.loss_at = None;
        let delay = self.rtt.loss_delay();
        let largest = self.largest_acked;
        while let Some(front) = self.sent.front() {
            if front.state == SentState::InFlight {
                let Some(largest) = largest.filter(|largest| front.number <= *largest) else { break };
                let lost_at = front.at + delay;
                if largest - front.number < PACKET_THRESHOLD && lost_at > now {
                    self.loss_at = Some(lost_at);
                    break;
                }
            }
            let Some(sent) = self.sent.pop_front() else { break };
            let start = (sent.first_record - self.records_base) as usize;
            if sent.state == SentState::InFlight {
                self.in_flight -= u64::from(sent.bytes);
                outcome.lost += 1;
                outcome.youngest_lost = outcome.youngest_lost.max(Some(sent.at));
                if !sent.requeued {
                    self.each_record(sent.first_record, sent.records, |record| fate(FrameFate::Lost, record));
                }
            }
            // The oldest packet's records are the oldest records.
            let gone = start + sent.records as usize;
            self.records.drain(..gone);
            self.records_base += gone as u64;
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match (self.loss_at, self.probe_at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// `true` in second place: a probe is due.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        fate: &mut impl FnMut(FrameFate, SentFrame),
    ) -> (RecoveryOutcome, bool) {
        let mut outcome = RecoveryOutcome { in_flight_before: self.in_flight, ..RecoveryOutcome::default() };
        if self.loss_at.is_some_and(|at| at <= now) {
            self.detect_lost(now, &mut outcome, fate);
            self.arm_probe(now);
            return (outcome, false);
        }
        if self.probe_at.is_none_or(|at| at > now) {
            return (outcome, false);
        }
        self.probe_count += 1;
        self.probes_due = 1;
        self.arm_probe(now);
        // The oldest packet most likely is what the peer waits for: its content goes again, without being
        // declared lost.
        if let Some(index) =
            self.sent.iter().position(|sent| sent.state == SentState::InFlight && !sent.requeued)
        {
            self.sent[index].requeued = true;
            let (first, count) = (self.sent[index].first_record, self.sent[index].records);
            self.each_record(first, count, |record| fate(FrameFate::Lost, record));
        }
        (outcome, true)
    }
}
