//! `corewire` without a command: one producer, three consumers, real prices, a few seconds.
//!
//! The first part sends at a steady rate and measures latency; the second does that with two nodes whose
//! threads drive their engines; the third sends as fast as possible and measures throughput. Every consumer
//! checks every datum. The exit code is 0 only if all arrived, in order and unchanged.

mod consume;
mod hosted;
mod nodes;
mod prices;
mod produce;
mod report;

use std::io;
use std::sync::Arc;

use self::consume::Part;
use self::nodes::DemoNodes;
use self::prices::Prices;
use self::produce::Pace;
use super::args::DemoArgs;
use super::exit::{Exit, Failure};
use super::term::{self, Style};

/// The shares of the time that the two parts of latency have.
const LATENCY_SHARE: f64 = 0.4;
const HOSTED_SHARE: f64 = 0.2;

/// Runs the demonstration.
pub(crate) fn run(args: &DemoArgs) -> Result<Exit, Failure> {
    let prices = Arc::new(Prices::shipped()?);
    let style = Style::of_stdout();
    let mut out = io::stdout().lock();
    let duration = args.duration;
    let [latency, hosted] = [LATENCY_SHARE, HOSTED_SHARE].map(|share| duration.mul_f64(share));
    let throughput = duration - latency - hosted;

    report::title(&mut out, style, &prices)?;
    let mut demo = DemoNodes::start(args, &prices)?;
    report::nodes(&mut out, style, &demo)?;
    // Every node has the same.
    demo.nodes.iter().take(1).flat_map(|node| &node.facts.warnings).for_each(|warning| term::warn(warning));

    report::latency_begins(&mut out, style, args.rate, latency)?;
    let steady = demo.run_part(Part::new(0), Pace::Steady { rate: args.rate, duration: latency })?;
    report::latency(&mut out, style, &steady)?;

    report::hosted_begins(&mut out, style, args.rate, hosted)?;
    let hosted = hosted::run(args.io, &prices, Pace::Steady { rate: args.rate, duration: hosted })?;
    report::timed(&mut out, &hosted)?;

    report::throughput_begins(&mut out, style, throughput)?;
    let full = demo.run_part(Part::new(steady.produced.end), Pace::Full { duration: throughput })?;
    report::throughput(&mut out, &full)?;

    let troubles = demo.shut_down();
    let whole =
        report::verdict(&mut out, style, &hosted, &[&steady, &full], prices.checksum(full.produced.end))?;
    if !whole {
        return Err(Failure::new(Exit::Failed, "not every price arrived as it was sent"));
    }
    if troubles.is_empty() { Ok(Exit::Done) } else { Err(Failure::new(Exit::Failed, troubles.join("; "))) }
}
