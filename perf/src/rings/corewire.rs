//! corewire's fanout ring as the comparison uses it.

use corewire_rings::{Reader, Ring, RingConfig, Writer};

use zerocopy::{FromBytes as _, IntoBytes as _};

use super::peers::Broadcast;
use super::{Message, Rx, Tx};

/// The fanout ring; `SCATTER`: small records scattered over memory, or all packed one behind the other.
pub struct FanoutRing<const SCATTER: bool>;
/// The ring with scattered small records.
pub type Corewire = FanoutRing<true>;
/// The ring with packed records.
pub type CorewirePacked = FanoutRing<false>;
/// A writer of [`Corewire`].
#[derive(Clone)]
pub struct CorewireTx(Writer);
/// A reader of [`Corewire`].
pub struct CorewireRx(Reader);

impl<const W: usize, const SCATTER: bool> Broadcast<W> for FanoutRing<SCATTER> {
    type Tx = CorewireTx;
    type Rx = CorewireRx;
    fn make(capacity: usize, readers: usize) -> (Self::Tx, Vec<Self::Rx>) {
        let record = W * 8;
        let bytes = capacity * record;
        let config =
            RingConfig { datums: capacity, bytes, max_record: record, readers, scatter_small: SCATTER };
        let ring = Ring::new(config).expect("a ring of this size");
        let rxs = (0..readers).map(|_| CorewireRx(ring.subscribe().expect("a reader's place"))).collect();
        (CorewireTx(ring.writer()), rxs)
    }
}

impl<const W: usize> Tx<W> for CorewireTx {
    #[inline(always)]
    fn try_send(&mut self, message: &Message<W>) -> bool {
        let Ok(mut claim) = self.0.try_claim(W * 8) else { return false };
        claim.copy_from_slice(message.as_bytes());
        claim.commit();
        true
    }

    #[inline(always)]
    fn try_send_batch(&mut self, sender: u64, first: u64, n: usize) -> usize {
        let Ok(mut claim) = self.0.try_claim_many(W * 8, n) else { return 0 };
        let n = claim.len();
        for i in 0..n {
            claim.record(i).copy_from_slice(Message::<W>::new(sender, first + i as u64).as_bytes());
        }
        claim.commit();
        n
    }
}

#[inline(always)]
fn message<const W: usize>(record: &[u8]) -> &Message<W> {
    Message::ref_from_bytes(record).expect("a record of this length, aligned to 16 bytes")
}

impl CorewireRx {
    #[inline(always)]
    fn take_one<const W: usize>(&mut self, mut see: impl FnMut(&Message<W>)) -> usize {
        let took = self.0.try_take(|_, _, record| see(message(record)));
        usize::from(matches!(took, Ok(Some(()))))
    }
}

impl<const W: usize> Rx<W> for CorewireRx {
    #[inline(always)]
    fn drain(&mut self, max: usize, mut see: impl FnMut(&Message<W>)) -> usize {
        if max == 1 {
            return self.take_one(see);
        }
        if !self.0.is_ready() {
            return 0;
        }
        let Ok(mut guard) = self.0.pin_guard() else { return 0 };
        guard.for_each(max, |_, record| see(message(record)))
    }

    fn lost(&self) -> u64 {
        self.0.lost()
    }
}
