//! The same story under each executor, and under none: two engines, a typed stream one way, a raw channel
//! both ways, conditions, a flush, and leaving.

use std::future::Future;
use std::pin::{Pin, pin};
use std::thread;
use std::time::Duration;

use async_executor::{Executor, LocalExecutor};
use corewire::engine::Idle;
use corewire::raw::{RawStream, Reliability, StreamConfig};
use corewire::streams::ChannelConditions;
use corewire::{Engine, EngineConfig, Network, NetworkId, PeerId, Plain, Producer};
use corewire_testkit::{in_time, within};
use futures::executor::{LocalPool, block_on};
use futures::future::join;
use futures::task::LocalSpawnExt;

/// Datums and raw payloads; more than the buffers between the ends take.
const DATUMS: u64 = 2_000;
const PAYLOADS: u64 = 300;

/// The number of the raw channel.
const CHANNEL: u64 = 7;

/// One end of the story.
type End = Pin<Box<dyn Future<Output = ()> + Send>>;

fn config() -> StreamConfig {
    StreamConfig::new().with_reliability(Reliability::Reliable).with_window_bytes(4_096)
}

async fn produce(here: Network, there: PeerId) {
    let producer = here.streams().producer::<u64>().with_buffer_size(8).disconnect_lagging(false);
    let producer = producer.build().expect("a producer");
    let raw = here.open_stream(there, CHANNEL, config()).expect("a channel");
    producer.when().subscribed().await;
    for datum in 0..DATUMS {
        producer.send(datum).await.expect("the consumer is there");
    }
    producer.flush().await.expect("it has everything");
    for payload in 0..PAYLOADS {
        raw.send(payload.to_le_bytes().to_vec()).await.expect("the channel is open");
    }
    assert_eq!(raw.recv().await.expect("the channel is open"), "thanks");
    producer.close();
    producer.when().unsubscribed().await;
    here.shutdown(Duration::from_secs(20)).await.expect("everything was delivered");
}

async fn consume(there: Network, here: PeerId) {
    let mut consumer = there.streams().consume::<u64>();
    let raw = there.open_stream(here, CHANNEL, config()).expect("a channel");
    consumer.when().online().await;
    raw.connected().await.expect("the channel is open");
    for datum in 0..DATUMS {
        assert_eq!(consumer.recv().await, Some(datum));
    }
    for payload in 0..PAYLOADS {
        assert_eq!(raw.recv().await.expect("the channel is open"), payload.to_le_bytes().to_vec());
    }
    raw.send("thanks").await.expect("the channel is open");
    consumer.when().offline().await;
}

/// Two nodes with an engine each, and what they do.
async fn ends() -> [End; 2] {
    let id = NetworkId::random();
    let node = async || {
        let config = EngineConfig { shards: 1, pin: false, idle: Idle::Park, ..EngineConfig::default() };
        let engine = Engine::start(config).expect("an engine");
        Network::builder(id).with_engine(engine).build().await.expect("a node")
    };
    let (here, there) = (node().await, node().await);
    let (producer, consumer) = (*here.local().id(), *there.local().id());
    [Box::pin(produce(here, consumer)), Box::pin(consume(there, producer))]
}

#[tokio::test]
async fn tokio_on_one_thread() {
    let [produce, consume] = within(ends()).await.map(tokio::spawn);
    within(async { (produce.await.unwrap(), consume.await.unwrap()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokio_on_several_threads() {
    let [produce, consume] = within(ends()).await.map(tokio::spawn);
    within(async { (produce.await.unwrap(), consume.await.unwrap()) }).await;
}

#[test]
fn the_executor_of_smol_on_one_thread() {
    in_time(|| {
        let executor = LocalExecutor::new();
        futures_lite::future::block_on(executor.run(async {
            let [produce, consume] = ends().await.map(|end| executor.spawn(end));
            join(produce, consume).await;
        }));
    });
}

#[test]
fn the_executor_of_smol_on_several_threads() {
    in_time(|| {
        let executor = Executor::new();
        let (stop, stopped) = futures::channel::oneshot::channel::<()>();
        let stopped = futures::FutureExt::shared(stopped);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| futures_lite::future::block_on(executor.run(stopped.clone())));
            }
            futures_lite::future::block_on(async {
                let [produce, consume] = ends().await.map(|end| executor.spawn(end));
                join(produce, consume).await;
            });
            drop(stop);
        });
    });
}

#[test]
fn the_local_pool_of_futures() {
    in_time(|| {
        let mut pool = LocalPool::new();
        let [produce, consume] = block_on(ends());
        pool.spawner().spawn_local(produce).expect("the pool is there");
        pool.run_until(consume);
        pool.run();
    });
}

#[test]
fn no_executor_but_a_thread_for_each_end() {
    in_time(|| {
        let ends = corewire::block_on(ends()).map(|end| thread::spawn(|| corewire::block_on(end)));
        ends.into_iter().for_each(|end| end.join().expect("the end of the story"));
    });
}

fn movable<T: Send>(_: &T) {}

/// Compiles if every handle can be shared by threads and every future can be spawned on another one.
#[test]
fn handles_and_futures_can_move_to_another_thread() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Network>();
    shared::<Engine>();
    shared::<Producer<u64>>();
    shared::<RawStream>();
    shared::<ChannelConditions>();
    movable(&Network::new(NetworkId::random()));
    movable(&Network::builder(NetworkId::random()).build());
    let network = Network::new_blocking(NetworkId::random()).expect("a node");
    let plain =
        network.streams().producer::<u64>().with_stream_id("plain").codec(Plain).build().expect("one");
    movable(&plain.send_many(&[1]));
    let mut plain = network.streams().consumer::<u64>().with_stream_id("plain").codec(Plain).build();
    movable(&plain.recv_ref());
    let producer = network.streams().produce::<u64>();
    let mut consumer = network.streams().consume::<u64>();
    movable(&producer.send(1));
    movable(&producer.push(1));
    movable(&producer.flush());
    movable(&producer.when().online());
    movable(&producer.when().subscribed().minimum_of(2));
    movable(&producer.events().recv());
    movable(&consumer.recv());
    movable(&consumer.recv_delivery());
    movable(&consumer);
    movable(&consumer.recv_many(&mut Vec::new(), 1));
    movable(&consumer.when().online());
    movable(&consumer.events().recv());
    let raw = network.open_stream(PeerId::random(), 1, config()).expect("a channel");
    movable(&raw.connected());
    movable(&raw.send("payload"));
    movable(&raw.send_many(&[]));
    movable(&raw.recv());
    movable(&raw.recv_numbered());
    movable(&pin!(network.discovery().wait_for(|_| true)));
    movable(&network.shutdown(Duration::ZERO));
}
