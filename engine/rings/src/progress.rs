//! What a consumer has taken of an inbox, for the shard that returns it as credit.
//!
//! Not inside: the notification itself, which the caller sends when [`ConsumerProgress::mark`] asks for it.

use crate::bugs::{bug, mutate};
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// What the consumer of an inbox has taken. One thread writes it, the consumer's; one reads it, the shard's.
///
/// The consumer advances, then marks, then notifies if the mark was new. The shard clears the mark before it
/// reads. So what was taken before a mark is read by the shard, and at most one notification is under way.
#[derive(Debug)]
pub struct ConsumerProgress {
    /// Sequence after the last datum taken.
    seq: AtomicU64,
    /// Cost of all datums taken.
    bytes: AtomicU64,
    /// A notification is under way.
    marked: AtomicBool,
    /// The consumer has dropped the inbox.
    gone: AtomicBool,
    /// Datums missing between the last one in the inbox and the end of the stream. Written by the shard
    /// before it closes the inbox.
    missing_at_end: AtomicU64,
}

impl ConsumerProgress {
    /// Nothing taken yet of an inbox that begins at `first_seq`.
    #[must_use]
    pub fn new(first_seq: u64) -> Self {
        Self {
            seq: AtomicU64::new(first_seq),
            bytes: AtomicU64::new(0),
            marked: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            missing_at_end: AtomicU64::new(0),
        }
    }

    /// For the consumer: everything before `seq` is taken, and `bytes` is the cost of all that.
    #[inline]
    pub fn advance(&self, seq: u64, bytes: u64) {
        // In this order, so that no reader finds a sequence whose datums are not in the bytes.
        if bug("progress-sequence-first") {
            self.seq.store(seq, Ordering::Release);
        }
        self.bytes.store(bytes, Ordering::Release);
        self.seq.store(seq, Ordering::Release);
    }

    /// For the consumer: asks for the shard. `true`: notify it; else a notification is under way, and the
    /// shard reads what was taken so far when it comes.
    #[inline]
    #[must_use]
    pub fn mark(&self) -> bool {
        !self.marked.swap(true, Ordering::AcqRel)
    }

    /// For the consumer: it drops the inbox. Notify the shard after this.
    pub fn leave(&self) {
        self.gone.store(true, mutate!(Ordering::Release, "leave-unreleased" => Ordering::Relaxed));
    }

    /// For the shard, when it is notified: sequence and bytes taken. The consumer may notify again.
    #[must_use]
    pub fn read(&self) -> (u64, u64) {
        if bug("progress-read-first") {
            let taken = self.peek();
            self.marked.swap(false, Ordering::AcqRel);
            return taken;
        }
        self.marked.swap(false, Ordering::AcqRel);
        self.peek()
    }

    /// For the shard, at any time: sequence and bytes taken. The bytes are at least those of the datums
    /// before the sequence.
    #[inline]
    #[must_use]
    pub fn peek(&self) -> (u64, u64) {
        (self.seq.load(Ordering::Acquire), self.bytes.load(Ordering::Acquire))
    }

    /// For the shard: whether the consumer has dropped the inbox. What it took is read after this.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// For the shard: the stream ended, this many datums after the last one that was delivered. To be called
    /// before the inbox is closed.
    pub fn end_after(&self, missing: u64) {
        self.missing_at_end.store(missing, Ordering::Release);
    }

    /// For the consumer, once the inbox is closed: what [`ConsumerProgress::end_after`] said; else 0.
    #[must_use]
    pub fn missing_at_end(&self) -> u64 {
        self.missing_at_end.load(Ordering::Acquire)
    }
}
