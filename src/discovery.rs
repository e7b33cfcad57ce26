//! What a user sees of the peers of a network.
//!
//! The engine finds peers and verifies what they announce about themselves.

mod conditions;
mod events;

use core::fmt;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use corewire_engine::node::{BeaconInfo, JoinError, Node};
pub use corewire_engine::node::{DialFailure, DialProblem, FeedError, RecordError};
use corewire_engine::peer::PeerInfo;
use tokio::sync::watch;

pub use self::conditions::{PeerConditions, PeerWhen};
pub use self::events::{PeerEvent, PeerEvents};
use crate::blocking::block_on;
use crate::id::{NetworkId, PeerId, StreamId, Tag};
use crate::tickets::Ticket;

/// What is known about a peer. A snapshot: it does not change. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerEntry {
    facts: Arc<PeerFields>,
}

#[derive(PartialEq, Eq)]
struct PeerFields {
    id: PeerId,
    network_id: NetworkId,
    tags: BTreeSet<Tag>,
    streams: BTreeSet<StreamId>,
    addresses: Vec<SocketAddr>,
    tickets: Vec<Ticket>,
}

impl PeerEntry {
    pub(crate) fn new(info: &PeerInfo) -> Self {
        Self {
            facts: Arc::new(PeerFields {
                id: info.peer_id().0.into(),
                network_id: info.network_id().0.into(),
                tags: info.tags().iter().map(|tag| tag.0.into()).collect(),
                streams: info.streams().iter().map(|stream| stream.0.into()).collect(),
                addresses: info.addresses().to_vec(),
                tickets: info.tickets().iter().map(Ticket::from_shown).collect(),
            }),
        }
    }

    /// The peer's identity: the digest of its public key, which it has proven to hold.
    pub fn id(&self) -> &PeerId {
        &self.facts.id
    }

    /// The network that it belongs to.
    pub fn network_id(&self) -> &NetworkId {
        &self.facts.network_id
    }

    /// The labels that it announces about itself. It chooses them freely; [`id`](Self::id) is proven.
    ///
    /// ```
    /// # use corewire::{PeerEntry, tag};
    /// # fn example(peer: &PeerEntry) -> bool {
    /// peer.tags().contains(&"eu-west".into()) || peer.tags().contains(&tag!("eu-north"))
    /// # }
    /// ```
    pub fn tags(&self) -> &BTreeSet<Tag> {
        &self.facts.tags
    }

    /// Whether it announces this label.
    pub fn has_tag(&self, tag: impl Into<Tag>) -> bool {
        self.facts.tags.contains(&tag.into())
    }

    /// The streams that it produces.
    pub fn streams(&self) -> &BTreeSet<StreamId> {
        &self.facts.streams
    }

    pub(crate) fn shown_tickets(&self) -> &[Ticket] {
        &self.facts.tickets
    }

    /// The addresses at which it announces to receive datagrams. Empty until its first record has arrived.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.facts.addresses
    }
}

impl fmt::Debug for PeerEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerEntry")
            .field("id", &self.facts.id)
            .field("tags", &self.facts.tags)
            .field("addresses", &self.facts.addresses)
            .finish_non_exhaustive()
    }
}

/// One line for a log: the peer's short id and its addresses.
impl fmt::Display for PeerEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:?}", self.id().short(), self.addresses())
    }
}

/// The peers of one network, as this node knows them. Made by
/// [`Network::discovery`](crate::Network::discovery).
///
/// ```
/// use corewire::{Network, NetworkId};
///
/// let id = NetworkId::random();
/// let here = Network::new_blocking(id)?;
/// let there = Network::builder(id).with_tags("validator").build_blocking()?;
///
/// let found = here.discovery().wait_for_blocking(|peer| peer.has_tag("validator")).unwrap();
/// assert_eq!(found.id(), there.local().id());
/// # Ok::<(), corewire::network::NetworkError>(())
/// ```
#[derive(Clone)]
pub struct Discovery {
    node: Node,
    /// Closed when the [`Network`](crate::Network) is dropped. Nothing is ever sent.
    present: watch::Receiver<()>,
}

impl Discovery {
    pub(crate) fn new(node: Node, present: watch::Receiver<()>) -> Self {
        Self { node, present }
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// This node's own entry.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// let network = Network::builder(NetworkId::random()).with_tags("validator").build_blocking()?;
    /// let me = network.discovery().me();
    /// assert_eq!(me.id(), network.local().id());
    /// assert!(me.has_tag("validator"));
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn me(&self) -> PeerEntry {
        PeerEntry::new(&self.node.me())
    }

    /// Replaces the labels that this node announces about itself: the first 64. Its peers learn of it in the
    /// background.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// let network = Network::builder(NetworkId::random()).with_tags("starting").build_blocking()?;
    /// network.discovery().set_tags("ready");
    /// assert!(network.discovery().me().has_tag("ready") && !network.discovery().me().has_tag("starting"));
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn set_tags(&self, tags: impl IntoTags) {
        self.node.set_tags(tags.into_tags().into_iter().map(|tag| tag.to_bytes().into()).collect());
    }

    /// Adds labels to those that this node announces about itself: the first 64 count. Its peers learn of it
    /// in the background, and predicates are asked again.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// let network = Network::builder(NetworkId::random()).with_tags("a").build_blocking()?;
    /// network.discovery().add_tags(["b", "c"]);
    /// network.discovery().remove_tags("a");
    /// let me = network.discovery().me();
    /// assert!(me.has_tag("b") && me.has_tag("c") && !me.has_tag("a"));
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn add_tags(&self, tags: impl IntoTags) {
        let more = tags.into_tags();
        self.node.change_tags(|tags| {
            for tag in more {
                let tag = tag.to_bytes().into();
                if !tags.contains(&tag) {
                    tags.push(tag);
                }
            }
        });
    }

    /// Takes labels away. For an example see [`add_tags`](Self::add_tags).
    pub fn remove_tags(&self, tags: impl IntoTags) {
        let less = tags.into_tags();
        self.node.change_tags(|tags| tags.retain(|tag| !less.contains(&tag.0.into())));
    }

    /// Adds an address to those of [`with_bootstrap`](crate::network::Builder::with_bootstrap), or a name as
    /// `host:port`. It is tried until it answers. At most 64 are added.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// use corewire::network::BeaconReach;
    ///
    /// let id = NetworkId::random();
    /// let network = Network::builder(id).with_beacon(BeaconReach::Off).build_blocking()?;
    /// network.discovery().add_peer("localhost:7411")?;
    /// assert!(network.discovery().add_peer("localhost").is_err(), "a port is missing");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`JoinError`]: it is no address, or there are too many.
    pub fn add_peer(&self, address: impl Into<Bootstrap>) -> Result<(), JoinError> {
        self.node.add_peer(address.into().0)
    }

    /// This node's entry, signed by it, as text: for a configuration file or a message, to be given to
    /// [`feed`](Self::feed) of another node. It has the addresses, tags and streams of the moment, and is of
    /// use for as long as the addresses are. No tickets are in it. `None` if the node has left.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # corewire::block_on(async {
    /// let network = Network::new(NetworkId::random()).await?;
    /// let entry = network.discovery().export().await.expect("the node has not left");
    /// assert!(entry.bytes().all(|digit| digit.is_ascii_hexdigit()));
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn export(&self) -> Option<String> {
        let mut record = self.node.watch_record();
        if self.node.is_leaving() {
            return None;
        }
        let record = record.wait_for(Option::is_some).await.ok()?;
        record.as_ref().map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// [`export`](Self::export) without an async runtime. For an example see [`feed`](Self::feed).
    pub fn export_blocking(&self) -> Option<String> {
        block_on(self.export())
    }

    /// Takes in an entry that another node has [exported](Self::export), as if the node had been met, and
    /// returns whose it is. This node's consumers find its streams from then on. White space around it is
    /// ignored.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// use corewire::network::BeaconReach;
    ///
    /// let id = NetworkId::random();
    /// let here = Network::builder(id).with_beacon(BeaconReach::Off).build_blocking()?;
    /// let there = Network::builder(id).with_beacon(BeaconReach::Off).build_blocking()?;
    /// let text = there.discovery().export_blocking().unwrap();
    /// assert_eq!(here.discovery().feed(&text)?, *there.local().id());
    /// assert!(here.discovery().feed("nonsense").is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`FeedError`]: it was changed, is of another network, or too many wait.
    pub fn feed(&self, entry: &str) -> Result<PeerId, FeedError> {
        let digits = entry.trim().as_bytes();
        let byte = |pair: &[u8]| {
            let text = core::str::from_utf8(pair).ok().filter(|text| text.len() == 2)?;
            let digits = text.bytes().all(|digit| digit.is_ascii_hexdigit());
            u8::from_str_radix(text, 16).ok().filter(|_| digits)
        };
        let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
        let record = bytes.ok_or(FeedError::Record(RecordError::Malformed))?;
        Ok(self.node.feed(&record)?.0.into())
    }

    /// What happens to the peers from now on: each that joins, changes, leaves or fails. For an example see
    /// [`PeerEvents`].
    pub fn events(&self) -> PeerEvents {
        PeerEvents::new(self.node.peer_changes())
    }

    /// Waits for peers; see [`PeerWhen`].
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// let id = NetworkId::random();
    /// let (here, there) = (Network::new_blocking(id)?, Network::new_blocking(id)?);
    /// here.discovery().when().peer(there.local().id()).wait_blocking();
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn when(&self) -> PeerWhen {
        PeerWhen::new(self.node.watch_peers())
    }

    /// The peers that have all of these tags and produce all of these streams, as they are known now.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// let id = NetworkId::random();
    /// let (here, there) =
    ///     (Network::new_blocking(id)?, Network::builder(id).with_tags("exchange").build_blocking()?);
    /// let _producer = there.streams().producer::<u64>().with_stream_id("prices").build().unwrap();
    ///
    /// here.discovery().when().peers().with_streams(["prices"]).wait_blocking();
    /// let found = here.discovery().find("exchange", ["prices"]);
    /// assert_eq!(found[0].id(), there.local().id());
    /// assert!(here.discovery().find("exchange", ["news"]).is_empty());
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn find<S: Into<StreamId>>(
        &self,
        tags: impl IntoTags,
        streams: impl IntoIterator<Item = S>,
    ) -> Vec<PeerEntry> {
        self.catalog().find(tags, streams)
    }

    /// The peers that are known now, as a snapshot that does not change. Cheap.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// let id = NetworkId::random();
    /// let (here, there) = (Network::new_blocking(id)?, Network::new_blocking(id)?);
    /// let before = here.discovery().catalog();
    /// here.discovery().when().peer(*there.local().id()).wait_blocking();
    /// let after = here.discovery().catalog();
    /// assert!(after.get(there.local().id()).is_some() && after.len() >= before.len());
    /// assert_eq!(after.iter().count(), after.len());
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn catalog(&self) -> PeerCatalog {
        PeerCatalog { peers: self.node.peers() }
    }

    /// The peers that are known now, without this node. May be stale at once.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// let network = Network::new_blocking(NetworkId::random())?;
    /// assert!(network.discovery().peers().is_empty());
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn peers(&self) -> Vec<PeerEntry> {
        self.node.peers().iter().map(PeerEntry::new).collect()
    }

    /// What is known about one peer.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId, PeerId};
    /// let network = Network::new_blocking(NetworkId::random())?;
    /// assert!(network.discovery().peer(&PeerId::random()).is_none());
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn peer(&self, id: &PeerId) -> Option<PeerEntry> {
        self.node.peer(&id.to_bytes().into()).as_ref().map(PeerEntry::new)
    }

    /// Why there is no session with the peers at the addresses of
    /// [`with_bootstrap`](crate::network::Builder::with_bootstrap): the last failure of each that has none
    /// and was tried. Empty when all are reached, or at the start.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// let id = NetworkId::random();
    /// let network = Network::builder(id).with_bootstrap(["localhost:7411"]).build_blocking()?;
    /// for failure in network.discovery().dial_failures() {
    ///     println!("{failure}");
    /// }
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn dial_failures(&self) -> Vec<DialFailure> {
        self.node.dial_failures()
    }

    /// What became of this node's beacon: how far it reaches, through which interfaces, and why there is none
    /// if the system refused it. For an example see [`with_beacon`](crate::network::Builder::with_beacon).
    pub fn beacon(&self) -> BeaconInfo {
        self.node.beacon()
    }

    /// Waits for a peer that `wanted` accepts and returns its entry; at once if one is known.
    /// `None` once this node has left the network or its engine has stopped.
    ///
    /// Nodes of the same process become known in the background too. For a limit in time see
    /// [`block_on_timeout`](crate::block_on_timeout) and the timeouts of your executor.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # corewire::block_on(async {
    /// let id = NetworkId::random();
    /// let (here, there) = (Network::new(id).await?, Network::new(id).await?);
    /// let _producer = there.streams().producer::<u64>().with_stream_id("prices").build().unwrap();
    ///
    /// let found = here.discovery().wait_for(|peer| peer.streams().contains(&"prices".into())).await;
    /// assert_eq!(found.unwrap().id(), there.local().id());
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn wait_for(&self, mut wanted: impl FnMut(&PeerEntry) -> bool) -> Option<PeerEntry> {
        let (mut peers, mut present) = (self.node.watch_peers(), self.present.clone());
        let mut left = pin!(self.node.left());
        loop {
            let known = peers.borrow_and_update().clone();
            if let Some(found) = known.iter().map(PeerEntry::new).find(&mut wanted) {
                return Some(found);
            }
            let mut changed = pin!(peers.changed());
            let mut gone = pin!(present.changed());
            let more = poll_fn(|cx| match changed.as_mut().poll(cx) {
                Poll::Ready(changed) => Poll::Ready(changed.is_ok()),
                Poll::Pending if left.as_mut().poll(cx).is_ready() => Poll::Ready(false),
                Poll::Pending => gone.as_mut().poll(cx).map(|_| false),
            });
            if self.node.is_leaving() || !more.await {
                return None;
            }
        }
    }

    /// [`wait_for`](Self::wait_for) without an async runtime: parks the thread.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// let id = NetworkId::random();
    /// let (here, there) = (Network::new_blocking(id)?, Network::new_blocking(id)?);
    /// let found = here.discovery().wait_for_blocking(|peer| peer.id() == there.local().id());
    /// assert!(found.is_some());
    /// # Ok::<(), corewire::network::NetworkError>(())
    /// ```
    pub fn wait_for_blocking(&self, wanted: impl FnMut(&PeerEntry) -> bool) -> Option<PeerEntry> {
        block_on(self.wait_for(wanted))
    }
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovery").field("peers", &self.peers()).finish_non_exhaustive()
    }
}

/// The peers of a node at one moment. It does not change, and is cheap to clone. Made by
/// [`Discovery::catalog`].
#[derive(Clone)]
pub struct PeerCatalog {
    /// Sorted by id.
    peers: Arc<[PeerInfo]>,
}

impl PeerCatalog {
    /// The entry of one peer.
    pub fn get(&self, id: &PeerId) -> Option<PeerEntry> {
        let id = id.to_bytes().into();
        let found = self.peers.binary_search_by(|peer| peer.peer_id().cmp(&id));
        found.ok().map(|at| PeerEntry::new(&self.peers[at]))
    }

    /// All peers, by id.
    pub fn iter(&self) -> impl Iterator<Item = PeerEntry> + '_ {
        self.peers.iter().map(PeerEntry::new)
    }

    /// Those that have all of these tags and produce all of these streams.
    pub fn find<S: Into<StreamId>>(
        &self,
        tags: impl IntoTags,
        streams: impl IntoIterator<Item = S>,
    ) -> Vec<PeerEntry> {
        let tags: Vec<_> = tags.into_tags().into_iter().map(|tag| tag.to_bytes().into()).collect();
        let streams: Vec<_> = streams.into_iter().map(|stream| stream.into().to_bytes().into()).collect();
        let fits = |peer: &&PeerInfo| {
            tags.iter().all(|tag| peer.has_tag(tag)) && streams.iter().all(|stream| peer.produces(stream))
        };
        self.peers.iter().filter(fits).map(PeerEntry::new).collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }
}

impl fmt::Debug for PeerCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// An address to meet a network through: a [`SocketAddr`], or text that is one or has the form `host:port`.
pub struct Bootstrap(pub(crate) Result<SocketAddr, String>);

impl From<SocketAddr> for Bootstrap {
    fn from(address: SocketAddr) -> Self {
        Self(Ok(address))
    }
}

impl From<&str> for Bootstrap {
    fn from(text: &str) -> Self {
        Self(text.parse().map_err(|_| text.to_owned()))
    }
}

impl From<String> for Bootstrap {
    fn from(text: String) -> Self {
        Self(text.parse().map_err(|_| text))
    }
}

/// One tag or many: text, a [`Tag`], or a collection of either.
pub trait IntoTags {
    /// The tags.
    fn into_tags(self) -> BTreeSet<Tag>;
}

macro_rules! one_tag {
    ($($kind:ty),*) => {$(
        impl IntoTags for $kind {
            fn into_tags(self) -> BTreeSet<Tag> {
                BTreeSet::from([Tag::from(self)])
            }
        }
    )*};
}

/// No tag.
impl IntoTags for () {
    fn into_tags(self) -> BTreeSet<Tag> {
        BTreeSet::new()
    }
}

one_tag!(&str, String, &String, Tag, &Tag);

impl<T: Into<Tag>, const N: usize> IntoTags for [T; N] {
    fn into_tags(self) -> BTreeSet<Tag> {
        self.into_iter().map(Into::into).collect()
    }
}

impl<T: Clone + Into<Tag>, const N: usize> IntoTags for &[T; N] {
    fn into_tags(self) -> BTreeSet<Tag> {
        self.as_slice().into_tags()
    }
}

impl<T: Clone + Into<Tag>> IntoTags for &[T] {
    fn into_tags(self) -> BTreeSet<Tag> {
        self.iter().cloned().map(Into::into).collect()
    }
}

impl<T: Into<Tag>> IntoTags for Vec<T> {
    fn into_tags(self) -> BTreeSet<Tag> {
        self.into_iter().map(Into::into).collect()
    }
}

impl<T: Clone + Into<Tag>> IntoTags for &Vec<T> {
    fn into_tags(self) -> BTreeSet<Tag> {
        self.as_slice().into_tags()
    }
}

impl<T: Into<Tag>> IntoTags for BTreeSet<T> {
    fn into_tags(self) -> BTreeSet<Tag> {
        self.into_iter().map(Into::into).collect()
    }
}
