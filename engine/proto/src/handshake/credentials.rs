//! What a node brings into every handshake: identity, transport key and network secret.

use core::fmt;

use crate::{
    identity::{Certificate, Identity, TransportKey},
    ids::{NetworkId, PeerId},
    seal::{KeyBytes, Suites},
};

const CONTEXT_PUBLIC_SECRET: &str = "corewire v1 network secret of a public network";
const CONTEXT_PSK: &str = "corewire v1 handshake pre-shared key";
const CONTEXT_MAC_KNOWN: &str = "corewire v1 packet filter for a known peer";
const CONTEXT_MAC_ADDRESS: &str = "corewire v1 packet filter for an address";
const CONTEXT_BEACON: &str = "corewire v1 beacon key";
const CONTEXT_COOKIE: &str = "corewire v1 cookie encryption";

/// 32 random bytes that all members of a network share. Other nodes cannot join.
#[derive(Clone)]
pub struct NetworkSecret(KeyBytes);

/// The bytes are not random.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "the network secret must be 32 random bytes; these repeat themselves (use the system's random source)"
)]
pub struct WeakSecret;

/// Fewest different bytes of a secret; 32 random ones have fewer once in 10¹⁹ times.
const MIN_DISTINCT_BYTES: u32 = 16;

impl NetworkSecret {
    /// A secret from its bytes. Refuses bytes that are visibly not random.
    pub fn new(bytes: [u8; 32]) -> Result<Self, WeakSecret> {
        let mut seen = [0u64; 4];
        for byte in bytes {
            seen[usize::from(byte / 64)] |= 1 << (byte % 64);
        }
        let distinct: u32 = seen.iter().map(|word| word.count_ones()).sum();
        if distinct < MIN_DISTINCT_BYTES { Err(WeakSecret) } else { Ok(Self(KeyBytes::from_bytes(bytes))) }
    }

    /// The secret of a network without one of its own: every node that knows the id can derive it and join.
    /// Identity and encryption between peers do not depend on it.
    pub fn of_public_network(network: &NetworkId) -> Self {
        Self(KeyBytes::from_bytes(blake3::derive_key(CONTEXT_PUBLIC_SECRET, network.as_bytes())))
    }

    /// The key of the network's beacons ([`crate::beacon`]).
    pub fn beacon_key(&self, network: &NetworkId) -> KeyBytes {
        self.derive(CONTEXT_BEACON, &[network.as_bytes()])
    }

    /// A key for one purpose, bound to `bound_to`.
    pub(super) fn derive(&self, context: &str, bound_to: &[&[u8]]) -> KeyBytes {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(self.0.as_bytes());
        for part in bound_to {
            hasher.update(part);
        }
        KeyBytes::from_bytes(*hasher.finalize().as_bytes())
    }
}

impl fmt::Debug for NetworkSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NetworkSecret(..)")
    }
}

/// What a peer accepts; exchanged in the handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerLimits {
    /// The largest packet that it receives, in bytes.
    pub max_packet_bytes: u32,
    /// Channels that may be open in one session.
    pub max_channels: u32,
    /// Milliseconds without channels and messages after which it closes a session.
    pub idle_timeout_ms: u32,
}

/// What [`Credentials::new`] needs besides the identity.
#[derive(Clone, Debug)]
pub struct CredentialsConfig {
    /// The network to join.
    pub network: NetworkId,
    /// Its secret; `None` derives one from the id (see [`NetworkSecret::of_public_network`]).
    pub secret: Option<NetworkSecret>,
    /// Which transport key of the identity to use.
    pub validity: u64,
    /// Ciphers to offer ([`Suites::for_cpu`]).
    pub suites: Suites,
    /// A random number, drawn at each start of the node.
    pub boot: u64,
    /// What this node accepts.
    pub limits: PeerLimits,
}

/// What a node brings into every handshake: identity, transport key, certificate, and the network's keys.
pub struct Credentials {
    pub(super) network: NetworkId,
    pub(super) peer_id: PeerId,
    pub(super) identity_key: [u8; 32],
    pub(super) transport: TransportKey,
    pub(super) certificate: Certificate,
    pub(super) suites: Suites,
    pub(super) boot: u64,
    pub(super) limits: PeerLimits,
    /// Noise's pre-shared key.
    pub(super) psk: KeyBytes,
    /// Encrypts cookies.
    pub(super) cookie_key: KeyBytes,
    /// Key of `mac1` in packets whose sender knows this node's transport key.
    pub(super) mac_own: KeyBytes,
    /// Key of `mac1` in the handshake by address, in both directions.
    pub(super) mac_address: KeyBytes,
    secret: NetworkSecret,
}

impl Credentials {
    /// Derives and signs what is the same in every handshake.
    pub fn new(identity: &Identity, config: CredentialsConfig) -> Self {
        let CredentialsConfig { network, secret, validity, suites, boot, limits } = config;
        let secret = secret.unwrap_or_else(|| NetworkSecret::of_public_network(&network));
        let transport = identity.transport_key(validity);
        let id = network.as_bytes();
        Self {
            network,
            peer_id: identity.peer_id(),
            identity_key: *identity.public_key(),
            certificate: identity.certify(&network, &transport),
            psk: secret.derive(CONTEXT_PSK, &[id]),
            cookie_key: secret.derive(CONTEXT_COOKIE, &[id]),
            mac_own: secret.derive(CONTEXT_MAC_KNOWN, &[id, &transport.public]),
            mac_address: secret.derive(CONTEXT_MAC_ADDRESS, &[id]),
            transport,
            suites,
            boot,
            limits,
            secret,
        }
    }

    /// Key of `mac1` in packets to the peer with this transport key.
    pub(super) fn mac_for(&self, transport_key: &[u8; 32]) -> KeyBytes {
        self.secret.derive(CONTEXT_MAC_KNOWN, &[self.network.as_bytes(), transport_key])
    }

    /// This node's name.
    pub const fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// The network that the node is a member of.
    pub const fn network(&self) -> NetworkId {
        self.network
    }

    /// The X25519 public key that an `Init` to this node needs; published in the node's record.
    pub const fn transport_key(&self) -> &[u8; 32] {
        &self.transport.public
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("peer", &self.peer_id)
            .field("network", &self.network)
            .finish_non_exhaustive()
    }
}
