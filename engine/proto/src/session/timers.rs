//! What time alone does. Not inside: a clock, and the wheel that many sessions' timers wait in.

use super::{CloseCode, Lifecycle, Session, recovery::PERSISTENT_PROBES};
use crate::time::Instant;

/// A channel that waits for credit asks at most this many times less often than at first.
const BLOCKED_BACKOFF: u32 = 10;

impl Session {
    /// When [`Session::handle_timeout`] wants to be called; `None`: not before something else happens. It is never
    /// in the past for longer than until the next call of `handle_timeout` followed by `poll_transmit`.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.life {
            Lifecycle::Closed => return None,
            Lifecycle::Closing { until, .. } => return Some(until),
            Lifecycle::Open => {}
        }
        [
            self.acks.poll_timeout(),
            self.recovery.poll_timeout(),
            self.keys.poll_timeout(),
            self.keepalive_at(),
            self.dead_at(),
            self.idle_at(),
            self.blocked_at,
            self.paced_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Time has passed. May be called at any time; does nothing that is not due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance_clock(now);
        let now = self.now;
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        match self.life {
            Lifecycle::Closed => return,
            Lifecycle::Closing { code, until, .. } => {
                if until <= now {
                    self.terminate(code, false);
                }
                return;
            }
            Lifecycle::Open => {}
        }
        if due(self.dead_at()) {
            self.terminate(CloseCode::PEER_LOST, false);
            return;
        }
        if due(self.idle_at()) {
            self.start_closing(CloseCode::IDLE);
            return;
        }
        self.acks.handle_timeout(now);
        self.keys.handle_timeout(now);
        self.ask_for_key();
        if due(self.keepalive_at()) {
            self.ping_due = true;
        }
        if due(self.paced_at) {
            self.paced_at = None;
        }
        if due(self.blocked_at) {
            self.probe_blocked();
        }
        if due(self.recovery.poll_timeout()) {
            self.handle_recovery_timeout();
        }
    }

    fn handle_recovery_timeout(&mut self) {
        let Self { recovery, fates, now, .. } = self;
        let (outcome, probe) = recovery.handle_timeout(*now, &mut |fate, record| fates.push((fate, record)));
        if probe {
            self.stats.probes += 1;
            if self.recovery.probe_count == PERSISTENT_PROBES {
                self.controller.handle_persistent_loss();
            }
            if self.recovery.probe_count > u32::from(self.config.max_attempts) {
                self.start_closing(CloseCode::GAVE_UP);
            }
        }
        self.apply(&outcome);
    }

    /// Something in flight is answered for by its own timer; a ping is for silence.
    fn keepalive_at(&self) -> Option<Instant> {
        (!self.ping_due && self.recovery.in_flight() == 0).then(|| self.last_heard + self.config.keepalive)
    }

    fn dead_at(&self) -> Option<Instant> {
        self.unanswered.map(|since| since + self.config.dead_after)
    }

    fn idle_at(&self) -> Option<Instant> {
        let idle = self.rx_channels.len() + self.tx_channels.len() == 0 && self.control_tx.queued() == 0;
        idle.then(|| self.idle_since + self.config.idle_timeout)
    }

    /// Every channel that still waits for credit asks again: the grant, or the question, may be lost.
    pub(super) fn probe_blocked(&mut self) {
        let Self { waiting, tx_channels, blocked, .. } = self;
        waiting.retain(|label| {
            let Some(channel) = tx_channels.get_mut(*label) else { return false };
            if !channel.blocked {
                channel.listed_blocked = false;
                return false;
            }
            channel.blocked_due = Some(true);
            Self::queue_blocked(channel, blocked);
            true
        });
        self.blocked_at = None;
        if !self.waiting.is_empty() {
            self.blocked_backoff = (self.blocked_backoff * 2).clamp(1, BLOCKED_BACKOFF);
            self.blocked_at = Some(self.now + self.config.blocked_probe * self.blocked_backoff);
        }
    }
}
