//! Price shards: one stream of prices, of which each consumer gets its part only.
//!
//! An exchange sends the prices of all symbols in one stream and gives each its symbol as the key. Workers
//! share the symbols out by their first letter, and a risk desk watches two of them. What a consumer did not
//! ask for is never sent to it. Prices that no consumer wants end up in the undelivered sink. Run it with
//! `cargo run --example price_shards`.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use corewire::declare::{StreamConsumer, StreamProducer};
use corewire::streams::Criteria;
use corewire::{Consumer, Network, NetworkId, declare};
use serde::{Deserialize, Serialize};

/// One price of one symbol.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Price {
    symbol: String,
    /// In cents.
    price: u64,
}

declare::stream!(
    /// The prices of all symbols.
    pub Prices = Price, "exchange.prices",
    key: |price: &Price| price.symbol.clone(),
);

/// What a consumer saw.
struct Seen {
    datums: u64,
    filtered: u64,
}

/// Takes prices until the stream ends, and checks that each is one that was asked for.
fn follow(mut prices: Consumer<Price>, wanted: fn(&Price) -> bool) -> JoinHandle<Seen> {
    thread::spawn(move || {
        let channel = prices.producers().next().expect("the exchange is connected");
        loop {
            match prices.recv_delivery_timeout(std::time::Duration::from_millis(50)) {
                Ok(delivery) => {
                    assert!(wanted(&delivery.datum), "{:?} was not asked for", delivery.datum);
                    assert_eq!(delivery.skipped_before, 0, "what is filtered is no gap");
                }
                Err(_) if channel.is_connected() => {}
                Err(_) => {
                    return Seen { datums: prices.stats().datums(), filtered: prices.stats().filtered() };
                }
            }
        }
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let network = Network::new_blocking(NetworkId::random())?;
    let (unwanted, leftovers) = mpsc::channel();
    let exchange = Prices::producer_builder(&network)
        .with_undelivered_sink(unwanted)
        .online_when(|c| c.minimum_of(4))
        .build()?;

    let choose = |criteria| Prices::consumer_builder(&network).with_criteria(criteria).build();
    let consumers = [
        ("worker A-M", choose(Criteria::range("A".to_string().."N".to_string()))),
        ("worker S", choose(Criteria::prefix("S"))),
        ("risk desk", choose(Criteria::keys(["BTC", "SOL"]))),
        ("worker XRP", choose(Criteria::key("XRP"))),
    ];
    exchange.when().online().wait_blocking();
    let wanted: [fn(&Price) -> bool; 4] = [
        |price| ("A".."N").contains(&&*price.symbol),
        |price| price.symbol.starts_with('S'),
        |price| ["BTC", "SOL"].contains(&&*price.symbol),
        |price| price.symbol == "XRP",
    ];
    let threads: Vec<_> = consumers
        .into_iter()
        .zip(wanted)
        .map(|((name, consumer), wanted)| (name, follow(consumer, wanted)))
        .collect();

    let symbols = ["ADA", "BTC", "ETH", "SOL", "TRX", "XRP"];
    for price in 0..600 {
        let symbol = symbols[price as usize % symbols.len()].into();
        exchange.send_blocking(Price { symbol, price })?;
    }
    let unsent = leftovers.try_iter().count();
    drop(exchange);
    for (name, thread) in threads {
        let seen = thread.join().expect("no price that was not asked for");
        println!("{name}: {} prices, {} filtered", seen.datums, seen.filtered);
        assert_eq!(seen.datums + seen.filtered, 600);
    }
    println!("{unsent} prices of TRX, which no consumer wants");
    assert_eq!(unsent, 100);
    Ok(())
}

#[test]
fn price_shards_example_runs() {
    main().unwrap();
}
