//! An order book feed: fixed-size updates that are written and read in place, without encoding.
//!
//! An exchange writes each update into room that it claims in the stream's ring. A trader borrows the updates
//! from there and keeps the best prices. Run it with `cargo run --example order_book`.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeMap;
use std::error::Error;
use std::thread;

use corewire::declare::{StreamConsumer, StreamProducer};
use corewire::{BackpressurePolicy, ConsumerOf, Network, NetworkId, Plain, PlainLayout, ProducerOf, declare};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One change of one price level. Plain memory without padding, so it travels as it lies there.
#[derive(PlainLayout, FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy, Debug)]
#[repr(C)]
pub struct LevelUpdate {
    /// Price in cents.
    price: i64,
    /// The quantity that is now offered or asked for at that price; 0 removes the level.
    quantity: u32,
    /// 0: bid, 1: ask.
    side: u32,
}

declare::stream!(
    /// Every change of the book, in order.
    pub BookFeed = LevelUpdate, "exchange.book",
    codec: Plain,
    buffer_size: 4096,
    // A trader that misses an update has a wrong book: the exchange waits rather than drop one.
    on_full: BackpressurePolicy::PauseUpstream,
);

/// The levels of both sides.
#[derive(Default)]
struct OrderBook {
    bids: BTreeMap<i64, u32>,
    asks: BTreeMap<i64, u32>,
}

impl OrderBook {
    fn apply(&mut self, update: &LevelUpdate) {
        let levels = if update.side == 0 { &mut self.bids } else { &mut self.asks };
        match update.quantity {
            0 => levels.remove(&update.price),
            quantity => levels.insert(update.price, quantity),
        };
    }

    /// The highest bid and the lowest ask.
    fn best(&self) -> Option<(i64, i64)> {
        Some((*self.bids.last_key_value()?.0, *self.asks.first_key_value()?.0))
    }
}

/// The updates of one session: the market moves up by a cent a hundred times.
fn session() -> impl Iterator<Item = LevelUpdate> {
    (0..100).flat_map(|cents| {
        let (bid, ask) = (10_000 + cents, 10_002 + cents);
        [(bid, 50, 0), (ask - 1, 0, 1), (ask, 70, 1), (bid - 1, 0, 0)]
            .map(|(price, quantity, side)| LevelUpdate { price, quantity, side })
    })
}

fn publish(feed: &ProducerOf<BookFeed>) -> Result<(), Box<dyn Error>> {
    for update in session() {
        match feed.claim() {
            // The room is in the ring: what is written there is what the trader reads.
            Ok(mut room) => {
                *room = update;
                room.commit();
            }
            // No room at once, so wait for it.
            Err(_) => feed.send_blocking(update)?,
        }
    }
    Ok(())
}

/// Applies a whole session. `None` if the network was shut down before its end.
fn follow(mut feed: ConsumerOf<BookFeed>) -> Option<OrderBook> {
    let mut book = OrderBook::default();
    for _ in session() {
        // Borrowed: its room in the ring is held until the end of this turn.
        let update = feed.recv_ref_blocking()?;
        assert_eq!(update.skipped_before(), 0, "a gap would make the book wrong");
        book.apply(&update);
    }
    Some(book)
}

fn main() -> Result<(), Box<dyn Error>> {
    let id = NetworkId::random();
    let (exchange, trader) = (Network::new_blocking(id)?, Network::new_blocking(id)?);
    let feed = BookFeed::consumer(&trader);
    let producer = BookFeed::producer(&exchange);
    producer.when().online().wait_blocking();

    let reader = thread::spawn(move || follow(feed));
    publish(&producer)?;
    let book = reader.join().expect("the reader does not panic").ok_or("the network was shut down")?;
    let (bid, ask) = book.best().ok_or("an empty book")?;
    println!("{} updates; bid {bid}, ask {ask}", producer.stats().accepted);
    assert_eq!((bid, ask), (10_099, 10_101));
    Ok(())
}

#[test]
fn order_book_example_runs() {
    main().unwrap();
}
