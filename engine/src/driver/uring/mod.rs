//! The driver on io_uring.
//!
//! It uses no zero-copy sends, registered buffers or fixed files. What the two kernel drivers share is in
//! `driver/sys`.
//!
//! # How it works
//!
//! * One multishot `recvmsg` per socket fills buffers of one provided ring. It ends when the kernel has no
//!   buffer left or an error is queued, and is armed again by the next `submit` once buffers have come back.
//!   Only a socket whose receives fail again and again rests for a time in between.
//! * A send is one `sendmsg` per lease, however many datagrams it carries.
//! * `submit` is one `io_uring_enter`. `receive` makes none while completions are visible, and none while the
//!   ring's flags show that none waits to be made visible, so an idle turn costs no system call.
//! * `park` is one `io_uring_enter` that sleeps. A multishot poll of an eventfd, armed before the first
//!   sleep, ends it.
//! * The end is in `teardown.rs`.
#![allow(unsafe_code)]

mod buffers;
mod ring;
mod setup;
mod sleep;
mod teardown;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    io,
    net::UdpSocket,
    os::fd::{AsRawFd, BorrowedFd, RawFd},
    sync::Arc,
    task::Waker,
    time::Duration,
};

use ::ring::rand::{SecureRandom, SystemRandom};
use corewire_proto::time::Instant;
use io_uring::{cqueue, opcode, types};

use self::{
    buffers::BufferRing,
    ring::{IoUring, Operation},
    setup::UringLimits,
};
use super::{
    Driver, DriverConfig, DriverCounters, DriverKind, DriverOpenError, Features, Lease, PathError, Received,
    Route, SOCKET_SHARE, Sleep, Socket, SocketId,
    fault::PathErrors,
    outgoing::{self, Outgoing},
    probe,
    sys::{
        address::canonical,
        clock,
        errors::{self, SendFailure},
        options,
        send::{self, SendSlots},
    },
    table::SocketTable,
    train,
    wake::Alarm,
};
use crate::buffer::TransmitSlab;

/// Receives of one socket that may end in an unknown error in a row before the socket rests.
const RECEIVE_FAILURES_MAX: u8 = 16;

/// How often a send is tried again that met the errors of earlier datagrams: each time it can meet one of
/// those that were sent again before it.
const REFUSALS_MAX: u8 = 8;

/// How long a socket rests whose receives only fail, before the next one is armed: so long that it costs no
/// CPU time, and shorter than the time after which a peer takes the node for dead.
const RECEIVE_REST: Duration = Duration::from_millis(100);

/// A socket and what is known about it.
#[derive(Debug)]
struct UringSocket {
    socket: Arc<UdpSocket>,
    is_ipv4: bool,
    /// Datagrams per send; 1 when trains are not taken.
    segments_per_train: usize,
    /// The kernel's count of dropped datagrams, as last seen.
    dropped: u32,
    /// A receive is armed.
    armed: bool,
    /// Errors taken from its queue since the last receive was armed, by a send that met one.
    drained: u64,
    /// Receives that ended in an unknown error since the last good one.
    failures: u8,
    /// No receive is armed before this moment.
    rests_until: Option<Instant>,
}

/// A buffer that a receive has filled and that was not lent yet.
#[derive(Clone, Copy, Debug)]
struct FilledBuffer {
    token: u64,
    buffer: u16,
    len: usize,
}

/// A send that the kernel has or will get with the next submit.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    outgoing: Outgoing,
    /// How often it was refused, perhaps with the error of an earlier datagram.
    refusals: u8,
    /// The submit did not complete it: it waits for room.
    waits: bool,
}

/// A driver on io_uring.
#[derive(Debug)]
pub struct UringDriver {
    // First, so that the ring is closed before memory is freed; `teardown` drains it before that.
    ring: IoUring,
    /// `None` only after the end.
    buffers: Option<BufferRing>,
    slab: TransmitSlab,
    slots: Option<SendSlots>,
    /// The message header of every armed receive: the room for address and control data.
    template: Box<libc::msghdr>,
    alarm: Arc<Alarm>,
    /// A host may sleep on the alarm's notice, so the ring writes it as well: completions that only an
    /// `enter` makes visible do not make the ring's own descriptor readable.
    noticing: bool,
    alarm_armed: bool,
    sockets: SocketTable<UringSocket>,
    /// Sockets whose receive has to be armed. May name removed ones.
    to_arm: Vec<SocketId>,
    /// Armed receives, also of sockets that were removed meanwhile.
    receives_in_flight: usize,
    arrivals: VecDeque<FilledBuffer>,
    /// By transmit buffer.
    in_flight: Box<[Option<InFlight>]>,
    /// Sends that have to leave in pieces, which `submit` does itself.
    pieces: Vec<Outgoing>,
    /// `lease` found none: a sleep ends when one comes back.
    wants_lease: bool,
    completions: Vec<cqueue::Entry>,
    /// The completion queue was full at the last reap.
    overflowed: bool,
    features: Features,
    segments_per_train: usize,
    random: SystemRandom,
    counters: DriverCounters,
    path_errors: PathErrors,
}

impl UringDriver {
    /// Opens the driver with the bounds of `config`, for the calling thread.
    ///
    /// # Errors
    ///
    /// [`DriverOpenError::Uring`] when io_uring is not allowed or too old here.
    pub fn open(config: &DriverConfig) -> Result<Self, DriverOpenError> {
        Self::open_limited(config, UringLimits::default())
    }

    fn open_limited(config: &DriverConfig, limits: UringLimits) -> Result<Self, DriverOpenError> {
        config.check()?;
        let system = |what| move |source| DriverOpenError::System { what, source };
        let mut features = Features::default();
        let mut ring = setup::ring(config, limits, &mut features).map_err(DriverOpenError::Uring)?;
        let mut buffers =
            BufferRing::new(config.receive_buffers).map_err(system("map the receive buffers"))?;
        if let Err(refusal) = setup::receives(&mut ring, &mut buffers, &mut features) {
            if buffers.given() > 0 {
                // They were registered, and whether the kernel has let go of them is not known.
                buffers.leak();
            }
            return Err(DriverOpenError::Uring(refusal));
        }
        let udp = probe::udp();
        udp.note(&mut features);
        let mut driver = Self {
            ring,
            buffers: Some(buffers),
            slab: TransmitSlab::new(config.leases, true).map_err(system("map the transmit buffers"))?,
            slots: Some(SendSlots::new(config.leases)),
            template: Box::new(BufferRing::template()),
            alarm: Alarm::new().map_err(system("open an eventfd"))?,
            noticing: false,
            alarm_armed: false,
            sockets: SocketTable::new(config.sockets),
            to_arm: Vec::with_capacity(usize::from(config.sockets)),
            receives_in_flight: 0,
            arrivals: VecDeque::with_capacity(usize::from(config.receive_buffers)),
            in_flight: vec![None; usize::from(config.leases)].into(),
            pieces: Vec::new(),
            wants_lease: false,
            completions: Vec::new(),
            overflowed: false,
            features,
            segments_per_train: udp.segments_per_train(),
            random: SystemRandom::new(),
            counters: DriverCounters::default(),
            path_errors: PathErrors::default(),
        };
        driver.arm_alarm();
        driver.ring.submit(&mut driver.counters).map_err(system("watch the eventfd"))?;
        Ok(driver)
    }

    /// Has the kernel watch the eventfd from the next submit on.
    fn arm_alarm(&mut self) {
        let poll = opcode::PollAdd::new(types::Fd(self.alarm.as_raw_fd()), libc::POLLIN as u32).multi(true);
        // SAFETY: a poll points to nothing; the ring itself keeps the eventfd open while it is watched.
        self.alarm_armed = unsafe { self.ring.push(&poll.build().user_data(Operation::Alarm.word())) };
    }

    /// Arms the receives that have ended, if there are buffers for them. An armed receive without a buffer
    /// would end at once.
    fn arm_receives(&mut self) {
        if self.buffers.as_ref().is_none_or(|buffers| buffers.given() == 0) {
            return;
        }
        let mut place = 0;
        while let Some(&id) = self.to_arm.get(place) {
            if let Some(entry) = self.sockets.get_mut(id).filter(|entry| !entry.armed) {
                if entry.rests_until.is_some_and(|until| clock::now() < until) {
                    place += 1;
                    continue;
                }
                let fd = types::Fd(entry.socket.as_raw_fd());
                let receive =
                    opcode::RecvMsgMulti::new(fd, &raw const *self.template, buffers::GROUP).build();
                let word = Operation::Receive(id.token()).word();
                // SAFETY: the template and the buffers live until the receive has ended (see `teardown`), and
                // the ring itself keeps the socket open.
                if !unsafe { self.ring.push(&receive.user_data(word)) } {
                    return;
                }
                entry.armed = true;
                entry.drained = 0;
                entry.rests_until = None;
                self.receives_in_flight += 1;
            }
            self.to_arm.swap_remove(place);
        }
    }

    /// Handles every visible completion: sends land, filled buffers are queued.
    fn reap(&mut self) {
        // The kernel keeps what does not fit; the enter that moves it over follows, because the flag asks for
        // one.
        let overflowed = self.ring.overflowed();
        self.counters.completion_overflows += u64::from(overflowed && !self.overflowed);
        self.overflowed = overflowed;
        let mut completions = std::mem::take(&mut self.completions);
        self.ring.reap(&mut completions);
        for completion in completions.drain(..) {
            match Operation::from_word(completion.user_data()) {
                Operation::Receive(token) => self.received(token, &completion),
                Operation::Send(buffer) => self.sent(buffer, completion.result()),
                Operation::Alarm => self.alarm_armed = cqueue::more(completion.flags()),
                Operation::Cancel | Operation::Probe => {}
            }
        }
        self.completions = completions;
    }

    fn received(&mut self, token: u64, completion: &cqueue::Entry) {
        let (result, flags) = (completion.result(), completion.flags());
        let id = SocketId::from_token(token);
        let entry = self.sockets.get_mut(id);
        let mut fd = None;
        if !cqueue::more(flags) {
            self.receives_in_flight -= 1;
            if let Some(entry) = entry {
                entry.armed = false;
                fd = Some(entry.socket.as_raw_fd());
                self.to_arm.push(id);
            }
        }
        if let Some(buffer) = cqueue::buffer_select(flags) {
            let buffers = self.buffers.as_mut().expect("receives end before their buffers");
            buffers.take(buffer);
            match usize::try_from(result) {
                Ok(len) => self.arrivals.push_back(FilledBuffer { token, buffer, len }),
                Err(_) => buffers.give(buffer),
            }
        }
        match (-result, fd) {
            (libc::ENOBUFS, _) => self.counters.receive_starved += 1,
            (errno, Some(fd)) if errno > 0 && errno != libc::ECANCELED => self.receive_failed(id, fd),
            _ => {}
        }
    }

    /// A receive has ended in an error: usually the echo of an earlier send, which is in the socket's queue.
    fn receive_failed(&mut self, id: SocketId, fd: RawFd) {
        let mut drained = errors::drain((id, fd), &mut self.counters, &mut self.path_errors);
        drained += self.sockets.get(id).map_or(0, |entry| entry.drained);
        let unexplained = drained == 0;
        if let Some(entry) = self.sockets.get_mut(id) {
            entry.failures = if unexplained { entry.failures.saturating_add(1) } else { 0 };
            let rests = entry.failures >= RECEIVE_FAILURES_MAX;
            entry.rests_until = rests.then(|| clock::now() + RECEIVE_REST);
            self.counters.receive_rests += u64::from(rests);
        }
        self.counters.receive_errors += u64::from(unexplained);
    }

    fn sent(&mut self, buffer: u16, result: i32) {
        let slot = &mut self.in_flight[usize::from(buffer)];
        let Some(InFlight { outgoing, refusals, .. }) = slot.take() else {
            unreachable!("send {buffer} completed without having been made")
        };
        if result >= 0 {
            self.counters.count_sent(&outgoing);
            return self.slab.land(buffer);
        }
        // A cancelled send says nothing about its way: the socket is being closed.
        let open = self.sockets.get(outgoing.route.socket).filter(|_| result != -libc::ECANCELED);
        let Some(fd) = open.map(|entry| entry.socket.as_raw_fd()) else {
            self.counters.send_refused += outgoing.datagrams();
            return self.slab.land(buffer);
        };
        let id = outgoing.route.socket;
        let drained = errors::drain((id, fd), &mut self.counters, &mut self.path_errors);
        if let Some(entry) = self.sockets.get_mut(id) {
            entry.drained += drained;
        }
        let error = io::Error::from_raw_os_error(-result);
        match SendFailure::of(&error, outgoing.is_train()) {
            SendFailure::Train => {
                let only_this = matches!(-result, libc::EMSGSIZE | libc::EINVAL);
                if let Some(entry) = self.sockets.get_mut(outgoing.route.socket).filter(|_| !only_this) {
                    entry.segments_per_train = 1;
                }
                self.split(fd, &outgoing, 1);
            }
            // The answer may be meant for an earlier datagram; with the queue taken, this one may pass.
            failure @ (SendFailure::Unreachable | SendFailure::Wait)
                if refusals == 0 || (drained > 0 && refusals < REFUSALS_MAX) =>
            {
                self.counters.send_waited += u64::from(failure == SendFailure::Wait);
                self.stage(fd, InFlight { outgoing, refusals: refusals + 1, waits: false });
            }
            failure => {
                failure.count(outgoing.datagrams(), &mut self.counters);
                let Route { socket, to, .. } = outgoing.route;
                if let Some(fault) = failure.fault(outgoing.segment) {
                    self.path_errors.note(PathError { socket, to: canonical(to), fault });
                }
                self.slab.land(buffer);
            }
        }
    }

    /// Puts a described send into the submission queue.
    fn stage(&mut self, fd: RawFd, send: InFlight) {
        let buffer = send.outgoing.buffer;
        let Some(slots) = &self.slots else { return self.slab.land(buffer) };
        let operation = opcode::SendMsg::new(types::Fd(fd), slots.header(buffer)).build();
        let operation = operation.user_data(Operation::Send(buffer).word());
        // SAFETY: the slot and the bytes of this buffer are not touched until its completion lands it, and
        // both outlive the ring's last completion (see `teardown`).
        if unsafe { self.ring.push(&operation) } {
            self.in_flight[usize::from(buffer)] = Some(send);
        } else {
            // The queue has room for every lease, so this needs a kernel that consumes nothing for long.
            self.counters.send_no_room += send.outgoing.datagrams();
            self.slab.land(buffer);
        }
    }

    /// Sends a train in pieces that the kernel takes.
    fn split(&mut self, fd: RawFd, outgoing: &Outgoing, per_train: usize) {
        self.counters.sent_split += 1;
        let bytes = self.slab.in_flight_bytes(outgoing.buffer, outgoing.len);
        let told = (&mut self.counters, &mut self.path_errors);
        send::send_pieces(fd, outgoing.route, bytes, outgoing.segment, per_train, told);
        self.slab.land(outgoing.buffer);
    }

    /// Lends one filled buffer; returns how many units of the budget it cost.
    fn lend(&mut self, arrival: FilledBuffer, on: &mut impl FnMut(Received<'_>)) -> usize {
        let id = SocketId::from_token(arrival.token);
        let Some(buffers) = &mut self.buffers else { return 0 };
        let mut taken = 0;
        if let Some(entry) = self.sockets.get_mut(id) {
            entry.failures = 0;
            // Counted even if it can't be lent, so that a flood of such messages can't prolong the turn.
            taken = 1;
            if let Some(message) = buffers.message(arrival.buffer, arrival.len) {
                train::count_drops(message.notes.dropped, &mut entry.dropped, &mut self.counters);
                self.counters.received_truncated += u64::from(message.truncated);
                if let Some(from) = message.from.filter(|_| !message.truncated) {
                    let segment = message.notes.segment;
                    let sender = (id, from, message.notes.at);
                    taken = train::deliver(sender, message.bytes, segment, &mut self.counters, on);
                }
            }
        }
        buffers.give(arrival.buffer);
        taken
    }

    /// Sends the trains that need pieces, and arms receives and the alarm again.
    fn upkeep(&mut self) {
        for outgoing in std::mem::take(&mut self.pieces) {
            let Some(entry) = self.sockets.get(outgoing.route.socket) else {
                self.counters.send_refused += outgoing.datagrams();
                self.slab.land(outgoing.buffer);
                continue;
            };
            let fd = entry.socket.as_raw_fd();
            self.split(fd, &outgoing, outgoing.per_train.unwrap_or(1));
        }
        if !self.to_arm.is_empty() {
            self.arm_receives();
        }
        if !self.alarm_armed {
            self.arm_alarm();
        }
    }

    /// Submits everything that is staged in one call; makes none when nothing is. UDP sends complete inside
    /// that call, so their leases come back here.
    fn flush(&mut self) -> io::Result<()> {
        self.upkeep();
        if self.ring.pushed() == 0 && !self.ring.wants_enter() {
            return Ok(());
        }
        self.ring.submit(&mut self.counters)?;
        self.reap();
        // Sends that were refused with an earlier datagram's error are tried again.
        for _ in 0..REFUSALS_MAX {
            if self.ring.pushed() == 0 {
                break;
            }
            self.ring.submit(&mut self.counters)?;
            self.reap();
        }
        if self.slab.in_flight() > 0 {
            self.in_flight.iter_mut().flatten().for_each(|send| send.waits = true);
        }
        Ok(())
    }
}

impl Driver for UringDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Uring
    }

    fn features(&self) -> &Features {
        &self.features
    }

    fn now(&self) -> Instant {
        clock::now()
    }

    fn entropy(&mut self, out: &mut [u8]) {
        self.random.fill(out).expect("the system gives random bytes; without them no key is safe");
    }

    fn add_socket(&mut self, socket: Socket) -> io::Result<SocketId> {
        let Socket::Udp(socket) = socket else {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the io_uring driver takes UDP sockets"));
        };
        let prepared = options::prepare(&socket, true)?;
        let is_ipv4 = socket.local_addr()?.is_ipv4();
        let segments_per_train = if prepared.segmentation { self.segments_per_train } else { 1 };
        let entry = UringSocket {
            socket,
            is_ipv4,
            segments_per_train,
            dropped: 0,
            armed: false,
            drained: 0,
            failures: 0,
            rests_until: None,
        };
        let id =
            self.sockets.insert(|_| entry).ok_or_else(|| io::Error::other("the socket table is full"))?;
        self.to_arm.push(id);
        Ok(id)
    }

    fn remove_socket(&mut self, id: SocketId) {
        self.close_socket(id);
    }

    fn receive(&mut self, budget: usize, mut on: impl FnMut(Received<'_>)) -> usize {
        if self.arrivals.is_empty() {
            self.reap();
            if self.arrivals.is_empty() && self.ring.wants_enter() {
                // `submit` reports a broken ring.
                let _ = self.ring.run_completions(&mut self.counters);
                self.reap();
            }
        }
        let mut taken = 0;
        while taken < budget {
            let Some(arrival) = self.arrivals.pop_front() else { break };
            taken += self.lend(arrival, &mut on);
        }
        taken
    }

    fn lease(&mut self) -> Option<Lease> {
        let mut lease = self.slab.lease();
        if lease.is_none() {
            // What was submitted may have completed since.
            self.reap();
            lease = self.slab.lease();
        }
        self.wants_lease = lease.is_none();
        self.counters.leases_exhausted += u64::from(lease.is_none());
        lease
    }

    fn is_backed_up(&mut self, socket: SocketId) -> bool {
        let share = self.slab.len() / SOCKET_SHARE;
        let waits = |send: &&InFlight| send.waits && send.outgoing.route.socket == socket;
        self.slab.in_flight() > share && self.in_flight.iter().flatten().filter(waits).count() > share
    }

    fn send(&mut self, route: Route, lease: Lease, len: usize, segment: usize) {
        let sound = outgoing::is_sound(len, segment) && self.slab.owns(&lease);
        let entry = self.sockets.get(route.socket).filter(|_| sound);
        let Some((fd, ability)) =
            entry.map(|entry| (entry.socket.as_raw_fd(), (entry.is_ipv4, entry.segments_per_train)))
        else {
            self.counters.send_refused += 1;
            return;
        };
        let buffer = self.slab.fly(lease);
        let Some(outgoing) = Outgoing::new(route, buffer, (len, segment), ability) else {
            self.counters.send_refused += 1;
            return self.slab.land(buffer);
        };
        if outgoing.per_train.is_some() {
            return self.pieces.push(outgoing);
        }
        if let Some(slots) = &mut self.slots {
            slots.fill(buffer, outgoing.route, self.slab.pointer(buffer), len, segment);
        }
        self.stage(fd, InFlight { outgoing, refusals: 0, waits: false });
    }

    fn path_error(&mut self) -> Option<PathError> {
        errors::restore(&mut self.counters, &mut self.path_errors);
        self.path_errors.take()
    }

    fn submit(&mut self) -> io::Result<()> {
        self.flush()?;
        self.ring.check()
    }

    fn prepare_sleep(&mut self, until: Option<Instant>) -> Sleep {
        self.arm_sleep(until)
    }

    fn sleep(&mut self, until: Option<Instant>) {
        self.sleep_in_ring(until);
    }

    fn end_sleep(&mut self) {
        self.disarm_sleep();
    }

    fn readiness(&mut self) -> io::Result<BorrowedFd<'_>> {
        self.make_readiness()
    }

    fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.alarm))
    }

    fn counters(&self) -> DriverCounters {
        self.counters
    }
}
