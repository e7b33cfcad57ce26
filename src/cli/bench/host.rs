//! The machine that was measured on, and what spoils figures there.

use std::fmt;
use std::fs;
use std::thread;

use rustix::thread::{CpuSet, sched_setaffinity};
use serde::{Deserialize, Serialize};

use crate::cli::exit::{Exit, Failure};
use crate::cli::pace;

/// The share of the CPUs that may be busy before the run.
const QUIET_LOAD: f64 = 0.3;

/// Facts that a figure depends on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct HostFacts {
    pub(crate) processor: String,
    /// CPUs of the machine, and those that this process may use.
    pub(crate) cpus: usize,
    pub(crate) usable_cpus: usize,
    pub(crate) kernel: String,
    /// The governor of CPU 0's frequency; `None` where the kernel does not manage it.
    pub(crate) governor: Option<String>,
    pub(crate) virtual_machine: bool,
    /// Threads that ran or waited for a CPU in the last minute, on average.
    pub(crate) load: f64,
}

fn text_of(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// The value of the first line `name : value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

impl HostFacts {
    /// Asks the system. Where it gives no answer, the fact is unknown.
    pub(crate) fn detect() -> HostFacts {
        let info = text_of("/proc/cpuinfo").unwrap_or_default();
        let usable_cpus = thread::available_parallelism().map_or(1, usize::from);
        let cpus = info.lines().filter(|line| line.starts_with("processor")).count();
        HostFacts {
            processor: field(&info, "model name").unwrap_or("unknown processor").to_owned(),
            cpus: cpus.max(usable_cpus),
            usable_cpus,
            kernel: text_of("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".to_owned()),
            governor: text_of("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            virtual_machine: field(&info, "flags")
                .is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"))
                || text_of("/sys/hypervisor/type").is_some_and(|kind| !kind.is_empty()),
            load: text_of("/proc/loadavg")
                .and_then(|text| text.split_whitespace().next()?.parse().ok())
                .unwrap_or(0.0),
        }
    }

    /// The warning that there is one CPU: by a mask, by a control group's quota, or in the machine.
    pub(crate) fn one_cpu(&self) -> Option<String> {
        (self.usable_cpus == 1).then(|| {
            "this process may use one CPU only: both ends and all threads share it, and every datum waits for a switch \
             between them"
                .to_owned()
        })
    }

    /// What makes figures of this machine worse or less steady than they could be, one line each.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if cfg!(debug_assertions) {
            warnings.push("this is a debug build: its figures mean nothing; use --release".to_owned());
        }
        if let Some(governor) = self.governor.as_ref().filter(|governor| *governor != "performance") {
            warnings.push(format!(
                "the CPUs' governor is `{governor}`, which slows them down between datums; for steady figures: \
                 cpupower frequency-set -g performance"
            ));
        }
        warnings.extend(self.one_cpu());
        if self.virtual_machine {
            warnings.push(
                "this is a virtual machine: its host may stop a CPU at any time, which shows in the high percentiles"
                    .to_owned(),
            );
        }
        if self.load > QUIET_LOAD * self.cpus as f64 {
            warnings.push(format!(
                "other programs are using this machine (load {:.1} on {} CPUs): figures will be worse and vary",
                self.load, self.cpus
            ));
        }
        warnings
    }
}

impl fmt::Display for HostFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} of {} CPUs, Linux {}, governor {}, {}load {:.1}",
            self.processor,
            self.usable_cpus,
            self.cpus,
            self.kernel,
            self.governor.as_deref().unwrap_or("unknown"),
            if self.virtual_machine { "virtual machine, " } else { "" },
            self.load
        )
    }
}

/// Lets the calling thread run on `cpu` only.
pub(crate) fn pin_thread(cpu: usize) -> Result<(), Failure> {
    let refused = |why: String| {
        Failure::new(Exit::CannotStart, format!("cannot pin a thread to CPU {cpu}: {why}"))
            .cure("CPUs that `taskset -p $$` allows, or no --cpus")
    };
    if cpu >= CpuSet::MAX_CPU {
        return Err(refused(format!("CPUs are numbered 0 to {}", CpuSet::MAX_CPU - 1)));
    }
    // Asked before the thread has only one.
    pace::has_one_cpu();
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).map_err(|error| refused(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_of_this_machine_are_found() {
        let facts = HostFacts::detect();
        assert!(facts.usable_cpus >= 1 && facts.cpus >= facts.usable_cpus, "{facts:?}");
        assert_ne!(facts.kernel, "unknown");
        assert!(facts.to_string().contains(&facts.kernel));
    }

    #[test]
    fn each_spoiler_has_its_warning() {
        let quiet = HostFacts {
            cpus: 4,
            usable_cpus: 4,
            governor: Some("performance".to_owned()),
            ..HostFacts::default()
        };
        let expected = quiet.warnings().len();
        for (facts, word) in [
            (HostFacts { governor: Some("powersave".to_owned()), ..quiet.clone() }, "powersave"),
            (HostFacts { usable_cpus: 1, ..quiet.clone() }, "one CPU"),
            (HostFacts { virtual_machine: true, ..quiet.clone() }, "virtual machine"),
            (HostFacts { load: 2.0, ..quiet.clone() }, "load 2.0"),
        ] {
            let warnings = facts.warnings();
            assert_eq!(warnings.len(), expected + 1, "{warnings:?}");
            assert!(warnings.iter().any(|warning| warning.contains(word)), "{warnings:?}");
        }
    }

    #[test]
    fn thread_is_pinned_to_a_cpu_that_exists() {
        assert_eq!(pin_thread(1_000_000).unwrap_err().exit, Exit::CannotStart);
        // On a thread of its own: the test's may run other tests.
        let pinned = thread::spawn(|| {
            let allowed = (0..CpuSet::MAX_CPU).find(|cpu| pin_thread(*cpu).is_ok());
            (allowed.is_some(), thread::available_parallelism().unwrap().get())
        });
        assert_eq!(pinned.join().unwrap(), (true, 1));
    }
}
