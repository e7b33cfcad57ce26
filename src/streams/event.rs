//! What happens to the channels of a handle, event by event.

use core::fmt;
use core::time::Duration;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use corewire_engine::publication::{ChannelEvent, OnEvent, TypeMismatch};
use corewire_rings::sync::Lock;
use tokio::sync::broadcast::{self, error::RecvError, error::TryRecvError as NoEvent};

use super::CloseCode;
use super::channel::ChannelInfo;
use super::consumer::{RecvTimeoutError, TryRecvError};
use crate::blocking::{block_on, block_on_timeout};
use crate::contain::contain;
use crate::id::PeerId;

/// Events that wait for one [`Events`]. Enough for a change of every channel of a large stream.
const EVENTS_WAITING: usize = 256;

/// Events that are kept for the first listener of a handle, which may be refused before there is one.
const EVENTS_KEPT: usize = 16;

/// Something that happened to a channel of a [`Consumer`](crate::Consumer), or to its wish for one.
///
/// ```
/// use corewire::streams::{CloseCode, ConsumerEvent};
/// use corewire::{Network, NetworkId};
///
/// let network = Network::new_blocking(NetworkId::random())?;
/// let consumer = network.streams().consumer::<u32>().with_stream_id("counts").build();
/// let mut events = consumer.events();
/// let producer = network.streams().producer::<u64>().with_stream_id("counts").build()?;
/// let Some(ConsumerEvent::Refused { code, mismatch: Some(mismatch), .. }) = events.recv_blocking() else {
///     panic!("a stream carries one type");
/// };
/// assert_eq!(code, CloseCode::TYPE_MISMATCH);
/// assert_eq!(mismatch.ours.as_str(), "u32 as Postcard");
/// assert_eq!(mismatch.theirs.as_str(), "u64 as Postcard");
/// # drop(producer);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConsumerEvent {
    /// A producer is connected. Told before a consumer that waits is woken; one that is awake may receive the
    /// first datums before this event.
    Connected {
        /// Its channel.
        channel: ChannelInfo,
    },
    /// A channel has ended.
    Closed {
        /// The channel.
        channel: ChannelInfo,
        /// Why. [`CloseCode::GRACEFUL`] only after the producer has ended the stream properly and everything
        /// has arrived.
        code: CloseCode,
        /// Whether the consumer tries to connect again by itself.
        retries: bool,
    },
    /// Datums of a producer are missing between two of its channels. Told when the consumer takes the second
    /// one over, before its first datum; perhaps before the event [`Connected`](Self::Connected) of that
    /// channel.
    Gap {
        /// The producer.
        producer: PeerId,
        /// How many are known to be missing.
        datums: u64,
        /// An unknown number may be missing besides them, as with
        /// [`Delivery::restarted`](crate::streams::Delivery::restarted).
        unknown: bool,
    },
    /// A producer did not let the consumer in, or did not meet its requirements.
    Refused {
        /// The producer.
        producer: PeerId,
        /// Why.
        code: CloseCode,
        /// Whether the consumer tries again by itself. Otherwise it waits for a change at either side.
        retries: bool,
        /// What differs, with [`CloseCode::TYPE_MISMATCH`].
        mismatch: Option<TypeMismatch>,
    },
    /// A producer was tried without success for as long as the backoff allows. It is tried again when it is
    /// in touch by itself, or when its entry changes.
    GaveUp {
        /// The producer.
        producer: PeerId,
    },
    /// Nothing was heard of a producer for the time of
    /// [`with_suspect_after`](crate::network::SessionSettings::with_suspect_after) (1 s by default), although
    /// something waits for its answer. It may be stopped, or the path cut.
    Suspect {
        /// Its channel.
        channel: ChannelInfo,
    },
    /// A producer was heard again.
    Recovered {
        /// Its channel.
        channel: ChannelInfo,
    },
    /// Records did not decode as the consumer's type and were skipped. Told by the receive that skipped them,
    /// perhaps before the event [`Connected`](Self::Connected) of their channel.
    Undecodable {
        /// Their producer.
        producer: PeerId,
        /// How many.
        datums: u64,
    },
}

/// Something that happened to a channel of a [`Producer`](crate::Producer), or to a consumer's wish for one.
///
/// ```
/// use corewire::streams::ProducerEvent;
/// use corewire::{Network, NetworkId};
///
/// let network = Network::new_blocking(NetworkId::random())?;
/// let producer = network.streams().produce::<u64>();
/// let mut events = producer.events();
/// let consumer = network.streams().consume::<u64>();
/// assert!(matches!(events.recv_blocking(), Some(ProducerEvent::Connected { .. })));
/// drop(consumer);
/// assert!(matches!(events.recv_blocking(), Some(ProducerEvent::Closed { .. })));
/// # Ok::<(), corewire::network::NetworkError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ProducerEvent {
    /// A consumer is connected.
    Connected {
        /// Its channel.
        channel: ChannelInfo,
    },
    /// A channel has ended.
    Closed {
        /// The channel.
        channel: ChannelInfo,
        /// Why. [`CloseCode::GRACEFUL`]: the consumer has everything, or left by itself.
        code: CloseCode,
        /// The consumer's place is kept: it may come back and go on there.
        resumable: bool,
    },
    /// A consumer was not let in.
    Refused {
        /// The consumer.
        consumer: PeerId,
        /// Why.
        code: CloseCode,
        /// Whether it will ask again by itself.
        retries: bool,
        /// What differs, with [`CloseCode::TYPE_MISMATCH`].
        mismatch: Option<TypeMismatch>,
    },
    /// Nothing was heard of a consumer for the time of
    /// [`with_suspect_after`](crate::network::SessionSettings::with_suspect_after) (1 s by default), although
    /// something waits for its answer. It may be stopped, or the path cut.
    Suspect {
        /// Its channel.
        channel: ChannelInfo,
    },
    /// A consumer was heard again.
    Recovered {
        /// Its channel.
        channel: ChannelInfo,
    },
    /// Datums that were accepted will not be delivered to a consumer: it was cut off, or stayed away for too
    /// long.
    Undelivered {
        /// The consumer.
        consumer: PeerId,
        /// How many. Those on their way when its channel ended may have arrived.
        datums: u64,
    },
}

/// A kind of event that the engine reports.
pub(crate) trait StreamEvent: Clone + Send + Sync + 'static {
    /// The engine's event as this kind; `None` for one that is not of it.
    fn from_engine(event: &ChannelEvent) -> Option<Self>;
}

impl StreamEvent for ConsumerEvent {
    fn from_engine(event: &ChannelEvent) -> Option<Self> {
        Some(match event {
            ChannelEvent::Connected { channel } => Self::Connected { channel: ChannelInfo::new(channel) },
            ChannelEvent::Closed { channel, code, goes_on } => {
                Self::Closed { channel: ChannelInfo::new(channel), code: *code, retries: *goes_on }
            }
            ChannelEvent::Refused { peer, code, goes_on, mismatch } => Self::Refused {
                producer: peer.0.into(),
                code: *code,
                retries: *goes_on,
                mismatch: mismatch.clone(),
            },
            ChannelEvent::GaveUp { producer } => Self::GaveUp { producer: producer.0.into() },
            ChannelEvent::Suspect { channel } => Self::Suspect { channel: ChannelInfo::new(channel) },
            ChannelEvent::Recovered { channel } => Self::Recovered { channel: ChannelInfo::new(channel) },
            _ => return None,
        })
    }
}

impl StreamEvent for ProducerEvent {
    fn from_engine(event: &ChannelEvent) -> Option<Self> {
        Some(match event {
            ChannelEvent::Connected { channel } => Self::Connected { channel: ChannelInfo::new(channel) },
            ChannelEvent::Closed { channel, code, goes_on } => {
                Self::Closed { channel: ChannelInfo::new(channel), code: *code, resumable: *goes_on }
            }
            ChannelEvent::Refused { peer, code, goes_on, mismatch } => Self::Refused {
                consumer: peer.0.into(),
                code: *code,
                retries: *goes_on,
                mismatch: mismatch.clone(),
            },
            ChannelEvent::Suspect { channel } => Self::Suspect { channel: ChannelInfo::new(channel) },
            ChannelEvent::Recovered { channel } => Self::Recovered { channel: ChannelInfo::new(channel) },
            ChannelEvent::Undelivered { channel, datums } => {
                Self::Undelivered { consumer: channel.consumer_id().0.into(), datums: *datums }
            }
            _ => return None,
        })
    }
}

/// Where the events of one producer or consumer come together. Until the first listener the last
/// [`EVENTS_KEPT`] are kept for it.
pub(crate) struct EventHub<E>(Lock<EventState<E>>);

enum EventState<E> {
    Unheard { kept: VecDeque<E>, dropped: u64 },
    Heard(broadcast::Sender<E>),
}

impl<E> Default for EventHub<E> {
    fn default() -> Self {
        Self(Lock::new(EventState::Unheard { kept: VecDeque::new(), dropped: 0 }))
    }
}

impl<E: StreamEvent> EventHub<E> {
    /// The events from now on; for the first caller also those that were kept.
    pub(crate) fn subscribe(&self) -> Events<E> {
        let mut state = self.0.lock();
        match &mut *state {
            EventState::Heard(sender) => Events { receiver: sender.subscribe(), dropped: 0 },
            EventState::Unheard { kept, dropped } => {
                let sender = broadcast::Sender::new(EVENTS_WAITING);
                let events = Events { receiver: sender.subscribe(), dropped: *dropped };
                for event in kept.drain(..) {
                    // There is a listener.
                    let _ = sender.send(event);
                }
                *state = EventState::Heard(sender);
                events
            }
        }
    }

    /// Reports an event, if there is a listener or may be a first one.
    pub(crate) fn emit(&self, event: impl FnOnce() -> E) {
        let mut state = self.0.lock();
        let sender = match &mut *state {
            EventState::Heard(sender) if sender.receiver_count() == 0 => return,
            EventState::Heard(sender) => sender.clone(),
            EventState::Unheard { kept, dropped } => {
                let is_full = kept.len() == EVENTS_KEPT;
                let gone = if is_full { kept.pop_front() } else { None };
                *dropped += u64::from(is_full);
                kept.push_back(event());
                drop(state);
                return drop(gone);
            }
        };
        drop(state);
        // Without the lock, because it wakes the tasks of listeners. An error means that the last one has
        // just gone.
        contain(|| drop(sender.send(event())));
    }

    /// What the engine is to call. Keeps nothing alive.
    pub(crate) fn hook(self: &Arc<Self>) -> OnEvent {
        let hub = Arc::downgrade(self);
        Arc::new(move |event| {
            if let Some(hub) = Weak::upgrade(&hub)
                && let Some(event) = E::from_engine(&event)
            {
                hub.emit(|| event);
            }
        })
    }
}

/// The events of a producer or consumer from the call on that made it: what happened to its channels, each
/// thing once and in order; only [`ConsumerEvent::Gap`] and [`ConsumerEvent::Undecodable`], which a receive
/// tells, may come before what the engine tells in the same moment. Made by
/// [`Producer::events`](crate::Producer::events) and [`Consumer::events`](crate::Consumer::events). The first
/// one of a stream's end also has what happened since the end was built, up to 16 events, so that none falls
/// between the two calls.
///
/// It holds up to 256 events. When more wait, the oldest are dropped and [counted](Self::dropped).
///
/// ```
/// use corewire::streams::{CloseCode, ConsumerEvent};
/// use corewire::{Network, NetworkId};
///
/// let network = Network::new_blocking(NetworkId::random())?;
/// let mut consumer = network.streams().consume::<u64>();
/// let mut events = consumer.events();
/// let producer = network.streams().produce::<u64>();
/// assert!(matches!(events.recv_blocking(), Some(ConsumerEvent::Connected { .. })));
/// drop(producer);
/// match events.recv_blocking() {
///     Some(ConsumerEvent::Closed { code: CloseCode::GRACEFUL, .. }) => {}
///     other => panic!("{other:?}"),
/// }
/// drop(consumer);
/// assert!(events.recv_blocking().is_none());
/// # Ok::<(), corewire::network::NetworkError>(())
/// ```
pub struct Events<E> {
    receiver: broadcast::Receiver<E>,
    dropped: u64,
}

impl<E: Clone> Events<E> {
    /// Waits for the next event. `None` once the stream is over at this end: its last handle is gone, and of
    /// a producer also its last channel.
    ///
    /// # Cancel safety
    ///
    /// An event is taken in the poll that resolves the future; dropping it before loses none.
    pub async fn recv(&mut self) -> Option<E> {
        loop {
            match self.receiver.recv().await {
                Ok(event) => return Some(event),
                Err(RecvError::Lagged(count)) => self.dropped += count,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// The next event, if there is one.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] or [`TryRecvError::Closed`].
    pub fn try_recv(&mut self) -> Result<E, TryRecvError> {
        loop {
            match self.receiver.try_recv() {
                Ok(event) => return Ok(event),
                Err(NoEvent::Lagged(count)) => self.dropped += count,
                Err(NoEvent::Empty) => return Err(TryRecvError::Empty),
                Err(NoEvent::Closed) => return Err(TryRecvError::Closed),
            }
        }
    }

    /// [`recv`](Self::recv) without an async runtime: parks the thread while it waits.
    pub fn recv_blocking(&mut self) -> Option<E> {
        block_on(self.recv())
    }

    /// [`recv_blocking`](Self::recv_blocking) for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError::Timeout`] or [`RecvTimeoutError::Closed`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<E, RecvTimeoutError> {
        match block_on_timeout(self.recv(), timeout) {
            Some(Some(event)) => Ok(event),
            Some(None) => Err(RecvTimeoutError::Closed),
            None => Err(RecvTimeoutError::Timeout),
        }
    }

    /// Events that were dropped because too many waited. They were older than the next one.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

impl<E> fmt::Debug for Events<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("waiting", &self.receiver.len())
            .field("dropped", &self.dropped)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Wake, Waker};

    use super::*;

    #[test]
    fn events_that_find_no_room_are_dropped_oldest_first_and_counted() {
        let hub = EventHub::<ConsumerEvent>::default();
        let event = |datums| ConsumerEvent::Undecodable { producer: [0; 32].into(), datums };
        drop(hub.subscribe());
        hub.emit(|| unreachable!("there is no listener"));
        let mut events = hub.subscribe();
        let all = EVENTS_WAITING as u64 + 3;
        (0..all).for_each(|number| hub.emit(|| event(number)));
        let first = events.try_recv();
        assert!(matches!(first, Ok(ConsumerEvent::Undecodable { datums: 3, .. })), "{first:?}");
        assert_eq!(events.dropped(), 3);
        drop(hub);
        assert_eq!((4..).map_while(|_| events.recv_blocking()).count() as u64, all - 4);
        assert!(matches!(events.try_recv(), Err(TryRecvError::Closed)));
        let late = events.recv_timeout(Duration::from_secs(9));
        assert!(matches!(late, Err(RecvTimeoutError::Closed)), "{late:?}");
    }

    /// A waker that emits another event and panics.
    struct EmittingWaker(Arc<EventHub<ConsumerEvent>>);

    impl Wake for EmittingWaker {
        fn wake(self: Arc<Self>) {
            self.0.emit(|| ConsumerEvent::Undecodable { producer: [0; 32].into(), datums: 2 });
            panic!("the executor's defect");
        }
    }

    #[test]
    fn wakers_of_listeners_may_emit_and_panic() {
        let numbers = corewire_testkit::in_time(|| {
            let hub = Arc::new(EventHub::<ConsumerEvent>::default());
            let mut events = hub.subscribe();
            let waker = Waker::from(Arc::new(EmittingWaker(hub.clone())));
            let first = {
                let mut received = pin!(events.recv());
                assert!(received.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
                hub.emit(|| ConsumerEvent::Undecodable { producer: [0; 32].into(), datums: 1 });
                match received.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(first) => first,
                    Poll::Pending => panic!("the event was sent"),
                }
            };
            [first, events.try_recv().ok()].map(|event| match event {
                Some(ConsumerEvent::Undecodable { datums, .. }) => datums,
                other => panic!("{other:?}"),
            })
        });
        assert_eq!(numbers, [1, 2]);
    }

    #[test]
    fn first_listener_gets_what_was_kept_for_it() {
        let hub = EventHub::<ConsumerEvent>::default();
        let event = |datums| ConsumerEvent::Undecodable { producer: [0; 32].into(), datums };
        let all = EVENTS_KEPT as u64 + 2;
        (0..all).for_each(|number| hub.emit(|| event(number)));
        let (mut first, mut second) = (hub.subscribe(), hub.subscribe());
        hub.emit(|| event(all));
        for number in 2..=all {
            let told = first.try_recv();
            assert!(
                matches!(told, Ok(ConsumerEvent::Undecodable { datums, .. }) if datums == number),
                "{told:?}"
            );
        }
        assert_eq!((first.dropped(), second.dropped()), (2, 0));
        let told = second.try_recv();
        assert!(matches!(told, Ok(ConsumerEvent::Undecodable { datums, .. }) if datums == all), "{told:?}");
    }
}
