//! The limits of rings, each with its reason. A ring that is built within them never checks them again.

/// Bytes of one arena unit. Every record starts on a unit and costs whole units.
pub const UNIT_BYTES: usize = 16;
/// Longest record in bytes that is scattered, if the ring scatters small records: two cache lines.
pub const SMALL_RECORD_BYTES: usize = 128;
/// The smallest page of memory of the systems that Rust supports.
pub(crate) const PAGE_BYTES: usize = 4_096;
/// Most datums of one ring. The tail holds the sequence modulo 2^25; a stale tail can be told from a current
/// one only if a ring uses at most a quarter of that range.
pub const MAX_DATUMS: usize = 1 << 23;
/// Longest record in bytes. A length has 26 bits, and the highest value means "abandoned".
pub const MAX_RECORD_BYTES: usize = (1 << 26) - 2;
/// Most bytes of one ring: 2^36 units, a quarter of the 38 bits of a byte position.
pub const MAX_ARENA_BYTES: usize = (1 << 36) * UNIT_BYTES;
/// Most readers of one ring. A writer that finds no room looks at each: a thousand cost some microseconds.
pub const MAX_READERS: usize = 1_024;
/// Most writers that may wait for room in one ring. The next one gets `TooManyWaiters`.
pub const MAX_ROOM_WAITERS: usize = 1024;
