//! `corewire bench`: what it measures, how it reports, and how it ends.

use std::fs;
use std::net::UdpSocket;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::rig::*;

/// A short bench, with its results as JSON.
fn bench(options: &[&str]) -> (Output, Value) {
    let output = run(&[&["bench", "--json", "--duration", "50ms"], options].concat());
    let json = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}\n{}", text(&output.stdout), text(&output.stderr)));
    (output, json)
}

fn results(json: &Value) -> &[Value] {
    json["results"].as_array().unwrap()
}

/// Every datum was received once, in order.
fn check_account(result: &Value) {
    let count = |name: &str| result[name].as_u64().unwrap();
    assert!(count("sent") > count("warm_up"), "{result}");
    assert_eq!(count("received"), count("sent") * count("consumers"), "{result}");
    assert_eq!((count("lost"), count("out_of_order"), count("damaged")), (0, 0, 0), "{result}");
    assert_eq!(result["partial"], false);
}

#[test]
fn bench_measures_every_combination_of_processes() {
    let (output, json) = bench(&["--rate", "1k", "--size", "24,100", "--io", "epoll"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let results = results(&json);
    assert_eq!(results.len(), 8);
    for result in results {
        check_account(result);
        assert_eq!(
            (&result["sender"]["driver"], &result["transport"]),
            (&"epoll".into(), &"processes".into())
        );
    }
    for (measure, figure) in [("latency", "latency_ns"), ("throughput", "per_second")] {
        for engine in ["hosted", "threads"] {
            let found = |one: &&Value| one["measure"] == measure && one["engine"] == engine;
            assert_eq!(results.iter().filter(found).filter(|one| !one[figure].is_null()).count(), 2);
        }
    }
    let timed = &results[0];
    assert_eq!(timed["latency_ns"]["count"].as_u64(), Some(50), "the warm-up is not measured");
    assert_eq!(timed["warm_up"].as_u64(), Some(200));
    assert!(timed["latency_ns"]["max"].as_u64() >= timed["latency_ns"]["p50"].as_u64());
    assert!(json["host"]["kernel"].is_string() && json["host"]["usable_cpus"].is_u64());
    assert!(text(&output.stderr).contains("1 of 8: latency, hosted, 24 B, 1,000/s"));
}

#[test]
fn bench_measures_round_trips_and_fan_out_inside_a_process() {
    for engine in ["hosted", "threads"] {
        let options = ["--in-process", "--engine", engine, "--rate", "2k", "--consumers", "1,3"];
        let (output, json) = bench(&[&options[..], &["latency", "round-trip", "throughput"]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        // A round trip has one consumer.
        assert_eq!(results(&json).len(), 5);
        for result in results(&json) {
            check_account(result);
            assert_eq!(result["transport"], "in-process");
            if result["measure"] == "throughput" {
                assert_eq!(result["per_second"].as_array().unwrap().len() as u64, result["consumers"]);
            }
        }
    }
}

#[test]
fn round_trip_does_not_depend_on_the_pause_between_datums() {
    let options = ["bench", "round-trip", "--in-process", "--engine", "threads", "--rate", "20"];
    let output = run(&[&options[..], &["--duration", "500ms", "--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    // The least of ten: a busy machine delays some of them.
    let least = results(&json)[0]["latency_ns"]["min"].as_u64().unwrap();
    assert!(least < 25_000_000, "{least} ns of the 50 ms between two datums");
}

/// The CPUs that this process may use.
fn usable_cpus() -> Vec<String> {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    let range = |part: &str| -> Vec<String> {
        let (first, last) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
        let bound = |text: &str| text.parse::<u32>().unwrap();
        (bound(first)..=bound(last)).map(|cpu| cpu.to_string()).collect()
    };
    list.split(',').flat_map(range).collect()
}

#[test]
fn pinned_threads_confine_neither_engine_nor_later_combinations() {
    let cpus = usable_cpus();
    let pinned = [&cpus[0], cpus.last().unwrap()].map(String::as_str).join(",");
    let options = ["latency", "--engine", "threads", "--rate", "1k,2k", "--cpus", &pinned];
    for place in [&[][..], &["--in-process"]] {
        let (output, json) = bench(&[&options[..], place].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_eq!(results(&json).len(), 2);
        let warnings = json["warnings"].to_string();
        let confined = warnings.contains("CPU only") || warnings.contains("on CPU");
        assert_eq!(confined, cpus.len() == 1, "{place:?}: {warnings}");
    }
}

#[test]
fn sender_that_does_not_keep_its_rate_ends_in_time() {
    let options = ["latency", "--in-process", "--engine", "threads", "--rate", "1000M"];
    let (output, json) = bench(&options);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("the rate was not reached"), "{}", text(&output.stderr));
    assert_eq!(json["partial"], true);
    let mut bench = start(&[&["bench", "--duration", "1h", "--json"], &options[..]].concat());
    bench.wait_for_line("1 of 1");
    bench.signal("INT");
    let ended = bench.end();
    assert_eq!(ended.code(), Some(130), "{}", ended.stderr);
    let json: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(results(&json).len(), 1, "{json}");
}

#[test]
fn failed_combination_leaves_the_results_of_those_before() {
    let mut peer = start(&["bench", "--listen", "127.0.0.1:0"]);
    let address = peer.address();
    let options = ["bench", "round-trip", "--json", "--engine", "hosted", "--duration", "2s"];
    let mut bench = start(&[&options[..], &["--rate", "1k,2k", "--peer", &address]].concat());
    bench.wait_for_line("2 of 2");
    peer.child.kill().unwrap();
    let ended = bench.end();
    assert_eq!(ended.code(), Some(1), "{}", ended.stderr);
    let json: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!((results(&json).len(), &json["partial"]), (1, &Value::Bool(true)), "{json}");
    check_account(&results(&json)[0]);
    assert!(ended.stderr.contains("1 of 2 results are complete"), "{}", ended.stderr);
}

#[test]
fn closed_output_does_not_hide_a_failed_expectation() {
    let folder = tempfile::tempdir().unwrap();
    let svg = folder.path().join("out.svg");
    let options = ["bench", "latency", "--in-process", "--engine", "threads", "--duration", "50ms"];
    let mut bench = program(&[&options[..], &["--expect", "p50<1ns", "--svg", path(&svg)]].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(bench.stdout.take());
    let ended = bench.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(5), "{}", text(&ended.stderr));
    assert!(fs::read_to_string(&svg).unwrap().trim_end().ends_with("</svg>"));
}

#[test]
fn end_that_listens_hears_a_signal_whatever_became_of_the_other() {
    let mut peer = start(&["bench", "--listen", "127.0.0.1:0"]);
    let address = peer.address();
    let options = ["bench", "round-trip", "--engine", "threads", "--duration", "1h", "--rate", "1M"];
    let mut driver = start(&[&options[..], &["--window", "1MiB", "--peer", &address]].concat());
    driver.wait_for_line("1 of 1");
    // So that ticks of the measurement are on their way.
    pass_time(Duration::from_millis(500));
    driver.child.kill().unwrap();
    peer.signal("TERM");
    let since = Instant::now();
    assert_eq!(peer.end().code(), Some(143), "a run was broken");
    assert!(since.elapsed() < Duration::from_secs(10), "took {:?}", since.elapsed());
}

#[test]
fn bench_waits_in_each_way_and_takes_windows_and_processors() {
    for idle in ["park", "spin", "adaptive"] {
        let options = ["round-trip", "latency", "throughput", "--rate", "1k", "--idle", idle];
        let (output, json) =
            bench(&[&options[..], &["--engine", "hosted", "--window", "64KiB", "--quiet"]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
        assert_eq!(results(&json).len(), 3);
        for result in results(&json) {
            check_account(result);
            assert_eq!((&result["idle"], &result["window"]), (&idle.into(), &65_536.into()));
        }
    }
    let first = usable_cpus().swap_remove(0);
    for cpus in ["100000", &format!("{first},100000")] {
        let since = Instant::now();
        let output = run(&["bench", "latency", "--in-process", "--duration", "10ms", "--cpus", cpus]);
        assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("CPU 100000"), "{}", text(&output.stderr));
        assert!(since.elapsed() < Duration::from_secs(10), "the other end is not waited for");
    }
}

#[test]
fn bench_with_a_peer_measures_round_trips() {
    let mut peer = start(&["bench", "--listen", "127.0.0.1:0", "--engine", "threads"]);
    let address = peer.address();
    for expected in [2, 1] {
        let what = if expected == 1 { vec!["throughput"] } else { vec![] };
        let (output, json) =
            bench(&[&["--peer", &address, "--rate", "1k", "--engine", "hosted"], &what[..]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_eq!(results(&json).len(), expected);
        results(&json).iter().for_each(check_account);
        assert_eq!(results(&json)[0]["transport"], "machines");
    }
    peer.wait_for_line("throughput");
    peer.signal("TERM");
    assert_eq!(peer.end().code(), Some(0), "its ordinary end");
}

#[test]
fn bench_without_a_peer_gives_up_with_a_cure() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let output = run(&["bench", "throughput", "--peer", &address, "--engine", "hosted"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("--listen"), "{}", text(&output.stderr));
}

#[test]
fn bench_fails_with_its_own_code_when_a_result_is_not_as_expected() {
    let options = ["latency", "--in-process", "--engine", "threads", "--rate", "1k"];
    let (met, json) = bench(&[&options[..], &["--expect", "p99<1h,loss=0,received>=50,min>0ns"]].concat());
    assert_eq!(met.status.code(), Some(0), "{}", text(&met.stderr));
    assert_eq!(json["failed_expectations"].as_array().unwrap().len(), 0);
    let (unmet, json) = bench(&[&options[..], &["--expect", "p50<1ns,loss=0"]].concat());
    assert_eq!(unmet.status.code(), Some(5), "{}", text(&unmet.stderr));
    assert_eq!(json["failed_expectations"][0]["expected"], "p50<1ns");
    assert!(text(&unmet.stderr).contains("expected p50<1ns"), "{}", text(&unmet.stderr));
}

#[test]
fn bench_names_bad_values_and_combinations_before_it_measures() {
    for (options, hint) in [
        (&["--expect", "p99"][..], "no comparison"),
        (&["--expect", "speed<1"], "no figure"),
        (&["--expect", "p99<50"], "unit is missing"),
        (&["throughput", "--expect", "p99<1ms"], "throughput has no such figure"),
        (&["latency", "--peer", "127.0.0.1:9"], "common clock"),
        (&["--size", "8"], "24 bytes"),
        (&["--consumers", "1025"], "1 to 1024"),
        (&["--engine", "both"], "hosted"),
        (&["round-trip", "--consumers", "4"], "one consumer"),
        (&["throughput", "--svg", "x.svg"], "no percentiles"),
        (&["--listen", "127.0.0.1:0", "--json"], "cannot be used"),
        (&["--listen", "127.0.0.1:0", "--engine", "hosted,threads"], "one engine"),
    ] {
        let output = run(&[&["bench"], options].concat());
        assert_eq!(output.status.code(), Some(2), "{options:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(hint), "{options:?}: {}", text(&output.stderr));
    }
    let output = run(&["bench", "latency", "--hgrm", "no/such/folder/x.hgrm"]);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
}

#[test]
fn bench_writes_percentile_files_and_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let (hgrm, svg) = (folder.path().join("out.hgrm"), folder.path().join("out.svg"));
    let options = ["bench", "latency", "--in-process", "--rate", "1k,2k", "--duration", "50ms"];
    let files = ["--engine", "threads", "--hgrm", path(&hgrm), "--svg", path(&svg)];
    let output = run(&[&options[..], &files].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let out = text(&output.stdout);
    for word in ["p99.99", "latency, inside one process", "Linux", "lost", "99.9%"] {
        assert!(out.contains(word), "`{word}` is missing in\n{out}");
    }
    for rate in ["1000", "2000"] {
        let file = folder.path().join(format!("out-latency-threads-64B-{rate}-1.hgrm"));
        let percentiles = fs::read_to_string(&file).unwrap();
        assert!(percentiles.trim_start().starts_with("Value"), "{percentiles}");
        assert!(percentiles.contains("#[Max     ="), "{percentiles}");
    }
    let picture = fs::read_to_string(&svg).unwrap();
    assert!(picture.starts_with("<svg ") && picture.trim_end().ends_with("</svg>"), "{picture}");
    assert_eq!(picture.matches("<polyline").count(), 2);
}

#[test]
fn interrupted_bench_reports_what_it_has_and_marks_it() {
    let mut bench = start(&["bench", "latency", "--json", "--engine", "hosted", "--duration", "1h"]);
    bench.wait_for_line("1 of 1");
    bench.signal("INT");
    let ended = bench.end();
    assert_eq!(ended.code(), Some(130), "{}", ended.stderr);
    let json: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(json["partial"], true, "{json}");
    let result = &results(&json)[0];
    assert!(result["received"] == result["sent"] && result["lost"] == 0, "{result}");
    assert!(ended.stderr.contains("0 of 1 results are complete"), "{}", ended.stderr);
}
