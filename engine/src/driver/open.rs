//! Chooses a driver, and explains the choice.

use std::io;

use thiserror::Error;

use super::{AnyDriver, DriverConfig, IoChoice, epoll::EpollDriver, uring::UringDriver};

/// What [`open`] gives.
#[derive(Debug)]
pub struct OpenedDriver {
    /// The driver.
    pub driver: AnyDriver,
    /// With [`IoChoice::Auto`], when it is not io_uring: one line with the reason and what to change.
    pub fallback: Option<String>,
}

/// Why io_uring can't be used here, and what would change that.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// `ENOSYS`.
    #[error("this kernel is built without io_uring (CONFIG_IO_URING)")]
    NotInKernel,
    /// A feature is missing that the driver can't do without.
    #[error("Linux {running} lacks {missing}, which came with {since}; 6.1 or newer is best")]
    TooOld {
        /// What is missing.
        missing: &'static str,
        /// The first version that has it.
        since: &'static str,
        /// The version that runs.
        running: String,
    },
    /// `kernel.io_uring_disabled` is not 0.
    #[error(
        "kernel.io_uring_disabled is {value}; sysctl kernel.io_uring_disabled=0 allows it{}",
        group_hint(value)
    )]
    Sysctl {
        /// Its value: 1 allows it to privileged processes and `kernel.io_uring_group`, 2 to none.
        value: String,
    },
    /// A seccomp filter, usually a container's.
    #[error(
        "a seccomp filter forbids it; allow io_uring_setup, io_uring_enter and io_uring_register in the profile"
    )]
    Seccomp,
    /// Permission was denied, but by neither of these two.
    #[error(
        "permission denied, probably by a security module; allow io_uring in its policy (SELinux, AppArmor)"
    )]
    SecurityModule,
    /// `ENOMEM`.
    #[error("no memory for the ring{}", memlock_hint(*limit))]
    Memory {
        /// The limit of locked memory in bytes (`RLIMIT_MEMLOCK`), if there is one.
        limit: Option<u64>,
    },
    /// No file descriptor left.
    #[error("no file descriptor left for the ring; raise the limit (ulimit -n)")]
    Descriptors,
    /// Any other refusal.
    #[error("cannot {what}: {source}")]
    Other {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

fn group_hint(value: &str) -> &'static str {
    if value == "1" { ", or run with a group that is kernel.io_uring_group" } else { "" }
}

fn memlock_hint(limit: Option<u64>) -> String {
    limit.map_or_else(String::new, |bytes| {
        let kib = bytes / 1024;
        format!("; the limit of locked memory is {kib} KiB, raise it (ulimit -l, LimitMEMLOCK) or grant CAP_IPC_LOCK")
    })
}

/// Why no driver could be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DriverOpenError {
    /// io_uring was asked for by name and can't be used.
    #[error("io_uring was asked for but is not available: {0}; or choose epoll")]
    Uring(#[source] Unavailable),
    /// The system refused what every driver needs.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A bound of [`DriverConfig`] is outside its range.
    #[error("driver configuration: {0}")]
    Config(&'static str),
}

/// Opens a driver for the calling thread, which must be the one that uses it.
///
/// # Errors
///
/// With [`IoChoice::Uring`] when io_uring can't be used. With any choice when the system refuses what every
/// driver needs, or the configuration is out of range.
pub fn open(choice: IoChoice, config: &DriverConfig) -> Result<OpenedDriver, DriverOpenError> {
    let refusal = match choice {
        IoChoice::Epoll => None,
        IoChoice::Uring | IoChoice::Auto => match UringDriver::open(config) {
            Ok(driver) => return Ok(OpenedDriver { driver: driver.into(), fallback: None }),
            Err(DriverOpenError::Uring(refusal)) if choice == IoChoice::Auto => Some(refusal),
            Err(error) => return Err(error),
        },
    };
    let driver = EpollDriver::open(config)?.into();
    let fallback = refusal.map(|refusal| format!("epoll instead of io_uring: {refusal}"));
    Ok(OpenedDriver { driver, fallback })
}
