//! The hosts of a world and their addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A host of a [`World`](super::World).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(pub(super) u32);

pub(super) fn ipv4(host: HostId) -> IpAddr {
    let [_, high, middle, low] = (host.0 + 1).to_be_bytes();
    Ipv4Addr::new(10, high, middle, low).into()
}

pub(super) fn ipv6(host: HostId) -> IpAddr {
    let [first, second] = [(host.0 + 1) >> 16, (host.0 + 1) & 0xffff];
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, first as u16, second as u16).into()
}

/// Whether the address is one of the host's own network interfaces, and not of the loopback one.
pub(super) fn owns(host: HostId, ip: IpAddr) -> bool {
    ip == ipv4(host) || ip == ipv6(host)
}
