//! A producer's channel whose owner limits what may leave.
//!
//! The channel books the bytes of its next turn in the scheduler before it takes the turn, and settles what
//! it has sent afterwards. Bookings are served in the order in which they were made, so channels under one
//! limit share it by their weights, whichever sessions they belong to.
//!
//! Not inside: the limit ([`DatumSource::book`]), and waking the channel (`session`).

use super::{DatumSource, TxChannel};
use crate::time::Instant;

/// The first booking, in bytes: a small packet. Later ones are for as much as the last turn has sent.
const FIRST_BOOKING_BYTES: u64 = 256;

/// A turn ends after this many bytes, which leave back to back: that of a weight of 16 under the default
/// quantum.
const TURN_BYTES_MAX: u64 = 64 << 10;

/// What a limited channel has booked.
#[derive(Clone, Copy, Debug)]
pub(super) struct EgressBooking {
    /// What the next turn is expected to send, in bytes.
    turn: u64,
    /// The booking, in bytes; 0: none.
    booked: u64,
    /// What was sent of it, in bytes.
    sent: u64,
    /// When it may be used.
    at: Instant,
    /// The channel waits for that since then.
    held_since: Option<Instant>,
}

impl TxChannel {
    /// From now on the channel books what it sends.
    pub(crate) fn limit(&mut self) {
        self.egress.get_or_insert(EgressBooking {
            turn: FIRST_BOOKING_BYTES,
            booked: 0,
            sent: 0,
            at: Instant::ZERO,
            held_since: None,
        });
    }

    /// Books the channel's turn, unless it is booked. `Err`: the turn begins then, and the channel is held
    /// back until [`TxChannel::go_on`].
    pub(crate) fn begin_turn(&mut self, now: Instant, source: &mut impl DatumSource) -> Result<(), Instant> {
        let Some(egress) = &mut self.egress else { return Ok(()) };
        if egress.booked == 0 {
            (egress.booked, egress.sent) = (egress.turn, 0);
            egress.at = source.book(self.label, now, egress.booked);
        }
        if egress.at <= now {
            return Ok(());
        }
        egress.held_since = Some(now);
        self.stats.paced += 1;
        Err(egress.at)
    }

    /// The channel has put this many bytes into a packet. `over`: its turn has ended, not only the packet.
    pub(crate) fn end_packet(&mut self, now: Instant, bytes: u64, over: bool, source: &mut impl DatumSource) {
        let Some(egress) = &mut self.egress else { return };
        egress.sent += bytes;
        if over || egress.sent >= TURN_BYTES_MAX {
            source.settle(self.label, now, egress.booked, egress.sent);
            if egress.sent > 0 {
                egress.turn = egress.sent;
            }
            egress.booked = 0;
        }
    }

    /// Until when the channel is held back; `None`: it is not.
    pub(crate) fn held_until(&self) -> Option<Instant> {
        self.egress.filter(|egress| egress.held_since.is_some()).map(|egress| egress.at)
    }

    /// Since when the channel is held back.
    pub(super) fn held_since(&self) -> Option<Instant> {
        self.egress?.held_since
    }

    /// The time of the booking has come.
    pub(crate) fn go_on(&mut self, now: Instant) {
        if let Some(since) = self.egress.as_mut().and_then(|egress| egress.held_since.take()) {
            let nanos = u64::try_from(now.saturating_since(since).as_nanos()).unwrap_or(u64::MAX);
            self.stats.paced_ns = self.stats.paced_ns.saturating_add(nanos);
        }
    }
}
