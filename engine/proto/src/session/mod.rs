//! What two peers that have keys say to each other.
//!
//! Not inside: sockets, clocks, threads, randomness; how the keys came to be; rings and inboxes (they are behind
//! [`Source`] and [`Sink`]).

mod api;
mod code;
mod config;
mod stats;

pub use api::{ControlError, Dropped, Event, Fetched, NoChannel, OpenError, Sink, Source};
pub use code::CloseCode;
pub use config::{Limits, MIN_PACKET_BYTES, SessionConfig};
pub use stats::SessionStats;

use alloc::vec::Vec;

use crate::{
    channel::{Accept, ChannelStats, Label, OpenRequest},
    seal::{Opener, Sealer},
    time::Instant,
    wire::header::ReceiverIndex,
};

/// One encrypted association with one peer: a state machine over packets.
///
/// In each turn: [`Session::handle_packet`] for what arrived, [`Session::handle_timeout`] when
/// [`Session::poll_timeout`] has passed, [`Session::poll_event`] until `None`, the owner's verbs, then
/// [`Session::poll_transmit`] until `None`.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    sealer: Sealer,
    opener: Opener,
    remote: ReceiverIndex,
}

#[allow(clippy::todo, missing_docs)]
impl Session {
    /// A session over fresh keys. `remote` is what the peer wants to see in the header of our packets.
    pub fn new(
        config: SessionConfig,
        sealer: Sealer,
        opener: Opener,
        remote: ReceiverIndex,
        now: Instant,
    ) -> Self {
        let _ = now;
        Self { config, sealer, opener, remote }
    }
    /// A whole sealed packet, header included; opened in place.
    pub fn handle_packet(
        &mut self,
        _now: Instant,
        _packet: &mut [u8],
        _sink: &mut impl Sink,
    ) -> Result<(), Dropped> {
        todo!()
    }
    /// Writes one sealed packet into `buf` and returns its length. The smaller of `buf.len()` and
    /// `max_packet_bytes` bounds it.
    pub fn poll_transmit(
        &mut self,
        _now: Instant,
        _buf: &mut [u8],
        _source: &mut impl Source,
    ) -> Option<usize> {
        todo!()
    }
    /// When `handle_timeout` wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }
    pub fn handle_timeout(&mut self, _now: Instant) {
        todo!()
    }
    pub fn poll_event(&mut self) -> Option<Event> {
        todo!()
    }
    /// Consumer: asks for a stream.
    pub fn open(&mut self, _request: OpenRequest) -> Result<Label, OpenError> {
        todo!()
    }
    /// Producer: lets the consumer in.
    pub fn accept(&mut self, _label: Label, _accept: Accept) -> Result<(), NoChannel> {
        todo!()
    }
    /// Producer: refuses.
    pub fn reject(&mut self, _label: Label, _code: CloseCode) -> Result<(), NoChannel> {
        todo!()
    }
    /// Producer: the stream ends before `end_seq`.
    pub fn finish(&mut self, _label: Label, _end_seq: u64) -> Result<(), NoChannel> {
        todo!()
    }
    /// Either side: cuts the channel. No event follows.
    pub fn reset(&mut self, _label: Label, _code: CloseCode) -> Result<(), NoChannel> {
        todo!()
    }
    /// Ends the session. `Event::Closed` follows.
    pub fn close(&mut self, _now: Instant, _code: CloseCode) {
        todo!()
    }
    /// Producer: datums below `end_seq` may be fetched from the source. Cheap; call it once per turn and channel.
    pub fn published(&mut self, _label: Label, _end_seq: u64) {
        todo!()
    }
    /// Producer: everything below is acknowledged (Reliable) or sent (FireAndForget).
    pub fn released(&self, _label: Label) -> Option<u64> {
        todo!()
    }
    /// Consumer: what the application took, absolute. `taken_seq`: one past the sequence of the last datum taken;
    /// `taken_bytes`: the sum of `datum_cost` over all datums taken.
    pub fn grant(&mut self, _label: Label, _taken_seq: u64, _taken_bytes: u64) {
        todo!()
    }
    /// Queues a small message for the peer: reliable, in order among themselves, fragmented when needed.
    pub fn send_control(&mut self, _message: Vec<u8>) -> Result<(), ControlError> {
        todo!()
    }
    /// What a channel counted; `None` when it is gone.
    pub fn stats(&self, _label: Label) -> Option<ChannelStats> {
        todo!()
    }
    pub fn session_stats(&self) -> SessionStats {
        todo!()
    }
    /// Whether the session is closing or closed.
    pub fn is_closed(&self) -> bool {
        todo!()
    }
    /// When the key should be replaced and when it stops, see [`Sealer::key_use`].
    pub fn sealer(&self) -> &Sealer {
        &self.sealer
    }
    pub fn opener(&self) -> &Opener {
        &self.opener
    }
    pub fn remote_index(&self) -> ReceiverIndex {
        self.remote
    }
    pub fn config(&self) -> &SessionConfig {
        &self.config
    }
}
