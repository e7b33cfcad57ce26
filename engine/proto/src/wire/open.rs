//! The values that open a channel: what a consumer asks for, what a producer grants, what a datum costs.

use alloc::vec::Vec;

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::form::DatumForm;
use crate::ids::StreamId;

/// What happens to a datum that the network lost.
///
/// ```
/// use corewire_proto::channel::Reliability;
///
/// assert_eq!(Reliability::default(), Reliability::Reliable);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub enum Reliability {
    /// It stays lost. The sequence shows the gap, and its size is reported.
    FireAndForget,
    /// It is sent again. Datums arrive in order without holes or duplicates, or the channel closes with a
    /// reason.
    #[default]
    Reliable,
}

/// Names one life of a producer's sequence: random bytes, drawn when the stream is published. Sequences of
/// two channels can be compared only when their publications are equal.
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
#[repr(transparent)]
pub struct PublicationId(pub [u8; 16]);

impl fmt::Debug for PublicationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "PublicationId({a:02x}{b:02x}{c:02x}{d:02x})")
    }
}

/// Where a consumer's former channel of the same producer ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resume {
    /// The publication that the former channel's ACCEPT named.
    pub publication: PublicationId,
    /// The first sequence that the former channel neither delivered nor reported as missing.
    pub next_seq: u64,
}

/// Most tickets of an [`OpenRequest`]. Each costs the producer more memory than its bytes.
pub const MAX_TICKETS: usize = 64;

/// What a consumer asks of a producer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenRequest {
    /// The stream.
    pub stream_id: StreamId,
    /// Names the subscription among those of this peer: random bytes, the same in each of its channels.
    pub subscription: [u8; 8],
    /// Where the subscription's last channel of this producer ended; `None` when there was none.
    pub resume: Option<Resume>,
    /// What the consumer wants; the producer may grant less.
    pub reliability: Reliability,
    /// Bytes that may wait for the application, each datum costing [`datum_cost`]. 0: a slow application does
    /// not stop the producer.
    pub window_bytes: u64,
    /// Datums that may wait for the application. 0: no limit by number.
    pub window_datums: u64,
    /// The largest datum that the consumer takes, in bytes.
    pub max_datum_bytes: u32,
    /// The weight in the producer's scheduler that the consumer wishes for. The engine's producers ignore it:
    /// the publication sets the weight.
    pub weight: u8,
    /// What it takes the datums for. A producer of another form refuses with `TYPE_MISMATCH`.
    pub form: DatumForm,
    /// Which datums it wants; opaque here. Empty: all of them.
    pub criteria: Vec<u8>,
    /// What it presents to be accepted; opaque here. At most [`MAX_TICKETS`].
    pub tickets: Vec<Vec<u8>>,
}

/// What a producer grants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accept {
    /// The life of the producer's sequence that `first_seq` counts in.
    pub publication: PublicationId,
    /// The first sequence that the consumer gets. Earlier ones do not count as missed.
    pub first_seq: u64,
    /// The largest datum that the producer will send, in bytes. The inbox needs room for the window and one
    /// of these.
    pub max_datum_bytes: u32,
    /// At most what was asked for.
    pub reliability: Reliability,
    /// The channel's share in the producer's scheduler, at least 1. Not sent: 1 at the consumer.
    pub weight: u8,
}

/// What a datum of `len` bytes costs in a channel's offset space and in an inbox: its length rounded up to
/// 16, at least 16.
pub const fn datum_cost(len: usize) -> u64 {
    let rounded = (len as u64).next_multiple_of(16);
    if rounded < 16 { 16 } else { rounded }
}
