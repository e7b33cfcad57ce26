//! What a running engine reports of itself: the counters of its shards, and whether they run.

mod engine_rig;

use std::{collections::BTreeSet, time::Duration};

use corewire_engine::{
    Counter, CounterSnapshot, DriverKind, Engine, EngineConfig, IoChoice, ShardState, affinity::Cpus,
    publication::PublishSpec,
};
use engine_rig::{engine_with, join, network, next_leg, next_number, push, spec, stream, wait_consumers};

const DATUMS: u64 = 100;

/// Counts of all shards together.
fn sum(engine: &Engine) -> CounterSnapshot {
    let mut shards = engine.counters().into_iter();
    let mut sum = shards.next().expect("an engine has a shard");
    shards.for_each(|shard| sum.merge(&shard));
    sum
}

#[test]
fn counters_of_a_running_engine_show_its_traffic() {
    let (here, there) = (engine_with(2, IoChoice::Epoll), engine_with(1, IoChoice::Epoll));
    assert_eq!((here.counters().len(), there.counters().len()), (2, 1));
    let network = network("counters");
    let (producer, consumer) = (join(&here, network), join(&there, network));
    let publication = producer.publish(PublishSpec::new(stream(1))).expect("a publication");
    let subscription = consumer.subscribe(spec(1)).expect("a subscription");
    let mut leg = next_leg(&subscription);
    wait_consumers(&publication, 1);
    for number in 0..DATUMS {
        push(&publication, number);
        assert_eq!(next_number(&mut leg), number);
    }
    // A shard counts a datum just after the consumer may have taken it.
    while sum(&there).get(Counter::DatumsDelivered) < DATUMS {
        std::thread::yield_now();
    }
    let (sent, received) = (sum(&here), sum(&there));
    assert!(sent.get(Counter::DatumsRead) >= DATUMS, "{sent:?}");
    assert!(sent.get(Counter::PacketsSent) > 0, "{sent:?}");
    assert_eq!(received.get(Counter::DatumsDelivered), DATUMS, "{received:?}");
    for counts in here.counters().iter().chain(&there.counters()) {
        let busy = counts.get(Counter::BusyNs);
        assert!(counts.get(Counter::BusyTurns) <= counts.get(Counter::Turns), "{counts:?}");
        assert!(counts.get(Counter::LongestTurnNs) <= busy && busy > 0, "{counts:?}");
        let labels: BTreeSet<_> = counts.iter().map(|(counter, _)| counter.label).collect();
        assert_eq!(labels.len(), counts.iter().count(), "a label names one counter");
    }
}

#[test]
fn info_shows_running_shards_until_they_are_stopped() {
    let engine = engine_with(2, IoChoice::Epoll);
    let info = engine.info();
    assert_eq!(info.shards.iter().map(|shard| shard.shard).collect::<Vec<_>>(), [0, 1]);
    for shard in &info.shards {
        assert_eq!(shard.driver, DriverKind::Epoll);
        assert_eq!(shard.state, ShardState::Running);
        assert_eq!((shard.cpu, &shard.unpinned), (None, &None), "pinning was not asked for");
    }
    assert!(engine.stop(Duration::from_secs(5)), "nothing had to drain");
    for (shard, counts) in engine.info().shards.iter().zip(engine.counters()) {
        assert_eq!(shard.state, ShardState::Stopped);
        assert!(counts.get(Counter::Turns) > 0, "counters stay readable after the end");
    }
}

#[test]
fn info_gives_the_reason_why_a_shard_is_not_pinned() {
    let shards = (Cpus::detect().usable() + 1).min(corewire_engine::MAX_SHARDS);
    let config = EngineConfig { shards, io: IoChoice::Epoll, ..EngineConfig::default() };
    let engine = Engine::start(config).expect("an engine");
    for shard in engine.info().shards {
        let reason = shard.unpinned.expect("more shards than CPUs are not pinned");
        assert!(shard.cpu.is_none() && reason.contains("unpinned"), "{reason}");
    }
}
