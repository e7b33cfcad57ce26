//! Where the peer is: validation of a new address (RFC 9000, 8.2 and 9).
//!
//! A packet that opens may come from anywhere: the peer has moved, or a third host forwards its packets. A
//! new address is asked with PATH_CHALLENGE; the session moves there when the answer shows that the peer
//! receives what is sent to it. Until then the address gets at most three times the bytes that came from it.
//! The token of a challenge is derived from a secret of this side: a peer that sees no challenge can't guess
//! it, and so can't move the session to a host that never asked for it (RFC 9000, 21.5.3).
//!
//! Not inside: which socket sends.

use core::{net::SocketAddr, time::Duration};

use crate::{mutate, seal::KeyBytes, time::Instant};

/// Bytes that an address which has not been validated may get per byte that came from it (RFC 9000, 8.1).
const AMPLIFICATION: u64 = 3;
/// Challenges without an answer after which an address is given up.
const MAX_CHALLENGES: u8 = 4;

/// An address that is being validated.
#[derive(Debug)]
struct Candidate {
    address: SocketAddr,
    /// Bytes of packets that came from it and opened.
    received: u64,
    /// Bytes sent to it.
    sent: u64,
    /// The tokens of the challenges sent to it.
    tokens: [Option<u64>; MAX_CHALLENGES as usize],
    /// Challenges that were sent, or could not be.
    challenges: u8,
    /// When the next challenge is due.
    due_at: Instant,
}

/// The address of the peer, and another that is being validated.
#[derive(Debug)]
pub(super) struct PathAddress {
    /// `None`: the owner does not tell addresses.
    current: Option<SocketAddr>,
    /// Only while there is a current address.
    candidate: Option<Candidate>,
    /// Tokens are derived from it; of no meaning without a current address.
    secret: KeyBytes,
}

impl PathAddress {
    /// Without an address.
    pub(super) const fn new() -> Self {
        Self { current: None, candidate: None, secret: KeyBytes::from_bytes([0; 32]) }
    }

    pub(super) const fn current(&self) -> Option<SocketAddr> {
        self.current
    }

    /// Sets the address that the handshake has validated. The peer must not know `secret`.
    pub(super) fn set(&mut self, address: SocketAddr, secret: KeyBytes) {
        *self = Self { current: Some(address), candidate: None, secret };
    }

    /// The token of a challenge, from a number that no other challenge has.
    pub(super) fn token(&self, number: u64) -> u64 {
        let hash = blake3::keyed_hash(self.secret.as_bytes(), &number.to_le_bytes());
        let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// A packet of `bytes` from `address` opened. `newest`: no packet with a higher number has, so the peer
    /// was there last.
    pub(super) fn handle_packet(&mut self, now: Instant, address: SocketAddr, bytes: u64, newest: bool) {
        if let Some(candidate) = self.candidate.as_mut().filter(|candidate| candidate.address == address) {
            candidate.received += bytes;
        } else if self.current.is_some_and(|current| current != address) {
            // One candidate at a time, so that addresses that change with each packet cost little.
            if newest && self.candidate.is_none() {
                self.candidate = Some(Candidate {
                    address,
                    received: bytes,
                    sent: 0,
                    tokens: [None; MAX_CHALLENGES as usize],
                    challenges: 0,
                    due_at: now,
                });
            }
        } else if newest && self.candidate.is_some() {
            // The peer is where it was.
            self.candidate = None;
        }
    }

    /// Where a challenge of `bytes` is to be sent now.
    pub(super) fn due(&mut self, now: Instant, bytes: u64) -> Option<SocketAddr> {
        let candidate = self.candidate.as_mut().filter(|candidate| candidate.due_at <= now)?;
        if candidate.challenges >= MAX_CHALLENGES {
            self.candidate = None;
            return None;
        }
        (candidate.sent + bytes <= AMPLIFICATION * candidate.received).then_some(candidate.address)
    }

    /// A challenge with `token` was sent; the next follows after `timeout`.
    pub(super) fn handle_sent(&mut self, now: Instant, token: u64, bytes: u64, timeout: Duration) {
        if let Some(candidate) = &mut self.candidate {
            if let Some(free) = candidate.tokens.get_mut(usize::from(candidate.challenges)) {
                *free = Some(token);
            }
            candidate.sent += bytes;
            candidate.challenges += 1;
            candidate.due_at = now + timeout.saturating_mul(1 << candidate.challenges);
        }
    }

    /// The peer answered a challenge. Returns the address that it has moved to.
    pub(super) fn handle_response(&mut self, token: u64) -> Option<SocketAddr> {
        let sent = self.candidate.as_ref()?.tokens.contains(&Some(token));
        if mutate!(!sent, "moves-on-any-answer" => false) {
            return None;
        }
        self.current = self.candidate.take().map(|candidate| candidate.address);
        self.current
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.candidate.as_ref().map(|candidate| candidate.due_at)
    }

    /// A candidate that cannot be asked is given up in time, so that no timer stays in the past.
    pub(super) fn handle_timeout(&mut self, now: Instant, bytes: u64, timeout: Duration) {
        let Some(candidate) = self.candidate.as_mut().filter(|candidate| candidate.due_at <= now) else {
            return;
        };
        if candidate.sent + bytes > AMPLIFICATION * candidate.received {
            candidate.challenges += 1;
            candidate.due_at = now + timeout.saturating_mul(1 << candidate.challenges.min(8));
        }
        if candidate.challenges >= MAX_CHALLENGES {
            self.candidate = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(10);

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    fn moved() -> PathAddress {
        let mut path = PathAddress::new();
        path.set(address(1), KeyBytes::from_bytes([9; 32]));
        path.handle_packet(at(0), address(2), 40, true);
        path
    }

    #[test]
    fn new_address_is_used_once_it_has_answered() {
        let mut path = moved();
        assert_eq!((path.current(), path.due(at(0), 60)), (Some(address(1)), Some(address(2))));
        path.handle_sent(at(0), 7, 60, TIMEOUT);
        assert_eq!(path.handle_response(8), None, "a token that was never sent");
        assert_eq!(path.handle_response(7), Some(address(2)));
        assert_eq!(path.current(), Some(address(2)));
        assert_eq!(path.handle_response(7), None);
    }

    #[test]
    fn unvalidated_address_gets_three_times_what_it_sent() {
        let mut path = moved();
        path.handle_sent(at(0), 7, 60, TIMEOUT);
        assert_eq!(path.due(at(1_000), 60), Some(address(2)));
        path.handle_sent(at(1_000), 8, 60, TIMEOUT);
        assert_eq!(path.due(at(2_000), 60), None, "120 bytes are spent");
        path.handle_packet(at(2_000), address(2), 20, true);
        assert_eq!(path.due(at(2_000), 60), Some(address(2)));
    }

    #[test]
    fn silent_address_is_given_up_and_old_packets_move_nothing() {
        let mut path = moved();
        let mut now = at(0);
        let mut sent = 0;
        while let Some(due) = path.poll_timeout() {
            now = now.max(due);
            path.handle_timeout(now, 60, TIMEOUT);
            if path.due(now, 60).is_some() {
                path.handle_sent(now, sent, 60, TIMEOUT);
                sent += 1;
            }
        }
        assert_eq!(sent, 2);
        path.handle_packet(now, address(3), 40, false);
        assert_eq!(path.poll_timeout(), None, "a late packet");
        let mut path = moved();
        path.handle_packet(at(1), address(1), 40, true);
        assert_eq!(path.poll_timeout(), None, "the peer is where it was");
    }
}
