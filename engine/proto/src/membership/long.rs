//! What it takes to fetch a record that is too long for a datagram.
//!
//! ```text
//! incarnation 8 | sequence 8 | mark 8 | length 2 | count 1 | count * ( ip 16 | port 2 )
//! ```
//!
//! Numbers are little-endian, an IPv4 address is mapped.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::{
    record::{MAX_ADDRESSES, RecordVersion, SignedRecord, can_be_announced},
    sealed::ByteCursor,
};
use crate::ids::PeerId;

/// Which record of a peer there is. Nothing of it is signed; the record is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LongRecord {
    /// The peer.
    pub peer: PeerId,
    /// The version of its record.
    pub version: RecordVersion,
    /// The record's mark: the first eight bytes of its hash.
    pub mark: u64,
    /// The bytes of the record.
    pub len: u16,
    /// Where the peer can be reached; none in a membership packet, whose sender has the record.
    pub addresses: Vec<SocketAddr>,
}

impl LongRecord {
    /// Longest encoding, in bytes. The peer's id is not part of it.
    pub(crate) const MAX_BYTES: usize = Self::bytes_with(MAX_ADDRESSES);

    const fn bytes_with(addresses: usize) -> usize {
        8 + 8 + 8 + 2 + 1 + addresses * 18
    }

    pub(crate) fn of(record: &SignedRecord) -> Self {
        Self {
            peer: record.record().peer_id,
            version: record.record().version,
            mark: record.mark(),
            len: u16::try_from(record.bytes().len()).expect("a record has a bound"),
            addresses: record.record().addresses.clone(),
        }
    }

    pub(crate) fn len_bytes(&self) -> usize {
        Self::bytes_with(self.addresses.len())
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for number in [self.version.incarnation, self.version.sequence, self.mark] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.len.to_le_bytes());
        out.push(u8::try_from(self.addresses.len()).expect("a record has few addresses"));
        for address in &self.addresses {
            let ip = match address.ip() {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            out.extend_from_slice(&ip.octets());
            out.extend_from_slice(&address.port().to_le_bytes());
        }
    }

    /// `None`: it is not one, or carries an address that no packet can be sent to.
    pub(crate) fn read(from: &mut ByteCursor<'_>, peer: PeerId) -> Option<Self> {
        let version = RecordVersion { incarnation: from.u64()?, sequence: from.u64()? };
        let (mark, len) = (from.u64()?, from.u16()?);
        let count = usize::from(from.u8()?);
        if count > MAX_ADDRESSES {
            return None;
        }
        let mut address = || {
            let ip = Ipv6Addr::from(from.array::<16>()?).to_canonical();
            let address = SocketAddr::new(ip, from.u16()?);
            can_be_announced(&address).then_some(address)
        };
        let addresses = (0..count).map(|_| address()).collect::<Option<_>>()?;
        Some(Self { peer, version, mark, len, addresses })
    }
}
