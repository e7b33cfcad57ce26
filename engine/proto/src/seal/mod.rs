//! How a packet is sealed and opened, and when a key is used up.
//!
//! - [`Sealer`] owns the packet number: it gives each packet the next one, and no packet gets one twice.
//! - [`Opener`] owns the replay window: a number is looked up before the packet is opened and marked only after
//!   it opened, so a forged packet changes nothing but a counter.
//! - [`KeyLimits`] says when a key is due for replacement and when it stops.
//!
//! Nothing here allocates after construction.
//!
//! Not inside: how the keys come to be ([`crate::handshake`]), which session a packet belongs to, and what is in
//! it ([`crate::session`]).

mod aead;
mod key;
mod limits;
mod opener;
mod sealer;
mod window;

pub use aead::{Aead, AeadError, RingAead};
pub use key::{SecretKey, SessionKeys, Suite, Suites};
pub use limits::{
    AES_FORGERY_LIMIT, CHACHA_FORGERY_LIMIT, KEY_HARD_AGE, KEY_SOFT_AGE, KeyLimits, KeyUse, MAX_SEALED_BYTES,
};
pub use opener::{OpenedPacket, Opener, UnsealError};
pub use sealer::{SealError, SealedPacket, Sealer};
pub use window::{REPLAY_WINDOW_PACKETS, ReplayWindow};

#[cfg(test)]
mod tests;
