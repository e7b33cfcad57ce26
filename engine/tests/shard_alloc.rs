//! In the steady state neither the producer's nor the consumer's shard allocates for a datum.
//!
//! This test has its own binary because it replaces the allocator. One thread runs both shards over real
//! sockets, since the simulated network allocates for each datagram.

mod shard_rig;

use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use allocation_counter::measure;
use corewire_engine::{
    driver::{DriverConfig, epoll::EpollDriver},
    shard::{AcceptChannel, Command, Event, Inbox, Install, Shard, ShardConfig},
    shared::ChannelShared,
};
use corewire_proto::{PeerId, channel::OpenRequest, session::SessionConfig};
use corewire_rings::{
    Ring,
    mailbox::{Receiver, Sender, mailbox},
};
use shard_rig::{NODE, STREAM, index, keys, publish, ring};

const LONG: Duration = Duration::from_secs(30);

struct Side {
    shard: Shard<EpollDriver>,
    commands: Sender<Command>,
    events: Receiver<Event>,
    address: SocketAddr,
}

impl Side {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = socket.local_addr().expect("an address");
        let config = DriverConfig { leases: 8, receive_buffers: 8, ..DriverConfig::default() };
        let driver = EpollDriver::open(&config).expect("epoll");
        let (commands, to_shard) = mailbox(64);
        let (to_clerk, events) = mailbox(64);
        let side = Self {
            shard: Shard::new(driver, ShardConfig::default(), to_shard, to_clerk),
            commands,
            events,
            address,
        };
        side.tell(Command::AddSocket { node: NODE, socket: socket.into() });
        side
    }

    fn tell(&self, command: Command) {
        assert!(self.commands.try_send(command).is_ok());
    }
}

/// Between the two sides: forwards datagrams, and loses some of the left side's.
struct LossyPath {
    /// Each side sees the other one here.
    ends: [UdpSocket; 2],
    sides: [SocketAddr; 2],
    buffer: Box<[u8; 1 << 16]>,
    /// One of so many is lost.
    loses: u32,
    seen: u32,
    lost: u32,
}

impl LossyPath {
    fn new(sides: [SocketAddr; 2], loses: u32) -> Self {
        let ends = [(); 2].map(|()| {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
            socket.set_nonblocking(true).expect("a socket");
            socket
        });
        Self { ends, sides, buffer: Box::new([0; 1 << 16]), loses, seen: 0, lost: 0 }
    }

    fn seen_from(&self, side: usize) -> SocketAddr {
        self.ends[side].local_addr().expect("a bound socket")
    }

    fn forward(&mut self) {
        for (from, to) in [(0, 1), (1, 0)] {
            while let Ok(len) = self.ends[from].recv(&mut self.buffer[..]) {
                self.seen += u32::from(from == 0);
                if from == 0 && self.seen.is_multiple_of(self.loses) {
                    self.lost += 1;
                } else {
                    // A full queue loses it, which is a loss as any.
                    let _ = self.ends[to].send_to(&self.buffer[..len], self.sides[to]);
                }
            }
        }
    }
}

struct Pair {
    left: Side,
    right: Side,
    path: Option<LossyPath>,
}

impl Pair {
    fn turn(&mut self) {
        self.left.shard.turn();
        if let Some(path) = &mut self.path {
            path.forward();
        }
        self.right.shard.turn();
    }

    fn connect(&self) {
        let (one, other) = (index(1, 0x1001), index(1, 0x2001));
        let mut config = SessionConfig::default();
        if self.path.is_some() {
            // Of usual size, so that there are many to lose.
            config.max_packet_bytes = 1_452;
        }
        let seen = |side: usize, address| self.path.as_ref().map_or(address, |path| path.seen_from(side));
        let (right, left) = (seen(0, self.right.address), seen(1, self.left.address));
        for (at, to, index, remote_index, mirrored) in
            [(&self.left, right, one, other, false), (&self.right, left, other, one, true)]
        {
            at.tell(Command::InstallSession(Box::new(Install {
                index,
                remote_index,
                node: NODE,
                source: None,
                to,
                keys: keys(1, mirrored),
                path_secret: corewire_proto::seal::KeyBytes::from_bytes([9; 32]),
                path: Arc::default(),
                config: config.clone(),
            })));
        }
    }

    fn subscribe(&mut self, ring: &Ring) -> Inbox {
        let handle = || Arc::new(ChannelShared::new(STREAM, PeerId([1; 32]), PeerId([2; 32])));
        self.right.tell(Command::OpenChannel {
            index: index(1, 0x2001),
            open_id: 1,
            request: Box::new(OpenRequest {
                stream_id: STREAM,
                subscription: [0; 8],
                resume: None,
                reliability: Default::default(),
                window_bytes: 65_536,
                window_datums: 0,
                max_datum_bytes: 1 << 16,
                weight: 1,
                form: Default::default(),
                criteria: Vec::new(),
                tickets: Vec::new(),
            }),
            handle: handle(),
        });
        let deadline = Instant::now() + LONG;
        while Instant::now() < deadline {
            self.turn();
            if let Some(Event::ChannelRequested { label, .. }) = self.left.events.try_recv() {
                self.left.tell(Command::AcceptChannel(Box::new(AcceptChannel {
                    index: index(1, 0x1001),
                    label,
                    ring: ring.clone(),
                    end: Arc::default(),
                    weight: 1,
                    reliability: Default::default(),
                    handle: handle(),
                    publication: corewire_proto::channel::PublicationId::default(),
                    resume: None,
                })));
            }
            if let Some(Event::ChannelAccepted { reader, taken, .. }) = self.right.events.try_recv() {
                return Inbox::remote(reader, taken);
            }
        }
        panic!("no channel in time");
    }

    /// Sends `count` datums of `len` bytes and takes them.
    fn carry(&mut self, ring: &Ring, inbox: &mut Inbox, count: usize, len: usize) {
        let (mut sent, mut taken) = (0, 0);
        let deadline = Instant::now() + LONG;
        while taken < count {
            sent += publish(ring, count - sent, len);
            self.turn();
            while let Ok(Some(datum)) = inbox.try_recv() {
                assert_eq!(datum.bytes().len(), len);
                taken += 1;
            }
            assert!(Instant::now() < deadline, "{taken} of {count} datums of {len} bytes");
        }
    }
}

#[test]
fn a_warm_channel_carries_datums_without_an_allocation() {
    assert!(
        measure(|| drop(std::hint::black_box(Box::new([0u8; 64])))).count_total > 0,
        "nothing is counted"
    );
    let mut pair = Pair { left: Side::new(), right: Side::new(), path: None };
    pair.connect();
    let ring = ring(256, 1 << 17);
    let mut inbox = pair.subscribe(&ring);
    for len in [64, 1_000] {
        pair.carry(&ring, &mut inbox, 20_000, len);
        // A list may grow once, when more waits than ever before. So the best of a few.
        let least = (0..5).map(|_| measure(|| pair.carry(&ring, &mut inbox, 5_000, len)).count_total).min();
        assert_eq!(least, Some(0), "allocations for 5,000 datums of {len} bytes");
    }
}

#[test]
fn loss_costs_a_warm_channel_no_allocation() {
    let (left, right) = (Side::new(), Side::new());
    let path = LossyPath::new([left.address, right.address], 100);
    let mut pair = Pair { left, right, path: Some(path) };
    pair.connect();
    let ring = ring(256, 1 << 17);
    let mut inbox = pair.subscribe(&ring);
    for len in [64, 1_000] {
        pair.carry(&ring, &mut inbox, 5_000, len);
        let mut least = u64::MAX;
        for _ in 0..5 {
            let lost = |pair: &Pair| pair.path.as_ref().map_or(0, |path| path.lost);
            let before = lost(&pair);
            let allocations = measure(|| pair.carry(&ring, &mut inbox, 3_000, len)).count_total;
            assert!(lost(&pair) > before, "nothing was lost");
            least = least.min(allocations);
        }
        assert_eq!(least, 0, "allocations for 3,000 datums of {len} bytes");
    }
}
