//! Calling what users wrote without inheriting its panics.

use std::any::Any;
use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls `user`. `None` means that it panicked; the panic hook has said so.
#[inline]
pub(crate) fn contain<R>(user: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(user)) {
        Ok(value) => Some(value),
        Err(payload) => {
            discard(payload);
            None
        }
    }
}

/// Drops what a panic carried. That may panic in turn; such a thing is leaked.
#[cold]
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        forget(second);
    }
}

#[cfg(test)]
mod tests {
    use super::contain;

    struct PanicsWhenDropped;

    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    #[test]
    fn a_panic_is_contained_even_when_its_payload_panics_again() {
        assert_eq!(contain(|| 1), Some(1));
        assert_eq!(contain(|| -> u8 { panic!("once") }), None);
        assert_eq!(contain(|| -> u8 { std::panic::panic_any(PanicsWhenDropped) }), None);
    }
}
