//! What is said of consumers that did not get everything.

use corewire_engine::publication::Shortfall;

use crate::id::{PeerId, StreamId};

/// Datums that were accepted for a consumer and are not known to have reached it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Undelivered {
    /// The stream.
    pub stream_id: StreamId,
    /// The consumer's node.
    pub consumer: PeerId,
    /// How many. Those that were on their way may have arrived.
    pub datums: u64,
}

/// The engine's answer in the types of this crate.
pub(crate) fn undelivered(missing: Vec<Shortfall>) -> Vec<Undelivered> {
    missing
        .into_iter()
        .map(|Shortfall { stream, consumer, datums }| Undelivered {
            stream_id: stream.0.into(),
            consumer: consumer.0.into(),
            datums,
        })
        .collect()
}

/// The first few, as text.
pub(crate) fn summary(missing: &[Undelivered]) -> String {
    const NAMED: usize = 4;
    let mut parts: Vec<String> = missing
        .iter()
        .take(NAMED)
        .map(|one| {
            let (consumer, stream) = (one.consumer.short(), one.stream_id.short());
            format!("{consumer} lacks {} datums of stream {stream}", one.datums)
        })
        .collect();
    if missing.len() > NAMED {
        parts.push(format!("{} more", missing.len() - NAMED));
    }
    parts.join(", ")
}
