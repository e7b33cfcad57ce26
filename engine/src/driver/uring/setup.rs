//! How a ring comes up: which flags the kernel takes, whether it does what they promise, and what to tell the
//! user when there is none. Not inside: the running driver.

use std::{
    fs, io,
    os::{fd::AsRawFd, unix::net::UnixDatagram},
    thread,
    time::Duration,
};

use io_uring::{Builder, cqueue, opcode, types};

use super::{
    buffers::{self, BufferRing},
    ring::{IoUring, Operation},
};
use crate::driver::{DriverConfig, DriverCounters, Features, Found, Unavailable};

/// One set of flags, best first.
struct Tier {
    name: &'static str,
    since: &'static str,
    deferred: bool,
    flagged: bool,
    apply: fn(&mut Builder),
}

/// What is tried, in this order.
const TIERS: [Tier; 3] = [
    Tier {
        name: "SINGLE_ISSUER|DEFER_TASKRUN",
        since: "6.1",
        deferred: true,
        flagged: true,
        apply: |builder| {
            builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().setup_submit_all();
        },
    },
    Tier {
        name: "COOP_TASKRUN|TASKRUN_FLAG",
        since: "5.19",
        deferred: false,
        flagged: true,
        apply: |builder| {
            builder.setup_coop_taskrun().setup_taskrun_flag().setup_submit_all();
        },
    },
    Tier { name: "plain ring", since: "5.1", deferred: false, flagged: false, apply: |_| {} },
];

/// How the tests narrow what is tried.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct UringLimits {
    /// Skip this many of the best sets of flags.
    pub(super) skip_tiers: usize,
    /// Make the completion queue no larger than this.
    pub(super) completions: Option<u32>,
}

/// Sets up a ring with the best flags that the kernel takes.
pub(super) fn ring(
    config: &DriverConfig,
    limits: UringLimits,
    features: &mut Features,
) -> Result<IoUring, Unavailable> {
    // All sends of a turn fit, with room for what keeps the receives going.
    let submissions = (u32::from(config.leases) + 64).next_power_of_two();
    // Twice what can complete between two looks, so that an overflow is an exception.
    let most = u32::from(config.receive_buffers) + u32::from(config.leases) + u32::from(config.sockets) + 64;
    let completions = limits.completions.unwrap_or((most * 2).next_power_of_two()).max(submissions);
    for tier in &TIERS[limits.skip_tiers..] {
        let mut builder = io_uring::IoUring::builder();
        builder.dontfork().setup_cqsize(completions).setup_clamp();
        (tier.apply)(&mut builder);
        match patiently(|| builder.build(submissions)) {
            Ok(io) => {
                features.note(tier.name, tier.since, Found::Yes);
                if !io.params().is_feature_ext_arg() || !io.params().is_feature_nodrop() {
                    return Err(too_old("waits with a timeout (EXT_ARG)", "5.11"));
                }
                return Ok(IoUring::new(io, tier.deferred, tier.flagged));
            }
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                features.note(tier.name, tier.since, Found::No(error.to_string()));
            }
            Err(error) => return Err(why_not(error)),
        }
    }
    Err(too_old("a ring with any of the known flags", "5.1"))
}

/// Tries again, twice: the memory of rings that were just closed comes back a little later, and a loaded host
/// may have none for a moment.
fn patiently<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for pause in [Duration::from_millis(2), Duration::from_millis(20)] {
        match attempt() {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::EAGAIN)) => {
                thread::sleep(pause)
            }
            settled => return settled,
        }
    }
    attempt()
}

/// Makes the buffer ring known and tries it: two datagrams through one armed receive, on a pair of local
/// sockets so that no network is needed.
pub(super) fn receives(
    ring: &mut IoUring,
    buffers: &mut BufferRing,
    features: &mut Features,
) -> Result<(), Unavailable> {
    match buffers.register(ring.io()) {
        Ok(()) => features.note("provided buffer ring", "5.19", Found::Yes),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            return Err(too_old("provided buffer rings", "5.19"));
        }
        Err(error) => return Err(why_not(error)),
    }
    match try_receives(ring, buffers) {
        Ok(Found::Yes) => {
            features.note("multishot recvmsg", "6.0", Found::Yes);
            Ok(())
        }
        Ok(_) => Err(too_old("multishot recvmsg", "6.0")),
        Err(error) => Err(why_not(error)),
    }
}

fn try_receives(ring: &mut IoUring, buffers: &mut BufferRing) -> io::Result<Found> {
    let (here, there) = UnixDatagram::pair()?;
    let template = Box::new(BufferRing::template());
    let fd = types::Fd(here.as_raw_fd());
    let receive = opcode::RecvMsgMulti::new(fd, &raw const *template, buffers::GROUP).build();
    let cancel = opcode::AsyncCancel2::new(types::CancelBuilder::user_data(Operation::Probe.word())).build();
    // SAFETY: the template outlives this function's wait for the terminal completion (on an early return it
    // is leaked below); the buffers are registered and outlive the ring.
    let pushed = unsafe { ring.push(&receive.user_data(Operation::Probe.word())) };
    if !pushed {
        return Err(io::Error::other("the submission queue is too small"));
    }
    let mut counters = DriverCounters::default();
    // The first datagram is there when the receive is armed, the second comes after.
    there.send(b"1")?;
    ring.submit(&mut counters)?;
    there.send(b"22")?;
    let mut lengths = Vec::new();
    let mut is_over = false;
    let mut cancelled = false;
    // Each round takes at most 10 ms; on a working kernel there are two or three, all immediate.
    for _ in 0..100 {
        let mut completions = Vec::new();
        ring.reap(&mut completions);
        for completion in
            completions.iter().filter(|it| Operation::from_word(it.user_data()) == Operation::Probe)
        {
            is_over |= !cqueue::more(completion.flags());
            if let Some(index) = cqueue::buffer_select(completion.flags()) {
                buffers.take(index);
                let len = usize::try_from(completion.result()).unwrap_or(0);
                lengths.push(buffers.message(index, len).map(|message| message.bytes.len()));
                buffers.give(index);
            }
        }
        if is_over {
            break;
        }
        // Also with a single-buffer ring, where the receive ends between the two.
        if lengths.len() == 2 && !cancelled {
            // SAFETY: a cancellation points to nothing.
            cancelled = unsafe { ring.push(&cancel.clone().user_data(Operation::Cancel.word())) };
        }
        ring.wait(Some(Duration::from_millis(10)), &mut counters)?;
    }
    if !is_over {
        // The kernel may still read the template.
        Box::leak(template);
        return Err(io::Error::other("a cancelled receive did not end"));
    }
    // A single buffer is used up by the first.
    let worked = lengths == [Some(1), Some(2)] || (buffers.given() == 1 && lengths == [Some(1)]);
    Ok(if worked { Found::Yes } else { Found::No(format!("datagrams of 1 and 2 bytes came as {lengths:?}")) })
}

fn too_old(missing: &'static str, since: &'static str) -> Unavailable {
    let running = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Unavailable::TooOld { missing, since, running: running.trim().to_owned() }
}

/// What the user can do about a refusal of the kernel.
pub(super) fn why_not(error: io::Error) -> Unavailable {
    let sysctl = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
    // Of the thread, because filters are a thread's.
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    classify(error, sysctl.as_deref().map(str::trim), has_filter(&status), memlock_limit())
}

/// Whether a seccomp filter is installed in the process (`Seccomp: 2` in its status).
fn has_filter(status: &str) -> bool {
    status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"))
}

/// The soft limit of memory that may be locked, in bytes; `None` is no limit.
fn memlock_limit() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer.
    let answer = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) };
    (answer == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

fn classify(error: io::Error, sysctl: Option<&str>, filtered: bool, memlock: Option<u64>) -> Unavailable {
    match (error.raw_os_error(), sysctl) {
        (Some(libc::EPERM | libc::EACCES), Some(value @ ("1" | "2"))) => {
            Unavailable::Sysctl { value: value.to_owned() }
        }
        (Some(libc::EPERM | libc::EACCES), _) if filtered => Unavailable::Seccomp,
        // A kernel that has the sysctl has io_uring, so a filter reported that it is missing.
        (Some(libc::ENOSYS), Some(_)) if filtered => Unavailable::Seccomp,
        (Some(libc::ENOSYS), _) => Unavailable::NotInKernel,
        (Some(libc::ENOMEM), _) => Unavailable::Memory { limit: memlock },
        (Some(libc::EMFILE | libc::ENFILE), _) => Unavailable::Descriptors,
        (Some(libc::EPERM | libc::EACCES), _) => Unavailable::SecurityModule,
        _ => Unavailable::Other { what: "set up a ring", source: error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(errno: i32, sysctl: Option<&str>, filtered: bool) -> Unavailable {
        classify(io::Error::from_raw_os_error(errno), sysctl, filtered, Some(65_536))
    }

    #[test]
    fn every_refusal_is_told_with_what_to_change() {
        for (refusal, cure) in [
            (of(libc::EPERM, Some("2"), true), "sysctl kernel.io_uring_disabled=0"),
            (of(libc::EPERM, Some("1"), false), "kernel.io_uring_group"),
            (of(libc::EPERM, Some("0"), true), "seccomp"),
            (of(libc::EPERM, None, true), "seccomp"),
            (of(libc::ENOSYS, Some("0"), true), "seccomp"),
            (of(libc::ENOSYS, None, false), "CONFIG_IO_URING"),
            (of(libc::ENOMEM, Some("0"), false), "64 KiB"),
            (of(libc::EMFILE, Some("0"), false), "ulimit -n"),
            (of(libc::EACCES, Some("0"), false), "SELinux"),
            (too_old("multishot recvmsg", "6.0"), "6.0"),
        ] {
            let text = refusal.to_string();
            assert!(text.contains(cure), "{text:?} does not say {cure:?}");
            assert!(!text.contains('\n') && text.len() < 200, "{text:?} is not one line");
        }
    }

    #[test]
    fn a_seccomp_filter_is_read_from_the_status() {
        assert!(has_filter("Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n"));
        assert!(!has_filter("Name:\tx\nSeccomp:\t0\n"));
        assert!(!has_filter("Seccomp_filters:\t2\n"));
    }
}
