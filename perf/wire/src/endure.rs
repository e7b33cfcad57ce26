//! A long transfer over a bad path: what arrived, in which order, and what is missing.

use std::error::Error;
use std::time::{Duration, Instant};

use corewire::streams::Reliability;
use corewire::streams::consumer::RecvTimeoutError;

use crate::path::{Setup, Wire, Words};

/// Words of a datum of 1 KiB.
const WORDS: usize = 128;

/// Datums that are sent at once.
const BATCH: usize = 256;

/// After the last datum was sent, the transfer is over when none came for this time.
const QUIET: Duration = Duration::from_secs(3);

/// What became of the datums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Transfer {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// Those that the consumer was told are missing.
    pub(crate) reported_missing: u64,
    /// Datums that came after a newer one, or twice.
    pub(crate) out_of_order: u64,
    /// Datums whose words are not those that were sent.
    pub(crate) damaged: u64,
    /// Gaps in the numbers that were not reported, in datums.
    pub(crate) unreported: u64,
}

/// The words of datum `number`: each one differs from its neighbours and from those of other datums.
fn content(number: u64) -> Words<WORDS> {
    std::array::from_fn(|at| number ^ (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Sends `count` datums of 1 KiB as fast as they go, and takes what comes.
pub(crate) fn transfer(setup: &Setup, count: u64) -> Result<(Transfer, String), Box<dyn Error>> {
    let mut wire = Wire::<WORDS>::connect(setup)?;
    let (producer, consumer) = (&wire.producer, &mut wire.consumer);
    let began = Instant::now();
    let mut seen = Transfer::default();
    let mut last = began;
    let sent = std::thread::scope(|scope| {
        let sending = scope.spawn(move || {
            let mut batch = vec![[0; WORDS]; BATCH];
            let mut next = 0;
            while next < count {
                let number = BATCH.min((count - next) as usize);
                for (datum, number) in batch.iter_mut().zip(next..) {
                    *datum = content(number);
                }
                producer.send_many_blocking(&batch[..number])?;
                next += number as u64;
            }
            Ok::<u64, corewire::streams::producer::ManyError>(next)
        });
        let mut expected = 0;
        while expected < count {
            let delivery = match consumer.recv_delivery_timeout(QUIET) {
                Ok(delivery) => delivery,
                Err(RecvTimeoutError::Timeout) if sending.is_finished() => break,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Closed) => break,
            };
            last = Instant::now();
            let number = delivery.datum[0];
            seen.received += 1;
            seen.reported_missing += delivery.skipped_before;
            seen.damaged += u64::from(delivery.datum != content(number));
            if number < expected {
                seen.out_of_order += 1;
                continue;
            }
            seen.unreported += (number - expected).saturating_sub(delivery.skipped_before);
            expected = number + 1;
        }
        sending.join().expect("the sender does not panic")
    })?;
    seen.sent = sent;
    let time = last - began;
    let relayed = wire.relayed();
    let megabytes = (seen.received * 8 * WORDS as u64) as f64 / 1e6;
    let report = format!(
        "{:.1} MB of {:.1} MB arrived in {time:.1?} ({:.1} MB/s)\n{seen:?}\n{relayed:?}\nchannel: {}",
        megabytes,
        (count * 8 * WORDS as u64) as f64 / 1e6,
        megabytes / time.as_secs_f64(),
        wire.consumer.stats(),
    );
    Ok((seen, report))
}

/// Runs a transfer and prints what became of it. `false`: it broke what its reliability promises.
#[allow(clippy::print_stdout, reason = "the report is what the program prints")]
pub(crate) fn run(setup: &Setup, count: u64) -> Result<bool, Box<dyn Error>> {
    println!("{:?}, {:?}", setup.reliability, setup.faults.unwrap_or_default());
    let (transfer, report) = transfer(setup, count)?;
    println!("{report}");
    let kept = transfer.keeps_its_promise(setup.reliability);
    println!("{}", if kept { "in order, every gap reported" } else { "the promise is BROKEN" });
    Ok(kept)
}

impl Transfer {
    /// In order and undamaged, with every gap reported; whole if it was reliable.
    fn keeps_its_promise(&self, reliability: Reliability) -> bool {
        let sound = self.out_of_order == 0 && self.damaged == 0 && self.unreported == 0;
        let whole = self.received == self.sent && self.reported_missing == 0;
        sound && (whole || reliability == Reliability::FireAndForget)
    }
}

#[cfg(test)]
mod tests {
    use corewire::engine::IoChoice;

    use super::*;
    use crate::relay::Faults;

    fn moved(reliability: Reliability, count: u64) -> Transfer {
        let faults = Faults { loss: 0.1, reordering: 0.05, duplication: 0.02 };
        let setup =
            Setup { io: IoChoice::Auto, packet_bytes: None, reliability, faults: Some(faults), seed: 11 };
        let (transfer, report) = transfer(&setup, count).unwrap();
        assert!(transfer.keeps_its_promise(reliability), "{report}");
        transfer
    }

    #[test]
    fn reliable_transfer_over_a_bad_path_is_whole_and_in_order() {
        let transfer = moved(Reliability::Reliable, 5_000);
        assert_eq!((transfer.sent, transfer.received), (5_000, 5_000));
    }

    #[test]
    fn unreliable_transfer_over_a_bad_path_reports_every_gap() {
        let transfer = moved(Reliability::FireAndForget, 5_000);
        assert!(transfer.reported_missing > 0 && transfer.received > 2_500, "{transfer:?}");
    }
}
