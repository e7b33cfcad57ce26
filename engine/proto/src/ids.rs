//! The 32-byte names of networks, peers, streams and tags. `Debug` shows the first four bytes.

use core::fmt;

use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, FromBytes,
            IntoBytes, KnownLayout, Immutable, Unaligned,
        )]
        #[serde(transparent)]
        #[repr(transparent)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The id that consists of these bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The bytes that make up the id.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl From<[u8; 32]> for $name {
            fn from(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }
        }

        impl From<$name> for [u8; 32] {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let [a, b, c, d, ..] = self.0;
                write!(f, concat!(stringify!($name), "({:02x}{:02x}{:02x}{:02x})"), a, b, c, d)
            }
        }
    };
}

id! {
    /// Names a network. Not secret: membership takes the network's secret, unless the network has none of its
    /// own (see [`crate::handshake::NetworkSecret`]).
    NetworkId
}

id! {
    /// Names a peer: a hash over the peer's Ed25519 public key.
    PeerId
}

id! {
    /// Names a stream.
    StreamId
}

id! {
    /// Names a tag in a peer's record.
    TagId
}

#[cfg(test)]
mod tests {
    use std::format;

    use super::*;

    #[test]
    fn debug_shows_the_first_four_bytes() {
        let mut bytes = [0; 32];
        bytes[0] = 0xab;
        bytes[3] = 1;
        assert_eq!(format!("{:?}", PeerId(bytes)), "PeerId(ab000001)");
    }
}
