//! What a node needs for its beacon, what it hears by it, and which addresses a node that is bound to all of
//! them announces. Not inside: when something is sent.

use std::{fmt, io, net::IpAddr, net::SocketAddr};

use corewire_proto::{
    PeerId,
    beacon::Beacon,
    membership::{LongRecord, MAX_ADDRESSES},
    seal::KeyBytes,
};

use crate::driver::{GroupSocket, InterfaceAddress};

/// Things heard of one node that wait for the clerk.
pub(crate) const HEARD_MAX: usize = 256;

/// How far a node makes itself known by beacons: authenticated multicast datagrams, by which nodes of a
/// network find each other without addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum BeaconReach {
    /// Not at all, and it hears none.
    #[default]
    Off,
    /// To nodes on this host. The beacons pass through the loopback interface only.
    Host,
    /// To nodes on this host and on the links of its interfaces. A node whose addresses are all on the
    /// loopback interface stays with [`BeaconReach::Host`].
    Lan,
}

/// What became of a node's beacon.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BeaconInfo {
    /// How far it reaches.
    pub reach: BeaconReach,
    /// The interfaces through which it passes, by their names.
    pub interfaces: Vec<String>,
    /// Why there is none, although it was asked for.
    pub problem: Option<String>,
}

impl fmt::Display for BeaconInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.problem, self.reach) {
            (Some(problem), _) => write!(f, "nodes are not found without addresses: {problem}"),
            (None, BeaconReach::Off) => f.write_str("nodes are not looked for without addresses"),
            (None, BeaconReach::Host) => f.write_str("nodes of this host are found without addresses"),
            (None, BeaconReach::Lan) => {
                let names = self.interfaces.join(", ");
                write!(f, "nodes of this host and its links are found without addresses ({names})")
            }
        }
    }
}

/// What a node brings for its beacon.
#[derive(Debug)]
pub(crate) struct BeaconSetup {
    /// `None`: it sends and hears none.
    pub(crate) sockets: Option<BeaconSockets>,
    pub(crate) key: KeyBytes,
    /// It announces the addresses of the host.
    pub(crate) follows: bool,
}

/// What was heard of another node.
#[derive(Debug)]
pub(crate) enum Heard {
    /// Its record, and how old that is. The signature is not checked yet.
    Record { bytes: Vec<u8>, age_s: u32, from: SocketAddr },
    /// Which record it has, which is too long for a beacon.
    Long { long: LongRecord, from: SocketAddr },
    /// What it told before.
    Same { peer: PeerId, from: SocketAddr },
    /// Nothing for a long time.
    Silent(PeerId),
    /// A record that the user gave.
    Given(Vec<u8>),
}

/// The sockets of one node in the groups of its network.
#[derive(Debug)]
pub(crate) struct BeaconSockets {
    pub(crate) sockets: Vec<GroupSocket>,
    reach: BeaconReach,
}

impl BeaconSockets {
    /// Opens what the system allows. An error when it allows neither family, or nothing passes the loopback
    /// interface. Other interfaces may come later.
    pub(crate) fn open(
        key: &KeyBytes,
        reach: BeaconReach,
        interfaces: &[InterfaceAddress],
    ) -> io::Result<Self> {
        let (v4, v6) = Beacon::groups(key);
        let mut opened = Self { sockets: Vec::new(), reach };
        let mut refused = None;
        for group in [v4, v6] {
            match GroupSocket::open(group) {
                Ok(socket) => opened.sockets.push(socket),
                Err(error) => refused = Some(error),
            }
        }
        opened.follow(interfaces);
        // On the loopback interface one family is enough, and the other one may not pass there.
        opened.sockets.retain(|socket| reach == BeaconReach::Lan || socket.joined() > 0);
        match refused {
            Some(error) if opened.sockets.is_empty() => Err(error),
            _ if reach == BeaconReach::Host && opened.sockets.is_empty() => {
                Err(io::Error::new(io::ErrorKind::NotFound, "no interface carries multicast"))
            }
            _ => Ok(opened),
        }
    }

    /// Those of the host's addresses through which the beacons pass.
    fn within(&self, interfaces: &[InterfaceAddress]) -> Vec<InterfaceAddress> {
        let all = self.reach == BeaconReach::Lan;
        interfaces.iter().filter(|interface| all || interface.is_loopback).cloned().collect()
    }

    /// Goes on with the host's addresses as they are now.
    pub(crate) fn follow(&mut self, interfaces: &[InterfaceAddress]) {
        let within = self.within(interfaces);
        self.sockets.iter_mut().for_each(|socket| socket.join(&within));
    }

    /// Sends a datagram through every interface. `false`: none took it.
    pub(crate) fn send(&self, interfaces: &[InterfaceAddress], datagram: &[u8]) -> bool {
        let within = self.within(interfaces);
        self.sockets.iter().map(|socket| socket.send(&within, datagram)).sum::<usize>() > 0
    }

    /// The names of the interfaces through which the beacons pass.
    pub(crate) fn names(&self, interfaces: &[InterfaceAddress]) -> Vec<String> {
        let mut names = Vec::new();
        for interface in self.within(interfaces) {
            let passes = self.sockets.iter().any(|socket| socket.passes(&interface));
            if passes && !names.contains(&interface.name) {
                names.push(interface.name);
            }
        }
        names
    }
}

/// The bound addresses, and those of this host in the place of an unspecified one, as many as a record has
/// room for. Addresses that are good on one link only are left out, and the loopback interface as long as
/// there is another one.
pub(crate) fn concrete(bound: &[SocketAddr], interfaces: &[InterfaceAddress]) -> Vec<SocketAddr> {
    let mut all: Vec<SocketAddr> =
        bound.iter().filter(|address| !address.ip().is_unspecified()).copied().collect();
    for any in bound.iter().filter(|address| address.ip().is_unspecified()) {
        let fits = |ip: &IpAddr| any.is_ipv6() || ip.is_ipv4();
        let is_global = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => !ip.is_link_local(),
            IpAddr::V6(ip) => !ip.is_unicast_link_local(),
        };
        let here = || interfaces.iter().filter(|one| fits(&one.ip) && is_global(&one.ip));
        let mut found: Vec<IpAddr> = here().filter(|one| !one.is_loopback).map(|one| one.ip).collect();
        if found.is_empty() {
            found = here().filter(|one| one.ip.is_loopback()).map(|one| one.ip).collect();
        }
        // IPv4 first: every host has it.
        found.sort_by_key(IpAddr::is_ipv6);
        for ip in found {
            let address = SocketAddr::new(ip, any.port());
            if all.len() < MAX_ADDRESSES && !all.contains(&address) {
                all.push(address);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(index: u32, ip: &str) -> InterfaceAddress {
        let ip: IpAddr = ip.parse().unwrap();
        let is_loopback = ip.is_loopback();
        InterfaceAddress { name: format!("if{index}"), index, ip, is_loopback, has_multicast: true }
    }

    fn announced(bound: &[&str], interfaces: &[InterfaceAddress]) -> Vec<String> {
        let bound: Vec<SocketAddr> = bound.iter().map(|address| address.parse().unwrap()).collect();
        concrete(&bound, interfaces).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_unspecified_address_stands_for_those_of_the_host() {
        let all = ["127.0.0.1", "::1", "fe80::1", "fd00::2", "10.0.0.2", "169.254.1.1"];
        let all: Vec<_> = (1..).zip(all).map(|(index, ip)| interface(index, ip)).collect();
        assert_eq!(announced(&["0.0.0.0:7"], &all), ["10.0.0.2:7"]);
        assert_eq!(announced(&["[::]:7"], &all), ["10.0.0.2:7", "[fd00::2]:7"]);
        assert_eq!(announced(&["[::]:7", "127.0.0.1:9"], &all), ["127.0.0.1:9", "10.0.0.2:7", "[fd00::2]:7"]);
        assert_eq!(announced(&["0.0.0.0:7"], &all[..2]), ["127.0.0.1:7"]);
        assert_eq!(announced(&["[::]:7"], &all[..2]), ["127.0.0.1:7", "[::1]:7"]);
        let many: Vec<_> = (0..40).map(|n| interface(n, &format!("10.0.1.{n}"))).collect();
        assert_eq!(announced(&["0.0.0.0:7"], &many).len(), MAX_ADDRESSES);
    }
}
