//! What a driver reports to its shard: errors of datagrams, which anyone on the way can forge, and counters.

mod hooked_driver;
mod shard_rig;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use corewire_engine::{
    counters::Counter,
    driver::{
        DriverCounters, PathError, PathFault, Route,
        sim::{SimDriver, World},
    },
    shard::{Command, Event, Install, NodeId, Shard, ShardConfig},
    shared::Next,
};
use corewire_proto::{session::SessionConfig, time::Instant};
use corewire_rings::mailbox::{Receiver, Sender, mailbox};
use hooked_driver::{DriverHook, HookedDriver};
use shard_rig::{index, keys};

/// What the test sees of a driver, and gives it to report.
#[derive(Default)]
struct Reports {
    errors: RefCell<VecDeque<PathError>>,
    routes: RefCell<Vec<Route>>,
    sends: Cell<u64>,
}

/// Reports those errors, and counts each send as a system call.
impl DriverHook for Rc<Reports> {
    fn before_send(&self, route: Route) {
        self.routes.borrow_mut().push(route);
        self.sends.set(self.sends.get() + 1);
    }

    fn path_error(&self) -> Option<PathError> {
        self.errors.borrow_mut().pop_front()
    }

    fn counters(&self, counters: DriverCounters) -> DriverCounters {
        DriverCounters { system_calls: self.sends.get(), ..counters }
    }
}

/// A shard with two nodes, each of which has a session with the same peer.
struct Rig {
    world: World,
    shard: Shard<HookedDriver<SimDriver, Rc<Reports>>>,
    commands: Sender<Command>,
    _events: Receiver<Event>,
    reports: Rc<Reports>,
    here: IpAddr,
    peer: SocketAddr,
}

impl Rig {
    fn new() -> Self {
        let world = World::new(1);
        let (host, other) = (world.host(), world.host());
        let (here, peer) = (world.ip(host), SocketAddr::new(world.ip(other), 4_000));
        let reports = Rc::<Reports>::default();
        let driver = HookedDriver { driver: world.driver(host), hook: reports.clone() };
        let (commands, to_shard) = mailbox(64);
        let (to_clerk, events) = mailbox(1_024);
        let shard = Shard::new(driver, ShardConfig::default(), to_shard, to_clerk);
        let tell = |command| assert!(commands.try_send(command).is_ok());
        for number in [1, 2] {
            let node = NodeId(number);
            let slot = number as u32;
            let address = SocketAddr::new(here, 4_000 + number as u16);
            let socket = world.bind(host, address, 1).expect("a free port").remove(0);
            tell(Command::AddSocket { node, socket: socket.into() });
            tell(Command::InstallSession(Box::new(Install {
                index: index(slot, slot),
                remote_index: index(slot, slot),
                node,
                source: Some(here),
                to: peer,
                keys: keys(slot as u8, false),
                path_secret: corewire_proto::seal::KeyBytes::from_bytes([9; 32]),
                path: Arc::default(),
                config: SessionConfig::default(),
            })));
        }
        Self { world, shard, commands, _events: events, reports, here, peer }
    }

    fn turn_until_idle(&mut self) -> Option<Instant> {
        loop {
            match self.shard.turn() {
                Next::Again => {}
                Next::Until(at) => return Some(at),
                Next::Idle => return None,
            }
        }
    }

    /// Lets time pass until both nodes have sent something; returns all routes.
    fn both_send(&mut self) -> Vec<Route> {
        self.reports.routes.borrow_mut().clear();
        loop {
            let next = self.turn_until_idle().expect("sessions have deadlines");
            let routes = self.reports.routes.borrow().clone();
            if routes.iter().map(|route| route.socket).collect::<BTreeSet<_>>().len() == 2 {
                return routes;
            }
            self.world.advance_to(next);
        }
    }
}

#[test]
fn an_error_of_one_socket_says_nothing_about_the_ways_of_another() {
    let mut rig = Rig::new();
    let before = rig.both_send();
    assert!(before.iter().all(|route| route.source == Some(rig.here) && route.to == rig.peer));
    let faulty = before[0].socket;
    rig.reports.errors.borrow_mut().push_back(PathError {
        socket: faulty,
        to: rig.peer,
        fault: PathFault::NotSent,
    });
    for route in rig.both_send() {
        let source = (route.socket != faulty).then_some(rig.here);
        assert_eq!((route.source, route.to), (source, rig.peer), "{route:?}");
    }
}

#[test]
fn a_turn_takes_a_few_errors_and_the_next_ones_take_the_rest() {
    let mut rig = Rig::new();
    let socket = rig.both_send()[0].socket;
    let error = PathError { socket, to: rig.peer, fault: PathFault::Unreachable };
    rig.reports.errors.borrow_mut().extend([error; 64]);
    for taken in (8..=64).step_by(8) {
        assert_eq!(rig.shard.turn(), Next::Again);
        assert_eq!(rig.reports.errors.borrow().len(), 64 - taken);
    }
}

#[test]
fn what_the_driver_has_counted_is_shown_in_time_and_at_the_end() {
    let mut rig = Rig::new();
    let shown = |rig: &Rig| rig.shard.counters().get(Counter::SystemCalls);
    rig.both_send();
    // The host never sleeps.
    rig.world.advance_to(rig.world.now() + Duration::from_millis(1));
    rig.turn_until_idle();
    assert_eq!(shown(&rig), rig.reports.sends.get());
    let now = rig.world.now();
    assert!(rig.commands.try_send(Command::Shutdown { deadline: now + Duration::from_micros(10) }).is_ok());
    let before = rig.reports.sends.get();
    while !rig.shard.is_stopped() {
        if let Some(at) = rig.turn_until_idle().filter(|_| !rig.shard.is_stopped()) {
            rig.world.advance_to(at);
        }
    }
    assert!(rig.reports.sends.get() > before, "sessions tell their peers");
    assert_eq!(shown(&rig), rig.reports.sends.get());
}
