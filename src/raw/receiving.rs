//! Receiving from a raw channel.

use core::task::{Context, Poll, Waker};

use bytes::Bytes;
use corewire_engine::CloseCode;
use corewire_engine::publication::Channels;
use corewire_engine::subscription::{Leg, Subscription};
use corewire_rings::RecvError;
use corewire_rings::sync::LockGuard;

use super::StreamError;
use super::shared::RawShared;

/// A payload, its sequence, and how many the peer sent and this side did not get since the one before.
pub(super) type Numbered = (Bytes, u64, u64);

/// The receiving half.
pub(super) struct Receiving {
    /// `None` once the channel was closed here.
    subscription: Option<Subscription>,
    /// The channel of the peer's direction that is read.
    leg: Option<Leg>,
    /// Payloads and bytes taken from it, for the counters of a channel within one engine.
    taken: (u64, u64),
    /// The sequence behind the last payload that was taken since the peer opened the channel.
    next: u64,
    /// Payloads of the peer that did not arrive, as far as it is known.
    lost: u64,
}

impl RawShared {
    /// The next payload, if one is there. Without a context nothing is registered.
    pub(super) fn poll_receive(&self, cx: Option<&Context<'_>>) -> Poll<Result<Numbered, StreamError>> {
        if let Some(cx) = cx {
            self.receivers.add(cx.waker());
        }
        let all = Waker::from(self.receivers.clone());
        let mut receiving = self.receiving.lock();
        let polled = receiving.poll(&mut Context::from_waker(&all));
        if polled.is_pending() && receiving.leg.as_ref().is_some_and(|leg| leg.inbox().is_finished()) {
            // The shard closes an inbox before it says why.
            self.state.waiters.add(&all);
            let polled = receiving.poll(&mut Context::from_waker(&all));
            return self.received(receiving, polled);
        }
        self.received(receiving, polled)
    }

    fn received(
        &self,
        receiving: LockGuard<'_, Receiving>,
        polled: Poll<Result<Numbered, StreamError>>,
    ) -> Poll<Result<Numbered, StreamError>> {
        drop(receiving);
        if matches!(polled, Poll::Ready(Ok(_))) {
            self.activity.touch();
        }
        polled
    }
}

impl Receiving {
    pub(super) fn new(subscription: Subscription) -> Self {
        Self { subscription: Some(subscription), leg: None, taken: (0, 0), next: 0, lost: 0 }
    }

    /// Nothing is received any more. The caller drops what it gets without the lock, or gives it up.
    pub(super) fn end(&mut self) -> Option<(Option<Leg>, Subscription)> {
        Some((self.leg.take(), self.subscription.take()?))
    }

    /// The channels of the peer's direction; `None` once closed.
    pub(super) fn channels(&self) -> Option<Channels> {
        self.subscription.as_ref().map(Subscription::channels)
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Numbered, StreamError>> {
        loop {
            if !self.take_leg(Some(cx))? {
                return Poll::Pending;
            }
            let Some(leg) = &mut self.leg else { return Poll::Pending };
            let taken =
                leg.inbox_mut().try_take(|seq, lost, bytes| (Bytes::copy_from_slice(bytes), seq, lost));
            match taken {
                Ok(Some(payload)) => {
                    self.count(&payload);
                    return Poll::Ready(Ok(payload));
                }
                Ok(None) if leg.inbox_mut().poll_ready(cx).is_pending() => return Poll::Pending,
                Ok(None) => {}
                Err(RecvError::Closed | RecvError::Detached) => {
                    let Some(code) = leg.channel().shared().close_code() else { return Poll::Pending };
                    self.lost = self.lost.saturating_add(leg.inbox().missing_at_end());
                    self.leg = None;
                    if matches!(code, CloseCode::GRACEFUL | CloseCode::ABORTED | CloseCode::DISCARDED) {
                        self.next = 0;
                        return Poll::Ready(Err(StreamError::NotConnected));
                    }
                }
            }
        }
    }

    /// Makes sure that there is a leg; `false` when there is none yet.
    fn take_leg(&mut self, cx: Option<&mut Context<'_>>) -> Result<bool, StreamError> {
        if self.leg.is_some() {
            return Ok(true);
        }
        let subscription = self.subscription.as_ref().ok_or(StreamError::NotConnected)?;
        let next = match cx {
            Some(cx) => match subscription.poll_leg(cx) {
                Poll::Ready(None) => return Err(StreamError::NotConnected),
                Poll::Ready(leg) => leg,
                Poll::Pending => None,
            },
            None => subscription.take_leg(),
        };
        let Some(leg) = next else { return Ok(false) };
        self.lost = self.lost.saturating_add(leg.gap().datums);
        if leg.gap().unknown {
            // The peer was restarted and counts anew.
            self.next = 0;
        }
        self.taken = (0, 0);
        self.leg = Some(leg);
        Ok(true)
    }

    fn count(&mut self, (payload, seq, lost): &Numbered) {
        self.next = seq + 1;
        self.lost = self.lost.saturating_add(*lost);
        self.taken = (self.taken.0 + 1, self.taken.1 + payload.len() as u64);
        if let Some(leg) = self.leg.as_ref().filter(|leg| leg.channel().is_local()) {
            // The consumer of a channel within one engine is the writer of its counters.
            let (payloads, bytes) = self.taken;
            leg.channel().shared().counters().delivered(payloads, bytes, leg.inbox().lost(), seq + 1);
        }
    }

    pub(super) fn inbound_pending(&mut self) -> u64 {
        let _ = self.take_leg(None);
        self.leg.as_ref().map_or(0, |leg| leg.inbox().lag())
    }

    /// The highest sequence that has arrived; 0 before the first. Never less than what was taken and what
    /// [`inbound_pending`](Self::inbound_pending) has counted together.
    pub(super) fn highest_seen(&self) -> u64 {
        let arrived = self.leg.as_ref().map_or(0, |leg| {
            let inbox = leg.inbox();
            // A shard tells how far it is at the end of a turn, when its payloads wait here already.
            let told = leg.channel().shared().snapshot().position;
            told.max(inbox.lag() + if inbox.is_remote() { self.next } else { inbox.position() })
        });
        self.next.max(arrived).saturating_sub(1)
    }
}
