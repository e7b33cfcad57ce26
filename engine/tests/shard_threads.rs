//! Shards on their own threads over real sockets: no wake-up is lost, and a panic is contained.

mod hooked_driver;
mod shard_rig;

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use corewire_engine::{
    counters::{Counter, ShardCounters},
    driver::{Driver, DriverConfig, Route, epoll::EpollDriver},
    idle::{Idle, Idler},
    shard::{
        AcceptChannel, Command, Event, Inbox, Install, Shard, ShardConfig,
        host::{HostEnd, run},
    },
    shared::{ChannelShared, ChannelState},
};
use corewire_proto::{PeerId, channel::OpenRequest, session::SessionConfig, time::Instant};
use corewire_rings::{
    Ring,
    mailbox::{Receiver, Sender, mailbox},
    park,
};
use hooked_driver::{DriverHook, HookedDriver};
use shard_rig::{NODE, STREAM, index, keys, publish, ring};

/// Long enough for any machine; a lost wake-up lasts for ever.
const LONG: Duration = Duration::from_secs(30);

/// A shard on its own thread.
struct Host {
    commands: Sender<Command>,
    events: Receiver<Event>,
    counters: Arc<ShardCounters>,
    address: SocketAddr,
    thread: JoinHandle<HostEnd>,
}

fn start<D: Driver>(idle: Idle, open: impl FnOnce() -> D + Send + 'static) -> Host {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let (commands, to_shard) = mailbox(256);
    let (to_clerk, events) = mailbox(256);
    let (told, counters) = std::sync::mpsc::channel();
    let thread = thread::spawn(move || {
        let shard = Shard::new(open(), ShardConfig::default(), to_shard, to_clerk);
        told.send(shard.counters()).unwrap();
        run(shard, Idler::new(idle, 2))
    });
    let counters = counters.recv().unwrap();
    assert!(commands.try_send(Command::AddSocket { node: NODE, socket: socket.into() }).is_ok());
    Host { commands, events, counters, address, thread }
}

fn epoll() -> EpollDriver {
    EpollDriver::open(&DriverConfig { leases: 8, receive_buffers: 8, ..DriverConfig::default() }).unwrap()
}

impl Host {
    fn tell(&self, command: Command) {
        assert!(self.commands.try_send(command).is_ok());
    }

    fn hear<T>(&mut self, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        let deadline = std::time::Instant::now() + LONG;
        loop {
            let event = park::wait_until(deadline, |cx| self.events.poll_recv(cx)).expect("an event in time");
            if let Some(picked) = pick(event.expect("the shard lives")) {
                return picked;
            }
        }
    }

    fn stop(mut self, now: Instant) -> HostEnd {
        self.tell(Command::Shutdown { deadline: now });
        self.hear(|event| matches!(event, Event::ShardStopped { .. }).then_some(()));
        self.thread.join().unwrap()
    }
}

fn connect(left: &Host, right: &Host) {
    for (at, to, mirrored) in [(left, right, false), (right, left, true)] {
        let (mine, theirs) = if mirrored { (0x2001, 0x1001) } else { (0x1001, 0x2001) };
        at.tell(Command::InstallSession(Box::new(Install {
            index: index(1, mine),
            remote_index: index(1, theirs),
            node: NODE,
            source: None,
            to: to.address,
            keys: keys(1, mirrored),
            path_secret: corewire_proto::seal::KeyBytes::from_bytes([9; 32]),
            path: Arc::default(),
            config: SessionConfig::default(),
        })));
    }
}

fn subscribe(
    left: &mut Host,
    right: &mut Host,
    ring: &Ring,
    window_bytes: u64,
) -> (Inbox, Arc<ChannelShared>) {
    let handle = || Arc::new(ChannelShared::new(STREAM, PeerId([1; 32]), PeerId([2; 32])));
    let consumer = handle();
    right.tell(Command::OpenChannel {
        index: index(1, 0x2001),
        open_id: 1,
        request: Box::new(OpenRequest {
            stream_id: STREAM,
            subscription: [0; 8],
            resume: None,
            reliability: Default::default(),
            window_bytes,
            window_datums: 0,
            max_datum_bytes: 1 << 16,
            weight: 1,
            form: Default::default(),
            criteria: Vec::new(),
            tickets: Vec::new(),
        }),
        handle: consumer.clone(),
    });
    let label = left.hear(|event| match event {
        Event::ChannelRequested { label, .. } => Some(label),
        _ => None,
    });
    left.tell(Command::AcceptChannel(Box::new(AcceptChannel {
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
    let inbox = right.hear(|event| match event {
        Event::ChannelAccepted { reader, taken, .. } => Some(Inbox::remote(reader, taken)),
        _ => None,
    });
    (inbox, consumer)
}

/// Takes the next datum, waiting for it.
fn take(inbox: &mut Inbox) -> u64 {
    let deadline = std::time::Instant::now() + LONG;
    loop {
        if let Some(taken) = inbox.try_recv().expect("the channel lives") {
            return taken.seq();
        }
        park::wait_until(deadline, |cx| inbox.poll_ready(cx)).expect("a wake-up was lost");
    }
}

#[test]
fn one_datum_at_a_time_wakes_everybody_who_sleeps_every_time() {
    // A window of one datum, so that each needs its grant as well; and one that never fills, so that a parked
    // shard has its ring armed. Only then is the ring's wake needed, and how often depends on the machine.
    for (idle, window, wakes) in [(Idle::Park, 16, 0), (Idle::Park, 1 << 20, 100), (Idle::ADAPTIVE, 16, 0)] {
        let (mut left, mut right) = (start(idle, epoll), start(idle, epoll));
        connect(&left, &right);
        let ring = ring(16, 1_024);
        let (mut inbox, _) = subscribe(&mut left, &mut right, &ring, window);
        let deadline = std::time::Instant::now() + LONG;
        let mut rounds = 0..;
        while rounds.start < 1_000 || left.counters.get(Counter::RingsWoken) < wakes {
            assert!(std::time::Instant::now() < deadline, "the ring does not wake its shard");
            assert_eq!(publish(&ring, 1, 64), 1);
            assert_eq!(Some(take(&mut inbox)), rounds.next());
            thread::yield_now();
        }
        drop(inbox);
        assert_eq!(left.stop(Instant::ZERO), HostEnd::InOrder);
        assert_eq!(right.stop(Instant::ZERO), HostEnd::InOrder);
    }
}

#[test]
fn a_producer_that_waits_for_room_is_woken_by_acknowledgements() {
    let (mut left, mut right) = (start(Idle::Park, epoll), start(Idle::Park, epoll));
    connect(&left, &right);
    let ring = ring(8, 1_024);
    let (mut inbox, _) = subscribe(&mut left, &mut right, &ring, 256);
    let producing = {
        let ring = ring.clone();
        thread::spawn(move || {
            let writer = ring.writer();
            let deadline = std::time::Instant::now() + LONG;
            for n in 0..5_000u64 {
                let room = park::block_on_until(deadline, writer.claim(64)).expect("room was never free");
                let mut claim = room.expect("the ring is open");
                claim[..8].copy_from_slice(&n.to_le_bytes());
                claim.commit();
            }
            writer.close();
        })
    };
    for expected in 0..5_000 {
        assert_eq!(take(&mut inbox), expected);
    }
    producing.join().unwrap();
    let deadline = std::time::Instant::now() + LONG;
    park::wait_until(deadline, |cx| inbox.poll_ready(cx)).expect("the end is a wake-up as well");
    assert!(inbox.try_recv().is_err());
    left.stop(Instant::ZERO);
    right.stop(Instant::ZERO);
}

/// Makes a driver panic or fail when it is told to, or has its sockets backed up.
#[derive(Clone, Default)]
struct Fragile {
    fuse: Arc<AtomicBool>,
    denied: Arc<AtomicBool>,
    backed_up: Arc<AtomicBool>,
}

impl Fragile {
    fn driver(&self) -> impl FnOnce() -> HookedDriver<EpollDriver, Self> + Send + 'static {
        let hook = self.clone();
        move || HookedDriver { driver: epoll(), hook }
    }
}

impl DriverHook for Fragile {
    fn before_send(&self, _route: Route) {
        assert!(!self.fuse.load(Ordering::Relaxed), "the fuse has blown");
    }

    fn submit_error(&self) -> Option<io::Error> {
        self.denied.load(Ordering::Relaxed).then(|| io::ErrorKind::PermissionDenied.into())
    }

    fn is_backed_up(&self) -> bool {
        self.backed_up.load(Ordering::Relaxed)
    }
}

#[test]
fn a_panic_in_a_turn_ends_that_shard_and_tells_everybody() {
    let fragile = Fragile::default();
    let mut left = start(Idle::Park, epoll);
    let mut right = start(Idle::Park, fragile.driver());
    connect(&left, &right);
    let ring = ring(16, 1_024);
    let (mut inbox, consumer) = subscribe(&mut left, &mut right, &ring, 16);
    fragile.fuse.store(true, Ordering::Relaxed);
    publish(&ring, 2, 64);
    let panic = right.hear(|event| match event {
        Event::ShardStopped { failure, .. } => failure,
        _ => None,
    });
    assert!(panic.contains("the fuse has blown"));
    assert_eq!(right.counters.get(Counter::Panics), 1);
    assert!(matches!(right.thread.join().unwrap(), HostEnd::Panicked(text) if text.contains("fuse")));
    // Its consumers do not wait: the channel is over, the inbox ends after what is in it.
    assert_eq!(consumer.state(), ChannelState::Terminated);
    let deadline = std::time::Instant::now() + LONG;
    while inbox.try_recv().is_ok() {
        park::wait_until(deadline, |cx| inbox.poll_ready(cx)).expect("the end is a wake-up");
    }
    left.stop(Instant::ZERO);
}

#[test]
fn a_driver_that_fails_ends_its_shard_with_the_reason() {
    let fragile = Fragile::default();
    let mut left = start(Idle::Park, epoll);
    let mut right = start(Idle::Park, fragile.driver());
    connect(&left, &right);
    let ring = ring(16, 1_024);
    let (_inbox, consumer) = subscribe(&mut left, &mut right, &ring, 16);
    fragile.denied.store(true, Ordering::Relaxed);
    // Only its turns find out.
    publish(&ring, 1, 64);
    let told = right.hear(|event| match event {
        Event::ShardStopped { failure, .. } => failure,
        _ => None,
    });
    assert!(told.contains("permission denied"), "{told}");
    assert_eq!(right.counters.get(Counter::SubmitErrors), 1);
    assert_eq!(right.thread.join().unwrap(), HostEnd::DriverFailed(told));
    assert_eq!(consumer.state(), ChannelState::Terminated);
    left.stop(Instant::ZERO);
}

#[test]
fn session_waits_while_its_socket_is_backed_up() {
    let fragile = Fragile::default();
    let mut left = start(Idle::Park, fragile.driver());
    let mut right = start(Idle::Park, epoll);
    connect(&left, &right);
    let ring = ring(16, 1_024);
    let (mut inbox, _consumer) = subscribe(&mut left, &mut right, &ring, 1 << 16);
    fragile.backed_up.store(true, Ordering::Relaxed);
    publish(&ring, 2, 64);
    while left.counters.get(Counter::SocketsBackedUp) < 3 {
        thread::yield_now();
    }
    assert_eq!(left.counters.get(Counter::DatumsRead), 0);
    fragile.backed_up.store(false, Ordering::Relaxed);
    for expected in 0..2 {
        assert_eq!(take(&mut inbox), expected);
    }
    left.stop(Instant::ZERO);
    right.stop(Instant::ZERO);
}
