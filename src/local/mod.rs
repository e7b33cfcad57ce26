//! Bounded streams inside one process, with no network: one policy each for when they are full, competing consumers.
//!
//! A [`Stream`] is a face of the fanout ring that the network's streams are made of, with a single cursor that all
//! consumers share. Its handles push and pop values of any [`Datum`](crate::Datum) type, or plain ones:
//!
//! ```
//! use corewire::local::{Stream, parse_backpressure_annotation};
//!
//! // As from a configuration file. The producer waits while four readings are not yet taken.
//! let policy = parse_backpressure_annotation("pause_upstream, buffer_size=4")?;
//! let readings: Stream<(u32, f64)> = Stream::from_annotation(policy)?;
//!
//! let sensor = readings.clone();
//! let producer = std::thread::spawn(move || {
//!     for n in 0..100 {
//!         sensor.push_blocking((n, f64::from(n) * 0.5)).unwrap();
//!     }
//!     sensor.close();
//! });
//! let mut sum = 0.0;
//! while let Some((_, value)) = readings.pop_blocking() {
//!     sum += value;
//! }
//! producer.join().unwrap();
//! assert_eq!(sum, 2475.0);
//! assert!(readings.metrics().is_balanced());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | policy | room | no room |
//! |---|---|---|
//! | `drop_oldest` | the datum goes in | the oldest datum is dropped and counted |
//! | `degrade_quality` | the datum goes in as it is | the degrader runs on the datum, then as `drop_oldest` |
//! | `pause_upstream` | the datum goes in | `push` waits, first come first served; `try_push` gives the datum back |
//! | `fail` | the datum goes in | `push` answers `Overflow`; the stream goes on |
//!
//! Every datum is accounted for: see [`StreamMetricsSnapshot`].
//!
//! # What one datum costs
//!
//! An encode into memory of the pushing thread, a copy into the ring, a copy out of it, a decode. The two copies buy
//! that no user code ever runs inside a claim on the ring or under the consumers' lock: a slow or panicking
//! `Serialize`, `Deserialize` or degrader delays nobody else, leaves no hole in the buffer and cannot deadlock.
//! Pushing takes no lock while there is room and nobody sleeps; popping takes a short one. In the steady state nothing
//! is allocated.
//!
//! # What is not here
//!
//! Fanout (each consumer sees every datum: that is [`Producer`](crate::Producer) and [`Consumer`](crate::Consumer),
//! which work inside one process as well), names, peers, reliability: there is nothing to lose on the way.

mod annotation;
mod builder;
mod core;
mod error;
mod line;
mod metrics;
mod pop;
mod push;
mod stream;

pub use self::annotation::{AnnotationError, BackpressureAnnotation, parse_backpressure_annotation};
pub use self::builder::Builder;
pub use self::error::{BuildError, PopTimeoutError, PushError, StreamError, TryPopError};
pub use self::metrics::{StreamMetrics, StreamMetricsSnapshot};
pub use self::pop::Pop;
pub use self::push::Push;
pub use self::stream::{Closed, DegradationFn, Stream};
pub use crate::streams::BackpressurePolicy;
