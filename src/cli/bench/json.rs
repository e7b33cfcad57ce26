//! The results as JSON.
//!
//! Written by hand: the program has no other use for a library that does it.

use std::fmt::Write;

use hdrhistogram::Histogram;

use super::host::HostFacts;
use super::message::EndFacts;
use super::output::Bench;
use super::result::BenchResult;
use crate::cli::latency::PERCENTILES;

/// An object or array that is being written.
struct Json(String);

/// `text` as a JSON string.
fn string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => drop(write!(out, "\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A number; what JSON can't express is null.
fn number(value: f64) -> String {
    if value.is_finite() { value.to_string() } else { "null".to_owned() }
}

fn array(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(","))
}

impl Json {
    fn object() -> Json {
        Json("{".to_owned())
    }

    fn field(mut self, name: &str, value: impl AsRef<str>) -> Json {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        let _ = write!(self.0, "{}:{}", string(name), value.as_ref());
        self
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// All of it, in one line.
pub(crate) fn document(bench: &Bench) -> String {
    Json::object()
        .field("corewire", string(env!("CARGO_PKG_VERSION")))
        .field("debug_build", cfg!(debug_assertions).to_string())
        .field("partial", bench.is_partial().to_string())
        .field("host", host(&bench.host))
        .field("warnings", array(bench.warnings().iter().map(|warning| string(warning))))
        .field("results", array(bench.results.iter().map(|one| result(one, bench))))
        .field(
            "failed_expectations",
            array(bench.failed.iter().map(|failed| {
                Json::object()
                    .field("result", failed.result.to_string())
                    .field("expected", string(&failed.expected))
                    .field("why", string(&failed.why))
                    .end()
            })),
        )
        .end()
}

fn host(facts: &HostFacts) -> String {
    Json::object()
        .field("processor", string(&facts.processor))
        .field("cpus", facts.cpus.to_string())
        .field("usable_cpus", facts.usable_cpus.to_string())
        .field("kernel", string(&facts.kernel))
        .field("governor", facts.governor.as_ref().map_or_else(|| "null".to_owned(), |name| string(name)))
        .field("virtual_machine", facts.virtual_machine.to_string())
        .field("load", number(facts.load))
        .end()
}

fn end_of(facts: &EndFacts, host: Option<&HostFacts>) -> String {
    let end = Json::object().field("driver", string(&facts.driver)).field("cores", string(&facts.cores));
    match host {
        Some(facts) => end.field("host", self::host(facts)).end(),
        None => end.end(),
    }
}

fn result(one: &BenchResult, bench: &Bench) -> String {
    let (case, account) = (&one.case, &one.account);
    let elsewhere = (one.there_host.kernel != bench.host.kernel
        || one.there_host.processor != bench.host.processor)
        .then_some(&one.there_host);
    let object = Json::object()
        .field("measure", string(&case.what.to_string()))
        .field("transport", string(&case.transport.to_string()))
        .field("engine", string(&case.engine.to_string()))
        .field("bytes", case.bytes.to_string())
        .field("rate", case.rate.map_or_else(|| "null".to_owned(), number))
        .field("consumers", case.consumers.to_string())
        .field("seconds", number(case.duration.as_secs_f64()))
        .field("idle", string(&case.idle.to_string()))
        .field("window", case.window.map_or_else(|| "null".to_owned(), |bytes| bytes.to_string()))
        .field("sender", end_of(&one.here, None))
        .field("receiver", end_of(&one.there, elsewhere))
        .field("partial", one.partial.is_some().to_string())
        .field("sent", account.sent.to_string())
        .field("warm_up", account.warm_up.to_string())
        .field("received", account.received.to_string())
        .field("lost", account.lost.to_string())
        .field("out_of_order", account.out_of_order.to_string())
        .field("damaged", account.damaged.to_string())
        .field("refused", account.refused.to_string());
    let object = match (&one.latency, &one.late) {
        (Some(latency), Some(late)) => {
            object.field("latency_ns", percentiles(latency)).field("sender_late_ns", percentiles(late))
        }
        _ => object.field("per_second", array(one.rates.iter().map(|&rate| number(rate.round())))),
    };
    object.end()
}

fn percentiles(histogram: &Histogram<u64>) -> String {
    let object = Json::object()
        .field("count", histogram.len().to_string())
        .field("min", histogram.min().to_string())
        .field("mean", number(histogram.mean().round()));
    PERCENTILES
        .iter()
        .fold(object, |object, (name, quantile)| {
            object.field(name, histogram.value_at_quantile(*quantile).to_string())
        })
        .field("max", histogram.max().to_string())
        .end()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::args::Measure;
    use super::super::output::FailedExpectation;
    use super::super::result::tests::result;
    use super::*;

    #[test]
    fn document_parses_and_has_every_figure() {
        let mut partial = result(Measure::Throughput);
        partial.partial = Some("it was interrupted");
        let mut bench = Bench {
            host: HostFacts { processor: "a \"b\" \\ c\n".to_owned(), ..HostFacts::default() },
            planned: 2,
            results: vec![result(Measure::Latency), partial],
            failed: vec![FailedExpectation {
                result: 0,
                expected: "p99<1us".to_owned(),
                why: "it is 1 s".to_owned(),
            }],
        };
        let json: Value = serde_json::from_str(&document(&bench)).unwrap();
        assert_eq!(json["host"]["processor"], "a \"b\" \\ c\n");
        assert_eq!((&json["partial"], &json["host"]["governor"]), (&Value::Bool(true), &Value::Null));
        let [timed, full] = [&json["results"][0], &json["results"][1]];
        assert_eq!((&timed["sent"], &timed["rate"]), (&1_000.into(), &10_000.into()));
        assert_eq!(timed["latency_ns"]["count"], 1_000);
        assert!(timed["latency_ns"]["p99.9"].as_u64() > timed["latency_ns"]["p50"].as_u64());
        assert_eq!((&full["per_second"][0], &full["partial"]), (&1_000.into(), &Value::Bool(true)));
        assert_eq!(json["failed_expectations"][0]["expected"], "p99<1us");
        bench.results.pop();
        let json: Value = serde_json::from_str(&document(&bench)).unwrap();
        assert_eq!(json["partial"], true, "one combination of two was not measured");
    }

    #[test]
    fn strings_and_numbers_are_valid_for_any_value() {
        for text in ["", "a\tb", "\u{1}\u{1f}", "µs \"quoted\" \\"] {
            assert_eq!(serde_json::from_str::<String>(&string(text)).unwrap(), text);
        }
        for value in [0.5, 1e300, f64::NAN, f64::INFINITY] {
            serde_json::from_str::<Value>(&number(value)).unwrap();
        }
    }
}
