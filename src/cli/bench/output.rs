//! The results of all combinations, and the table of them.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::args::{BenchArgs, Measure};
use super::case::{BenchCase, Transport};
use super::host::HostFacts;
use super::result::BenchResult;
use super::{hgrm, json, svg};
use crate::cli::exit::{Exit, Failure};
use crate::cli::latency::{percentile_names, percentile_row};
use crate::cli::plot::{self, Series};
use crate::cli::term::Style;
use crate::cli::units::grouped;

/// Curves of the character plot, which has as many marks.
const CURVES: usize = 4;

/// What `--expect` found.
pub(crate) struct FailedExpectation {
    /// Index of the result.
    pub(crate) result: usize,
    pub(crate) expected: String,
    pub(crate) why: String,
}

/// Everything that was measured.
pub(crate) struct Bench {
    pub(crate) host: HostFacts,
    /// Combinations that were to be measured.
    pub(crate) planned: usize,
    pub(crate) results: Vec<BenchResult>,
    pub(crate) failed: Vec<FailedExpectation>,
}

impl Bench {
    /// Not every combination was measured from its start to its end.
    pub(crate) fn is_partial(&self) -> bool {
        self.results.len() < self.planned || self.results.iter().any(|result| result.partial.is_some())
    }

    /// What makes the figures worse or unsteady, each once: of the host, and of the engines.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = self.host.warnings();
        let ends =
            |result: &BenchResult| [result.here.warnings.clone(), result.there.warnings.clone()].concat();
        for warning in self.results.iter().flat_map(ends) {
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
        warnings
    }

    /// Compares every result with every expectation.
    pub(crate) fn judge(&mut self, args: &BenchArgs) {
        for (index, result) in self.results.iter().enumerate() {
            for expectation in &args.expect {
                if let Some(why) = expectation.failure(result) {
                    let expected = expectation.to_string();
                    self.failed.push(FailedExpectation { result: index, expected, why });
                }
            }
        }
    }
}

/// The files that the options name, opened before the first run: a run is too long to find out afterwards.
pub(crate) struct ResultFiles {
    /// One for each timed combination, in order.
    hgrm: Vec<ResultFile>,
    svg: Option<ResultFile>,
}

struct ResultFile {
    path: PathBuf,
    file: File,
}

impl ResultFile {
    fn create(path: PathBuf) -> Result<ResultFile, Failure> {
        match File::create(&path) {
            Ok(file) => Ok(ResultFile { path, file }),
            Err(error) => Err(cannot_write(Exit::CannotStart, &path, &error)),
        }
    }

    fn write(self, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<(), Failure> {
        let mut out = BufWriter::new(self.file);
        write(&mut out)
            .and_then(|()| out.flush())
            .map_err(|error| cannot_write(Exit::Failed, &self.path, &error))
    }
}

fn cannot_write(exit: Exit, path: &Path, error: &io::Error) -> Failure {
    Failure::new(exit, format!("cannot write {}: {error}", path.display()))
}

impl ResultFiles {
    pub(crate) fn create(args: &BenchArgs, cases: &[BenchCase]) -> Result<ResultFiles, Failure> {
        let timed: Vec<&BenchCase> = cases.iter().filter(|case| case.what.is_timed()).collect();
        if (args.hgrm.is_some() || args.svg.is_some()) && timed.is_empty() {
            return Err(Failure::new(Exit::Usage, "throughput has no percentiles to write")
                .cure("latency or round-trip with --hgrm and --svg"));
        }
        let mut files = ResultFiles { hgrm: Vec::new(), svg: None };
        if let Some(path) = &args.hgrm {
            for case in &timed {
                let part = (timed.len() > 1).then(|| case.file_part());
                files.hgrm.push(ResultFile::create(hgrm::file_of(path, part.as_deref()))?);
            }
        }
        files.svg = args.svg.clone().map(ResultFile::create).transpose()?;
        Ok(files)
    }

    /// Writes what was measured; after a signal that is less than was asked for.
    pub(crate) fn write(self, bench: &Bench) -> Result<(), Failure> {
        let timed = bench.results.iter().filter_map(|result| result.latency.as_ref());
        for (file, latency) in self.hgrm.into_iter().zip(timed) {
            file.write(|out| hgrm::write(out, latency))?;
        }
        let Some(file) = self.svg else { return Ok(()) };
        let names = names(bench);
        let title = format!("corewire {}, {}", env!("CARGO_PKG_VERSION"), bench.host.processor);
        file.write(|out| out.write_all(svg::percentiles(&title, &series(bench, &names)).as_bytes()))
    }
}

fn names(bench: &Bench) -> Vec<String> {
    bench.results.iter().map(|result| result.case.to_string()).collect()
}

/// The curves of the timed results.
fn series<'a>(bench: &'a Bench, names: &'a [String]) -> Vec<Series<'a>> {
    let curve = |(result, name): (&'a BenchResult, &'a String)| {
        let histogram = result.latency.as_ref().filter(|latency| !latency.is_empty())?;
        Some(Series { name, histogram })
    };
    bench.results.iter().zip(names).filter_map(curve).collect()
}

/// Writes the results to stdout, as a table or as JSON.
pub(crate) fn print(bench: &Bench, as_json: bool) -> io::Result<()> {
    let style = Style::of_stdout();
    let mut out = io::stdout().lock();
    if as_json {
        writeln!(out, "{}", json::document(bench))?;
    } else {
        table(&mut out, bench, style)?;
    }
    out.flush()
}

/// `10000` as `10k`, `1500000` as `1.5M`; at most six characters for what the options take.
fn short(number: f64) -> String {
    let (scaled, unit) = match number {
        number if number >= 1e6 => (number / 1e6, "M"),
        number if number >= 1e4 => (number / 1e3, "k"),
        number => (number, ""),
    };
    let digits =
        if scaled.fract() == 0.0 { 0 } else { 2usize.saturating_sub(scaled.log10().max(0.0) as usize) };
    format!("{scaled:.digits$}{unit}")
}

/// The columns that name a combination.
fn case_columns(case: &BenchCase) -> String {
    let rate = case.rate.map_or_else(|| "full".to_owned(), short);
    format!("{:<7} {:>6} {rate:>6} {:>3}", case.engine.to_string(), short(case.bytes as f64), case.consumers)
}

const CASE_NAMES: &str = "engine   bytes   rate   n";

fn table(out: &mut impl Write, bench: &Bench, style: Style) -> io::Result<()> {
    writeln!(out, "{}", bench.host)?;
    for warning in bench.warnings() {
        writeln!(out, "{} {warning}", style.paint(33, "warning:"))?;
    }
    for what in [Measure::Latency, Measure::RoundTrip, Measure::Throughput] {
        let results: Vec<&BenchResult> = bench.results.iter().filter(|one| one.case.what == what).collect();
        let Some(first) = results.first() else { continue };
        let place = match first.case.transport {
            Transport::InProcess => "inside one process",
            Transport::Processes => "between two processes of this machine",
            Transport::Machines => "between two machines",
        };
        writeln!(out, "\n{}", style.bold(&format!("{what}, {place}")))?;
        if what.is_timed() {
            timed_rows(out, &results)?;
        } else {
            full_rows(out, &results)?;
        }
    }
    let names = names(bench);
    let curves = series(bench, &names);
    if !curves.is_empty() && curves.len() <= CURVES {
        writeln!(out)?;
        for line in plot::percentiles(&curves, style) {
            writeln!(out, "{line}")?;
        }
    }
    accounts(out, bench, style)?;
    for failed in &bench.failed {
        let head = style.paint(31, "not as expected:");
        writeln!(out, "{head} {}, in {}: {}", failed.expected, names[failed.result], failed.why)?;
    }
    Ok(())
}

fn timed_rows(out: &mut impl Write, results: &[&BenchResult]) -> io::Result<()> {
    write!(out, "{CASE_NAMES}")?;
    percentile_names(out)?;
    for result in results {
        let (Some(latency), Some(late)) = (&result.latency, &result.late) else { continue };
        write!(out, "{}", case_columns(&result.case))?;
        percentile_row(out, latency)?;
        write!(out, "{:<25}", "  sender late by")?;
        percentile_row(out, late)?;
    }
    Ok(())
}

fn full_rows(out: &mut impl Write, results: &[&BenchResult]) -> io::Result<()> {
    writeln!(out, "{CASE_NAMES} {:>14} {:>14} {:>10}", "a second", "fastest", "MB/s")?;
    for result in results {
        let slowest = result.slowest_rate().unwrap_or(0.0);
        let fastest = result.rates.iter().copied().fold(0.0, f64::max);
        writeln!(
            out,
            "{} {:>14} {:>14} {:>10.1}",
            case_columns(&result.case),
            grouped(slowest as u64),
            grouped(fastest as u64),
            slowest * result.case.bytes as f64 / 1e6
        )?;
    }
    Ok(())
}

/// What became of the datums of each combination, and on what it ran.
fn accounts(out: &mut impl Write, bench: &Bench, style: Style) -> io::Result<()> {
    writeln!(out, "\n{}", style.bold("datums, with those of the warm-up"))?;
    writeln!(
        out,
        "{CASE_NAMES} {:>10} {:>10} {:>6} {:>5} {:>7} {:>7} drivers",
        "sent", "received", "lost", "order", "damaged", "refused"
    )?;
    for result in &bench.results {
        let account = &result.account;
        writeln!(
            out,
            "{} {:>10} {:>10} {:>6} {:>5} {:>7} {:>7} {}",
            case_columns(&result.case),
            account.sent,
            account.received,
            account.lost,
            account.out_of_order,
            account.damaged,
            account.refused,
            drivers(result)
        )?;
        if let Some(why) = result.partial {
            writeln!(out, "{} the run above: {why}", style.paint(31, "partial:"))?;
        }
    }
    Ok(())
}

fn drivers(result: &BenchResult) -> String {
    match (&result.here.driver, &result.there.driver) {
        (here, there) if here == there => here.clone(),
        (here, there) => format!("{here}, {there}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::result::tests::result;
    use super::*;

    #[test]
    fn table_fits_its_columns_and_has_every_figure() {
        let bench = Bench {
            host: HostFacts::default(),
            planned: 2,
            results: vec![result(Measure::Latency), result(Measure::Throughput)],
            failed: vec![FailedExpectation {
                result: 0,
                expected: "p99<1us".into(),
                why: "it is 1 s".into(),
            }],
        };
        let mut out = Vec::new();
        table(&mut out, &bench, Style::PLAIN).unwrap();
        let text = String::from_utf8(out).unwrap();
        for word in ["latency, between two", "throughput, between", "p99.99", "sender late by", "a second"] {
            assert!(text.contains(word), "{word} is missing in\n{text}");
        }
        for word in ["sent", "lost", "refused", "uring, epoll", "p99<1us, in latency, hosted", "99.9%"] {
            assert!(text.contains(word), "{word} is missing in\n{text}");
        }
        let head = text.lines().find(|line| line.contains("p50")).unwrap();
        let row = text.lines().skip_while(|line| !line.contains("p50")).nth(1).unwrap();
        assert_eq!(head.len(), row.len(), "{head}\n{row}");
        assert_eq!(CASE_NAMES.len(), case_columns(&bench.results[0].case).len());
    }

    #[test]
    fn numbers_are_short() {
        for (number, text) in [
            (0.5, "0.50"),
            (64.0, "64"),
            (9_999.0, "9999"),
            (10_000.0, "10k"),
            (1.5e6, "1.50M"),
            (65_536.0, "65.5k"),
        ] {
            assert_eq!(short(number), text);
        }
    }
}
