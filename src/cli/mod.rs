//! The program: its commands, their options and how they end.
#![allow(dead_code)]
pub(crate) mod args;
mod demo;
pub(crate) mod exit;
mod framing;
mod plot;
mod term;
mod units;
