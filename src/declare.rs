//! Streams that are declared once: [`stream!`](macro@stream) and the traits that it implements.
//!
//! A declared stream is a type. It holds the stream's id, the type of its datums and the configuration of its
//! two sides, so that every place that produces or consumes it agrees, in one crate or in several.
//!
//! ```
//! use corewire::{ConsumerOf, Network, NetworkId, ProducerOf, declare};
//! use corewire::declare::{StreamConsumer, StreamProducer};
//!
//! declare::stream!(
//!     /// The best price of each symbol.
//!     pub Prices = (String, f64), "oracle.prices",
//!     buffer_size: 64,
//! );
//!
//! struct Oracle {
//!     prices: ProducerOf<Prices>,
//! }
//!
//! # corewire::block_on(async {
//! let network = Network::new(NetworkId::random()).await?;
//! let mut trader: ConsumerOf<Prices> = Prices::consumer(&network);
//! let oracle = Oracle { prices: Prices::online_producer(&network).await };
//! oracle.prices.try_send(("ETH".into(), 3200.0))?;
//! assert_eq!(trader.recv().await, Some(("ETH".into(), 3200.0)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```

use core::future::Future;

#[doc(inline)]
pub use crate::stream;

use crate::datum::Codec;
use crate::streams::producer::BuilderError;
use crate::streams::{Consumer, Producer, Streams, consumer, producer};

/// The producer of a declared stream.
pub type ProducerOf<S> = <S as StreamProducer>::Producer;

/// The consumer of a declared stream.
pub type ConsumerOf<S> = <S as StreamConsumer>::Consumer;

/// A declared stream that can be produced. Implemented by [`stream!`](macro@stream); for an example see the
/// [module](self).
pub trait StreamProducer {
    /// What is sent.
    type Datum: Send + 'static;
    /// How datums become bytes.
    type Codec: Codec<Self::Datum>;
    /// The handle: a [`Producer`].
    type Producer: From<Producer<Self::Datum, Self::Codec>>;

    /// A builder with everything that is declared, in a [`Network`](crate::Network) or its [`Streams`]: to
    /// change something at one place, or to [`try_build`](producer::Builder::try_build).
    fn producer_builder(network: &impl AsRef<Streams>) -> producer::Builder<Self::Datum, Self::Codec>;

    /// The producer of this stream. If this node has one already, a handle of it is returned.
    ///
    /// # Panics
    ///
    /// As [`Builder::build`](producer::Builder::build): when a declared value is impossible, when this node
    /// produces another type under the same id, at the limit of streams, or once the network was shut down.
    #[track_caller]
    fn producer(network: &impl AsRef<Streams>) -> Self::Producer {
        existing_or_new(Self::producer_builder(network)).into()
    }

    /// [`producer`](Self::producer), once it is [online](crate::streams::When::online). If the network is
    /// shut down meanwhile, the future never resolves.
    ///
    /// # Panics
    ///
    /// As [`producer`](Self::producer).
    ///
    /// # Cancel safety
    ///
    /// The producer is made by the call. Dropping the future drops it.
    #[track_caller]
    fn online_producer(network: &impl AsRef<Streams>) -> impl Future<Output = Self::Producer> + Send {
        let producer = existing_or_new(Self::producer_builder(network));
        async move {
            producer.when().online().await;
            producer.into()
        }
    }
}

/// A declared stream that can be consumed. Implemented by [`stream!`](macro@stream); for an example see the
/// [module](self).
pub trait StreamConsumer {
    /// What is received.
    type Datum: Send + 'static;
    /// How bytes become datums.
    type Codec: Codec<Self::Datum>;
    /// The handle: a [`Consumer`].
    type Consumer: From<Consumer<Self::Datum, Self::Codec>>;

    /// A builder with everything that is declared, in a [`Network`](crate::Network) or its [`Streams`]: to
    /// change something at one place, or to [`try_build`](consumer::Builder::try_build).
    fn consumer_builder(network: &impl AsRef<Streams>) -> consumer::Builder<Self::Datum, Self::Codec>;

    /// A new consumer of this stream. In a network that was shut down it is closed from the start.
    ///
    /// # Panics
    ///
    /// As [`Builder::build`](consumer::Builder::build): at the node's limit of consumers.
    #[track_caller]
    fn consumer(network: &impl AsRef<Streams>) -> Self::Consumer {
        Self::consumer_builder(network).build().into()
    }

    /// [`consumer`](Self::consumer), once it is [online](crate::streams::When::online). In a network that was
    /// shut down the future never resolves.
    ///
    /// # Panics
    ///
    /// As [`consumer`](Self::consumer).
    ///
    /// # Cancel safety
    ///
    /// The consumer is made by the call. Dropping the future drops it.
    #[track_caller]
    fn online_consumer(network: &impl AsRef<Streams>) -> impl Future<Output = Self::Consumer> + Send {
        let consumer = Self::consumer_builder(network).build();
        async move {
            consumer.when().online().await;
            consumer.into()
        }
    }
}

#[track_caller]
fn existing_or_new<D: Send + 'static, C: Codec<D>>(builder: producer::Builder<D, C>) -> Producer<D, C> {
    let (Ok(producer) | Err(BuilderError::AlreadyExists(producer))) = builder.build();
    producer
}

/// Declares a stream: a struct that implements [`StreamProducer`](crate::declare::StreamProducer) and
/// [`StreamConsumer`](crate::declare::StreamConsumer).
///
/// ```text
/// stream!([attributes] [visibility] [producer | consumer] Name[<generics>] = Datum
///         [, "id" | , CONSTANT]
///         [, [producer | consumer] key: value]* [,])
/// ```
///
/// # Which side
///
/// `producer` or `consumer` before the name implements only that trait.
///
/// # The id
///
/// Text is hashed, or decoded if it is exactly 64 hexadecimal digits, at compile time, by the rule of
/// [`unique_id!`](crate::unique_id); a constant is a [`StreamId`](crate::StreamId). Without an id it is
/// derived from the type of the datums, as
/// [`Datum::derived_stream_id`](crate::Datum::derived_stream_id) does. The struct has a function
/// `stream_id()`, and with an id also a constant `STREAM_ID`. A generic stream with an id has that one id for
/// all its types.
///
/// # Keys
///
/// Each calls a method of the builder of a [producer](crate::streams::producer::Builder) or a
/// [consumer](crate::streams::consumer::Builder).
///
/// | key | side | method |
/// |---|---|---|
/// | `max_consumers` | producer | `with_max_consumers` |
/// | `buffer_size` | producer | `with_buffer_size` |
/// | `consumer buffer_size` | consumer | `with_window_datums` |
/// | `max_bandwidth` | producer | `with_max_bandwidth` |
/// | `buffer_bytes` | producer | `with_buffer_bytes` |
/// | `max_datum_bytes` | producer | `with_max_datum_bytes` |
/// | `disconnect_lagging` | producer | `disconnect_lagging` |
/// | `resume_for` | producer | `resume_for` |
/// | `on_full` | producer | `on_full` |
/// | `degrader` | producer | `degrader` |
/// | `fairness_weight` | producer | `fairness_weight` |
/// | `key` | producer | `with_key` |
/// | `undelivered_sink` | producer | `with_undelivered_sink` |
/// | `criteria` | consumer | `with_criteria` |
/// | `prefer` | consumer | `prefer` |
/// | `backoff` | consumer | `with_backoff` |
/// | `window_bytes` | consumer | `with_window_bytes` |
/// | `window_datums` | consumer | `with_window_datums` |
/// | `require` (stackable) | both | `require` |
/// | `require_ticket` (stackable) | both | `require_ticket` |
/// | `online_when` | both | `online_when` |
/// | `reliability` | both | `reliability` |
/// | `codec` | both, no prefix | `codec`; the value is the name of a unit struct |
///
/// A key of both sides configures both, or the one whose name stands before it: `producer online_when: ..`.
/// A prefix names the side that evaluates: with `producer require: ..` the producer chooses among consumers.
/// A peer chooses its tags itself; a `require` that admits known peers asks for their id. The value of a key
/// is evaluated each time a builder is made. A key that no generated side has is a compile error.
///
/// ```
/// use corewire::{BackpressurePolicy, Plain, StreamId, Tag, declare, tag, unique_id};
///
/// const TICKS: StreamId = unique_id!("ticks");
///
/// const EU_WEST: Tag = tag!("eu-west");
///
/// declare::stream!(pub Ticks = [f64; 2], TICKS,
///     codec: Plain,
///     on_full: BackpressurePolicy::DropOldest,
///     max_consumers: 8,
///     producer require: |peer| peer.has_tag(EU_WEST),
///     producer online_when: |consumers| consumers.minimum_of(2),
/// );
/// declare::stream!(consumer Envelopes<T: corewire::Datum> = Vec<T>);
///
/// assert_eq!(Ticks::STREAM_ID, "ticks".into());
/// assert_eq!(Envelopes::<u8>::stream_id(), <Vec<u8> as corewire::Datum>::derived_stream_id());
/// ```
#[macro_export]
macro_rules! stream {
    ($($definition:tt)*) => {
        $crate::__private::stream! { [$crate] $($definition)* }
    };
}
