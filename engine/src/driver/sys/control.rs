//! Control messages: the segment size of a train and the sender's address on the way out, what the kernel
//! says about a datagram on the way in.
//!
//! Reading is done on bytes with checked bounds, not with the `CMSG_*` pointer macros, so that a wrong length
//! can't lead outside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Room for what is read: the segment size of a train and the count of dropped datagrams, 24 bytes each, and
/// the address that was called, 40 bytes. What is written needs less.
pub(in crate::driver) const CONTROL_BYTES: usize = 96;

/// Length of `struct cmsghdr`: `{ size_t len; int level; int type; }`, to whose multiples of alignment
/// messages are padded.
const HEADER_BYTES: usize = size_of::<libc::cmsghdr>();

const ALIGN: usize = align_of::<libc::cmsghdr>();

/// A buffer that is aligned as the kernel wants control messages to be.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(in crate::driver) struct Control(pub(in crate::driver) [u8; CONTROL_BYTES]);

impl Control {
    pub(in crate::driver) const EMPTY: Self = Self([0; CONTROL_BYTES]);

    /// Asks for the payload to be cut into datagrams of `segment` bytes (`UDP_SEGMENT`), and to leave from
    /// `source`, whose form is that of the socket's family. Returns how many bytes count.
    pub(in crate::driver) fn set(&mut self, segment: Option<u16>, source: Option<IpAddr>) -> usize {
        let mut end = 0;
        if let Some(segment) = segment {
            end = self.put(end, libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
        }
        match source {
            Some(IpAddr::V4(ip)) => {
                // `struct in_pktinfo`: { int ifindex; in_addr spec_dst, addr; }. The second is the source.
                let mut info = [0; 12];
                info[4..8].copy_from_slice(&ip.octets());
                self.put(end, libc::SOL_IP, libc::IP_PKTINFO, &info)
            }
            Some(IpAddr::V6(ip)) => {
                // `struct in6_pktinfo`: { in6_addr addr; int ifindex; }.
                let mut info = [0; 20];
                info[..16].copy_from_slice(&ip.octets());
                self.put(end, libc::SOL_IPV6, libc::IPV6_PKTINFO, &info)
            }
            None => end,
        }
    }

    /// Writes a message at `at`; returns where the next one begins.
    fn put(&mut self, at: usize, level: libc::c_int, kind: libc::c_int, data: &[u8]) -> usize {
        let len = HEADER_BYTES + data.len();
        let room = &mut self.0[at..at + len.next_multiple_of(ALIGN)];
        room.fill(0);
        room[..8].copy_from_slice(&len.to_ne_bytes());
        room[8..12].copy_from_slice(&level.to_ne_bytes());
        room[12..16].copy_from_slice(&kind.to_ne_bytes());
        room[HEADER_BYTES..len].copy_from_slice(data);
        at + room.len()
    }
}

const _: () = assert!(HEADER_BYTES == 16 && ALIGN == 8, "control messages are written for 64-bit Linux");

/// What the kernel said about a received datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::driver) struct Notes {
    /// The payload is a train of datagrams of this many bytes (`UDP_GRO`).
    pub(in crate::driver) segment: Option<usize>,
    /// The socket's total of dropped datagrams so far (`SO_RXQ_OVFL`); wraps.
    pub(in crate::driver) dropped: Option<u32>,
    /// The address of this host that was called (`IP_PKTINFO`).
    pub(in crate::driver) at: Option<IpAddr>,
}

/// Reads the control messages of a received datagram; unknown and malformed ones are passed over.
pub(in crate::driver) fn notes(control: &[u8]) -> Notes {
    let mut notes = Notes::default();
    for (level, kind, data) in messages(control) {
        let number = data.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes));
        match (level, kind) {
            (libc::SOL_UDP, libc::UDP_GRO) => notes.segment = number.map(|n| n as usize).filter(|&n| n > 0),
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => notes.dropped = number,
            (libc::SOL_IP, libc::IP_PKTINFO) => {
                // See `Control::set`.
                let ip = data.get(4..8).and_then(|ip| ip.first_chunk::<4>());
                notes.at = ip.map(|ip| IpAddr::from(Ipv4Addr::from(*ip)));
            }
            (libc::SOL_IPV6, libc::IPV6_PKTINFO) => {
                let ip = data.first_chunk::<16>().map(|ip| Ipv6Addr::from(*ip));
                notes.at = ip.filter(|ip| !ip.is_multicast()).map(|ip| IpAddr::from(ip).to_canonical());
            }
            _ => {}
        }
    }
    notes
}

/// The control messages in `control`: level, type, data.
pub(super) fn messages(control: &[u8]) -> impl Iterator<Item = (libc::c_int, libc::c_int, &[u8])> {
    let mut rest = control;
    std::iter::from_fn(move || {
        let header = rest.first_chunk::<HEADER_BYTES>()?;
        let len = usize::from_ne_bytes(*header.first_chunk()?);
        let level = libc::c_int::from_ne_bytes(*header[8..].first_chunk()?);
        let kind = libc::c_int::from_ne_bytes(*header[12..].first_chunk()?);
        let data = rest.get(HEADER_BYTES..len)?;
        rest = rest.get(len.checked_next_multiple_of(ALIGN)?..).unwrap_or(&[]);
        Some((level, kind, data))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(level: libc::c_int, kind: libc::c_int, data: &[u8]) -> Vec<u8> {
        let mut bytes = (HEADER_BYTES + data.len()).to_ne_bytes().to_vec();
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
        bytes
    }

    #[test]
    fn both_notes_are_read_in_any_order_and_strangers_are_passed_over() {
        let train = message(libc::SOL_UDP, libc::UDP_GRO, &1200u32.to_ne_bytes());
        let drops = message(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &7u32.to_ne_bytes());
        let stranger = message(1, 99, b"?");
        let expected = Notes { segment: Some(1200), dropped: Some(7), at: None };
        assert_eq!(notes(&[&train[..], &stranger, &drops].concat()), expected);
        assert_eq!(notes(&[&drops[..], &train].concat()), expected);
        assert_eq!(notes(&[]), Notes::default());
    }

    #[test]
    fn malformed_lengths_end_the_reading() {
        let good = message(libc::SOL_UDP, libc::UDP_GRO, &9u32.to_ne_bytes());
        for len in [0usize, 3, 15, 1000, usize::MAX] {
            let mut bad = good.clone();
            bad[..8].copy_from_slice(&len.to_ne_bytes());
            assert_eq!(notes(&bad), Notes::default(), "length {len}");
        }
        for cut in 0..good.len() - 4 {
            assert_eq!(notes(&good[..cut]), Notes::default(), "cut to {cut}");
        }
    }

    #[test]
    fn requests_read_back_as_they_were_written() {
        let mut control = Control::EMPTY;
        let len = control.set(Some(1400), None);
        let read: Vec<_> = messages(&control.0[..len]).collect();
        assert_eq!(read, [(libc::SOL_UDP, libc::UDP_SEGMENT, &1400u16.to_ne_bytes()[..])]);
        for (source, heard) in [("10.1.2.3", "10.1.2.3"), ("::1", "::1"), ("::ffff:10.1.2.3", "10.1.2.3")] {
            let len = control.set(Some(1400), Some(source.parse().unwrap()));
            assert_eq!(notes(&control.0[..len]).at, Some(heard.parse().unwrap()));
            assert_eq!(messages(&control.0[..len]).count(), 2);
        }
        assert_eq!(control.set(None, None), 0);
    }
}
