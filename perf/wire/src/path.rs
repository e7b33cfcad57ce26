//! Two nodes on two engines of this process, with a direct path or a relay between them.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use corewire::engine::{Counter, CounterSnapshot, Engine, EngineConfig, IoChoice};
use corewire::network::SessionSettings;
use corewire::streams::Reliability;
use corewire::{Consumer, Network, NetworkId, Plain, Producer};

use crate::relay::{Faults, Relay, Relayed};

/// How long the nodes may take to find each other.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// Datums that the producer's ring and the consumer's window hold.
const WINDOW_DATUMS: usize = 4_096;

/// How the two nodes are set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) io: IoChoice,
    /// The largest packet, in bytes of UDP payload; `None`: what the path carries.
    pub(crate) packet_bytes: Option<usize>,
    pub(crate) reliability: Reliability,
    /// `None`: no relay.
    pub(crate) faults: Option<Faults>,
    pub(crate) seed: u64,
}

/// A datum of `N` times eight bytes.
pub(crate) type Words<const N: usize> = [u64; N];

/// A stream of [`Words`] between two engines.
pub(crate) struct Wire<const N: usize> {
    pub(crate) producer: Producer<Words<N>, Plain>,
    pub(crate) consumer: Consumer<Words<N>, Plain>,
    engines: [Engine; 2],
    relay: Option<Relay>,
    /// They leave when the stream's handles are gone.
    _nodes: [Network; 2],
}

impl<const N: usize> Wire<N> {
    /// Connects both ends.
    pub(crate) fn connect(setup: &Setup) -> Result<Wire<N>, Box<dyn Error>> {
        let mut relay = setup.faults.map(|_| Relay::bind()).transpose()?;
        let announced = relay.as_ref().map(Relay::address).transpose()?;
        let id = NetworkId::random();
        let (here, there) = (node(id, setup, announced)?, node(id, setup, announced)?);
        if let (Some(relay), Some(faults)) = (&mut relay, setup.faults) {
            let ends = [&here, &there].map(|(network, _)| network.local().addresses()[0]);
            relay.start(ends, faults, setup.seed)?;
        }
        let producer = here
            .0
            .streams()
            .producer::<Words<N>>()
            .with_stream_id("wire")
            .with_buffer_size(WINDOW_DATUMS)
            .reliability(setup.reliability)
            .codec(Plain)
            .build()?;
        let consumer = there
            .0
            .streams()
            .consumer::<Words<N>>()
            .with_stream_id("wire")
            .with_window_datums(WINDOW_DATUMS)
            .with_window_bytes(WINDOW_DATUMS * (8 * N).next_multiple_of(16))
            .reliability(setup.reliability)
            .codec(Plain)
            .build();
        let online = producer.when().online().wait_timeout(CONNECT_LIMIT)
            && consumer.when().online().wait_timeout(CONNECT_LIMIT);
        if !online {
            return Err(format!("no connection after {CONNECT_LIMIT:?}").into());
        }
        let ((here, first), (there, second)) = (here, there);
        Ok(Wire { producer, consumer, engines: [first, second], relay, _nodes: [here, there] })
    }

    /// What both engines have counted so far.
    pub(crate) fn counters(&self) -> Counted {
        let all = self.engines.iter().flat_map(Engine::counters);
        let sum = all.reduce(|mut sum, shard| {
            sum.merge(&shard);
            sum
        });
        Counted(sum.expect("an engine has shards"))
    }

    pub(crate) fn relayed(&self) -> Relayed {
        self.relay.as_ref().map(Relay::relayed).unwrap_or_default()
    }
}

fn node(
    id: NetworkId,
    setup: &Setup,
    announced: Option<SocketAddr>,
) -> Result<(Network, Engine), Box<dyn Error>> {
    let config = EngineConfig { shards: 1, pin: false, io: setup.io, ..EngineConfig::default() };
    let engine = Engine::start(config)?;
    let session = match setup.packet_bytes {
        Some(bytes) => SessionSettings::new().with_max_packet_bytes(bytes),
        None => SessionSettings::new(),
    };
    let network = Network::builder(id)
        .with_engine(&engine)
        .with_addresses([SocketAddr::from((Ipv4Addr::LOCALHOST, 0))])
        .with_announced_addresses(announced)
        .with_session(session)
        .build_blocking()?;
    Ok((network, engine))
}

/// The counters of both engines together.
pub(crate) struct Counted(CounterSnapshot);

impl Counted {
    /// What was added to `counter` since `earlier`.
    pub(crate) fn since(&self, earlier: &Counted, counter: Counter) -> u64 {
        self.0.get(counter) - earlier.0.get(counter)
    }
}
