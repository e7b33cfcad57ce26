//! The end of a session: when CLOSE leaves, and how long it is repeated.

use core::time::Duration;

use super::{CloseCode, Lifecycle, Session, SessionEvent};
use crate::mutate;

/// CLOSE waits at most this many probe timeouts for the acknowledgement of what goes before it: a message may
/// be lost twice.
const CLOSING_TIMEOUTS: u32 = 8;

/// A session that closes answers packets for at least so many probe timeouts (RFC 9000, 10.2), so that a peer
/// which has missed the CLOSE is told again.
const CLOSE_TIMEOUTS: u32 = 3;

/// Times that CLOSE is repeated at most, spread over the time in which the session answers: those of one
/// moment would be lost together.
const CLOSE_REPEATS: u32 = 16;

impl Session {
    /// Ends the session now, without telling the peer.
    pub(super) fn terminate(&mut self, code: CloseCode, by_peer: bool) {
        if self.lifecycle == Lifecycle::Closed {
            return;
        }
        self.lifecycle = Lifecycle::Closed;
        self.events.push_back(SessionEvent::Closed { code, by_peer });
    }

    /// Sends CLOSE once the peer has acknowledged the control stream: it may tell the end of a channel, which
    /// a CLOSE that overtakes it would hide.
    pub(super) fn start_closing_in_order(&mut self) {
        let settled = self.control_tx.queued() == 0 && self.draining.is_empty();
        if mutate!(settled, "close-overtakes-fin" => true) {
            self.start_closing(CloseCode::GRACEFUL);
        } else if self.is_open() && self.closing_at.is_none() {
            let patience = self.config.close_linger + self.recovery.timeout() * CLOSING_TIMEOUTS;
            self.closing_at = Some(self.now + patience.min(self.config.dead_after));
        }
    }

    /// How long a session that closes answers what it hears.
    pub(super) fn close_linger(&self) -> Duration {
        let heard = self.recovery.timeout() * CLOSE_TIMEOUTS;
        self.config.close_linger.max(heard.min(self.config.dead_after))
    }

    /// Sends CLOSE, and repeats it while the peer goes on sending.
    pub(super) fn start_closing(&mut self, code: CloseCode) {
        if self.is_open() {
            let until = self.now + self.close_linger();
            self.lifecycle = Lifecycle::Closing { code, until, due: true, next_at: self.now };
        }
    }

    /// The reason to send in a CLOSE that leaves now, if one is due.
    pub(super) fn take_close(&mut self) -> Option<CloseCode> {
        let pause = self.close_linger() / CLOSE_REPEATS;
        let Lifecycle::Closing { code, due, next_at, .. } = &mut self.lifecycle else { return None };
        if *next_at > self.now || !core::mem::take(due) {
            return None;
        }
        *next_at = self.now + pause;
        Some(*code)
    }
}
