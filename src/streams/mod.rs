//! Streams: typed feeds from producers to consumers.
//!
//! The handles, their builders, and what can be asked of them. The engine moves the bytes.

mod backoff;
mod channel;
mod conditions;
mod config;
pub mod consumer;
mod criteria;
mod def;
mod event;
mod open;
pub mod producer;
mod stats;
mod status;
pub(crate) mod undelivered;

use std::fmt;
use std::sync::Arc;

pub use corewire_engine::CloseCode;
pub use corewire_engine::Reliability;
use corewire_engine::node::Node;
pub use corewire_engine::publication::{TypeMismatch, TypeName};

pub use self::backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
pub use self::channel::{ChannelInfo, PathStats, State};
pub use self::conditions::{ChannelConditions, Online, When};
pub use self::config::{Config, ConfigBuilder, ConfigError};
pub use self::consumer::{Consumer, Delivery};
pub use self::criteria::{Criteria, StreamKey};
pub use self::def::{ConsumerDef, ProducerDef};
pub use self::event::{ConsumerEvent, Events, ProducerEvent};
pub use self::producer::Producer;
pub use self::stats::Stats;
pub use self::undelivered::Undelivered;
use crate::datum::Datum;
pub use crate::policy::{BackpressurePolicy, UnknownPolicy};

/// The streams of one node: where producers and consumers are made. Made by
/// [`Network::streams`](crate::Network::streams). Cheap to clone.
///
/// ```
/// use corewire::{Network, NetworkId};
///
/// let network = Network::new_blocking(NetworkId::random())?;
/// let streams = network.streams();
///
/// // Named by the type, with every default:
/// let producer = streams.produce::<u64>();
/// let mut consumer = streams.consume::<u64>();
/// producer.send_blocking(7)?;
/// assert_eq!(consumer.recv_blocking(), Some(7));
///
/// // Configured:
/// let producer = streams.producer::<u64>().with_stream_id("prices").with_buffer_size(64).build()?;
/// let consumer = streams.consumer::<u64>().with_stream_id("prices").build();
/// assert_eq!(producer.stream_id(), consumer.stream_id());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Streams {
    node: Node,
    config: Arc<Config>,
}

impl Streams {
    pub(crate) fn new(node: Node, config: Config) -> Self {
        Self { node, config: Arc::new(config) }
    }

    /// The settings that all streams of this node share.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The producer of the stream that is derived from `D`, with the default configuration.
    ///
    /// If this node already has a producer for that stream, a handle of it is returned, as it was configured.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// let network = Network::new_blocking(NetworkId::random())?;
    /// let producer = network.streams().produce::<(u32, f64)>();
    /// assert_eq!(producer.stream_id(), network.streams().produce::<(u32, f64)>().stream_id());
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If there can be none: the stream already has a producer of another type or codec, the network was shut
    /// down, or the node has as many streams as its limit. [`try_build`](producer::Builder::try_build)
    /// of a builder gives an error instead.
    #[track_caller]
    pub fn produce<D: Datum>(&self) -> Producer<D> {
        let (Ok(producer) | Err(producer::BuilderError::AlreadyExists(producer))) =
            self.producer::<D>().build();
        producer
    }

    /// A new consumer of the stream that is derived from `D`, with the default configuration. In a network
    /// that was shut down it is closed from the start.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// let network = Network::new_blocking(NetworkId::random())?;
    /// let mut consumer = network.streams().consume::<(u32, f64)>();
    /// network.streams().produce().send_blocking((7_u32, 3.5))?;
    /// assert_eq!(consumer.recv_blocking(), Some((7, 3.5)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If the node has as many consumers as its engine's limit. [`try_build`](consumer::Builder::try_build)
    /// of a builder gives an error instead.
    #[track_caller]
    pub fn consume<D: Datum>(&self) -> Consumer<D> {
        self.consumer::<D>().build()
    }

    /// Configures a producer.
    pub fn producer<D: Send + 'static>(&self) -> producer::Builder<D> {
        producer::Builder::new(self.clone())
    }

    /// Configures a consumer.
    pub fn consumer<D: Send + 'static>(&self) -> consumer::Builder<D> {
        consumer::Builder::new(self.clone())
    }
}

impl AsRef<Self> for Streams {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").field("node", &self.node).finish_non_exhaustive()
    }
}
