//! The programs that are compared: the limit, corewire in each of its modes, by `corewire bench`, and peers.

use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use serde_json::Value;

use crate::limit;
use crate::machine::pin;
use crate::row::{Figures, PathCase, PathRun};

/// One column of the table.
pub(crate) enum Contender {
    Limit,
    #[cfg(feature = "quinn")]
    Quinn,
    #[cfg(feature = "zenoh")]
    Zenoh,
    /// `corewire bench`: the column's name, and its options.
    Corewire {
        program: PathBuf,
        name: &'static str,
        options: &'static [&'static str],
    },
}

/// A run on a thread of its own, so that the pinning ends with it.
fn on_a_pinned_thread(
    case: PathCase,
    cpus: [usize; 2],
    run: fn(&PathCase, [usize; 2]) -> PathRun,
) -> PathRun {
    let sender = thread::spawn(move || {
        pin(cpus[0]).map_err(|error| error.to_string())?;
        run(&case, cpus).map_err(|error| error.to_string())
    });
    sender.join().map_err(|_| "the sending thread has panicked")?.map_err(Into::into)
}

/// The program `corewire`: the one that is named, or the one beside this program.
pub(crate) fn program(named: Option<PathBuf>) -> Result<PathBuf, Box<dyn Error>> {
    let program = match named {
        Some(program) => program,
        None => env::current_exe()?.with_file_name("corewire"),
    };
    if !program.exists() {
        return Err(format!("{} is missing: cargo build --release", program.display()).into());
    }
    Ok(program)
}

impl Contender {
    /// The limit first: the others are compared with it.
    pub(crate) fn all(corewire: Option<PathBuf>) -> Result<Vec<Contender>, Box<dyn Error>> {
        let program = program(corewire)?;
        let mode = |name, options| Contender::Corewire { program: program.clone(), name, options };
        Ok(vec![
            Contender::Limit,
            mode("hosted, spinning", &["--engine", "hosted", "--idle", "spin"]),
            mode("hosted", &["--engine", "hosted"]),
            mode("threads", &["--engine", "threads"]),
            #[cfg(feature = "quinn")]
            Contender::Quinn,
            #[cfg(feature = "zenoh")]
            Contender::Zenoh,
        ])
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Contender::Limit => "limit",
            #[cfg(feature = "quinn")]
            Contender::Quinn => "quinn streams",
            #[cfg(feature = "zenoh")]
            Contender::Zenoh => "zenoh, TCP",
            Contender::Corewire { name, .. } => name,
        }
    }

    /// One run. Also its raw output.
    pub(crate) fn run(&self, case: &PathCase, cpus: [usize; 2]) -> PathRun {
        let (program, options) = match self {
            Contender::Limit => return on_a_pinned_thread(*case, cpus, limit::run),
            #[cfg(feature = "quinn")]
            Contender::Quinn => return on_a_pinned_thread(*case, cpus, crate::quinn_streams::run),
            #[cfg(feature = "zenoh")]
            Contender::Zenoh => return crate::zenoh_pubsub::run(case, cpus),
            Contender::Corewire { program, options, .. } => (program, options),
        };
        let what = if case.rate.is_some() { "latency" } else { "throughput" };
        let mut command = Command::new(program);
        command
            .args(["bench", what, "--json", "--quiet", "--size", &case.bytes.to_string()])
            .args(["--consumers", &case.consumers.to_string()])
            .args(["--duration", &format!("{}s", case.duration.as_secs_f64())])
            .args(["--cpus", &format!("{},{}", cpus[0], cpus[1])])
            .args(*options);
        if let Some(mib) = case.ring_mib {
            command.args(["--window", &format!("{mib}MiB")]);
        }
        if let Some(rate) = case.rate {
            command.args(["--rate", &rate.to_string()]);
        }
        let output = command.output()?;
        let raw = String::from_utf8(output.stdout)?;
        if !output.status.success() {
            return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        let json: Value = serde_json::from_str(&raw)?;
        let result = &json["results"][0];
        let micros = |name: &str| result["latency_ns"][name].as_f64().map(|ns| ns / 1e3);
        let rates = result["per_second"].as_array();
        // Of the slowest consumer.
        let rate = rates.and_then(|all| all.iter().filter_map(Value::as_f64).reduce(f64::min));
        let figures = Figures {
            p50: micros("p50"),
            p99: micros("p99"),
            rate: rate.map(|rate| rate / 1e6),
            lost: result["lost"].as_u64().ok_or("the result has no account")?,
        };
        Ok((figures, raw.trim_end().to_owned()))
    }
}
