//! Ends of two engines that refuse each other.

use corewire::streams::consumer::RecvRefusal;
use corewire::streams::{CloseCode, ConsumerEvent, Events, ProducerEvent};
use corewire::tickets::{Expiration, InvalidTicket, TicketValidator};
use corewire::{Consumer, PeerEntry, UniqueId, unique_id};

use super::support::{Data1, apart, within};

/// Accepts no ticket.
struct Strict;

impl TicketValidator for Strict {
    fn class(&self) -> UniqueId {
        unique_id!("strict")
    }

    fn signature(&self) -> UniqueId {
        unique_id!("strict")
    }

    fn validate(&self, _ticket: &[u8], _peer: &PeerEntry) -> Result<Expiration, InvalidTicket> {
        Err(InvalidTicket)
    }
}

/// The consumer is told the code, and that it is not tried again.
async fn consumer_is_told<D: corewire::Datum>(mut consumer: Consumer<D>, expected: CloseCode) -> Consumer<D> {
    let refused = within(consumer.events().recv()).await.unwrap();
    let ConsumerEvent::Refused { code, retries, .. } = refused else { panic!("{refused:?}") };
    assert_eq!((code, retries), (expected, false));
    let Err(refusal) = within(consumer.recv_or_refusal()).await else { panic!("a datum") };
    assert!(matches!(refusal, RecvRefusal::Refused { code, .. } if code == expected), "{refusal:?}");
    consumer
}

async fn producer_is_told(mut events: Events<ProducerEvent>, expected: CloseCode) {
    let refused = within(events.recv()).await.unwrap();
    let ProducerEvent::Refused { code, retries, .. } = refused else { panic!("{refused:?}") };
    assert_eq!((code, retries), (expected, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn ends_that_refuse_each_other_are_told_why_and_do_not_try_again() {
    let nodes = apart(2).await;
    let streams = nodes[0].streams();
    let producer = |stream: &str| streams.producer::<Data1>().with_stream_id(stream);
    let judging = producer("judged").require(|_| false).build().unwrap();
    let both = producer("both").require(|_| false).build().unwrap();
    let tickets = producer("tickets").require_ticket(Strict).build().unwrap();
    let typed = producer("typed").build().unwrap();
    let open = producer("open").build().unwrap();
    let known = nodes[1].discovery().when().peer(*nodes[0].local().id());
    within(known.with_streams(["judged", "both", "tickets", "typed", "open"]).into_future()).await;

    let streams = nodes[1].streams();
    let consumer = |stream: &str| streams.consumer::<Data1>().with_stream_id(stream);
    let no = CloseCode::NOT_ALLOWED;
    let _judged = consumer_is_told(consumer("judged").build(), no).await;
    producer_is_told(judging.events(), no).await;
    // A consumer that refuses the producer does not ask it.
    let _both = consumer_is_told(consumer("both").require(|_| false).build(), no).await;
    let _tickets = consumer_is_told(consumer("tickets").require_ticket(Strict).build(), no).await;
    let other = streams.consumer::<f32>().with_stream_id("typed").build();
    let _typed = consumer_is_told(other, CloseCode::TYPE_MISMATCH).await;
    producer_is_told(typed.events(), CloseCode::TYPE_MISMATCH).await;

    let mut opened = consumer("open").build();
    for n in 0..50 {
        within(open.send(Data1(n))).await.unwrap();
        assert_eq!(within(opened.recv()).await, Some(Data1(n)));
    }
    let asked = [&judging, &both, &tickets, &typed].map(|producer| {
        let stats = producer.stats();
        (stats.consumers_not_allowed, stats.consumers_type_mismatch, stats.consumers_admitted)
    });
    assert_eq!(asked, [(1, 0, 0), (0, 0, 0), (0, 0, 0), (0, 1, 0)]);
    let (here, there) = (nodes[0].stats(), nodes[1].stats());
    assert_eq!((here.not_allowed, here.type_mismatch), (1, 1));
    assert_eq!((there.channels_opened, there.not_allowed, there.type_mismatch), (3, 2, 1));
}
