//! The two fences of a Dekker pair: "store mine, fence, load yours" on both sides; at least one side sees the
//! other's store.
//!
//! Sleeping and revoking are rare, publishing and reading are not. So the hot side has a *light* fence, an
//! order to the compiler only, and the cold side a *heavy* one: `membarrier(PRIVATE_EXPEDITED)` runs a full
//! barrier on every processor that runs a thread of this process. Wherever that barrier interrupts the hot
//! side, either its store is before it, and the cold side's load sees the store, or its load is after it, and
//! sees the cold side's store.
//!
//! Where the kernel has no `membarrier` (or a seccomp filter refuses it), and under Miri, loom and shuttle,
//! both fences are `fence(SeqCst)`, which gives the same guarantee at the cost of a full fence on the hot
//! side.

use crate::sync::{Ordering, fence};

/// How the two fences are made. Detected once per process, copied into each ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fences {
    asymmetric: bool,
}

impl Fences {
    /// `membarrier` where the kernel offers it, full fences otherwise.
    pub(crate) fn detect() -> Self {
        Self { asymmetric: membarrier::available() }
    }

    /// Full fences on both sides, whatever the kernel offers.
    pub(crate) const fn symmetric() -> Self {
        Self { asymmetric: false }
    }

    /// Whether the light fence is no instruction.
    pub(crate) const fn light_is_free(self) -> bool {
        self.asymmetric
    }

    /// The hot side: orders the caller's earlier store before its next load, against a thread that uses
    /// `heavy`.
    #[inline(always)]
    pub(crate) fn light(self) {
        if self.asymmetric {
            std::sync::atomic::compiler_fence(Ordering::SeqCst);
        } else {
            fence(Ordering::SeqCst);
        }
    }

    /// The cold side: orders the caller's earlier store before its next load, against `light` and `heavy`.
    /// `false`: the kernel refused a barrier although it had offered them; the caller must not sleep.
    #[must_use]
    pub(crate) fn heavy(self) -> bool {
        fence(Ordering::SeqCst);
        !self.asymmetric || membarrier::expedited()
    }
}

#[cfg(all(target_os = "linux", not(miri), not(loom), not(shuttle)))]
mod membarrier {
    use std::sync::OnceLock;

    /// Values of `linux/membarrier.h`.
    const REGISTER_PRIVATE_EXPEDITED: libc::c_int = 1 << 4;
    const PRIVATE_EXPEDITED: libc::c_int = 1 << 3;

    fn call(command: libc::c_int) -> bool {
        // SAFETY: membarrier takes three integers and touches no memory of ours; the kernel checks the
        // command.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
    }

    pub(super) fn available() -> bool {
        static AVAILABLE: OnceLock<bool> = OnceLock::new();
        *AVAILABLE.get_or_init(|| call(REGISTER_PRIVATE_EXPEDITED) && call(PRIVATE_EXPEDITED))
    }

    pub(super) fn expedited() -> bool {
        call(PRIVATE_EXPEDITED)
    }
}

#[cfg(not(all(target_os = "linux", not(miri), not(loom), not(shuttle))))]
mod membarrier {
    pub(super) fn available() -> bool {
        false
    }

    pub(super) fn expedited() -> bool {
        false
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::config::RingConfig;
    use crate::park;
    use crate::ring::Ring;
    use crate::shared::RingShared;
    use std::sync::Arc;

    /// Without `membarrier` everything rests on full fences. No other test runs that way on a machine that
    /// has it.
    #[test]
    fn no_wakeup_is_lost_under_full_fences() {
        let rounds = if cfg!(miri) { 20 } else { 20_000 };
        let config = RingConfig { datums: 2, bytes: 64, max_record: 8, readers: 1, scatter_small: false };
        let ring = Ring::of(Arc::new(RingShared::new(config, Fences::symmetric()).unwrap()));
        let mut reader = ring.subscribe().unwrap();
        let writer = ring.writer();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..rounds {
                    let mut claim = park::block_on(writer.claim(8)).unwrap();
                    claim.copy_from_slice(&u64::to_le_bytes(round));
                    claim.commit();
                }
            });
            for round in 0..rounds {
                assert_eq!(park::block_on(reader.recv()).unwrap()[..], round.to_le_bytes());
            }
        });
    }

    #[test]
    fn the_kernel_grants_the_barriers_it_offers() {
        let fences = Fences::detect();
        fences.light();
        assert!(fences.heavy());
        assert!(Fences::symmetric().heavy());
    }
}
