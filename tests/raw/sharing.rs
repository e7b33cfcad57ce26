//! Channels that share a session.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use corewire::NetworkId;
use corewire::network::{Congestion, SessionSettings};
use corewire::raw::RawStream;

use crate::support::{both, node, reliable, until};

/// Bytes of one payload.
const PAYLOAD: usize = 1_000;

/// Payloads of the heavy channel over which the shares are counted.
const COUNTED: u64 = 6_000;

/// Keeps a channel's window full until told to stop.
fn feed(stream: RawStream, stop: Arc<AtomicBool>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            let _ = stream.send_timeout(vec![0; PAYLOAD], std::time::Duration::from_millis(100));
        }
    })
}

/// Counts what arrives, until the channel ends.
fn drain(stream: RawStream) -> Arc<AtomicU64> {
    let counted = Arc::new(AtomicU64::new(0));
    let count = counted.clone();
    thread::spawn(move || {
        while stream.recv_blocking().is_ok() {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    counted
}

// "Fairness weight in the forwarding router's `FairScheduler`." "Fair-scheduler quantum multiplier. `1` is
// equal-share; higher means this stream gets proportionally more packets per round." "Set the fair-scheduler
// weight (1 = equal share; higher = more)."
#[test]
fn weights_one_and_four_share_a_bottleneck_one_to_four() {
    let id = NetworkId::random();
    let bottleneck = Congestion::Fixed { bytes_per_second: 4_000_000 };
    let here = node(id, SessionSettings::new().with_congestion(bottleneck));
    let there = node(id, SessionSettings::new());
    // Long enough that neither ever runs dry while its thread does not get a processor.
    let config = reliable().with_window_bytes(8 << 20);
    let light = both((&here, &there), 1, (config, config));
    let heavy = both((&here, &there), 2, (config.with_fairness_weight(4), config));
    let stop = Arc::new(AtomicBool::new(false));
    let feeders = [feed(light.0.clone(), stop.clone()), feed(heavy.0.clone(), stop.clone())];
    let (lightly, heavily) = (drain(light.1.clone()), drain(heavy.1.clone()));
    let read = || (lightly.load(Ordering::Relaxed), heavily.load(Ordering::Relaxed));
    until("both flow", || read().0 > 500 && read().1 > 2_000);
    let begun = read();
    until("enough has arrived", || read().1 >= begun.1 + COUNTED);
    let ended = read();
    stop.store(true, Ordering::Relaxed);
    let share = (ended.1 - begun.1) as f64 / (ended.0 - begun.0) as f64;
    println!("weights 1 and 4 shared 1 to {share:.2}");
    assert!((3.6..4.4).contains(&share), "{share}");
    for stream in [&light.0, &heavy.0] {
        stream.close();
    }
    feeders.into_iter().for_each(|feeder| feeder.join().unwrap());
}
