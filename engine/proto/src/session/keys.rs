//! The keys of a session, and how one replaces another.
//!
//! ```text
//!  the peer began the handshake:  next --- a packet opens under it ---> current ---> previous ---> gone
//!  this side began it:            ------------------------------------> current ---> previous ---> gone
//! ```
//!
//! - Everything is sealed under `current`. `next` and `previous` only open packets.
//! - The side that answered a handshake cannot know whether its answer arrived, so its key waits as `next`
//!   until a packet of the peer opens under it. Until then both directions go on under `current`.
//! - `previous` opens packets under way until a while after the peer was seen to use the key that replaced
//!   it.
//! - The header of a packet names its key. Packet numbers go on from key to key, so loss detection and
//!   acknowledgements are independent of keys. The replay window is each key's own.
//!
//! Not inside: the handshake, and who begins it.

use alloc::boxed::Box;
use core::time::Duration;

use crate::{
    mutate,
    seal::{KeyUse, OpenedPacket, Opener, Sealer, UnsealError},
    time::Instant,
    wire::header::{DataPacket, PHASES},
};

/// A new key for an open session: see [`super::Session::rekey`].
#[derive(Debug)]
pub struct NewKey {
    /// Which of the session's keys it is: one more than the current one, modulo [`PHASES`].
    pub phase: u8,
    /// Seals what is sent. It must not have sealed anything yet.
    pub sealer: Sealer,
    /// Opens what the peer sends.
    pub opener: Opener,
    /// Whether the peer is known to have it, which is so where this side began the handshake. If not, it is
    /// used only after a packet of the peer has opened under it.
    pub confirmed: bool,
}

/// The key does not follow the current one: another handshake overtook the one that it comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the key is not the one after the current one; another handshake was faster")]
pub struct StaleKey;

/// A key that waits for the peer to use it.
#[derive(Debug)]
struct NextKey {
    sealer: Sealer,
    opener: Opener,
}

/// A key that was replaced.
#[derive(Debug)]
struct PreviousKey {
    phase: u8,
    opener: Opener,
    /// When it is forgotten; `None` while the peer may still seal under it.
    until: Option<Instant>,
}

/// A packet that opened under one of the keys.
#[derive(Debug)]
pub(super) struct Unsealed<'packet> {
    pub(super) packet: OpenedPacket<'packet>,
    /// It made the next key the current one.
    pub(super) key_changed: bool,
}

/// The keys of a session.
#[derive(Debug)]
pub(super) struct Keys {
    /// The current key; its phase names it.
    pub(super) sealer: Sealer,
    /// The current key.
    pub(super) opener: Opener,
    /// The key of the phase after the current one.
    next: Option<Box<NextKey>>,
    /// The key of the phase before the current one.
    previous: Option<Box<PreviousKey>>,
    /// The owner was requested to replace the current key.
    requested: bool,
}

impl Keys {
    pub(super) fn new(sealer: Sealer, opener: Opener) -> Self {
        Self { sealer, opener, next: None, previous: None, requested: false }
    }

    pub(super) fn phase(&self) -> u8 {
        self.sealer.phase()
    }

    fn next_phase(&self) -> u8 {
        (self.phase() + 1) % PHASES
    }

    /// Takes a key. `Ok(true)`: it is in use from now on.
    pub(super) fn insert(&mut self, key: NewKey) -> Result<bool, StaleKey> {
        if key.phase != self.next_phase() {
            return Err(StaleKey);
        }
        self.next = Some(Box::new(NextKey { sealer: key.sealer, opener: key.opener }));
        if mutate!(key.confirmed, "unconfirmed-key-used" => true) {
            self.promote_next(None);
        }
        Ok(key.confirmed)
    }

    /// Makes the next key the current one, and that one the previous one until `until`.
    fn promote_next(&mut self, until: Option<Instant>) {
        let Some(next) = self.next.take() else { return };
        let phase = self.phase();
        let NextKey { sealer, opener } = *next;
        self.sealer = sealer.succeed(&self.sealer);
        let opener = core::mem::replace(&mut self.opener, opener);
        self.previous = Some(Box::new(PreviousKey { phase, opener, until }));
        self.requested = false;
    }

    /// Opens a packet under the key that its header names. `grace`: how long packets may still be under way.
    pub(super) fn open<'packet>(
        &mut self,
        now: Instant,
        grace: impl FnOnce() -> Duration,
        sealed: DataPacket<'packet>,
    ) -> Result<Unsealed<'packet>, UnsealError> {
        let phase = sealed.header().phase();
        if phase == self.phase() {
            let packet = self.opener.open_parsed(now, sealed)?;
            if let Some(previous) = &mut self.previous {
                // The peer has moved on as well: what it sealed before is under way or lost.
                previous.until.get_or_insert_with(|| now + grace());
            }
            return Ok(Unsealed { packet, key_changed: false });
        }
        if phase == self.next_phase()
            && let Some(next) = &mut self.next
        {
            let packet = next.opener.open_parsed(now, sealed)?;
            self.promote_next(Some(now + grace()));
            return Ok(Unsealed { packet, key_changed: true });
        }
        match &mut self.previous {
            Some(previous) if previous.phase == phase && previous.until.is_none_or(|until| now < until) => {
                let packet = previous.opener.open_parsed(now, sealed)?;
                Ok(Unsealed { packet, key_changed: false })
            }
            _ => Err(UnsealError::OtherKey),
        }
    }

    /// When [`Keys::handle_timeout`] is to be called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let limits = self.sealer.limits();
        let due = self.sealer.born() + if self.requested { limits.hard_age } else { limits.soft_age };
        let gone = self.previous.as_ref().and_then(|previous| previous.until);
        Some(gone.map_or(due, |gone| gone.min(due)))
    }

    /// Forgets the previous key when its time is over.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.previous.as_ref().and_then(|previous| previous.until).is_some_and(|until| until <= now) {
            self.previous = None;
        }
    }

    /// Whether the current key has stopped: nothing can be sealed any more.
    pub(super) fn is_spent(&self, now: Instant) -> bool {
        self.sealer.key_use(now) == KeyUse::Spent
    }

    /// Whether the current key should be replaced, as either direction has used it up; `true` once per key.
    pub(super) fn request_due(&mut self, now: Instant) -> bool {
        let opener = mutate!(self.opener.key_use(now), "opener-never-asks" => KeyUse::Fresh);
        let due = !self.requested && self.sealer.key_use(now).max(opener) >= KeyUse::RekeyDue;
        self.requested |= due;
        due
    }
}
