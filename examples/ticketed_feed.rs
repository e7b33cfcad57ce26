//! A feed for subscribers: the exchange admits who shows a token that an issuer signed, until it expires.
//!
//! Issuer, exchange and subscribers are three parties. The issuer has a private key; the exchange knows the
//! public key only. A token names the peer that it is for, so it is of no use to another one. Run it with
//! `cargo run --example ticketed_feed --features jwt`.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use corewire::tickets::{EdDsa, Jwt, JwtTicketBuilder, SigningKey, Ticket};
use corewire::{Network, NetworkId, PeerId};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};

/// Sells subscriptions.
struct Issuer {
    key: SigningKey,
    public_key: Vec<u8>,
}

impl Issuer {
    fn new() -> Result<Self, Box<dyn Error>> {
        let document =
            Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| "the system gave no entropy")?;
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).map_err(|_| "not a key")?;
        let public_key = pair.public_key().as_ref().to_vec();
        Ok(Self { key: SigningKey::ed_dsa(document.as_ref())?, public_key })
    }

    /// A subscription of this peer, for this long.
    fn sell(&self, subscriber: &PeerId, time: Duration) -> Result<Ticket, Box<dyn Error>> {
        let token = JwtTicketBuilder::new(self.key.clone()).issuer("sales").audience("prices");
        Ok(token.claim("plan", "realtime").expires_in(time).build(subscriber)?)
    }

    /// What an exchange has to know to check subscriptions.
    fn validator(&self) -> Jwt {
        let jwt = Jwt::with_key(EdDsa::new(&self.public_key));
        jwt.allow_issuer("sales").allow_audience("prices").require_claim("plan", "realtime")
    }
}

async fn run() -> Result<Vec<f64>, Box<dyn Error>> {
    let issuer = Issuer::new()?;
    let id = NetworkId::random();
    let exchange = Network::new(id).await?;
    let prices = exchange
        .streams()
        .producer::<f64>()
        .with_stream_id("prices")
        .require_ticket(issuer.validator())
        .build()?;

    // Two peers ask for the stream, and one of them has a subscription.
    let (subscriber, stranger) = (Network::new(id).await?, Network::new(id).await?);
    let mut paid = subscriber.streams().consumer::<f64>().with_stream_id("prices").build();
    let mut unpaid = stranger.streams().consumer::<f64>().with_stream_id("prices").build();
    let me = *subscriber.local().id();
    subscriber.discovery().add_ticket(issuer.sell(&me, Duration::from_secs(3600))?)?;
    // The stranger has got hold of the other's token.
    stranger.discovery().add_ticket(issuer.sell(&me, Duration::from_secs(3600))?)?;

    prices.send(3200.0).await?;
    let mut received = vec![paid.recv().await.ok_or("closed")?];
    println!("received {received:?}");

    // Its next ticket is a short one. The exchange ends the channel when that expires, and takes the
    // subscriber back with a new one.
    subscriber.discovery().replace_ticket(issuer.sell(&me, Duration::from_secs(2))?)?;
    prices.when().offline().await;
    println!("the subscription has ended");
    subscriber.discovery().replace_ticket(issuer.sell(&me, Duration::from_secs(3600))?)?;
    prices.send(3300.0).await?;
    received.push(paid.recv().await.ok_or("closed")?);
    println!("received {received:?}");
    assert!(unpaid.try_recv().is_err(), "a stranger gets nothing");
    Ok(received)
}

fn main() -> Result<(), Box<dyn Error>> {
    let received = corewire::block_on(run())?;
    assert_eq!(received, [3200.0, 3300.0]);
    Ok(())
}

#[test]
fn ticketed_feed_example_runs() {
    main().unwrap();
}
