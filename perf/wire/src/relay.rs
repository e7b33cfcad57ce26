//! A UDP relay between two nodes that loses, repeats and delays datagrams.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The longest UDP payload.
const DATAGRAM_BYTES: usize = 65_507;

/// How many later datagrams overtake one that is delayed.
const OVERTAKEN_BY: u32 = 8;

/// A delayed datagram is sent after this time although none came after it.
const LONGEST_DELAY: Duration = Duration::from_millis(1);

/// What the relay does to datagrams of both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Faults {
    /// The share of datagrams that are lost, from 0 to 1.
    pub(crate) loss: f64,
    /// The share that is overtaken by the eight datagrams behind it.
    pub(crate) reordering: f64,
    /// The share that is sent twice.
    pub(crate) duplication: f64,
}

/// What the relay has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Relayed {
    pub(crate) received: u64,
    pub(crate) lost: u64,
    pub(crate) delayed: u64,
    pub(crate) repeated: u64,
}

#[derive(Default)]
struct Counts {
    received: AtomicU64,
    lost: AtomicU64,
    delayed: AtomicU64,
    repeated: AtomicU64,
}

/// A relay at [`address`](Relay::address). Each node announces that address as its own, so every datagram
/// between them passes here. Dropping it ends its thread.
pub(crate) struct Relay {
    socket: UdpSocket,
    ended: Arc<AtomicBool>,
    counts: Arc<Counts>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Binds a free port of the loopback interface. Nothing is relayed before [`start`](Self::start).
    pub(crate) fn bind() -> io::Result<Relay> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(LONGEST_DELAY))?;
        Ok(Relay { socket, ended: Arc::default(), counts: Arc::default(), thread: None })
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Relays between these two addresses from now on.
    pub(crate) fn start(&mut self, ends: [SocketAddr; 2], faults: Faults, seed: u64) -> io::Result<()> {
        let mut path = Path {
            socket: self.socket.try_clone()?,
            ends,
            faults,
            dice: seed,
            counts: Arc::clone(&self.counts),
            delayed: Delayed { bytes: Vec::with_capacity(DATAGRAM_BYTES), to: None, behind: 0 },
        };
        let ended = Arc::clone(&self.ended);
        self.thread = Some(std::thread::spawn(move || {
            let mut buffer = vec![0; DATAGRAM_BYTES];
            while !ended.load(Ordering::Relaxed) {
                match path.socket.recv_from(&mut buffer) {
                    Ok((len, from)) => path.relay(&buffer[..len], from),
                    // The time is over, or an earlier send met a closed port.
                    Err(_) => path.release(),
                }
            }
        }));
        Ok(())
    }

    pub(crate) fn relayed(&self) -> Relayed {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Relayed {
            received: get(&self.counts.received),
            lost: get(&self.counts.lost),
            delayed: get(&self.counts.delayed),
            repeated: get(&self.counts.repeated),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A datagram that others overtake; at most one at a time.
struct Delayed {
    bytes: Vec<u8>,
    /// `None`: there is none.
    to: Option<SocketAddr>,
    /// How many came after it.
    behind: u32,
}

/// The relay's thread.
struct Path {
    socket: UdpSocket,
    ends: [SocketAddr; 2],
    faults: Faults,
    /// The state of SplitMix64.
    dice: u64,
    counts: Arc<Counts>,
    delayed: Delayed,
}

impl Path {
    fn relay(&mut self, datagram: &[u8], from: SocketAddr) {
        let Some(sender) = self.ends.iter().position(|end| *end == from) else { return };
        let to = self.ends[1 - sender];
        self.counts.received.fetch_add(1, Ordering::Relaxed);
        self.delayed.behind += u32::from(self.delayed.to.is_some());
        if self.falls(self.faults.loss) {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        } else if self.delayed.to.is_none() && self.falls(self.faults.reordering) {
            self.counts.delayed.fetch_add(1, Ordering::Relaxed);
            self.delayed.bytes.clear();
            self.delayed.bytes.extend_from_slice(datagram);
            (self.delayed.to, self.delayed.behind) = (Some(to), 0);
        } else {
            let copies = if self.falls(self.faults.duplication) { 2 } else { 1 };
            self.counts.repeated.fetch_add(copies - 1, Ordering::Relaxed);
            // A full queue of the receiver is a loss on the path, as a router's is.
            (0..copies).for_each(|_| _ = self.socket.send_to(datagram, to));
        }
        if self.delayed.behind >= OVERTAKEN_BY {
            self.release();
        }
    }

    /// Sends the datagram that was delayed.
    fn release(&mut self) {
        if let Some(to) = self.delayed.to.take() {
            let _ = self.socket.send_to(&self.delayed.bytes, to);
        }
    }

    /// Whether an event of this probability happens.
    fn falls(&mut self, probability: f64) -> bool {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.dice;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) as f64) < probability * u64::MAX as f64
    }
}
