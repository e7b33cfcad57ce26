//! corewire's shared-memory rings: the only data structures between two threads of an engine.
//!
//! * [`Ring`]: the **fanout ring**. Bounded memory of one stream: many writers, up to 64 readers, each of which sees
//!   every record in the same order and reads it in place. It also serves as the inbox of a consumer (one reader).
//! * [`mailbox()`]: a bounded queue for control messages; [`Doorbell`]: one sleeper, many ringers.
//! * [`park`]: blocks a plain thread on anything that has a waker.
//!
//! **Not inside:** types (a record is bytes), policies and their names (what to do when the ring is full is the
//! engine's decision; here are its tools: refuse, wait, evict, detach), clocks, threads, sockets, retries. Nothing
//! here blocks except [`park`] and, for a few instructions, the queue of writers that wait for room and the second
//! thread that ever writes to a ring. After
//! [`Ring::new`] nothing is allocated on the way of a datum.
//!
//! ```
//! use corewire_rings::{park, ClaimError, Ring, RingConfig};
//!
//! let ring = Ring::new(RingConfig { datums: 4, bytes: 1024, max_record: 256, readers: 2, scatter_small: false })?;
//! let (writer, mut reader) = (ring.writer(), ring.subscribe()?);
//!
//! let mut claim = writer.try_claim(5)?; // room for 5 bytes, ours alone
//! claim.copy_from_slice(b"hello");
//! claim.commit(); // now every reader sees it; dropping the claim instead would abandon it
//!
//! let record = park::block_on(reader.recv())?;
//! assert_eq!((&record[..], record.seq(), record.lost_before()), (&b"hello"[..], 0, 0));
//! drop(record); // gives the room back
//!
//! for _ in 0..4 {
//!     writer.try_push(b"fill")?;
//! }
//! assert_eq!(writer.try_push(b"one more"), Err(ClaimError::Full));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Memory
//!
//! ```text
//!  slots: 2^k > datums, 16 bytes each                  cells: 2^k >= datums, 128 bytes each, where there are any
//! ┌───────────────┬────────────────────┐              ┌──────────┬──────────┬──────────┬───────────────┐
//! │len 10│seq+1 54│ end: 38 │ len: 26  │── short ───> │ record 0 │ record 5 │ record 2 │ …             │
//! └───────────────┴────────────────────┘              └──────────┴──────────┴──────────┴───────────────┘
//!   record s lives in slot s mod 2^k                    in cell s · step mod 2^k, up to 128 bytes
//!              │
//!              │                                       arena: `bytes`, then a spill of `max_record`
//!              │                                      ┌────────────────────────────────┬──────────┐
//!              └──────────────────────────── long ──> │ 16-byte units │ record s │ s+1 │ … s+1    │
//!                                                     └────────────────────────────────┴──────────┘
//!                                                       place = position mod capacity; a record that
//!                                                       starts before the end runs on into the spill
//!  sequences:   … g-1 │ g ················ t-1 │ t …
//!                     gate                      tail      t - g <= datums, bytes(g..t) <= bytes
//! ```
//!
//! The first word of a slot is the *stamp*, the second the *meta*. A length below 1,023 bytes stands in both, so that a
//! reader of records of one length compares one word for each; other lengths, and that a record was abandoned, only
//! in the meta.
//!
//! A record costs its length rounded up to 16 bytes, at least 16, also in a cell. It is always in one piece and nothing is
//! padded at the wrap, so both capacities are exact. The slot before the gate outlives the full ring (hence one slot more than
//! datums): it holds the gate's byte position, and its stamp the gate's full sequence.
//!
//! Cells are an option, for memory: with them short records pass faster between processors; why is said in `arena.rs`.
//! ClaimFuture is counted in bytes as if there were none.
//!
//! # The law of each atomic
//!
//! | word | written by | order, and why |
//! |---|---|---|
//! | tail `closed 1, seq 25, position 38` | claims (swap, or store by a thread that claims alone), close (or) | AcqRel (a store: Release): who claims next sees every gate that I saw. One word, so that room in datums and bytes is won together and never after a close |
//! | `owner`, `inside` of the tail | the first thread that claims; who takes the right to store from it | below: "whose the tail is" |
//! | `free_to`, `limit` of the owner's desk | the owner, while it is inside | Relaxed: nobody else reads them |
//! | gate `seq 40, joins 24` | a claim or an eviction that finds no room, who asks how long the ring is, a joining reader (swaps) | AcqRel: what readers finished comes before its reuse. A join changes the count, so a mover that scanned before the join fails |
//! | stamp | the record's writer | Release; readers Acquire: it carries meta and bytes |
//! | meta | the record's writer, before the stamp | Release, so that who sees a later lap's meta also sees that the gate has moved |
//! | cursor `generation 7, seq 54, kind 3` | its reader; writers by swap and only while it is not pinned | Release store, Acquire scan: the reader's last look comes before the reuse |
//! | `inside` of a cursor | its reader | below: "how a reader pins" |
//! | `pins` | the first writers that evict or detach | below |
//! | `sleepers` | a reader sets its bit; whoever clears it wakes it | one wake a sleep; see below |
//! | `waiters` | the queue for room, under its lock | see below |
//! | `live` | joins, leaves, detachments (add) | Acquire after `waiters`: without readers it is publication that makes room |
//!
//! **Why no record is overwritten while somebody needs it.** A claim needs `t - g < datums` (and bytes) under the gate,
//! or under an earlier one, which only asks for more; and the gate is never in front of a cursor: movers take the
//! minimum of all cursors, cursors only move forward, and a reader
//! that joins between scan and swap makes the swap fail. A cursor never passes an unpublished record, and neither does
//! the gate of a ring without readers, so a writer that is preempted between claim and commit is never lapped. A
//! reader pins its cursor before it looks at bytes; writers that evict or detach leave it alone then. A cell is as safe as
//! the units: record `t` has that of `t - cells`, which is before the gate, since there are at least as many as datums.
//!
//! **How a reader pins.** By a store, as long as nobody evicts or detaches: `inside`, light fence, look at its word and at
//! `pins`. The first writer that wants to move a cursor changes `pins`, behind a heavy fence: from then on, for good, a
//! reader swaps its word to `Held`, and swaps by writers fail. A writer leaves cursors alone whose reader is `inside`.
//! Either it sees a reader inside that stepped in before, or that reader sees the change and steps out. Without
//! `membarrier` all pins are swaps from the start.
//!
//! **How a writer looks for room.** It loads all cursors, which takes their lines from readers that are about to write
//! them. If they have given back less than an eighth of the ring (32 records at most) it pauses 16 times and looks
//! again, once. A ring whose slowest reader did not move is full at once.
//!
//! **Whose the tail is.** A swap makes a processor wait until its earlier stores have reached the cache, and a reader on
//! another processor, following at the writer's heels, makes that slow. The first thread that claims therefore owns the
//! tail and stores it, until a second one claims or the ring is closed; then, and for good, everybody swaps. The owner
//! also writes down how far it saw room free, and looks at the gate only when the tail has come there. Owner:
//! `inside`, light fence, look at `owner`; the other: `owner`, heavy fence, wait for not `inside`, once in a ring's
//! life and for a handful of instructions (longer if the owner is preempted there). One and a half to two times the
//! records per second; without `membarrier` everybody swaps from the start.
//!
//! **Why nobody sleeps for ever.** Three pairs of "store mine, fence, load yours", each between one hot side (light
//! fence: an order to the compiler) and one cold side (heavy fence: `membarrier`, or `SeqCst` on both sides where the
//! kernel has none): publisher stamps / looks at `sleepers`, reader sets its bit / looks at the stamp again; reader
//! moves its cursor / looks at `waiters`, writer queues / scans the cursors again; ringer makes work / looks at
//! `armed`, sleeper arms / looks for work again. Close and detach use full fences. A waker that panics is contained,
//! and the others are woken all the same.
//!
//! **What can be refused though there may be room soon:** `Full` while the oldest record is held in place, or is
//! claimed by a writer that was preempted. Nobody waits for either here; both are counted in [`RingStats`].
//!
//! **Limits with numbers:** a swap is fooled only if its word comes back while its thread sleeps: the tail after 2 TiB
//! or more through one ring at exactly the same sequence modulo 2^25, the gate after exactly 2^24 joins without a
//! move. A ring closes itself shortly before sequence 2^54 (5.7 years at 100 million datums a second).
//!
//! A leaked [`RecordClaim`] stops its ring at that record for ever; a leaked [`PinGuard`] or [`Record`] pins its reader until it
//! reads again or is dropped, and the record is there again then. Neither breaks memory safety.

pub mod limits;
pub mod mailbox;
pub mod park;

mod alone;
mod arena;
mod bugs;
mod claim;
mod config;
mod counters;
mod cursor;
mod doorbell;
mod evict;
mod fence;
mod gate;
mod hold;
mod pin;
mod reader;
mod ring;
mod room;
mod signals;
mod slots;
mod sync;
mod units;
mod word;
#[cfg(all(test, not(any(loom, shuttle))))]
mod wraps;
mod writer;

pub use claim::{BatchClaim, RecordClaim};
pub use config::{RingConfig, RingConfigError};
pub use doorbell::Doorbell;
pub use hold::{PinGuard, Record, RecordState};
pub use mailbox::mailbox;
pub use reader::{Detached, Reader, RecvError};
pub use ring::{DetachError, Mark, NoReaderSlot, ReaderId, ReaderStatus, Ring, RingStats};
pub use room::{ClaimFuture, WaitTicket};
pub use writer::{ClaimError, Writer};
