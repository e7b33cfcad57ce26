//! The state that the clerk, the shards and the handles share.
//!
//! Not inside: the three themselves. The clerk and the handles import this layer and not each other, so
//! either can be read alone. `subscription` holds the [`Inbox`](crate::shard::Inbox) of a shard; everything
//! else here knows no shard.
//!
//! | file | holds |
//! |---|---|
//! | [`next`] | what an owner of a loop wants after a turn |
//! | [`keys`] | names of nodes, publications, subscriptions and channels |
//! | [`channel`] | a channel's identity, state and counters, and its two views |
//! | [`node`] | a node's identity, its peers and whether it is a member |
//! | [`beacon`] | what a node needs for its beacon, and what it hears by it |
//! | `direct` | the count of directions of raw channels |
//! | `egress` | limits on the bytes that leave |
//! | [`event`] | what happens to channels |
//! | [`flush`] | waiting until consumers have what was published |
//! | [`publication`] | what a publication is made of, its ring and its counters |
//! | [`subscription`] | what a subscription is made of, and the channels that wait for its consumer |
//! | [`path`] | what sessions measure |
//! | `port` | the queue of requests from handles to the clerk |
//! | [`limits`] | what the clerk may hold, and for how long things may take |
//! | [`counters`] | what the clerk counts for each node |
//! | `reach` | which addresses a node can be reached at |
//! | `shown` | values that tasks of the user's watch |

pub mod beacon;
pub mod channel;
pub mod counters;
pub mod dialling;
pub(crate) mod direct;
pub(crate) mod egress;
pub mod event;
pub mod flush;
pub mod keys;
pub mod limits;
pub mod next;
pub mod node;
pub mod path;
pub(crate) mod port;
pub mod publication;
pub(crate) mod reach;
pub(crate) mod shown;
pub mod subscription;

pub use self::{
    channel::{Channel, ChannelCounters, ChannelShared, ChannelSnapshot, ChannelState, Channels},
    next::Next,
};
