//! Two sessions over a faulty network, by seed. A failure prints its seed; run it alone with
//! `COREWIRE_SEED=<n> cargo test -p corewire-proto --test simulation`.

mod harness;

use std::time::Duration;

use corewire_proto::{channel::Reliability, congestion::Congestion, session::SessionConfig};
use corewire_testkit::{replay, seeds};
use harness::{Counts, Faults, Flow, Link, Rng, Trouble, World, content};

fn faults(rng: &mut Rng) -> Faults {
    let mut draw = |max: u64| if rng.chance(500) { rng.below(max) } else { 0 };
    Faults {
        loss: draw(200),
        duplicate: draw(100),
        corrupt: draw(50),
        reorder: draw(300),
        delay_us: 20 + draw(3_000),
        steady: false,
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
    limits.max_held_bytes = [1 << 20, 256 << 20][rng.below(2) as usize];
    limits.max_events = [3, 16_384][rng.below(2) as usize];
    config
}

/// A seed's run: faults of every kind, then none, after which everything has to arrive.
fn storm(seed: u64) -> (Counts, Duration) {
    let mut rng = Rng::new(seed ^ 0x5eed);
    // Every third seed runs as users do.
    let config = if seed.is_multiple_of(3) { SessionConfig::default() } else { config(&mut rng) };
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
    let done = |world: &World| world.all_over() && world.peers[1].controls.len() == controls.len();
    for _ in 0..rng.below(8) {
        world.run_until(Duration::from_micros(rng.below(60_000)), done);
        if done(&world) {
            break;
        }
        world.trouble(Trouble::ALL[rng.below(8) as usize], &mut rng);
    }
    // Without further faults every channel must finish.
    world.heal();
    let alive = world.run_until(Duration::from_secs(150), done);
    assert!(alive, "seed {seed}: stuck");
    assert_eq!(world.peers[1].controls, controls, "seed {seed}");
    for peer in &world.peers {
        assert_eq!(peer.closed, None, "seed {seed}: a session closed");
        for inbox in peer.inboxes.consuming.values().filter(|inbox| inbox.closed.is_none()) {
            let config = &inbox.config;
            if config.overwrite == 0 && config.reliability == Reliability::Reliable {
                assert_eq!(inbox.delivered, inbox.expected(), "seed {seed}");
            }
        }
        let stats = peer.session.session_stats();
        assert_eq!(stats.channels, 0, "seed {seed}");
        assert_eq!(stats.held_bytes, 0, "seed {seed}: something is held for ever");
    }
    (world.counts, world.now - corewire_proto::time::Instant::ZERO)
}

#[test]
fn streams_survive_any_mixture_of_faults() {
    let (mut counts, mut time) = (Counts::default(), Duration::ZERO);
    let seeds = seeds(150);
    for seed in seeds.iter().copied() {
        let (seen, took) = replay(seed, "-p corewire-proto --test simulation", storm);
        counts.merge(&seen);
        time += took;
    }
    println!("{} seeds, {} simulated minutes, faults:\n{counts}", seeds.len(), time.as_secs() / 60);
    for kind in Trouble::ALL.map(Trouble::kind).into_iter().chain(["loss", "reordering", "corruption"]) {
        assert!(seeds.len() < 100 || counts.of(kind) > 20, "{kind} hardly happened");
    }
}

#[test]
fn fire_and_forget_moves_much_through_one_percent_loss_without_a_stall() {
    let faults = Faults { loss: 10, delay_us: 200, ..Faults::default() };
    let mut world = World::new(1, &SessionConfig::default(), faults);
    let (datums, length): (u64, fn(u64) -> usize) = (20_000, |_| 1_000);
    let flow = Flow {
        reliability: Reliability::FireAndForget,
        datums,
        length,
        window_bytes: 1 << 20,
        ..Flow::default()
    };
    world.open(0, Flow { take: 1_000, ..flow });
    let delivered = |world: &World| world.peers[0].inboxes.consuming.values().next().unwrap().delivered;
    while !world.all_finished() {
        let before = delivered(&world);
        world.run_until(Duration::from_millis(500), World::all_finished);
        assert!(delivered(&world) > before, "nothing came for half a second after {before}");
    }
    let inbox = world.peers[0].inboxes.consuming.values().next().unwrap();
    // The path jitters too, and a packet that arrives after a later one is dropped.
    assert!(inbox.delivered > datums / 10 * 7 && inbox.delivered < datums, "{}", inbox.delivered);
    let missing = inbox.skipped + (datums - inbox.next);
    assert_eq!(inbox.delivered + missing, datums, "what did not arrive is counted");
}

#[test]
fn reliable_finishes_through_loss_reordering_and_duplication() {
    for seed in seeds(3) {
        let faults = Faults { loss: 100, reorder: 50, duplicate: 20, delay_us: 500, ..Faults::default() };
        let mut world = World::new(seed, &SessionConfig::default(), faults);
        let length: fn(u64) -> usize = |seq| if seq % 400 == 0 { 100_000 } else { (seq * 37 % 900) as usize };
        let label = world.open(0, Flow { datums: 4_000, length, take: 500, ..Flow::default() });
        assert!(world.run_until(Duration::from_secs(60), World::all_finished), "seed {seed}");
        let inbox = &world.peers[0].inboxes.consuming[&label];
        assert_eq!(
            (inbox.delivered, inbox.skipped),
            (4_000, 0),
            "seed {seed}: whole; the inbox checks order"
        );
    }
}

#[test]
fn weights_share_a_bottleneck_link_one_to_four() {
    for (light, heavy) in [(64usize, 64usize), (64, 1_200), (1_200, 64), (1_000, 9_000)] {
        let length = |len: usize| -> fn(u64) -> usize {
            match len {
                64 => |_| 64,
                1_000 => |_| 1_000,
                1_200 => |_| 1_200,
                _ => |_| 9_000,
            }
        };
        let mut world =
            World::new(9, &SessionConfig::default(), Faults { delay_us: 1_000, ..Faults::default() });
        world.mtu = 1_452;
        world.link = Some(Link { bytes_per_second: 2_000_000, queue_bytes: 60_000 });
        let flow = |len, weight| Flow {
            datums: 1 << 40,
            window_bytes: 0,
            take: 1 << 20,
            length: length(len),
            weight,
            ..Flow::default()
        };
        let labels = [world.open(0, flow(light, 1)), world.open(0, flow(heavy, 4))];
        let bytes =
            |world: &World| labels.map(|at| world.peers[0].session.stats(at).unwrap().rx_bytes as f64);
        world.run_until(Duration::from_secs(1), |_| false);
        let before = bytes(&world);
        world.run_until(Duration::from_secs(4), |_| false);
        let after = bytes(&world);
        let ratio = (after[1] - before[1]) / (after[0] - before[0]);
        assert!((3.8..4.2).contains(&ratio), "{light} and {heavy} bytes: {ratio}");
        assert!(
            world.counts.of("full queue") > 0 && after[0] + after[1] > 6_000_000.0,
            "the link is the bottleneck"
        );
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
