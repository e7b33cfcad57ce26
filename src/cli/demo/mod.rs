//! `corewire` without a command: one producer, three consumers, real prices, a few seconds.
//!
//! First prices at a steady rate, for latency; then as many as go through, for throughput. Both parts check every
//! datum at every consumer. The exit code is 0 only if all of them arrived, in order and unchanged.

mod cast;
mod consume;
mod prices;
mod produce;
mod report;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use self::cast::Cast;
use self::consume::Part;
use self::prices::Prices;
use self::produce::Pace;
use super::args::DemoArgs;
use super::exit::{Exit, Failure};
use super::term::Style;

/// The part of the time that goes to latency.
const LATENCY_SHARE: f64 = 0.5;
/// Sending is over long before this for any time that a person would wait for.
const MAX_DURATION: Duration = Duration::from_secs(600);

/// Runs the demonstration.
pub(crate) fn run(args: &DemoArgs) -> Result<Exit, Failure> {
    let prices = Arc::new(Prices::shipped()?);
    let style = Style::of_stdout();
    let mut out = io::stdout().lock();
    let duration = args.duration.clamp(Duration::from_millis(20), MAX_DURATION);
    let latency = duration.mul_f64(LATENCY_SHARE);

    report::title(&mut out, style, &prices)?;
    let mut cast = Cast::assemble(args, &prices)?;
    report::cast(&mut out, style, &cast)?;

    report::latency_begins(&mut out, style, args.rate, latency)?;
    let steady = cast.play(Part::new(0), Pace::Steady { rate: args.rate, duration: latency })?;
    report::latency(&mut out, style, &steady)?;

    report::throughput_begins(&mut out, style, duration - latency)?;
    let full = cast.play(Part::new(steady.produced.end), Pace::Full { duration: duration - latency })?;
    report::throughput(&mut out, &full)?;

    let troubles = cast.leave();
    let whole = report::verdict(&mut out, style, &[&steady, &full], prices.checksum(full.produced.end))?;
    if !whole {
        return Err(Failure::new(Exit::Failed, "not every price arrived as it was sent"));
    }
    if troubles.is_empty() { Ok(Exit::Done) } else { Err(Failure::new(Exit::Failed, troubles.join("; "))) }
}
