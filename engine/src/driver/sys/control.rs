//! Control messages: the segment size of a train on the way out, what the kernel says about a datagram on the
//! way in.
//!
//! Reading is done on bytes with checked bounds, not with the `CMSG_*` pointer macros, so that a wrong length
//! can't lead outside.

/// Room for what is read: the segment size of a train and the count of dropped datagrams, 24 bytes each.
pub(in crate::driver) const CONTROL_BYTES: usize = 64;

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

    /// Bytes that [`set_segment`](Self::set_segment) writes, padding included.
    pub(in crate::driver) const SEGMENT_BYTES: usize = (HEADER_BYTES + 2).next_multiple_of(ALIGN);

    /// Asks for the payload to be cut into datagrams of `segment` bytes (`UDP_SEGMENT`).
    pub(in crate::driver) fn set_segment(&mut self, segment: u16) {
        let len = HEADER_BYTES + 2;
        self.0[..Self::SEGMENT_BYTES].fill(0);
        self.0[..size_of::<usize>()].copy_from_slice(&len.to_ne_bytes());
        self.0[8..12].copy_from_slice(&libc::SOL_UDP.to_ne_bytes());
        self.0[12..16].copy_from_slice(&libc::UDP_SEGMENT.to_ne_bytes());
        self.0[HEADER_BYTES..len].copy_from_slice(&segment.to_ne_bytes());
    }
}

const _: () = assert!(HEADER_BYTES == 16 && ALIGN == 8, "control messages are written for 64-bit Linux");
const _: () = assert!(Control::SEGMENT_BYTES <= CONTROL_BYTES);

/// What the kernel said about a received datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::driver) struct Notes {
    /// The payload is a train of datagrams of this many bytes (`UDP_GRO`).
    pub(in crate::driver) segment: Option<usize>,
    /// The socket's total of dropped datagrams so far (`SO_RXQ_OVFL`); wraps.
    pub(in crate::driver) dropped: Option<u32>,
}

/// Reads the control messages of a received datagram; unknown and malformed ones are passed over.
pub(in crate::driver) fn notes(control: &[u8]) -> Notes {
    let mut notes = Notes::default();
    for (level, kind, data) in messages(control) {
        let number = data.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes));
        match (level, kind) {
            (libc::SOL_UDP, libc::UDP_GRO) => notes.segment = number.map(|n| n as usize).filter(|&n| n > 0),
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => notes.dropped = number,
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
        let expected = Notes { segment: Some(1200), dropped: Some(7) };
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
    fn the_segment_request_reads_back_as_it_was_written() {
        let mut control = Control::EMPTY;
        control.set_segment(1400);
        let read: Vec<_> = messages(&control.0[..Control::SEGMENT_BYTES]).collect();
        assert_eq!(read, [(libc::SOL_UDP, libc::UDP_SEGMENT, &1400u16.to_ne_bytes()[..])]);
    }
}
