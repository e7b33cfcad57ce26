//! Shared by these tests: sequences of steps, nodes, connected handles.

use corewire::{Consumer, Datum, Engine, EngineConfig, Network, NetworkId, Producer};
pub(crate) use corewire_testkit::{CancelledTask, Task, within};

/// Every sequence of at most `len` of these steps, shortest first.
pub(crate) fn sequences<S: Copy>(alphabet: &[S], len: usize) -> Vec<Vec<S>> {
    let mut all = vec![Vec::new()];
    let mut from = 0;
    for _ in 0..len {
        let to = all.len();
        for at in from..to {
            for step in alphabet {
                let mut longer = all[at].clone();
                longer.push(*step);
                all.push(longer);
            }
        }
        from = to;
    }
    all
}

/// A node of its own network.
pub(crate) async fn alone() -> Network {
    Network::new(NetworkId::random()).await.expect("a node on the loopback interface")
}

/// Two nodes of one network on two engines: nothing but datagrams between them.
pub(crate) async fn apart() -> (Network, Network) {
    let id = NetworkId::random();
    let node = async || {
        let engine = Engine::start(EngineConfig { shards: 1, ..EngineConfig::default() }).unwrap();
        Network::builder(id).with_engine(engine).build().await.unwrap()
    };
    (node().await, node().await)
}

/// A producer with room for `datums` and a connected consumer. It waits for a slow consumer as long as it
/// takes.
pub(crate) async fn connected<D: Datum>(
    here: &Network,
    there: &Network,
    datums: usize,
) -> (Producer<D>, Consumer<D>) {
    let consumer = there.streams().consume::<D>();
    let producer = here
        .streams()
        .producer::<D>()
        .with_buffer_size(datums)
        .disconnect_lagging(false)
        .build()
        .expect("a producer");
    within(producer.when().subscribed()).await;
    within(consumer.when().online()).await;
    (producer, consumer)
}
