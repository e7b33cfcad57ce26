//! Who takes part in the demonstration: three nodes, one producer, three consumers, and their threads.
//!
//! Node A has the producer and a consumer, which share memory. Nodes B and C have engines, sockets and keys of
//! their own; what reaches them went through the kernel, encrypted, as it would between hosts.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use corewire::{Network, NetworkId, Producer};

use super::consume::{self, Part, Tally};
use super::prices::{PriceUpdate, Prices};
use super::produce::{self, Pace, Produced};
use crate::cli::args::DemoArgs;
use crate::cli::exit::{Exit, Failure};
use crate::cli::node::{self, Facts};
use crate::cli::wait;

/// The stream's name; everything else about it is derived.
const STREAM: &str = "corewire.demo.prices";
/// Nodes on one machine have met long before this.
const MEETING: Duration = Duration::from_secs(15);
/// What is on its way when the demonstration ends takes milliseconds.
const LEAVING: Duration = Duration::from_secs(10);
/// Datums that the ring holds: a few milliseconds of the full rate, so that no thread waits for each datum.
const RING_DATUMS: usize = 8 * 1024;
/// Bytes that the ring holds and that may be on the way to one consumer.
const RING_BYTES: usize = 1024 * 1024;

/// A consumer as the rest of the demonstration sees it.
pub(crate) struct Member {
    /// `A` and what it is reached by.
    pub(crate) name: &'static str,
    parts: Sender<Part>,
    tallies: Receiver<Tally>,
    thread: JoinHandle<()>,
}

/// A node and what is told about it.
pub(crate) struct Node {
    /// One letter.
    pub(crate) name: &'static str,
    /// Its part in the demonstration.
    pub(crate) role: &'static str,
    /// Address, driver, cores.
    pub(crate) facts: Facts,
    network: Network,
}

/// Everybody.
pub(crate) struct Cast {
    pub(crate) nodes: Vec<Node>,
    members: Vec<Member>,
    producer: Producer<PriceUpdate>,
    prices: Arc<Prices>,
}

/// What came of one part.
pub(crate) struct Outcome {
    /// What the producer did.
    pub(crate) produced: Produced,
    /// What each consumer saw.
    pub(crate) tallies: Vec<(&'static str, Tally)>,
}

impl Cast {
    /// Starts the nodes and waits until every consumer is connected.
    pub(crate) fn assemble(args: &DemoArgs, prices: &Arc<Prices>) -> Result<Cast, Failure> {
        // A fresh id keeps two demonstrations on one machine apart.
        let id = NetworkId::random();
        let roles = [("A", "producer, consumer"), ("B", "consumer, udp"), ("C", "consumer, udp")];
        let mut nodes: Vec<Node> = Vec::with_capacity(roles.len());
        for (name, role) in roles {
            let known = nodes.first().map(|first| first.facts.address);
            let network = node::start(id, args.io, known)?;
            nodes.push(Node { name, role, facts: Facts::of(&network), network });
        }
        let producer = producer(&nodes[0].network)?;
        let names = ["A ring", "B udp", "C udp"];
        let members: Result<Vec<Member>, Failure> =
            nodes.iter().zip(names).map(|(node, name)| member(name, &node.network, prices)).collect();
        let cast = Cast { nodes, members: members?, producer, prices: Arc::clone(prices) };
        cast.meet()?;
        Ok(cast)
    }

    fn meet(&self) -> Result<(), Failure> {
        let all = self.producer.when().subscribed().minimum_of(self.members.len());
        wait::by(all, Instant::now() + MEETING).ok_or_else(|| {
            let came = self.producer.consumers().len();
            Failure::new(
                Exit::NotReached,
                format!("{came} of {} consumers connected in time", self.members.len()),
            )
            .cure("corewire --io epoll, or a look at firewall rules for the loopback interface")
        })
    }

    /// Plays one part: this thread sends, the consumers' threads take.
    pub(crate) fn play(&mut self, part: Part, pace: Pace) -> Result<Outcome, Failure> {
        for member in &self.members {
            member.parts.send(part.clone()).map_err(|_| lost(member.name))?;
        }
        let produced = produce::run(&self.producer, &self.prices, &part, pace)?;
        let mut tallies = Vec::with_capacity(self.members.len());
        for member in &self.members {
            tallies.push((member.name, member.tallies.recv().map_err(|_| lost(member.name))?));
        }
        Ok(Outcome { produced, tallies })
    }

    /// Ends everything in order: the producer's node, which drains while its consumers still listen, the consumers'
    /// threads, the other nodes. Gives what did not end well.
    pub(crate) fn leave(self) -> Vec<String> {
        let Cast { nodes, members, producer, .. } = self;
        drop(producer);
        let mut troubles = Vec::new();
        let mut members = Some(members);
        for Node { name, network, .. } in nodes {
            let started = Instant::now();
            if let Err(error) = wait::done(network.shutdown(LEAVING)) {
                let seconds = started.elapsed().as_secs_f64();
                troubles.push(format!("node {name} did not leave in order ({seconds:.1} s): {error}"));
            }
            for Member { name, parts, thread, .. } in members.take().into_iter().flatten() {
                drop(parts);
                if thread.join().is_err() {
                    troubles.push(format!("the thread of consumer {name} has failed"));
                }
            }
        }
        troubles
    }
}

fn lost(name: &str) -> Failure {
    Failure::new(Exit::Failed, format!("the thread of consumer {name} has ended"))
}

fn producer(network: &Network) -> Result<Producer<PriceUpdate>, Failure> {
    network
        .streams()
        .producer::<PriceUpdate>()
        .with_stream_id(STREAM)
        .with_buffer_size(RING_DATUMS)
        .with_buffer_bytes(RING_BYTES)
        .build()
        .map_err(|error| Failure::new(Exit::CannotStart, error.to_string()))
}

fn member(name: &'static str, network: &Network, prices: &Arc<Prices>) -> Result<Member, Failure> {
    let consumer = network
        .streams()
        .consumer::<PriceUpdate>()
        .with_stream_id(STREAM)
        .with_window_bytes(RING_BYTES)
        .with_buffer_size(RING_DATUMS)
        .build();
    let (parts, next_part) = mpsc::channel();
    let (tally, tallies) = mpsc::channel();
    let prices = Arc::clone(prices);
    let thread = thread::Builder::new()
        .name(format!("consumer {name}"))
        .spawn(move || consume::run(consumer, &prices, &next_part, &tally))?;
    Ok(Member { name, parts, tallies, thread })
}
