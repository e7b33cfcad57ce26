//! Random numbers for tests. Everything is a function of the seed, so one seed reproduces one run.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// The SplitMix64 generator (Steele, Lea, Flood 2014): 64 bits of state, no weak seeds.
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// A generator whose numbers depend on `seed` alone.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, or 0 if `end` is 0. The bias is below `end / 2^64`.
    pub const fn below(&mut self, end: u64) -> u64 {
        let end = if end == 0 { 1 } else { end };
        self.next_u64() % end
    }

    /// `true` with probability `per_mille` / 1000.
    pub const fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }
}

/// The value of an environment variable, if it is set.
///
/// # Panics
/// If the variable is set to something that is not a number.
#[must_use]
pub fn env_number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// The seeds that a randomized test runs: the one in `COREWIRE_SEED`; else 0 up to `COREWIRE_SEEDS`, or
/// `count`.
#[must_use]
pub fn seeds(count: u64) -> Vec<u64> {
    seeds_of(env_number("COREWIRE_SEED"), env_number("COREWIRE_SEEDS").unwrap_or(count))
}

/// [`seeds`] without the environment.
#[must_use]
pub fn seeds_of(only: Option<u64>, count: u64) -> Vec<u64> {
    only.map_or_else(|| (0..count).collect(), |seed| vec![seed])
}

/// Runs `test` with `seed`. If it panics, prints how to run this seed alone and passes the panic on.
///
/// `command` is what follows `cargo test`, for example `-p corewire-proto --test simulation`.
#[expect(clippy::print_stderr, reason = "part of a failing test's output")]
pub fn replay<R>(seed: u64, command: &str, test: impl FnOnce(u64) -> R) -> R {
    match catch_unwind(AssertUnwindSafe(|| test(seed))) {
        Ok(result) => result,
        Err(panic) => {
            eprintln!("seed {seed} failed; replay it with: COREWIRE_SEED={seed} cargo test {command}");
            resume_unwind(panic)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_mix_64_gives_the_published_sequence() {
        let mut random = SplitMix64::new(1_234_567);
        let drawn: Vec<u64> = (0..3).map(|_| random.next_u64()).collect();
        assert_eq!(drawn, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn below_stays_below_and_accepts_zero() {
        let mut random = SplitMix64::new(7);
        assert!((0..1_000).all(|_| random.below(3) < 3));
        assert_eq!((random.below(0), random.chance(0), random.chance(1_000)), (0, false, true));
    }

    #[test]
    fn one_seed_runs_alone_and_a_count_runs_from_zero() {
        assert_eq!(seeds_of(Some(9), 3), [9]);
        assert_eq!(seeds_of(None, 3), [0, 1, 2]);
    }

    #[test]
    #[should_panic(expected = "seed 4")]
    fn panic_of_a_replayed_seed_reaches_the_caller() {
        replay(4, "--test example", |seed| panic!("seed {seed}"));
    }
}
