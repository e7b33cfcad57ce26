//! Sending into a raw channel.

use core::task::{Context, Poll};
use core::time::Duration;

use bytes::Bytes;
use corewire_rings::{ClaimError, RecordClaim, RingConfig, WaitTicket};

use super::StreamError;
use super::shared::RawShared;
use crate::blocking::{block_on_timeout, flush};

/// Room for a payload, or why there is none.
type Claimed<'ring> = Result<RecordClaim<'ring>, ClaimError>;

/// How soon the oldest payload is looked at again that could not be dropped because it was being sent.
const PINNED_PAUSE: Duration = Duration::from_micros(50);

impl RawShared {
    /// Puts all of `payloads` into the ring, or none.
    pub(super) fn try_send(&self, payloads: &[Bytes]) -> Result<(), StreamError> {
        if !self.is_connected() {
            return Err(StreamError::NotConnected);
        }
        self.check_lengths(payloads)?;
        if self.config.drops_oldest() {
            for payload in payloads {
                self.put(self.claim_evicting(payload.len()), payload)?;
            }
        } else {
            let (first, rest) = self.claim_all(payloads)?;
            for (claim, payload) in first.into_iter().chain(rest).zip(payloads) {
                self.put(claim, payload)?;
            }
        }
        self.sent();
        Ok(())
    }

    /// Room for all of `payloads`, in this order, or for none.
    fn claim_all(&self, payloads: &[Bytes]) -> Result<(Option<Claimed<'_>>, Vec<Claimed<'_>>), StreamError> {
        let _order = self.sending.lock();
        if !self.has_room(payloads) {
            self.publication.note_full();
            self.backpressure_events.add_one();
            return Err(StreamError::Backpressure);
        }
        let mut claims = payloads.iter().map(|payload| self.writer.try_claim(payload.len()));
        // A single payload allocates nothing.
        Ok((claims.next(), claims.collect()))
    }

    /// Fills and publishes a claim. Without the lock: it wakes tasks of the user's, which may use this
    /// channel.
    fn put(&self, claim: Claimed<'_>, payload: &Bytes) -> Result<(), StreamError> {
        let mut claim = claim.map_err(|error| self.refusal(error))?;
        claim.copy_from_slice(payload);
        claim.commit();
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
        let polled = self.writer.poll_claim(ticket, payload.len(), cx);
        drop(order);
        match polled {
            Poll::Ready(claim) => {
                self.put(claim, payload)?;
                self.sent();
                Poll::Ready(Ok(()))
            }
            Poll::Pending => {
                // Woken when the peer goes, too.
                self.state.waiters.add(cx.waker());
                self.publication.note_full();
                Poll::Pending
            }
        }
    }

    /// Room for one payload, which the oldest ones make if there is none. While a shard copies the oldest
    /// ones, which takes a turn of it at most, the thread waits for that.
    fn claim_evicting(&self, len: usize) -> Claimed<'_> {
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
    use core::task::{Context, Waker};
    use std::sync::Arc;
    use std::task::Wake;

    use corewire_rings::sync::AtomicFlag;
    use corewire_testkit::in_time;

    use crate::raw::{RawStream, Reliability, StreamConfig, StreamError};
    use crate::{Network, NetworkId, PeerId};

    /// Sends into the channel once when it is woken.
    struct SendAgain {
        stream: RawStream,
        woken: AtomicFlag,
    }

    impl Wake for SendAgain {
        fn wake(self: Arc<Self>) {
            if !self.woken.set(true) {
                self.stream.try_send("again").expect("there is room");
            }
        }
    }

    type SendForm = fn(&RawStream) -> Result<(), StreamError>;

    #[test]
    fn task_that_a_payload_wakes_may_send_itself() {
        for reliability in [Reliability::Reliable, Reliability::FireAndForget] {
            in_time(move || {
                let here = Network::new_blocking(NetworkId::random()).expect("a node");
                let open = StreamConfig::new().with_window_bytes(0).with_reliability(reliability);
                let stream = here.open_stream(PeerId::random(), 1, open).expect("it opens");
                // The hooks change it only when something about the channel does.
                stream.shared.state.connected.set(true);
                let mut peer = stream.shared.ring().subscribe().expect("a cursor");
                let sends = || Arc::new(SendAgain { stream: stream.clone(), woken: AtomicFlag::default() });
                let forms: [SendForm; 2] =
                    [|stream| stream.try_send("one"), |stream| stream.send_blocking("one")];
                for send in forms {
                    let waker = Waker::from(sends());
                    assert!(peer.poll_ready(&mut Context::from_waker(&waker)).is_pending());
                    assert_eq!(send(&stream), Ok(()));
                    for expected in ["one", "again"] {
                        assert_eq!(
                            &*peer.try_recv().expect("it is open").expect("a payload"),
                            expected.as_bytes()
                        );
                    }
                }
            });
        }
    }

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
