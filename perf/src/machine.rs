//! What this machine is, and where threads are put.

use std::fs;

/// The facts that belong beside any figure: processor, kernel, number of processors, build.
pub fn facts() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split(':').nth(1)?.trim().to_owned())
        })
        .unwrap_or_else(|| "unknown processor".to_owned());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let count = core_affinity::get_core_ids().map_or(0, |ids| ids.len());
    let build = if cfg!(debug_assertions) { "debug build: figures mean nothing" } else { "release build" };
    format!("{cpu}; {count} processors allowed; Linux {}; {build}", kernel.trim())
}

/// Pins the calling thread to the `index`-th processor the process may use (modulo their number).
///
/// Returns whether the kernel agreed. On one processor everything shares it.
pub fn pin(index: usize) -> bool {
    let Some(ids) = core_affinity::get_core_ids() else { return false };
    match ids.get(index % ids.len().max(1)) {
        Some(id) => core_affinity::set_for_current(*id),
        None => false,
    }
}
