//! Credit windows and limits, shared by both ends of a channel.

/// Window in bytes of a channel that was opened with `window_bytes` 0. It moves with what is delivered
/// instead of with what the application takes, and so bounds only what waits for a missing datum. 16 MiB fill
/// a path of 1 Gbit/s and 130 ms.
pub const UNLIMITED_WINDOW_BYTES: u64 = 16 << 20;

/// Window in datums of a channel that was opened with `window_datums` 0: [`UNLIMITED_WINDOW_BYTES`] of datums
/// of 64 bytes.
pub const UNLIMITED_WINDOW_DATUMS: u64 = 1 << 18;

/// Larger windows are clamped to this. It exceeds any memory, and sums of it with positions cannot overflow.
pub const MAX_WINDOW: u64 = 1 << 40;

/// A sequence or offset that reaches this ends its channel. An honest peer needs centuries to send 2^62
/// datums.
pub(crate) const POSITION_LIMIT: u64 = 1 << 62;

const _: () = assert!(UNLIMITED_WINDOW_BYTES <= MAX_WINDOW && UNLIMITED_WINDOW_DATUMS <= MAX_WINDOW);
const _: () = assert!(UNLIMITED_WINDOW_DATUMS * 64 == UNLIMITED_WINDOW_BYTES);
const _: () = assert!(POSITION_LIMIT.checked_add(MAX_WINDOW).is_some());

/// How far a producer may send, in absolute positions. The limits are never lowered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct CreditLimit {
    /// A datum may start only below this sequence.
    pub(super) seq: u64,
    /// A datum may start only below this offset.
    pub(super) bytes: u64,
}

impl CreditLimit {
    /// Whether a datum may start at this position.
    pub(super) const fn covers(self, seq: u64, offset: u64) -> bool {
        seq < self.seq && offset < self.bytes
    }

    /// How many datums of `cost` each may start in a row from this position.
    pub(super) fn covered(self, seq: u64, offset: u64, cost: u64) -> u64 {
        self.seq.saturating_sub(seq).min(self.bytes.saturating_sub(offset).div_ceil(cost))
    }

    /// Raises each limit that is below the one given; `true` when one was.
    pub(super) fn raise(&mut self, seq: u64, bytes: u64) -> bool {
        let raised = seq > self.seq || bytes > self.bytes;
        self.seq = self.seq.max(seq);
        self.bytes = self.bytes.max(bytes);
        raised
    }

    /// Moves the limit in sequences along with `count` skipped ones.
    pub(super) fn skip(&mut self, count: u64) {
        self.seq = self.seq.saturating_add(count);
    }
}

/// The windows in force for those in an OPEN, in datums and in bytes: [`MAX_WINDOW`] at most, the unlimited
/// ones for 0.
pub(super) const fn effective_windows(window_datums: u64, window_bytes: u64) -> (u64, u64) {
    (effective(window_datums, UNLIMITED_WINDOW_DATUMS), effective(window_bytes, UNLIMITED_WINDOW_BYTES))
}

const fn effective(asked: u64, unlimited: u64) -> u64 {
    if asked == 0 {
        unlimited
    } else if asked > MAX_WINDOW {
        MAX_WINDOW
    } else {
        asked
    }
}
