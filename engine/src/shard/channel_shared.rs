//! What a channel shows to the threads that do not own it.
//!
//! Not inside: the channel. Its protocol state is the session's, on the shard. Here is a snapshot: who talks
//! to whom, in which state, and cells that the shard writes once per turn in which the channel moved.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use corewire_proto::{PeerId, StreamId};
use tokio::sync::watch;

use super::CloseCode;

/// Where a channel is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelState {
    /// Asked for, not answered yet.
    Connecting,
    /// Carries datums.
    Connected,
    /// Over, for this reason. Final.
    Terminated(CloseCode),
}

impl ChannelState {
    /// True while datums may flow.
    pub fn is_connected(self) -> bool {
        self == Self::Connected
    }

    /// True when nothing will come any more.
    pub fn is_terminated(self) -> bool {
        matches!(self, Self::Terminated(_))
    }
}

macro_rules! cells {
    ($($name:ident: $doc:literal,)*) => {
        /// The cells of one channel. One writer, the shard that owns the channel; any number of readers, who
        /// see the state at the end of a recent turn.
        #[derive(Debug, Default)]
        pub struct ChannelCells {
            $($name: AtomicU64,)*
        }

        /// The values of a channel's cells.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct ChannelNumbers {
            $(#[doc = $doc] pub $name: u64,)*
        }

        impl ChannelCells {
            /// Reads every cell, one after the other.
            pub fn read(&self) -> ChannelNumbers {
                ChannelNumbers { $($name: self.$name.load(Ordering::Relaxed),)* }
            }

            /// Writes every cell. For the one writer only.
            pub fn write(&self, numbers: &ChannelNumbers) {
                $(self.$name.store(numbers.$name, Ordering::Relaxed);)*
            }
        }
    };
}

cells! {
    datums: "Datums sent for the first time (producer's end) or delivered to the inbox (consumer's end).",
    bytes: "Bytes of those datums, without any header.",
    resent_datums: "Datums sent again after a loss (producer's end).",
    skipped: "Datums of the stream that will never be delivered: dropped, filtered or lost without resend.",
    duplicates: "Datums that arrived more than once (consumer's end).",
    position: "Sequence after the last datum sent (producer's end) or delivered in order (consumer's end).",
    released: "Sequence below which the producer's ring needs to keep nothing for this channel (producer's end), \
               or after the last datum that the application took (consumer's end).",
    published: "Sequence after the last datum of the ring that this channel knows of (producer's end).",
    credit_bytes: "Bytes that may still be sent before the consumer takes something (producer's end).",
    credit_datums: "Datums that may still be sent before the consumer takes something (producer's end).",
    blocked: "Times that the channel had datums and no credit (producer's end).",
}

impl ChannelNumbers {
    /// Records of the producer's ring that this channel still holds.
    pub fn lag(&self) -> u64 {
        self.published.saturating_sub(self.released)
    }
}

/// What the owner of a channel and everybody else share: identity, state and numbers.
///
/// The clerk makes it, the shard writes it, handles read it.
#[derive(Debug)]
pub struct ChannelShared {
    stream_id: StreamId,
    producer_id: PeerId,
    consumer_id: PeerId,
    state: watch::Sender<ChannelState>,
    cells: ChannelCells,
    connected_at: OnceLock<Instant>,
    ended_at: OnceLock<Instant>,
}

impl ChannelShared {
    /// A channel that was asked for and not answered yet.
    pub fn new(stream_id: StreamId, producer_id: PeerId, consumer_id: PeerId) -> Self {
        Self {
            stream_id,
            producer_id,
            consumer_id,
            state: watch::Sender::new(ChannelState::Connecting),
            cells: ChannelCells::default(),
            connected_at: OnceLock::new(),
            ended_at: OnceLock::new(),
        }
    }

    /// The stream whose leg this is.
    pub fn stream_id(&self) -> StreamId {
        self.stream_id
    }

    /// The peer that produces.
    pub fn producer_id(&self) -> PeerId {
        self.producer_id
    }

    /// The peer that consumes.
    pub fn consumer_id(&self) -> PeerId {
        self.consumer_id
    }

    /// The state now.
    pub fn state(&self) -> ChannelState {
        *self.state.borrow()
    }

    /// A watcher of the state; it sees every final state, and may miss a short one in between.
    pub fn watch(&self) -> watch::Receiver<ChannelState> {
        self.state.subscribe()
    }

    /// The cells that the channel's owner writes.
    pub fn cells(&self) -> &ChannelCells {
        &self.cells
    }

    /// The channel's numbers at the end of a recent turn.
    pub fn numbers(&self) -> ChannelNumbers {
        self.cells.read()
    }

    /// How long the channel has been (or was) connected; `None` when it never was.
    pub fn uptime(&self) -> Option<Duration> {
        let since = *self.connected_at.get()?;
        let until = self.ended_at.get().copied().unwrap_or_else(Instant::now);
        Some(until.saturating_duration_since(since))
    }

    /// Marks the channel as connected, unless it is over already.
    pub fn set_connected(&self) {
        self.state.send_if_modified(|state| {
            let first = *state == ChannelState::Connecting;
            if first {
                let _ = self.connected_at.set(Instant::now());
                *state = ChannelState::Connected;
            }
            first
        });
    }

    /// Marks the channel as over. The first reason stays; true when this was the first.
    pub fn terminate(&self, code: CloseCode) -> bool {
        self.state.send_if_modified(|state| {
            let first = !state.is_terminated();
            if first {
                let _ = self.ended_at.set(Instant::now());
                *state = ChannelState::Terminated(code);
            }
            first
        })
    }
}
