//! What a producer does besides for consumers that choose: keys behind its datums, and the sink for datums
//! that no consumer wants.

use core::any::Any;
use std::sync::mpsc as std_mpsc;

use corewire_engine::criteria::{KEY_ROOM, KeyKind, MAX_KEY_BYTES};
use tokio::sync::mpsc;

use super::shared::{ProducerCore, Refusal};
use crate::contain::contain;
use crate::datum::{Codec, EncodeError, to_vec};
use crate::streams::StreamKey;
use crate::streams::channel::ChannelInfo;

/// What is written behind a datum: its key, and the key's length. Empty in a stream without keys.
pub(super) struct KeyTail {
    bytes: [u8; KEY_ROOM],
    len: usize,
}

impl KeyTail {
    const NONE: Self = Self { bytes: [0; KEY_ROOM], len: 0 };

    fn of_key(key: &[u8]) -> Result<Self, EncodeError> {
        let mut tail = Self::NONE;
        let Some(room) = tail.bytes.get_mut(..key.len()).filter(|room| room.len() <= MAX_KEY_BYTES) else {
            return Err(EncodeError::custom(format_args!(
                "its key is {} bytes long, and at most {MAX_KEY_BYTES} are possible: let the key function of \
                 `with_key` give a shorter one, or a hash of it",
                key.len()
            )));
        };
        room.copy_from_slice(key);
        tail.bytes[key.len()] = key.len() as u8;
        tail.len = key.len() + 1;
        Ok(tail)
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn key(&self) -> &[u8] {
        &self.bytes[..self.len.saturating_sub(1)]
    }
}

/// Takes the key out of a datum.
type KeyFunction<D> = dyn Fn(&D) -> Result<KeyTail, EncodeError> + Send + Sync;

/// A key function whose datum type is erased: the state that handles share does not name it.
pub(crate) struct AnyKey {
    pub(crate) kind: KeyKind,
    function: Box<dyn Any + Send + Sync>,
}

impl AnyKey {
    pub(super) fn new<D: 'static, K: StreamKey>(key: impl Fn(&D) -> K + Send + Sync + 'static) -> Self {
        let function = move |datum: &D| {
            let key = contain(|| key(datum));
            let key = key.ok_or_else(|| EncodeError::custom("the key function of `with_key` panicked"))?;
            key.with_bytes(KeyTail::of_key)
        };
        let function: Box<KeyFunction<D>> = Box::new(function);
        Self { kind: K::KIND, function: Box::new(function) }
    }
}

/// Where datums go that no consumer wants: a sender of tokio or of the standard library, or a function.
/// Called on the thread that sends; it should not wait.
pub trait UndeliveredSink<D>: Send + Sync + 'static {
    /// Takes the datum. `false`: there was no room, or the other end is gone; the datum is lost and
    /// [counted](super::Stats::undelivered_lost).
    fn give(&self, datum: D) -> bool;
}

impl<D: Send + 'static> UndeliveredSink<D> for mpsc::UnboundedSender<D> {
    fn give(&self, datum: D) -> bool {
        self.send(datum).is_ok()
    }
}

impl<D: Send + 'static> UndeliveredSink<D> for mpsc::Sender<D> {
    fn give(&self, datum: D) -> bool {
        self.try_send(datum).is_ok()
    }
}

impl<D: Send + 'static> UndeliveredSink<D> for std_mpsc::Sender<D> {
    fn give(&self, datum: D) -> bool {
        self.send(datum).is_ok()
    }
}

impl<D: Send + 'static> UndeliveredSink<D> for std_mpsc::SyncSender<D> {
    fn give(&self, datum: D) -> bool {
        self.try_send(datum).is_ok()
    }
}

impl<D, F: Fn(D) + Send + Sync + 'static> UndeliveredSink<D> for F {
    fn give(&self, datum: D) -> bool {
        self(datum);
        true
    }
}

/// An undelivered sink whose datum type is erased.
pub(crate) struct AnySink(Box<dyn Any + Send + Sync>);

impl AnySink {
    pub(super) fn new<D: 'static>(sink: impl UndeliveredSink<D>) -> Self {
        let sink: Box<dyn UndeliveredSink<D>> = Box::new(sink);
        Self(Box::new(sink))
    }
}

/// What a producer has of both.
#[derive(Default)]
pub(crate) struct Selecting {
    pub(crate) key: Option<AnyKey>,
    pub(crate) sink: Option<AnySink>,
}

impl Selecting {
    /// Whether a send has to do more than to put the datum into the ring.
    pub(super) fn is_any(&self) -> bool {
        self.key.is_some() || self.sink.is_some()
    }
}

impl ProducerCore {
    /// What is to be written behind `datum`.
    pub(super) fn tail<D: 'static>(&self, datum: &D) -> Result<KeyTail, EncodeError> {
        let key = self.shared.selecting.key.as_ref();
        match key.and_then(|key| key.function.downcast_ref::<Box<KeyFunction<D>>>()) {
            Some(function) => function(datum),
            None => Ok(KeyTail::NONE),
        }
    }

    /// The record of `datum`: its encoded form, and its key.
    pub(super) fn record<D: 'static, C: Codec<D>>(&self, datum: &D) -> Result<Vec<u8>, EncodeError> {
        let mut bytes = to_vec::<D, C>(datum)?;
        bytes.extend_from_slice(self.tail(datum)?.as_slice());
        Ok(bytes)
    }

    /// Refuses a datum of `len` encoded bytes that is longer than the stream carries: the ring's limit has
    /// room for a key.
    pub(super) fn check_len(&self, len: usize) -> Result<(), Refusal> {
        let limit = self.publication.spec().max_datum;
        if len > limit { Err(Refusal::TooLarge(limit)) } else { Ok(()) }
    }

    /// The datum has entered the ring: gives it to the undelivered sink if no consumer wants it.
    #[inline]
    pub(super) fn sent<D: 'static>(&self, datum: D) {
        if self.selects() {
            self.give_unwanted(|| Some(datum));
        }
    }

    /// As [`sent`](Self::sent) for a datum of which the caller keeps the original.
    pub(super) fn sent_copy<D: 'static, C: Codec<D>>(&self, datum: &D) {
        if self.selects() {
            self.give_unwanted(|| C::decode(&to_vec::<D, C>(datum).ok()?).ok());
        }
    }

    #[cold]
    #[inline(never)]
    fn give_unwanted<D: 'static>(&self, datum: impl FnOnce() -> Option<D>) {
        let sink = self.shared.selecting.sink.as_ref();
        let Some(sink) = sink.and_then(|sink| sink.0.downcast_ref::<Box<dyn UndeliveredSink<D>>>()) else {
            return;
        };
        let channels = self.shared.status.channels();
        let connected = || channels.iter().filter(|channel| channel.is_connected());
        let Some(datum) = (if connected().any(ChannelInfo::wants_all) { None } else { datum() }) else {
            return;
        };
        let wanted = contain(|| self.tail(&datum)).and_then(Result::ok).is_some_and(|tail| {
            let key = Some(tail.key());
            connected().any(|channel| channel.wants(key))
        });
        if wanted {
            return;
        }
        let counters = &self.shared.counters;
        match contain(|| sink.give(datum)) {
            Some(true) => counters.undelivered.add_one(),
            Some(false) | None => counters.undelivered_lost.add_one(),
        }
    }
}
