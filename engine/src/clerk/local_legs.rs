//! Channels whose two ends live in this engine: the consumer reads the producer's ring, without a session or
//! a copy.
//!
//! A local channel may be over for both ends and still be read: its cursor stays in the ring until the
//! consumer drops it or is cut off. So its entry here lives from the connection until the consumer drops its
//! end.

use corewire_proto::ordered::{OrderedMap, OrderedSet};
use std::{sync::Arc, time::Duration};

use corewire_rings::{DetachError, ReaderId, Ring};

use super::{env::Env, timers::Timer};
use crate::{
    shard::NodeId,
    shared::{
        ChannelShared,
        keys::{InboundKey, LegKey, OutboundKey},
    },
};

/// The pause before another attempt to cut off a consumer that reads a datum in place.
pub(super) const DETACH_RETRY: Duration = Duration::from_millis(5);

/// A channel between two nodes of this engine, or within one.
#[derive(Clone, Debug)]
pub(crate) struct LocalLeg {
    pub(crate) producer: OutboundKey,
    pub(crate) consumer: InboundKey,
    /// Its cursor in the producer's ring.
    pub(crate) reader: ReaderId,
    pub(crate) shared: Arc<ChannelShared>,
}

/// The local channels of this engine.
#[derive(Debug, Default)]
pub(crate) struct LocalLegs {
    legs: OrderedMap<LegKey, LocalLeg>,
    /// Those that are over and still in the ring, because their consumers read a datum in place.
    pinned: OrderedSet<LegKey>,
}

impl LocalLegs {
    pub(crate) fn len(&self) -> usize {
        self.legs.len()
    }

    pub(crate) fn insert(&mut self, key: LegKey, leg: LocalLeg) {
        let before = self.legs.insert(key, leg);
        assert!(before.is_none(), "{key:?} is given once");
    }

    /// `None` after the consumer has dropped its end.
    pub(crate) fn get(&self, key: LegKey) -> Option<&LocalLeg> {
        self.legs.get(&key)
    }

    /// The local channels that have an end at this node.
    pub(crate) fn of_node(&self, node: NodeId) -> Vec<LocalLeg> {
        let at_node = |leg: &&LocalLeg| leg.producer.node() == node || leg.consumer.node() == node;
        self.legs.values().filter(at_node).cloned().collect()
    }

    /// The local channels whose consumer is a subscription of this node.
    pub(crate) fn of_consumer(&self, node: NodeId) -> Vec<(LegKey, OutboundKey)> {
        let legs = self.legs.iter().filter(|(_, leg)| leg.consumer.node() == node);
        legs.map(|(key, leg)| (*key, leg.producer)).collect()
    }

    /// Whether the last channel of this consumer is over and still in the ring: until it is out, it may
    /// deliver what another one would deliver too.
    pub(crate) fn is_pinned(&self, consumer: InboundKey) -> bool {
        let of_consumer = |key| self.legs.get(key).is_some_and(|leg| leg.consumer == consumer);
        self.pinned.iter().any(of_consumer)
    }

    /// Takes the cursor of a local channel out of the ring, or tries again while the consumer reads in place.
    /// `ring` is `None` when the producer's node has left. Returns what the consumer takes: everything below.
    /// `None`: the cursor is not out yet.
    pub(crate) fn detach(&mut self, env: &mut Env, key: LegKey, ring: Option<&Ring>) -> Option<u64> {
        self.pinned.remove(&key);
        let (leg, ring) = (self.legs.get(&key)?, ring?);
        // Before the consumer can see that it was cut off.
        leg.shared.end_at(ring.tail());
        match ring.detach(leg.reader) {
            // The counters may not show yet what the consumer has taken last.
            Ok(position) => Some(position),
            Err(DetachError::Gone) => Some(leg.shared.snapshot().released),
            Err(DetachError::Pinned) => {
                self.pinned.insert(key);
                env.effects.set_timer(Timer::Detach(key), env.now + DETACH_RETRY);
                None
            }
        }
    }

    /// Forgets a local channel whose consumer has dropped its end: the cursor is out of the ring. `ring` as
    /// for [`LocalLegs::detach`]. Returns what the consumer has taken, everything below, if it was to be cut
    /// off and left before that.
    pub(crate) fn remove(&mut self, env: &mut Env, key: LegKey, ring: Option<&Ring>) -> Option<u64> {
        let leg = self.legs.remove(&key).expect("a consumer drops its end once");
        let was_pinned = self.pinned.remove(&key);
        env.effects.cancel_timer(Timer::Detach(key));
        if let Some(ring) = ring
            && leg.shared.end_seq().is_none()
        {
            leg.shared.end_at(ring.tail());
        }
        was_pinned.then(|| leg.shared.snapshot().released)
    }
}

#[cfg(test)]
mod tests {
    use corewire_proto::{PeerId, StreamId};
    use corewire_rings::{Reader, RingConfig};

    use super::*;
    use crate::{
        clerk::{effect::Effect, testing},
        shared::keys::{PublicationKey, SubscriptionKey},
    };

    fn ring() -> Ring {
        let spec = crate::shared::publication::PublishSpec::new(StreamId([1; 32]));
        Ring::new(RingConfig { datums: 4, ..spec.ring_config() }).expect("a ring")
    }

    fn leg(legs: &mut LocalLegs, ring: &Ring) -> (LegKey, Reader) {
        let reader = ring.subscribe().expect("a cursor");
        let (one, other) = (PeerId([1; 32]), PeerId([2; 32]));
        let leg = LocalLeg {
            producer: OutboundKey::new(PublicationKey::new(NodeId(1), 2), 3),
            consumer: InboundKey { subscription: SubscriptionKey::new(NodeId(4), 5), producer: one },
            reader: reader.id(),
            shared: Arc::new(ChannelShared::new(StreamId([1; 32]), one, other)),
        };
        legs.insert(LegKey(6), leg);
        (LegKey(6), reader)
    }

    #[test]
    fn detaching_takes_the_cursor_and_notes_the_end() {
        let (mut env, mut legs, ring) = (testing::env(), LocalLegs::default(), ring());
        let (key, _reader) = leg(&mut legs, &ring);
        assert_eq!(legs.detach(&mut env, key, Some(&ring)), Some(0));
        assert_eq!(legs.get(key).and_then(|leg| leg.shared.end_seq()), Some(0));
        let mut readers = 0;
        ring.each_reader(|_| readers += 1);
        assert_eq!(readers, 0);
        assert!(env.effects.drain().is_empty(), "nothing to try again");
    }

    #[test]
    fn removal_cancels_the_timer_and_notes_the_end() {
        let (mut env, mut legs, ring) = (testing::env(), LocalLegs::default(), ring());
        let (key, reader) = leg(&mut legs, &ring);
        let shared = legs.get(key).expect("it is there").shared.clone();
        drop(reader);
        assert_eq!(legs.remove(&mut env, key, Some(&ring)), None);
        assert_eq!((legs.len(), shared.end_seq()), (0, Some(0)));
        assert!(matches!(env.effects.drain()[..], [Effect::CancelTimer(Timer::Detach(leg))] if leg == key));
    }

    #[test]
    fn what_a_consumer_has_taken_counts_before_its_counters_show_it() {
        let (mut env, mut legs, ring) = (testing::env(), LocalLegs::default(), ring());
        let (key, mut reader) = leg(&mut legs, &ring);
        (0..3).for_each(|_| _ = ring.writer().try_push(b"x").expect("room"));
        let record = reader.try_recv().expect("open").expect("the first");
        assert_eq!(legs.detach(&mut env, key, Some(&ring)), None, "it is read in place");
        drop(record);
        assert_eq!(legs.detach(&mut env, key, Some(&ring)), Some(1));
        let end = legs.get(key).and_then(|leg| leg.shared.end_seq());
        assert_eq!(end, Some(3));
        drop(reader);
        assert_eq!(legs.remove(&mut env, key, Some(&ring)), None, "that was told already");
    }

    #[test]
    fn consumer_that_leaves_before_it_is_cut_off_tells_what_it_took() {
        let (mut env, mut legs, ring) = (testing::env(), LocalLegs::default(), ring());
        let (key, mut reader) = leg(&mut legs, &ring);
        (0..3).for_each(|_| _ = ring.writer().try_push(b"x").expect("room"));
        let record = reader.try_recv().expect("open").expect("the first");
        assert_eq!(legs.detach(&mut env, key, Some(&ring)), None);
        drop(record);
        legs.get(key).expect("it is there").shared.counters().delivered(1, 1, 0, 1);
        drop(reader);
        assert_eq!(legs.remove(&mut env, key, Some(&ring)), Some(1));
    }

    #[test]
    fn legs_are_found_by_either_node() {
        let (mut legs, ring) = (LocalLegs::default(), ring());
        let (key, _reader) = leg(&mut legs, &ring);
        assert_eq!(legs.of_node(NodeId(1)).len() + legs.of_node(NodeId(4)).len(), 2);
        assert!(legs.of_consumer(NodeId(1)).is_empty());
        assert_eq!(legs.of_consumer(NodeId(4))[0].0, key);
    }
}
