//! The handshake's packets, byte by byte.
//!
//! Each starts with the [`Header`] (kind, version, receiver index, sender index) and ends with two 16-byte
//! keyed hashes; the Noise message is between them.
//!
//! ```text
//!               0        20        52                100                            len-32 len-16  len
//! Init          | header | e 32    | s 32 + tag      | payload 140 + tag            | mac1 | mac2 |  288
//! Reply         | header | e 32    | payload 140 + tag                              | mac1 | mac2 |  240
//! Hello         | header | e 32    | zeros 188 + tag                                | mac1 | mac2 |  288
//! HelloReply    | header | e 32    | s 32 + tag      | payload 140 + tag            | mac1 | mac2 |  288
//! HelloFinish   | header | s 32 + tag      | payload 140 + tag                      | mac1 | mac2 |  256
//! Cookie        | header | nonce 24 | cookie 16 + tag |                                              76
//! ```
//!
//! `Hello` is padded to the length of its reply. Each hash covers everything before it. `mac2` is zero unless
//! the responder has sent a cookie.
//!
//! Not inside: the content of Noise messages ([`super::noise`]).

use alloc::{vec, vec::Vec};

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U16, U32, U64},
};

use super::{
    AttemptParams, HandshakeOutcome, HandshakeRole,
    credentials::{Credentials, PeerLimits},
    error::HandshakeError,
};
use crate::{
    identity::{Certificate, SIGNATURE_BYTES},
    ids::PeerId,
    seal::{KeyBytes, SessionKeys, Suites},
    wire::header::{HEADER_BYTES, Header, PacketKind, ReceiverIndex, TAG_BYTES},
};

/// Bytes of `mac1`, of `mac2` and of a cookie.
pub(super) const MAC_BYTES: usize = 16;
/// Bytes of an X25519 public key.
const DH_BYTES: usize = 32;
/// Bytes of a sealed X25519 public key.
const SEALED_DH_BYTES: usize = DH_BYTES + TAG_BYTES;
/// Bytes of the sealed payload.
const SEALED_PAYLOAD_BYTES: usize = size_of::<Payload>() + TAG_BYTES;
/// Bytes around the Noise message.
const FRAME_BYTES: usize = HEADER_BYTES + 2 * MAC_BYTES;

/// Length of an `Init` packet.
pub const INIT_BYTES: usize = FRAME_BYTES + DH_BYTES + SEALED_DH_BYTES + SEALED_PAYLOAD_BYTES;
/// Length of a `Reply` packet.
pub const REPLY_BYTES: usize = FRAME_BYTES + DH_BYTES + SEALED_PAYLOAD_BYTES;
/// Length of a `Hello` packet.
pub const HELLO_BYTES: usize = FRAME_BYTES + DH_BYTES + HELLO_PADDING_BYTES + TAG_BYTES;
/// Length of a `HelloReply` packet.
pub const HELLO_REPLY_BYTES: usize = FRAME_BYTES + DH_BYTES + SEALED_DH_BYTES + SEALED_PAYLOAD_BYTES;
/// Length of a `HelloFinish` packet.
pub const HELLO_FINISH_BYTES: usize = FRAME_BYTES + SEALED_DH_BYTES + SEALED_PAYLOAD_BYTES;
/// Length of a `Cookie` packet.
pub const COOKIE_BYTES: usize = HEADER_BYTES + COOKIE_NONCE_BYTES + MAC_BYTES + TAG_BYTES;
/// Longest handshake packet.
pub const MAX_HANDSHAKE_BYTES: usize = 288;

pub(super) const COOKIE_NONCE_BYTES: usize = 24;
/// Zeros in a `Hello`, which make it as long as its reply.
pub(super) const HELLO_PADDING_BYTES: usize = SEALED_DH_BYTES + size_of::<Payload>();

// No amplification: a reply is at most as long as the packet that it answers.
const _: () = assert!(REPLY_BYTES <= INIT_BYTES && COOKIE_BYTES <= INIT_BYTES);
const _: () = assert!(HELLO_REPLY_BYTES <= HELLO_BYTES && COOKIE_BYTES <= HELLO_BYTES);
const _: () = assert!(size_of::<Payload>() == 140 && align_of::<Payload>() == 1);
const _: () = assert!(INIT_BYTES == 288 && REPLY_BYTES == 240 && HELLO_BYTES == 288);
const _: () = assert!(HELLO_REPLY_BYTES == 288 && HELLO_FINISH_BYTES == 256 && COOKIE_BYTES == 76);
const _: () = assert!(
    INIT_BYTES <= MAX_HANDSHAKE_BYTES
        && HELLO_BYTES <= MAX_HANDSHAKE_BYTES
        && HELLO_REPLY_BYTES <= MAX_HANDSHAKE_BYTES
        && HELLO_FINISH_BYTES <= MAX_HANDSHAKE_BYTES
);

/// What each side states about itself inside the encryption.
///
/// ```text
/// 0              32          96         104     112    120      122           124
/// | identity key | signature | validity | index | boot | suites | generation | ...
///       124       128            132        136        140
///   ... | attempt | packet bytes | channels | idle, ms |
/// ```
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Payload {
    identity_key: [u8; 32],
    signature: [u8; SIGNATURE_BYTES],
    validity: U64,
    index: ReceiverIndex,
    boot: U64,
    suites: U16,
    generation: U16,
    attempt: U32,
    max_packet_bytes: U32,
    max_channels: U32,
    idle_timeout_ms: U32,
}

/// Bytes of the plain payload.
pub(super) const PAYLOAD_BYTES: usize = size_of::<Payload>();

/// A peer's payload, after the checks that need only the payload and its static key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Introduction {
    pub(super) peer: PeerId,
    pub(super) identity_key: [u8; 32],
    pub(super) transport_key: [u8; 32],
    pub(super) validity: u64,
    pub(super) index: ReceiverIndex,
    pub(super) boot: u64,
    pub(super) suites: Suites,
    pub(super) generation: u16,
    pub(super) attempt: u32,
    pub(super) limits: PeerLimits,
}

impl Introduction {
    /// The result of the handshake with this peer.
    pub(super) fn into_outcome(
        self,
        keys: SessionKeys,
        attempt: AttemptParams,
        role: HandshakeRole,
        confirmed: bool,
    ) -> HandshakeOutcome {
        HandshakeOutcome {
            keys,
            local_index: attempt.index,
            remote_index: self.index,
            peer: self.peer,
            peer_key: self.identity_key,
            peer_static: self.transport_key,
            peer_validity: self.validity,
            peer_boot: self.boot,
            peer_limits: self.limits,
            generation: attempt.generation,
            attempt: attempt.number,
            role,
            confirmed,
        }
    }
}

/// This node's payload. `index` is for packets to this node; `generation` and `attempt` are the initiator's,
/// which the responder returns.
pub(super) fn introduce(
    local: &Credentials,
    index: ReceiverIndex,
    generation: u16,
    attempt: u32,
) -> [u8; PAYLOAD_BYTES] {
    let payload = Payload {
        identity_key: local.identity_key,
        signature: local.certificate.signature,
        validity: U64::new(local.certificate.validity),
        index,
        boot: U64::new(local.boot),
        suites: U16::new(local.suites.bits()),
        generation: U16::new(generation),
        attempt: U32::new(attempt),
        max_packet_bytes: U32::new(local.limits.max_packet_bytes),
        max_channels: U32::new(local.limits.max_channels),
        idle_timeout_ms: U32::new(local.limits.idle_timeout_ms),
    };
    zerocopy::transmute!(payload)
}

/// Reads and checks the payload of the owner of `transport_key` in a packet with this `header`.
pub(super) fn meet(
    local: &Credentials,
    header: &Header,
    transport_key: &[u8; 32],
    payload: &[u8; PAYLOAD_BYTES],
) -> Result<Introduction, HandshakeError> {
    let payload: Payload = zerocopy::transmute!(*payload);
    // The index in the header is not authenticated; the one in the payload is.
    if payload.index != header.sender() {
        return Err(HandshakeError::Payload);
    }
    let peer = crate::identity::peer_id(&payload.identity_key);
    if peer == local.peer_id || *transport_key == local.transport.public {
        return Err(HandshakeError::OwnIdentity);
    }
    let validity = payload.validity.get();
    let certificate = Certificate { key: *transport_key, validity, signature: payload.signature };
    if !certificate.verify(&local.network, &payload.identity_key) {
        return Err(HandshakeError::Certificate);
    }
    Ok(Introduction {
        peer,
        identity_key: payload.identity_key,
        transport_key: *transport_key,
        validity,
        index: payload.index,
        boot: payload.boot.get(),
        suites: Suites::from_bits(payload.suites.get()),
        generation: payload.generation.get(),
        attempt: payload.attempt.get(),
        limits: PeerLimits {
            max_packet_bytes: payload.max_packet_bytes.get(),
            max_channels: payload.max_channels.get(),
            idle_timeout_ms: payload.idle_timeout_ms.get(),
        },
    })
}

/// The length of packets of a kind; `None` for data.
pub(super) const fn length_of(kind: PacketKind) -> Option<usize> {
    match kind {
        PacketKind::Init => Some(INIT_BYTES),
        PacketKind::Reply => Some(REPLY_BYTES),
        PacketKind::Hello => Some(HELLO_BYTES),
        PacketKind::HelloReply => Some(HELLO_REPLY_BYTES),
        PacketKind::HelloFinish => Some(HELLO_FINISH_BYTES),
        PacketKind::Cookie => Some(COOKIE_BYTES),
        PacketKind::Member | PacketKind::Data => None,
    }
}

/// The header of a handshake packet with exactly the length of its kind.
pub(super) fn parse(packet: &[u8]) -> Result<(Header, PacketKind), HandshakeError> {
    let (header, kind) = Header::parse(packet).map_err(|_| HandshakeError::Header)?;
    let length = length_of(kind).ok_or(HandshakeError::Unexpected)?;
    if packet.len() != length {
        return Err(HandshakeError::Length);
    }
    // A first message names no receiver. Other values would not be authenticated.
    let first = matches!(kind, PacketKind::Init | PacketKind::Hello);
    if first && header.receiver() != ReceiverIndex::NONE {
        return Err(HandshakeError::Header);
    }
    Ok((header, kind))
}

/// The Noise message in a packet that passed [`parse`] and is no cookie.
pub(super) fn noise_part(packet: &[u8]) -> &[u8] {
    &packet[HEADER_BYTES..packet.len() - 2 * MAC_BYTES]
}

/// The sender's ephemeral key, which is the first part of the Noise message in `Init` and `Hello`.
pub(super) fn ephemeral_of(packet: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(&packet[HEADER_BYTES..HEADER_BYTES + DH_BYTES]);
    key
}

pub(super) fn mac1_of(packet: &[u8]) -> [u8; MAC_BYTES] {
    let mut mac = [0; MAC_BYTES];
    mac.copy_from_slice(&packet[packet.len() - 2 * MAC_BYTES..packet.len() - MAC_BYTES]);
    mac
}

/// A packet with header and `mac1`; `write` fills in the Noise message.
pub(super) fn build(
    kind: PacketKind,
    receiver: ReceiverIndex,
    sender: ReceiverIndex,
    mac_key: &KeyBytes,
    write: impl FnOnce(&mut [u8]) -> Result<(), HandshakeError>,
) -> Result<Vec<u8>, HandshakeError> {
    let length = length_of(kind).ok_or(HandshakeError::Unexpected)?;
    let mut packet = vec![0; length];
    packet[..HEADER_BYTES].copy_from_slice(Header::handshake(kind, receiver, sender).as_bytes());
    write(&mut packet[HEADER_BYTES..length - 2 * MAC_BYTES])?;
    let mac = keyed(mac_key, &packet[..length - 2 * MAC_BYTES]);
    packet[length - 2 * MAC_BYTES..length - MAC_BYTES].copy_from_slice(&mac);
    Ok(packet)
}

/// Writes `mac2` into a packet from [`build`].
pub(super) fn add_mac2(packet: &mut [u8], cookie: &[u8; MAC_BYTES]) {
    let start = packet.len() - MAC_BYTES;
    let mac = keyed(&cookie_as_key(cookie), &packet[..start]);
    packet[start..].copy_from_slice(&mac);
}

/// Whether `mac1` was made with this key.
pub(super) fn mac1_holds(packet: &[u8], mac_key: &KeyBytes) -> bool {
    let start = packet.len() - 2 * MAC_BYTES;
    equal(&keyed(mac_key, &packet[..start]), &packet[start..start + MAC_BYTES])
}

/// Whether `mac2` was made with this cookie.
pub(super) fn mac2_holds(packet: &[u8], cookie: &[u8; MAC_BYTES]) -> bool {
    let start = packet.len() - MAC_BYTES;
    equal(&keyed(&cookie_as_key(cookie), &packet[..start]), &packet[start..])
}

fn cookie_as_key(cookie: &[u8; MAC_BYTES]) -> KeyBytes {
    let mut key = [0; 32];
    key[..MAC_BYTES].copy_from_slice(cookie);
    KeyBytes::from_bytes(key)
}

/// 16 bytes of BLAKE3 keyed with `key`.
pub(super) fn keyed(key: &KeyBytes, bytes: &[u8]) -> [u8; MAC_BYTES] {
    let mut mac = [0; MAC_BYTES];
    mac.copy_from_slice(&blake3::keyed_hash(key.as_bytes(), bytes).as_bytes()[..MAC_BYTES]);
    mac
}

/// Compares in constant time, as `blake3::Hash` does.
fn equal(a: &[u8; MAC_BYTES], b: &[u8]) -> bool {
    let mut wide = [[0; 32]; 2];
    wide[0][..MAC_BYTES].copy_from_slice(a);
    match b.len() {
        MAC_BYTES => wide[1][..MAC_BYTES].copy_from_slice(b),
        _ => return false,
    }
    blake3::Hash::from_bytes(wide[0]) == blake3::Hash::from_bytes(wide[1])
}
