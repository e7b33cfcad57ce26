//! The asynchronous forms under executors that are not tokio.

use std::thread;

use corewire::{Network, NetworkId};
use futures::executor::{LocalPool, block_on};
use futures::task::LocalSpawnExt;
use futures::{FutureExt, StreamExt, select};

use super::support::{Data1, host_here};

#[test]
fn a_single_threaded_executor_carries_both_ends() {
    let mut pool = LocalPool::new();
    host_here();
    let network = block_on(Network::new(NetworkId::random())).unwrap();
    let producer = network.streams().producer::<Data1>().with_buffer_size(2).build().unwrap();
    let mut consumer = network.streams().consume::<Data1>();
    pool.spawner()
        .spawn_local(async move {
            for n in 0..1000 {
                producer.send(Data1(n)).await.unwrap();
            }
        })
        .unwrap();
    let taken = pool.run_until(async move {
        let mut taken = Vec::new();
        while taken.len() < 1000 {
            taken.extend(consumer.next().await);
        }
        taken
    });
    assert_eq!(taken, (0..1000).map(Data1).collect::<Vec<_>>());
}

#[test]
fn threads_that_block_on_futures_carry_conditions_and_receives() {
    host_here();
    let network = block_on(Network::new(NetworkId::random())).unwrap();
    let producer = network.streams().produce::<Data1>();
    let when = producer.when();
    let online = thread::spawn(move || block_on(when.online()));
    let mut consumer = network.streams().consume::<Data1>();
    online.join().unwrap();
    let taken = thread::spawn(move || block_on(consumer.recv()));
    block_on(producer.send(Data1(5))).unwrap();
    assert_eq!(taken.join().unwrap(), Some(Data1(5)));
}

#[test]
fn receiving_can_be_one_branch_of_a_select() {
    host_here();
    let network = block_on(Network::new(NetworkId::random())).unwrap();
    let producer = network.streams().produce::<Data1>();
    let mut consumer = network.streams().consume::<Data1>();
    block_on(producer.when().online());
    let mut ticks = futures::stream::iter(0..).fuse();
    producer.try_send(Data1(3)).unwrap();
    let mut taken = None;
    block_on(async {
        while taken.is_none() {
            select! {
                datum = consumer.recv().fuse() => taken = datum,
                _ = ticks.next() => {}
            }
        }
    });
    assert_eq!(taken, Some(Data1(3)));
}
