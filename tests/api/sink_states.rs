//! The transitions of a producer as a sink, driven through the public API and compared with the table in the
//! source.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use corewire::BackpressurePolicy::{self, DropOldest, Fail, PauseUpstream};
use corewire::streams::producer::{Error, UnsendableCause};
use corewire::{Consumer, Network, Plain, Producer};
use futures::Sink;

use super::support::{alone, within};

/// A handle that is used as a sink, and the transitions that it made.
struct Driven<'a> {
    sink: Producer<u64, Plain>,
    rows: &'a mut Vec<String>,
}

impl Driven<'_> {
    /// The state, as `Debug` names it.
    fn state(&self) -> String {
        let debug = format!("{:?}", self.sink);
        let (_, rest) = debug.split_once("sink: \"").expect("a producer shows its state as a sink");
        rest.split('"').next().unwrap_or_default().to_owned()
    }

    fn step(&mut self, event: &str, act: impl FnOnce(&mut Self) -> String) {
        let from = self.state();
        let outcome = act(self);
        let to = self.state();
        self.rows.push(format!("{from} | {event} | {to} | {outcome} |"));
    }

    fn start(&mut self, event: &str) {
        self.step(event, |me| {
            let started = Pin::new(&mut me.sink).start_send(7);
            match started {
                Ok(()) if me.state() == "Empty" => "sent".to_owned(),
                Ok(()) => "taken".to_owned(),
                Err(error) => name(&error).to_owned(),
            }
        });
    }

    fn flush(&mut self) -> Poll<Result<(), Error<u64>>> {
        Pin::new(&mut self.sink).poll_flush(&mut Context::from_waker(Waker::noop()))
    }

    fn poll(&mut self, event: &str) {
        self.step(event, |me| outcome(&me.flush()).to_owned());
    }

    /// As [`poll`](Self::poll), until it is ready.
    fn poll_to_the_end(&mut self, event: &str) {
        self.step(event, |me| {
            loop {
                let polled = me.flush();
                if polled.is_ready() {
                    return outcome(&polled).to_owned();
                }
            }
        });
    }
}

fn outcome(polled: &Poll<Result<(), Error<u64>>>) -> &'static str {
    match polled {
        Poll::Pending => "pending",
        Poll::Ready(Ok(())) => "sent",
        Poll::Ready(Err(error)) => name(error),
    }
}

fn name(error: &Error<u64>) -> &'static str {
    match error {
        Error::Full(_) => "Full",
        Error::Closed(refused) if *refused.cause() == UnsendableCause::Closed => "Closed",
        Error::Offline(_) => "Offline",
        Error::Closed(_) => "unexpected",
    }
}

/// A producer whose ring holds one datum, without consumers.
fn producer(network: &Network, policy: BackpressurePolicy) -> Producer<u64, Plain> {
    let builder = network.streams().producer::<u64>().with_stream_id(policy.slug()).codec(Plain);
    builder.with_buffer_size(1).on_full(policy).build().unwrap()
}

async fn consumer(network: &Network, producer: &Producer<u64, Plain>) -> Consumer<u64, Plain> {
    let builder = network.streams().consumer::<u64>().with_stream_id(*producer.stream_id());
    let consumer = builder.codec(Plain).build();
    within(producer.when().online()).await;
    within(consumer.when().online()).await;
    consumer
}

async fn offline_and_queued(rows: &mut Vec<String>) {
    let network = alone().await;
    let sink = producer(&network, PauseUpstream);
    let mut driven = Driven { sink, rows };
    driven.start("start, offline");
    driven.start("start");
    driven.poll("poll, offline");
    let mut consumer = consumer(&network, &driven.sink).await;
    driven.poll("poll, online and room");
    driven.start("start, full: pause_upstream");
    driven.poll("poll, full");
    assert_eq!(consumer.try_recv(), Ok(7));
    driven.poll("poll, room came");
    assert_eq!(consumer.try_recv(), Ok(7));
    driven.start("start, room");
    Pin::new(&mut driven.sink).start_send(8).unwrap();
    driven.sink.close();
    driven.poll("poll, closed");
    driven.start("start, closed");
}

async fn online_too_late_for_room(rows: &mut Vec<String>) {
    let network = alone().await;
    let other = producer(&network, PauseUpstream);
    let mut driven = Driven { sink: other.clone(), rows };
    Pin::new(&mut driven.sink).start_send(7).unwrap();
    let _consumer = consumer(&network, &other).await;
    other.try_send(1).unwrap();
    driven.poll("poll, online and full: pause_upstream");
}

async fn closed_while_offline(rows: &mut Vec<String>) {
    let network = alone().await;
    let mut driven = Driven { sink: producer(&network, PauseUpstream), rows };
    Pin::new(&mut driven.sink).start_send(7).unwrap();
    driven.sink.close();
    driven.poll("poll, closed");
}

async fn refused(rows: &mut Vec<String>) {
    let network = alone().await;
    let mut driven = Driven { sink: producer(&network, Fail), rows };
    let _consumer = consumer(&network, &driven.sink).await;
    driven.sink.try_send(1).unwrap();
    driven.start("start, full: fail");
}

async fn retrying(rows: &mut Vec<String>) {
    let network = alone().await;
    let mut driven = Driven { sink: producer(&network, DropOldest), rows };
    let mut consumer = consumer(&network, &driven.sink).await;
    driven.sink.try_send(1).unwrap();
    driven.start("start, full: drop_oldest");
    let pinned = consumer.try_recv_ref().unwrap();
    driven.start("start, oldest pinned: drop_oldest");
    driven.poll("poll, oldest pinned");
    drop(pinned);
    driven.poll("poll, unpinned");
    let _pinned = consumer.try_recv_ref().unwrap();
    Pin::new(&mut driven.sink).start_send(8).unwrap();
    driven.poll_to_the_end("poll, retry time over");
}

#[tokio::test(crate = "crate::support::host")]
async fn a_sink_makes_exactly_the_transitions_of_its_table() {
    let mut rows = Vec::new();
    offline_and_queued(&mut rows).await;
    online_too_late_for_room(&mut rows).await;
    closed_while_offline(&mut rows).await;
    refused(&mut rows).await;
    retrying(&mut rows).await;
    rows.sort();
    let source = include_str!("../../src/streams/producer/sink.rs").lines();
    let table = source.filter_map(|line| line.strip_prefix("//! | "));
    let mut documented: Vec<_> = table.filter(|row| !row.starts_with("state |")).collect();
    documented.sort_unstable();
    assert_eq!(rows, documented);
}
