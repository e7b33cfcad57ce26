//! The end of a socket and the end of the driver.
//!
//! Invariant: memory is freed only after cancel, drain and close, in this order. An operation is over when
//! its own completion was reaped, whatever the result of its cancellation. Closing a ring ends its operations
//! some time later, in another thread of the kernel, so it is no reason to free. What has not come back after
//! [`DRAIN_POLLS_MAX`] polls is leaked, and counted by [`leaked_bytes`](crate::buffer::leaked_bytes).

use std::{os::fd::AsRawFd, time::Duration};

use io_uring::{opcode, types};

use super::{Operation, SocketId, UringDriver};

/// Polls for completions before memory is given up, each of up to [`DRAIN_POLL_TIME`]: one second. The first
/// one usually finds every operation cancelled.
const DRAIN_POLLS_MAX: usize = 100;

/// How long one poll may wait.
const DRAIN_POLL_TIME: Duration = Duration::from_millis(10);

impl UringDriver {
    /// Ends every operation on a socket and gives it up. When this returns the port is free, unless the
    /// socket is held elsewhere or the kernel was slower than [`DRAIN_POLLS_MAX`].
    pub(super) fn close_socket(&mut self, id: SocketId) {
        let Some(entry) = self.sockets.get(id) else { return };
        let fd = types::Fd(entry.socket.as_raw_fd());
        self.to_arm.retain(|&other| other != id);
        self.cancel(types::CancelBuilder::fd(fd).all());
        for _ in 0..DRAIN_POLLS_MAX {
            let _ = self.ring.submit(&mut self.counters);
            self.reap();
            if !self.is_busy(id) {
                break;
            }
            let _ = self.ring.wait(Some(DRAIN_POLL_TIME), &mut self.counters);
            self.reap();
        }
        self.to_arm.retain(|&other| other != id);
        // What was reaped above may have put it to rest.
        self.path_errors.forget(id);
        self.sockets.remove(id);
    }

    /// Whether the kernel has an operation on this socket.
    fn is_busy(&self, id: SocketId) -> bool {
        let sends = self.in_flight.iter().flatten().any(|send| send.outgoing.route.socket == id);
        sends || self.sockets.get(id).is_some_and(|entry| entry.armed)
    }

    pub(super) fn cancel(&mut self, which: types::CancelBuilder) {
        let cancel = opcode::AsyncCancel2::new(which).build().user_data(Operation::Cancel.word());
        // SAFETY: a cancellation points to nothing.
        if !unsafe { self.ring.push(&cancel) } {
            // The queue is full of staged sends: they go first.
            let _ = self.ring.submit(&mut self.counters);
            // SAFETY: as above. If there is still no room, the kernel consumes nothing, and the drain that
            // follows times out, which is handled.
            let _ = unsafe { self.ring.push(&cancel) };
        }
    }

    fn is_drained(&self) -> bool {
        self.slab.in_flight() == 0 && self.receives_in_flight == 0 && !self.alarm_armed
    }
}

impl Drop for UringDriver {
    fn drop(&mut self) {
        for outgoing in std::mem::take(&mut self.pieces) {
            self.slab.land(outgoing.buffer);
        }
        // Staged sends go first: they may be the close of sessions, and the kernel can't cancel what it has
        // not seen.
        let _ = self.ring.submit(&mut self.counters);
        self.cancel(types::CancelBuilder::any());
        for _ in 0..DRAIN_POLLS_MAX {
            let _ = self.ring.submit(&mut self.counters);
            self.reap();
            self.to_arm.clear();
            if self.is_drained() {
                break;
            }
            let _ = self.ring.wait(Some(DRAIN_POLL_TIME), &mut self.counters);
        }
        // The slab leaks its own memory. The kernel may use these two while anything is in flight.
        if self.receives_in_flight > 0 {
            if let Some(buffers) = self.buffers.take() {
                buffers.leak();
            }
            let template = std::mem::replace(&mut self.template, Box::new(super::BufferRing::template()));
            Box::leak(template);
        }
        if self.slab.in_flight() > 0
            && let Some(slots) = self.slots.take()
        {
            std::mem::forget(slots);
        }
        // The fields follow in their order: the ring closes first.
    }
}
