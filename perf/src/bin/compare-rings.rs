//! The fanout ring beside its peers and its limits, in one run.
//!
//! `cargo run -p corewire-perf --release --bin compare-rings` prints one table a group, and takes five
//! minutes:
//!
//! | `--only` | asks |
//! |---|---|
//! | `"round trip"` | the round trip of a message, both sides spinning |
//! | `"1 -> 1"`, `"1 -> 4"`, `"1 -> 16"`, `"4 ->"` | messages per second, by size, batch and threads |
//! | `typed` | the same for a struct, encode and decode included |
//! | `parked` | what a sleeping receiver costs, itself and the sender; wakes for each sleep |
//! | `full` | what refusing, dropping the oldest and waiting cost when the queue is full |
//! | `allocations`, `memory` | what a message allocates, and what a queue is made of |
//!
//! `--only` runs the groups whose title contains its text, `--rows corewire --rows limit` the rows whose name
//! does, `--rounds 3` fewer or more rounds, and `--quick` shows that everything runs.
//!
//! Every row of a group runs once in each round, so that a slow period of the machine affects all alike. A
//! row shows minimum, median and maximum over the rounds, the median's ratio to the group's first row, and
//! the largest share of messages that any receiver lost (or the group's own column). Senders are pinned to
//! the first processor, receivers to the second.
//!
//! A virtual machine may be moved to processors that lie further apart while it runs, where everything
//! between two threads is three to five times slower. So the time of a bare cache line is taken before and
//! after each run, and where it matters there are two tables: "near" below 200 ns for a round trip, "far"
//! above. A run during which that changed is in neither; "runs" is the number of runs in the table.
//!
//! A round trip's figure is a median of means: the clock is read once in 100 trips, for every row, so that
//! neither its resolution nor its cost is in the figure. A wake-up takes a hundred times as long and is timed
//! alone.
#![allow(clippy::print_stdout, reason = "a program that prints its result")]

use clap::Parser as _;
use corewire_perf::machine;
use corewire_perf::rings::corewire::{Corewire, CorewirePacked, CorewireTx};
use corewire_perf::rings::peers::{
    AsyncBroadcast, Broadcast, Crossbeam, Disruptor, Iceoryx, Rtrb, TokioBroadcast,
};
use corewire_perf::rings::run::{Publish, Throughput, round_trip, throughput};
use corewire_perf::rings::typed;
use corewire_perf::rings::{full, limits, memory, parked};
use corewire_perf::table::{Beside, Group, Options, Outcome, Plan, Row};

/// Room of every queue, in messages.
const CAPACITY: usize = 1024;
/// Messages in one batch.
const BATCH: usize = 32;

fn group(title: impl Into<String>, unit: &'static str, plan: &Plan, rows: Vec<Row<'_>>) {
    Group { title: title.into(), unit, beside: Beside::Lost, between_processors: true, rows }.run(plan);
}

fn rate(result: Throughput) -> Outcome {
    Outcome { figure: result.received_m, beside: result.lost }
}

fn latency(nanos: f64) -> Outcome {
    Outcome { figure: nanos, beside: 0.0 }
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
    Row::new(name, run)
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
    Row::new("disruptor", run)
}

fn trip<'a, B: Broadcast<8>>(name: &'a str, plan: &'a Plan) -> Row<'a> {
    let run = move || {
        let (there_tx, mut there_rx) = B::make(CAPACITY, 1);
        let (back_tx, mut back_rx) = B::make(CAPACITY, 1);
        let (there_rx, back_rx) = (there_rx.remove(0), back_rx.remove(0));
        latency(round_trip::<8, _, _, _, _>(there_tx, there_rx, back_tx, back_rx, plan.trips))
    };
    Row::new(name, run)
}

fn disruptor_trip(plan: &Plan) -> Row<'_> {
    let run = move || {
        let (mut there_tx, mut there_rx) = Disruptor::one::<8>(CAPACITY);
        let (mut back_tx, mut back_rx) = Disruptor::one::<8>(CAPACITY);
        let trips = plan.trips;
        let (a, b, c, d) = (there_tx.remove(0), there_rx.remove(0), back_tx.remove(0), back_rx.remove(0));
        latency(round_trip::<8, _, _, _, _>(a, b, c, d, trips))
    };
    Row::new("disruptor", run)
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
    let rows = vec![
        disruptor_fan::<W>(1, each, plan),
        fan::<W, Corewire>("corewire", 1, each, plan),
        fan::<W, CorewirePacked>("corewire, packed", 1, each, plan),
        Row::new("bare ring (limit)", bare(each)),
        fan::<W, Rtrb>("rtrb", 1, each, plan),
        fan::<W, Crossbeam>("crossbeam-channel", 1, each, plan),
        fan::<W, TokioBroadcast>("tokio broadcast", 1, each, plan),
        fan::<W, AsyncBroadcast>("async-broadcast", 1, each, plan),
        fan::<W, Iceoryx>("iceoryx2 (local)", 1, each, plan),
    ];
    group(format!("1 -> 1, {bytes} B, one publish for each message"), "M messages/s", plan, rows);
    let batch = Publish::Batch(BATCH);
    let rows = vec![
        Row::new("bare ring (limit)", bare(batch)),
        fan::<W, Corewire>("corewire", 1, batch, plan),
        fan::<W, CorewirePacked>("corewire, packed", 1, batch, plan),
        disruptor_fan::<W>(1, batch, plan),
        fan::<W, Rtrb>("rtrb", 1, batch, plan),
    ];
    group(format!("1 -> 1, {bytes} B, batches of {BATCH}"), "M messages/s", plan, rows);
}

fn one_to_many(readers: usize, plan: &Plan) {
    let each = Publish::Each;
    let rows = vec![
        disruptor_fan::<8>(readers, each, plan),
        fan::<8, Corewire>("corewire", readers, each, plan),
        fan::<8, CorewirePacked>("corewire, packed", readers, each, plan),
        fan::<8, Rtrb>("rtrb, one a reader", readers, each, plan),
        fan::<8, Crossbeam>("crossbeam, one a reader", readers, each, plan),
        fan::<8, TokioBroadcast>("tokio broadcast", readers, each, plan),
        fan::<8, AsyncBroadcast>("async-broadcast", readers, each, plan),
        fan::<8, Iceoryx>("iceoryx2 (local)", readers, each, plan),
    ];
    group(format!("1 -> {readers}, 64 B, one publish for each message"), "M messages/s to each", plan, rows);
}

fn many_to(readers: usize, plan: &Plan) {
    const WRITERS: usize = 4;
    let crossbeam = move || {
        let (tx, rxs) = <Crossbeam as Broadcast<8>>::make(CAPACITY, readers);
        rate(throughput::<8, _, _>(vec![tx; WRITERS], rxs, Publish::Each, plan.time))
    };
    let ours = move |(tx, rxs): (CorewireTx, _)| {
        rate(throughput::<8, _, _>(vec![tx; WRITERS], rxs, Publish::Each, plan.time))
    };
    let scattered = move || ours(<Corewire as Broadcast<8>>::make(CAPACITY, readers));
    let packed = move || ours(<CorewirePacked as Broadcast<8>>::make(CAPACITY, readers));
    let mut rows = vec![
        Row::new("crossbeam, one a reader", crossbeam),
        Row::new("corewire", scattered),
        Row::new("corewire, packed", packed),
    ];
    if readers == 1 {
        let run = move || {
            let (txs, rxs) = Disruptor::from_many::<8>(CAPACITY, WRITERS);
            rate(throughput::<8, _, _>(txs, rxs, Publish::Each, plan.time))
        };
        rows.push(Row::new("disruptor", run));
    }
    group(format!("{WRITERS} -> {readers}, 64 B, one publish for each message"), "M messages/s", plan, rows);
}

fn round_trips(plan: &Plan) {
    let rows = vec![
        Row::new("cache line (limit)", || latency(limits::ping_pong(plan.trips))),
        trip::<Corewire>("corewire", plan),
        trip::<CorewirePacked>("corewire, packed", plan),
        trip::<Rtrb>("rtrb", plan),
        disruptor_trip(plan),
        trip::<Crossbeam>("crossbeam-channel", plan),
        trip::<TokioBroadcast>("tokio broadcast", plan),
        trip::<AsyncBroadcast>("async-broadcast", plan),
        trip::<Iceoryx>("iceoryx2 (local)", plan),
    ];
    group("round trip, 64 B, both sides spinning", "ns (median of means of 100)", plan, rows);
}

fn main() {
    let plan = Plan::new(&Options::parse());
    println!("{}", machine::facts());
    println!("queues of {CAPACITY} messages; {} rounds of {:?}", plan.rounds, plan.time);
    round_trips(&plan);
    one_to_one::<2>(&plan);
    one_to_one::<8>(&plan);
    one_to_one::<32>(&plan);
    one_to_one::<128>(&plan);
    one_to_many(4, &plan);
    one_to_many(16, &plan);
    many_to(1, &plan);
    many_to(4, &plan);
    typed::run(&plan, CAPACITY);
    parked::groups(&plan);
    full::groups(&plan, CAPACITY);
    memory::groups(&plan, CAPACITY);
}
