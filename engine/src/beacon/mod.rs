//! Beacons of nodes, and the addresses of this host, on a thread of their own.
//!
//! A node whose network is to be found without addresses has sockets in the network's multicast groups, and a
//! node that is bound to the unspecified address announces the addresses of the host's interfaces. Both need
//! a thread that sleeps on descriptors, which the clerk does not. One thread per engine serves all nodes; it
//! is started for the first one that needs it. What it hears waits in a bounded queue of the node; while that
//! is full, the sockets are not read.
//!
//! Not inside: what a beacon is and when one is sent (`corewire_proto::beacon`), and what is done about a
//! record (the clerk's).

mod thread;

use std::{
    collections::VecDeque,
    io,
    sync::Arc,
    thread::{Builder, JoinHandle},
};

use corewire_proto::{PeerId, beacon::BeaconConfig, membership::SignedRecord};
use corewire_rings::sync::Lock;

use crate::{
    driver::EventFd,
    shard::NodeId,
    shared::{beacon::BeaconSetup, node::NodeShared},
};

/// A request of the clerk's.
enum BeaconRequest {
    /// Serve this node.
    Join(Arc<NodeShared>, Box<BeaconSetup>, Box<BeaconConfig>),
    /// Tell this record from now on.
    Announce(NodeId, SignedRecord),
    /// What this peer told the node last came to nothing.
    Forget(NodeId, PeerId),
    /// Tell what was to be told, and forget the node.
    Leave(NodeId),
    /// End.
    Stop,
}

/// The way from the clerk to the thread.
#[derive(Default)]
struct BeaconPort {
    requests: Lock<VecDeque<BeaconRequest>>,
}

/// The clerk's end of the beacon thread.
pub(crate) struct Beacons {
    /// Whether there is a thread at all; not in the simulator.
    allowed: bool,
    running: Option<RunningBeacons>,
}

struct RunningBeacons {
    port: Arc<BeaconPort>,
    wake: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Beacons {
    /// A thread is started when a node needs it.
    pub(crate) fn on_demand() -> Self {
        Self { allowed: true, running: None }
    }

    /// No beacons, for an engine whose turns the caller runs.
    pub(crate) fn none() -> Self {
        Self { allowed: false, running: None }
    }

    /// Serves a node. Without a thread it is told why in [`NodeShared::beacon`].
    pub(crate) fn join(&mut self, node: &Arc<NodeShared>, setup: BeaconSetup, config: BeaconConfig) {
        if !self.allowed {
            return;
        }
        match self.running() {
            Ok(running) => {
                running.send(BeaconRequest::Join(node.clone(), Box::new(setup), Box::new(config)));
            }
            Err(error) => {
                node.beacon.lock().problem = Some(format!("no thread for beacons: {error}"));
            }
        }
    }

    pub(crate) fn announce(&self, node: NodeId, record: &SignedRecord) {
        if let Some(running) = &self.running {
            running.send(BeaconRequest::Announce(node, record.clone()));
        }
    }

    /// What a peer told last came to nothing: when it is told again, it is handed over again. So a record
    /// that was not fetched is tried once per beacon of its peer.
    pub(crate) fn forget_told(&self, node: NodeId, peer: PeerId) {
        if let Some(running) = &self.running {
            running.send(BeaconRequest::Forget(node, peer));
        }
    }

    pub(crate) fn leave(&self, node: NodeId) {
        if let Some(running) = &self.running {
            running.send(BeaconRequest::Leave(node));
        }
    }

    /// The clerk has taken what was heard, so that more can be.
    pub(crate) fn wake(&self) {
        if let Some(running) = &self.running {
            running.wake.ring();
        }
    }

    fn running(&mut self) -> io::Result<&RunningBeacons> {
        let running = match self.running.take() {
            Some(running) => running,
            None => {
                let (port, wake) = (Arc::new(BeaconPort::default()), Arc::new(EventFd::new()?));
                let mine = (port.clone(), wake.clone());
                let thread = Builder::new()
                    .name("corewire-beacon".into())
                    .spawn(move || thread::BeaconThread::new(mine.0, mine.1).run())?;
                RunningBeacons { port, wake, thread: Some(thread) }
            }
        };
        Ok(self.running.insert(running))
    }
}

impl RunningBeacons {
    fn send(&self, request: BeaconRequest) {
        self.port.requests.lock().push_back(request);
        self.wake.ring();
    }
}

impl Drop for RunningBeacons {
    fn drop(&mut self) {
        self.send(BeaconRequest::Stop);
        if let Some(thread) = self.thread.take() {
            // It runs no code of the user's, and ends within a pass.
            let _ = thread.join();
        }
    }
}
