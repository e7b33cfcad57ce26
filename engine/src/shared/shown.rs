//! Values that tasks of the user's watch.

use corewire_rings::{contain, drop_contained};
use tokio::sync::watch;

/// A value that is watched. A change, and the end, wake the tasks that wait for one, on the thread that makes
/// it: a shard's or the clerk's. A waker that panics does not end that thread; of the tasks that wait for the
/// same value, those behind it are then not woken.
#[derive(Debug)]
pub(crate) struct Shown<T>(Option<watch::Sender<T>>);

impl<T> Shown<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(watch::Sender::new(value)))
    }

    fn sender(&self) -> &watch::Sender<T> {
        self.0.as_ref().expect("it is taken when this is dropped")
    }

    pub(crate) fn borrow(&self) -> watch::Ref<'_, T> {
        self.sender().borrow()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<T> {
        self.sender().subscribe()
    }

    /// Shows another value.
    pub(crate) fn show(&self, value: T) {
        contain(|| drop(self.sender().send_replace(value)));
    }

    /// Lets `change` change the value; `true` from it: the value is another one.
    pub(crate) fn show_if(&self, change: impl FnOnce(&mut T) -> bool) {
        contain(|| self.sender().send_if_modified(change));
    }
}

impl<T> Drop for Shown<T> {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            drop_contained(sender);
        }
    }
}
