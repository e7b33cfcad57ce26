//! The faults that one seed draws from, and how often each happened.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::swarm_rig::Dice;

/// What a benign network and benign hosts do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    Loss,
    Duplicate,
    Reorder,
    Delay,
    Corrupt,
    Truncate,
    Bandwidth,
    PathSize,
    Partition,
    OneWay,
    Address,
    Stop,
    Restart,
    NewIdentity,
    Leave,
    Clock,
    SlowConsumer,
    StalledConsumer,
    ProducerDropped,
    ConsumerDropped,
    LegDropped,
    TransmitMemory,
    ReceiveQueue,
}

/// Every fault, its name, and what is counted.
pub(crate) const FAULTS: [(Fault, &str, &str); 23] = [
    (Fault::Loss, "loss", "datagrams lost"),
    (Fault::Duplicate, "duplication", "datagrams that arrived twice"),
    (Fault::Reorder, "reordering", "datagrams that others passed"),
    (Fault::Delay, "delay", "changes of a link's delay, up to 0.3 s"),
    (Fault::Corrupt, "corruption", "datagrams with flipped bits"),
    (Fault::Truncate, "truncation", "datagrams that were cut short"),
    (Fault::Bandwidth, "bandwidth", "changes of a link's rate"),
    (Fault::PathSize, "path-size", "changes of what a path carries, 1,000 to 65,535 bytes"),
    (Fault::Partition, "partition", "hosts cut off from another in both directions, 0.1 to 30 s"),
    (Fault::OneWay, "one-way", "hosts cut off in one direction, 0.1 to 30 s"),
    (Fault::Address, "address", "changes of a host's address (NAT)"),
    (Fault::Stop, "stop", "processes stopped for 0.1 to 30 s"),
    (Fault::Restart, "restart", "processes killed and started again"),
    (Fault::NewIdentity, "new-identity", "processes killed and started with another identity"),
    (Fault::Leave, "leave", "nodes that left and joined again"),
    (Fault::Clock, "clock", "jumps of a wall clock, up to a year"),
    (Fault::SlowConsumer, "slow-consumer", "consumers that take little for up to 30 s"),
    (Fault::StalledConsumer, "stalled-consumer", "consumers that take nothing for up to 30 s"),
    (Fault::ProducerDropped, "producer-dropped", "producers dropped"),
    (Fault::ConsumerDropped, "consumer-dropped", "consumers dropped"),
    (Fault::LegDropped, "leg-dropped", "legs dropped"),
    (Fault::TransmitMemory, "transmit-memory", "hosts that ran out of transmit buffers"),
    (Fault::ReceiveQueue, "receive-queue", "datagrams dropped by a full receive queue"),
];

impl Fault {
    pub(crate) fn name(self) -> &'static str {
        FAULTS[self as usize].1
    }
}

/// A set of faults.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct FaultSet(u32);

impl FaultSet {
    pub(crate) const ALL: Self = Self((1 << FAULTS.len()) - 1);

    /// About half of all.
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        Self(dice.next() as u32) & Self::ALL
    }

    /// Those that `COREWIRE_FAULTS` names, separated by commas; all if it is not set.
    ///
    /// # Panics
    ///
    /// If a name is unknown.
    pub(crate) fn from_environment() -> Self {
        let Ok(names) = std::env::var("COREWIRE_FAULTS") else { return Self::ALL };
        let place = |name: &str| {
            let found = FAULTS.iter().position(|(_, known, _)| *known == name);
            found.unwrap_or_else(|| panic!("COREWIRE_FAULTS: no fault is called {name:?}"))
        };
        Self(names.split(',').filter(|name| !name.is_empty()).fold(0, |set, name| set | 1 << place(name)))
    }

    pub(crate) fn has(self, fault: Fault) -> bool {
        self.0 & 1 << fault as u32 != 0
    }

    pub(crate) fn without(self, fault: Fault) -> Self {
        Self(self.0 & !(1 << fault as u32))
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Fault> {
        FAULTS.iter().map(|(fault, ..)| *fault).filter(move |fault| self.has(*fault))
    }
}

impl std::ops::BitAnd for FaultSet {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl fmt::Display for FaultSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(Fault::name).collect();
        f.write_str(&names.join(","))
    }
}

/// What happened in one run, or in many.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    faults: BTreeMap<Fault, u64>,
    outcomes: BTreeMap<&'static str, u64>,
    seeds: u64,
    time: Duration,
}

impl Tally {
    pub(crate) fn add(&mut self, fault: Fault, times: u64) {
        *self.faults.entry(fault).or_default() += times;
    }

    /// Counts something that is no fault, so that a reader sees what the runs were about.
    pub(crate) fn note(&mut self, outcome: &'static str, times: u64) {
        *self.outcomes.entry(outcome).or_default() += times;
    }

    /// One seed is over, after this much of its world's time.
    pub(crate) fn end(&mut self, time: Duration) {
        self.seeds += 1;
        self.time += time;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        other.faults.iter().for_each(|(fault, times)| self.add(*fault, *times));
        other.outcomes.iter().for_each(|(outcome, times)| self.note(outcome, *times));
        self.seeds += other.seeds;
        self.time += other.time;
    }

    pub(crate) fn seeds(&self) -> u64 {
        self.seeds
    }

    pub(crate) fn outcome(&self, outcome: &str) -> u64 {
        self.outcomes.get(outcome).copied().unwrap_or_default()
    }

    /// Faults that never happened.
    pub(crate) fn missing(&self) -> FaultSet {
        FAULTS.iter().fold(FaultSet::ALL, |left, (fault, ..)| match self.faults.get(fault) {
            Some(1..) => left.without(*fault),
            _ => left,
        })
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = self.time.as_secs_f64() / 3_600.0;
        let sum: u64 = self.faults.values().sum();
        writeln!(f, "{} seeds, {hours:.2} virtual hours, {sum} faults", self.seeds)?;
        for (fault, name, meaning) in FAULTS {
            let times = self.faults.get(&fault).copied().unwrap_or_default();
            writeln!(f, "  {name:<18} {times:>10}  {meaning}")?;
        }
        writeln!(f, "what came of them:")?;
        for (outcome, times) in &self.outcomes {
            writeln!(f, "  {times:>10}  {outcome}")?;
        }
        Ok(())
    }
}
