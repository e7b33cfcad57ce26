//! The keys of a session, and how one takes the place of another.
//!
//! ```text
//!  the peer began the handshake:  next --- a packet opens under it ---> current ---> previous ---> gone
//!  this side began it:            ------------------------------------> current ---> previous ---> gone
//! ```
//!
//! - Everything is sealed under `current`. `next` and `previous` only open packets.
//! - The side that answered a handshake does not know that the other one has got the answer; so its key waits as
//!   `next`. However long that takes, packets go on under `current` in both directions.
//! - `previous` opens what is under way, until nothing can be any more: a while after the peer was seen to use the
//!   key that took its place.
//! - A packet says in its header which key it is under. Packet numbers go on from key to key: loss detection and
//!   acknowledgements know nothing of keys. A number still comes once per key, and the replay window is each key's
//!   own.
//!
//! Not inside: how keys come to be, and who begins.

use alloc::boxed::Box;
use core::time::Duration;

use crate::{
    seal::{KeyUse, OpenedPacket, Opener, Sealer, UnsealError},
    time::Instant,
    wire::header::{Header, PHASES, PacketKind},
};

/// A new key for a session that goes on: see [`super::Session::rekey`].
#[derive(Debug)]
pub struct NewKey {
    /// Which of the session's keys it is: one more than the current one's, modulo [`PHASES`].
    pub phase: u8,
    /// Seals what is sent. It has not sealed anything yet.
    pub sealer: Sealer,
    /// Opens what the peer sends.
    pub opener: Opener,
    /// Whether the peer is known to have it: so it is where this side began the handshake. If not, it is not used
    /// before a packet of the peer came under it.
    pub confirmed: bool,
}

/// The key is not the one after the current one: it comes from a handshake that another one has overtaken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the key is not the one after the current one; another handshake was faster")]
pub struct StaleKey;

#[derive(Debug)]
struct NextKey {
    sealer: Sealer,
    opener: Opener,
}

#[derive(Debug)]
struct PreviousKey {
    phase: u8,
    opener: Opener,
    /// When it goes; `None` while the peer may still be sealing under it.
    until: Option<Instant>,
}

/// What opening a packet did to the keys.
#[derive(Debug)]
pub(super) struct Unsealed<'packet> {
    pub(super) opened: OpenedPacket<'packet>,
    /// The next key has become the current one.
    pub(super) changed: bool,
}

#[derive(Debug)]
pub(super) struct Keys {
    pub(super) sealer: Sealer,
    pub(super) opener: Opener,
    next: Option<Box<NextKey>>,
    previous: Option<Box<PreviousKey>>,
    /// The owner was told that the current key is due.
    asked: bool,
}

impl Keys {
    pub(super) fn new(sealer: Sealer, opener: Opener) -> Self {
        Self { sealer, opener, next: None, previous: None, asked: false }
    }

    pub(super) fn phase(&self) -> u8 {
        self.sealer.phase()
    }

    fn next_phase(&self) -> u8 {
        (self.phase() + 1) % PHASES
    }

    /// Takes a key. `Ok(true)`: it is in use from now on.
    pub(super) fn take(&mut self, key: NewKey) -> Result<bool, StaleKey> {
        if key.phase != self.next_phase() {
            return Err(StaleKey);
        }
        self.next = Some(Box::new(NextKey { sealer: key.sealer, opener: key.opener }));
        if key.confirmed {
            self.promote_next(None);
        }
        Ok(key.confirmed)
    }

    /// The next key takes the current one's place, which stays until then to open packets.
    fn promote_next(&mut self, until: Option<Instant>) {
        let Some(next) = self.next.take() else { return };
        let phase = self.phase();
        let NextKey { sealer, opener } = *next;
        self.sealer = sealer.succeed(&self.sealer);
        let opener = core::mem::replace(&mut self.opener, opener);
        self.previous = Some(Box::new(PreviousKey { phase, opener, until }));
        self.asked = false;
    }

    /// Opens a packet under the key that its header names. `grace`: how long packets may be under way.
    pub(super) fn open<'packet>(
        &mut self,
        now: Instant,
        grace: impl FnOnce() -> Duration,
        packet: &'packet mut [u8],
    ) -> Result<Unsealed<'packet>, UnsealError> {
        let (header, kind) = Header::parse(packet)?;
        if kind != PacketKind::Data {
            return Err(UnsealError::NotData);
        }
        let phase = header.phase();
        if phase == self.phase() {
            let opened = self.opener.open(now, packet)?;
            if let Some(previous) = &mut self.previous {
                // The peer has moved on as well: what it sealed before is under way now, or lost.
                previous.until.get_or_insert_with(|| now + grace());
            }
            return Ok(Unsealed { opened, changed: false });
        }
        if phase == self.next_phase()
            && let Some(next) = &mut self.next
        {
            let opened = next.opener.open(now, packet).map_err(not_current)?;
            self.promote_next(Some(now + grace()));
            return Ok(Unsealed { opened, changed: true });
        }
        match &mut self.previous {
            Some(previous) if previous.phase == phase && previous.until.is_none_or(|until| now < until) => {
                let opened = previous.opener.open(now, packet).map_err(not_current)?;
                Ok(Unsealed { opened, changed: false })
            }
            _ => Err(UnsealError::OtherKey),
        }
    }

    /// When [`Keys::handle_timeout`] wants to be called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let due = (!self.asked).then(|| self.sealer.born() + self.sealer.limits().soft_age);
        let gone = self.previous.as_ref().and_then(|previous| previous.until);
        match (due, gone) {
            (Some(due), Some(gone)) => Some(due.min(gone)),
            (due, gone) => due.or(gone),
        }
    }

    /// Forgets the previous key when its time is over.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.previous.as_ref().and_then(|previous| previous.until).is_some_and(|until| until <= now) {
            self.previous = None;
        }
    }

    /// `true`, once per key, when the current one should be replaced.
    pub(super) fn ask(&mut self, now: Instant) -> bool {
        let due = !self.asked && self.sealer.key_use(now) >= KeyUse::RekeyDue;
        self.asked |= due;
        due
    }
}

/// A key that is not the current one may stop; the session goes on without it.
fn not_current(error: UnsealError) -> UnsealError {
    match error {
        UnsealError::Spent => UnsealError::OtherKey,
        other => other,
    }
}
