//! Which CPUs the process may use, how many shards to start on them, and pinning a thread to one.
//!
//! The CPUs of a process are those of its first thread and of the thread that asks. A thread that was pinned
//! before it starts an engine does not confine the engine's threads, unless both are. Pinning is best effort:
//! a thread that can't be pinned runs unpinned, and the reason is reported.

use std::{fs, io, path::Path, sync::OnceLock};

use thiserror::Error;

use crate::driver::{mask_of, set_mask};

/// CPUs that stay without a pinned shard, for the threads of the program and of its peers: one that is pinned
/// itself would otherwise share its CPU with a shard that can't move (`two-cpu-pin` in the notebook).
pub(crate) const UNPINNED_CPUS: usize = 2;

/// Most shards that are started by default. Beyond that a process has usually better use for its CPUs, and
/// each shard holds 8 MiB of packet memory.
const DEFAULT_SHARDS_MAX: usize = 8;

/// What the process may use.
#[derive(Clone, Debug, PartialEq)]
pub struct Cpus {
    /// The CPUs that the process may run on, in order; never empty. They are those of its first thread and of
    /// the thread that asks: a mask that both have counts as the process's.
    pub allowed: Vec<usize>,
    /// CPU time per time that its control group may use (`cpu.max` of cgroup v2), in CPUs, if that is
    /// limited.
    pub quota: Option<f64>,
}

impl Cpus {
    /// Asks the system.
    pub fn detect() -> Self {
        // The number of a process is that of its first thread.
        let first = i32::try_from(std::process::id()).ok();
        let masks = [mask_of(first), mask_of(None)];
        let mut allowed: Vec<usize> = masks.into_iter().flatten().flatten().collect();
        allowed.sort_unstable();
        allowed.dedup();
        if allowed.is_empty() {
            allowed = (0..std::thread::available_parallelism().map_or(1, usize::from)).collect();
        }
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self { allowed, quota: quota(&groups, Path::new("/sys/fs/cgroup")) }
    }

    /// How many threads can run at one time: the smaller of the two limits, at least 1.
    pub fn usable(&self) -> usize {
        let by_time = self.quota.map_or(usize::MAX, |quota| quota.floor() as usize);
        self.allowed.len().min(by_time).max(1)
    }

    /// Half of [`Cpus::usable`], so that the program's own threads have the other half; 1 to 8. On two CPUs
    /// it is 1.
    pub fn default_shards(&self) -> usize {
        (self.usable() / 2).clamp(1, DEFAULT_SHARDS_MAX)
    }

    /// Whether pinning `shards` helps. It hurts with more shards than CPUs, with two CPUs or fewer in all,
    /// and under a quota below the number of shards, since a throttled thread should be free to move.
    pub fn can_pin(&self, shards: usize) -> bool {
        self.allowed.len() > UNPINNED_CPUS && shards <= self.usable()
    }

    /// What makes every engine of the process slow: one line for each reason.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let limit = match (&self.allowed[..], self.quota) {
            ([cpu], _) => format!("may run on CPU {cpu} only, which its shards share with the program"),
            (_, Some(quota)) if self.usable() == 1 => format!(
                "may use the time of {quota} CPUs (cpu.max of its control group), which its shards share with the program"
            ),
            _ => return Vec::new(),
        };
        vec![format!(
            "this process {limit}: latency grows and nothing spins. Give it two CPUs (taskset, cpuset, cpu.max), or host \
             the engine on the program's thread (HostedEngine). A program that pins its threads starts the engine before \
             it does."
        )]
    }
}

/// How many shards an engine starts by default; see [`Cpus::default_shards`].
pub fn default_shards() -> usize {
    Cpus::detect().default_shards()
}

/// Why a thread runs unpinned.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Unpinned {
    /// The CPU does not exist, is off, or is none of the process's cpuset.
    #[error("there is no CPU {cpu} for this process (its threads have {allowed:?}); the shard runs unpinned")]
    NotAllowed {
        /// The CPU.
        cpu: usize,
        /// Those that its threads may use.
        allowed: Vec<usize>,
    },
    /// The system refused, which a container's seccomp profile can make it do.
    #[error("pinning to CPU {cpu} was refused ({source}); the shard runs unpinned")]
    Refused {
        /// The CPU.
        cpu: usize,
        /// The system's answer.
        source: io::Error,
    },
}

/// Pins the calling thread to `cpu`.
///
/// # Errors
///
/// Never fatal: the thread runs as before.
pub fn pin(cpu: usize) -> Result<(), Unpinned> {
    set_mask(&[cpu]).map_err(|source| match source.kind() {
        io::ErrorKind::InvalidInput => Unpinned::NotAllowed { cpu, allowed: Cpus::detect().allowed },
        _ => Unpinned::Refused { cpu, source },
    })
}

/// Lets the calling thread run on all of `cpus`, whatever thread has started it. Best effort: a refusal
/// leaves the thread as it is, which is slower and no less correct.
pub(crate) fn spread(cpus: &[usize]) {
    let _ = set_mask(cpus);
}

/// How many threads of this process can run at one time. Asked once.
pub(crate) fn usable() -> usize {
    static USABLE: OnceLock<usize> = OnceLock::new();
    *USABLE.get_or_init(|| Cpus::detect().usable())
}

/// A list of the kernel's: numbers and ranges, like `0-2,5`.
pub(crate) fn parse_list(text: &str) -> Vec<usize> {
    let range = |part: &str| -> Option<std::ops::RangeInclusive<usize>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    };
    text.split(',').filter_map(range).flatten().collect()
}

/// The smallest CPU limit of the process's control group and those above it. `groups` is `/proc/self/cgroup`.
fn quota(groups: &str, root: &Path) -> Option<f64> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let own = root.join(path.trim_start_matches('/'));
    own.ancestors()
        .take_while(|folder| folder.starts_with(root))
        .filter_map(|folder| limit(&fs::read_to_string(folder.join("cpu.max")).ok()?))
        .min_by(f64::total_cmp)
}

/// `cpu.max` is `<microseconds or "max"> <period>`.
fn limit(text: &str) -> Option<f64> {
    let mut words = text.split_whitespace();
    let time: f64 = words.next()?.parse().ok()?;
    let period: f64 = words.next()?.parse().ok()?;
    (period > 0.0).then_some(time / period)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn cpus(allowed: usize, quota: Option<f64>) -> Cpus {
        Cpus { allowed: (0..allowed).map(|index| index * 2).collect(), quota }
    }

    #[test]
    fn shards_are_half_of_what_can_run_and_at_least_one() {
        for (allowed, quota, shards) in [
            (1, None, 1),
            (2, None, 1),
            (3, None, 1),
            (4, None, 2),
            (64, None, 8),
            (64, Some(4.0), 2),
            (64, Some(0.5), 1),
            (2, Some(100.0), 1),
        ] {
            assert_eq!(cpus(allowed, quota).default_shards(), shards, "{allowed} CPUs, quota {quota:?}");
        }
        assert!(default_shards() >= 1);
    }

    #[test]
    fn shards_are_pinned_where_each_can_have_a_cpu() {
        assert!(cpus(4, None).can_pin(2) && !cpus(4, None).can_pin(5));
        assert!(cpus(3, None).can_pin(1) && !cpus(2, None).can_pin(1));
        assert!(!cpus(8, Some(1.5)).can_pin(2) && cpus(8, Some(2.5)).can_pin(2));
    }

    #[test]
    fn a_process_with_one_cpu_is_told_what_to_do() {
        assert!(cpus(2, None).warnings().is_empty());
        let [warning] = &cpus(1, None).warnings()[..] else { panic!("one warning") };
        assert!(warning.contains("CPU 0 only") && warning.contains("taskset"), "{warning}");
        // The time of one CPU is shared as one CPU is.
        let [warning] = &cpus(8, Some(1.5)).warnings()[..] else { panic!("one warning") };
        assert!(warning.contains("1.5 CPUs") && warning.contains("cpu.max"), "{warning}");
        assert!(cpus(8, Some(2.0)).warnings().is_empty());
    }

    #[test]
    fn lists_of_the_kernel_are_numbers_and_ranges() {
        assert_eq!(parse_list("\t0-2,5, 7-7\n"), [0, 1, 2, 5, 7]);
        assert!(parse_list("").is_empty() && parse_list("x-,-").is_empty());
    }

    #[test]
    fn the_smallest_limit_of_a_group_and_its_parents_holds() {
        let root = std::env::temp_dir().join(format!("corewire-cgroup-{}", std::process::id()));
        let own = root.join("a/b");
        fs::create_dir_all(&own).unwrap();
        fs::write(own.join("cpu.max"), "max 100000\n").unwrap();
        fs::write(root.join("a/cpu.max"), "150000 100000\n").unwrap();
        let found = quota("3:cpu:/old\n0::/a/b\n", &root);
        let elsewhere = quota("0::/nowhere\n", &root);
        let only_old = quota("3:cpu:/old\n", &root);
        fs::remove_dir_all(&root).unwrap();
        assert_eq!((found, elsewhere, only_old), (Some(1.5), None, None));
    }

    #[test]
    fn limits_that_make_no_sense_are_no_limits() {
        for text in ["max 100000", "", "100000", "x y", "100000 0"] {
            assert_eq!(limit(text), None, "{text:?}");
        }
        assert_eq!(limit("50000 100000\n"), Some(0.5));
    }

    #[test]
    fn a_thread_is_pinned_to_allowed_cpus_only() {
        // In a thread of its own, because the pin stays.
        thread::spawn(|| {
            let allowed = Cpus::detect().allowed;
            let last = *allowed.last().unwrap();
            pin(last).unwrap();
            assert_eq!(mask_of(None).unwrap(), [last]);
            assert_eq!(Cpus::detect().allowed, allowed, "the process's, not this thread's");
            spread(&allowed);
            assert_eq!(mask_of(None).unwrap(), allowed);
            // No machine has it.
            assert!(matches!(pin(1_000_000), Err(Unpinned::NotAllowed { cpu: 1_000_000, .. })));
        })
        .join()
        .unwrap();
    }
}
