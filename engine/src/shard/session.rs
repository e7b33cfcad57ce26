//! The shard's entry of a session: the protocol's state machine and what the shard keeps beside it.
//!
//! Here sessions are installed and removed, channels are taken out of them, and sessions are marked as having
//! something to do.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use corewire_proto::{
    channel::Label,
    seal::{Opener, Sealer, SessionKeys},
    session::{CloseCode, NewKey, Session, SessionConfig},
    time::Instant,
    wire::header::ReceiverIndex,
};
use corewire_rings::Reader;

use super::{
    ShardCore,
    channel::{ChannelEntry, ChannelRole},
    command::{Event, Install, NodeId, Rekey},
    table::{Labels, SessionSlot},
};
use crate::{counters::Counter, driver::Route, shared::path::PathShared};

/// A session and its belongings.
#[derive(Debug)]
pub(crate) struct SessionEntry {
    /// The protocol's state machine.
    pub(crate) session: Session,
    /// What the peer writes in the headers of its packets.
    pub(crate) index: ReceiverIndex,
    /// The node that the session is of; counted among the node's sessions until the entry is removed.
    pub(crate) node: NodeId,
    /// The way of its packets.
    pub(crate) route: Route,
    /// The way back of the last packet that opened and came from elsewhere. The session decides whether the
    /// peer is there.
    pub(crate) elsewhere: Option<Route>,
    /// Its channels.
    pub(crate) labels: Labels,
    /// An event for the clerk that found no room. While there is one, the session reads no packet.
    pub(crate) held: Option<Event>,
    /// Why the session is over, and whether its peer closed it. It has no channel then, and its entry goes as
    /// soon as the clerk's event is queued.
    pub(crate) over: Option<(CloseCode, bool)>,
    /// Where its measurements are shown.
    pub(crate) path: Arc<PathShared>,
    /// When that was done last.
    path_shown: Instant,
}

/// The time between two showings of a session's measurements.
const PATH_PAUSE: Duration = Duration::from_millis(10);

impl SessionEntry {
    /// Shows what the session has measured, if that was not done lately.
    pub(crate) fn show_path(&mut self, now: Instant) {
        if now >= self.path_shown + PATH_PAUSE {
            self.path_shown = now;
            self.path.write(&self.session.session_stats());
        }
    }

    /// The way to an address that the session names, from which packets of the peer came.
    pub(crate) fn route_to(&self, to: SocketAddr) -> Route {
        self.elsewhere.filter(|route| route.to == to).unwrap_or(Route::new(self.route.socket, to))
    }
}

impl ShardCore {
    /// Takes over a session. What can't be installed is reported as closed.
    pub(crate) fn install(&mut self, install: Install) {
        let Install { index, remote_index, node, source, to, keys, path_secret, path, config } = install;
        let socket = self.nodes.socket_for(node, to);
        let right_shard = index.shard() == self.config.id;
        let (Some(socket), true, true) = (socket, right_shard, self.shutdown.is_none()) else {
            return self.refuse_install(index);
        };
        if !self.nodes.enter(node) {
            return self.refuse_install(index);
        }
        let (sealer, opener) = self.seals(&keys, &config);
        let mut session = Session::new(config, sealer, opener, remote_index, self.now);
        session.set_peer_address(to, path_secret);
        let entry = SessionEntry {
            session,
            index,
            node,
            route: Route { socket, source, to },
            elsewhere: None,
            labels: Labels::default(),
            held: None,
            over: None,
            path,
            path_shown: Instant::ZERO,
        };
        let Ok(slot) = self.sessions.install(index, entry) else {
            let sockets = self.nodes.exit(node);
            self.closing.extend(sockets);
            return self.refuse_install(index);
        };
        self.counters.bump(Counter::SessionsOpened);
        self.mark_dirty(slot);
    }

    /// Both ends of the encryption under fresh keys.
    fn seals(&self, keys: &SessionKeys, config: &SessionConfig) -> (Sealer, Opener) {
        let limits = config.key_limits(keys.suite);
        (
            Sealer::with_limits(keys.suite, &keys.send, limits, self.now),
            Opener::with_limits(keys.suite, &keys.recv, limits, self.now),
        )
    }

    /// Gives a session its next key.
    pub(crate) fn rekey(&mut self, rekey: Rekey) {
        let Rekey { index, phase, keys, confirmed } = rekey;
        let Some(slot) = self.find(index) else { return self.count_stale() };
        let Some(entry) = self.sessions.get(slot) else { return };
        let (sealer, opener) = self.seals(&keys, entry.session.config());
        let key = NewKey { phase, sealer, opener, confirmed };
        let now = self.now;
        let taken = self.sessions.get_mut(slot).is_some_and(|entry| entry.session.rekey(now, key).is_ok());
        if !taken {
            return self.counters.bump(Counter::RefusedCommands);
        }
        self.mark_dirty(slot);
    }

    fn refuse_install(&mut self, index: ReceiverIndex) {
        self.counters.bump(Counter::RefusedCommands);
        self.reply(Event::SessionClosed { index, code: CloseCode::NO_CAPACITY, by_peer: false });
    }

    /// Marks a session that may have something to send, an event, or another deadline.
    #[inline]
    pub(crate) fn mark_dirty(&mut self, slot: SessionSlot) {
        if self.sessions.get(slot).is_some() {
            self.ready.push(slot);
            self.dirty.push(slot);
        }
    }

    /// Closes every channel of a session whose protocol is over: with `code`, and those that consume with
    /// `consumed`. The clerk learns of them with the session's end, and of those that may be resumed at once.
    pub(crate) fn end_channels(&mut self, slot: SessionSlot, code: CloseCode, consumed: CloseCode) {
        let Some(entry) = self.sessions.get_mut(slot) else { return };
        let (index, labels) = (entry.index, std::mem::take(&mut entry.labels));
        for channel in labels.channels() {
            let channel = self.channels.remove(channel);
            debug_assert!(channel.is_some(), "a label names a channel that is gone");
            if let Some(channel) = channel {
                let stats = self.sessions.get(slot).and_then(|entry| entry.session.stats(channel.label));
                if let Some(stats) = stats {
                    channel.write_counters(&stats);
                }
                let code = match channel.role {
                    ChannelRole::Consumer(_) => consumed,
                    ChannelRole::Producer(_) | ChannelRole::Opening(_) => code,
                };
                let parked = self.park(&channel, code);
                channel.stop();
                self.close_channel(&channel, code);
                if parked.is_some() {
                    // At most one for each channel: bounded.
                    self.reply(Event::ChannelClosed { index, label: channel.label, code, parked });
                }
            }
        }
    }

    /// A reader where the consumer of a channel may go on, if it ends for a reason that is not the consumer's
    /// and not the producer's.
    pub(crate) fn park(&mut self, channel: &ChannelEntry, code: CloseCode) -> Option<Reader> {
        let ChannelRole::Producer(producer) = &channel.role else { return None };
        let broken = matches!(
            code,
            CloseCode::PEER_LOST
                | CloseCode::PEER_GONE
                | CloseCode::GAVE_UP
                | CloseCode::KEY_EXHAUSTED
                | CloseCode::SUPERSEDED
                | CloseCode::IDLE
        );
        if !broken {
            return None;
        }
        self.streams.get_mut(producer.stream)?.park(producer.released)
    }

    /// Takes a channel out of its session's table. `None` when it is gone already.
    pub(crate) fn take_channel(&mut self, session: SessionSlot, label: Label) -> Option<ChannelEntry> {
        let slot = self.sessions.get_mut(session)?.labels.remove(label)?;
        let channel = self.channels.remove(slot);
        debug_assert!(
            channel.as_ref().is_some_and(|channel| channel.session == session && channel.label == label),
            "label {label:?} of {session:?} names the channel of another label"
        );
        channel
    }

    /// Ends a channel that was taken out of every table: its ring is left, its inbox closed, its watchers see
    /// it terminated.
    pub(crate) fn close_channel(&mut self, channel: &ChannelEntry, code: CloseCode) {
        channel.write_last_counters();
        match &channel.role {
            ChannelRole::Opening(_) => {}
            ChannelRole::Producer(producer) => {
                self.leave_stream(producer.stream, producer.place);
                channel.shared.egress().forget();
                self.counters.bump(Counter::ChannelsClosed);
            }
            ChannelRole::Consumer(consumer) => {
                consumer.inbox.close();
                self.counters.bump(Counter::ChannelsClosed);
            }
        }
        channel.shared.terminate(code, self.now);
    }

    /// Removes a session that is over, once the event that tells the clerk is queued.
    pub(crate) fn remove_session(&mut self, slot: SessionSlot) {
        let Some(entry) = self.sessions.remove(slot) else { return };
        debug_assert_eq!(entry.labels.channels().count(), 0, "a session is removed with channels");
        self.timers.remove(slot);
        let sockets = self.nodes.exit(entry.node);
        self.closing.extend(sockets);
        self.counters.bump(Counter::SessionsClosed);
    }
}
