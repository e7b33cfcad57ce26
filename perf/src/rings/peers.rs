//! The peers, each through its public interface, one adapter a peer.

use crossbeam_channel as channel;
use disruptor::{BusySpin, EventPoller};
use iceoryx2::prelude::*;
use iceoryx2::service::local_threadsafe;

use super::{Message, Rx, Tx};

/// Makes a queue for `readers` receivers, each of which must see every message.
pub trait Broadcast<const W: usize> {
    /// Its sending side.
    type Tx: Tx<W>;
    /// Its receiving side.
    type Rx: Rx<W>;
    /// One sender and `readers` receivers over a queue of `capacity` messages.
    fn make(capacity: usize, readers: usize) -> (Self::Tx, Vec<Self::Rx>);
}

/// `rtrb`: one writer, one reader; several readers are several queues and one copy each.
pub struct Rtrb;
/// Senders of [`Rtrb`].
pub struct RtrbTx<const W: usize>(Vec<rtrb::Producer<Message<W>>>);
/// Receiver of [`Rtrb`].
pub struct RtrbRx<const W: usize>(rtrb::Consumer<Message<W>>);

impl<const W: usize> Broadcast<W> for Rtrb {
    type Tx = RtrbTx<W>;
    type Rx = RtrbRx<W>;
    fn make(capacity: usize, readers: usize) -> (Self::Tx, Vec<Self::Rx>) {
        let (txs, rxs): (Vec<_>, Vec<_>) = (0..readers).map(|_| rtrb::RingBuffer::new(capacity)).unzip();
        (RtrbTx(txs), rxs.into_iter().map(RtrbRx).collect())
    }
}

impl<const W: usize> Tx<W> for RtrbTx<W> {
    #[inline(always)]
    fn try_send(&mut self, message: &Message<W>) -> bool {
        if self.0.iter().any(rtrb::Producer::is_full) {
            return false;
        }
        self.0.iter_mut().all(|tx| tx.push(*message).is_ok())
    }

    #[inline(always)]
    fn try_send_batch(&mut self, sender: u64, first: u64, n: usize) -> usize {
        let room = self.0.iter().map(rtrb::Producer::slots).min().unwrap_or(0).min(n);
        for tx in &mut self.0 {
            if let Ok(chunk) = tx.write_chunk_uninit(room) {
                chunk.fill_from_iter((0..room).map(|i| Message::new(sender, first + i as u64)));
            }
        }
        room
    }
}

impl<const W: usize> Rx<W> for RtrbRx<W> {
    #[inline(always)]
    fn drain(&mut self, max: usize, mut see: impl FnMut(&Message<W>)) -> usize {
        let n = self.0.slots().min(max);
        let Ok(chunk) = self.0.read_chunk(n) else { return 0 };
        let (front, back) = chunk.as_slices();
        front.iter().chain(back).for_each(&mut see);
        chunk.commit_all();
        n
    }
}

/// `crossbeam-channel`, bounded, one for each receiver.
pub struct Crossbeam;
/// Senders of [`Crossbeam`].
#[derive(Clone)]
pub struct CrossbeamTx<const W: usize>(Vec<channel::Sender<Message<W>>>);
/// Receiver of [`Crossbeam`].
pub struct CrossbeamRx<const W: usize>(channel::Receiver<Message<W>>);

impl<const W: usize> Broadcast<W> for Crossbeam {
    type Tx = CrossbeamTx<W>;
    type Rx = CrossbeamRx<W>;
    fn make(capacity: usize, readers: usize) -> (Self::Tx, Vec<Self::Rx>) {
        let (txs, rxs): (Vec<_>, Vec<_>) = (0..readers).map(|_| channel::bounded(capacity)).unzip();
        (CrossbeamTx(txs), rxs.into_iter().map(CrossbeamRx).collect())
    }
}

impl<const W: usize> Tx<W> for CrossbeamTx<W> {
    #[inline(always)]
    fn try_send(&mut self, message: &Message<W>) -> bool {
        // Several senders may fill a channel between the look and the send; the message must then still reach
        // every receiver, so the rest waits.
        if self.0.iter().any(channel::Sender::is_full) {
            return false;
        }
        for tx in &self.0 {
            let mut message = *message;
            while let Err(channel::TrySendError::Full(back)) = tx.try_send(message) {
                message = back;
                std::thread::yield_now();
            }
        }
        true
    }
}

impl<const W: usize> Rx<W> for CrossbeamRx<W> {
    #[inline(always)]
    fn drain(&mut self, max: usize, mut see: impl FnMut(&Message<W>)) -> usize {
        self.0.try_iter().take(max).map(|message| see(&message)).count()
    }
}

/// `tokio::sync::broadcast`: never blocks the sender, so its receivers lose when they are slow.
pub struct TokioBroadcast;
/// Sender of [`TokioBroadcast`].
pub struct TokioTx<const W: usize>(tokio::sync::broadcast::Sender<Message<W>>);
/// Receiver of [`TokioBroadcast`].
pub struct TokioRx<const W: usize>(tokio::sync::broadcast::Receiver<Message<W>>, u64);

impl<const W: usize> Broadcast<W> for TokioBroadcast {
    type Tx = TokioTx<W>;
    type Rx = TokioRx<W>;
    fn make(capacity: usize, readers: usize) -> (Self::Tx, Vec<Self::Rx>) {
        let (tx, _) = tokio::sync::broadcast::channel(capacity);
        let rxs = (0..readers).map(|_| TokioRx(tx.subscribe(), 0)).collect();
        (TokioTx(tx), rxs)
    }
}

impl<const W: usize> Tx<W> for TokioTx<W> {
    #[inline(always)]
    fn try_send(&mut self, message: &Message<W>) -> bool {
        self.0.send(*message).is_ok()
    }
}

impl<const W: usize> Rx<W> for TokioRx<W> {
    #[inline(always)]
    fn drain(&mut self, max: usize, mut see: impl FnMut(&Message<W>)) -> usize {
        use tokio::sync::broadcast::error::TryRecvError;
        let mut took = 0;
        while took < max {
            match self.0.try_recv() {
                Ok(message) => {
                    see(&message);
                    took += 1;
                }
                Err(TryRecvError::Lagged(n)) => self.1 += n,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        took
    }

    fn lost(&self) -> u64 {
        self.1
    }
}

/// `async-broadcast`, without overflow: the sender is refused when it is full.
pub struct AsyncBroadcast;
/// Sender of [`AsyncBroadcast`].
pub struct AsyncTx<const W: usize>(async_broadcast::Sender<Message<W>>);
/// Receiver of [`AsyncBroadcast`].
pub struct AsyncRx<const W: usize>(async_broadcast::Receiver<Message<W>>);

impl<const W: usize> Broadcast<W> for AsyncBroadcast {
    type Tx = AsyncTx<W>;
    type Rx = AsyncRx<W>;
    fn make(capacity: usize, readers: usize) -> (Self::Tx, Vec<Self::Rx>) {
        let (tx, rx) = async_broadcast::broadcast(capacity);
        let mut rxs: Vec<_> = (1..readers).map(|_| AsyncRx(rx.clone())).collect();
        rxs.push(AsyncRx(rx));
        (AsyncTx(tx), rxs)
    }
}

impl<const W: usize> Tx<W> for AsyncTx<W> {
    #[inline(always)]
    fn try_send(&mut self, message: &Message<W>) -> bool {
        self.0.try_broadcast(*message).is_ok()
    }
}

impl<const W: usize> Rx<W> for AsyncRx<W> {
    #[inline(always)]
    fn drain(&mut self, max: usize, mut see: impl FnMut(&Message<W>)) -> usize {
        let mut took = 0;
        while took < max {
            let Ok(message) = self.0.try_recv() else { break };
            see(&message);
            took += 1;
        }
        took
    }
}

/// `disruptor` with one producer and its polling interface; its consumers are fixed when it is built.
pub struct Disruptor;
/// Sender of [`Disruptor`] and [`DisruptorMany`].
pub struct DisruptorTx<P>(P);
/// Receiver of [`Disruptor`] and [`DisruptorMany`].
pub struct DisruptorRx<const W: usize, B>(EventPoller<Message<W>, B>);

impl<const W: usize, P: disruptor::Producer<Message<W>> + Send + 'static> Tx<W> for DisruptorTx<P> {
    #[inline(always)]
    fn try_send(&mut self, message: &Message<W>) -> bool {
        self.0.try_publish(|slot| *slot = *message).is_ok()
    }

    #[inline(always)]
    fn try_send_batch(&mut self, sender: u64, first: u64, n: usize) -> usize {
        let filled = self.0.try_batch_publish(n, |slots| {
            for (i, slot) in slots.enumerate() {
                *slot = Message::new(sender, first + i as u64);
            }
        });
        if filled.is_ok() { n } else { 0 }
    }
}

macro_rules! disruptor_rx {
    ($barrier:ty) => {
        impl<const W: usize> Rx<W> for DisruptorRx<W, $barrier> {
            #[inline(always)]
            fn drain(&mut self, max: usize, mut see: impl FnMut(&Message<W>)) -> usize {
                let Ok(mut guard) = self.0.take(max as u64) else { return 0 };
                (&mut guard).map(|message| see(message)).count()
            }
        }
    };
}
disruptor_rx!(disruptor::SingleProducerBarrier);
disruptor_rx!(disruptor::MultiProducerBarrier);

/// What a disruptor run is made of: its senders and its receivers.
pub type Pair<T, const W: usize, B> = (Vec<T>, Vec<DisruptorRx<W, B>>);

impl Disruptor {
    /// One producer and one consumer.
    pub fn one<const W: usize>(
        capacity: usize,
    ) -> Pair<impl Tx<W> + use<W>, W, disruptor::SingleProducerBarrier> {
        let builder = disruptor::build_single_producer(capacity, Message::<W>::default, BusySpin);
        let (poller, builder) = builder.new_event_poller();
        (vec![DisruptorTx(builder.build())], vec![DisruptorRx(poller)])
    }

    /// One producer and `readers >= 2` consumers.
    pub fn many<const W: usize>(
        capacity: usize,
        readers: usize,
    ) -> Pair<impl Tx<W> + use<W>, W, disruptor::SingleProducerBarrier> {
        let builder = disruptor::build_single_producer(capacity, Message::<W>::default, BusySpin);
        let (first, builder) = builder.new_event_poller();
        let (second, mut builder) = builder.new_event_poller();
        let mut pollers = vec![DisruptorRx(first), DisruptorRx(second)];
        for _ in 2..readers {
            let (poller, next) = builder.new_event_poller();
            pollers.push(DisruptorRx(poller));
            builder = next;
        }
        (vec![DisruptorTx(builder.build())], pollers)
    }

    /// `writers` producers and one consumer.
    pub fn from_many<const W: usize>(
        capacity: usize,
        writers: usize,
    ) -> Pair<impl Tx<W> + use<W>, W, disruptor::MultiProducerBarrier> {
        let builder = disruptor::build_multi_producer(capacity, Message::<W>::default, BusySpin);
        let (poller, builder) = builder.new_event_poller();
        let producer = builder.build();
        ((0..writers).map(|_| DisruptorTx(producer.clone())).collect(), vec![DisruptorRx(poller)])
    }
}

/// `iceoryx2` inside one process, overflow off, so that the sender is refused when a receiver is full.
pub struct Iceoryx;
/// Sender of [`Iceoryx`].
pub struct IceoryxTx<const W: usize>(
    iceoryx2::port::publisher::Publisher<local_threadsafe::Service, [u64; W], ()>,
);
/// Receiver of [`Iceoryx`].
pub struct IceoryxRx<const W: usize>(
    iceoryx2::port::subscriber::Subscriber<local_threadsafe::Service, [u64; W], ()>,
);

impl<const W: usize> Broadcast<W> for Iceoryx {
    type Tx = IceoryxTx<W>;
    type Rx = IceoryxRx<W>;
    fn make(capacity: usize, readers: usize) -> (Self::Tx, Vec<Self::Rx>) {
        use std::sync::atomic::{AtomicU64, Ordering};
        static SERVICES: AtomicU64 = AtomicU64::new(0);
        let name = format!("ring-comparison-{}", SERVICES.fetch_add(1, Ordering::Relaxed));
        let node = NodeBuilder::new().create::<local_threadsafe::Service>().expect("a node");
        let service = node
            .service_builder(&name.as_str().try_into().expect("a service name"))
            .publish_subscribe::<[u64; W]>()
            .enable_safe_overflow(false)
            .subscriber_max_buffer_size(capacity)
            .history_size(0)
            .max_publishers(1)
            .max_subscribers(readers)
            .create()
            .expect("a service");
        let publisher = service
            .publisher_builder()
            .backpressure_strategy(BackpressureStrategy::DiscardData)
            .create()
            .expect("a publisher");
        let subscribers = (0..readers)
            .map(|_| IceoryxRx(service.subscriber_builder().create().expect("a subscriber")))
            .collect();
        (IceoryxTx(publisher), subscribers)
    }
}

impl<const W: usize> Tx<W> for IceoryxTx<W> {
    #[inline(always)]
    fn try_send(&mut self, message: &Message<W>) -> bool {
        let Ok(sample) = self.0.loan_uninit() else { return false };
        // The send succeeds even if a full receiver discarded it; the result counts receivers.
        sample.write_payload(message.0).send().is_ok_and(|reached| reached > 0)
    }
}

impl<const W: usize> Rx<W> for IceoryxRx<W> {
    #[inline(always)]
    fn drain(&mut self, max: usize, mut see: impl FnMut(&Message<W>)) -> usize {
        let mut took = 0;
        while took < max {
            let Ok(Some(sample)) = self.0.receive() else { break };
            see(&Message(*sample));
            took += 1;
        }
        took
    }
}
