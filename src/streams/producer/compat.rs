//! Names that exist for programs written against the libraries that corewire continues: they write tags as
//! text.

use super::Builder;
use crate::compat::NamedPeer;

impl<D: Send + 'static, C> Builder<D, C> {
    /// [`require`](Self::require) for predicates that write tags as text. New code uses `require`.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = futures::executor::block_on(Network::new(NetworkId::random()))?;
    /// let builder = network.streams().producer::<u64>();
    /// let producer = builder.accept_if(|peer| peer.tags().contains("trusted")).build()?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn accept_if(self, predicate: impl Fn(&NamedPeer<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.require(move |peer| predicate(&NamedPeer::new(peer)))
    }
}
