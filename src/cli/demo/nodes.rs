//! The nodes of the demonstration: three nodes, one producer, three consumers and their threads.
//!
//! Node A has the producer and a consumer, which share memory. Nodes B and C have their own engines, sockets
//! and keys; datums reach them through the kernel, encrypted, as between hosts.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use corewire::{Consumer, Network, NetworkId, Producer};

use super::consume::{self, ConsumerResult, Part};
use super::prices::{PriceUpdate, Prices};
use super::produce::{self, Pace, Produced};
use crate::cli::args::DemoArgs;
use crate::cli::exit::{Exit, Failure};
use crate::cli::node::{self, Facts};
use crate::cli::pace;
use crate::cli::wait::{self, CONNECT_LIMIT};

/// The stream's name, from which its id is derived.
const STREAM: &str = "corewire.demo.prices";
/// Limit of each node's shutdown; delivering the last datums takes milliseconds.
pub(super) const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);
/// Datums that the ring holds: enough for the time for which a consumer's thread may be preempted.
const RING_DATUMS: usize = 8 * 1024;
/// Bytes that the ring holds, and bytes in flight to one consumer at most.
const RING_BYTES: usize = 1024 * 1024;

/// A consumer's thread.
pub(crate) struct DemoConsumer {
    /// Its node and how it is reached.
    pub(crate) name: &'static str,
    parts: Sender<Part>,
    tallies: Receiver<ConsumerResult>,
    thread: JoinHandle<()>,
}

/// A node and its description.
pub(crate) struct DemoNode {
    /// One letter.
    pub(crate) name: &'static str,
    /// Producer, consumer, or both.
    pub(crate) role: &'static str,
    /// Address, driver, cores.
    pub(crate) facts: Facts,
    network: Network,
}

/// All nodes, the producer and the consumers.
pub(crate) struct DemoNodes {
    pub(crate) nodes: Vec<DemoNode>,
    consumers: Vec<DemoConsumer>,
    producer: Producer<PriceUpdate>,
    prices: Arc<Prices>,
}

/// The result of one part.
pub(crate) struct PartOutcome {
    /// The producer's.
    pub(crate) produced: Produced,
    /// Each consumer's.
    pub(crate) tallies: Vec<(&'static str, ConsumerResult)>,
}

impl DemoNodes {
    /// Starts the nodes and waits until every consumer is connected.
    pub(crate) fn start(args: &DemoArgs, prices: &Arc<Prices>) -> Result<DemoNodes, Failure> {
        // A random id keeps two demonstrations on one machine apart.
        let id = NetworkId::random();
        let roles = [("A", "producer, consumer"), ("B", "consumer, udp"), ("C", "consumer, udp")];
        let mut nodes: Vec<DemoNode> = Vec::with_capacity(roles.len());
        for (name, role) in roles {
            let known = nodes.first().map(|first| first.network.local().addresses()[0]);
            let network = node::start(id, args.io, known)?;
            nodes.push(DemoNode { name, role, facts: Facts::of(&network), network });
        }
        let producer = producer(&nodes[0].network)?;
        let names = ["A ring", "B udp", "C udp"];
        let consumers: Result<Vec<DemoConsumer>, Failure> =
            nodes.iter().zip(names).map(|(node, name)| start_consumer(name, &node.network, prices)).collect();
        let demo = DemoNodes { nodes, consumers: consumers?, producer, prices: Arc::clone(prices) };
        demo.connect()?;
        Ok(demo)
    }

    fn connect(&self) -> Result<(), Failure> {
        let all = self.producer.when().subscribed().minimum_of(self.consumers.len());
        wait::by(all, Instant::now() + CONNECT_LIMIT).ok_or_else(|| {
            let came = self.producer.consumers().len();
            Failure::new(
                Exit::NotReached,
                format!("{came} of {} consumers connected in time", self.consumers.len()),
            )
            .cure("corewire --io epoll, or a look at firewall rules for the loopback interface")
        })
    }

    /// Runs one part: this thread sends, the consumers' threads receive.
    pub(crate) fn run_part(&mut self, part: Part, speed: Pace) -> Result<PartOutcome, Failure> {
        for consumer in &self.consumers {
            consumer.parts.send(part.clone()).map_err(|_| lost(consumer.name))?;
        }
        let produced = produce::run(&self.producer, &self.prices, &part, speed, pace::wait_until)?;
        let mut tallies = Vec::with_capacity(self.consumers.len());
        for consumer in &self.consumers {
            tallies.push((consumer.name, consumer.tallies.recv().map_err(|_| lost(consumer.name))?));
        }
        Ok(PartOutcome { produced, tallies })
    }

    /// Shuts down the producer's node, which delivers what it has while the consumers still receive; then the
    /// consumers' threads, then the other nodes. Returns what went wrong.
    pub(crate) fn shut_down(self) -> Vec<String> {
        let DemoNodes { nodes, consumers, producer, .. } = self;
        drop(producer);
        let mut troubles = Vec::new();
        let mut consumers = Some(consumers);
        for DemoNode { name, network, .. } in nodes {
            let started = Instant::now();
            if let Err(error) = corewire::block_on(network.shutdown(SHUTDOWN_LIMIT)) {
                let seconds = started.elapsed().as_secs_f64();
                troubles.push(format!("node {name} did not leave in order ({seconds:.1} s): {error}"));
            }
            for DemoConsumer { name, parts, thread, .. } in consumers.take().into_iter().flatten() {
                drop(parts);
                if thread.join().is_err() {
                    troubles.push(format!("the thread of consumer {name} has panicked"));
                }
            }
        }
        troubles
    }
}

pub(super) fn lost(name: &str) -> Failure {
    Failure::new(Exit::Failed, format!("the thread of consumer {name} has ended"))
}

pub(super) fn producer(network: &Network) -> Result<Producer<PriceUpdate>, Failure> {
    network
        .streams()
        .producer::<PriceUpdate>()
        .with_stream_id(STREAM)
        .with_buffer_size(RING_DATUMS)
        .with_buffer_bytes(RING_BYTES)
        .try_build()
        .map_err(|error| Failure::new(Exit::CannotStart, error.to_string()))
}

pub(super) fn consumer(network: &Network) -> Consumer<PriceUpdate> {
    network
        .streams()
        .consumer::<PriceUpdate>()
        .with_stream_id(STREAM)
        .with_window_bytes(RING_BYTES)
        .with_buffer_size(RING_DATUMS)
        .build()
}

/// Starts a thread that takes what `node` receives.
fn start_consumer(
    name: &'static str,
    network: &Network,
    prices: &Arc<Prices>,
) -> Result<DemoConsumer, Failure> {
    let consumer = consumer(network);
    let (parts, next_part) = mpsc::channel();
    let (tally, tallies) = mpsc::channel();
    let prices = Arc::clone(prices);
    let thread = thread::Builder::new()
        .name(format!("consumer {name}"))
        .spawn(move || consume::run(consumer, &prices, &next_part, &tally))?;
    Ok(DemoConsumer { name, parts, tallies, thread })
}
