//! A loop of the program's own that waits for descriptors, with a hosted engine as one of them.
//!
//! The contract of a host, step by step: take turns until none is due, arm what ends a sleep
//! (`prepare_sleep`), sleep until the descriptor is readable, and take a turn whatever ended the sleep.

use std::future::Future;
use std::io::{self, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use corewire::HostedEngine;
use corewire::engine::NextTurn;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Makes a pipe readable, from any thread.
struct PipeWaker(PipeWriter);

impl Wake for PipeWaker {
    fn wake(self: Arc<Self>) {
        // A loop that has ended hears nothing.
        let _ = (&self.0).write(&[1]);
    }
}

/// Runs `future` and turns `hosted`, with one sleep for both: until the engine's descriptor is readable, or
/// the pipe that the future's waker writes to. A program adds its own descriptors beside these two.
pub(crate) fn run<F: Future>(hosted: &HostedEngine, future: F) -> io::Result<F::Output> {
    let (mut woken, waker) = io::pipe()?;
    let waker = Waker::from(Arc::new(PipeWaker(waker)));
    let mut future = pin!(future);
    let mut is_woken = true;
    loop {
        if is_woken && let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Ok(output);
        }
        let is_due = hosted.turn() == NextTurn::Now || hosted.prepare_sleep() == NextTurn::Now;
        // If a turn is due, other descriptors are looked at all the same. The engine's own shows when the
        // next one is.
        let is_over = hosted.is_over();
        let limit = (is_due && !is_over).then(Timespec::default);
        let mut descriptors =
            [woken.as_fd(), hosted.as_fd()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        // An engine that is over needs no turn, and its descriptor tells nothing: the future alone is waited
        // for.
        let asked = if is_over { &mut descriptors[..1] } else { &mut descriptors[..] };
        match poll(asked, limit.as_ref()) {
            // A signal was handled: an early wake-up.
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        is_woken = !descriptors[0].revents().is_empty();
        if is_woken {
            // One byte for each wake; what is left is read in the next round.
            let _ = woken.read(&mut [0; 64])?;
        }
    }
}
