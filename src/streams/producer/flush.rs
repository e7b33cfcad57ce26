//! Waiting until consumers have what was accepted.

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;

use corewire_engine::publication::{Flush, Shortfall};

use super::Producer;
use crate::blocking::{block_on, poll_for};
use crate::streams::Undelivered;
use crate::streams::undelivered::undelivered;

/// Some consumer does not have what was accepted before a flush.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("not every consumer has what was sent: {}", if missing.is_empty() {
    "the time was up before any answered".to_owned()
} else {
    crate::streams::undelivered::summary(missing)
})]
pub struct FlushError {
    /// The consumers that lack something, and how much. When the time was up this may be empty: no consumer
    /// was asked yet.
    pub missing: Vec<Undelivered>,
    /// The time was up. If false, the consumers in `missing` are gone.
    pub timed_out: bool,
}

/// The future of [`Producer::flush`].
#[must_use = "a flush does nothing for those who do not wait for it"]
pub struct Flushing(Flush);

impl Flushing {
    /// The consumers that lack something at this moment, gone ones included, and how much. For one that waits
    /// with a timer of its own.
    pub fn missing(&self) -> Vec<Undelivered> {
        undelivered(self.0.missing())
    }
}

impl Future for Flushing {
    type Output = Result<(), FlushError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(cx)
            .map_err(|missing: Vec<Shortfall>| FlushError { missing: undelivered(missing), timed_out: false })
    }
}

impl fmt::Debug for Flushing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flushing").field("missing", &self.missing()).finish()
    }
}

impl<D, C> Producer<D, C> {
    /// Waits until every consumer that is connected has all datums that were accepted before this call.
    ///
    /// What it means that a consumer *has* a datum: on another engine, that the datum is in the consumer's
    /// inbox; on the same engine, that it is in the ring, which the consumer reads itself. A consumer that
    /// may lose datums ([`FireAndForget`](crate::Reliability::FireAndForget)) has what was sent to it. One
    /// whose session broke is waited for as long as its place is kept
    /// ([`resume_for`](super::Builder::resume_for)). Consumers that come later are not waited for.
    ///
    /// After [`close`](Self::close) it waits for the end of the stream, which is how a producer is shut down
    /// in order. It needs no room and no consumer: with none it is ready at once.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # corewire::block_on(async {
    /// # let network = Network::new(NetworkId::random()).await?;
    /// # let mut consumer = network.streams().consume::<u64>();
    /// let producer = network.streams().produce::<u64>();
    /// producer.send(7).await?;
    /// match producer.flush().await {
    ///     Ok(()) => println!("every consumer has it"),
    ///     Err(error) => println!("{} consumers lack something", error.missing.len()),
    /// }
    /// # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// [`FlushError`] names each consumer that is gone without having everything. It comes when all the
    /// others have it.
    ///
    /// # Cancel safety
    ///
    /// What counts is what was accepted before the call, not before the first poll. Dropping the future has
    /// no effect on the datums.
    pub fn flush(&self) -> Flushing {
        Flushing(self.core.publication.flush())
    }

    /// [`flush`](Self::flush) for threads without an async runtime: parks the thread while it waits.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// let producer = network.streams().produce::<u64>();
    /// producer.flush_blocking()?; // there is no consumer
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush).
    pub fn flush_blocking(&self) -> Result<(), FlushError> {
        block_on(self.flush())
    }

    /// [`flush_blocking`](Self::flush_blocking) for at most `timeout`.
    ///
    /// ```
    /// # use corewire::{Network, NetworkId};
    /// # let network = Network::new_blocking(NetworkId::random())?;
    /// use std::time::Duration;
    ///
    /// let producer = network.streams().produce::<u64>();
    /// producer.close();
    /// producer.flush_timeout(Duration::from_secs(5))?; // the stream has ended at every consumer
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush); when the time is up, [`FlushError::missing`] names the consumers that lack
    /// something at that moment.
    pub fn flush_timeout(&self, timeout: Duration) -> Result<(), FlushError> {
        let mut flushing = self.flush();
        poll_for(timeout, |cx| Pin::new(&mut flushing).poll(cx))
            .unwrap_or_else(|| Err(FlushError { missing: flushing.missing(), timed_out: true }))
    }
}
