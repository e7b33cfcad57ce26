//! What beacons and membership packets share: the seal of datagrams between members that have no session,
//! the bound on how many are opened, chance, and reading.
//!
//! ```text
//! 0      24                len-16  len
//! | salt | ciphertext       | tag   |
//! ```
//!
//! Each datagram has a key of its own, the keyed hash of its salt, because a 96-bit nonce is too short to be
//! drawn by many nodes under one key.

use alloc::vec::Vec;
use core::time::Duration;

use crate::{
    seal::{Aead, KeyBytes, RingAead, Suite},
    time::Instant,
    wire::header::TAG_BYTES,
};

pub(crate) const SALT_BYTES: usize = 24;

/// Bytes of a sealed datagram beside its plaintext.
pub(crate) const SEAL_BYTES: usize = SALT_BYTES + TAG_BYTES;

/// Seals and opens datagrams of one network, for one purpose.
#[derive(Debug)]
pub(crate) struct NetworkSeal(KeyBytes);

impl NetworkSeal {
    /// `key` is shared by the members; `context` names the purpose.
    pub(crate) fn new(key: &KeyBytes, context: &str) -> Self {
        Self(KeyBytes::from_bytes(blake3::derive_key(context, key.as_bytes())))
    }

    fn cipher(&self, salt: &[u8; SALT_BYTES]) -> RingAead {
        let key = KeyBytes::from_bytes(*blake3::keyed_hash(self.0.as_bytes(), salt).as_bytes());
        RingAead::new(Suite::ChaCha20Poly1305, &key)
    }

    /// Seals `plain` behind `head`, which stays readable. `random` makes the salt, and is used once.
    pub(crate) fn seal(&self, head: &[u8], random: &[u8; 32], mut plain: Vec<u8>) -> Vec<u8> {
        let mut salt = [0; SALT_BYTES];
        salt.copy_from_slice(&random[..SALT_BYTES]);
        let tag = self.cipher(&salt).seal(0, head, &mut plain).expect("shorter than any limit of the cipher");
        [head, &salt, &plain, &tag].concat()
    }

    /// The plaintext of what stands behind `head`; `None` when this network's key did not seal it.
    pub(crate) fn open(&self, head: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (salt, sealed) = sealed.split_first_chunk::<SALT_BYTES>()?;
        let mut plain = sealed.to_vec();
        let len = self.cipher(salt).open(0, head, &mut plain).ok()?;
        plain.truncate(len);
        Some(plain)
    }
}

/// Datagrams that may be opened: so many per second, and at once.
#[derive(Debug)]
pub(crate) struct OpenBudget {
    per_second: u32,
    left: u32,
    /// It has been refilled up to here.
    filled: Instant,
}

impl OpenBudget {
    pub(crate) const fn new(now: Instant, per_second: u32) -> Self {
        Self { per_second, left: per_second, filled: now }
    }

    /// Takes one of them; `false` when there is none.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let nanos = now.saturating_since(self.filled).as_nanos() * u128::from(self.per_second);
        let more = u32::try_from(nanos / 1_000_000_000).unwrap_or(u32::MAX);
        if more > 0 {
            self.left = more.saturating_add(self.left).min(self.per_second);
            // The time of a part of one goes to the next refill.
            let part = nanos % 1_000_000_000 / u128::from(self.per_second);
            self.filled = now - Duration::from_nanos(u64::try_from(part).unwrap_or(0));
        }
        let any = self.left > 0;
        self.left = self.left.saturating_sub(1);
        any
    }
}

/// Bytes that only this node can tell, from a secret seed.
#[derive(Debug)]
pub(crate) struct Chance {
    seed: KeyBytes,
    drawn: u64,
}

impl Chance {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self { seed: KeyBytes::from_bytes(seed), drawn: 0 }
    }

    pub(crate) fn bytes(&mut self) -> [u8; 32] {
        self.drawn += 1;
        *blake3::keyed_hash(self.seed.as_bytes(), &self.drawn.to_le_bytes()).as_bytes()
    }

    pub(crate) fn number(&mut self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// A number below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.number() % limit as u64).expect("below a usize")
    }

    /// A random part of `whole`.
    pub(crate) fn part_of(&mut self, whole: Duration) -> Duration {
        let nanos = u64::try_from(whole.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.number() % nanos.saturating_add(1))
    }
}

/// Takes bytes off the front.
pub(crate) struct ByteCursor<'a>(pub(crate) &'a [u8]);

impl<'a> ByteCursor<'a> {
    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_passes_what_it_allows_at_any_rate() {
        for pause_us in [1, 240, 499, 1_900] {
            let mut budget = OpenBudget::new(Instant::ZERO, 4_000);
            while budget.take(Instant::ZERO) {}
            let asked = 10_000_000 / pause_us;
            let at = |n| Instant::ZERO + Duration::from_micros(n * pause_us);
            let taken = (1..=asked).filter(|n| budget.take(at(*n))).count() as u64;
            let allowed = asked.min(40_000);
            assert!((allowed * 99 / 100..=allowed).contains(&taken), "each {pause_us} us: {taken}");
        }
    }
}
