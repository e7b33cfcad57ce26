//! Address translation between the hosts of a world (NAT).

use corewire_proto::ordered::{OrderedMap, OrderedSet};
use std::net::SocketAddr;

/// Under which address others see a socket, where that is not its own.
#[derive(Debug, Default)]
pub(super) struct Translator {
    shown: OrderedMap<SocketAddr, SocketAddr>,
    /// Where sockets were seen before.
    former: OrderedSet<SocketAddr>,
}

impl Translator {
    pub(super) fn set(&mut self, address: SocketAddr, shown: SocketAddr) {
        let before = self.shown.insert(address, shown).unwrap_or(address);
        self.former.insert(before);
        self.former.remove(&shown);
    }

    /// The address that others see for `address`.
    pub(super) fn outside(&self, address: SocketAddr) -> SocketAddr {
        self.shown.get(&address).copied().unwrap_or(address)
    }

    /// The socket that others see at `shown`; `None` where they see none any more.
    pub(super) fn inside(&self, shown: SocketAddr) -> Option<SocketAddr> {
        let translated = self.shown.iter().find(|(_, its)| **its == shown);
        translated.map(|(address, _)| *address).or((!self.former.contains(&shown)).then_some(shown))
    }
}
