//! Probes of what this kernel's UDP can do. io_uring has its own, in [`uring`](super::uring).

use std::{
    io,
    net::{Ipv4Addr, UdpSocket},
    os::fd::AsRawFd,
    sync::OnceLock,
};

use super::{
    DriverCounters, Features, Found, Route, SocketId,
    fault::PathErrors,
    sys::{
        options,
        receive::ReceiveBatch,
        send::{SAFE_SEGMENTS, SendBatch, SendSlots},
    },
};

/// Datagrams of a train that only newer kernels take in one send.
const LONG_TRAIN: usize = 128;

/// What UDP was found to do.
#[derive(Clone, Debug)]
pub(super) struct Udp {
    /// `UDP_SEGMENT`.
    pub(super) segmentation: Found,
    /// Trains of more than 64.
    pub(super) long_trains: Found,
    /// `UDP_GRO`.
    pub(super) coalescing: Found,
}

impl Udp {
    /// Datagrams that one send may carry.
    pub(super) fn segments_per_train(&self) -> usize {
        match (&self.segmentation, &self.long_trains) {
            (Found::No(_), _) => 1,
            (_, Found::Yes) => LONG_TRAIN,
            // When it could not be tried: what all kernels with trains take. A refusal in use makes the
            // driver send one by one.
            _ => SAFE_SEGMENTS,
        }
    }

    pub(super) fn note(&self, features: &mut Features) {
        features.note("UDP_SEGMENT", "4.18", self.segmentation.clone());
        features.note("UDP_SEGMENT x128", "6.9", self.long_trains.clone());
        features.note("UDP_GRO", "5.0", self.coalescing.clone());
    }
}

/// Sends trains over loopback and looks how they arrive; once per process.
pub(super) fn udp() -> &'static Udp {
    static FOUND: OnceLock<Udp> = OnceLock::new();
    FOUND.get_or_init(|| {
        try_udp().unwrap_or_else(|error| {
            let unknown = Found::Unknown(format!("loopback can't be used here: {error}"));
            Udp { segmentation: unknown.clone(), long_trains: unknown.clone(), coalescing: unknown }
        })
    })
}

fn try_udp() -> io::Result<Udp> {
    let from = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let at = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    // Where loopback loses datagrams, the probe must end.
    at.set_read_timeout(Some(std::time::Duration::from_millis(100)))?;
    from.connect(at.local_addr()?)?;
    from.send(&[])?;
    at.recv(&mut [0])?;
    let coalescing = match options::set(at.as_raw_fd(), libc::SOL_UDP, libc::UDP_GRO, 1) {
        Ok(()) => Found::Yes,
        Err(error) => Found::No(error.to_string()),
    };
    let mut slots = SendSlots::new(1);
    let mut batch = SendBatch::new(1);
    let mut receive = ReceiveBatch::new(1)?;
    let mut coalesced = false;
    let route = Route::new(SocketId { slot: 0, generation: 0 }, at.local_addr()?);
    let mut attempt = |segments: usize| -> io::Result<Found> {
        let bytes = vec![7u8; segments];
        slots.fill(0, route, bytes.as_ptr(), bytes.len(), 1);
        if let Err(error) = batch.send(from.as_raw_fd(), &slots, [0].into_iter()) {
            return Ok(Found::No(error.to_string()));
        }
        let mut arrived = 0;
        while receive.receive(at.as_raw_fd(), 1).is_ok_and(|count| count > 0) {
            let message = receive.message(0);
            coalesced |= message.notes.segment == Some(1) && message.bytes.len() > 1;
            arrived += message.bytes.len();
        }
        Ok(if arrived == segments {
            Found::Yes
        } else {
            Found::No(format!("{arrived} of {segments} arrived"))
        })
    };
    let segmentation = attempt(2)?;
    let long_trains = attempt(LONG_TRAIN)?;
    let coalescing = match (coalescing, &segmentation) {
        (Found::Yes, Found::Yes) if !coalesced => Found::No("trains arrived in pieces".to_owned()),
        (found, _) => found,
    };
    // The probe's own errors, if any, go with its sockets.
    let (counters, errors) = (&mut DriverCounters::default(), &mut PathErrors::default());
    super::sys::errors::drain((route.socket, from.as_raw_fd()), counters, errors);
    Ok(Udp { segmentation, long_trains, coalescing })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_segmentation_datagrams_leave_one_by_one() {
        let no = || Found::No("EINVAL".into());
        let unknown = || Found::Unknown("no loopback".into());
        let with = |segmentation, long_trains| {
            Udp { segmentation, long_trains, coalescing: no() }.segments_per_train()
        };
        assert_eq!(with(no(), no()), 1);
        assert_eq!(with(Found::Yes, no()), SAFE_SEGMENTS);
        assert_eq!(with(Found::Yes, Found::Yes), LONG_TRAIN);
        assert_eq!(with(unknown(), unknown()), SAFE_SEGMENTS);
    }
}
