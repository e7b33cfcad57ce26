//! Channels that share a session.

use std::thread;
use std::time::Duration;

use corewire::network::{Congestion, SessionSettings};
use corewire::{EngineConfig, HostedEngine, Network, NetworkId};

use crate::support::{id_of, number_of, numbered, reliable, until};

/// Bytes of one payload.
const PAYLOAD: usize = 1_000;

/// Payloads that each channel has to send.
const FILLED: u64 = 7_500;

/// Payloads of the heavy channel after which the shares are counted.
const COUNTED: u64 = 4_000;

// "Fairness weight in the forwarding router's `FairScheduler`." "Fair-scheduler quantum multiplier. `1` is
// equal-share; higher means this stream gets proportionally more packets per round." "Set the fair-scheduler
// weight (1 = equal share; higher = more)."
#[test]
fn weights_one_and_four_share_a_bottleneck_one_to_four() {
    let id = NetworkId::random();
    // They send and receive in calls of this thread only. So both channels have everything to send before
    // either sends, and nothing is lost in a queue that is not read.
    let [hosted, other] = [(), ()].map(|()| HostedEngine::start(EngineConfig::default()).unwrap());
    let there = Network::builder(id).with_engine(&other).build_blocking().unwrap();
    let bottleneck =
        SessionSettings::new().with_congestion(Congestion::Fixed { bytes_per_second: 16_000_000 });
    let here = Network::builder(id).with_engine(&hosted).with_session(bottleneck).build_blocking().unwrap();
    // More than is counted, at both ends, so that nothing but the order of sending decides.
    let config = reliable().with_window_bytes(8 << 20);
    let open = |number, weight| {
        let ours = here.open_stream(id_of(&there), number, config.with_fairness_weight(weight)).unwrap();
        let theirs = there.open_stream(id_of(&here), number, config).unwrap();
        ours.connected_blocking().unwrap();
        (ours, theirs)
    };
    let (light, heavy) = (open(1, 1), open(2, 4));
    // By another thread, because sends on the engines' own turn them.
    let fill = || {
        for number in 0..FILLED {
            light.0.try_send(numbered(number, PAYLOAD)).unwrap();
            heavy.0.try_send(numbered(number, PAYLOAD)).unwrap();
        }
    };
    thread::scope(|scope| scope.spawn(fill).join().unwrap());
    let arrived = || (light.1.stats().rx_seq, heavy.1.stats().rx_seq);
    until("enough has arrived", || {
        // Turns the engines.
        assert_eq!(light.0.recv_timeout(Duration::from_millis(1)), Ok(None));
        arrived().1 >= COUNTED
    });
    let (lightly, heavily) = arrived();
    let share = heavily as f64 / lightly as f64;
    assert!((3.8..4.2).contains(&share), "weights 1 and 4 shared 1 to {share:.2}");
    assert_eq!(number_of(&light.1.recv_blocking().unwrap()), 0);
}
