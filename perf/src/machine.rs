//! The machine's description, and pinning of threads.

use std::fs;
use std::sync::OnceLock;

/// Processor, kernel, number of processors and build, to be printed beside every figure.
pub fn facts() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split(':').nth(1)?.trim().to_owned())
        })
        .unwrap_or_else(|| "unknown processor".to_owned());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let count = allowed().len();
    let build = if cfg!(debug_assertions) { "debug build: figures mean nothing" } else { "release build" };
    format!("{cpu}; {count} processors allowed; Linux {}; {build}", kernel.trim())
}

/// The processors of the process. Read once, before threads are pinned: a pinned thread sees only its own.
fn allowed() -> &'static [core_affinity::CoreId] {
    static ALLOWED: OnceLock<Vec<core_affinity::CoreId>> = OnceLock::new();
    ALLOWED.get_or_init(|| core_affinity::get_core_ids().unwrap_or_default())
}

/// Pins the calling thread to the `index`-th processor the process may use (modulo their number).
///
/// Returns whether the kernel agreed.
pub fn pin(index: usize) -> bool {
    let ids = allowed();
    ids.get(index % ids.len().max(1)).is_some_and(|id| core_affinity::set_for_current(*id))
}

/// Voluntary context switches of the calling thread so far, by the kernel's count; 0 where it is not
/// available.
pub fn sleeps_so_far() -> u64 {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}
