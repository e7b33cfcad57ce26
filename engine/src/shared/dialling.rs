//! Where a node meets its network, and why it has not yet.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    vec,
};

use thiserror::Error;

use super::reach::{Reach, reach};
use crate::driver::canonical;

/// Addresses of one host name that are tried.
const NAME_ADDRESSES_MAX: usize = 8;

/// Why there is no session with the peer at a bootstrap address: what was tried last, and what came back.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}: {problem}", self.place())]
#[non_exhaustive]
pub struct DialFailure {
    /// The address or name, as it was given.
    pub target: String,
    /// The address that was tried; `None` when the name has none.
    pub address: Option<SocketAddr>,
    /// What came back.
    pub problem: DialProblem,
}

impl DialFailure {
    fn place(&self) -> String {
        match self.address.map(|address| address.to_string()) {
            Some(address) if address != self.target => format!("{} ({address})", self.target),
            _ => self.target.clone(),
        }
    }
}

/// What came back when a peer was called.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DialProblem {
    /// The host answers that the port is closed.
    #[error("refused, no program listens there")]
    Refused,
    /// A host on the way, or this one, knows no way to it.
    #[error("the host or its network can't be reached")]
    Unreachable,
    /// It is on another host, and only addresses of the loopback interface are bound.
    #[error("can't be reached from the loopback interface, where this node listens")]
    LoopbackOnly,
    /// No bound address is of its family.
    #[error("this node has no socket of its address family")]
    NoSocket,
    /// Nothing came back. A peer with another network or secret does not answer either.
    #[error("no reply: nothing answers there, or it has another network or secret")]
    NoReply,
    /// What came back was made with another secret, or for another network.
    #[error("it has another network or secret")]
    OtherSecret,
    /// The name has no address; with the system's reason.
    #[error("the name was not resolved: {0}")]
    Unresolved(String),
    /// It is this node itself.
    #[error("that is this node itself")]
    Own,
}

/// How the sockets that are bound to `bound` reach `to`; `Err`: they don't.
pub(crate) fn reachable(bound: &[SocketAddr], to: SocketAddr) -> Result<Reach, DialProblem> {
    bound.iter().filter_map(|local| reach(*local, to)).min().ok_or(DialProblem::NoSocket)
}

/// The address to call for one that a user gave: the unspecified address is this host.
pub(crate) fn callable(to: SocketAddr) -> SocketAddr {
    let to = canonical(to);
    match to.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, to.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, to.port()).into(),
        _ => to,
    }
}

/// A bootstrap address as it was configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BootstrapTarget {
    Address(SocketAddr),
    /// `host:port`, resolved again for each round of attempts.
    Name(String),
}

/// Whether `name` has the form `host:port`.
pub(crate) fn is_host_and_port(name: &str) -> bool {
    let Some((host, port)) = name.rsplit_once(':') else { return false };
    let is_host =
        !host.is_empty() && !host.contains([':', '/', '[', ']']) && !host.contains(char::is_whitespace);
    is_host && port.parse::<u16>().is_ok_and(|port| port != 0)
}

/// Asks the system's resolver. Blocks.
pub(crate) fn resolve(name: &str) -> Result<Vec<SocketAddr>, String> {
    let found = std::net::ToSocketAddrs::to_socket_addrs(name);
    let found: vec::IntoIter<_> = found.map_err(|error| error.to_string())?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found.map(canonical) {
        if addresses.len() < NAME_ADDRESSES_MAX && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() { Err("it has no address".to_owned()) } else { Ok(addresses) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_host_and_a_port() {
        assert!(is_host_and_port("localhost:7411") && is_host_and_port("a.b-c.example:1"));
        for bad in ["localhost", "localhost:", ":7411", "a:0", "a:70000", "http://a:80", "::1:5", "a b:5"] {
            assert!(!is_host_and_port(bad), "{bad}");
        }
    }

    #[test]
    fn a_failure_names_what_was_tried_and_what_came_back() {
        let address = Some("10.0.0.1:7".parse().unwrap());
        let mut failure = DialFailure { target: "db:7".to_owned(), address, problem: DialProblem::Refused };
        assert_eq!(failure.to_string(), "db:7 (10.0.0.1:7): refused, no program listens there");
        failure.target = "10.0.0.1:7".to_owned();
        assert_eq!(failure.to_string(), "10.0.0.1:7: refused, no program listens there");
    }
}
