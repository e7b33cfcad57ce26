//! Tickets that become valid while their peer waits.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use corewire::streams::{CloseCode, ConsumerEvent};
use corewire::tickets::{Expiration, InvalidTicket, Ticket, TicketValidator};
use corewire::{Network, NetworkId, PeerEntry, UniqueId, unique_id};

use super::support::{Data1, engine, within};

const CLASS: UniqueId = unique_id!("from");

/// Accepts every ticket from a time on that is a second after the first judgement.
#[derive(Clone, Default)]
struct Late(Arc<OnceLock<SystemTime>>);

impl Late {
    fn begin(&self) -> SystemTime {
        *self.0.get_or_init(|| SystemTime::now() + Duration::from_secs(1))
    }
}

impl TicketValidator for Late {
    fn class(&self) -> UniqueId {
        CLASS
    }

    fn signature(&self) -> UniqueId {
        CLASS
    }

    fn validate(&self, _ticket: &[u8], _peer: &PeerEntry) -> Result<Expiration, InvalidTicket> {
        if self.begin() <= SystemTime::now() { Ok(Expiration::Never) } else { Err(InvalidTicket) }
    }

    fn valid_from(&self, _ticket: &[u8], _peer: &PeerEntry) -> Option<SystemTime> {
        Some(self.begin())
    }
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
    let (ticket, late) = (Ticket::new(CLASS, []), Late::default());
    let (producer, consumer) = if producer_judges {
        there.discovery().add_ticket(ticket).unwrap();
        (producer.require_ticket(late.clone()), consumer)
    } else {
        here.discovery().add_ticket(ticket).unwrap();
        (producer, consumer.require_ticket(late.clone()))
    };
    let consumer = consumer.build();
    let mut events = consumer.events();
    let producer = producer.build().unwrap();
    let refused = within(events.recv()).await.unwrap();
    assert!(matches!(refused, ConsumerEvent::Refused { code: CloseCode::NOT_ALLOWED, .. }), "{refused:?}");
    within(consumer.when().online()).await;
    within(producer.when().online()).await;
    assert!(SystemTime::now() >= late.begin());
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
