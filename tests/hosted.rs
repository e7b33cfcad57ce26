//! Engines that the test's own thread drives.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use corewire::engine::{
    Counter, DriverKind, EngineError, HostedRun, Idle, NextTurn, PollThread, Reactor, ShardState,
};
use corewire::network::SessionSettings;
use corewire::streams::{CloseCode, State};
use corewire::{
    BackpressurePolicy, Consumer, Engine, EngineConfig, HostedEngine, IoChoice, Network, NetworkId, Producer,
    block_on, block_on_timeout, local,
};
use corewire_testkit::{CountingWaker, LIMIT};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Short: the time of a wait that has to run into its limit.
const MOMENT: Duration = Duration::from_millis(30);

fn hosted(idle: Idle) -> HostedEngine {
    HostedEngine::start(EngineConfig { idle, ..EngineConfig::default() }).unwrap()
}

/// A node on an engine with threads.
fn elsewhere(id: NetworkId) -> Network {
    let config = EngineConfig { shards: 1, ..EngineConfig::default() };
    Network::builder(id).with_engine(config).build_blocking().unwrap()
}

/// A producer of one node, connected to a consumer of another.
fn connect(from: &Network, to: &Network) -> (Producer<u64>, Consumer<u64>) {
    let producer = from.streams().produce::<u64>();
    let consumer = to.streams().consume::<u64>();
    assert!(producer.when().online().wait_timeout(LIMIT) && consumer.when().online().wait_timeout(LIMIT));
    (producer, consumer)
}

#[test]
fn a_node_without_an_engine_runs_on_the_one_that_its_thread_hosts() {
    let hosted = hosted(Idle::Park);
    let network = Network::new_blocking(NetworkId::random()).unwrap();
    let info = network.engine().info();
    assert_eq!((info.shards.len(), info.shards[0].hosted, info.shards[0].cpu), (1, true, None));
    let other = thread::spawn(|| Network::new_blocking(NetworkId::random()).unwrap().engine().info());
    assert!(other.join().unwrap().shards.iter().all(|shard| !shard.hosted));
    assert!(hosted.engine().stop(Duration::from_secs(1)));
    assert!(HostedEngine::here().is_none() && hosted.is_over());
    assert_eq!(hosted.engine().info().shards[0].state, ShardState::Stopped);
}

#[test]
fn hosted_engine_takes_epoll_unless_it_is_asked_for_another_driver() {
    let driver = |io| {
        let hosted = HostedEngine::start(EngineConfig { io, ..EngineConfig::default() });
        hosted.map(|hosted| hosted.engine().info().shards[0].driver)
    };
    assert_eq!(driver(IoChoice::Auto).unwrap(), DriverKind::Epoll);
    match driver(IoChoice::Uring) {
        Ok(kind) => assert_eq!(kind, DriverKind::Uring),
        Err(refusal) => assert!(refusal.to_string().contains("io_uring"), "{refusal}"),
    }
}

#[test]
fn burst_of_a_hosted_producer_leaves_before_its_next_turn() {
    let id = NetworkId::random();
    let _hosted = hosted(Idle::Park);
    let here = Network::new_blocking(id).unwrap();
    let there = elsewhere(id);
    let (producer, mut consumer) = connect(&here, &there);
    // The wait for the first one turns the engine until the channel is open at both ends.
    producer.send_blocking(0).unwrap();
    assert_eq!(consumer.recv_timeout(LIMIT), Ok(0));
    // Without a turn in between.
    for n in 1..=4_000 {
        producer.try_send(n).unwrap();
    }
    let taken = thread::spawn(move || {
        let mut last = None;
        while let Ok(n) = consumer.recv_timeout(LIMIT / 10) {
            last = Some(n);
            if n >= 2_800 {
                break;
            }
        }
        last
    });
    assert_eq!(taken.join().unwrap(), Some(2_800));
}

#[test]
fn loop_that_only_tries_to_send_keeps_its_stream_going() {
    for prepared in [false, true] {
        only_try_to_send(prepared);
    }
}

/// `prepared`: in a callback of a loop that has prepared its sleep.
fn only_try_to_send(prepared: bool) {
    let id = NetworkId::random();
    let hosted = hosted(Idle::Park);
    let here = Network::new_blocking(id).unwrap();
    let there = elsewhere(id);
    let producer = here.streams().producer::<u64>().with_buffer_size(64).build().unwrap();
    let mut consumer = there.streams().consumer::<u64>().build();
    assert!(producer.when().online().wait_timeout(LIMIT));
    const COUNT: u64 = 20_000;
    let taken = thread::spawn(move || (0..COUNT).all(|n| consumer.recv_timeout(LIMIT) == Ok(n)));
    let started = Instant::now();
    if prepared {
        while hosted.prepare_sleep() == NextTurn::Now {
            hosted.turn();
        }
    }
    for n in 0..COUNT {
        // Full, again and again: only this thread can receive the acknowledgements that make room.
        while producer.try_send(n).is_err() {
            assert!(started.elapsed() < LIMIT, "datum {n} finds no room");
        }
    }
    producer.flush_timeout(LIMIT).unwrap();
    assert!(taken.join().unwrap());
}

#[test]
fn more_than_one_shard_is_refused_with_what_to_do() {
    let error = HostedEngine::start(EngineConfig { shards: 2, ..EngineConfig::default() }).unwrap_err();
    assert!(matches!(error, EngineError::HostedShards(2)));
    assert!(error.to_string().contains("several threads"), "{error}");
}

#[test]
fn blocking_forms_turn_the_shard_in_both_directions() {
    for idle in [Idle::Park, Idle::ADAPTIVE] {
        let hosted = hosted(idle);
        let id = NetworkId::random();
        let here = Network::builder(id).with_engine(&hosted).build_blocking().unwrap();
        let there = elsewhere(id);
        let (out, mut taken) = connect(&here, &there);
        let back = there.streams().producer::<u64>().with_stream_id("back").build().unwrap();
        let mut answers = here.streams().consumer::<u64>().with_stream_id("back").build();
        assert!(back.when().online().wait_timeout(LIMIT));
        let echo = thread::spawn(move || {
            while let Some(n) = taken.recv_blocking() {
                back.send_blocking(n + 1).unwrap();
            }
        });
        for n in 0..200 {
            out.send_blocking(n).unwrap();
            assert_eq!(answers.recv_timeout(LIMIT), Ok(n + 1));
        }
        // Far more than the ring and the windows hold.
        let many =
            there.streams().producer::<u64>().with_stream_id("many").with_buffer_size(8).build().unwrap();
        let mut all = here.streams().consumer::<u64>().with_stream_id("many").with_window_datums(8).build();
        let sender = thread::spawn(move || (0..5000).for_each(|n| many.send_blocking(n).unwrap()));
        assert!((0..5000).all(|n| all.recv_blocking() == Some(n)));
        sender.join().unwrap();
        there.shutdown_blocking(Duration::from_secs(5)).unwrap();
        echo.join().unwrap();
    }
}

#[test]
fn two_engines_of_one_thread_talk_to_each_other() {
    for idle in [Idle::Park, Idle::ADAPTIVE] {
        let (first, second) = (hosted(idle), hosted(idle));
        let id = NetworkId::random();
        let here = Network::builder(id).with_engine(&first).build_blocking().unwrap();
        let there = Network::builder(id).with_engine(&second).build_blocking().unwrap();
        let (producer, mut consumer) = connect(&here, &there);
        for n in 0..3000 {
            producer.send_blocking(n).unwrap();
            if n % 3 == 0 {
                assert_eq!(consumer.recv_timeout(LIMIT), Ok(n / 3));
            }
        }
        assert!((1000..3000).all(|n| consumer.recv_timeout(LIMIT) == Ok(n)));
    }
}

#[test]
fn engines_that_a_future_starts_are_turned_while_it_runs() {
    let id = NetworkId::random();
    let first = block_on(async {
        // No engine lives on this thread yet.
        let first = hosted(Idle::Park);
        let here = Network::builder(id).with_engine(&first).build().await.unwrap();
        let second = hosted(Idle::Park);
        let there = Network::builder(id).with_engine(&second).build().await.unwrap();
        let producer = here.streams().produce::<u64>();
        let mut consumer = there.streams().consume::<u64>();
        for n in 0..100 {
            producer.send(n).await.unwrap();
            assert_eq!(consumer.recv().await, Some(n));
        }
        drop((there, second));
        producer.when().offline().await;
        first
    });
    drop(first);
}

#[test]
fn the_first_send_after_a_turn_leaves_by_itself_and_the_next_with_a_turn() {
    let hosted = hosted(Idle::Park);
    let id = NetworkId::random();
    let here = Network::builder(id).with_engine(&hosted).build_blocking().unwrap();
    let there = elsewhere(id);
    let (producer, mut consumer) = connect(&here, &there);
    // The wait for the first one turns the engine until the channel is open at both ends.
    producer.send_blocking(0).unwrap();
    assert_eq!(consumer.recv_timeout(LIMIT), Ok(0));
    let (report, taken) = mpsc::channel();
    thread::spawn(move || consumer.iter().for_each(|n| report.send(n).unwrap()));
    hosted.turn();
    let counted = |counter| hosted.engine().counters()[0].get(counter);
    let before = [Counter::Turns, Counter::Flushes].map(counted);
    producer.try_send(1).unwrap();
    producer.try_send(2).unwrap();
    assert_eq!([Counter::Turns, Counter::Flushes].map(counted), [before[0], before[1] + 1]);
    assert_eq!(taken.recv_timeout(LIMIT), Ok(1), "no turn was taken");
    assert!(taken.recv_timeout(MOMENT).is_err(), "the second one waits for the turn");
    hosted.turn();
    assert_eq!(taken.recv_timeout(LIMIT), Ok(2));
}

#[test]
fn a_datum_of_another_thread_ends_the_sleep_of_the_host() {
    let hosted = hosted(Idle::Park);
    let network = Network::builder(NetworkId::random()).with_engine(&hosted).build_blocking().unwrap();
    let (producer, mut consumer) = connect(&network, &network);
    let local = local::Stream::<u64>::new(4, BackpressurePolicy::PauseUpstream);
    let (to_local, ask) = (local.clone(), mpsc::channel::<u64>());
    let sender = thread::spawn(move || {
        for n in ask.1 {
            producer.send_blocking(n).unwrap();
            to_local.push_blocking(n).unwrap();
        }
    });
    for n in 0..100 {
        ask.0.send(n).unwrap();
        assert_eq!((consumer.recv_blocking(), local.pop_blocking()), (Some(n), Some(n)));
    }
    drop(ask.0);
    sender.join().unwrap();
}

#[test]
fn waits_with_a_limit_end_at_it() {
    for idle in [Idle::Park, Idle::ADAPTIVE, Idle::Spin] {
        let hosted = hosted(idle);
        let network = Network::builder(NetworkId::random()).with_engine(&hosted).build_blocking().unwrap();
        let mut consumer = network.streams().consume::<u64>();
        let before = Instant::now();
        assert!(consumer.recv_timeout(MOMENT).is_err());
        assert!(before.elapsed() >= MOMENT);
        let before = Instant::now();
        while hosted.turn() == NextTurn::Now {}
        hosted.sleep(Some(MOMENT));
        assert!(before.elapsed() < LIMIT);
    }
}

#[test]
fn waits_with_a_limit_end_at_it_when_the_future_wakes_itself() {
    for idle in [Idle::Park, Idle::ADAPTIVE] {
        let _hosted = hosted(idle);
        let start = Instant::now();
        let wakes_itself = std::future::poll_fn(|cx| {
            cx.waker().wake_by_ref();
            if start.elapsed() > LIMIT { Poll::Ready(()) } else { Poll::Pending }
        });
        assert_eq!(block_on_timeout(wakes_itself, MOMENT), None);
        assert!(start.elapsed() >= MOMENT);
    }
}

#[test]
fn a_sleep_ends_when_the_shard_needs_its_next_turn() {
    let hosted = hosted(Idle::Park);
    let id = NetworkId::random();
    let here = Network::builder(id).with_engine(&hosted).build_blocking().unwrap();
    let (producer, _consumer) = connect(&here, &elsewhere(id));
    // The wait for it turns the engine until the channel is open at both ends.
    producer.send_blocking(0).unwrap();
    while hosted.turn() == NextTurn::Now {}
    producer.try_send(1).unwrap();
    // Should the datum get lost, only a turn sends it again.
    assert_ne!(hosted.prepare_sleep(), NextTurn::OnNews);
    let turned = loop {
        match hosted.turn() {
            NextTurn::Now => {}
            quiet => break quiet,
        }
    };
    let NextTurn::Within(turned) = turned else { panic!("a session has deadlines: {turned:?}") };
    match hosted.prepare_sleep() {
        NextTurn::Now => {}
        NextTurn::Within(prepared) => assert!(prepared <= turned, "{prepared:?} after {turned:?}"),
        NextTurn::OnNews => panic!("the next turn is due in {turned:?}"),
    }
}

/// The drivers that this host allows.
fn drivers() -> Vec<IoChoice> {
    let allowed =
        |io: &IoChoice| HostedEngine::start(EngineConfig { io: *io, ..EngineConfig::default() }).is_ok();
    [IoChoice::Uring, IoChoice::Epoll].into_iter().filter(allowed).collect()
}

/// Whether the engine's descriptor is readable within `limit`.
fn is_readable(hosted: &HostedEngine, limit: Duration) -> bool {
    let mut asked = [PollFd::new(hosted, PollFlags::IN)];
    poll(&mut asked, Some(&Timespec::try_from(limit).unwrap())).unwrap() > 0
}

/// Turns until nothing is due, and prepares a sleep.
fn prepare(hosted: &HostedEngine) -> NextTurn {
    loop {
        if hosted.turn() != NextTurn::Now {
            match hosted.prepare_sleep() {
                NextTurn::Now => {}
                prepared => return prepared,
            }
        }
    }
}

#[test]
fn descriptor_of_a_prepared_sleep_shows_the_time_of_the_next_turn() {
    for io in drivers() {
        let hosted = HostedEngine::start(EngineConfig { io, ..EngineConfig::default() }).unwrap();
        let silent = HostedEngine::start(EngineConfig { io, ..EngineConfig::default() }).unwrap();
        let id = NetworkId::random();
        let here = Network::builder(id).with_engine(&hosted).build_blocking().unwrap();
        let there = Network::builder(id).with_engine(&silent).build_blocking().unwrap();
        let (producer, _consumer) = connect(&here, &there);
        producer.try_send(1).unwrap();
        // Its peer takes no more turns, so no answer comes: it has to send again.
        let NextTurn::Within(_) = prepare(&hosted) else { panic!("a datum is under way") };
        assert!(is_readable(&hosted, LIMIT), "{io:?}");
    }
}

#[test]
fn a_call_that_ends_a_prepared_sleep_leaves_the_descriptor_readable() {
    for io in drivers() {
        let hosted = HostedEngine::start(EngineConfig { io, ..EngineConfig::default() }).unwrap();
        let network = Network::builder(NetworkId::random()).with_engine(&hosted).build_blocking().unwrap();
        let mut consumer = network.streams().consume::<u64>();
        for _ in 0..3 {
            // The clerk may have news of the consumer yet.
            let sleeps = |_| prepare(&hosted) == NextTurn::OnNews && !is_readable(&hosted, MOMENT);
            assert!((0..100).any(sleeps), "{io:?}");
            assert!(consumer.recv_timeout(Duration::from_millis(1)).is_err());
            assert!(is_readable(&hosted, Duration::ZERO), "{io:?}: the loop has to prepare its sleep again");
        }
    }
}

#[test]
fn a_sleep_returns_at_once_when_the_engine_is_over() {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let hosted = hosted(Idle::Park);
        let engine = hosted.engine().clone();
        let stopping = thread::spawn(move || engine.stop(LIMIT));
        while !hosted.is_over() {
            hosted.turn();
        }
        assert!(stopping.join().unwrap());
        hosted.sleep(None);
        tell.send(hosted.prepare_sleep()).unwrap();
    });
    assert_eq!(told.recv_timeout(LIMIT), Ok(NextTurn::Now));
}

#[test]
fn a_future_that_wakes_itself_does_not_keep_the_shard_from_its_turns() {
    let hosted = hosted(Idle::ADAPTIVE);
    let id = NetworkId::random();
    let here = Network::builder(id).with_engine(&hosted).build_blocking().unwrap();
    let there = elsewhere(id);
    let (producer, mut consumer) = connect(&there, &here);
    producer.send_blocking(7).unwrap();
    let start = Instant::now();
    let got = hosted.block_on(std::future::poll_fn(|cx| match consumer.try_recv() {
        Ok(n) => Poll::Ready(Some(n)),
        Err(_) if start.elapsed() > LIMIT => Poll::Ready(None),
        Err(_) => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }));
    assert_eq!(got, Some(7));
}

#[test]
fn dropping_the_host_delivers_what_was_accepted_and_closes_in_order() {
    let id = NetworkId::random();
    let there = elsewhere(id);
    let hosted = hosted(Idle::ADAPTIVE);
    let here = Network::builder(id).with_engine(&hosted).build_blocking().unwrap();
    let (producer, mut consumer) = connect(&here, &there);
    let channel = consumer.producers().next().unwrap();
    (0..100).for_each(|n| producer.try_send(n).unwrap());
    drop(hosted);
    assert!((0..100).all(|n| consumer.recv_timeout(LIMIT) == Ok(n)));
    channel.disconnected_blocking();
    assert_eq!((channel.state(), channel.close_code()), (State::Terminated, Some(CloseCode::GRACEFUL)));
    assert!(producer.try_send(1).is_err());
}

#[test]
fn a_host_that_does_not_turn_is_dead_to_its_peers() {
    let id = NetworkId::random();
    let dead_after = Duration::from_millis(300);
    let settings = || SessionSettings::default().with_dead_after(dead_after);
    let config = EngineConfig { shards: 1, ..EngineConfig::default() };
    let there = Network::builder(id).with_session(settings()).with_engine(config).build_blocking().unwrap();
    let hosted = hosted(Idle::ADAPTIVE);
    let here = Network::builder(id).with_session(settings()).with_engine(&hosted).build_blocking().unwrap();
    let (producer, _consumer) = connect(&there, &here);
    let channel = producer.consumers().next().unwrap();
    let lost = thread::spawn(move || {
        channel.disconnected_blocking();
        channel.close_code()
    });
    assert_eq!(lost.join().unwrap(), Some(CloseCode::PEER_LOST));
}

#[test]
fn the_future_ends_with_its_engine() {
    let hosted = hosted(Idle::Park);
    let (counter, waker) = CountingWaker::pair();
    let mut cx = Context::from_waker(&waker);
    let mut run = hosted.run(PollThread::start(&hosted).unwrap());
    while counter.wakes() == 0 && pin!(&mut run).poll(&mut cx).is_pending() {
        if counter.wakes() > 0 {
            break;
        }
        hosted.turn();
    }
    assert!(hosted.engine().stop(Duration::from_secs(1)));
    assert!(pin!(&mut run).poll(&mut cx).is_ready());
}

/// Its task hears nothing of the descriptor.
struct NeverReadable;

impl Reactor for NeverReadable {
    fn clear(&mut self) {}

    fn poll_readable(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// Polls an idle engine's task until it sleeps. What its first turns find may keep it awake.
fn fall_asleep(run: &mut HostedRun<NeverReadable>, counter: &CountingWaker, waker: &Waker) -> u64 {
    for _ in 0..1000 {
        let before = counter.wakes();
        assert!(pin!(&mut *run).poll(&mut Context::from_waker(waker)).is_pending());
        if counter.wakes() == before {
            return before;
        }
    }
    panic!("an idle engine does not sleep");
}

#[test]
fn a_sleeping_task_is_woken_by_other_turns_and_other_threads() {
    let hosted = hosted(Idle::Park);
    let (counter, waker) = CountingWaker::pair();
    let mut run = hosted.run(NeverReadable);
    let asleep = fall_asleep(&mut run, &counter, &waker);
    hosted.turn();
    assert_eq!(counter.wakes(), asleep + 1);

    let asleep = fall_asleep(&mut run, &counter, &waker);
    let engine: Engine = hosted.engine().clone();
    let join = || Network::builder(NetworkId::random()).with_engine(engine).build_blocking().unwrap();
    let network = thread::spawn(join).join().unwrap();
    // The clerk asks the shard to take the node's socket.
    let start = Instant::now();
    while counter.wakes() == asleep {
        assert!(start.elapsed() < LIMIT, "the task sleeps on");
        thread::yield_now();
    }
    drop(network);
}

#[test]
fn a_second_task_leaves_the_sleep_of_the_first_armed_or_wakes_it() {
    let hosted = hosted(Idle::Park);
    let (counter, waker) = CountingWaker::pair();
    let mut first = hosted.run(NeverReadable);
    let asleep = fall_asleep(&mut first, &counter, &waker);
    // One that was never polled.
    drop(hosted.run(NeverReadable));
    let engine: Engine = hosted.engine().clone();
    let join = || Network::builder(NetworkId::random()).with_engine(engine).build_blocking().unwrap();
    let network = thread::spawn(join).join().unwrap();
    let start = Instant::now();
    while counter.wakes() == asleep {
        assert!(start.elapsed() < LIMIT, "the task sleeps on");
        thread::yield_now();
    }
    // One that sleeps with the first.
    let asleep = fall_asleep(&mut first, &counter, &waker);
    let (of_second, its_waker) = CountingWaker::pair();
    let mut second = hosted.run(NeverReadable);
    let its_wakes = fall_asleep(&mut second, &of_second, &its_waker);
    assert_eq!(counter.wakes(), asleep, "nothing has ended the first one's sleep");
    hosted.turn();
    assert!(counter.wakes() > asleep && of_second.wakes() > its_wakes, "both are to sleep again");
    // One that goes away leaves the sleep to the other.
    let asleep = fall_asleep(&mut first, &counter, &waker);
    fall_asleep(&mut second, &of_second, &its_waker);
    drop(second);
    assert!(counter.wakes() > asleep);
    drop(network);
}

/// Polls the tasks that were woken until none is; gives the number of polls.
fn settle(tasks: &mut [(HostedRun<NeverReadable>, Arc<CountingWaker>, Waker, u64)]) -> u64 {
    let mut polls = 0;
    while polls < 1_000 {
        let woken = tasks.iter_mut().find(|(_, counter, _, seen)| counter.wakes() > *seen);
        let Some((run, counter, waker, seen)) = woken else { break };
        *seen = counter.wakes();
        assert!(pin!(run).poll(&mut Context::from_waker(waker)).is_pending());
        polls += 1;
    }
    polls
}

#[test]
fn two_tasks_of_an_idle_engine_do_not_keep_each_other_awake() {
    let hosted = hosted(Idle::Park);
    let mut tasks = [(); 2].map(|()| {
        let (counter, waker) = CountingWaker::pair();
        waker.wake_by_ref();
        (hosted.run(NeverReadable), counter, waker, 0)
    });
    settle(&mut tasks);
    for index in [0, 1] {
        tasks[index].2.wake_by_ref();
        assert!(settle(&mut tasks) <= 10, "one wake, and the tasks do not come to rest");
    }
}
