//! What each fault does to the hosts and links of a run, and how it ends.

use std::{net::SocketAddr, sync::atomic::Ordering, time::Duration};

use corewire_engine::driver::sim::Link;

use super::{
    faults::Fault,
    judge::{Judge, Pace, Relief},
    swarm_rig::Dice,
};

/// What a path may carry, in bytes of UDP payload: IPv6's and IPv4's least that a session needs, Ethernet,
/// jumbo frames, loopback.
const PATH_SIZES: [usize; 6] = [972, 1_232, 1_252, 1_472, 8_972, 65_535];

/// What a receive queue holds in datagrams, unless it is short.
const QUEUE: usize = 3_640;

/// Seconds in a year.
const YEAR: u64 = 365 * 24 * 3_600;

impl Judge {
    /// The links before the first fault.
    pub(super) fn first_link(dice: &mut Dice) -> Link {
        Link {
            delay: Duration::from_micros(20 + dice.below(5_000)),
            mtu_bytes: PATH_SIZES[dice.below(PATH_SIZES.len() as u64) as usize],
            ..Link::CLEAN
        }
    }

    /// One fault of those that this run may have.
    pub(super) fn draw_fault(&mut self) {
        let known: Vec<Fault> = self.faults.iter().collect();
        if known.is_empty() {
            return;
        }
        let fault = known[self.dice.below(known.len() as u64) as usize];
        self.trace(|| format!("fault: {}", fault.name()));
        match fault {
            Fault::Loss
            | Fault::Duplicate
            | Fault::Reorder
            | Fault::Delay
            | Fault::Corrupt
            | Fault::Truncate
            | Fault::Bandwidth
            | Fault::PathSize => self.change_link(fault),
            Fault::Partition | Fault::OneWay => self.cut(fault),
            Fault::Address => self.move_host(),
            Fault::Stop => self.stop(),
            Fault::Restart | Fault::NewIdentity => self.restart(fault),
            Fault::Leave => self.leave(),
            Fault::Clock => self.jump(),
            Fault::SlowConsumer => self.slow_down(fault, Pace::Slow),
            Fault::StalledConsumer => self.slow_down(fault, Pace::Stalled),
            Fault::ProducerDropped => self.drop_publication(),
            Fault::ConsumerDropped | Fault::LegDropped => self.drop_handle(fault),
            // A property of the whole run.
            Fault::TransmitMemory => {}
            Fault::ReceiveQueue => {
                let queue = 1 + self.dice.below(8) as usize;
                self.internet.world.limit_receive_queues(queue);
                self.relieve_after(Relief::Queues);
            }
        }
    }

    fn relieve_after(&mut self, relief: Relief) {
        let at = self.internet.world.now() + self.span();
        self.reliefs.push((at, relief));
    }

    /// One property of one direction of a link is another one, or is as it was.
    fn change_link(&mut self, fault: Fault) {
        let (from, to) = (self.place(), self.place());
        let (from, to) = (self.internet.places[from], self.internet.places[to]);
        let mut link = self.internet.world.link(from, to);
        let calm = self.dice.percent(30);
        let dice = &mut self.dice;
        match fault {
            Fault::Loss => link.loss = dice.part(0.3),
            Fault::Duplicate => link.duplicate = dice.part(0.3),
            Fault::Reorder => {
                (link.reorder, link.reorder_by) = (dice.part(0.3), Duration::from_micros(dice.below(20_000)));
            }
            Fault::Delay => {
                let most = 100 << dice.below(12);
                link.delay = Duration::from_micros(20 + dice.below(most).min(300_000));
                link.jitter = Duration::from_micros(dice.below(5_000));
            }
            Fault::Corrupt => link.corrupt = dice.part(0.1),
            Fault::Truncate => link.truncate = dice.part(0.05),
            Fault::Bandwidth => {
                link.bytes_per_second = Some(50_000 << dice.below(8));
                link.queue_bytes = 20_000 << dice.below(6);
            }
            _ => {
                link.mtu_bytes = PATH_SIZES[dice.below(PATH_SIZES.len() as u64) as usize];
                link.reports_mtu = dice.percent(50);
            }
        }
        if calm && fault != Fault::PathSize {
            link = Link { mtu_bytes: link.mtu_bytes, ..Link::CLEAN };
        }
        self.internet.world.set_link(from, to, link);
        if matches!(fault, Fault::Delay | Fault::Bandwidth | Fault::PathSize) {
            self.tally.add(fault, 1);
        }
    }

    /// A host does not reach another one, or neither does.
    fn cut(&mut self, fault: Fault) {
        let (one, other) = (self.place(), self.place());
        let at = self.internet.world.now() + self.span();
        let both = fault == Fault::Partition;
        for (from, to) in [(one, other), (other, one)].into_iter().take(1 + usize::from(both)) {
            self.internet.world.set_cut(self.internet.places[from], self.internet.places[to], true);
            self.reliefs.push((at, Relief::Mend(from, to)));
        }
        self.trace(|| format!("{one} is cut off from {other}"));
        self.tally.add(fault, 1);
    }

    /// Others see a host at another address, until it is seen at its own again.
    fn move_host(&mut self) {
        let place = self.place();
        let address = self.internet.address(place);
        let port = 20_000 + self.dice.below(20_000) as u16;
        self.internet.world.translate(address, SocketAddr::new(address.ip(), port));
        self.relieve_after(Relief::Return(place));
        self.trace(|| format!("host {place} is seen at port {port}"));
        self.tally.add(Fault::Address, 1);
    }

    fn stop(&mut self) {
        let place = self.place();
        if self.is_awake(place) {
            self.internet.freeze(place, true);
            self.relieve_after(Relief::Thaw(place));
            self.trace(|| format!("host {place} is stopped"));
            self.tally.add(Fault::Stop, 1);
        }
    }

    fn restart(&mut self, fault: Fault) {
        let place = self.place();
        if !self.internet.hosts.contains_key(&self.internet.places[place]) {
            return;
        }
        // The catalogue of peers is bounded by configuration; a few past identities are enough.
        if fault == Fault::NewIdentity && self.internet.identities[place] < 8 {
            self.internet.identities[place] += 1;
        }
        self.note_memory(place);
        // The process goes before the handles, so that nothing is ended in order.
        self.internet.crash(place);
        self.forget(place);
        self.relieve_after(Relief::Start(place));
        self.trace(|| format!("host {place} is killed"));
        self.tally.add(fault, 1);
    }

    /// The handles on a host are gone, one way or the other.
    fn forget(&mut self, place: usize) {
        self.consumers.retain(|watched| watched.consumer.place != place);
        for at in 0..self.lives.len() {
            if self.lives[at].place == place {
                self.note_stats(at);
                self.lives[at].publication = None;
            }
        }
    }

    fn leave(&mut self) {
        let place = self.place();
        let id = self.internet.places[place];
        if !self.is_awake(place) || self.internet.node(place).is_none() {
            return;
        }
        if self.dice.percent(50) {
            self.forget(place);
        }
        if let Some(host) = self.internet.hosts.get_mut(&id) {
            host.node = None;
        }
        self.relieve_after(Relief::Start(place));
        self.trace(|| format!("host {place} leaves"));
        self.tally.add(Fault::Leave, 1);
    }

    /// A wall clock is changed, forwards or backwards, by seconds, by an hour, or by a year.
    fn jump(&mut self) {
        let place = self.place();
        let by = 1 + self.dice.below([10, 3_600, YEAR][self.dice.clone().below(3) as usize]);
        let back = self.dice.percent(50);
        let date = &self.internet.dates[place];
        let before = date.load(Ordering::Relaxed);
        let after = if back { before.saturating_sub(by) } else { before + by };
        date.store(after, Ordering::Relaxed);
        self.tally.add(Fault::Clock, 1);
    }

    fn slow_down(&mut self, fault: Fault, pace: Pace) {
        if self.consumers.is_empty() {
            return;
        }
        let at = self.dice.below(self.consumers.len() as u64) as usize;
        let until = self.internet.world.now() + self.span();
        (self.consumers[at].pace, self.consumers[at].until) = (pace, until);
        self.trace(|| format!("consumer {at} is {pace:?}"));
        self.tally.add(fault, 1);
    }

    fn drop_publication(&mut self) {
        let open: Vec<usize> = (0..self.lives.len())
            .filter(|at| self.lives[*at].publication.is_some() && self.is_awake(self.lives[*at].place))
            .collect();
        if open.is_empty() {
            return;
        }
        let at = open[self.dice.below(open.len() as u64) as usize];
        self.note_stats(at);
        self.lives[at].publication = None;
        self.trace(|| format!("life {at} is dropped"));
        self.tally.add(Fault::ProducerDropped, 1);
    }

    fn drop_handle(&mut self, fault: Fault) {
        let awake: Vec<usize> = (0..self.consumers.len())
            .filter(|at| self.is_awake(self.consumers[*at].consumer.place))
            .collect();
        if awake.is_empty() {
            return;
        }
        let at = awake[self.dice.below(awake.len() as u64) as usize];
        if fault == Fault::ConsumerDropped {
            self.consumers.remove(at);
            self.tally.add(fault, 1);
        } else if self.consumers[at].consumer.drop_leg() {
            self.tally.add(fault, 1);
        }
        self.trace(|| format!("consumer {at}: {}", fault.name()));
    }

    /// Ends what is to end by now, or everything.
    pub(super) fn relieve(&mut self, all: bool) {
        let now = self.internet.world.now();
        for (at, relief) in std::mem::take(&mut self.reliefs) {
            if at > now && !all || !self.try_relieve(relief) {
                self.reliefs.push((at, relief));
            }
        }
    }

    /// `false`: not possible yet.
    fn try_relieve(&mut self, relief: Relief) -> bool {
        match relief {
            Relief::Thaw(place) => self.internet.freeze(place, false),
            Relief::Mend(from, to) => {
                let (from, to) = (self.internet.places[from], self.internet.places[to]);
                self.internet.world.set_cut(from, to, false);
            }
            Relief::Return(place) => {
                let address = self.internet.address(place);
                self.internet.world.translate(address, address);
                self.tally.add(Fault::Address, 1);
            }
            Relief::Queues => self.internet.world.limit_receive_queues(QUEUE),
            Relief::Start(place) => {
                let nodes = self.internet.hosts.get(&self.internet.places[place]).map(|h| h.load().nodes);
                match nodes {
                    None => self.internet.start(place),
                    Some(_) if self.internet.node(place).is_some() => {}
                    // A node that leaves has to close its sockets first.
                    Some(0) => {
                        self.forget(place);
                        self.internet.join(place);
                    }
                    Some(_) => return false,
                }
            }
        }
        self.trace(|| format!("{relief:?} is over"));
        true
    }

    /// Stops the faults, and starts the hosts that are down.
    pub(super) fn heal(&mut self) {
        self.trace(|| "no fault from here on".into());
        for (from, to) in self.pairs() {
            let mtu_bytes = self.internet.world.link(from, to).mtu_bytes;
            self.internet.world.set_link(from, to, Link { mtu_bytes, ..Link::CLEAN });
        }
        for watched in &mut self.consumers {
            watched.pace = Pace::Eager;
        }
        let limit = self.internet.world.now() + Duration::from_secs(60);
        self.relieve(true);
        while !self.reliefs.is_empty() {
            assert!(self.internet.world.now() < limit, "a node that left never lets go");
            self.internet.run_for(Duration::from_millis(50));
            self.relieve(true);
        }
    }

    fn pairs(&self) -> Vec<(corewire_engine::driver::sim::HostId, corewire_engine::driver::sim::HostId)> {
        let places = &self.internet.places;
        places.iter().flat_map(|&from| places.iter().map(move |&to| (from, to))).collect()
    }
}
