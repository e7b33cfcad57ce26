//! The program end to end: the built binary, real processes and sockets, ports chosen by the system.

mod bench;
mod consumers;
mod ends;
mod options;
mod passing;
mod rig;
mod signals;
mod stopped;
mod terminal;
