//! Every executor, and none.

use std::thread;

use corewire::BackpressurePolicy::PauseUpstream;
use corewire::local::{PopTimeoutError, Stream, StreamError};
use futures::executor::LocalPool;
use futures::task::LocalSpawnExt;
use futures::{FutureExt, select};

use super::support::{annotation, assert_balanced, in_time};

const DATUMS: u64 = 1_000;

async fn produce(s: Stream<u64>) {
    for n in 0..DATUMS {
        s.push(n).await.unwrap();
    }
    s.close();
}

async fn consume(s: Stream<u64>) -> Vec<u64> {
    let mut taken = Vec::new();
    while let Some(n) = s.pop().await {
        taken.push(n);
    }
    taken
}

fn stream() -> Stream<u64> {
    Stream::new(2, PauseUpstream)
}

#[test]
fn a_local_pool() {
    in_time(|| {
        let s = stream();
        let mut pool = LocalPool::new();
        pool.spawner().spawn_local(produce(s.clone())).unwrap();
        assert_eq!(pool.run_until(consume(s.clone())), (0..DATUMS).collect::<Vec<_>>());
        assert_balanced(&s);
    });
}

#[tokio::test]
async fn tokio_on_one_thread() {
    let s = stream();
    let producer = tokio::spawn(produce(s.clone()));
    assert_eq!(consume(s).await, (0..DATUMS).collect::<Vec<_>>());
    producer.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokio_on_two_threads_with_a_thread_without_executor() {
    let s = stream();
    let first = tokio::spawn(consume(s.clone()));
    let second = {
        let s = s.clone();
        thread::spawn(move || std::iter::from_fn(|| s.pop_blocking()).collect::<Vec<u64>>())
    };
    tokio::spawn(produce(s.clone())).await.unwrap();
    let mut taken = first.await.unwrap();
    taken.extend(tokio::task::spawn_blocking(|| second.join().unwrap()).await.unwrap());
    taken.sort_unstable();
    assert_eq!(taken, (0..DATUMS).collect::<Vec<_>>());
    assert_balanced(&s);
}

#[tokio::test]
async fn a_timeout_of_the_executor_leaves_the_datum_in_the_push() {
    let s: Stream<String> = Stream::new(1, annotation("pause_upstream"));
    s.push("first".into()).await.unwrap();
    let mut push = s.push("second".into());
    let limit = std::time::Duration::from_millis(1);
    assert!(tokio::time::timeout(limit, &mut push).await.is_err());
    assert_eq!(push.take_item().as_deref(), Some("second"));
    drop(push);
    assert_eq!(s.metrics().cancelled, 1);
    assert_balanced(&s);
}

#[test]
fn a_pop_can_be_one_branch_of_a_select() {
    let s = stream();
    s.try_push(3).unwrap();
    let mut ticks = futures::stream::iter(0..);
    let taken = futures::executor::block_on(async {
        loop {
            select! {
                datum = s.pop().fuse() => break datum,
                _ = futures::StreamExt::next(&mut ticks).fuse() => {}
            }
        }
    });
    assert_eq!(taken, Some(3));
}

#[test]
fn deadlines_without_an_executor() {
    let s = stream();
    let brief = std::time::Duration::from_millis(1);
    assert_eq!(s.pop_timeout(brief), Err(PopTimeoutError::Timeout));
    s.push_timeout(1, brief).unwrap();
    s.push_timeout(2, std::time::Duration::MAX).unwrap();
    let refused = s.push_timeout(3, brief).unwrap_err();
    assert_eq!((refused.error, refused.item), (StreamError::TimedOut, 3));
    assert_eq!(s.pop_timeout(std::time::Duration::MAX), Ok(1));
    s.close();
    assert_eq!((s.pop_timeout(brief), s.pop_timeout(brief)), (Ok(2), Err(PopTimeoutError::Closed)));
    let m = s.metrics();
    assert_eq!((m.timed_out, m.cancelled, m.waiting), (1, 0, 0));
    assert_balanced(&s);
}
