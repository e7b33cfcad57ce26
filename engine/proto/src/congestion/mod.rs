//! How much may be in flight.
//!
//! Not inside: which packets were lost (the session says so) and who may send next (the scheduler).

/// Which controller a session uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Congestion {
    /// Additive increase, multiplicative decrease: RFC 9002, section 7.
    NewReno,
    /// CUBIC (RFC 9438), the default.
    #[default]
    Cubic,
    /// A rate that the user knows the network carries, in bytes per second.
    FixedRate(u64),
    /// No limit but the session's tables.
    Unlimited,
}
