//! The monotonic clock. Not inside: calendar time.

use corewire_proto::time::Instant;

/// Nanoseconds of `CLOCK_MONOTONIC`: the same for every thread and process of the machine. Answered by the
/// vDSO, without a system call.
pub fn now() -> Instant {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer; this clock exists on every Linux, so the call can't
    // fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    Instant::from_nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_moves_forward() {
        let first = now();
        assert!(first > Instant::ZERO);
        assert!(now() >= first);
    }
}
