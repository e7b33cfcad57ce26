//! The bounds of a shard, and the bounds of its turn.
//!
//! The bounds of one session are in the protocol's `SessionConfig`, those of packet memory in `DriverConfig`.

use std::time::Duration;

use crate::{buffer::LEASE_BYTES, shared::limits::SESSIONS_PER_SHARD};

/// Most datagrams that one turn receives: about 128 µs at half a microsecond each, so that a flood can't
/// delay commands, timers and sends for longer. It is what a socket's default receive buffer holds (256 small
/// datagrams), so that one turn can empty it.
pub(crate) const DATAGRAMS_PER_TURN: usize = 256;

/// A turn that begins this long after the one before: this host stood still, or the shard has slept.
pub(crate) const SHARD_STALL: Duration = Duration::from_millis(20);

/// Turns after a stall in which deadlines wait while each turn finds as many datagrams as it may take: the
/// answers that peers have sent meanwhile stand behind all others in the sockets. 43 turns read the longest
/// queue of a socket: 8 MiB (`driver::bind`), of which the smallest datagram takes 768 bytes. A host that
/// stalls before each turn fires its deadlines in one turn of so many at least.
pub(crate) const CATCH_UP_TURNS: u32 = 64;

/// Most errors of datagrams that one turn takes, each of which visits every session. Anyone on the way can
/// forge them.
pub(crate) const PATH_ERRORS_PER_TURN: usize = 8;

/// Most commands that one turn takes. They are rare and some are long (a handshake datagram is copied, a ring
/// is made), so few are enough; the mailbox keeps the rest.
pub(crate) const COMMANDS_PER_TURN: usize = 64;

/// Most deadlines that one turn fires. A turn that is late for more finishes them in the next ones, between
/// which packets are still received: an acknowledgement that waits in the socket spares a resend.
pub(crate) const TIMERS_PER_TURN: usize = 256;

/// Most sends that one turn stages, each a lease with up to [`SEGMENTS_PER_TRAIN`] packets. The driver has
/// twice as many leases, so that the kernel works on one turn's while the next fills the others.
pub(crate) const SENDS_PER_TURN: usize = 32;

/// Bytes after which a turn sends no more: four full trains, sealed in about a hundred microseconds, which
/// is what a datum waits at most that has come just after the turn has looked for it.
pub(crate) const SEND_BYTES_PER_TURN: usize = 4 * LEASE_BYTES;

/// Most packets in one train. Kernels before 6.9 refuse more (`UDP_MAX_SEGMENTS`).
pub(crate) const SEGMENTS_PER_TRAIN: usize = 64;

/// Bytes that a session may send before the next one may: one full train. Less would cut trains short, more
/// would let one session hold the others up longer than it takes to seal one train.
pub(crate) const SESSION_QUANTUM_BYTES: usize = LEASE_BYTES;

/// How long a shard waits before it offers events again to a clerk whose mailbox was full. The clerk works in
/// milliseconds; it has no way to ring when it has room.
pub(crate) const CLERK_RETRY: Duration = Duration::from_millis(1);

/// How long a shard waits at most for transmit memory. The driver ends its sleep when a lease comes back;
/// this is the safety net.
pub(crate) const LEASE_RETRY: Duration = Duration::from_millis(1);

/// The part of the time before a shutdown's deadline in which streams may still drain; the rest belongs to
/// the closing of sessions. A fraction: `DRAIN_SHARE.0 / DRAIN_SHARE.1`.
pub(crate) const DRAIN_SHARE: (u32, u32) = (3, 4);

const _: () = assert!(SEGMENTS_PER_TRAIN > 1 && SENDS_PER_TURN > 1);
const _: () = assert!(SESSION_QUANTUM_BYTES >= LEASE_BYTES);

/// What one shard may hold. Its memory is a function of this, the rings it is given and the windows of the
/// inboxes it makes. Tables grow on demand, so a high bound costs nothing until it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardLimits {
    /// Sessions; the slots that the clerk hands out are below this. 1 to 2^24; 4,096 by default, at about 10
    /// KiB each.
    pub sessions: usize,
    /// Channels of all sessions together, both ends. Above it an accept or open is answered with
    /// `NO_CAPACITY`. 65,536 by default: sixteen for each of the sessions.
    pub channels: usize,
    /// Rings that the shard reads at one time. 65,536 by default, as many as channels: a ring costs one load
    /// per turn while it is polled, and nothing while it rests.
    pub streams: usize,
    /// Events that wait for room in the clerk's mailbox. Above it, sessions that have events are held up.
    /// 4,096 by default: one for each session.
    pub backlog: usize,
    /// Memory of one inbox, in bytes, headers and the room for one datum of the producer's largest size
    /// included. A window that needs more is answered with `TOO_LARGE`. 256 MiB by default: the largest
    /// window, 96 MiB, twice the longest datum, 64 MiB, and headers.
    pub inbox_bytes: usize,
    /// Room of the inbox of a channel that sets no window in bytes. 1 MiB by default.
    pub open_window_bytes: u64,
    /// Datums in the inbox of a channel that sets no window by number; fewer when its window in bytes is
    /// small. 65,536 by default: 1 MiB of the smallest datums.
    pub open_window_datums: u64,
}

impl Default for ShardLimits {
    fn default() -> Self {
        Self {
            sessions: SESSIONS_PER_SHARD,
            channels: 65_536,
            streams: 65_536,
            backlog: 4_096,
            inbox_bytes: 256 << 20,
            open_window_bytes: 1 << 20,
            open_window_datums: 1 << 16,
        }
    }
}

/// What a shard is made of besides its driver and its mailboxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardConfig {
    /// Its number: the first byte of the index of each of its sessions.
    pub id: u8,
    /// Its bounds.
    pub limits: ShardLimits,
}
