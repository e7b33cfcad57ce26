//! The fanout ring beside its peers and its limits, in one run.
//!
//! `cargo run -p corewire-perf --release --bin compare-rings -- [--quick]` prints one table a case. Every system
//! of a case runs once in each round, so that a slow minute of the machine hits all of them alike; a row shows
//! minimum, median and maximum over the rounds, the median's ratio to the case's first row, and the largest
//! share of messages any receiver lost. Senders are pinned to the first processor, receivers to the second.
#![allow(clippy::print_stdout, reason = "a program that prints its result")]

use std::time::Duration;

use corewire_perf::machine;
use corewire_perf::rings::corewire::{Corewire, CorewireTx};
use corewire_perf::rings::limits;
use corewire_perf::rings::peers::{
    AsyncBroadcast, Broadcast, Crossbeam, Disruptor, Iceoryx, Rtrb, TokioBroadcast,
};
use corewire_perf::rings::run::{Publish, Throughput, round_trip, throughput};
use corewire_perf::stats::Spread;

/// Room of every queue, in messages.
const CAPACITY: usize = 1024;
/// Messages in one batch.
const BATCH: usize = 32;

struct Plan {
    rounds: usize,
    time: Duration,
    trips: usize,
}

/// One row of a case: its name and what one run of it gives (a figure and the share lost).
type Row<'a> = (&'a str, Box<dyn Fn() -> (f64, f64) + 'a>);

fn case(title: &str, unit: &str, plan: &Plan, rows: &[Row<'_>]) {
    let mut figures = vec![Vec::new(); rows.len()];
    let mut lost = vec![0f64; rows.len()];
    for round in 0..plan.rounds {
        for i in 0..rows.len() {
            // Another order in each round: no system always follows the same neighbour.
            let i = (i + round) % rows.len();
            let (figure, share) = rows[i].1();
            figures[i].push(figure);
            lost[i] = lost[i].max(share);
        }
    }
    println!("\n{title}, {unit}");
    println!("  {:<22} {:>9} {:>9} {:>9} {:>7} {:>8}", "", "min", "median", "max", "ratio", "lost");
    let base = Spread::of(&figures[0]).map_or(1.0, |spread| spread.median);
    for ((name, _), (runs, lost)) in rows.iter().zip(figures.iter().zip(&lost)) {
        if let Some(spread) = Spread::of(runs) {
            println!("  {name:<22} {spread} {:>7.2} {:>7.2}%", spread.median / base, lost * 100.0);
        }
    }
}

fn rate(result: Throughput) -> (f64, f64) {
    (result.received_m, result.lost)
}

fn fan<'a, const W: usize, B: Broadcast<W>>(
    name: &'a str,
    readers: usize,
    publish: Publish,
    plan: &'a Plan,
) -> Row<'a> {
    let run = move || {
        let (tx, rxs) = B::make(CAPACITY, readers);
        rate(throughput::<W, _, _>(vec![tx], rxs, publish, plan.time))
    };
    (name, Box::new(run))
}

fn disruptor_fan<'a, const W: usize>(readers: usize, publish: Publish, plan: &'a Plan) -> Row<'a> {
    let run = move || {
        if readers == 1 {
            let (txs, rxs) = Disruptor::one::<W>(CAPACITY);
            rate(throughput::<W, _, _>(txs, rxs, publish, plan.time))
        } else {
            let (txs, rxs) = Disruptor::many::<W>(CAPACITY, readers);
            rate(throughput::<W, _, _>(txs, rxs, publish, plan.time))
        }
    };
    ("disruptor", Box::new(run))
}

fn trip<'a, B: Broadcast<8>>(name: &'a str, plan: &'a Plan) -> Row<'a> {
    let run = move || {
        let (there_tx, mut there_rx) = B::make(CAPACITY, 1);
        let (back_tx, mut back_rx) = B::make(CAPACITY, 1);
        let (there_rx, back_rx) = (there_rx.remove(0), back_rx.remove(0));
        (round_trip::<8, _, _, _, _>(there_tx, there_rx, back_tx, back_rx, plan.trips), 0.0)
    };
    (name, Box::new(run))
}

fn disruptor_trip(plan: &Plan) -> Row<'_> {
    let run = move || {
        let (mut there_tx, mut there_rx) = Disruptor::one::<8>(CAPACITY);
        let (mut back_tx, mut back_rx) = Disruptor::one::<8>(CAPACITY);
        let trips = plan.trips;
        let (a, b, c, d) = (there_tx.remove(0), there_rx.remove(0), back_tx.remove(0), back_rx.remove(0));
        (round_trip::<8, _, _, _, _>(a, b, c, d, trips), 0.0)
    };
    ("disruptor", Box::new(run))
}

fn one_to_one<const W: usize>(plan: &Plan) {
    let bytes = W * 8;
    let each = Publish::Each;
    let bare = move |publish| {
        move || {
            let (tx, rx) = limits::bare::<W>(CAPACITY);
            rate(throughput::<W, _, _>(vec![tx], vec![rx], publish, plan.time))
        }
    };
    let rows = [
        disruptor_fan::<W>(1, each, plan),
        fan::<W, Corewire>("corewire", 1, each, plan),
        ("bare ring (limit)", Box::new(bare(each)) as Box<dyn Fn() -> (f64, f64)>),
        fan::<W, Rtrb>("rtrb", 1, each, plan),
        fan::<W, Crossbeam>("crossbeam-channel", 1, each, plan),
        fan::<W, TokioBroadcast>("tokio broadcast", 1, each, plan),
        fan::<W, AsyncBroadcast>("async-broadcast", 1, each, plan),
        fan::<W, Iceoryx>("iceoryx2 (local)", 1, each, plan),
    ];
    case(&format!("1 -> 1, {bytes} B, one publish for each message"), "M messages/s", plan, &rows);
    let batch = Publish::Batch(BATCH);
    let rows = [
        ("bare ring (limit)", Box::new(bare(batch)) as Box<dyn Fn() -> (f64, f64)>),
        fan::<W, Corewire>("corewire", 1, batch, plan),
        disruptor_fan::<W>(1, batch, plan),
        fan::<W, Rtrb>("rtrb", 1, batch, plan),
    ];
    case(&format!("1 -> 1, {bytes} B, batches of {BATCH}"), "M messages/s", plan, &rows);
}

fn one_to_many(readers: usize, plan: &Plan) {
    let each = Publish::Each;
    let rows = [
        disruptor_fan::<8>(readers, each, plan),
        fan::<8, Corewire>("corewire", readers, each, plan),
        fan::<8, Rtrb>("rtrb, one a reader", readers, each, plan),
        fan::<8, Crossbeam>("crossbeam, one a reader", readers, each, plan),
        fan::<8, TokioBroadcast>("tokio broadcast", readers, each, plan),
        fan::<8, AsyncBroadcast>("async-broadcast", readers, each, plan),
        fan::<8, Iceoryx>("iceoryx2 (local)", readers, each, plan),
    ];
    case(&format!("1 -> {readers}, 64 B, one publish for each message"), "M messages/s to each", plan, &rows);
}

fn many_to(readers: usize, plan: &Plan) {
    const WRITERS: usize = 4;
    let crossbeam = move || {
        let (tx, rxs) = <Crossbeam as Broadcast<8>>::make(CAPACITY, readers);
        rate(throughput::<8, _, _>(vec![tx; WRITERS], rxs, Publish::Each, plan.time))
    };
    let ours = move || {
        let (tx, rxs): (CorewireTx, _) = <Corewire as Broadcast<8>>::make(CAPACITY, readers);
        rate(throughput::<8, _, _>(vec![tx; WRITERS], rxs, Publish::Each, plan.time))
    };
    let mut rows: Vec<Row<'_>> =
        vec![("crossbeam, one a reader", Box::new(crossbeam)), ("corewire", Box::new(ours))];
    if readers == 1 {
        let run = move || {
            let (txs, rxs) = Disruptor::from_many::<8>(CAPACITY, WRITERS);
            rate(throughput::<8, _, _>(txs, rxs, Publish::Each, plan.time))
        };
        rows.push(("disruptor", Box::new(run)));
    }
    case(&format!("{WRITERS} -> {readers}, 64 B, one publish for each message"), "M messages/s", plan, &rows);
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let plan = if quick {
        Plan { rounds: 1, time: Duration::from_millis(20), trips: 2_000 }
    } else {
        Plan { rounds: 7, time: Duration::from_millis(250), trips: 100_000 }
    };
    println!("{}", machine::facts());
    println!("queues of {CAPACITY} messages; {} rounds of {:?}", plan.rounds, plan.time);
    let trips = [
        (
            "cache line (limit)",
            Box::new(|| (limits::ping_pong(plan.trips), 0.0)) as Box<dyn Fn() -> (f64, f64)>,
        ),
        trip::<Corewire>("corewire", &plan),
        trip::<Rtrb>("rtrb", &plan),
        disruptor_trip(&plan),
        trip::<Crossbeam>("crossbeam-channel", &plan),
        trip::<TokioBroadcast>("tokio broadcast", &plan),
        trip::<AsyncBroadcast>("async-broadcast", &plan),
        trip::<Iceoryx>("iceoryx2 (local)", &plan),
    ];
    case("round trip, 64 B, both sides spinning", "ns (median of each run)", &plan, &trips);
    one_to_one::<2>(&plan);
    one_to_one::<8>(&plan);
    one_to_one::<32>(&plan);
    one_to_one::<128>(&plan);
    one_to_many(4, &plan);
    one_to_many(16, &plan);
    many_to(1, &plan);
    many_to(4, &plan);
}
