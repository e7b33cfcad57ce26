//! What the clerk counts for each node. Shards and channels have counters of their own.

use corewire_rings::sync::EventCounter;

macro_rules! node_counters {
    ($($name:ident: $doc:literal,)*) => {
        /// The counters of one node. The clerk is the only writer, of those of beacons its beacon thread.
        #[derive(Debug, Default)]
        pub(crate) struct NodeCounters {
            $(pub(crate) $name: EventCounter,)*
        }

        /// What a node counted since it joined. Monotone; a snapshot.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct NodeStats {
            $(#[doc = $doc] pub $name: u64,)*
        }

        impl NodeCounters {
            pub(crate) fn read(&self) -> NodeStats {
                NodeStats { $($name: self.$name.get(),)* }
            }
        }

        impl NodeStats {
            /// Name and value of each counter.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

node_counters! {
    handshakes_started: "Handshakes begun by this node.",
    handshakes_finished: "Handshakes that gave keys, on either side.",
    handshakes_given_up: "Handshakes begun by this node that got no answer.",
    handshakes_refused: "Handshakes refused because a bound was reached, or because another one goes first.",
    foreign_packets: "Handshake packets that were not made with this network's secret, or not for this node.",
    broken_packets: "Handshake packets that were damaged, replayed, unexpected, or for no handshake of this node.",
    cookies_sent: "Times that a stranger was asked to show that it can receive at its address.",
    sessions_opened: "Sessions installed.",
    sessions_confirmed: "Sessions under whose keys a packet came.",
    sessions_rekeyed: "Times that a session went on under a new key.",
    sessions_lost: "Sessions that ended for another reason than a request of either end.",
    records_accepted: "Records of peers that were new.",
    records_refused: "Records of peers that were forged, foreign, malformed or did not fit.",
    records_unsigned: "Times that the node's own record could not be made, so that peers keep its last one.",
    control_refused: "Control messages of peers that were malformed.",
    beacons_sent: "Beacons sent, each through all interfaces.",
    beacons_unsent: "Beacons that no interface took.",
    beacons_heard: "Beacons that told something new about a peer.",
    beacons_foreign: "Datagrams in the network's multicast group that no member of the network had sealed.",
    beacons_replayed: "Beacons that were older than the latest one of their peer.",
    beacons_refused: "Beacons that were malformed, or of too many peers.",
    beacons_flooded: "Datagrams in the multicast group that were dropped unopened, because too many came.",
    beacons_dropped: "Datagrams in the multicast group that the kernel dropped, because the queue was full.",
    members_sent: "Membership packets sent.",
    members_heard: "Membership packets of this network that were opened.",
    members_foreign: "Membership packets that no member of the network had sealed, or that were too long.",
    members_replayed: "Membership packets that came a second time.",
    members_refused: "Membership packets that were malformed, or claimed an answer of another member.",
    members_flooded: "Membership packets that were dropped unopened, because too many came.",
    members_unfetched: "Records too long for a packet that were told of and not fetched: no address, too many, or no answer.",
    members_failed: "Peers without a session that were given up, because they did not answer.",
    channels_opened: "Channels that this node's subscriptions asked for.",
    channels_connected: "Channels of this node's subscriptions that were connected.",
    channels_served: "Channels of this node's publications that were connected.",
    stream_not_found: "Channels refused because the node does not publish the stream.",
    not_allowed: "Channels refused or closed by a predicate, of either side.",
    type_mismatch: "Channels refused, by either side, because producer and consumer differ in datum type or codec.",
    no_capacity: "Channels refused because a bound was reached.",
    too_slow: "Channels closed because their consumer kept a ring full.",
    sockets_refused: "Shards on which the node has no socket, because the driver refused it.",
}

/// Adds `n`.
pub(crate) fn add(counter: &EventCounter, n: u64) {
    counter.add(n);
}

/// Adds one.
pub(crate) fn count(counter: &EventCounter) {
    counter.add_one();
}
