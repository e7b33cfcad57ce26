//! Which CPUs of a machine share a core, and which a memory node.

use std::{collections::HashMap, fs, path::Path};

use super::affinity::parse_list;

/// What is known of some CPUs. Where the system does not tell, a CPU has a core of its own and all have one
/// node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Topology {
    /// The other CPUs of the same core.
    siblings: HashMap<usize, Vec<usize>>,
    nodes: HashMap<usize, usize>,
}

impl Topology {
    /// Reads what `root`, which is `/sys/devices/system`, has on `cpus`.
    pub(crate) fn read(root: &Path, cpus: &[usize]) -> Self {
        let list = |path: String| parse_list(&fs::read_to_string(root.join(path)).unwrap_or_default());
        let mut topology = Self::default();
        for &cpu in cpus {
            let mut all = list(format!("cpu/cpu{cpu}/topology/thread_siblings_list"));
            all.retain(|other| *other != cpu);
            topology.siblings.insert(cpu, all);
        }
        for node in list("node/online".into()) {
            topology
                .nodes
                .extend(list(format!("node/node{node}/cpulist")).into_iter().map(|cpu| (cpu, node)));
        }
        topology
    }

    /// The memory node of `cpu`.
    fn node(&self, cpu: usize) -> usize {
        self.nodes.get(&cpu).copied().unwrap_or(0)
    }

    /// Whether no other CPU of the core of `cpu` is claimed.
    fn has_core_alone(&self, cpu: usize, is_claimed: impl Fn(usize) -> bool) -> bool {
        !self.siblings.get(&cpu).is_some_and(|others| others.iter().any(|other| is_claimed(*other)))
    }

    /// The best of `free` for the next shard of an engine whose other shards have `own`. In this order:
    ///
    /// 1. a core without a claimed CPU, because the threads of a core share its units;
    /// 2. the node with most of the engine's shards, because they read the same rings;
    /// 3. the node with most such cores left, so that the shards to come fit into it;
    /// 4. the last number, because interrupts prefer the first.
    pub(crate) fn best(
        &self,
        free: &[usize],
        own: &[usize],
        is_claimed: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let alone: Vec<usize> =
            free.iter().copied().filter(|cpu| self.has_core_alone(*cpu, &is_claimed)).collect();
        let in_node = |cpus: &[usize], node| cpus.iter().filter(|cpu| self.node(**cpu) == node).count();
        free.iter().copied().max_by_key(|cpu| {
            let node = self.node(*cpu);
            (alone.contains(cpu), in_node(own, node), in_node(&alone, node), *cpu)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two nodes of four cores with two CPUs each: CPU 0 and 8 share the first core, and CPUs 0 to 3 and 8 to
    /// 11 the first node.
    fn two_nodes() -> Topology {
        let cpus = 0..16usize;
        Topology {
            siblings: cpus.clone().map(|cpu| (cpu, vec![(cpu + 8) % 16])).collect(),
            nodes: cpus.map(|cpu| (cpu, usize::from(cpu % 8 >= 4))).collect(),
        }
    }

    /// The CPUs that an engine with so many shards gets, one after the other.
    fn choose(topology: &Topology, free: &[usize], others: &[usize], shards: usize) -> Vec<usize> {
        let (mut free, mut own) = (free.to_vec(), Vec::new());
        for _ in 0..shards {
            let claimed = |cpu: usize| others.contains(&cpu) || own.contains(&cpu);
            let Some(best) = topology.best(&free, &own, claimed) else { break };
            free.retain(|cpu| *cpu != best);
            own.push(best);
        }
        own
    }

    #[test]
    fn shards_of_an_engine_stay_in_one_node_and_have_cores_alone() {
        let all: Vec<usize> = (0..16).collect();
        assert_eq!(choose(&two_nodes(), &all, &[], 4), [15, 14, 13, 12]);
    }

    #[test]
    fn a_node_with_room_for_more_shards_is_preferred() {
        // Another engine has three cores of the second node.
        let free: Vec<usize> = (0..16).filter(|cpu| ![15, 14, 13].contains(cpu)).collect();
        assert_eq!(choose(&two_nodes(), &free, &[15, 14, 13], 3), [11, 10, 9]);
    }

    #[test]
    fn a_core_alone_in_the_other_node_comes_before_a_shared_core() {
        let all: Vec<usize> = (0..16).collect();
        assert_eq!(choose(&two_nodes(), &all, &[], 6)[4..], [11, 10]);
        let ten = choose(&two_nodes(), &all, &[], 10);
        // All cores are taken then: the second CPUs of them, again in one node.
        assert_eq!(ten[8..], [7, 6], "{ten:?}");
    }

    #[test]
    fn a_cpu_whose_sibling_another_engine_has_comes_last() {
        assert_eq!(choose(&two_nodes(), &[1, 7], &[15], 2), [1, 7]);
    }

    #[test]
    fn without_a_topology_the_last_cpus_come_first() {
        assert_eq!(choose(&Topology::default(), &[0, 1, 2], &[], 2), [2, 1]);
        assert_eq!(Topology::default().best(&[], &[], |_| false), None);
    }

    #[test]
    fn the_folders_of_the_kernel_are_read() {
        let root = std::env::temp_dir().join(format!("corewire-topology-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for (cpu, siblings) in [(0, "0,2\n"), (1, "1,3\n"), (2, "0,2\n"), (3, "1,3\n")] {
            write(&format!("cpu/cpu{cpu}/topology/thread_siblings_list"), siblings);
        }
        write("node/online", "0-1\n");
        write("node/node0/cpulist", "0,2\n");
        write("node/node1/cpulist", "1,3\n");
        let topology = Topology::read(&root, &[0, 1, 2, 3]);
        let nowhere = Topology::read(&root.join("nothing"), &[0, 1]);
        fs::remove_dir_all(&root).unwrap();
        assert_eq!([0, 1, 2, 3].map(|cpu| topology.node(cpu)), [0, 1, 0, 1]);
        assert!(!topology.has_core_alone(1, |cpu| cpu == 3) && topology.has_core_alone(0, |cpu| cpu == 3));
        assert_eq!(nowhere.node(1), 0);
        assert!(nowhere.has_core_alone(0, |_| true));
    }
}
