//! What it takes to ask a peer for a record that is too long for a datagram.
//!
//! ```text
//! key 32 | incarnation 8 | sequence 8 | count 1 | count * ( ip 16 | port 2 )
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

/// Where a peer's record can be asked for, in a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordCall {
    /// The peer.
    pub peer: PeerId,
    /// Its key for handshakes.
    pub key: [u8; 32],
    /// The version of its record.
    pub version: RecordVersion,
    /// Where it can be reached.
    pub addresses: Vec<SocketAddr>,
}

impl RecordCall {
    /// Longest encoding, in bytes. The peer's id is not part of it.
    pub(crate) const MAX_BYTES: usize = 32 + 16 + 1 + MAX_ADDRESSES * 18;

    pub(crate) fn of(record: &SignedRecord) -> Self {
        let record = record.record();
        Self {
            peer: record.peer_id,
            key: record.transport_keys.first().map_or([0; 32], |entry| entry.key),
            version: record.version,
            addresses: record.addresses.clone(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        Self::MAX_BYTES - (MAX_ADDRESSES - self.addresses.len()) * 18
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.key);
        out.extend_from_slice(&self.version.incarnation.to_le_bytes());
        out.extend_from_slice(&self.version.sequence.to_le_bytes());
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
        let key = from.array()?;
        let version = RecordVersion { incarnation: from.u64()?, sequence: from.u64()? };
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
        Some(Self { peer, key, version, addresses })
    }
}
