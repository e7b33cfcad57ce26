//! The 20 bytes that every packet starts with.
//!
//! ```text
//!  0       1               4                              12                             20
//!  +-------+---------------+------------------------------+------------------------------+
//!  | k · p |   reserved    |        receiver index        |   packet number  (data)      |
//!  |       | (v, 0, 0)     | shard | slot   | generation  |   sender index   (handshake) |
//!  +-------+---------------+------------------------------+------------------------------+
//!     |                       1      3          4               8, little-endian
//!     +-- kind (high 4 bits) · phase (low 4 bits)
//! ```
//!
//! - `kind`: [`PacketKind`].
//! - `phase`: in data packets, which of the session's keys sealed the packet: 0 for the first, one more
//!   (modulo [`PHASES`]) for each replacement. At most three keys are valid at a time, so four bits
//!   distinguish them. 0 in all other packets.
//! - `reserved`: 0 in data packets. In all others the first byte is the protocol version.
//! - `receiver index`: the session or handshake of the receiver, which chose the index. Zero in the first
//!   packet of a handshake. Its first byte, **at offset 4 of the packet** ([`SHARD_OFFSET`]), is the shard:
//!   the kernel's steering program reads kind and shard and nothing else.
//! - `packet number`: counts the packets of one direction of a session from 0, across keys. It never repeats,
//!   and it is the nonce.
//!
//! The header is associated data of the seal, so a changed bit is detected.
//!
//! Not inside: what follows the header ([`super::frames`], [`crate::handshake`]).

use core::{fmt, mem::offset_of};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian::U64};

/// Bytes of the header in front of every packet.
pub const HEADER_BYTES: usize = 20;

/// Bytes of the tag behind every sealed packet.
pub const TAG_BYTES: usize = 16;

/// Bytes of a sealed packet beside its frames.
pub const PACKET_OVERHEAD_BYTES: usize = HEADER_BYTES + TAG_BYTES;

/// Offset of the shard byte in a packet, where the kernel's steering program reads it.
pub const SHARD_OFFSET: usize = 4;

/// The protocol version in handshake packets.
pub const PROTOCOL_VERSION: u8 = 1;

/// Packet numbers from here on are refused at both ends. No key lives long enough to come near.
pub const PACKET_NUMBER_LIMIT: u64 = 1 << 62;

/// Key phases that a data packet's header can name.
pub const PHASES: u8 = 16;

/// What a packet is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum PacketKind {
    /// Message 1 of the handshake with a peer whose key is known (`IKpsk2`).
    Init = 1,
    /// Message 2 of that handshake, and the last.
    Reply = 2,
    /// Message 1 of the handshake with an address whose peer is unknown (`XXpsk3`).
    Hello = 3,
    /// Message 2 of that handshake.
    HelloReply = 4,
    /// Message 3 of that handshake, and the last.
    HelloFinish = 5,
    /// The answer to message 1 under load: repeat it with this cookie, as proof of your address.
    Cookie = 6,
    /// A packet of the membership protocol ([`crate::swim`]), sealed with the key of the network.
    Member = 7,
    /// Sealed frames of a session.
    Data = 8,
}

impl PacketKind {
    /// The kind that the high four bits of a packet's first byte name.
    pub const fn from_first_byte(byte: u8) -> Option<Self> {
        match byte >> 4 {
            1 => Some(Self::Init),
            2 => Some(Self::Reply),
            3 => Some(Self::Hello),
            4 => Some(Self::HelloReply),
            5 => Some(Self::HelloFinish),
            6 => Some(Self::Cookie),
            7 => Some(Self::Member),
            8 => Some(Self::Data),
            _ => None,
        }
    }

    /// The first byte of a packet of this kind, phase 0.
    pub const fn first_byte(self) -> u8 {
        (self as u8) << 4
    }

    /// Whether it belongs to no session, and tells its protocol version: every kind but
    /// [`PacketKind::Data`].
    pub const fn is_control(self) -> bool {
        !matches!(self, Self::Data)
    }
}

/// Names a session or a handshake at the receiver, which chose it:
/// `shard 8 bits | slot 24 bits | generation 32 bits`.
///
/// The generation is random. An attacker who cannot see the traffic has to guess it before a forged packet
/// costs more than one table lookup, and a late packet for a former owner of the slot is recognised.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(C)]
pub struct ReceiverIndex {
    shard: u8,
    slot: [u8; 3],
    generation: [u8; 4],
}

impl ReceiverIndex {
    /// No session: the receiver index in the first packet of a handshake.
    pub const NONE: Self = Self { shard: 0, slot: [0; 3], generation: [0; 4] };

    /// Slots per shard that an index can name.
    pub const SLOTS: u32 = 1 << 24;

    /// An index from its parts; `None` when `slot` needs more than 24 bits.
    pub const fn new(shard: u8, slot: u32, generation: u32) -> Option<Self> {
        if slot >= Self::SLOTS {
            return None;
        }
        let [a, b, c, _] = slot.to_le_bytes();
        Some(Self { shard, slot: [a, b, c], generation: generation.to_le_bytes() })
    }

    /// The shard that owns the session.
    pub const fn shard(self) -> u8 {
        self.shard
    }

    /// The slot in the shard's table.
    pub const fn slot(self) -> u32 {
        let [a, b, c] = self.slot;
        u32::from_le_bytes([a, b, c, 0])
    }

    /// Distinguishes successive owners of a slot.
    pub const fn generation(self) -> u32 {
        u32::from_le_bytes(self.generation)
    }

    /// The index in wire format.
    pub const fn to_bytes(self) -> [u8; 8] {
        let [a, b, c] = self.slot;
        let [d, e, f, g] = self.generation;
        [self.shard, a, b, c, d, e, f, g]
    }

    /// The index from its wire format; every value is valid.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        let [shard, a, b, c, d, e, f, g] = bytes;
        Self { shard, slot: [a, b, c], generation: [d, e, f, g] }
    }
}

impl fmt::Debug for ReceiverIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}#{:08x}", self.shard, self.slot(), self.generation())
    }
}

/// The header of every packet, byte for byte (see the module's diagram).
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Header {
    kind_phase: u8,
    reserved: [u8; 3],
    receiver: ReceiverIndex,
    number: U64,
}

const _: () = assert!(size_of::<ReceiverIndex>() == 8 && align_of::<ReceiverIndex>() == 1);
const _: () = assert!(size_of::<Header>() == HEADER_BYTES && align_of::<Header>() == 1);
const _: () = assert!(offset_of!(Header, receiver) == SHARD_OFFSET && offset_of!(ReceiverIndex, shard) == 0);
const _: () = assert!(offset_of!(Header, number) == 12);

/// Why the first 20 bytes of a datagram are not a header of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HeaderError {
    /// Fewer bytes than a header and a tag.
    #[error("shorter than a header and a tag")]
    Short,
    /// No known kind.
    #[error("unknown packet kind")]
    Kind,
    /// A handshake packet with a phase.
    #[error("a handshake packet has no phase")]
    Phase,
    /// A handshake packet of another protocol version.
    #[error("protocol version {0} is not supported")]
    Version(u8),
    /// Reserved bytes that are not zero.
    #[error("reserved bytes are set")]
    Reserved,
    /// A packet number that no key ever reaches.
    #[error("packet number out of range")]
    Number,
}

impl Header {
    /// The header of a data packet under a session's first key.
    pub fn data(receiver: ReceiverIndex, number: u64) -> Self {
        Self {
            kind_phase: PacketKind::Data.first_byte(),
            reserved: [0; 3],
            receiver,
            number: U64::new(number),
        }
    }

    /// The same header for the key of this phase, taken modulo [`PHASES`].
    #[must_use]
    pub const fn in_phase(mut self, phase: u8) -> Self {
        self.kind_phase = (self.kind_phase & 0xf0) | (phase % PHASES);
        self
    }

    /// The header of a handshake packet; `sender` is the index for the answer.
    pub fn handshake(kind: PacketKind, receiver: ReceiverIndex, sender: ReceiverIndex) -> Self {
        debug_assert!(kind.is_control());
        Self {
            kind_phase: kind.first_byte(),
            reserved: [PROTOCOL_VERSION, 0, 0],
            receiver,
            number: U64::from_bytes(sender.to_bytes()),
        }
    }

    /// The header of a membership packet, which is for the node and for no session.
    pub fn member() -> Self {
        Self::handshake(PacketKind::Member, ReceiverIndex::NONE, ReceiverIndex::NONE)
    }

    /// Reads and checks the header of a datagram that is at least a header and a tag long. Does not allocate.
    pub fn parse(datagram: &[u8]) -> Result<(Self, PacketKind), HeaderError> {
        if datagram.len() < PACKET_OVERHEAD_BYTES {
            return Err(HeaderError::Short);
        }
        let (header, _) = Self::read_from_prefix(datagram).map_err(|_| HeaderError::Short)?;
        let kind = PacketKind::from_first_byte(header.kind_phase).ok_or(HeaderError::Kind)?;
        if kind.is_control() && header.phase() != 0 {
            return Err(HeaderError::Phase);
        }
        let [version, rest @ ..] = header.reserved;
        if kind.is_control() {
            if version != PROTOCOL_VERSION {
                return Err(HeaderError::Version(version));
            }
            if rest != [0; 2] {
                return Err(HeaderError::Reserved);
            }
        } else {
            if header.reserved != [0; 3] {
                return Err(HeaderError::Reserved);
            }
            if header.number.get() >= PACKET_NUMBER_LIMIT {
                return Err(HeaderError::Number);
            }
        }
        Ok((header, kind))
    }

    /// The session or handshake that the packet is for.
    pub const fn receiver(&self) -> ReceiverIndex {
        self.receiver
    }

    /// Which of the session's keys sealed a data packet; below [`PHASES`].
    pub const fn phase(&self) -> u8 {
        self.kind_phase % PHASES
    }

    /// The packet number of a data packet.
    pub fn number(&self) -> u64 {
        self.number.get()
    }

    /// In a handshake packet: the index for the answer.
    pub fn sender(&self) -> ReceiverIndex {
        ReceiverIndex::from_bytes(self.number.to_bytes())
    }
}

/// A datagram whose header was parsed: a data packet, at least a header and a tag long.
///
/// It is parsed once, where it arrives; session and key read the header from here. The header in `bytes` is
/// associated data of the seal, so the two agree in a packet that opens.
#[derive(Debug)]
pub struct DataPacket<'datagram> {
    header: Header,
    bytes: &'datagram mut [u8],
}

impl<'datagram> DataPacket<'datagram> {
    /// Parses the header of a datagram; `None`: the packet is of another kind.
    pub fn parse(datagram: &'datagram mut [u8]) -> Result<Option<Self>, HeaderError> {
        let (header, kind) = Header::parse(datagram)?;
        Ok((!kind.is_control()).then_some(Self { header, bytes: datagram }))
    }

    /// What was parsed.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Bytes of the packet, with header and tag.
    pub const fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The header as it was sent, and what is sealed.
    pub fn split(self) -> (&'datagram mut [u8], &'datagram mut [u8]) {
        self.bytes.split_at_mut(HEADER_BYTES)
    }
}

#[cfg(test)]
impl<'datagram> DataPacket<'datagram> {
    /// A packet whose header is not the one that its bytes have.
    pub(crate) const fn with_header(header: Header, bytes: &'datagram mut [u8]) -> Self {
        Self { header, bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shard_byte_is_at_the_offset_that_steering_reads() {
        let index = ReceiverIndex::new(0xa5, 0x01_02_03, 0xdead_beef).unwrap();
        let header = Header::data(index, 7);
        assert_eq!(header.as_bytes()[SHARD_OFFSET], 0xa5);
        assert_eq!(index.slot(), 0x01_02_03);
        assert_eq!(index.generation(), 0xdead_beef);
        assert_eq!(ReceiverIndex::from_bytes(index.to_bytes()), index);
        assert_eq!(ReceiverIndex::new(0, 1 << 24, 0), None);
        let other = header.in_phase(17);
        assert_eq!((other.phase(), other.receiver(), other.number()), (1, index, 7));
        assert_eq!(PacketKind::from_first_byte(other.as_bytes()[0]), Some(PacketKind::Data));
    }

    #[test]
    fn malformed_header_is_refused_with_its_reason() {
        let mut packet = [0u8; PACKET_OVERHEAD_BYTES];
        let set = |packet: &mut [u8; PACKET_OVERHEAD_BYTES], header: Header| {
            packet[..HEADER_BYTES].copy_from_slice(header.as_bytes());
        };
        set(&mut packet, Header::data(ReceiverIndex::NONE, 5));
        assert_eq!(Header::parse(&packet).unwrap().1, PacketKind::Data);
        assert_eq!(Header::parse(&packet[..PACKET_OVERHEAD_BYTES - 1]), Err(HeaderError::Short));
        packet[0] |= 15;
        assert_eq!(Header::parse(&packet).unwrap().0.phase(), 15);
        packet[0] = PacketKind::Init.first_byte() | 1;
        assert_eq!(Header::parse(&packet), Err(HeaderError::Phase));
        packet[0] = 0x90;
        assert_eq!(Header::parse(&packet), Err(HeaderError::Kind));
        for number in [PACKET_NUMBER_LIMIT, u64::MAX] {
            set(&mut packet, Header::data(ReceiverIndex::NONE, number));
            assert_eq!(Header::parse(&packet), Err(HeaderError::Number));
        }
        set(&mut packet, Header::data(ReceiverIndex::NONE, PACKET_NUMBER_LIMIT - 1));
        assert!(Header::parse(&packet).is_ok());
        packet[2] = 1;
        assert_eq!(Header::parse(&packet), Err(HeaderError::Reserved));
        set(&mut packet, Header::handshake(PacketKind::Init, ReceiverIndex::NONE, ReceiverIndex::NONE));
        assert!(Header::parse(&packet).is_ok());
        packet[1] = 0;
        assert_eq!(Header::parse(&packet), Err(HeaderError::Version(0)));
        packet[1] = 255;
        assert_eq!(Header::parse(&packet), Err(HeaderError::Version(255)));
    }
}
