//! The membership protocol on a simulated network: how soon all know what changes, at what cost, and what
//! attackers get.

mod attacks;
mod world;

use std::time::Duration;

use corewire_proto::{
    StreamId, TagId,
    swim::{GOSSIP_PAUSE, MAX_SWIM_BYTES, PERIOD},
};
use corewire_testkit::{SplitMix64, seeds};
use world::World;

/// What a network of one size needs.
struct Figures {
    nodes: usize,
    stream: Duration,
    tag: Duration,
    death: Duration,
    /// Sent by each node per second: bytes when nothing changes but what has to be renewed, and packets.
    idle: (f64, f64),
    /// The most bytes per second, in the time in which a stream spreads.
    busy: f64,
    /// Nodes that were given up although they were there.
    wrong: usize,
}

/// The pause after which a node renews its record in a network of this size, as the engine has it.
fn renewal(nodes: usize) -> Duration {
    Duration::from_secs(300) * (nodes as u32).div_ceil(32)
}

fn measure(seed: u64, nodes: usize, loss_per_mille: u64) -> Figures {
    let mut world = World::acquainted(seed, nodes, loss_per_mille);
    let mut dice = SplitMix64::new(seed ^ 99);
    let mut some = || dice.below(nodes as u64) as usize;
    let limit = Duration::from_secs(60);
    let known_by_all = |nodes: usize| nodes - nodes / 1_000;
    world.run_for(Duration::from_secs(5));
    let (before, seconds) = (world.sent, 20);
    // By count and not by chance: a renewal more or less in so short a time would hide what the size costs.
    let mut due = 0.0;
    for _ in 0..seconds {
        due += nodes as f64 / renewal(nodes).as_secs_f64();
        while due >= 1.0 {
            due -= 1.0;
            let node = some();
            world.change(node, |_| {});
        }
        world.run_for(Duration::from_secs(1));
    }
    let each = |sent: u64, time: f64| sent as f64 / time / nodes as f64;
    let idle = (
        each(world.sent.0 - before.0, f64::from(seconds)),
        each(world.sent.1 - before.1, f64::from(seconds)),
    );
    let mut spread = |world: &mut World, change: fn(&mut world::Facts)| {
        let before = world.sent.0;
        let node = some();
        let mark = world.change(node, change);
        let time = world.time_until(limit, |world| world.watched[&mark] >= known_by_all(nodes));
        let time = time.expect("a record spreads");
        (time, each(world.sent.0 - before, time.as_secs_f64()))
    };
    let (stream, busy) = spread(&mut world, |facts| facts.streams.push(StreamId([9; 32])));
    let (tag, _) = spread(&mut world, |facts| facts.tags = vec![TagId([8; 32])]);
    let victim = some();
    world.dead.insert(victim);
    let death = world.time_until(limit, |world| world.given_up(victim) >= known_by_all(nodes - 1));
    let wrong = world.failures.iter().filter(|(_, peer)| *peer != world.ids[victim]).count();
    let death = death.expect("a death is noticed");
    Figures { nodes, stream, tag, death, idle, busy, wrong }
}

/// Measures networks of these sizes, and prints a row for each as it comes.
#[expect(clippy::print_stdout, reason = "the table is what the test is run for")]
fn table(sizes: &[usize], seed: u64, loss_per_mille: u64) -> (Vec<Figures>, String) {
    let mut text = format!("loss {loss_per_mille} per mille, seed {seed}; until 99.9 % know\n");
    text +=
        "  nodes   stream s   tag s   death s   bytes/s idle   packets/s   bytes/s busy   wrongly given up\n";
    print!("{text}");
    let mut all = Vec::new();
    for nodes in sizes {
        let figures = measure(seed, *nodes, loss_per_mille);
        let s = |time: Duration| time.as_secs_f64();
        let Figures { nodes, stream, tag, death, idle, busy, wrong } = &figures;
        let (stream, tag, death, (bytes, packets)) = (s(*stream), s(*tag), s(*death), *idle);
        let row = format!(
            "{nodes:7} {stream:10.2} {tag:7.2} {death:9.2} {bytes:14.0} {packets:11.1} {busy:14.0} {wrong:18}\n"
        );
        print!("{row}");
        text += &row;
        all.push(figures);
    }
    (all, text)
}

#[test]
fn times_grow_with_the_logarithm_and_load_does_not_grow() {
    let (all, text) = table(&[16, 128], seeds(1)[0], 20);
    let (small, large) = (&all[0], &all[1]);
    assert_eq!(small.wrong + large.wrong, 0, "{text}");
    assert!(large.stream < Duration::from_secs(3) && large.tag < Duration::from_secs(3), "{text}");
    assert!(large.death < PERIOD * 12, "{text}");
    // Eight times the nodes are three more bits.
    assert!(large.stream < small.stream + 8 * GOSSIP_PAUSE, "{text}");
    assert!(large.idle.0 < 2.0 * small.idle.0, "{text}");
    assert!(large.idle.0 < 1_500.0, "{text}");
}

/// `cargo test --release -p corewire-proto --test swim -- --ignored --nocapture`
#[test]
#[ignore = "takes minutes and 6 GB in a release build"]
fn table_of_a_hundred_to_ten_thousand_nodes() {
    for loss in [10, 30] {
        let (all, text) = table(&[100, 1_000, 10_000], 1, loss);
        for pair in all.windows(2) {
            // Ten times the nodes are 3.3 more bits.
            assert!(pair[1].death < pair[0].death + PERIOD * 5, "{text}");
            assert!(pair[1].stream < pair[0].stream + 10 * GOSSIP_PAUSE, "{text}");
            assert!(pair[1].idle.0 < 1.5 * pair[0].idle.0, "{text}");
        }
    }
}

#[test]
fn node_that_knows_one_seed_is_known_to_all_and_survives_its_loss() {
    for seed in seeds(4) {
        let mut world = World::new(seed, 12, 20);
        for n in 1..12 {
            world.introduce(n, 0);
            world.introduce(0, n);
        }
        let all_know_all = |world: &World| world.nodes.iter().all(|node| node.len() == 12);
        let met = world.time_until(Duration::from_secs(120), all_know_all);
        assert!(met.is_some(), "seed {seed}");
        world.dead.insert(0);
        let noticed = world.time_until(PERIOD * 12, |world| world.given_up(0) == 11);
        assert!(noticed.is_some(), "seed {seed}: the seed's death is noticed");
        let mark = world.change(3, |facts| facts.tags.clear());
        let known = world.time_until(PERIOD * 5, |world| world.watched[&mark] == 11);
        assert!(known.is_some(), "seed {seed}: news spread without the seed");
        assert_eq!(world.failures.len(), 11, "seed {seed}: no one else is given up");
    }
}

#[test]
fn departure_is_known_to_all_without_a_suspicion() {
    let mut world = World::acquainted(seeds(1)[0], 40, 20);
    world.run_for(PERIOD * 2);
    let mark = world.change(7, |facts| facts.leaving = true);
    world.run_for(GOSSIP_PAUSE * 2);
    world.dead.insert(7);
    world.run_for(PERIOD * 20);
    assert_eq!(world.watched[&mark], 40, "all were told");
    assert!(world.failures.is_empty(), "no one is given up who said goodbye");
    assert!(world.nodes.iter().all(|node| node.mark(&world.ids[7]).is_none() || node.len() == 40));
}

#[test]
fn member_that_left_does_not_come_back_by_an_older_record() {
    let mut world = World::acquainted(seeds(1)[0], 6, 0);
    world.run_for(PERIOD * 2);
    let old = world.nodes[2].mark(&world.ids[1]).expect("a member");
    world.change(1, |facts| facts.leaving = true);
    world.run_for(GOSSIP_PAUSE * 4);
    world.dead.insert(1);
    // One that has missed it tells of the older record.
    let now = world.now;
    world.nodes[2].learned(now, &world.library.records[&old].0, 0, false);
    world.after(2);
    let back = world.time_until(PERIOD * 12, |world| {
        [0, 3, 4, 5].iter().any(|n: &usize| world.nodes[*n].mark(&world.ids[1]).is_some())
    });
    assert!(back.is_none());
    assert!(world.nodes[2].mark(&world.ids[1]).is_none(), "and it is told");
    // A new life is another matter.
    world.dead.remove(&1);
    world.change(1, |facts| facts.leaving = false);
    world.run_for(PERIOD * 3);
    assert!([0, 3, 4, 5].iter().all(|n: &usize| world.nodes[*n].mark(&world.ids[1]).is_some()));
}

#[test]
fn node_that_stood_still_asks_suspects_before_it_gives_them_up() {
    let mut world = World::acquainted(seeds(1)[0], 3, 0);
    world.run_for(PERIOD * 2);
    world.dead.insert(1);
    world.run_for(PERIOD * 7 / 2);
    world.dead.remove(&1);
    assert!(world.failures.is_empty(), "it is suspected only");
    // What came for the node in this time lies in its socket.
    world.now += PERIOD * 30;
    let now = world.now;
    for n in 0..3 {
        world.nodes[n].handle_timeout(now, &world.library);
        world.after(n);
    }
    world.run_for(PERIOD * 20);
    assert_eq!(world.failures, []);
}

#[test]
fn member_that_was_given_up_is_asked_at_once_when_it_is_heard_otherwise() {
    let mut world = World::acquainted(seeds(1)[0], 2, 0);
    world.cut_at = Some(1);
    let alone = |world: &World| world.nodes.iter().all(|node| node.len() == 1);
    assert!(world.time_until(Duration::from_secs(90), alone).is_some());
    // What either would have asked by itself now is lost.
    world.run_for(PERIOD);
    world.cut_at = None;
    let (now, peer) = (world.now, world.ids[1]);
    world.nodes[0].ask(now, &peer);
    world.after(0);
    assert!(world.time_until(PERIOD / 4, |world| world.nodes[0].len() == 2).is_some());
    // One that said that it leaves is not asked.
    world.change(1, |facts| facts.leaving = true);
    world.dead.insert(1);
    world.run_for(PERIOD);
    let (now, before) = (world.now, world.nodes_sent[0]);
    world.nodes[0].ask(now, &peer);
    world.after(0);
    assert_eq!(world.nodes_sent[0], before);
}

#[test]
fn record_that_is_too_long_for_a_packet_spreads_without_sessions() {
    for seed in seeds(2) {
        let mut world = World::acquainted(seed, 30, 20);
        world.run_for(PERIOD * 2);
        let before = world.sent.0;
        let mark = world.change(7, |facts| {
            facts.streams = (0..600_u16)
                .map(|n| {
                    let mut id = [5; 32];
                    id[..2].copy_from_slice(&n.to_be_bytes());
                    StreamId(id)
                })
                .collect();
        });
        let len = world.library.records[&mark].0.bytes().len() as u64;
        assert!(len > 19_000);
        let time = world.time_until(PERIOD * 6, |world| world.watched[&mark] == 30);
        assert!(time.is_some(), "seed {seed}: {} of 30 know it", world.watched[&mark]);
        // Each fetches it once, with requests as long as the answers.
        let sent = world.sent.0 - before;
        assert!(sent < 29 * len * 3 + 29 * 6 * 2_000, "seed {seed}: {sent} bytes");
        world.run_for(PERIOD * 10);
        assert_eq!((world.watched[&mark], world.failures.len()), (30, 0));
    }
}

#[test]
fn member_whose_session_ended_is_asked_next() {
    let mut world = World::acquainted(seeds(1)[0], 60, 0);
    let (now, peer) = (world.now, world.ids[9]);
    world.nodes[0].set_connected(now, &peer, true);
    world.run_for(PERIOD * 2);
    world.dead.insert(9);
    let now = world.now;
    world.nodes[0].set_connected(now, &peer, false);
    world.after(0);
    let suspected = world.time_until(PERIOD * 5 / 2, |world| world.sent_again.contains(&(0, 9)));
    assert!(suspected.is_some());
}

#[test]
fn parts_of_a_cut_network_find_each_other_again() {
    let mut world = World::acquainted(seeds(1)[0], 20, 10);
    world.cut_at = Some(10);
    let apart = |world: &World| world.nodes.iter().all(|node| node.len() == 10);
    assert!(world.time_until(Duration::from_secs(90), apart).is_some(), "each part goes on alone");
    world.cut_at = None;
    let together = |world: &World| world.nodes.iter().all(|node| node.len() == 20);
    assert!(world.time_until(Duration::from_secs(180), together).is_some(), "and they meet again");
}

#[test]
fn nodes_of_which_each_is_alone_find_each_other_again() {
    let mut world = World::acquainted(seeds(1)[0], 2, 0);
    world.cut_at = Some(1);
    let alone = |world: &World| world.nodes.iter().all(|node| node.len() == 1);
    assert!(world.time_until(Duration::from_secs(90), alone).is_some(), "each gives the other up");
    world.run_for(Duration::from_secs(60));
    world.cut_at = None;
    let together = |world: &World| world.nodes.iter().all(|node| node.len() == 2);
    assert!(world.time_until(Duration::from_secs(180), together).is_some(), "and they meet again");
}

#[test]
fn two_nodes_fall_silent_but_for_their_questions() {
    let mut world = World::acquainted(seeds(1)[0], 2, 0);
    world.run_for(PERIOD);
    world.change(0, |facts| facts.tags.push(TagId([3; 32])));
    world.run_for(PERIOD * 10);
    let before = world.sent.1;
    world.run_for(PERIOD * 10);
    // A question and its answer from each node in a period, and a comparison now and then.
    let sent = world.sent.1 - before;
    assert!(sent <= 50, "{sent} packets in ten periods");
}

#[test]
fn records_that_gossip_has_missed_are_found_by_comparing_sums() {
    // Old records are no news: only comparisons spread them.
    let mut world = World::acquainted(seeds(1)[0], 60, 10);
    world.run_for(PERIOD);
    let ids = world.ids.clone();
    for peer in &ids[20..40] {
        world.nodes[0].forget(peer);
    }
    let whole = |world: &World| world.nodes[0].len() == 60;
    assert!(world.time_until(Duration::from_secs(120), whole).is_some());
    assert!(world.failures.is_empty());
}

#[test]
fn member_that_is_paused_is_suspected_and_objects_when_it_goes_on() {
    let mut world = World::acquainted(seeds(1)[0], 30, 10);
    world.run_for(PERIOD);
    world.dead.insert(4);
    world.run_for(PERIOD * 5 / 2);
    world.dead.remove(&4);
    world.reschedule(4);
    world.run_for(PERIOD * 20);
    assert_eq!(world.failures.len(), 0, "it came back in time");
    assert!(world.nodes.iter().all(|node| node.len() == 30));
}

#[test]
fn members_are_not_suspected_for_packets_lost_by_chance() {
    // One packet of ten is lost. If others were asked to ask only once, six would be suspected of each world.
    let objections = seeds(3).into_iter().map(|seed| {
        let mut world = World::acquainted(seed, 64, 100);
        world.run_for(PERIOD * 60);
        world.objections
    });
    let objections: Vec<u64> = objections.collect();
    assert!(objections.iter().sum::<u64>() <= 2, "{objections:?}");
}

#[test]
fn observer_that_is_late_itself_suspects_no_one() {
    let mut world = World::acquainted(seeds(1)[0], 2, 0);
    world.run_for(PERIOD * 3);
    world.dead.insert(1);
    // It is called once in two periods, as on a host without time for it.
    for _ in 0..30 {
        world.now += PERIOD * 2;
        let now = world.now;
        world.nodes[0].handle_timeout(now, &world.library);
        world.after(0);
    }
    assert!(world.failures.is_empty());
}

#[test]
fn members_with_sessions_cost_nothing_and_are_not_given_up() {
    let mut world = World::acquainted(seeds(1)[0], 3, 0);
    let now = world.now;
    for n in 0..3 {
        for peer in world.ids.clone() {
            world.nodes[n].set_connected(now, &peer, true);
        }
        world.reschedule(n);
    }
    world.run_for(PERIOD * 2);
    let before = world.sent;
    world.dead.insert(2);
    world.run_for(PERIOD * 60);
    assert_eq!(world.sent, before, "the sessions know, and carry the records");
    assert!(world.failures.is_empty());
    for n in 0..2 {
        let (now, peer) = (world.now, world.ids[2]);
        world.nodes[n].set_connected(now, &peer, false);
        world.reschedule(n);
    }
    world.run_for(PERIOD * 8);
    assert_eq!(world.given_up(2), 2, "without its session it is asked again");
}

#[test]
fn no_packet_is_longer_than_every_link_carries() {
    let mut world = World::acquainted(seeds(1)[0], 20, 0);
    for n in 0..20 {
        world.change(n, |facts| facts.streams = (0..30).map(|n| StreamId([n; 32])).collect());
    }
    let mut longest = 0;
    for _ in 0..200 {
        let now = world.now + Duration::from_millis(50);
        world.now = now;
        for n in 0..20 {
            world.nodes[n].handle_timeout(now, &world.library);
            while let Some((_, packet)) = world.nodes[n].poll_transmit() {
                longest = longest.max(packet.len());
            }
        }
    }
    assert!((1..=MAX_SWIM_BYTES).contains(&longest), "{longest}");
}
