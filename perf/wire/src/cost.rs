//! What one datum costs: a table with a row for each size and path.

use std::error::Error;
use std::time::{Duration, Instant};

use corewire::engine::{Counter, IoChoice};
use corewire::streams::Reliability;

use crate::alloc::allocations;
use crate::path::{Setup, Wire, Words};
use crate::relay::Faults;

/// Datums that are sent or taken at once.
const BATCH: usize = 256;

/// The rate of the paced rows, in datums a second, and how long each of them is measured.
const PACE: f64 = 10_000.0;
const PACED_TIME: Duration = Duration::from_secs(2);

/// The largest packet: what Ethernet carries, in bytes of UDP payload over IPv4.
const ETHERNET_BYTES: usize = 1_472;

/// Counts of one row, per datum that was taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) system_calls: f64,
    pub(crate) allocations: f64,
    /// Copies in user space: into the ring, into a packet (again for each resend), into the inbox, and out of
    /// it.
    pub(crate) copies: f64,
    /// Sealed packets of both directions.
    pub(crate) packets: f64,
    /// Bytes of those packets, without IP and UDP headers.
    pub(crate) wire_bytes: f64,
    /// The share of all packets that did not reach the other engine.
    pub(crate) lost: f64,
}

/// Moves `count` datums after a quarter as many to warm up: `rate` a second, or as fast as they go.
pub(crate) fn measure<const N: usize>(
    setup: &Setup,
    count: u64,
    rate: Option<f64>,
) -> Result<Cost, Box<dyn Error>> {
    let mut wire = Wire::<N>::connect(setup)?;
    let warm = count / 4;
    let ending = move_datums(&mut wire, 0, warm, rate)?;
    let user_copies = |wire: &Wire<N>| wire.producer.stats().accepted + wire.consumer.stats().datums();
    let copied = user_copies(&wire);
    let (counters, before) = (wire.counters(), allocations());
    move_datums(&mut wire, ending, count, rate)?;
    let (now, after) = (wire.counters(), allocations());
    let since = |counter| now.since(&counters, counter) as f64;
    let each = |number: f64| number / count as f64;
    let (sent, received) = (since(Counter::PacketsSent), since(Counter::DatagramsReceived));
    Ok(Cost {
        system_calls: each(since(Counter::SystemCalls)),
        allocations: each((after - before) as f64),
        copies: each(
            (user_copies(&wire) - copied) as f64
                + since(Counter::DatumsRead)
                + since(Counter::DatumsDelivered),
        ),
        packets: each(sent),
        wire_bytes: each(since(Counter::BytesSent)),
        lost: (1.0 - received / sent).max(0.0),
    })
}

/// Waits for the moment of datum `index` of a stream that began at `start`.
fn wait_for_turn(start: Instant, index: u64, rate: f64) {
    let due = start + Duration::from_secs_f64(index as f64 / rate);
    while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        if left > Duration::from_millis(1) { std::thread::sleep(left / 2) } else { std::thread::yield_now() }
    }
}

/// Sends `count` datums numbered from `from` on, and takes them on this thread. Gives the next number.
fn move_datums<const N: usize>(
    wire: &mut Wire<N>,
    from: u64,
    count: u64,
    rate: Option<f64>,
) -> Result<u64, Box<dyn Error>> {
    let end = from + count;
    let producer = &wire.producer;
    let consumer = &mut wire.consumer;
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || {
            let mut batch: Vec<Words<N>> = vec![[0; N]; BATCH];
            let mut next = from;
            let start = Instant::now();
            while next < end {
                let number = match rate {
                    None => BATCH.min((end - next) as usize),
                    Some(rate) => {
                        wait_for_turn(start, next - from, rate);
                        1
                    }
                };
                for (datum, number) in batch.iter_mut().zip(next..) {
                    *datum = [number; N];
                }
                producer.send_many_blocking(&batch[..number])?;
                next += number as u64;
            }
            Ok::<(), corewire::streams::producer::ManyError>(())
        });
        let mut taken = Vec::with_capacity(BATCH);
        let mut next = from;
        while next < end {
            taken.clear();
            if consumer.recv_many_blocking(&mut taken, BATCH) == 0 {
                return Err("the stream ended".into());
            }
            for datum in &taken {
                if *datum != [next; N] {
                    return Err(format!("datum {} came where {next} was due", datum[0]).into());
                }
                next += 1;
            }
        }
        sending.join().expect("the sender does not panic")?;
        Ok(end)
    })
}

/// Prints the table.
#[allow(clippy::print_stdout, reason = "the table is what the program prints")]
pub(crate) fn print_table(io: IoChoice, count: u64, seed: u64) -> Result<(), Box<dyn Error>> {
    let paced = (PACE * PACED_TIME.as_secs_f64()) as u64;
    println!(
        "per datum, {count} datums a row at full speed and {paced} at {PACE} a second, reliable, packets of at most \
         {ETHERNET_BYTES} bytes, io {io:?}\n"
    );
    println!(
        "{:<6} {:<16} {:>9} {:>12} {:>12} {:>7} {:>9} {:>11} {:>7}",
        "datum", "path", "speed", "system calls", "allocations", "copies", "packets", "wire bytes", "lost"
    );
    let paths = [
        ("direct", None),
        ("relay", Some(Faults::default())),
        ("relay, 1 % loss", Some(Faults { loss: 0.01, ..Faults::default() })),
    ];
    for bytes in [64, 1_024] {
        for (name, faults) in paths {
            for (speed, rate, count) in [("full", None, count), ("10,000/s", Some(PACE), paced)] {
                let setup = Setup {
                    io,
                    packet_bytes: Some(ETHERNET_BYTES),
                    reliability: Reliability::Reliable,
                    faults,
                    seed,
                };
                let cost = if bytes == 64 {
                    measure::<8>(&setup, count, rate)?
                } else {
                    measure::<128>(&setup, count, rate)?
                };
                println!(
                    "{:<6} {name:<16} {speed:>9} {:>12.4} {:>12.4} {:>7.3} {:>9.4} {:>11.1} {:>6.2}%",
                    format!("{bytes} B"),
                    cost.system_calls,
                    cost.allocations,
                    cost.copies,
                    cost.packets,
                    cost.wire_bytes,
                    100.0 * cost.lost
                );
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(faults: Option<Faults>) -> Cost {
        let setup = Setup {
            io: IoChoice::Auto,
            packet_bytes: Some(ETHERNET_BYTES),
            reliability: Reliability::Reliable,
            faults,
            seed: 7,
        };
        measure::<8>(&setup, 20_000, None).unwrap()
    }

    #[test]
    fn clean_path_costs_four_copies_and_the_bytes_of_the_datum() {
        let cost = cost(None);
        assert!((4.0..5.0).contains(&cost.copies), "{cost:?}");
        assert!(cost.wire_bytes >= 64.0 && cost.packets > 0.0 && cost.system_calls > 0.0, "{cost:?}");
        assert!(cost.allocations < 0.1, "{cost:?}");
        assert!(cost.wire_bytes / cost.packets <= ETHERNET_BYTES as f64, "{cost:?}");
    }

    #[test]
    fn loss_shows_in_the_share_lost_and_in_the_copies() {
        let cost = cost(Some(Faults { loss: 0.05, ..Faults::default() }));
        assert!(cost.lost > 0.02 && cost.copies > 4.0, "{cost:?}");
    }

    #[test]
    fn paced_datums_take_as_long_as_their_rate_says() {
        let setup = Setup {
            io: IoChoice::Auto,
            packet_bytes: Some(ETHERNET_BYTES),
            reliability: Reliability::Reliable,
            faults: None,
            seed: 7,
        };
        let start = Instant::now();
        let cost = measure::<8>(&setup, 400, Some(2_000.0)).unwrap();
        // With the warm-up 500, the first of each part at once.
        assert!(start.elapsed() >= Duration::from_micros(498 * 500), "{:?}", start.elapsed());
        assert!(cost.packets > 0.0 && cost.system_calls > 0.0, "{cost:?}");
    }
}
