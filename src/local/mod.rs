//! Bounded streams inside one process, with no network: each has a policy for when it is full, and its
//! consumers compete.
//!
//! A [`Stream`] holds values of any type that can change threads. It does not encode them.
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
//! | `pause_upstream` | the datum goes in | `push` waits in order of arrival; `try_push` gives it back |
//! | `fail` | the datum goes in | `push` gives `Overflow`; the stream goes on |
//!
//! Every datum is accounted for: see [`StreamMetricsSnapshot`]. Policies behave as those of
//! [producers](crate::Producer) do; a degrader that panics sends the datum unchanged, and is counted.
//!
//! Pushing and popping take a short lock, once unless they have to wait, and allocate only when they wait. No
//! user code runs under the lock: degraders run before, wakers and the destructors of dropped datums after
//! it. If one of them panics or is slow, other handles go on.
//!
//! These streams have no names and no peers, and no fanout: for that, where each consumer gets every datum,
//! take [`Producer`](crate::Producer) and [`Consumer`](crate::Consumer), which work inside one process as
//! well.

mod buffer;
mod error;
mod metrics;
mod pop;
mod push;
mod stream;

pub use self::error::{BuildError, PopTimeoutError, PushError, StreamError, TryPopError};
pub use self::metrics::{StreamMetrics, StreamMetricsSnapshot};
pub use self::pop::Pop;
pub use self::push::Push;
pub use self::stream::{CloseDone, DegradationFn, Stream};
pub use crate::policy::{
    AnnotationError, BackpressureAnnotation, BackpressurePolicy, parse_backpressure_annotation,
};
