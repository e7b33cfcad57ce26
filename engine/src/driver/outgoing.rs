//! A send between `send` and `submit`, and the rules that both kernel drivers apply to it. Not inside: system
//! calls.

use super::{MAX_SEND_BYTES, Route, sys::send::fit_family};

/// A staged send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing {
    /// Its receiver is written in the family of the socket.
    pub(super) route: Route,
    pub(super) buffer: u16,
    pub(super) len: usize,
    pub(super) segment: usize,
    /// Datagrams per train, when it has to leave in several; `None` is the usual way, one send for all.
    pub(super) per_train: Option<usize>,
}

/// Whether a send keeps the contract of [`Driver::send`](super::Driver::send).
pub(super) fn is_sound(len: usize, segment: usize) -> bool {
    len <= MAX_SEND_BYTES && segment <= len && (segment > 0 || len == 0)
}

impl Outgoing {
    /// A send on a socket of the given family and ability; `None` when it can't reach the receiver.
    pub(super) fn new(
        route: Route,
        buffer: u16,
        (len, segment): (usize, usize),
        (is_ipv4, segments_per_train): (bool, usize),
    ) -> Option<Self> {
        let route = Route { to: fit_family(route.to, is_ipv4)?, ..route };
        let is_too_long = len > segment && len.div_ceil(segment) > segments_per_train;
        Some(Self { route, buffer, len, segment, per_train: is_too_long.then_some(segments_per_train) })
    }

    pub(super) fn is_train(&self) -> bool {
        self.segment < self.len
    }

    pub(super) fn datagrams(&self) -> u64 {
        if self.is_train() { self.len.div_ceil(self.segment) as u64 } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::SocketId;

    #[test]
    fn a_train_longer_than_the_kernel_takes_leaves_in_several() {
        let socket = SocketId { slot: 0, generation: 0 };
        let to = "127.0.0.1:1".parse().unwrap();
        let route = Route::new(socket, to);
        let make = |len, segment, most| Outgoing::new(route, 0, (len, segment), (true, most)).unwrap();
        assert_eq!(make(640, 10, 64).per_train, None);
        assert_eq!(make(641, 10, 64).per_train, Some(64));
        assert_eq!(make(641, 10, 64).datagrams(), 65);
        assert_eq!(make(20, 10, 1).per_train, Some(1));
        assert_eq!(make(10, 10, 1).per_train, None);
        assert_eq!(make(0, 0, 64).datagrams(), 1);
        let v6 = "[::1]:1".parse().unwrap();
        assert!(Outgoing::new(Route::new(socket, v6), 0, (1, 1), (true, 64)).is_none());
    }

    #[test]
    fn lengths_outside_the_contract_are_unsound() {
        assert!(is_sound(0, 0) && is_sound(5, 5) && is_sound(5, 2) && is_sound(MAX_SEND_BYTES, 1));
        assert!(!is_sound(5, 0) && !is_sound(5, 6) && !is_sound(MAX_SEND_BYTES + 1, 1));
    }
}
