//! What the end of the process does to engines: they drain first.
//!
//! An engine whose last handle is gone drains on its own threads, and nothing waits for it. If the process
//! ended meanwhile, what was accepted would be lost with the threads. So the exit of the process stops every
//! engine that still runs and waits until all have stopped, for their drain time at most. A process that dies
//! of a signal or of `abort` waits for nothing.

use std::{
    sync::{Arc, Once},
    time::{Duration, Instant},
};

use corewire_rings::sync::Lock;

use crate::{
    driver::at_exit,
    shared::port::{ClerkRequest, RequestPort},
    threads::Threads,
};

/// An engine that has not stopped.
struct RunningEngine {
    port: Arc<RequestPort>,
    threads: Arc<Threads>,
    drain: Duration,
    /// A child of `fork` has the memory of the engine and none of its threads.
    process: u32,
}

/// Those that have not stopped, and some that have since the last one was added.
static RUNNING: Lock<Vec<RunningEngine>> = Lock::new(Vec::new());

static HOOK: Once = Once::new();

/// Makes the exit of the process wait for this engine.
pub(crate) fn watch(port: &Arc<RequestPort>, threads: &Arc<Threads>, drain: Duration) {
    let (port, threads, process) = (port.clone(), threads.clone(), std::process::id());
    {
        let mut running = RUNNING.lock();
        running.retain(|engine| !engine.threads.have_ended());
        running.push(RunningEngine { port, threads, drain, process });
    }
    // Where the C library takes no hook, an exit is as abrupt as a signal.
    HOOK.call_once(|| drop(at_exit(wait_for_all)));
}

fn wait_for_all() {
    let mut running = std::mem::take(&mut *RUNNING.lock());
    running.retain(|engine| engine.process == std::process::id() && !engine.threads.have_ended());
    for engine in &running {
        engine.port.send(ClerkRequest::Shutdown { drain: engine.drain });
    }
    let begun = Instant::now();
    for engine in &running {
        engine.threads.wait(engine.drain.saturating_sub(begun.elapsed()));
    }
}
