//! Cutting what arrived as one into the datagrams that it was sent as. Not inside: receiving.

use std::net::{IpAddr, SocketAddr};

use super::{DriverCounters, Received, SocketId};

/// Lends each datagram of a received payload to `on`, in order; says how many. `segment` is the length of
/// each but the last, if the payload is a train.
pub(super) fn deliver(
    (socket, from, at): (SocketId, SocketAddr, Option<IpAddr>),
    bytes: &mut [u8],
    segment: Option<usize>,
    counters: &mut DriverCounters,
    on: &mut impl FnMut(Received<'_>),
) -> usize {
    counters.received_bytes += bytes.len() as u64;
    let count = match segment {
        Some(segment) if segment > 0 && segment < bytes.len() => {
            counters.received_trains += 1;
            let datagrams = bytes.chunks_mut(segment);
            let count = datagrams.len();
            for bytes in datagrams {
                on(Received { socket, from, at, bytes });
            }
            count
        }
        _ => {
            on(Received { socket, from, at, bytes });
            1
        }
    };
    counters.received_datagrams += count as u64;
    count
}

/// Adds what a socket has dropped since its last note. The kernel's number counts from the socket's birth and
/// wraps at 2^32.
pub(super) fn count_drops(noted: Option<u32>, last: &mut u32, counters: &mut DriverCounters) {
    if let Some(noted) = noted {
        counters.kernel_receive_drops += u64::from(noted.wrapping_sub(*last));
        *last = noted;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(payload: usize, segment: Option<usize>) -> Vec<usize> {
        let (mut counters, mut lengths) = (DriverCounters::default(), Vec::new());
        let socket = SocketId { slot: 0, generation: 0 };
        let from = "127.0.0.1:1".parse().unwrap();
        let count =
            deliver((socket, from, None), &mut vec![0; payload], segment, &mut counters, &mut |datagram| {
                lengths.push(datagram.bytes.len());
            });
        assert_eq!(count, lengths.len());
        assert_eq!(counters.received_bytes, payload as u64);
        lengths
    }

    #[test]
    fn trains_are_cut_and_single_datagrams_are_not() {
        assert_eq!(lengths(10, Some(4)), [4, 4, 2]);
        assert_eq!(lengths(8, Some(4)), [4, 4]);
        assert_eq!(lengths(4, Some(4)), [4]);
        assert_eq!(lengths(3, Some(4)), [3]);
        assert_eq!(lengths(3, None), [3]);
        assert_eq!(lengths(0, None), [0]);
        assert_eq!(lengths(0, Some(4)), [0]);
    }

    #[test]
    fn drops_are_counted_as_differences_across_the_wrap() {
        let (mut counters, mut last) = (DriverCounters::default(), 0);
        for noted in [Some(5), None, Some(9), Some(u32::MAX), Some(3)] {
            count_drops(noted, &mut last, &mut counters);
        }
        assert_eq!(counters.kernel_receive_drops, u64::from(u32::MAX) + 4);
    }
}
