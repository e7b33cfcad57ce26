//! What the thread does: sleeps until something is due, sends, receives, and looks at the host's addresses.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::{Duration, Instant as StdInstant},
};

use corewire_proto::{
    beacon::{Beacon, BeaconConfig, BeaconError, BeaconEvent},
    membership::{MAX_ADDRESSES, can_be_announced},
    ordered::OrderedMap,
    time::Instant,
};

use super::{BeaconPort, BeaconRequest};
use crate::{
    driver::{EventFd, InterfaceAddress, InterfaceChanges, interface_addresses, wait_readable},
    shard::NodeId,
    shared::{
        beacon::{BeaconSetup, BeaconSockets, HEARD_MAX, Heard, concrete},
        counters::{add, count},
        node::NodeShared,
        port::changed,
    },
};

/// Datagrams of one socket that a pass takes.
const DATAGRAMS_PER_PASS: usize = 64;

/// The pause after a pass in which more datagrams came than are opened. The kernel drops what comes
/// meanwhile.
const FLOOD_PAUSE: Duration = Duration::from_millis(50);

/// The pause between two looks at the addresses of a host that gives no notice of their change.
const LOOK_AGAIN: Duration = Duration::from_secs(3);

/// Room for a datagram that is too long for a beacon, so that it is seen to be.
const DATAGRAM_BYTES: usize = 2_048;

/// A node as the thread serves it.
struct BeaconNode {
    shared: Arc<NodeShared>,
    beacon: Option<(Beacon, BeaconSockets)>,
    /// It announces the addresses of the host.
    follows: bool,
}

/// Everything that the thread owns.
pub(super) struct BeaconThread {
    port: Arc<BeaconPort>,
    wake: Arc<EventFd>,
    begun: StdInstant,
    nodes: OrderedMap<NodeId, BeaconNode>,
    interfaces: Vec<InterfaceAddress>,
    /// `None`: the system gives no notice, so the addresses are read from time to time.
    changes: Option<InterfaceChanges>,
    /// No datagram is read before this.
    read_at: Instant,
    datagram: Vec<u8>,
}

impl BeaconThread {
    pub(super) fn new(port: Arc<BeaconPort>, wake: Arc<EventFd>) -> Self {
        // Watched before they are read, so that no change falls between.
        let changes = InterfaceChanges::watch().ok();
        Self {
            port,
            wake,
            begun: StdInstant::now(),
            nodes: OrderedMap::new(),
            interfaces: interface_addresses().unwrap_or_default(),
            changes,
            read_at: Instant::ZERO,
            datagram: vec![0; DATAGRAM_BYTES],
        }
    }

    fn now(&self) -> Instant {
        Instant::ZERO + self.begun.elapsed()
    }

    pub(super) fn run(mut self) {
        loop {
            loop {
                let request = self.port.requests.lock().pop_front();
                match request {
                    None => break,
                    Some(BeaconRequest::Stop) => return,
                    Some(request) => self.handle(request),
                }
            }
            let now = self.now();
            self.send_due(now);
            self.sleep(now);
            self.wake.clear();
            if self.changes.as_ref().is_none_or(InterfaceChanges::take) {
                self.follow();
            }
            self.receive();
        }
    }

    fn handle(&mut self, request: BeaconRequest) {
        let now = self.now();
        match request {
            BeaconRequest::Join(shared, setup, config) => self.join(now, shared, *setup, *config),
            BeaconRequest::Announce(node, record) => {
                if let Some((beacon, _)) = self.nodes.get_mut(&node).and_then(|node| node.beacon.as_mut()) {
                    beacon.announce(now, &record);
                }
            }
            BeaconRequest::Forget(node, peer) => {
                if let Some((beacon, _)) = self.nodes.get_mut(&node).and_then(|node| node.beacon.as_mut()) {
                    beacon.forget_told(&peer);
                }
            }
            BeaconRequest::Leave(node) => {
                self.send_due(now);
                self.nodes.remove(&node);
            }
            BeaconRequest::Stop => unreachable!("the loop ends with it"),
        }
    }

    fn join(&mut self, now: Instant, shared: Arc<NodeShared>, setup: BeaconSetup, config: BeaconConfig) {
        let BeaconSetup { sockets, follows, .. } = setup;
        let beacon = sockets.map(|mut sockets| {
            sockets.follow(&self.interfaces);
            (Beacon::new(now, shared.peer_id, config), sockets)
        });
        let node = BeaconNode { shared, beacon, follows };
        node.announce_addresses(&self.interfaces);
        self.nodes.insert(node.shared.id, node);
    }

    /// Sends what is due, and tells of peers that were silent for too long.
    fn send_due(&mut self, now: Instant) {
        for node in self.nodes.values_mut() {
            let Some((beacon, sockets)) = &mut node.beacon else { continue };
            let counters = &node.shared.counters;
            while let Some(datagram) = beacon.poll_transmit(now) {
                let sent = sockets.send(&self.interfaces, &datagram);
                count(if sent { &counters.beacons_sent } else { &counters.beacons_unsent });
            }
            while let Some(peer) = beacon.poll_silent(now) {
                node.shared.hear(Heard::Silent(peer));
            }
        }
    }

    /// Sleeps until a request, a datagram or a change comes, or something is due.
    fn sleep(&self, now: Instant) {
        let beacons = self.nodes.values().filter_map(|node| node.beacon.as_ref());
        let mut until = beacons.clone().map(|(beacon, _)| beacon.poll_timeout()).min();
        let mut fds: Vec<BorrowedFd<'_>> = vec![self.wake.as_fd()];
        match &self.changes {
            Some(changes) => fds.push(changes.as_fd()),
            None => until = Some(until.unwrap_or(Instant::FAR_FUTURE).min(now + LOOK_AGAIN)),
        }
        if now < self.read_at {
            until = Some(until.unwrap_or(Instant::FAR_FUTURE).min(self.read_at));
        } else {
            let open = self.nodes.values().filter(|node| !node.shared.has_heard_enough());
            let sockets = open.filter_map(|node| node.beacon.as_ref()).flat_map(|(_, s)| &s.sockets);
            fds.extend(sockets.map(AsFd::as_fd));
        }
        let limit = until.map(|until| until.saturating_since(now));
        match wait_readable(&fds, limit) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Without memory for the call: a pause instead of a busy loop.
            Err(_) => std::thread::sleep(FLOOD_PAUSE),
        }
    }

    fn receive(&mut self) {
        let now = self.now();
        if now < self.read_at {
            return;
        }
        for node in self.nodes.values_mut() {
            let Some((beacon, sockets)) = &mut node.beacon else { continue };
            for socket in &mut sockets.sockets {
                add(&node.shared.counters.beacons_dropped, socket.newly_dropped().into());
                for _ in 0..DATAGRAMS_PER_PASS {
                    // What waits in the socket is heard when the clerk has taken what was heard before.
                    if node.shared.has_heard_enough() {
                        break;
                    }
                    let Ok((len, from)) = socket.receive(&mut self.datagram) else { break };
                    let counters = &node.shared.counters;
                    match beacon.handle_datagram(now, &self.datagram[..len]) {
                        Ok(None) => {}
                        // That a peer is there is news only while it is not shown.
                        Ok(Some(BeaconEvent::Same(peer))) if node.shared.peer(&peer).is_some() => {}
                        Ok(Some(event)) => {
                            if !matches!(event, BeaconEvent::Same(_)) {
                                count(&counters.beacons_heard);
                            }
                            node.shared.hear(match event {
                                BeaconEvent::Record { bytes, age_s } => Heard::Record { bytes, age_s, from },
                                BeaconEvent::Same(peer) => Heard::Same { peer, from },
                                BeaconEvent::Long(long) => Heard::Long { long, from },
                            });
                        }
                        Err(BeaconError::Foreign) => count(&counters.beacons_foreign),
                        Err(BeaconError::Replayed) => count(&counters.beacons_replayed),
                        Err(BeaconError::Malformed | BeaconError::Full) => count(&counters.beacons_refused),
                        Err(BeaconError::Flood) => {
                            count(&counters.beacons_flooded);
                            self.read_at = now + FLOOD_PAUSE;
                        }
                    }
                }
            }
        }
    }

    /// Reads the addresses of the host, and goes on with them.
    fn follow(&mut self) {
        let Ok(interfaces) = interface_addresses() else { return };
        if interfaces == self.interfaces {
            return;
        }
        self.interfaces = interfaces;
        for node in self.nodes.values_mut() {
            if let Some((_, sockets)) = &mut node.beacon {
                sockets.follow(&self.interfaces);
                node.shared.beacon.lock().interfaces = sockets.names(&self.interfaces);
            }
            node.announce_addresses(&self.interfaces);
        }
    }
}

impl BeaconNode {
    /// Makes the node announce the addresses of the host, if they are others than before.
    fn announce_addresses(&self, interfaces: &[InterfaceAddress]) {
        if !self.follows {
            return;
        }
        let mut addresses = concrete(&self.shared.addresses, interfaces);
        addresses.retain(can_be_announced);
        addresses.truncate(MAX_ADDRESSES);
        let is_new = {
            let mut announced = self.shared.announced.lock();
            let is_new = *announced != addresses;
            *announced = addresses;
            is_new
        };
        if is_new {
            changed(&self.shared);
        }
    }
}

const _: () = assert!(HEARD_MAX >= DATAGRAMS_PER_PASS);
