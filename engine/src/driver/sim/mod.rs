//! A driver without a machine: virtual clock, virtual network, faults by seed.
//!
//! It has no thread, no socket of the operating system, no real time, and no randomness but that of its seed.
//! A [`World`] with the same seed, driven by the same calls, does the same to the byte; [`World::trace_hash`]
//! condenses what it did into one number to compare.
//!
//! # Running one
//!
//! All drivers of a world run on one thread, by turns. When every shard has parked,
//! [`World::advance_to_next_event`] moves the clock to the next arrival or deadline:
//!
//! ```
//! use corewire_engine::driver::{Driver, Route, sim::World};
//!
//! let world = World::new(7);
//! let (a, b) = (world.host(), world.host());
//! let (mut at_a, mut at_b) = (world.driver(a), world.driver(b));
//! let socket = world.bind(a, (world.ip(a), 1).into(), 1).unwrap().remove(0);
//! let from_a = at_a.add_socket(socket.into()).unwrap();
//! let socket = world.bind(b, (world.ip(b), 2).into(), 1).unwrap().remove(0);
//! at_b.add_socket(socket.into()).unwrap();
//!
//! let mut lease = at_a.lease().unwrap();
//! lease[..5].copy_from_slice(b"hello");
//! at_a.send(Route::new(from_a, (world.ip(b), 2).into()), lease, 5, 5);
//! at_a.submit().unwrap();
//! at_b.park(None);
//! world.advance_to_next_event().expect("a datagram is on its way");
//! assert_eq!(at_b.receive(16, |datagram| assert_eq!(datagram.bytes, b"hello")), 1);
//! ```

mod driver;
mod host;
mod link;
mod rng;
mod stats;
mod translator;
mod world;

pub use self::{
    driver::{SimDriver, SimSocket},
    host::HostId,
    link::Link,
    stats::WorldStats,
    world::World,
};
