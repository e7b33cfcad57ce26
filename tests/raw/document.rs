//! net-mesh's document of its stream, statement by statement. Quotations are that document's; `Stream` there
//! is [`RawStream`](corewire::raw::RawStream) here.

use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use corewire::engine::{Idle, Limits};
use corewire::network::SessionSettings;
use corewire::raw::{
    CloseBehavior, DEFAULT_STREAM_WINDOW_BYTES, Reliability, StreamConfig, StreamError, stream_id_from_key,
};
use corewire::{Engine, EngineConfig, Network, NetworkId, PeerId};

use crate::support::{
    both, connected, engine, id_of, node, number_of, numbered, receive, reliable, two, until,
};

// "Multiple streams share one session, one Noise cipher, and one UDP socket — but have independent: sequence
// numbers (per-stream `tx_seq` / `rx_seq`), reliability mode (`FireAndForget` or `Reliable`), chosen at
// `open_stream`, fairness weight, statistics."
#[test]
fn streams_share_a_session_and_nothing_else() {
    let (here, there) = two();
    let sure = both((&here, &there), 1, (reliable(), reliable()));
    let weighted = StreamConfig::new().with_fairness_weight(4);
    let loose = both((&here, &there), 2, (weighted, StreamConfig::new()));
    for number in 0..3 {
        sure.0.try_send(numbered(number, 8)).unwrap();
    }
    loose.0.try_send("one").unwrap();
    for number in 0..3 {
        assert_eq!(number_of(&receive(&sure.1).unwrap()), number);
    }
    assert_eq!(receive(&loose.1).unwrap(), "one");
    assert_eq!((sure.0.stats().tx_seq, loose.0.stats().tx_seq), (3, 1));
    assert_eq!((sure.1.stats().rx_seq, loose.1.stats().rx_seq), (2, 0));
    assert_eq!(sure.0.config().reliability, Reliability::Reliable);
    assert_eq!(loose.0.config().reliability, Reliability::FireAndForget);
    assert_eq!((sure.0.config().fairness_weight, loose.0.config().fairness_weight), (1, 4));
    assert_eq!((here.stats().sessions_opened, there.stats().sessions_opened), (1, 1));
    assert_eq!((here.local().addresses().len(), there.local().addresses().len()), (1, 1));
}

// "Ordering within a stream: FIFO for `Reliable` streams (per-stream sequence + NACK-driven in-order
// delivery), best-effort monotonic-seq for `FireAndForget`." Here acknowledgements, not their absence, drive
// resends.
#[test]
fn reliable_is_first_in_first_out_and_fire_and_forget_monotonic() {
    let (here, there) = two();
    let (ours, theirs) = both((&here, &there), 1, (reliable(), reliable()));
    let sender = std::thread::spawn(move || {
        for number in 0..5_000 {
            ours.send_blocking(numbered(number, 100)).unwrap();
        }
        ours
    });
    for number in 0..5_000 {
        assert_eq!(number_of(&receive(&theirs).unwrap()), number);
    }
    sender.join().unwrap();

    let loose = StreamConfig::new();
    let (ours, theirs) = both((&here, &there), 2, (loose, loose));
    let sender = std::thread::spawn(move || {
        for number in 0..5_000 {
            ours.send_blocking(numbered(number, 100)).unwrap();
        }
        ours.send_blocking(numbered(5_000, 100)).unwrap();
        ours
    });
    let (mut next, mut missing) = (0, 0);
    while next <= 5_000 {
        let (payload, seq, lost) = corewire_testkit::wait("a payload", theirs.recv_numbered()).unwrap();
        assert_eq!((number_of(&payload), seq), (seq, next + lost), "the sequence tells every gap");
        next = seq + 1;
        missing += lost;
    }
    assert_eq!(theirs.stats().lost, missing);
    sender.join().unwrap();
}

// "No ordering across streams. Fair scheduling prevents starvation but timing is not synchronized."
#[test]
fn a_stream_whose_peer_does_not_read_stops_no_other() {
    let (here, there) = two();
    let stopped = both((&here, &there), 1, (reliable(), reliable()));
    let flowing = both((&here, &there), 2, (reliable(), reliable()));
    while stopped.0.try_send(vec![0; 1_000]).is_ok() {}
    for number in 0..1_000 {
        flowing.0.send_blocking(numbered(number, 1_000)).unwrap();
        assert_eq!(number_of(&receive(&flowing.1).unwrap()), number);
    }
    assert!(stopped.1.stats().inbound_pending > 0);
}

// "Stream IDs are opaque `u64`s. No range has reserved meaning at the transport layer. Callers derive IDs
// however they want — `stream_id_from_key(&str)` is the canonical helper for a deterministic derivation from
// a name."
#[test]
fn every_number_names_a_stream() {
    let (here, there) = two();
    let derived = stream_id_from_key("telemetry");
    assert_eq!(derived, stream_id_from_key("telemetry"));
    assert_ne!(derived, stream_id_from_key("telemetry2"));
    for number in [0, 1, u64::MAX, u64::MAX - 1, 1 << 63, derived] {
        let (ours, theirs) = both((&here, &there), number, (reliable(), reliable()));
        ours.try_send(number.to_le_bytes().to_vec()).unwrap();
        assert_eq!(number_of(&receive(&theirs).unwrap()), number);
        assert_eq!(theirs.stream_id(), number);
    }
}

// "Not multicast. A stream is one logical flow to one peer."
#[test]
fn a_stream_reaches_its_peer_and_no_other_node() {
    let id = NetworkId::random();
    let [one, two, three] = [(); 3].map(|()| node(id, SessionSettings::new()));
    let (ours, theirs) = both((&one, &two), 7, (reliable(), reliable()));
    let stranger = three.open_stream(id_of(&one), 7, reliable()).unwrap();
    let known = three.discovery().wait_for_blocking(|peer| *peer.id() == id_of(&one));
    assert!(known.is_some());
    ours.try_send("for two").unwrap();
    assert_eq!(receive(&theirs).unwrap(), "for two");
    // The third node is asked once its request was refused.
    until("the stranger is refused", || one.stats().stream_not_found > 0);
    assert!(!stranger.is_connected());
    assert_eq!(stranger.try_recv(), Ok(None));
    // Nor is the stream announced.
    let seen = two.discovery().wait_for_blocking(|peer| *peer.id() == id_of(&one)).unwrap();
    assert_eq!(seen.streams().len(), 0);
}

// "Default initial credit window for newly-opened streams", 65,536; "Reliability mode. Defaults to
// `FireAndForget`"; "`1` is equal-share"; "Defaults to [`DEFAULT_STREAM_WINDOW_BYTES`]"; `DropAndClose`.
// "Start from defaults." "0 would starve this stream; clamp up to 1."
#[test]
fn a_config_starts_from_the_defaults_and_keeps_what_is_set() {
    let config = StreamConfig::new();
    assert_eq!(config, StreamConfig::default());
    assert_eq!(DEFAULT_STREAM_WINDOW_BYTES, 65_536);
    assert_eq!((config.reliability, config.window_bytes), (Reliability::FireAndForget, 65_536));
    assert_eq!((config.fairness_weight, config.close_behavior), (1, CloseBehavior::DropAndClose));
    let config = config
        .with_reliability(Reliability::Reliable)
        .with_window_bytes(9)
        .with_fairness_weight(7)
        .with_close_behavior(CloseBehavior::DrainThenClose);
    assert_eq!((config.reliability, config.window_bytes), (Reliability::Reliable, 9));
    assert_eq!((config.fairness_weight, config.close_behavior), (7, CloseBehavior::DrainThenClose));
    assert_eq!(config.with_fairness_weight(0).fairness_weight, 1);
}

/// Keeps the warnings of this process.
struct Warnings(Mutex<Vec<String>>);

static WARNINGS: Warnings = Warnings(Mutex::new(Vec::new()));

impl log::Log for Warnings {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() == log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        self.0.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

// "Configuration is immutable for the lifetime of a stream. Re-opening the same `(peer, stream_id)` with
// different config is a no-op with a warning log — the original config wins."
#[test]
fn opening_again_with_other_settings_keeps_the_first_and_warns_once() {
    log::set_logger(&WARNINGS).expect("this is the one test with a logger");
    log::set_max_level(log::LevelFilter::Warn);
    let (here, there) = two();
    let first = here.open_stream(id_of(&there), 77_001, reliable()).unwrap();
    let same = here.open_stream(id_of(&there), 77_001, reliable()).unwrap();
    let warnings = || {
        let all = WARNINGS.0.lock().unwrap();
        all.iter().filter(|warning| warning.contains("77001")).cloned().collect::<Vec<_>>()
    };
    assert_eq!((same.epoch(), warnings().len()), (first.epoch(), 0));
    for window in [1, 2] {
        let other = StreamConfig::new().with_window_bytes(window);
        let again = here.open_stream(id_of(&there), 77_001, other).unwrap();
        assert_eq!((again.epoch(), again.config()), (first.epoch(), &reliable()));
    }
    assert_eq!(warnings().len(), 1, "{:?}", warnings());
}

// "`Backpressure`: The stream's outbound queue is full. No packets were enqueued. Caller decides whether to
// retry, drop, or surface further." "backpressure_events: Cumulative count of `send_on_stream` calls that
// returned `StreamError::Backpressure`". "tx_credit_remaining: Bytes of send credit still available. For
// bounded streams, `0` means the next send of any size will be rejected as Backpressure; near `tx_window`
// means plenty of headroom. Receiver-driven grants replenish this counter." "tx_window: Configured initial
// credit window in bytes."
#[test]
fn a_full_window_refuses_whole_sends_and_is_counted() {
    let (here, there) = two();
    let small = reliable().with_window_bytes(4_096);
    let (ours, theirs) = both((&here, &there), 1, (small, small));
    assert_eq!((ours.stats().tx_credit_remaining, ours.stats().tx_window), (4_096, 4_096));
    let mut sent = 0;
    // Also the peer's window fills, since it does not read.
    until("the window is full", || {
        while ours.try_send(numbered(sent, 512)).is_ok() {
            sent += 1;
        }
        ours.stats().tx_credit_remaining == 0 && theirs.stats().inbound_pending == sent - 8
    });
    let before = ours.stats();
    assert!(before.backpressure_events > 0);
    for attempt in 1..4 {
        assert_eq!(ours.try_send("x"), Err(StreamError::Backpressure));
        assert_eq!(ours.stats().backpressure_events, before.backpressure_events + attempt);
    }
    assert_eq!(ours.stats().tx_seq, before.tx_seq, "nothing was enqueued");
    for number in 0..sent {
        assert_eq!(number_of(&receive(&theirs).unwrap()), number);
    }
    until("credit is replenished", || ours.stats().tx_credit_remaining == 4_096);
    // Of several payloads that do not fit together, none is sent.
    let many: Vec<Bytes> = (0..9).map(|number| numbered(number, 512)).collect();
    assert_eq!(ours.try_send_many(&many), Err(StreamError::Backpressure));
    assert_eq!(ours.stats().tx_seq, sent);
    ours.try_send_many(&many[..8]).unwrap();
    assert_eq!(ours.stats().tx_seq, sent + 8);
}

// "Callers who want the v1-style "unbounded" escape hatch can explicitly set `with_window_bytes(0)`." "`0`
// disables backpressure (unbounded — v1 escape hatch)."
#[test]
fn without_a_window_sending_never_waits() {
    let (here, there) = two();
    let open = StreamConfig::new().with_window_bytes(0);
    let (ours, _theirs) = both((&here, &there), 1, (open, open));
    for _ in 0..2_000 {
        // A hundred times the default window in all, and the peer does not read.
        ours.try_send(vec![0; 4_000]).unwrap();
    }
    let stats = ours.stats();
    assert_eq!((stats.backpressure_events, stats.tx_window, stats.tx_seq), (0, 0, 2_000));
}

// "`NotConnected`: The underlying session is gone (peer disconnected, never connected, or the stream was
// closed)."
#[test]
fn a_stream_without_its_peer_is_not_connected() {
    let (here, there) = two();
    let never = here.open_stream(PeerId::random(), 1, reliable()).unwrap();
    assert_eq!(never.try_send("x"), Err(StreamError::NotConnected));
    let (ours, theirs) = both((&here, &there), 1, (reliable(), reliable()));
    drop(there);
    assert_eq!(receive(&theirs), Err(StreamError::NotConnected), "its own network has left");
    until("the peer is missed", || ours.try_send("x") == Err(StreamError::NotConnected));
    ours.close();
    assert_eq!(ours.try_send("x"), Err(StreamError::NotConnected));
    assert_eq!(ours.try_recv(), Err(StreamError::NotConnected));
}

// "`Transport(String)`: Underlying transport failure". "impl fmt::Display", "impl std::error::Error". Each
// text says what to do, so the words are not net-mesh's.
#[test]
fn errors_are_errors_with_a_text() {
    let (here, there) = two();
    let (ours, _theirs) = both((&here, &there), 1, (reliable(), reliable()));
    let too_long = ours.try_send(vec![0; 65_537]).unwrap_err();
    assert!(matches!(&too_long, StreamError::Transport(text) if text.contains("65537")));
    let errors = [too_long, StreamError::Backpressure, StreamError::NotConnected];
    let texts = errors.map(|error| Box::<dyn std::error::Error>::from(error).to_string());
    for (text, word) in texts.iter().zip(["65536", "room", "connected"]) {
        assert!(text.contains(word), "{text}");
    }
}

// "tx_seq: Next TX sequence number"; "sequences start at 0". "rx_seq: Highest RX sequence number observed so
// far." "inbound_pending: Events currently buffered on the inbound queue". "last_activity_ns: Nanoseconds
// since Unix epoch of the last inbound or outbound activity." "active: Whether the stream is active (not
// closed)." "credit_grants_received"; "credit_grants_sent".
#[test]
fn statistics_have_every_field() {
    let unix = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let begun = unix();
    let (here, there) = two();
    let (ours, theirs) = both((&here, &there), 1, (reliable(), reliable()));
    let fresh = ours.stats();
    assert_eq!((fresh.tx_seq, fresh.rx_seq, fresh.inbound_pending), (0, 0, 0));
    assert!(fresh.active && fresh.connected && fresh.last_activity_ns >= begun);
    assert_eq!((fresh.backpressure_events, fresh.tx_credit_remaining, fresh.tx_window), (0, 65_536, 65_536));
    ours.try_send_many(&[Bytes::from("a"), Bytes::from("b"), Bytes::from("c")]).unwrap();
    let sent = unix();
    assert_eq!(ours.stats().tx_seq, 3);
    assert!((fresh.last_activity_ns..=sent).contains(&ours.stats().last_activity_ns));
    until("three payloads have come", || theirs.stats().inbound_pending == 3);
    assert_eq!(theirs.stats().rx_seq, 2);
    let before = theirs.stats().last_activity_ns;
    receive(&theirs).unwrap();
    assert!(theirs.stats().last_activity_ns >= before.max(sent));
    assert_eq!(theirs.stats().inbound_pending, 2);
    assert_eq!(here.stream_stats(id_of(&there), 1).map(|stats| stats.tx_seq), Some(3));
    let sender = std::thread::spawn(move || {
        for _ in 0..200 {
            ours.send_blocking(vec![0; 4_096]).unwrap();
        }
        ours
    });
    for _ in 0..202 {
        receive(&theirs).unwrap();
    }
    let ours = sender.join().unwrap();
    until("grants have come", || {
        let (received, sent) = (ours.stats().credit_grants_received, theirs.stats().credit_grants_sent);
        received > 3 && received <= sent
    });
    ours.close();
    assert!(!ours.stats().active && !ours.stats().connected);
    assert_eq!(here.stream_stats(id_of(&there), 1), None);
}

// "rx_seq: Highest RX sequence number observed so far."
#[test]
fn payloads_that_wait_within_an_engine_count_as_arrived() {
    let (id, engine) = (NetworkId::random(), engine());
    let [here, there] =
        [(), ()].map(|()| Network::builder(id).with_engine(&engine).build_blocking().unwrap());
    let (ours, theirs) = both((&here, &there), 1, (reliable(), reliable()));
    for payload in ["a", "b", "c"] {
        ours.try_send(payload).unwrap();
    }
    assert_eq!((theirs.stats().inbound_pending, theirs.stats().rx_seq), (3, 2));
    receive(&theirs).unwrap();
    assert_eq!((theirs.stats().inbound_pending, theirs.stats().rx_seq), (2, 2));
}

// "Created by `MeshNode::open_stream`; dropped at any point without affecting the underlying `StreamState` —
// the stream is removed only when `MeshNode::close_stream` is explicitly called, when it's idle-evicted, or
// when its parent session tears down."
#[test]
fn dropping_handles_leaves_the_stream_open_until_it_is_closed() {
    let (here, there) = two();
    let (ours, theirs) = both((&here, &there), 1, (reliable(), reliable()));
    let epoch = ours.epoch();
    ours.try_send("before").unwrap();
    drop(ours);
    let again = here.open_stream(id_of(&there), 1, reliable()).unwrap();
    assert_eq!((again.epoch(), again.stats().tx_seq), (epoch, 1));
    again.try_send("after").unwrap();
    assert_eq!((receive(&theirs).unwrap(), receive(&theirs).unwrap()), ("before".into(), "after".into()));
    assert!(here.close_stream(id_of(&there), 1));
    assert!(!here.close_stream(id_of(&there), 1), "it is closed");
    assert_eq!(again.try_send("x"), Err(StreamError::NotConnected));
    assert_eq!(receive(&theirs), Err(StreamError::NotConnected));
}

#[test]
fn an_idle_stream_without_handles_gives_way_at_the_limit() {
    let limits = Limits { direct: 6, ..Limits::default() };
    let config = EngineConfig { shards: 1, pin: false, idle: Idle::Park, limits, ..EngineConfig::default() };
    let engine = Engine::start(config).unwrap();
    let here = Network::builder(NetworkId::random()).with_engine(engine).build_blocking().unwrap();
    let peer = PeerId::random();
    let open = |number| here.open_stream(peer, number, reliable());
    let held = open(0).unwrap();
    let oldest = open(1).unwrap().epoch();
    let newest = open(2).unwrap().epoch();
    let fourth = open(3).unwrap();
    assert!(fourth.stats().active);
    assert!(held.stats().active, "it has a handle");
    assert_eq!(here.stream_stats(peer, 1), None, "the one idle for longest was closed");
    assert!(oldest < newest && here.stream_stats(peer, 0).is_some());
    let third = open(2).unwrap();
    assert_eq!(third.epoch(), newest);
    assert!(matches!(open(1), Err(StreamError::Transport(_))), "all have handles");
}

// "Epoch of the `StreamState` this handle was opened against. If the stream is closed and reopened (same
// `stream_id`), the new state carries a different epoch and this handle's sends will fail with
// `NotConnected`. Prevents a stale `Stream` from silently operating on a different lifetime of the same
// id." "The peer this stream terminates at." "The stream id. Caller-chosen, opaque `u64`." "The config
// this stream was opened with."
#[test]
fn a_handle_from_before_a_reopening_is_stale() {
    let (here, there) = two();
    let (stale, theirs) = both((&here, &there), 9, (reliable(), reliable()));
    stale.close();
    let (ours, _) = both((&here, &there), 9, (reliable(), reliable()));
    assert!(ours.epoch() > stale.epoch());
    assert_eq!((ours.peer(), ours.stream_id(), ours.config()), (&id_of(&there), 9, &reliable()));
    assert_eq!(stale.try_send("old"), Err(StreamError::NotConnected));
    stale.close();
    ours.try_send("new").unwrap();
    assert_eq!(receive(&theirs), Err(StreamError::NotConnected), "the first life has ended");
    assert_eq!(receive(&theirs).unwrap(), "new");
    theirs.try_send("back").unwrap();
    assert_eq!(receive(&ours).unwrap(), "back");
    assert_eq!(stale.try_recv(), Err(StreamError::NotConnected));
    connected(&ours);
}
