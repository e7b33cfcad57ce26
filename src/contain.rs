//! Calls user code without inheriting its panics.

pub(crate) use corewire_rings::contain;
