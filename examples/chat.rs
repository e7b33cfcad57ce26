//! A chat: every member produces and consumes the same stream, and sees who is there.
//!
//! Run it with `cargo run --example chat`. Three members talk in one process; for several hosts give each
//! network the address of another one with `with_bootstrap`.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use corewire::declare::{StreamConsumer, StreamProducer};
use corewire::{Consumer, Network, NetworkId, Producer, declare};
use serde::{Deserialize, Serialize};

/// What a member says. Any serde type is a datum.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct ChatLine {
    author: String,
    text: String,
}

declare::stream!(
    /// What is said in the room.
    pub Room = ChatLine, "chat.room",
    // Three members, each of whom is also a consumer of its own.
    producer online_when: |members| members.minimum_of(3),
    consumer online_when: |members| members.minimum_of(3),
);

/// A member of the room.
struct Member {
    name: String,
    says: Producer<ChatLine>,
    hears: Consumer<ChatLine>,
    /// Leaving the network ends its streams, so it lives as long as the member does.
    network: Network,
}

impl Member {
    async fn join(id: NetworkId, name: &str) -> Result<Self, Box<dyn Error>> {
        let network = Network::builder(id).with_tags("member").build().await?;
        let (hears, says) = (Room::consumer(&network), Room::producer(&network));
        Ok(Self { name: name.into(), says, hears, network })
    }

    /// Says something to all members. Waits until all members are there.
    async fn say(&self, text: &str) -> Result<(), Box<dyn Error>> {
        let line = ChatLine { author: self.name.clone(), text: text.into() };
        Ok(self.says.send(line).await?)
    }

    /// The next line that is not its own.
    async fn hear(&mut self) -> Option<ChatLine> {
        loop {
            let line = self.hears.recv_delivery().await?;
            // The sender is known by its key, whatever name it gives itself.
            if line.producer != *self.network.local().id() {
                return Some(line.datum);
            }
        }
    }
}

async fn talk() -> Result<Vec<ChatLine>, Box<dyn Error>> {
    let id = NetworkId::random();
    let mut ada = Member::join(id, "Ada").await?;
    let mut ben = Member::join(id, "Ben").await?;
    let mut cem = Member::join(id, "Cem").await?;
    for member in [&ada, &ben, &cem] {
        member.hears.when().online().await;
    }

    let mut heard = Vec::new();
    ada.say("Is the build green?").await?;
    heard.extend([ben.hear().await, cem.hear().await]);
    ben.say("It is.").await?;
    heard.extend([ada.hear().await, cem.hear().await]);
    println!("{} members besides Ada", ada.network.discovery().peers().len());
    Ok(heard.into_iter().flatten().collect())
}

fn main() -> Result<(), Box<dyn Error>> {
    let heard = corewire::block_on(talk())?;
    for line in &heard {
        println!("{}: {}", line.author, line.text);
    }
    let authors: Vec<_> = heard.iter().map(|line| line.author.as_str()).collect();
    assert_eq!(authors, ["Ada", "Ada", "Ben", "Ben"]);
    Ok(())
}

#[test]
fn chat_example_runs() {
    main().unwrap();
}
