//! Acting on the passing of time.

use super::{
    BlockedFrame, CloseCode, Lifecycle, Session, SessionEvent, liveness::Silence, transmit::CHALLENGE_BYTES,
};
use crate::{mutate, time::Instant};

impl Session {
    /// When [`Session::handle_timeout`] is to be called; `None`: not before another call changes that. A time
    /// in the past moves on with the next `handle_timeout` followed by `poll_transmit`.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.lifecycle {
            Lifecycle::Closed => return None,
            Lifecycle::Closing { until, due, next_at, .. } => {
                return Some(if due { until.min(next_at) } else { until });
            }
            Lifecycle::Open => {}
        }
        [
            self.acks.poll_timeout(),
            self.recovery.poll_timeout(),
            self.keys.poll_timeout(),
            self.keepalive_at(),
            self.liveness.poll_timeout(),
            self.idle_at(),
            self.credit_wait.poll_timeout(),
            self.egress.poll_timeout(),
            self.address.poll_timeout(),
            self.paced_at,
            self.closing_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what is due at `now`. May be called at any time.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance_clock(now);
        let now = self.now;
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        match self.lifecycle {
            Lifecycle::Closed => return,
            Lifecycle::Closing { code, until, .. } => {
                if until <= now {
                    self.terminate(code, false);
                }
                return;
            }
            Lifecycle::Open => {}
        }
        match self.liveness.handle_timeout(now) {
            Silence::Normal => {}
            Silence::Suspect(silent_for) => self.events.push_back(SessionEvent::Suspect { silent_for }),
            // The peer may hear this side, and would go on waiting for it.
            Silence::Lost => return self.start_closing(CloseCode::PEER_LOST),
            Silence::Gone => return self.terminate(CloseCode::PEER_GONE, false),
        }
        if due(self.closing_at) {
            self.start_closing(CloseCode::GRACEFUL);
            return;
        }
        if due(self.idle_at()) {
            self.start_closing(CloseCode::IDLE);
            return;
        }
        if self.keys.is_spent(now) {
            self.terminate(CloseCode::KEY_EXHAUSTED, false);
            return;
        }
        self.acks.handle_timeout(now);
        self.keys.handle_timeout(now);
        self.request_key_if_due();
        if self.liveness.take_probe(now) {
            self.recovery.probes_due = 1;
        }
        if due(self.keepalive_at()) {
            self.ping_due = true;
        }
        self.address.handle_timeout(now, CHALLENGE_BYTES as u64, self.recovery.timeout());
        if due(self.paced_at) {
            self.paced_at = None;
        }
        self.release_held();
        if due(self.credit_wait.poll_timeout()) {
            self.probe_blocked();
        }
        if due(self.recovery.poll_timeout()) {
            self.handle_recovery_timeout();
        }
    }

    fn handle_recovery_timeout(&mut self) {
        let Self { recovery, fates, now, .. } = self;
        let outcome = recovery.handle_timeout(*now, &mut |fate, frame| fates.push((fate, frame)));
        if outcome.probe {
            self.stats.probes += 1;
        }
        self.apply(&outcome);
    }

    /// Measures the round trip: a PING leaves with the next packet, unless that asks for an acknowledgement
    /// anyway.
    pub fn ping(&mut self) {
        self.ping_due |= self.is_open();
    }

    /// When a PING is due. While packets are in flight, their own timers detect a lost peer.
    fn keepalive_at(&self) -> Option<Instant> {
        (!self.ping_due && !self.recovery.is_waiting())
            .then(|| self.liveness.keepalive_at(self.config.keepalive()))
    }

    /// The network reports that the peer cannot be reached; `closed`: because the peer's port is closed. Such
    /// a report can be forged, so it only makes the session probe faster, for a second after the last report.
    /// The session closes with `PEER_GONE` when no packet of the peer opens for a second and three reports or
    /// more came in at least 400 ms of it, all of them of a closed port. A host without a route may get it
    /// back, so other reports leave the peer all of `dead_after`.
    pub fn handle_unreachable(&mut self, now: Instant, closed: bool) {
        self.advance_clock(now);
        if self.is_open() && self.liveness.handle_unreachable(self.now, closed) {
            self.recovery.probes_due = 1;
        }
    }

    /// When the session closes for want of channels and messages.
    fn idle_at(&self) -> Option<Instant> {
        let idle = self.rx_channels.len() + self.tx_channels.len() == 0 && self.control_tx.queued() == 0;
        idle.then(|| self.idle_since + self.config.idle_timeout)
    }

    /// The channels whose time has come and that still wait for credit ask again: their BLOCKED, or the
    /// CREDIT, may be lost.
    pub(super) fn probe_blocked(&mut self) {
        while let Some((at, label)) = self.credit_wait.pop_due(self.now) {
            let Some(channel) =
                self.tx_channels.get_mut(label).filter(|channel| channel.probe_at == Some(at))
            else {
                continue;
            };
            channel.probe_at = None;
            if mutate!(channel.blocked, "credit-never-probed" => false) {
                Self::queue_blocked(channel, BlockedFrame::Probe, &mut self.blocked);
                self.credit_wait.push_again(channel, self.now, self.config.blocked_probe);
            }
        }
    }
}
