//! Raw channels: bytes to one peer, without a type, a codec or a producer's announcement.
//!
//! A raw channel is named by a peer and a number. Both peers open the pair, in either order, with
//! [`Network::open_stream`](crate::Network::open_stream); then both may send and receive. Any number of them
//! share one encrypted session, and each has its own order, reliability, credit, weight and counters. These
//! are net-mesh's streams; [`compat`](crate::compat) tells what differs, such as the name [`RawStream`].
//!
//! ```
//! use bytes::Bytes;
//! use corewire::raw::{Reliability, StreamConfig, stream_id_from_key};
//! use corewire::{Network, NetworkId};
//!
//! let network = NetworkId::random();
//! let (here, there) = (Network::new_blocking(network)?, Network::new_blocking(network)?);
//!
//! let id = stream_id_from_key("telemetry");
//! let config = StreamConfig::new().with_reliability(Reliability::Reliable);
//! let ours = here.open_stream(*there.local().id(), id, config)?;
//! let theirs = there.open_stream(*here.local().id(), id, config)?;
//!
//! ours.send_blocking("21 degrees")?; // waits until the other side has opened the channel
//! assert_eq!(theirs.recv_blocking()?, Bytes::from("21 degrees"));
//! theirs.send_blocking("thanks")?;
//! assert_eq!(ours.recv_blocking()?, Bytes::from("thanks"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it promises
//!
//! - **Order**: `Reliable`: first in, first out, without holes or duplicates. `FireAndForget`: in order, with
//!   gaps that [`RawStream::recv_numbered`] and [`StreamStats::lost`] show. None across channels.
//! - **Settings**: each side's [`StreamConfig`] decides about the direction in which it sends, and its window
//!   about what it takes before it reads. They are fixed when the channel is opened.
//! - **Opened on one side**: nothing is sent: [`RawStream::try_send`] answers `NotConnected`,
//!   [`RawStream::send`] waits, [`StreamStats::connected`] is false. So no bytes arrive for a channel that is
//!   not open.
//! - **Full**: a payload waits at its sender until the peer has it, and [`StreamConfig::window_bytes`] bounds
//!   what waits: then `try_send` answers `Backpressure`. A peer that does not read is sent its own window at
//!   most.
//! - **A broken session**: the channel stays open and waits for the peer. Payloads that wait, or were sent
//!   and not acknowledged, are kept for ten seconds and the [dead-peer
//!   time](crate::network::SessionSettings::with_dead_after), for ten seconds alone if the peer's port is
//!   closed, and delivered when the peer is back; later they are lost and counted in
//!   [`StreamStats::undelivered`].
//! - **Closing**: ends both directions at this side, as [`CloseBehavior`] says. The other side reads what has
//!   arrived, then one `NotConnected`, and stays open for this peer's next opening.
//! - **After closing**: handles of the closed channel answer `NotConnected` for ever, also when the pair is
//!   opened anew: a new opening has a new [`epoch`](RawStream::epoch).
//! - **Handles**: clones share one channel. Dropping them does not close it; it ends with
//!   [`RawStream::close`], with its network, or when a node at [its limit](crate::engine::Limits::direct)
//!   opens another one, to which the channel without handles and waiting payloads gives way that was idle for
//!   longest. The place of a channel that was closed is free once the control thread has seen the end.
//!
//! A payload of up to [`MAX_PAYLOAD_BYTES`] costs its length rounded up to 16 of a window, at least 16; a
//! window also takes at most one payload for each 64 of its bytes. Headers and seals are not counted.

mod config;
mod receiving;
mod sending;
mod shared;
mod stats;
mod stream;
mod table;
mod waiters;

pub use corewire_engine::Reliability;

pub use self::config::{
    CloseBehavior, DEFAULT_STREAM_WINDOW_BYTES, MAX_PAYLOAD_BYTES, StreamConfig, stream_id_from_key,
};
pub use self::stats::StreamStats;
pub use self::stream::{RawStream, SendingRaw};
pub(crate) use self::table::RawTable;
pub use crate::local::StreamError;
