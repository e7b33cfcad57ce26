//! Sending into a raw channel.

use core::task::{Context, Poll};
use core::time::Duration;

use bytes::Bytes;
use corewire_rings::{ClaimError, RecordClaim, RingConfig, WaitTicket};

use super::StreamError;
use super::shared::RawShared;
use crate::blocking::{block_on_timeout, flush};

/// How soon the oldest payload is looked at again that could not be dropped because it was being sent.
const PINNED_PAUSE: Duration = Duration::from_micros(50);

impl RawShared {
    /// Puts all of `payloads` into the ring, or none.
    pub(super) fn try_send(&self, payloads: &[Bytes]) -> Result<(), StreamError> {
        let order = self.sending.lock();
        if !self.is_connected() {
            return Err(StreamError::NotConnected);
        }
        self.check_lengths(payloads)?;
        if !self.config.drops_oldest() && !self.has_room(payloads) {
            self.publication.note_full();
            self.backpressure_events.add_one();
            return Err(StreamError::Backpressure);
        }
        for payload in payloads {
            let mut claim = self.claim(payload.len()).map_err(|error| self.refusal(error))?;
            claim.copy_from_slice(payload);
            claim.commit();
        }
        drop(order);
        self.sent();
        Ok(())
    }

    /// Puts one payload into the ring once the peer is there and there is room.
    pub(super) fn poll_send(
        &self,
        payload: &Bytes,
        ticket: &mut WaitTicket,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), StreamError>> {
        self.check_lengths(std::slice::from_ref(payload))?;
        match self.poll_connected(cx) {
            Poll::Ready(Ok(())) => {}
            other => {
                // One that waits for the peer does not stop those that wait for room.
                ticket.cancel();
                return other;
            }
        }
        if self.config.drops_oldest() {
            return Poll::Ready(self.try_send(std::slice::from_ref(payload)));
        }
        let order = self.sending.lock();
        match self.writer.poll_claim(ticket, payload.len(), cx) {
            Poll::Ready(Ok(mut claim)) => {
                claim.copy_from_slice(payload);
                claim.commit();
                drop(order);
                self.sent();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.refusal(error))),
            Poll::Pending => {
                // Woken when the peer goes, too.
                self.state.waiters.add(cx.waker());
                self.publication.note_full();
                Poll::Pending
            }
        }
    }

    /// Room for one payload, if there is any or the oldest payloads make it. While a shard copies the oldest
    /// ones, which takes a turn of it at most, the thread waits for that.
    fn claim(&self, len: usize) -> Result<RecordClaim<'_>, ClaimError> {
        if !self.config.drops_oldest() {
            return self.writer.try_claim(len);
        }
        loop {
            match self.writer.claim_evicting(len, |_, _| {}) {
                Err(ClaimError::Full) => {}
                done => return done,
            }
            // The shard may also leave the oldest one unsent, and then wakes no writer.
            if let Some(done) = block_on_timeout(self.writer.claim(len), PINNED_PAUSE) {
                return done;
            }
        }
    }

    fn sent(&self) {
        self.activity.touch();
        flush(1);
    }

    fn check_lengths(&self, payloads: &[Bytes]) -> Result<(), StreamError> {
        let limit = self.config.max_payload();
        match payloads.iter().map(Bytes::len).find(|len| *len > limit) {
            Some(len) => Err(StreamError::Transport(format!(
                "a payload of {len} bytes is longer than the channel's limit of {limit}: split it, or open the \
                 channel with a larger window"
            ))),
            None => Ok(()),
        }
    }

    fn has_room(&self, payloads: &[Bytes]) -> bool {
        let (slots, bytes) = self.ring().room();
        let cost: usize = payloads.iter().map(|payload| RingConfig::cost(payload.len())).sum();
        payloads.len() <= slots && cost <= bytes && self.ring().waiting_writers() == 0
    }

    fn refusal(&self, error: ClaimError) -> StreamError {
        match error {
            ClaimError::Closed => StreamError::NotConnected,
            ClaimError::Full | ClaimError::TooManyWaiters => {
                self.backpressure_events.add_one();
                StreamError::Backpressure
            }
            other => StreamError::Transport(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::raw::{Reliability, StreamConfig, StreamError};
    use crate::{Network, NetworkId, PeerId};

    #[test]
    fn a_send_without_a_window_waits_while_the_oldest_is_being_sent() {
        let here = Network::new_blocking(NetworkId::random()).expect("a node");
        let open = StreamConfig::new().with_window_bytes(0);
        let stream = here.open_stream(PeerId::random(), 1, open).expect("it opens");
        let shared = &stream.shared;
        let mut shard = shared.ring().subscribe().expect("a cursor");
        // The hooks change it only when something about the channel does.
        shared.state.connected.set(true);
        while shared.ring().room().1 >= open.max_payload() {
            stream.try_send(vec![1; open.max_payload()]).expect("there is room");
        }
        let oldest = shard.try_recv().expect("it is open").expect("a payload");
        std::thread::scope(|scope| {
            let sent = scope.spawn(|| stream.try_send(vec![2; open.max_payload()]));
            // It waits for room instead of trying on and on.
            while shared.ring().waiting_writers() == 0 && !sent.is_finished() {
                std::thread::yield_now();
            }
            assert!(!sent.is_finished(), "{:?}", sent.join());
            drop(oldest);
            assert_eq!(sent.join().expect("it does not panic"), Ok(()));
        });
        assert_eq!(stream.stats().backpressure_events, 0);
    }

    #[test]
    fn a_reliable_channel_without_a_window_refuses_what_64_mib_do_not_hold() {
        let here = Network::new_blocking(NetworkId::random()).expect("a node");
        let open = StreamConfig::new().with_window_bytes(0).with_reliability(Reliability::Reliable);
        let stream = here.open_stream(PeerId::random(), 1, open).expect("it opens");
        let _shard = stream.shared.ring().subscribe().expect("a cursor");
        // The hooks change it only when something about the channel does.
        stream.shared.state.connected.set(true);
        let payload = bytes::Bytes::from(vec![1; open.max_payload()]);
        for _ in 0..64 {
            stream.try_send(payload.clone()).expect("there is room");
        }
        assert_eq!(stream.try_send(payload.clone()), Err(StreamError::Backpressure));
        assert_eq!(stream.try_send_many(&[payload]), Err(StreamError::Backpressure));
        assert_eq!(stream.stats().backpressure_events, 2);
    }
}
