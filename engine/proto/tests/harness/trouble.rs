//! What befalls hosts and paths, beside what happens to single packets.

use std::{collections::BTreeMap, time::Duration};

use corewire_proto::{channel::Label, session::CloseCode};

use super::{Process, Rng, World};

/// Faults by kind.
#[derive(Clone, Debug, Default)]
pub struct Counts(BTreeMap<&'static str, u64>);

impl Counts {
    pub fn add(&mut self, kind: &'static str) {
        *self.0.entry(kind).or_default() += 1;
    }

    pub fn merge(&mut self, other: &Self) {
        for (kind, count) in &other.0 {
            *self.0.entry(kind).or_default() += count;
        }
    }

    pub fn of(&self, kind: &str) -> u64 {
        self.0.get(kind).copied().unwrap_or(0)
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|(kind, count)| writeln!(f, "{count:9} {kind}"))
    }
}

/// A fault of a host or of the path, drawn by a seed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    Partition,
    MtuChange,
    AddressChange,
    StoppedProcess,
    ClockJump,
    StalledConsumer,
    SlowConsumer,
    DroppedChannel,
}

impl Trouble {
    pub const ALL: [Self; 8] = [
        Self::Partition,
        Self::MtuChange,
        Self::AddressChange,
        Self::StoppedProcess,
        Self::ClockJump,
        Self::StalledConsumer,
        Self::SlowConsumer,
        Self::DroppedChannel,
    ];

    pub const fn kind(self) -> &'static str {
        match self {
            Self::Partition => "partition",
            Self::MtuChange => "MTU change",
            Self::AddressChange => "address change",
            Self::StoppedProcess => "stopped process",
            Self::ClockJump => "clock jump",
            Self::StalledConsumer => "stalled consumer",
            Self::SlowConsumer => "slow consumer",
            Self::DroppedChannel => "dropped channel",
        }
    }
}

impl World {
    /// Lets a fault begin, and end again where it would otherwise stop everything.
    pub fn trouble(&mut self, trouble: Trouble, rng: &mut Rng) {
        // Shorter than what makes a peer count as lost.
        let longest = [20, 500, 4_000][rng.below(3) as usize];
        let pause = Duration::from_millis(1 + rng.below(longest));
        let index = rng.below(2) as usize;
        let tick = self.tick;
        self.tick = tick.max(pause / 100);
        match trouble {
            Trouble::Partition => {
                self.cut = true;
                self.run_until(pause, |_| false);
                self.cut = false;
            }
            Trouble::MtuChange => self.mtu = [1_232, 1_452, 8_952, usize::MAX][rng.below(4) as usize],
            Trouble::AddressChange => {
                let known = [0, 1].map(|at: usize| {
                    self.peers[at].session.peer_address() == Some(self.peers[1 - at].address)
                });
                // When both move at once, neither knows where the other is.
                if known != [true; 2] {
                    return self.tick = tick;
                }
                self.rebind(index);
            }
            Trouble::StoppedProcess => {
                self.peers[index].process = Process::Stopped;
                self.run_until(pause, |_| false);
                self.go_on(index);
            }
            Trouble::ClockJump => {
                self.now += pause;
            }
            Trouble::StalledConsumer => {
                self.each_inbox(index, |inbox| inbox.stalled = true);
                self.run_until(pause, |_| false);
                self.each_inbox(index, |inbox| inbox.stalled = false);
            }
            Trouble::SlowConsumer => {
                let take = rng.below(2);
                self.each_inbox(index, |inbox| inbox.config.take = 1 + take);
            }
            Trouble::DroppedChannel => {
                if !self.drop_channel(index, rng) {
                    return self.tick = tick;
                }
            }
        }
        self.tick = tick;
        self.counts.add(trouble.kind());
    }

    /// Ends every fault.
    pub fn heal(&mut self) {
        self.faults = super::Faults { delay_us: self.faults.delay_us, ..super::Faults::default() };
        self.mtu = usize::MAX;
        for index in 0..2 {
            self.each_inbox(index, |inbox| inbox.config.take = 50);
        }
    }

    fn each_inbox(&mut self, index: usize, mut change: impl FnMut(&mut super::Consuming)) {
        self.peers[index].inboxes.consuming.values_mut().for_each(&mut change);
    }

    /// One end of a channel is dropped; returns whether there was one.
    fn drop_channel(&mut self, index: usize, rng: &mut Rng) -> bool {
        let peer = &mut self.peers[index];
        let labels: Vec<Label> =
            peer.inboxes.consuming.keys().chain(peer.rings.producing.keys()).copied().collect();
        let Some(label) = labels.get(rng.below(labels.len() as u64) as usize).copied() else { return false };
        if peer.session.reset(label, CloseCode::GRACEFUL).is_err() {
            return false;
        }
        let closed = Some(CloseCode::GRACEFUL);
        if let Some(ring) = peer.rings.producing.get_mut(&label) {
            ring.closed = closed;
        } else if let Some(inbox) = peer.inboxes.consuming.get_mut(&label) {
            inbox.closed = closed;
        }
        true
    }
}
