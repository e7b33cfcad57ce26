//! Streams: typed feeds from producers to consumers.
//!
//! Here are the handles, their builders and what can be asked of them. Bytes, sessions, sockets and threads are
//! the engine's; memory between threads is the rings'.

pub mod backoff;
pub mod channel;
pub mod conditions;
pub mod config;
pub mod consumer;
pub mod def;
pub mod policy;
pub mod producer;

pub use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
pub use channel::{ChannelInfo, State, Stats};
pub use conditions::{ChannelConditions, When};
pub use config::Config;
pub use consumer::Consumer;
pub use def::{ConsumerDef, ProducerDef};
pub use policy::{OnFull, Reliability};
pub use producer::Producer;

use crate::datum::{Datum, Postcard};

/// The streams of one network: where producers and consumers are made.
#[derive(Clone)]
pub struct Streams(());

impl Streams {
    /// The producer of the stream that is derived from `D`, with the default configuration.
    ///
    /// If this network already has a producer for that stream, it is returned as it is.
    ///
    /// # Panics
    ///
    /// If the stream already has a producer of another type or codec. Use [`producer`](Self::producer) to get an
    /// error instead.
    #[track_caller]
    pub fn produce<D: Datum>(&self) -> Producer<D> {
        todo!()
    }

    /// A new consumer of the stream that is derived from `D`, with the default configuration.
    pub fn consume<D: Datum>(&self) -> Consumer<D> {
        todo!()
    }

    /// Configures a producer.
    pub fn producer<D: Send + 'static>(&self) -> producer::Builder<D, Postcard> {
        todo!()
    }

    /// Configures a consumer.
    pub fn consumer<D: Send + 'static>(&self) -> consumer::Builder<D, Postcard> {
        todo!()
    }
}
