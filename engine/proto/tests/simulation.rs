//! Two sessions over a faulty network, by seed. A failure prints its seed; run it alone with
//! `COREWIRE_SEED=<n> cargo test -p corewire-proto --test simulation`.

mod harness;

use std::time::Duration;

use corewire_proto::{channel::Reliability, congestion::Congestion, session::SessionConfig};
use corewire_testkit::seeds;
use harness::{Faults, Flow, Rng, World, content};

fn faults(rng: &mut Rng) -> Faults {
    let mut draw = |max: u64| if rng.chance(500) { rng.below(max) } else { 0 };
    Faults {
        loss: draw(200),
        duplicate: draw(100),
        corrupt: draw(50),
        reorder: draw(300),
        delay_us: 20 + draw(3_000),
    }
}

fn flow(rng: &mut Rng) -> Flow {
    const LENGTHS: [fn(u64) -> usize; 5] = [
        |_| 64,
        |seq| (seq * 37 % 300) as usize,
        |seq| (seq % 3) as usize,
        |seq| (seq * 911 % 9_000) as usize,
        |seq| if seq % 17 == 0 { 40_000 } else { 100 },
    ];
    let reliable = rng.chance(700);
    Flow {
        reliability: if reliable { Reliability::Reliable } else { Reliability::FireAndForget },
        window_bytes: [0, 16, 4_096, 65_536, 1 << 20][rng.below(5) as usize],
        window_datums: [0, 1, 16, 1_024][rng.below(4) as usize],
        max_datum: 50_000,
        first_seq: [0, 7, 1 << 40][rng.below(3) as usize],
        datums: 50 + rng.below(300),
        length: LENGTHS[rng.below(5) as usize],
        skip: [0, 0, 100, 900][rng.below(4) as usize],
        take: 1 + rng.below(60),
        weight: 1 + rng.below(4) as u8,
        overwrite: if rng.chance(200) { 40 } else { 0 },
    }
}

/// Every seed draws its bounds as well; the smallest ones make each bound take effect.
fn config(rng: &mut Rng) -> SessionConfig {
    let congestion = [
        Congestion::Cubic,
        Congestion::NewReno,
        Congestion::Unlimited,
        Congestion::Fixed { bytes_per_second: 5_000_000 },
    ];
    let mut config = SessionConfig {
        max_packet_bytes: [1_232, 1_452, 8_900, 65_507][rng.below(4) as usize],
        quantum_bytes: [300, 4_096][rng.below(2) as usize],
        congestion: congestion[rng.below(4) as usize],
        ..SessionConfig::default()
    };
    let limits = &mut config.limits;
    limits.max_frames_in_flight = [16, 100, 8_192][rng.below(3) as usize];
    limits.max_packets_in_flight = [2, 20, 8_192][rng.below(3) as usize];
    limits.max_held_bytes = [400_000, 256 << 20][rng.below(2) as usize];
    limits.max_events = [3, 16_384][rng.below(2) as usize];
    config
}

fn storm(seed: u64) {
    let mut rng = Rng::new(seed ^ 0x5eed);
    let config = config(&mut rng);
    let mut world = World::new(seed, &config, faults(&mut rng));
    for _ in 0..=rng.below(5) {
        let consumer = rng.below(2) as usize;
        let flow = flow(&mut rng);
        world.open(consumer, flow);
    }
    let controls: Vec<Vec<u8>> =
        (0..rng.below(12)).map(|n| content(99, n, rng.below(20_000) as usize)).collect();
    for message in &controls {
        world.peers[0].session.send_control(message.clone()).unwrap();
    }
    let done = |world: &World| world.all_finished() && world.peers[1].controls.len() == controls.len();
    world.run_until(Duration::from_millis(rng.below(300)), done);
    // Without further faults every channel must finish.
    world.faults = Faults { delay_us: world.faults.delay_us, ..Faults::default() };
    let alive = world.run_until(Duration::from_secs(150), done);
    assert!(alive, "seed {seed}: stuck");
    assert_eq!(world.peers[1].controls, controls, "seed {seed}");
    for peer in &world.peers {
        assert_eq!(peer.closed, None, "seed {seed}: a session closed");
        for inbox in peer.inboxes.consuming.values() {
            let config = &inbox.config;
            if config.overwrite == 0 && config.reliability == Reliability::Reliable {
                assert_eq!(inbox.delivered, inbox.expected(), "seed {seed}");
            }
        }
        let stats = peer.session.session_stats();
        assert_eq!(stats.channels, 0, "seed {seed}");
        assert_eq!(stats.held_bytes, 0, "seed {seed}: something is held for ever");
    }
}

#[test]
fn streams_survive_any_mixture_of_faults() {
    for seed in seeds(250) {
        let result = std::panic::catch_unwind(|| storm(seed));
        if let Err(panic) = result {
            eprintln!("replay with COREWIRE_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn datums_of_a_mebibyte_arrive_through_ten_percent_loss() {
    for seed in seeds(2) {
        let faults = Faults { loss: 100, reorder: 50, delay_us: 200, ..Faults::default() };
        let mut world = World::new(seed, &SessionConfig::default(), faults);
        let length: fn(u64) -> usize = |seq| if seq % 2 == 0 { 1 << 20 } else { 300_000 };
        world.open(0, Flow { datums: 4, length, ..Flow::default() });
        assert!(world.run_until(Duration::from_secs(120), World::all_finished), "seed {seed}");
    }
}

#[test]
fn equal_datums_are_moved_in_runs() {
    for reliability in [Reliability::Reliable, Reliability::FireAndForget] {
        let faults = Faults { loss: 50, reorder: 50, delay_us: 100, ..Faults::default() };
        let mut world = World::new(1, &SessionConfig::default(), faults);
        let flow = Flow { reliability, datums: 3_000, length: |_| 64, window_datums: 100, ..Flow::default() };
        world.open(0, flow);
        assert!(world.run_until(Duration::from_secs(20), World::all_finished));
        let single: u64 = world.peers[1].rings.producing.values().map(|ring| ring.fetched).sum();
        let runs = world.peers[1].rings.runs;
        assert!(single < 2_000 && runs > 2_000, "{single} one by one, {runs} in runs");
    }
}
