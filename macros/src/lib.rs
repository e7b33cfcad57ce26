//! corewire macros.
