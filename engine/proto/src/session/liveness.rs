//! Whether the peer is alive: how long it is silent, and what its network says of it.
//!
//! Not inside: probes for lost packets (`recovery`), and ending the session.

use core::time::Duration;

use crate::{mutate, time::Instant};

/// A timer that is served this late shows that this host stood still, not the peer.
const TIMER_STALL: Duration = Duration::from_millis(100);
/// Interval of probes to a peer whose port or host was reported as unreachable.
const REFUSED_PROBE: Duration = Duration::from_millis(200);
/// A peer whose port is closed is gone after this time without a packet from it.
const REFUSED_FOR: Duration = Duration::from_secs(1);
/// It takes this many reports: a single one may be about a packet from before the peer's start.
const MIN_REFUSALS: u32 = 3;
/// From the first report to the last: those of one moment may be about packets sent together.
const MIN_REFUSED_FOR: Duration = Duration::from_millis(400);

/// Reports that the peer is unreachable, since it was last heard.
#[derive(Debug)]
struct Refusals {
    first: Instant,
    last: Instant,
    count: u32,
    /// All of them said that the port is closed: the host is there, the process is not.
    closed: bool,
    /// When the next probe leaves.
    probe_at: Instant,
}

/// What a timer brought to light.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Silence {
    /// Nothing.
    Normal,
    /// The peer became suspect: it has been silent for this long.
    Suspect(Duration),
    /// The peer is lost.
    Lost,
    /// Its host runs and has closed its port.
    Gone,
}

/// The silence of the peer.
#[derive(Debug)]
pub(super) struct Liveness {
    dead_after: Duration,
    suspect_after: Duration,
    /// When the last packet of the peer opened.
    last_heard: Instant,
    /// That packet asked for an acknowledgement.
    asked: bool,
    /// Since when packets in flight have gone without any packet from the peer; `None` without packets in
    /// flight.
    unanswered: Option<Instant>,
    /// The silence since `unanswered` was reported.
    suspect: bool,
    /// When a silence that was reported or due to be last ended; at first the start of the session.
    alive_since: Instant,
    refusals: Option<Refusals>,
}

impl Liveness {
    pub(super) fn new(dead_after: Duration, suspect_after: Duration, now: Instant) -> Self {
        Self {
            dead_after,
            suspect_after,
            last_heard: now,
            asked: false,
            unanswered: None,
            suspect: false,
            alive_since: now,
            refusals: None,
        }
    }

    /// When a keep-alive is due. The side that answered last waits for a quarter longer, so that one side
    /// asks and the other answers.
    pub(super) fn keepalive_at(&self, keepalive: Duration) -> Instant {
        self.last_heard + if self.asked { keepalive / 4 * 5 } else { keepalive }
    }

    /// The last packet of the peer asked for an acknowledgement, or did not.
    pub(super) const fn handle_asked(&mut self, asked: bool) {
        self.asked = asked;
    }

    /// When a silence that was reported or due to be last ended, or the session began: what was sent before
    /// may have been lost to the silence alone.
    pub(super) const fn alive_since(&self) -> Instant {
        self.alive_since
    }

    /// A packet of the peer opened. Returns whether that ends a silence that was reported.
    pub(super) fn handle_heard(&mut self, now: Instant, in_flight: bool) -> bool {
        // A silence that was due to be reported: this host stood still, or was about to serve the timer.
        let overdue = self.suspect_at().is_some_and(|at| at <= now);
        self.last_heard = now;
        self.unanswered = in_flight.then_some(now);
        self.refusals = None;
        let recovered = core::mem::take(&mut self.suspect);
        if recovered || overdue {
            self.alive_since = now;
        }
        recovered
    }

    /// A packet that asks for an acknowledgement left.
    pub(super) fn handle_sent(&mut self, now: Instant) {
        self.unanswered.get_or_insert(now);
    }

    /// Nothing is in flight any more.
    pub(super) const fn handle_idle(&mut self) {
        self.unanswered = None;
    }

    /// The network reports that the peer cannot be reached; `closed`: because its port is closed. Returns
    /// whether a probe is to leave now.
    pub(super) fn handle_unreachable(&mut self, now: Instant, closed: bool) -> bool {
        if let Some(refusals) = &mut self.refusals {
            match (refusals.closed, closed) {
                // Its host is up again: what was reported before counts no more.
                (false, true) => (refusals.first, refusals.count, refusals.closed) = (now, 1, true),
                // No word of the host, which may be up, or forged.
                (true, false) => return false,
                _ => refusals.count = refusals.count.saturating_add(1),
            }
            refusals.last = now;
            return false;
        }
        let probe_at = now + REFUSED_PROBE;
        self.refusals = Some(Refusals { first: now, last: now, count: 1, closed, probe_at });
        true
    }

    /// Whether a probe is due because of refusals. Without a further refusal the probes end.
    pub(super) fn take_probe(&mut self, now: Instant) -> bool {
        let Some(refusals) = &mut self.refusals else { return false };
        if refusals.probe_at > now {
            return false;
        }
        refusals.probe_at = now + REFUSED_PROBE;
        if now - refusals.last > REFUSED_FOR {
            self.refusals = None;
        }
        true
    }

    /// When the peer is gone, if its host goes on to report that its port is closed.
    fn refused_at(&self) -> Option<Instant> {
        self.refusals
            .as_ref()
            // Without a route to the host nothing is known of the peer: such an outage may end.
            .filter(|refusals| refusals.closed)
            .filter(|refusals| {
                let lasting = refusals.last - refusals.first >= MIN_REFUSED_FOR;
                mutate!(lasting && refusals.count >= MIN_REFUSALS, "one-refusal-kills" => true)
            })
            .map(|r| r.first + REFUSED_FOR)
    }

    fn dead_at(&self) -> Option<Instant> {
        self.unanswered.map(|since| since + self.dead_after)
    }

    fn suspect_at(&self) -> Option<Instant> {
        self.unanswered.filter(|_| !self.suspect).map(|since| since + self.suspect_after)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let probe_at = self.refusals.as_ref().map(|refusals| refusals.probe_at);
        [self.dead_at(), self.suspect_at(), self.refused_at(), probe_at].into_iter().flatten().min()
    }

    /// A timer may have fired.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Silence {
        if self.refused_at().is_some_and(|at| at <= now) {
            return Silence::Gone;
        }
        if let Some(at) = self.dead_at()
            && at <= now
        {
            let grace = self.suspect_after.min(self.dead_after);
            if mutate!(now - at <= TIMER_STALL.min(grace), "stall-kills-peers" => true) {
                return Silence::Lost;
            }
            // This host stood still: packets of the peer may wait to be read, so it gets another moment.
            self.unanswered = Some(now + grace - self.dead_after);
        }
        if self.suspect_at().is_some_and(|at| at <= now) {
            self.suspect = true;
            return Silence::Suspect(now - self.unanswered.unwrap_or(now));
        }
        Silence::Normal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn at(time: u64) -> Instant {
        Instant::ZERO + ms(100_000 + time)
    }

    fn liveness() -> Liveness {
        Liveness::new(ms(10_000), ms(1_000), at(0))
    }

    #[test]
    fn silence_in_which_this_host_stood_still_gives_nothing_up() {
        let mut liveness = liveness();
        liveness.handle_sent(at(0));
        assert!(!liveness.handle_heard(at(500), true));
        assert_eq!(liveness.alive_since(), at(0), "a short silence");
        // The packets that waited are read before the timer is served.
        assert!(!liveness.handle_heard(at(11_500), true), "no silence was reported");
        assert_eq!(liveness.alive_since(), at(11_500));
    }

    #[test]
    fn silence_is_reported_once_and_then_kills() {
        let mut liveness = liveness();
        assert_eq!(liveness.poll_timeout(), None);
        liveness.handle_sent(at(0));
        liveness.handle_sent(at(500));
        assert_eq!(liveness.poll_timeout(), Some(at(1_000)));
        assert_eq!(liveness.handle_timeout(at(1_000)), Silence::Suspect(ms(1_000)));
        assert_eq!(liveness.handle_timeout(at(1_000)), Silence::Normal);
        assert_eq!(liveness.poll_timeout(), Some(at(10_000)));
        assert_eq!(liveness.handle_timeout(at(9_999)), Silence::Normal);
        assert_eq!(liveness.handle_timeout(at(10_000)), Silence::Lost);
    }

    #[test]
    fn stall_of_this_host_gives_the_peer_another_second() {
        let mut liveness = liveness();
        liveness.handle_sent(at(0));
        assert_ne!(liveness.handle_timeout(at(40_000)), Silence::Lost);
        assert_eq!(liveness.poll_timeout(), Some(at(41_000)));
        assert_eq!(liveness.handle_timeout(at(41_000)), Silence::Lost);
    }

    #[test]
    fn refusals_kill_within_a_second_and_a_packet_clears_them() {
        let mut liveness = liveness();
        assert!(liveness.handle_unreachable(at(0), true), "a probe leaves at once");
        for time in [200, 400] {
            assert_eq!(liveness.poll_timeout(), Some(at(time)));
            assert!(liveness.take_probe(at(time)) && !liveness.take_probe(at(time)));
            assert!(!liveness.handle_unreachable(at(time + 1), true));
        }
        assert_eq!(liveness.handle_timeout(at(999)), Silence::Normal);
        assert_eq!(liveness.handle_timeout(at(1_000)), Silence::Gone);
        liveness.handle_heard(at(1_000), false);
        assert_eq!(liveness.handle_timeout(at(1_001)), Silence::Normal);
        assert_eq!(liveness.poll_timeout(), None);
    }

    #[test]
    fn only_reports_of_a_closed_port_make_a_peer_gone() {
        for (reports, gone_at) in [
            (&[true, true, true][..], Some(1_000)),
            (&[true, false, true], None),
            (&[true, false, true, true], Some(1_000)),
            (&[false, true, true], None),
            (&[false, false, true, true, true], Some(1_400)),
            (&[false, false, false, false], None),
        ] {
            let gone = |time: u64| {
                let mut liveness = liveness();
                for (step, closed) in (0..).zip(reports) {
                    liveness.handle_unreachable(at(200 * step), *closed);
                }
                liveness.handle_timeout(at(time)) == Silence::Gone
            };
            assert_eq!((800..3_000).find(|time| gone(*time)), gone_at, "{reports:?}");
        }
    }

    #[test]
    fn single_refusal_does_not_kill() {
        let mut liveness = liveness();
        assert!(liveness.handle_unreachable(at(0), true));
        let mut probes = 0;
        while let Some(next) = liveness.poll_timeout() {
            assert_eq!(liveness.handle_timeout(next), Silence::Normal);
            probes += u32::from(liveness.take_probe(next));
        }
        assert_eq!(probes, 6, "probes end a second after the last refusal");
    }

    #[test]
    fn host_without_a_route_is_waited_for_until_the_peer_is_dead() {
        let mut liveness = liveness();
        liveness.handle_sent(at(0));
        let mut probes = 0;
        for time in (0..10_000).step_by(200) {
            liveness.handle_unreachable(at(time), false);
            let silence = liveness.handle_timeout(at(time));
            assert!(!matches!(silence, Silence::Lost | Silence::Gone), "after {time} ms");
            probes += u32::from(liveness.take_probe(at(time)));
        }
        assert!(probes > 40, "the end of the outage is noticed soon");
        assert_eq!(liveness.handle_timeout(at(10_000)), Silence::Lost);
    }

    #[test]
    fn reports_of_one_moment_do_not_kill() {
        let mut liveness = liveness();
        for time in [0, 0, 1] {
            liveness.handle_unreachable(at(time), true);
        }
        while let Some(next) = liveness.poll_timeout() {
            assert_eq!(liveness.handle_timeout(next), Silence::Normal);
            liveness.take_probe(next);
        }
    }
}
