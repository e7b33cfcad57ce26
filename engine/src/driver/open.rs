//! Which driver is opened, and what the user is told about it. Not inside: how a driver comes up.

use std::io;

use thiserror::Error;

use super::{AnyDriver, DriverConfig, IoChoice};

/// What [`open`] gives.
#[derive(Debug)]
pub struct Opened {
    /// The driver.
    pub driver: AnyDriver,
    /// With [`IoChoice::Auto`], when it is not io_uring: one line that says why not and what to change.
    pub fallback: Option<String>,
}

/// Why io_uring can't be used here.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// The kernel has none.
    #[error("this kernel has no io_uring (Linux 6.0 or newer is needed)")]
    NoKernelSupport,
    /// Any other refusal.
    #[error("io_uring_setup failed: {0}")]
    Other(io::Error),
}

/// Why no driver could be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
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
pub fn open(_choice: IoChoice, config: &DriverConfig) -> Result<Opened, OpenError> {
    Ok(Opened {
        driver: super::epoll::EpollDriver::open(config)?.into(),
        fallback: Some("io_uring is not built in yet".to_owned()),
    })
}
