//! Tickets that become valid while their peer waits.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use corewire::streams::{CloseCode, ConsumerEvent};
use corewire::tickets::{Expiration, InvalidTicket, Ticket, TicketValidator};
use corewire::{Network, NetworkId, PeerEntry, UniqueId, unique_id};

use super::support::{Data1, engine, within};

const CLASS: UniqueId = unique_id!("from");

/// Accepts a ticket from the time on that it names, in microseconds since 1970.
struct From;

fn begin(ticket: &[u8]) -> Option<SystemTime> {
    let micros = u64::from_le_bytes(ticket.try_into().ok()?);
    Some(UNIX_EPOCH + Duration::from_micros(micros))
}

impl TicketValidator for From {
    fn class(&self) -> UniqueId {
        CLASS
    }

    fn signature(&self) -> UniqueId {
        CLASS
    }

    fn validate(&self, ticket: &[u8], _peer: &PeerEntry) -> Result<Expiration, InvalidTicket> {
        let begin = begin(ticket).ok_or(InvalidTicket)?;
        if begin <= SystemTime::now() { Ok(Expiration::Never) } else { Err(InvalidTicket) }
    }

    fn valid_from(&self, ticket: &[u8], _peer: &PeerEntry) -> Option<SystemTime> {
        begin(ticket)
    }
}

/// A ticket that is valid in a second, and that time.
fn soon() -> (Ticket, SystemTime) {
    let at = SystemTime::now() + Duration::from_secs(1);
    let micros = at.duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
    (Ticket::new(CLASS, micros.to_le_bytes()), at)
}

/// Two nodes, on one engine or on two.
async fn two(apart: bool) -> [Network; 2] {
    let id = NetworkId::random();
    let first = engine();
    let second = if apart { engine() } else { first.clone() };
    let node = async |engine| Network::builder(id).with_engine(engine).build().await.unwrap();
    [node(&first).await, node(&second).await]
}

/// The side that shows a ticket too early is refused, and let in when its time comes.
async fn assert_waits(apart: bool, producer_judges: bool) {
    let [here, there] = two(apart).await;
    let (producer, consumer) = (here.streams().producer::<Data1>(), there.streams().consumer::<Data1>());
    let (ticket, at) = soon();
    let (producer, consumer) = if producer_judges {
        there.discovery().add_ticket(ticket).unwrap();
        (producer.require_ticket(From), consumer)
    } else {
        here.discovery().add_ticket(ticket).unwrap();
        (producer, consumer.require_ticket(From))
    };
    let consumer = consumer.build();
    let mut events = consumer.events();
    let producer = producer.build().unwrap();
    let refused = within(events.recv()).await.unwrap();
    assert!(matches!(refused, ConsumerEvent::Refused { code: CloseCode::NOT_ALLOWED, .. }), "{refused:?}");
    within(consumer.when().online()).await;
    within(producer.when().online()).await;
    assert!(SystemTime::now() >= at);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn a_ticket_of_a_consumer_is_judged_again_when_its_time_comes() {
    assert_waits(true, true).await;
    assert_waits(false, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "crate::support::host")]
async fn a_ticket_of_a_producer_is_judged_again_when_its_time_comes() {
    assert_waits(true, false).await;
    assert_waits(false, false).await;
}
