//! The two sides of a "store mine, then load yours" handshake (Dekker). No waking here, only order.
//!
//! Going to sleep is rare, publishing is not. So the publisher's side is a *light* fence (nothing but an order to the
//! compiler) and the sleeper's side is a *heavy* one: `membarrier(PRIVATE_EXPEDITED)` runs a full barrier on every
//! CPU that runs a thread of this process. At whatever instruction that barrier strikes a publisher, either its store
//! is before it, and the sleeper sees it in its second look, or its load is after it, and sees the sleeper.
//! Where the kernel has no `membarrier` (or a seccomp profile refuses it), under Miri, loom and shuttle, both sides are
//! `fence(SeqCst)`, which gives the same promise for about 20 cycles per publish.

use crate::sync::{Ordering, fence};

/// How the two fences are made. Decided once per process, copied into each ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fences {
    asymmetric: bool,
}

impl Fences {
    /// The cheapest way that this machine allows.
    pub(crate) fn detect() -> Self {
        Self { asymmetric: membarrier::available() }
    }

    /// Full fences on both sides, whatever the kernel offers.
    #[cfg(test)]
    pub(crate) const fn symmetric() -> Self {
        Self { asymmetric: false }
    }

    /// Whether the light fence is as good as free.
    pub(crate) const fn light_is_free(self) -> bool {
        self.asymmetric
    }

    /// Orders my store before my next load, if the other side uses `heavy`.
    #[inline(always)]
    pub(crate) fn light(self) {
        if self.asymmetric {
            std::sync::atomic::compiler_fence(Ordering::SeqCst);
        } else {
            fence(Ordering::SeqCst);
        }
    }

    /// Orders my store before my next load, against `light` and `heavy`. `false`: the kernel, which had promised
    /// barriers, refused one; then nobody may sleep on it.
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
        // SAFETY: membarrier takes three integers and touches no memory of ours; the kernel checks the command.
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
    use crate::ring::{Ring, Shared};
    use std::sync::Arc;

    /// Without `membarrier` everything rests on full fences; nobody else runs that way on a machine that has it.
    #[test]
    fn nobody_sleeps_for_ever_under_full_fences() {
        let rounds = if cfg!(miri) { 20 } else { 20_000 };
        let config = RingConfig { datums: 2, bytes: 64, max_record: 8, readers: 1, scatter_small: false };
        let ring = Ring::of(Arc::new(Shared::new(config, Fences::symmetric()).unwrap()));
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
    fn both_fences_hold_what_they_promise_here() {
        let fences = Fences::detect();
        fences.light();
        assert!(fences.heavy());
        assert!(Fences::symmetric().heavy());
    }
}
