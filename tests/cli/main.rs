//! The program end to end: the built binary, real processes and sockets, ports chosen by the system.

mod beacon;
mod bench;
mod consumers;
mod ends;
#[path = "../../engine/tests/namespace/mod.rs"]
mod namespace;
mod options;
mod passing;
mod rig;
mod signals;
mod stopped;
mod terminal;
