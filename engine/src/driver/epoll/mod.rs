//! The driver for where io_uring is forbidden or too old: non-blocking `recvmmsg` and `sendmmsg` with trains
//! both ways, and epoll to sleep.
//!
//! A send is complete when `submit` returns, unless the socket's buffer was full; then it stays staged, with
//! its lease, until there is room. The system calls are in `driver/sys`.

use std::{
    io,
    net::UdpSocket,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    sync::Arc,
    task::Waker,
};

use corewire_proto::time::Instant;
use ring::rand::{SecureRandom, SystemRandom};

use super::{
    Driver, DriverConfig, DriverCounters, DriverKind, DriverOpenError, Features, Found, Lease, PathError,
    Received, Route, SOCKET_SHARE, Sleep, Socket, SocketId,
    fault::PathErrors,
    outgoing::{self, Outgoing},
    probe,
    sys::{
        address::canonical,
        clock,
        epoll::{Epoll, FAILED, READABLE, WRITABLE},
        errors::{self, SendFailure},
        options,
        receive::ReceiveBatch,
        send::{self, SendBatch, SendSlots},
    },
    table::SocketTable,
    train,
    wake::Alarm,
};
use crate::buffer::TransmitSlab;

/// Names the alarm among epoll's events; no socket has this token.
const ALARM: u64 = u64::MAX;

/// Factor by which a batch grows after one that was full.
const BATCH_GROWTH: usize = 4;

/// A socket and what is known about it.
#[derive(Debug)]
struct EpollSocket {
    socket: Arc<UdpSocket>,
    is_ipv4: bool,
    /// Datagrams per send; 1 when trains are not taken.
    segments_per_train: usize,
    /// The kernel's count of dropped datagrams, as last seen.
    dropped: u32,
    /// Epoll reported datagrams, and no receive has found fewer than it asked for since.
    ready: bool,
    /// How many datagrams to ask for.
    batch: usize,
    /// Its send buffer was full; epoll reports when there is room.
    waiting: bool,
}

impl EpollSocket {
    fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Received messages beyond the budget of one `receive`, lent by the next.
#[derive(Clone, Copy, Debug)]
struct Rest {
    socket: SocketId,
    next: usize,
    end: usize,
}

/// A driver on epoll.
#[derive(Debug)]
pub struct EpollDriver {
    epoll: Epoll,
    alarm: Arc<Alarm>,
    sockets: SocketTable<EpollSocket>,
    /// Sockets in the table.
    count: usize,
    slab: TransmitSlab,
    slots: SendSlots,
    sending: SendBatch,
    /// Sends that wait for `submit` or for room, in the order of `send`.
    staged: Vec<Outgoing>,
    /// Swapped with `staged` in `submit`. Empty in between; kept for its memory.
    spare: Vec<Outgoing>,
    receiving: ReceiveBatch,
    /// A sleep was prepared, and epoll has not been asked what ended it.
    unasked: bool,
    /// While there is one, no other message is received: it would overwrite these.
    rest: Option<Rest>,
    /// The slot from which `receive` begins; it moves on, so that a busy socket can't starve the others.
    first: usize,
    features: Features,
    segments_per_train: usize,
    random: SystemRandom,
    counters: DriverCounters,
    path_errors: PathErrors,
    /// The error of the first call whose refusal is final.
    broken: Option<i32>,
}

impl EpollDriver {
    /// Opens the driver with the bounds of `config`.
    ///
    /// # Errors
    ///
    /// When the system refuses a descriptor or memory.
    pub fn open(config: &DriverConfig) -> Result<Self, DriverOpenError> {
        config.check()?;
        let system = |what| move |source| DriverOpenError::System { what, source };
        let epoll = Epoll::new().map_err(system("open epoll"))?;
        let alarm = Alarm::new().map_err(system("open an eventfd"))?;
        epoll.add(alarm.as_raw_fd(), READABLE, ALARM).map_err(system("watch the eventfd"))?;
        let mut features = Features::default();
        let precise =
            if epoll.is_precise() { Found::Yes } else { Found::No("sleeps last whole milliseconds".into()) };
        features.note("epoll_pwait2", "5.11", precise);
        let udp = probe::udp();
        udp.note(&mut features);
        Ok(Self {
            epoll,
            alarm,
            sockets: SocketTable::new(config.sockets),
            count: 0,
            slab: TransmitSlab::new(config.leases, true).map_err(system("map the transmit buffers"))?,
            slots: SendSlots::new(config.leases),
            sending: SendBatch::new(config.leases),
            staged: Vec::with_capacity(usize::from(config.leases)),
            spare: Vec::with_capacity(usize::from(config.leases)),
            receiving: ReceiveBatch::new(config.receive_buffers)
                .map_err(system("map the receive buffers"))?,
            unasked: false,
            rest: None,
            first: 0,
            features,
            segments_per_train: udp.segments_per_train(),
            random: SystemRandom::new(),
            counters: DriverCounters::default(),
            path_errors: PathErrors::default(),
            broken: None,
        })
    }

    /// Takes the events of epoll, after a wait of at most `timeout`.
    fn poll_events(&mut self, timeout: Option<std::time::Duration>) {
        self.counters.system_calls += 1;
        let events = match self.epoll.wait(timeout) {
            Ok(events) => events,
            Err(error) => {
                // A signal ends one wait; what else is refused would be refused again at once.
                let is_final = error.kind() != io::ErrorKind::Interrupted;
                self.broken = self.broken.or(error.raw_os_error().filter(|_| is_final));
                return;
            }
        };
        let mut failed = Vec::new();
        let mut writable = Vec::new();
        for (token, events) in events {
            if token == ALARM {
                self.counters.system_calls += 1;
                self.alarm.clear();
                continue;
            }
            let id = SocketId::from_token(token);
            let Some(entry) = self.sockets.get_mut(id) else { continue };
            entry.ready |= events & (READABLE | FAILED) != 0;
            if events & FAILED != 0 {
                failed.push((id, entry.fd()));
            }
            if events & WRITABLE != 0 && entry.waiting {
                entry.waiting = false;
                writable.push((entry.fd(), token));
            }
        }
        for socket in failed {
            errors::drain(socket, &mut self.counters, &mut self.path_errors);
        }
        for (fd, token) in writable {
            self.counters.system_calls += 1;
            // The socket is in the set, so only lack of kernel memory can refuse; then it reports too often.
            let _ = self.epoll.modify(fd, READABLE, token);
        }
    }

    /// Lends the messages of `rest` until `budget` is used up; returns how many datagrams.
    fn lend(&mut self, rest: Rest, budget: usize, on: &mut impl FnMut(Received<'_>)) -> usize {
        let mut taken = 0;
        let mut next = rest.next;
        while next < rest.end && taken < budget {
            let message = self.receiving.message(next);
            next += 1;
            if let Some(entry) = self.sockets.get_mut(rest.socket) {
                train::count_drops(message.notes.dropped, &mut entry.dropped, &mut self.counters);
            }
            match message.from {
                Some(from) if !message.truncated => {
                    let segment = message.notes.segment;
                    taken += train::deliver(
                        (rest.socket, from, message.notes.at),
                        message.bytes,
                        segment,
                        &mut self.counters,
                        on,
                    );
                }
                // It counts against the budget too, so that a flood of such messages can't prolong the turn.
                _ => {
                    self.counters.received_truncated += u64::from(message.truncated);
                    taken += 1;
                }
            }
        }
        self.rest = (next < rest.end).then_some(Rest { next, ..rest });
        taken
    }

    /// Receives from the socket in `slot`; returns how many datagrams. The next call takes what is left.
    fn receive_from(&mut self, slot: usize, budget: usize, on: &mut impl FnMut(Received<'_>)) -> usize {
        let mut taken = 0;
        while taken < budget && self.rest.is_none() {
            let Some((id, entry)) = self.sockets.at(slot) else { break };
            if !entry.ready {
                break;
            }
            let socket = (id, entry.fd());
            let limit = entry.batch.min(budget - taken).min(self.receiving.capacity());
            let count = self.receive_batch(socket, limit);
            if let Some((_, entry)) = self.sockets.at(slot) {
                entry.ready = count == limit;
                // A batch that was not filled made the kernel look once too often: ask for as many as came.
                entry.batch = if entry.ready { entry.batch * BATCH_GROWTH } else { count.max(1) };
                entry.batch = entry.batch.min(self.receiving.capacity());
            }
            taken += self.lend(Rest { socket: id, next: 0, end: count }, budget - taken, on);
            if limit == 1 {
                // A conversation has one datagram at a time: another receive would find none and delay the
                // answer.
                break;
            }
        }
        taken
    }

    /// One call for up to `limit` datagrams or trains; returns how many came.
    fn receive_batch(&mut self, (id, fd): (SocketId, RawFd), limit: usize) -> usize {
        self.counters.system_calls += 1;
        let mut received = self.receiving.receive(fd, limit);
        if received.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock) {
            // Usually the error of an earlier send. Once it is taken, the datagrams behind it are received.
            let drained = errors::drain((id, fd), &mut self.counters, &mut self.path_errors);
            self.counters.receive_errors += u64::from(drained == 0);
            self.counters.system_calls += 1;
            received = self.receiving.receive(fd, limit);
            // No error of a datagram: the call is forbidden, and a socket that is not read wakes every sleep.
            // Not EACCES: errors of ICMPv6 have that number too, and one may come at any time.
            let is_final = |errno: &i32| matches!(*errno, libc::EPERM | libc::ENOSYS);
            let errno = received.as_ref().err().and_then(io::Error::raw_os_error);
            self.broken = self.broken.or(errno.filter(is_final));
        }
        let count = received.unwrap_or(0);
        self.counters.receive_starved += u64::from(count == self.receiving.capacity());
        count
    }

    /// Sends a run of staged sends, all on one socket.
    fn send_run(&mut self, run: &[Outgoing]) {
        let Some(first) = run.first() else { return };
        let Some(entry) = self.sockets.get_mut(first.route.socket) else {
            self.counters.send_refused += run.iter().map(Outgoing::datagrams).sum::<u64>();
            run.iter().for_each(|outgoing| self.slab.land(outgoing.buffer));
            return;
        };
        if entry.waiting {
            return self.staged.extend_from_slice(run);
        }
        let fd = entry.fd();
        let socket = (first.route.socket, fd);
        if let Some(per_train) = first.per_train {
            for outgoing in run {
                self.split(fd, outgoing, per_train);
            }
            return;
        }
        let (mut next, mut tries) = (0, 0);
        while next < run.len() {
            self.counters.system_calls += 1;
            let buffers = run[next..].iter().map(|outgoing| outgoing.buffer);
            let error = match self.sending.send(fd, &self.slots, buffers) {
                Ok(count) => {
                    for outgoing in &run[next..next + count] {
                        self.counters.count_sent(outgoing);
                        self.slab.land(outgoing.buffer);
                    }
                    next += count;
                    tries = 0;
                    continue;
                }
                Err(error) => error,
            };
            match SendFailure::of(&error, run[next].is_train()) {
                SendFailure::Wait => {
                    self.wait_for_room(run[next].route.socket);
                    return self.staged.extend_from_slice(&run[next..]);
                }
                SendFailure::Train => {
                    errors::drain(socket, &mut self.counters, &mut self.path_errors);
                    self.give_up_trains(&error, run[next].route.socket);
                    self.split(fd, &run[next], 1);
                }
                SendFailure::Unreachable if tries == 0 => {
                    // The error may be that of an earlier datagram. With the queue drained, this one may
                    // pass.
                    errors::drain(socket, &mut self.counters, &mut self.path_errors);
                    tries = 1;
                    continue;
                }
                failure => {
                    errors::drain(socket, &mut self.counters, &mut self.path_errors);
                    failure.count(run[next].datagrams(), &mut self.counters);
                    let Route { socket, to, .. } = run[next].route;
                    if let Some(fault) = failure.fault(run[next].segment) {
                        self.path_errors.note(PathError { socket, to: canonical(to), fault });
                    }
                    self.slab.land(run[next].buffer);
                }
            }
            next += 1;
            tries = 0;
        }
    }

    /// The socket's send buffer is full: what is staged for it stays until epoll tells that there is room.
    fn wait_for_room(&mut self, id: SocketId) {
        self.counters.send_waited += 1;
        let Some(entry) = self.sockets.get_mut(id) else { return };
        self.counters.system_calls += 1;
        entry.waiting = self.epoll.modify(entry.fd(), READABLE | WRITABLE, id.token()).is_ok();
    }

    /// After a refused train: unless only this one was too large, the socket sends no more trains.
    fn give_up_trains(&mut self, error: &io::Error, id: SocketId) {
        let only_this = matches!(error.raw_os_error(), Some(libc::EMSGSIZE | libc::EINVAL));
        if let Some(entry) = self.sockets.get_mut(id).filter(|_| !only_this) {
            entry.segments_per_train = 1;
        }
    }

    /// Sends what the kernel does not take as one.
    fn split(&mut self, fd: RawFd, outgoing: &Outgoing, per_train: usize) {
        self.counters.sent_split += 1;
        let bytes = self.slab.in_flight_bytes(outgoing.buffer, outgoing.len);
        let told = (&mut self.counters, &mut self.path_errors);
        send::send_pieces(fd, outgoing.route, bytes, outgoing.segment, per_train, told);
        self.slab.land(outgoing.buffer);
    }
}

impl Driver for EpollDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Epoll
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
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the epoll driver takes UDP sockets"));
        };
        let prepared = options::prepare(&socket, false)?;
        let fd = socket.as_raw_fd();
        let is_ipv4 = socket.local_addr()?.is_ipv4();
        let segments_per_train = if prepared.segmentation { self.segments_per_train } else { 1 };
        let entry = EpollSocket {
            socket,
            is_ipv4,
            segments_per_train,
            dropped: 0,
            ready: true,
            batch: 1,
            waiting: false,
        };
        let id =
            self.sockets.insert(|_| entry).ok_or_else(|| io::Error::other("the socket table is full"))?;
        if let Err(error) = self.epoll.add(fd, READABLE, id.token()) {
            self.sockets.remove(id);
            return Err(error);
        }
        self.count += 1;
        Ok(id)
    }

    fn remove_socket(&mut self, id: SocketId) {
        self.path_errors.forget(id);
        if let Some(entry) = self.sockets.remove(id) {
            let _ = self.epoll.remove(entry.fd());
            self.count -= 1;
            if self.rest.is_some_and(|rest| rest.socket == id) {
                self.rest = None;
            }
        }
    }

    fn receive(&mut self, budget: usize, mut on: impl FnMut(Received<'_>)) -> usize {
        let mut taken = 0;
        if let Some(rest) = self.rest.take() {
            taken = self.lend(rest, budget, &mut on);
        }
        if taken >= budget || self.count == 0 {
            return taken;
        }
        let slots = self.sockets.high_water();
        if self.count == 1 && self.staged.is_empty() {
            // Asking the socket costs what asking epoll would. Only what is staged waits for other news.
            for (_, entry) in self.sockets.iter_mut() {
                entry.ready = true;
            }
        } else {
            self.poll_events(Some(std::time::Duration::ZERO));
        }
        self.first = (self.first + 1) % slots;
        for offset in 0..slots {
            if taken >= budget {
                break;
            }
            taken += self.receive_from((self.first + offset) % slots, budget - taken, &mut on);
        }
        taken
    }

    fn lease(&mut self) -> Option<Lease> {
        let lease = self.slab.lease();
        self.counters.leases_exhausted += u64::from(lease.is_none());
        lease
    }

    fn is_backed_up(&mut self, socket: SocketId) -> bool {
        self.sockets.get(socket).is_some_and(|entry| entry.waiting)
            && self.staged.iter().filter(|outgoing| outgoing.route.socket == socket).count()
                > self.slab.len() / SOCKET_SHARE
    }

    fn send(&mut self, route: Route, lease: Lease, len: usize, segment: usize) {
        let sound = outgoing::is_sound(len, segment) && self.slab.owns(&lease);
        let entry = self.sockets.get(route.socket).filter(|_| sound);
        let Some(ability) = entry.map(|entry| (entry.is_ipv4, entry.segments_per_train)) else {
            self.counters.send_refused += 1;
            return;
        };
        let buffer = self.slab.fly(lease);
        let Some(outgoing) = Outgoing::new(route, buffer, (len, segment), ability) else {
            self.counters.send_refused += 1;
            return self.slab.land(buffer);
        };
        if outgoing.per_train.is_none() {
            self.slots.fill(buffer, outgoing.route, self.slab.pointer(buffer), len, segment);
        }
        self.staged.push(outgoing);
    }

    fn path_error(&mut self) -> Option<PathError> {
        errors::restore(&mut self.counters, &mut self.path_errors);
        self.path_errors.take()
    }

    fn submit(&mut self) -> io::Result<()> {
        if let Some(errno) = self.broken {
            return Err(io::Error::from_raw_os_error(errno));
        }
        if self.staged.is_empty() {
            return Ok(());
        }
        std::mem::swap(&mut self.staged, &mut self.spare);
        let staged = std::mem::take(&mut self.spare);
        for run in staged.chunk_by(|a, b| a.route.socket == b.route.socket && a.per_train == b.per_train) {
            self.send_run(run);
        }
        self.spare = staged;
        self.spare.clear();
        Ok(())
    }

    fn prepare_sleep(&mut self, until: Option<Instant>) -> Sleep {
        // The next turn's `submit` reports a broken driver.
        if self.submit().is_err() || self.rest.is_some() || !self.alarm.fall_asleep() {
            return Sleep::Ready;
        }
        self.unasked = true;
        Sleep::Until(until)
    }

    fn sleep(&mut self, until: Option<Instant>) {
        let timeout = until.map(|until| until.saturating_since(clock::now()));
        if timeout != Some(std::time::Duration::ZERO) {
            self.counters.parks += 1;
            self.poll_events(timeout);
        }
        self.unasked = false;
    }

    fn end_sleep(&mut self) {
        if std::mem::take(&mut self.unasked) {
            // The host has seen that there is an event, but not which: a rung alarm would stay readable, and
            // a socket with room again would not be noticed.
            self.poll_events(Some(std::time::Duration::ZERO));
        }
        self.counters.wakes += u64::from(self.alarm.wake_up());
    }

    fn readiness(&mut self) -> io::Result<BorrowedFd<'_>> {
        Ok(self.epoll.as_fd())
    }

    fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.alarm))
    }

    fn counters(&self) -> DriverCounters {
        self.counters
    }
}

impl Drop for EpollDriver {
    fn drop(&mut self) {
        // What is staged never reached the kernel, and what did is over.
        for outgoing in self.staged.drain(..) {
            self.slab.land(outgoing.buffer);
        }
    }
}
