//! Sealing and opening packets, and the lifetime of keys.
//!
//! - [`Sealer`] owns the packet numbers of one direction: each packet gets the next one.
//! - [`Opener`] owns the replay window. A number is checked before its packet is opened and recorded only
//!   after it opened, so a forged packet changes nothing but a counter.
//! - [`KeyLimits`] tells when a key is due for replacement and when it stops.
//!
//! Nothing here allocates after construction.
//!
//! Not inside: the origin of keys ([`crate::handshake`]), the choice among a session's keys and the meaning
//! of a packet ([`crate::session`]).

mod aead;
mod key;
mod limits;
mod opener;
mod sealer;
mod window;

pub use aead::{Aead, AeadError, RingAead};
pub use key::{KeyBytes, SessionKeys, Suite, Suites};
pub use limits::{
    AES_FORGERY_LIMIT, CHACHA_FORGERY_LIMIT, KEY_HARD_AGE, KEY_SOFT_AGE, KeyLimits, KeyUse, MAX_SEALED_BYTES,
};
pub use opener::{OpenedPacket, Opener, UnsealError};
pub use sealer::{SealError, SealedPacket, Sealer};
pub use window::{REPLAY_WINDOW_PACKETS, ReplayWindow, Vacancy};

#[cfg(test)]
mod tests;
