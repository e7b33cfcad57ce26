//! The shipped prices: read once, sent in a loop, and compared with what arrives.

use serde::{Deserialize, Serialize};

use crate::cli::exit::{Exit, Failure};

/// 4,088 daily reference rates of the European Central Bank; see `data/README.md`.
const CSV: &str = include_str!("../../../data/prices.csv");

/// What the demonstration sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PriceUpdate {
    /// Consecutive, from 0.
    pub(crate) sequence: u64,
    /// Intended send time, in nanoseconds after the start of its part.
    pub(crate) due: u64,
    /// The pair of currencies.
    pub(crate) symbol: String,
    /// The day, as `2023-01-02`.
    pub(crate) day: String,
    /// The price of one euro.
    pub(crate) price: f64,
}

/// One line of the file.
#[derive(Clone, Debug)]
struct Row {
    day: &'static str,
    symbol: &'static str,
    price: f64,
}

/// The whole file.
#[derive(Clone, Debug)]
pub(crate) struct Prices {
    rows: Vec<Row>,
}

impl Prices {
    /// Reads the shipped file.
    pub(crate) fn shipped() -> Result<Prices, Failure> {
        let rows: Option<Vec<Row>> = CSV.lines().skip(1).map(parse).collect();
        match rows {
            Some(rows) if !rows.is_empty() => Ok(Prices { rows }),
            _ => Err(Failure::new(
                Exit::CannotStart,
                "data/prices.csv, compiled into this program, is damaged",
            )),
        }
    }

    /// Prices in the file.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    fn row(&self, sequence: u64) -> &Row {
        &self.rows[(sequence % self.rows.len() as u64) as usize]
    }

    /// The datum with this sequence number; the file repeats.
    pub(crate) fn datum(&self, sequence: u64, due: u64) -> PriceUpdate {
        let row = self.row(sequence);
        PriceUpdate {
            sequence,
            due,
            symbol: row.symbol.to_owned(),
            day: row.day.to_owned(),
            price: row.price,
        }
    }

    /// Whether `update` equals, bit by bit, the datum sent with its sequence number.
    pub(crate) fn matches(&self, update: &PriceUpdate) -> bool {
        let row = self.row(update.sequence);
        update.symbol == row.symbol && update.day == row.day && update.price.to_bits() == row.price.to_bits()
    }

    /// The checksum of the datums `0..count`.
    pub(crate) fn checksum(&self, count: u64) -> Checksum {
        let mut sum = Checksum::default();
        for sequence in 0..count {
            let row = self.row(sequence);
            sum.add(sequence, row.symbol, row.day, row.price);
        }
        sum
    }
}

fn parse(line: &'static str) -> Option<Row> {
    let mut fields = line.split(',');
    let row = Row { day: fields.next()?, symbol: fields.next()?, price: fields.next()?.parse().ok()? };
    fields.next().is_none().then_some(row)
}

/// A checksum of a sequence of prices that depends on each byte and on the order. It is cheap rather than
/// cryptographic, so that it does not dominate the measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checksum(u64);

impl Checksum {
    fn mix(&mut self, word: u64) {
        // The odd constant is 2^64 divided by the golden ratio: its product reaches every high bit.
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn add(&mut self, sequence: u64, symbol: &str, day: &str, price: f64) {
        self.mix(sequence);
        for text in [symbol, day] {
            for chunk in text.as_bytes().chunks(8) {
                let mut word = [0; 8];
                word[..chunk.len()].copy_from_slice(chunk);
                self.mix(u64::from_le_bytes(word));
            }
        }
        self.mix(price.to_bits());
    }

    /// Adds one received datum.
    pub(crate) fn update(&mut self, update: &PriceUpdate) {
        self.add(update.sequence, &update.symbol, &update.day, update.price);
    }

    /// The upper half, as eight hexadecimal digits.
    pub(crate) fn short(self) -> String {
        format!("{:08x}", self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_holds_what_its_readme_says() {
        let prices = Prices::shipped().unwrap();
        assert_eq!(prices.len(), 4_088);
        let first = prices.datum(0, 0);
        assert_eq!(
            (first.symbol.as_str(), first.day.as_str(), first.price),
            ("EURUSD", "2023-01-02", 1.0683)
        );
        assert_eq!(prices.datum(4_088, 7), PriceUpdate { sequence: 4_088, due: 7, ..first });
    }

    #[test]
    fn a_changed_price_is_noticed_by_comparison_and_by_checksum() {
        let prices = Prices::shipped().unwrap();
        let sum_of = |updates: &[PriceUpdate]| {
            let mut sum = Checksum::default();
            updates.iter().for_each(|update| sum.update(update));
            sum
        };
        let mut updates: Vec<PriceUpdate> = (0..5_000).map(|sequence| prices.datum(sequence, 0)).collect();
        assert!(updates.iter().all(|update| prices.matches(update)));
        assert_eq!(sum_of(&updates), prices.checksum(5_000));
        updates[1_234].price += 1e-9;
        assert!(!prices.matches(&updates[1_234]));
        assert_ne!(sum_of(&updates), prices.checksum(5_000));
        updates[1_234] = prices.datum(1_234, 0);
        updates.swap(7, 15);
        assert_ne!(sum_of(&updates), prices.checksum(5_000), "order counts");
    }
}
