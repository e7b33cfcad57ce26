//! Calls foreign code (wakers, callbacks, codecs, drops) without passing its panics on.

use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls `foreign`. `None`: it panicked; the panic hook has reported it. What `foreign` captures must stay
/// consistent if it stops halfway.
#[inline]
pub fn contain<R>(foreign: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(foreign)) {
        Ok(value) => Some(value),
        Err(payload) => {
            drop_contained(payload);
            None
        }
    }
}

/// Drops `value`. If the drop panics, the payload of that panic is leaked, because its drop may panic in
/// turn.
#[cold]
pub fn drop_contained<T>(value: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        forget(payload);
    }
}

#[cfg(all(test, not(any(loom, shuttle, corewire_sanitize, miri))))]
mod tests {
    //! Not under LeakSanitizer and Miri: the payload is leaked by design.

    use super::contain;

    struct PanicsWhenDropped;

    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    #[test]
    fn a_panic_is_contained_even_if_its_payload_panics_on_drop() {
        assert_eq!(contain(|| 1), Some(1));
        assert_eq!(contain(|| -> u8 { panic!("once") }), None);
        assert_eq!(contain(|| -> u8 { std::panic::panic_any(PanicsWhenDropped) }), None);
    }
}
