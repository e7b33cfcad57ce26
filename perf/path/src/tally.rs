//! Datums of programs without corewire, and what their receiving process tells of them.

use hdrhistogram::Histogram;

use crate::machine::now;
use crate::row::{Figures, PathCase, PathRun};

/// The times of datums that are not measured, and of those whose latency is not.
pub(crate) const WARM_UP: u64 = 0;
pub(crate) const UNTIMED: u64 = 1;

/// Writes a datum that fills `out`: its number, the time at which it was to be sent, and filling.
pub(crate) fn write_datum(out: &mut [u8], number: u64, due: u64) {
    out[..8].copy_from_slice(&number.to_le_bytes());
    out[8..16].copy_from_slice(&due.to_le_bytes());
    out[16..].fill(0xa5);
}

/// What the receiving process counts.
pub(crate) struct Taken {
    latency: Histogram<u64>,
    received: u64,
    /// Of these, those after the warm-up.
    measured: u64,
    /// When the first measured ones had been taken, and how many they were.
    first: Option<(u64, u64)>,
    last_at: u64,
}

impl Taken {
    pub(crate) fn new() -> Taken {
        let latency = Histogram::new(3).expect("three digits are within what a histogram can hold");
        Taken { latency, received: 0, measured: 0, first: None, last_at: 0 }
    }

    /// Takes a datum of [`write_datum`].
    pub(crate) fn datum(&mut self, datum: &[u8]) {
        let mut due = [0; 8];
        due.copy_from_slice(&datum[8..16]);
        self.received += 1;
        match u64::from_le_bytes(due) {
            WARM_UP => {}
            UNTIMED => self.measured += 1,
            due => {
                self.measured += 1;
                let _ = self.latency.record(now().saturating_sub(due));
            }
        }
    }

    /// What came together has been taken.
    pub(crate) fn batch_ends(&mut self) {
        if self.measured > 0 {
            self.last_at = now();
            self.first.get_or_insert((self.last_at, self.measured));
        }
    }

    /// One line for [`figures`].
    pub(crate) fn report(&self) -> String {
        let (first_at, first) = self.first.unwrap_or_default();
        let seconds = self.last_at.saturating_sub(first_at) as f64 / 1e9;
        let rate = (self.measured - first) as f64 / seconds.max(1e-9);
        let [p50, p99] = [0.5, 0.99].map(|quantile| self.latency.value_at_quantile(quantile));
        format!("{} {rate} {p50} {p99}", self.received)
    }
}

/// The figures of a run in which `sent` datums went to all consumers together, from the receiver's line; also
/// the raw output.
pub(crate) fn figures(case: &PathCase, sent: u64, line: &str) -> PathRun {
    let words: Vec<f64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let [received, rate, p50, p99] = words[..] else { return Err("the receiver gave no figures".into()) };
    let figures = Figures {
        p50: case.rate.map(|_| p50 / 1e3),
        p99: case.rate.map(|_| p99 / 1e3),
        rate: case.rate.is_none().then(|| rate / case.consumers as f64 / 1e6),
        lost: sent.saturating_sub(received as u64),
    };
    Ok((figures, format!("sent {sent}; received, a second, p50 ns, p99 ns: {}", line.trim())))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn report_of_a_receiver_becomes_figures() {
        let mut taken = Taken::new();
        let mut datum = [0; 64];
        for (number, due) in [(0, WARM_UP), (1, now()), (2, now())] {
            write_datum(&mut datum, number, due);
            taken.datum(&datum);
        }
        taken.batch_ends();
        let case = PathCase {
            bytes: 64,
            consumers: 1,
            rate: Some(1e3),
            ring_mib: None,
            duration: Duration::from_secs(1),
        };
        let (figures, raw) = figures(&case, 5, &taken.report()).unwrap();
        assert_eq!((figures.lost, figures.rate), (2, None));
        assert!(figures.p50.is_some() && raw.starts_with("sent 5"), "{raw}");
        assert!(super::figures(&case, 5, "").is_err());
    }
}
