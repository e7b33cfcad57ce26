//! The CPUs that a thread may run on.

use std::{io, mem};

use super::check;

/// CPUs that one mask can hold.
const CPUS: usize = 8 * size_of::<libc::cpu_set_t>();

/// The CPUs that a thread of this process may use, in order; `None`: the calling one.
pub(crate) fn mask_of(thread: Option<i32>) -> io::Result<Vec<usize>> {
    // SAFETY: a set of no CPUs is all zeros.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    let thread = thread.unwrap_or(0);
    // SAFETY: `set` is writable for its size.
    check(unsafe { libc::sched_getaffinity(thread, size_of_val(&set), &raw mut set) })?;
    // SAFETY: the numbers are below the size of the set.
    Ok((0..CPUS).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect())
}

/// Lets the calling thread run on `cpus` only.
pub(crate) fn set_mask(cpus: &[usize]) -> io::Result<()> {
    // SAFETY: a set of no CPUs is all zeros.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    for &cpu in cpus.iter().filter(|cpu| **cpu < CPUS) {
        // SAFETY: the number is below the size of the set.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    // SAFETY: `set` is readable for its size; 0 is the calling thread.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) }).map(drop)
}
