//! Which bound address a peer can be called from.

use std::net::SocketAddr;

/// How well a socket that is bound to an address reaches a peer; the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// Bound where the peer's network begins.
    Direct,
    /// An IPv6 socket that reaches an IPv4 peer by its mapped address.
    Mapped,
    /// Of the peer's family. The kernel decides whether an address of the loopback interface, or of another
    /// one, will do.
    Doubtful,
}

/// How a socket bound to `local` reaches `to`; `None`: not at all.
pub(crate) fn reach(local: SocketAddr, to: SocketAddr) -> Option<Reach> {
    let (at, to) = (local.ip(), to.ip().to_canonical());
    if at.is_ipv4() == to.is_ipv4() {
        let direct = at.is_unspecified() || at.is_loopback() == to.is_loopback();
        return Some(if direct { Reach::Direct } else { Reach::Doubtful });
    }
    (at.is_ipv6() && at.is_unspecified()).then_some(Reach::Mapped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_address_decides_which_peers_are_reached() {
        let ask = |local: &str, to: &str| reach(local.parse().unwrap(), to.parse().unwrap());
        assert_eq!(ask("0.0.0.0:1", "10.0.0.1:9"), Some(Reach::Direct));
        assert_eq!(ask("127.0.0.1:1", "127.0.0.9:9"), Some(Reach::Direct));
        assert_eq!(ask("127.0.0.1:1", "10.0.0.1:9"), Some(Reach::Doubtful));
        assert_eq!(ask("[::]:1", "10.0.0.1:9"), Some(Reach::Mapped));
        assert_eq!(ask("[::]:1", "[::ffff:10.0.0.1]:9"), Some(Reach::Mapped));
        assert_eq!(ask("[::]:1", "[2001:db8::1]:9"), Some(Reach::Direct));
        assert_eq!(ask("[::1]:1", "127.0.0.1:9"), None);
        assert_eq!(ask("0.0.0.0:1", "[::1]:9"), None);
    }
}
