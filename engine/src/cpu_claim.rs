//! Which CPUs shards are pinned to, in all processes of this machine.
//!
//! A claim is a socket that is bound to a name of the abstract namespace: the kernel lets one hold it, shows
//! it to every process of the network namespace, and frees it when its holder ends, however that ends.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::Path,
};

use super::{
    affinity::{Cpus, UNPINNED_CPUS},
    topology::Topology,
};

/// A CPU that no other shard of this machine is pinned to. Free again when dropped.
#[derive(Debug)]
pub(crate) struct CpuClaim {
    pub(crate) cpu: usize,
    /// Bound to the CPU's name.
    _held: UnixDatagram,
}

impl CpuClaim {
    /// Claims `cpu`; `None` when it is claimed, or the system gives no socket.
    pub(crate) fn take(cpu: usize) -> Option<Self> {
        let held = UnixDatagram::bind_addr(&name_of(cpu).ok()?).ok()?;
        Some(Self { cpu, _held: held })
    }
}

fn name_of(cpu: usize) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("corewire-cpu-{cpu}"))
}

/// Whether a shard of any process is pinned to `cpu`.
fn is_claimed(cpu: usize) -> bool {
    let asked = UnixDatagram::unbound().and_then(|socket| socket.connect_addr(&name_of(cpu)?));
    // A name that is free has no socket to connect to.
    asked.is_ok()
}

/// CPUs for `shards`, fewer when other shards of this machine have claimed the rest. [`UNPINNED_CPUS`] are
/// left to threads that are not pinned. Which ones come first says [`Topology::best`].
pub(crate) fn claim_cpus(cpus: &Cpus, shards: usize) -> Vec<CpuClaim> {
    let topology = Topology::read(Path::new("/sys/devices/system"), &cpus.allowed);
    claim_by(&topology, cpus, shards)
}

fn claim_by(topology: &Topology, cpus: &Cpus, shards: usize) -> Vec<CpuClaim> {
    let mut free: Vec<_> = cpus.allowed.iter().copied().filter(|cpu| !is_claimed(*cpu)).collect();
    let mut claims: Vec<CpuClaim> = Vec::new();
    while claims.len() < shards && free.len() > UNPINNED_CPUS {
        let own: Vec<usize> = claims.iter().map(|claim| claim.cpu).collect();
        let Some(best) = topology.best(&free, &own, is_claimed) else { break };
        free.retain(|cpu| *cpu != best);
        claims.extend(CpuClaim::take(best));
    }
    claims
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CPUs that no machine has, so that engines of other tests do not claim them. Each test has its own.
    fn cpus(first: usize, count: usize) -> Cpus {
        Cpus { allowed: (first..first + count).collect(), quota: None }
    }

    #[test]
    fn a_claimed_cpu_is_not_given_twice_nor_freed_by_asking() {
        let first = CpuClaim::take(1_000_000);
        assert!(first.is_some() && is_claimed(1_000_000));
        assert!(CpuClaim::take(1_000_000).is_none());
        assert!(is_claimed(1_000_000), "it was not freed by asking");
        drop(first);
        assert!(!is_claimed(1_000_000) && CpuClaim::take(1_000_000).is_some());
    }

    #[test]
    fn claims_leave_two_cpus_to_threads_that_are_not_pinned() {
        let cpus = cpus(1_000_100, 4);
        let taken = |claims: &[CpuClaim]| claims.iter().map(|claim| claim.cpu).collect::<Vec<_>>();
        let first = claim_cpus(&cpus, 1);
        assert_eq!(taken(&first), [1_000_103]);
        let second = claim_cpus(&cpus, 5);
        assert_eq!(taken(&second), [1_000_102], "the last free ones stay free");
        assert!(claim_cpus(&cpus, 1).is_empty());
        drop(first);
        assert_eq!(taken(&claim_cpus(&cpus, 1)), [1_000_103]);
    }

    #[test]
    fn a_cpu_whose_sibling_is_claimed_by_another_process_comes_last() {
        let root = std::env::temp_dir().join(format!("corewire-siblings-{}", std::process::id()));
        // The last two share a core.
        for cpu in [1_000_201, 1_000_202] {
            let folder = root.join(format!("cpu/cpu{cpu}/topology"));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("thread_siblings_list"), "1000201-1000202").unwrap();
        }
        let cpus = cpus(1_000_199, 4);
        let topology = Topology::read(&root, &cpus.allowed);
        std::fs::remove_dir_all(&root).unwrap();
        let other = CpuClaim::take(1_000_202);
        assert!(other.is_some());
        let claims = claim_by(&topology, &cpus, 1);
        assert_eq!(claims[0].cpu, 1_000_200);
    }
}
