//! Ten thousand raw channels in one session: each moves payloads, and the memory of the process stays small.
//!
//! `COREWIRE_CHANNELS=1000 cargo test --test raw_many` uses fewer. This test has its own binary because it
//! measures the whole process.

use std::time::Instant;

use corewire::engine::{Idle, Limits};
use corewire::raw::{RawStream, Reliability, StreamConfig, StreamError};
use corewire::{Engine, EngineConfig, Network, NetworkId};
use corewire_testkit::{LIMIT, env_number};

const CHANNELS: u64 = 10_000;

/// Resident memory for one channel, both ends with their rings and inboxes together.
const BYTES_EACH: u64 = 128 << 10;

/// The resident memory of this process, in bytes.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux says how large a process is");
    let pages: u64 = pages.split(' ').nth(1).and_then(|text| text.parse().ok()).expect("a number of pages");
    pages * 4_096
}

fn node(id: NetworkId) -> Network {
    // By default a peer may open a thousand channels per second.
    let limits = Limits { opens_per_second: 1_000_000, ..Limits::default() };
    let config = EngineConfig { shards: 1, pin: false, idle: Idle::Park, limits, ..EngineConfig::default() };
    let engine = Engine::start(config).expect("an engine");
    Network::builder(id).with_engine(engine).build_blocking().expect("a node")
}

/// Opens all channels from one side.
fn open(here: &Network, there: &Network, count: u64) -> Vec<RawStream> {
    let config = StreamConfig::new().with_reliability(Reliability::Reliable);
    let peer = *there.local().id();
    (0..count).map(|number| here.open_stream(peer, number, config).expect("it opens")).collect()
}

/// Calls `step` for each channel until it has been done for all of them.
#[expect(clippy::print_stdout, reason = "the times are part of what the test shows")]
fn for_all(what: &str, streams: &[RawStream], mut step: impl FnMut(u64, &RawStream) -> bool) {
    let begun = Instant::now();
    let mut left: Vec<u64> = (0..streams.len() as u64).collect();
    while !left.is_empty() {
        left.retain(|number| !step(*number, &streams[*number as usize]));
        assert!(begun.elapsed() < 5 * LIMIT, "{what}: {} channels are left", left.len());
        std::thread::yield_now();
    }
    println!("{what}: {:.1?}", begun.elapsed());
}

#[test]
fn ten_thousand_channels_share_one_session() {
    let count = env_number("COREWIRE_CHANNELS").unwrap_or(CHANNELS);
    let id = NetworkId::random();
    let (here, there) = (node(id), node(id));
    let before = resident();
    let begun = Instant::now();
    let (ours, theirs) = (open(&here, &there, count), open(&there, &here, count));
    println!("{count} channels made at both ends: {:.1?}", begun.elapsed());
    for_all("connected", &ours, |_, stream| stream.is_connected());
    for_all("connected the other way", &theirs, |_, stream| stream.is_connected());
    println!("{:.1} KiB for each channel", (resident() - before) as f64 / count as f64 / 1024.0);
    for_all("sent", &ours, |number, stream| match stream.try_send(number.to_le_bytes().to_vec()) {
        Ok(()) => true,
        Err(StreamError::Backpressure) => false,
        Err(other) => panic!("channel {number}: {other}"),
    });
    for_all("received and answered", &theirs, |number, stream| match stream.try_recv() {
        Ok(Some(payload)) => {
            assert_eq!(payload, number.to_le_bytes().to_vec(), "of its own channel");
            stream.try_send(payload).expect("there is room");
            true
        }
        Ok(None) => false,
        Err(other) => panic!("channel {number}: {other}"),
    });
    for_all("answers received", &ours, |number, stream| {
        let answer = stream.try_recv().expect("it is open");
        answer.is_some_and(|answer| answer == number.to_le_bytes().to_vec())
    });
    let each = (resident() - before) / count;
    println!("{:.1} KiB for each channel that has moved payloads both ways", each as f64 / 1024.0);
    assert!(each <= BYTES_EACH, "{each} bytes for each channel");
    assert_eq!((here.stats().sessions_opened, there.stats().sessions_opened), (1, 1));
    let begun = Instant::now();
    ours.iter().for_each(RawStream::close);
    for_all("the other side has seen the end", &theirs, |_, stream| !stream.is_connected());
    println!("closed: {:.1?}", begun.elapsed());
}
