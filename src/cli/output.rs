//! Standard output of `sub`: a thread of its own writes, so that a reader who rests does not keep the program
//! from seeing signals, and another one watches for a reader that has gone.
//!
//! Buffers hold whole records, and each is handed to the kernel at once.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fstat, makedev};

use super::args::Format;
use super::framing::write_record;
use super::wait::{Interrupt, POLL_INTERVAL};

/// Size at which a buffer is written. It is also written whenever no record is waiting.
const BUFFER_BYTES: usize = 256 * 1024;

/// Buffers: one is filled, one is written, one waits.
const BUFFERS: usize = 3;

/// After a signal: how long the output may stand still before the rest of it is given up.
const SIGNAL_PATIENCE: Duration = Duration::from_secs(1);

/// What the threads share.
struct OutputState {
    /// The reader of the output has gone.
    closed: AtomicBool,
    /// Why writing has failed, unless the reader has gone.
    error: Mutex<Option<io::Error>>,
    /// Bytes written.
    written: AtomicU64,
    /// Bytes handed over and not written.
    waiting: AtomicU64,
    /// The thread that fills buffers; unparked by each change.
    owner: Thread,
    /// Woken by the next change.
    waker: Mutex<Option<Waker>>,
}

impl OutputState {
    fn failed(&self, error: io::Error) {
        if error.kind() != io::ErrorKind::BrokenPipe {
            *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
        self.close();
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.changed();
    }

    fn changed(&self) {
        if let Some(waker) = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take() {
            waker.wake();
        }
        self.owner.unpark();
    }
}

/// Whether this standard stream may be closed, so that there are no records unasked.
///
/// A program that is started with a closed one finds `/dev/null` in its place, open for reading and writing:
/// the standard library puts it there, so that no other file takes the number. A program that starts this one
/// and wants no records may have opened it in the same way, so it is no error. A shell that is told to use
/// `/dev/null` opens it in one direction only.
pub(crate) fn may_be_closed(stream: impl AsFd) -> bool {
    let is_null = fstat(&stream).is_ok_and(|stat| stat.st_rdev == makedev(1, 3));
    is_null && fcntl_getfl(&stream).is_ok_and(|flags| flags & OFlags::RWMODE == OFlags::RDWR)
}

/// See the module. To be used by the thread that made it.
pub(crate) struct OutputThread {
    buffer: Vec<u8>,
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    /// Taken from `empty` ahead of its use.
    spare: Option<Vec<u8>>,
    state: Arc<OutputState>,
}

impl OutputThread {
    /// Starts the threads for standard output.
    pub(crate) fn stdout() -> io::Result<OutputThread> {
        let output = OutputThread::start(io::stdout())?;
        let state = output.state.clone();
        thread::Builder::new().name("corewire-reader".into()).spawn(move || {
            if wait_for_close(io::stdout().as_fd()).is_ok() {
                state.close();
            }
        })?;
        Ok(output)
    }

    /// Starts the thread that writes to `output`.
    pub(crate) fn start(mut output: impl Write + Send + 'static) -> io::Result<OutputThread> {
        let (full, to_write) = mpsc::sync_channel::<Vec<u8>>(BUFFERS);
        let (give_back, empty) = mpsc::sync_channel(BUFFERS);
        for _ in 1..BUFFERS {
            let _ = give_back.send(Vec::with_capacity(BUFFER_BYTES));
        }
        let state = Arc::new(OutputState {
            closed: AtomicBool::new(false),
            error: Mutex::new(None),
            written: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            owner: thread::current(),
            waker: Mutex::new(None),
        });
        let shared = state.clone();
        thread::Builder::new().name("corewire-output".into()).spawn(move || {
            for mut buffer in to_write {
                if let Err(error) = output.write_all(&buffer).and_then(|()| output.flush()) {
                    return shared.failed(error);
                }
                let bytes = buffer.len() as u64;
                buffer.clear();
                // The receiver is gone when the program ends.
                let _ = give_back.send(buffer);
                shared.written.fetch_add(bytes, Ordering::Release);
                shared.waiting.fetch_sub(bytes, Ordering::Release);
                shared.changed();
            }
        })?;
        Ok(OutputThread { buffer: Vec::with_capacity(BUFFER_BYTES), full, empty, spare: None, state })
    }

    /// Adds one record.
    pub(crate) fn push(&mut self, format: Format, record: &[u8]) -> io::Result<()> {
        write_record(&mut self.buffer, format, record)
    }

    /// Whether the buffer is to be written before the next record is added.
    pub(crate) fn is_full(&self) -> bool {
        self.buffer.len() >= BUFFER_BYTES
    }

    /// Whether something is in the buffer.
    pub(crate) fn has_some(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Whether [`hand_over`](Self::hand_over) would succeed.
    pub(crate) fn has_room(&mut self) -> bool {
        if self.spare.is_none() {
            self.spare = self.empty.try_recv().ok();
        }
        self.spare.is_some()
    }

    /// Hands the buffer to the writing thread, if that has room for it. Never waits.
    pub(crate) fn hand_over(&mut self) -> bool {
        if self.buffer.is_empty() {
            return true;
        }
        if !self.has_room() {
            return false;
        }
        let Some(spare) = self.spare.take() else { return false };
        let buffer = std::mem::replace(&mut self.buffer, spare);
        self.state.waiting.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        // There is a place for each buffer; the thread has ended only if `closed` is set.
        let _ = self.full.try_send(buffer);
        true
    }

    /// Wakes the task at the next change: a buffer was written, or the reader has gone. To be called before
    /// looking for either.
    pub(crate) fn wake_on_change(&self, waker: &Waker) {
        *self.state.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
    }

    /// Whether nothing more can be written; [`is_closed`](Self::is_closed) tells why.
    pub(crate) fn is_over(&self) -> bool {
        self.state.closed.load(Ordering::Acquire)
    }

    /// Whether the reader of the output has gone; an error if writing has failed otherwise.
    pub(crate) fn is_closed(&self) -> io::Result<bool> {
        if !self.is_over() {
            return Ok(false);
        }
        let error = self.state.error.lock().unwrap_or_else(PoisonError::into_inner).take();
        error.map_or(Ok(true), Err)
    }

    /// Writes what is left, unless the reader has gone. After a signal, only as long as the output does not
    /// stand still; `Ok(false)`: that was given up.
    pub(crate) fn finish(&mut self, interrupt: &Interrupt) -> io::Result<bool> {
        let mut last = (self.state.written.load(Ordering::Acquire), Instant::now());
        loop {
            let handed_over = self.hand_over();
            if self.is_closed()? || handed_over && self.state.waiting.load(Ordering::Acquire) == 0 {
                return Ok(true);
            }
            let written = self.state.written.load(Ordering::Acquire);
            if written != last.0 {
                last = (written, Instant::now());
            }
            if interrupt.asked().is_some() && last.1.elapsed() >= SIGNAL_PATIENCE {
                return Ok(false);
            }
            thread::park_timeout(POLL_INTERVAL);
        }
    }
}

/// Returns when the reader of `output` has gone; never for a file.
fn wait_for_close(output: BorrowedFd<'_>) -> io::Result<()> {
    loop {
        // Asks for no event, so only errors and the end of the other side come.
        match poll(&mut [PollFd::from_borrowed_fd(output, PollFlags::empty())], None) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_out_whole_and_in_order() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut output = OutputThread::start(writer).unwrap();
        let reading = thread::spawn(move || {
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
            bytes
        });
        let mut expected = Vec::new();
        for number in 0..200_000u32 {
            let record = number.to_string();
            write_record(&mut expected, Format::Lines, record.as_bytes()).unwrap();
            output.push(Format::Lines, record.as_bytes()).unwrap();
            while output.is_full() && !output.hand_over() {
                thread::park_timeout(POLL_INTERVAL);
            }
        }
        assert!(output.finish(&Interrupt::default()).unwrap());
        drop(output);
        assert!(reading.join().unwrap() == expected, "the bytes differ");
    }

    #[test]
    fn blocked_output_is_given_up_after_a_signal() {
        let (reader, writer) = io::pipe().unwrap();
        let mut output = OutputThread::start(writer).unwrap();
        // More than a pipe holds.
        output.push(Format::Lines, &vec![b'x'; 4 << 20]).unwrap();
        assert!(output.hand_over());
        assert!(!output.finish(&Interrupt::pressed(signal_hook::consts::SIGTERM)).unwrap());
        drop(reader);
    }

    #[test]
    fn gone_reader_is_seen_without_a_write() {
        let (reader, writer) = io::pipe().unwrap();
        let watching = thread::spawn(move || wait_for_close(writer.as_fd()));
        drop(reader);
        watching.join().unwrap().unwrap();
    }

    #[test]
    fn failed_write_is_an_error_and_a_closed_pipe_is_none() {
        struct FullDisk;
        impl Write for FullDisk {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut output = OutputThread::start(FullDisk).unwrap();
        output.push(Format::Lines, b"x").unwrap();
        let error = output.finish(&Interrupt::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);

        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut output = OutputThread::start(writer).unwrap();
        output.push(Format::Lines, b"x").unwrap();
        assert!(output.finish(&Interrupt::default()).unwrap());
        assert!(output.is_closed().unwrap());
    }
}
