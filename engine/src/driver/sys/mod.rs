//! The system calls that the drivers share, each behind a safe function. Nothing else in the crate's drivers
//! but `uring` contains unsafe code.
//!
//! Not inside: decisions. What an error means for a datagram is said in [`errors`]; what is done about it is
//! the drivers' business.
#![allow(unsafe_code)]

pub(super) mod address;
pub(super) mod affinity;
pub(super) mod clock;
pub(super) mod control;
pub(super) mod epoll;
pub(super) mod errors;
pub(crate) mod eventfd;
pub(crate) mod exit;
pub(crate) mod interfaces;
pub(super) mod options;
pub(super) mod poll;
pub(super) mod receive;
pub(super) mod send;
pub(super) mod socket;
pub(super) mod timer;

use std::io;

/// Makes the usual `-1 and errno` a result.
fn check(answer: libc::c_int) -> io::Result<libc::c_int> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}
