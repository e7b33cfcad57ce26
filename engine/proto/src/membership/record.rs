//! A peer's signed record of itself.
//!
//! ```text
//! 0        1              33                                                             len-64      len
//! | format | identity key | keys, addresses, tags, streams, version, lifetime, leaving   | signature |
//! ```
//!
//! What stands between key and signature is in postcard. The encoding is canonical: tags and streams ascend
//! without repetition, and a decoded record encodes to the same bytes. Two records therefore differ exactly
//! when their bytes differ. The signature covers a context, the network id and everything before it, so a
//! record is valid in one network only.
//!
//! Not inside: which of many records are kept ([`super::catalog`]).

use alloc::{sync::Arc, vec::Vec};
use core::{
    fmt,
    marker::PhantomData,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{SeqAccess, Visitor},
};

use crate::{
    identity::{Identity, SIGNATURE_BYTES, peer_id, verify},
    ids::{NetworkId, PeerId, StreamId, TagId},
};

/// X25519 keys that a record can carry: the current one, and the one before or after it.
pub const MAX_TRANSPORT_KEYS: usize = 2;
/// Addresses that a record can carry: a few per network interface.
pub const MAX_ADDRESSES: usize = 8;
/// Tags that a record can carry.
pub const MAX_TAGS: usize = 64;
/// Produced streams that a record can carry.
pub const MAX_STREAMS: usize = 1_024;
/// Longest record, in bytes: every list full, every number at its longest.
pub const MAX_RECORD_BYTES: usize = 36 * 1_024;
/// A record with a longer lifetime than this many seconds is refused, so that none has to be kept for years.
/// In a large network records live long, because deaths are noticed in another way and each renewal reaches
/// every node.
pub const MAX_LIFETIME_S: u64 = 7 * 24 * 3_600;

/// The first byte of a record.
const FORMAT: u8 = 2;
const CONTEXT_RECORD: &[u8] = b"corewire v1 peer record\0";

/// Keys with a number of up to ten bytes, addresses of up to 20, three numbers of up to ten, a flag, lengths.
const LONGEST_BODY_BYTES: usize = 1
    + 32
    + MAX_TRANSPORT_KEYS * 52
    + MAX_ADDRESSES * 20
    + (MAX_TAGS + MAX_STREAMS) * 32
    + 4 * 3
    + 3 * 10
    + 1;
const _: () = assert!(LONGEST_BODY_BYTES + SIGNATURE_BYTES <= MAX_RECORD_BYTES);

/// Why bytes are not a record, or a record is not acceptable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, thiserror::Error)]
pub enum RecordError {
    /// Shorter than any record or longer than [`MAX_RECORD_BYTES`].
    #[error("too short or too long for a record")]
    Length,
    /// Made by another version of the protocol.
    #[error("unknown record format")]
    Format,
    /// Not decodable, or a list over its limit.
    #[error("not decodable, or a list over its limit")]
    Malformed,
    /// Decodable, but not the canonical encoding of its content.
    #[error("not the canonical encoding of its content")]
    NotCanonical,
    /// It carries no transport key, so the peer could not be reached.
    #[error("the record carries no transport key")]
    NoTransportKey,
    /// An address that no packet can be sent to.
    #[error("an address that no packet can be sent to")]
    Address,
    /// Not signed by the key it carries, or for another network.
    #[error("not signed by the key that it carries, or for another network")]
    Signature,
    /// It is older than its lifetime.
    #[error("older than its lifetime")]
    Expired,
    /// Its lifetime is longer than [`MAX_LIFETIME_S`].
    #[error("a lifetime of more than a week")]
    TooLongLived,
}

/// Orders the records of one peer: by incarnation, then by sequence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Default)]
pub struct RecordVersion {
    /// Counts the peer's starts, for instance by the clock at the start.
    pub incarnation: u64,
    /// Counts the records since the start.
    pub sequence: u64,
}

/// An X25519 key in a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TransportKeyEntry {
    /// The public key.
    pub key: [u8; 32],
    /// Its validity period (see [`crate::identity::Certificate`]).
    pub validity: u64,
}

/// A peer's description of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerRecord {
    /// Computed from `identity_key`.
    pub peer_id: PeerId,
    /// The Ed25519 key that signs the record.
    pub identity_key: [u8; 32],
    /// Keys for a handshake, the preferred one first; at least one, at most [`MAX_TRANSPORT_KEYS`].
    pub transport_keys: Vec<TransportKeyEntry>,
    /// Where the peer may be reached, the preferred address first; at most [`MAX_ADDRESSES`].
    pub addresses: Vec<SocketAddr>,
    /// Tags, ascending; at most [`MAX_TAGS`].
    pub tags: Vec<TagId>,
    /// Streams that the peer produces, ascending, at most [`MAX_STREAMS`].
    pub streams: Vec<StreamId>,
    /// Which of the peer's records is newer.
    pub version: RecordVersion,
    /// How long it is believed after it was made, in seconds; at most [`MAX_LIFETIME_S`]. No date, because
    /// the clocks of two hosts need not agree.
    pub lifetime_s: u64,
    /// The last record of a peer that leaves the network.
    pub leaving: bool,
}

impl PeerRecord {
    /// For how many more seconds a record of this age is believed.
    pub fn check_age(&self, age_s: u64) -> Result<u64, RecordError> {
        if self.lifetime_s > MAX_LIFETIME_S {
            return Err(RecordError::TooLongLived);
        }
        self.lifetime_s.checked_sub(age_s).filter(|left| *left > 0).ok_or(RecordError::Expired)
    }

    /// Checks what the wire format alone does not ensure.
    fn check(&self) -> Result<(), RecordError> {
        let lists = [
            (self.transport_keys.len(), MAX_TRANSPORT_KEYS),
            (self.addresses.len(), MAX_ADDRESSES),
            (self.tags.len(), MAX_TAGS),
            (self.streams.len(), MAX_STREAMS),
        ];
        if lists.iter().any(|(len, max)| len > max) {
            return Err(RecordError::Malformed);
        }
        if self.transport_keys.is_empty() {
            return Err(RecordError::NoTransportKey);
        }
        if !ascends(&self.tags) || !ascends(&self.streams) {
            return Err(RecordError::NotCanonical);
        }
        if !self.addresses.iter().all(can_be_announced) {
            return Err(RecordError::Address);
        }
        Ok(())
    }
}

fn ascends<T: Ord>(list: &[T]) -> bool {
    list.is_sorted_by(|a, b| a < b)
}

/// Whether a record may carry this address: a datagram can be sent there. A mapped address is refused because
/// it has a shorter form.
pub fn can_be_announced(address: &SocketAddr) -> bool {
    let ip = address.ip();
    let fits = match ip {
        IpAddr::V4(v4) => !v4.is_broadcast(),
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_none(),
    };
    fits && address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast()
}

/// The part behind format and identity key, in wire format.
#[derive(Serialize, Deserialize)]
struct RecordBody {
    transport_keys: Bounded<TransportKeyEntry, MAX_TRANSPORT_KEYS>,
    addresses: Bounded<WireAddress, MAX_ADDRESSES>,
    tags: Bounded<TagId, MAX_TAGS>,
    streams: Bounded<StreamId, MAX_STREAMS>,
    incarnation: u64,
    sequence: u64,
    lifetime_s: u64,
    leaving: bool,
}

#[derive(Serialize, Deserialize)]
enum WireAddress {
    V4([u8; 4], u16),
    V6([u8; 16], u16),
}

impl From<&SocketAddr> for WireAddress {
    fn from(address: &SocketAddr) -> Self {
        match address.ip() {
            IpAddr::V4(ip) => Self::V4(ip.octets(), address.port()),
            IpAddr::V6(ip) => Self::V6(ip.octets(), address.port()),
        }
    }
}

impl From<WireAddress> for SocketAddr {
    fn from(address: WireAddress) -> Self {
        match address {
            WireAddress::V4(ip, port) => Self::from((Ipv4Addr::from(ip), port)),
            WireAddress::V6(ip, port) => Self::from((Ipv6Addr::from(ip), port)),
        }
    }
}

/// A list whose announced length is checked against `MAX` before anything is allocated for it.
#[derive(Serialize)]
#[serde(transparent)]
struct Bounded<T, const MAX: usize>(Vec<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Bounded<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<T, const MAX: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for List<T, MAX> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {MAX} elements")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<T>, A::Error> {
                let too_long = || serde::de::Error::invalid_length(MAX, &"fewer elements");
                if elements.size_hint().is_some_and(|len| len > MAX) {
                    return Err(too_long());
                }
                // Grows with the elements that are present; an announced length reserves nothing.
                let mut list = Vec::new();
                while let Some(element) = elements.next_element()? {
                    if list.len() == MAX {
                        return Err(too_long());
                    }
                    list.push(element);
                }
                Ok(list)
            }
        }

        deserializer.deserialize_seq(List::<T, MAX>(PhantomData)).map(Self)
    }
}

/// A record whose signature was checked, with the bytes that carry it. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedRecord {
    record: Arc<PeerRecord>,
    bytes: Arc<[u8]>,
    hash: [u8; 32],
}

impl SignedRecord {
    /// Signs a record. `peer_id` and `identity_key` are set from the identity; tags and streams are sorted.
    pub fn sign(
        identity: &Identity,
        network: &NetworkId,
        mut record: PeerRecord,
    ) -> Result<Self, RecordError> {
        record.peer_id = identity.peer_id();
        record.identity_key = *identity.public_key();
        record.tags.sort_unstable();
        record.tags.dedup();
        record.streams.sort_unstable();
        record.streams.dedup();
        record.check()?;
        let mut bytes = encode(&record)?;
        let signature = identity.sign(&message(network, &bytes));
        bytes.extend_from_slice(&signature);
        Ok(Self::new(record, &bytes))
    }

    /// Whose record, and which version of it, these bytes claim to be; `None` when they are no record.
    /// Nothing is verified.
    pub(crate) fn claim(bytes: &[u8]) -> Option<(PeerId, RecordVersion)> {
        let (identity_key, wire, _) = decode(bytes).ok()?;
        let version = RecordVersion { incarnation: wire.incarnation, sequence: wire.sequence };
        Some((peer_id(identity_key), version))
    }

    /// Decodes a record and checks its length, limits, canonical form and signature, but not its age.
    pub fn verify(bytes: &[u8], network: &NetworkId) -> Result<Self, RecordError> {
        let (identity_key, wire, (body, signature)) = decode(bytes)?;
        let record = PeerRecord {
            peer_id: peer_id(identity_key),
            identity_key: *identity_key,
            transport_keys: wire.transport_keys.0,
            addresses: wire.addresses.0.into_iter().map(SocketAddr::from).collect(),
            tags: wire.tags.0,
            streams: wire.streams.0,
            version: RecordVersion { incarnation: wire.incarnation, sequence: wire.sequence },
            lifetime_s: wire.lifetime_s,
            leaving: wire.leaving,
        };
        record.check()?;
        if encode(&record)? != body {
            return Err(RecordError::NotCanonical);
        }
        if !verify(identity_key, &message(network, body), signature) {
            return Err(RecordError::Signature);
        }
        Ok(Self::new(record, bytes))
    }

    fn new(record: PeerRecord, bytes: &[u8]) -> Self {
        Self { record: Arc::new(record), hash: *blake3::hash(bytes).as_bytes(), bytes: bytes.into() }
    }

    /// The record.
    pub fn record(&self) -> &PeerRecord {
        &self.record
    }

    /// The record, shared.
    pub fn shared(&self) -> Arc<PeerRecord> {
        Arc::clone(&self.record)
    }

    /// The encoded record, to be passed on.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The first eight bytes of its hash, by which it is named in short.
    pub fn mark(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.hash;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// The mark of a record of these bytes.
    pub(crate) fn mark_of_bytes(bytes: &[u8]) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(bytes).as_bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// Hash of the bytes. Of two records of one version, the one with the smaller hash is kept.
    pub const fn hash(&self) -> &[u8; 32] {
        &self.hash
    }
}

impl fmt::Debug for SignedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedRecord({:?}, {:?})", self.record.peer_id, self.record.version)
    }
}

/// What a record consists of: the key, what stands behind it, the signed bytes and their signature.
type RecordParts<'a> = (&'a [u8; 32], RecordBody, (&'a [u8], &'a [u8; SIGNATURE_BYTES]));

fn decode(bytes: &[u8]) -> Result<RecordParts<'_>, RecordError> {
    if bytes.len() > MAX_RECORD_BYTES {
        return Err(RecordError::Length);
    }
    let (body, signature) = bytes.split_last_chunk::<SIGNATURE_BYTES>().ok_or(RecordError::Length)?;
    let (format, rest) = body.split_first().ok_or(RecordError::Length)?;
    let (identity_key, rest) = rest.split_first_chunk::<32>().ok_or(RecordError::Length)?;
    if *format != FORMAT {
        return Err(RecordError::Format);
    }
    let (wire, left): (RecordBody, _) =
        postcard::take_from_bytes(rest).map_err(|_| RecordError::Malformed)?;
    if !left.is_empty() {
        return Err(RecordError::Malformed);
    }
    Ok((identity_key, wire, (body, signature)))
}

/// Everything in front of the signature.
fn encode(record: &PeerRecord) -> Result<Vec<u8>, RecordError> {
    let body = RecordBody {
        transport_keys: Bounded(record.transport_keys.clone()),
        addresses: Bounded(record.addresses.iter().map(WireAddress::from).collect()),
        tags: Bounded(record.tags.clone()),
        streams: Bounded(record.streams.clone()),
        incarnation: record.version.incarnation,
        sequence: record.version.sequence,
        lifetime_s: record.lifetime_s,
        leaving: record.leaving,
    };
    let mut bytes = Vec::with_capacity(1_024);
    bytes.push(FORMAT);
    bytes.extend_from_slice(&record.identity_key);
    postcard::to_extend(&body, bytes).map_err(|_| RecordError::Malformed)
}

/// The signed message.
fn message(network: &NetworkId, body: &[u8]) -> Vec<u8> {
    [CONTEXT_RECORD, network.as_bytes(), body].concat()
}
