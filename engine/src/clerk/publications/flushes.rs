//! Flushes: which consumers still lack what was published before one began, and what the ends of channels
//! mean for them.
//!
//! A consumer of this engine reads the ring itself, so it has everything at once. For one of another engine
//! the shard is asked; the answer is a mark that is reached, or the end of the channel. Of each channel one
//! mark is asked for at a time, the earliest that a flush waits for: flushes that are given up leave nothing
//! else behind. An absent consumer is waited for as long as its place is kept.

use std::sync::Arc;

use super::{OutboundChannel, OutboundEnd, PublicationState, Publications};
use crate::{
    clerk::env::Env,
    shard::Command,
    shared::{
        Channel,
        event::ChannelEvent,
        flush::{FlushShared, Shortfall},
        keys::OutboundKey,
        publication::PublicationShared,
    },
};

impl Publications {
    /// Begins to wait for the consumers of a publication.
    pub(crate) fn flush(&mut self, env: &mut Env, shared: &PublicationShared, flush: Arc<FlushShared>) {
        let Some(publication) = self.publications.get_mut(&shared.key) else {
            // It is forgotten, so what was not delivered is known.
            return flush.begin(Vec::new(), shared.undelivered.lock().clone());
        };
        publication.flushes.retain(is_waited_for);
        let remote = publication.channels.values().filter(|outbound| outbound.subscription.is_some());
        let absent = publication.places.iter().map(|(_, place)| place.channel.clone());
        let waiting = remote.map(|outbound| outbound.channel.clone()).chain(absent).collect();
        flush.begin(waiting, shared.undelivered.lock().clone());
        if !flush.is_over() {
            for outbound in publication.channels.values_mut() {
                outbound.ask(env, flush.seq);
            }
            publication.flushes.push(flush);
        }
    }

    /// The consumer of a channel has everything below `seq`.
    pub(crate) fn marked(&mut self, env: &mut Env, key: OutboundKey, seq: u64) {
        let Some(publication) = self.publications.get_mut(&key.publication) else { return };
        let Some(outbound) = publication.channels.get_mut(&key) else { return };
        for flush in publication.flushes.iter().filter(|flush| flush.seq <= seq) {
            flush.reached(&outbound.channel);
        }
        publication.flushes.retain(is_waited_for);
        if outbound.asked.take_if(|asked| *asked <= seq).is_some() {
            let later = publication.flushes.iter().map(|flush| flush.seq).filter(|later| *later > seq);
            later.min().into_iter().for_each(|next| outbound.ask(env, next));
        }
    }
}

/// Whether a flush lacks a consumer, and its handle was not dropped.
fn is_waited_for(flush: &Arc<FlushShared>) -> bool {
    Arc::strong_count(flush) > 1 && !flush.is_over()
}

impl OutboundChannel {
    /// Asks the shard when the consumer has everything below `seq`, unless it owes the answer for an earlier
    /// sequence: then it is asked after that.
    fn ask(&mut self, env: &mut Env, seq: u64) {
        if let OutboundEnd::Remote(index, label) = self.end
            && self.asked.is_none_or(|asked| seq < asked)
        {
            self.asked = Some(seq);
            env.effects.send(index.shard(), Command::Mark { index, label, seq });
        }
    }
}

impl PublicationState {
    /// A consumer will not go on where its channel stopped, at `position`. `wanted`: not by its own will.
    pub(super) fn lost(&mut self, env: &mut Env, channel: &Arc<Channel>, position: u64, wanted: bool) {
        for flush in &self.flushes {
            flush.ended(channel, position);
        }
        self.flushes.retain(|flush| !flush.is_over());
        let datums = self.shared.ring.tail().saturating_sub(position);
        if wanted && datums > 0 {
            self.report(env, || ChannelEvent::Undelivered { channel: channel.clone(), datums });
            if self.closed {
                self.report_undelivered(channel, datums);
            }
        }
    }

    /// A consumer of a closed publication did not get so many datums.
    pub(super) fn report_undelivered(&self, channel: &Channel, datums: u64) {
        let (stream, consumer) = (channel.stream_id(), channel.consumer_id());
        self.shared.undelivered.lock().push(Shortfall { stream, consumer, datums });
    }

    /// An absent consumer goes on with the channel `key`, after another one.
    pub(super) fn resumed(&mut self, env: &mut Env, key: OutboundKey, former: &Arc<Channel>) {
        let Some(outbound) = self.channels.get_mut(&key) else { return };
        for flush in &self.flushes {
            if flush.replaced(former, &outbound.channel) {
                outbound.ask(env, flush.seq);
            }
        }
    }

    /// Reports what local consumers of other nodes have not taken from a closed ring. They may read on.
    pub(super) fn give_up_legs(&self) {
        let ring = &self.shared.ring;
        for leg in self.draining.values().filter(|leg| self.waits_for(leg)) {
            ring.each_reader(|reader| {
                if reader.id == leg.reader && reader.lag > 0 {
                    self.report_undelivered(&leg.channel, reader.lag);
                }
            });
        }
    }

    /// The clerk does not know the publication any more: what still waits can't be answered.
    pub(super) fn end_flushes(&self) {
        for flush in &self.flushes {
            flush.give_up();
        }
    }
}
