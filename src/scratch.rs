//! A thread's buffer for one encoded datum: the policies that drop encode here before they evict.

use std::cell::Cell;

/// A buffer that grew above this, in bytes, is freed after use: a thread does not keep the room of its
/// largest datum.
const KEPT_BYTES: usize = 1 << 20;

thread_local! {
    /// Empty while in use: a `Serialize` that sends to another stream gets a buffer of its own.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Calls `work` with an empty buffer that has room from earlier calls.
pub(crate) fn with_scratch<R>(work: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    // A thread that ends has no thread-local storage any more.
    let mut scratch = SCRATCH.try_with(Cell::take).unwrap_or_default();
    scratch.clear();
    let result = work(&mut scratch);
    if scratch.capacity() <= KEPT_BYTES {
        let _ = SCRATCH.try_with(|place| place.set(scratch));
    }
    result
}
