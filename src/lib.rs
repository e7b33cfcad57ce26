//! corewire.
