//! Cookies: proof that an initiator receives at its address.
//!
//! A cookie is a keyed hash of an address, which only a node that receives there can return. It travels
//! encrypted under a key from the network secret and bound to the `mac1` of the packet that it answers, so
//! that only members of the network can read it.
//!
//! Not inside: when to ask for one, which the caller decides ([`super::HandshakeLoad`]).

use core::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use alloc::{vec, vec::Vec};

use zerocopy::IntoBytes;

use super::{
    error::HandshakeError,
    packet::{COOKIE_BYTES, COOKIE_NONCE_BYTES, MAC_BYTES, keyed},
};
use crate::{
    seal::{Aead, KeyBytes, RingAead, Suite},
    time::Instant,
    wire::header::{HEADER_BYTES, Header, PacketKind, ReceiverIndex, TAG_BYTES},
};

/// A cookie is accepted in the period in which it was made and in the next one; WireGuard's interval.
pub(super) const COOKIE_PERIOD: Duration = Duration::from_secs(120);

const NONCE_END: usize = HEADER_BYTES + COOKIE_NONCE_BYTES;
const COOKIE_END: usize = NONCE_END + MAC_BYTES;
const _: () = assert!(COOKIE_END + TAG_BYTES == COOKIE_BYTES);

/// Makes and recognises cookies without storing any.
#[derive(Debug)]
pub(super) struct CookieMaker {
    seed: KeyBytes,
}

impl CookieMaker {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self { seed: KeyBytes::from_bytes(seed) }
    }

    /// The cookie for an address in the period of `now`.
    pub(super) fn make(&self, now: Instant, from: &SocketAddr) -> [u8; MAC_BYTES] {
        self.of_period(period(now), from)
    }

    /// The cookies that are accepted from an address at `now`.
    pub(super) fn accepted(&self, now: Instant, from: &SocketAddr) -> [[u8; MAC_BYTES]; 2] {
        let this = period(now);
        [self.of_period(this, from), self.of_period(this.saturating_sub(1), from)]
    }

    fn of_period(&self, period: u64, from: &SocketAddr) -> [u8; MAC_BYTES] {
        let mut text = [0; 8 + 16 + 2];
        text[..8].copy_from_slice(&period.to_le_bytes());
        let ip = match from.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        text[8..24].copy_from_slice(&ip.octets());
        text[24..].copy_from_slice(&from.port().to_le_bytes());
        keyed(&self.seed, &text)
    }
}

fn period(now: Instant) -> u64 {
    now.as_nanos() / (COOKIE_PERIOD.as_secs() * 1_000_000_000)
}

/// A packet that carries a cookie to `receiver`, in answer to a packet with this `mac1`.
pub(super) fn write(
    cookie_key: &KeyBytes,
    receiver: ReceiverIndex,
    mac1: &[u8; MAC_BYTES],
    nonce: &[u8; COOKIE_NONCE_BYTES],
    cookie: &[u8; MAC_BYTES],
) -> Result<Vec<u8>, HandshakeError> {
    let mut packet = vec![0; COOKIE_BYTES];
    let header = Header::handshake(PacketKind::Cookie, receiver, ReceiverIndex::NONE);
    packet[..HEADER_BYTES].copy_from_slice(header.as_bytes());
    packet[HEADER_BYTES..NONCE_END].copy_from_slice(nonce);
    packet[NONCE_END..COOKIE_END].copy_from_slice(cookie);
    let (head, body) = packet.split_at_mut(NONCE_END);
    let aead = one_time_cipher(cookie_key, nonce, mac1);
    let tag = aead.seal(0, head, &mut body[..MAC_BYTES]).map_err(|_| HandshakeError::Cookie)?;
    body[MAC_BYTES..].copy_from_slice(&tag);
    Ok(packet)
}

/// The cookie in a packet of exactly [`COOKIE_BYTES`].
pub(super) fn read(
    cookie_key: &KeyBytes,
    mac1: &[u8; MAC_BYTES],
    packet: &[u8],
) -> Result<[u8; MAC_BYTES], HandshakeError> {
    let (head, sealed) = packet.split_at_checked(NONCE_END).ok_or(HandshakeError::Cookie)?;
    let mut body: [u8; MAC_BYTES + TAG_BYTES] = sealed.try_into().map_err(|_| HandshakeError::Cookie)?;
    let mut nonce = [0; COOKIE_NONCE_BYTES];
    nonce.copy_from_slice(&head[HEADER_BYTES..]);
    one_time_cipher(cookie_key, &nonce, mac1).open(0, head, &mut body).map_err(|_| HandshakeError::Cookie)?;
    let mut cookie = [0; MAC_BYTES];
    cookie.copy_from_slice(&body[..MAC_BYTES]);
    Ok(cookie)
}

/// The random nonce of 24 bytes is hashed into the key, so that the cipher's own nonce may be zero.
fn one_time_cipher(
    cookie_key: &KeyBytes,
    nonce: &[u8; COOKIE_NONCE_BYTES],
    mac1: &[u8; MAC_BYTES],
) -> RingAead {
    let mut hasher = blake3::Hasher::new_keyed(cookie_key.as_bytes());
    hasher.update(nonce).update(mac1);
    RingAead::new(Suite::ChaCha20Poly1305, &KeyBytes::from_bytes(*hasher.finalize().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: SocketAddr = SocketAddr::new(IpAddr::V4(core::net::Ipv4Addr::LOCALHOST), 4_000);

    #[test]
    fn cookie_is_valid_for_two_periods_and_one_address() {
        let maker = CookieMaker::new([1; 32]);
        let start = Instant::ZERO + COOKIE_PERIOD * 5;
        let cookie = maker.make(start, &FROM);
        assert!(maker.accepted(start + COOKIE_PERIOD, &FROM).contains(&cookie));
        assert!(!maker.accepted(start + COOKIE_PERIOD * 2, &FROM).contains(&cookie));
        assert!(!maker.accepted(start, &SocketAddr::new(FROM.ip(), 4_001)).contains(&cookie));
        assert!(!CookieMaker::new([2; 32]).accepted(start, &FROM).contains(&cookie));
    }

    #[test]
    fn cookie_packet_opens_only_for_the_packet_it_answers() {
        let key = KeyBytes::from_bytes([3; 32]);
        let index = ReceiverIndex::new(1, 2, 3).unwrap();
        let packet = write(&key, index, &[4; 16], &[5; 24], &[6; 16]).unwrap();
        assert_eq!(read(&key, &[4; 16], &packet), Ok([6; 16]));
        assert_eq!(read(&key, &[7; 16], &packet), Err(HandshakeError::Cookie));
        assert_eq!(read(&KeyBytes::from_bytes([8; 32]), &[4; 16], &packet), Err(HandshakeError::Cookie));
        for bit in 0..packet.len() * 8 {
            let mut bad = packet.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&key, &[4; 16], &bad), Err(HandshakeError::Cookie), "bit {bit}");
        }
        for length in 0..packet.len() {
            assert_eq!(read(&key, &[4; 16], &packet[..length]), Err(HandshakeError::Cookie));
        }
    }
}
