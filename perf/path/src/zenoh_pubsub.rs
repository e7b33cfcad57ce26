//! A peer: publish/subscribe of zenoh over TCP, in clear text, one session for each consumer.
//!
//! A publisher waits when there is no room (`CongestionControl::Block`), so that nothing is lost, as with
//! corewire. The rest is zenoh's defaults, but peers are not looked for. Its runtimes have several threads,
//! so nothing is pinned; the sending thread yields until a datum is due.

use std::collections::HashSet;
use std::env;
use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use zenoh::qos::CongestionControl;
use zenoh::{Config, Session, Wait};

use crate::limit::{ReceiverProcess, WARM_UP_TIME};
use crate::machine::now;
use crate::row::{PathCase, PathRun};
use crate::tally::{Taken, UNTIMED, WARM_UP, figures, write_datum};

const KEY: &str = "corewire/perf/path";
/// The payload that shows a consumer that it is connected, and the one after the last datum.
const HELLO: &[u8] = b"h";
const END: &[u8] = b"end";
/// How long consumers may take to connect.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// Datums at full speed between two looks at the clock.
const LOOK_EVERY: u64 = 64;

fn session(endpoints: &str, address: &str) -> Result<Session, Box<dyn Error>> {
    let mut config = Config::default();
    let mut set = |key: &str, value: &str| config.insert_json5(key, value).map_err(|error| error.to_string());
    set("mode", "\"peer\"")?;
    set("scouting/multicast/enabled", "false")?;
    set("listen/endpoints", "[]")?;
    set(endpoints, &format!("[\"tcp/{address}\"]"))?;
    Ok(zenoh::open(config).wait().map_err(|error| error.to_string())?)
}

/// What one consumer has seen besides datums.
enum Seen {
    Hello(usize),
    End(usize),
}

/// The receiving process: connects to `address`, tells when all consumers are connected, receives until each
/// has seen the end, and tells what it received.
pub(crate) fn receive(consumers: usize, address: &str) -> Result<(), Box<dyn Error>> {
    let taken = Arc::new(Mutex::new(Taken::new()));
    let (seen, news) = mpsc::channel();
    let mut sessions = Vec::new();
    for index in 0..consumers {
        let session = session("connect/endpoints", address)?;
        let (taken, seen) = (taken.clone(), seen.clone());
        let subscriber = session.declare_subscriber(KEY).callback(move |sample| {
            let payload = sample.payload().to_bytes();
            match &*payload {
                HELLO => drop(seen.send(Seen::Hello(index))),
                END => drop(seen.send(Seen::End(index))),
                datum => {
                    let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
                    taken.datum(datum);
                    taken.batch_ends();
                }
            }
        });
        let subscriber = subscriber.wait().map_err(|error| error.to_string())?;
        sessions.push((session, subscriber));
    }
    let (mut connected, mut ended) = (HashSet::new(), HashSet::new());
    while ended.len() < consumers {
        match news.recv()? {
            Seen::Hello(index) if connected.insert(index) && connected.len() == consumers => {
                writeln!(io::stdout(), "connected")?;
            }
            Seen::Hello(_) => {}
            Seen::End(index) => drop(ended.insert(index)),
        }
    }
    let taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
    writeln!(io::stdout(), "{}", taken.report())?;
    Ok(())
}

/// One run: this thread sends.
pub(crate) fn run(case: &PathCase, _cpus: [usize; 2]) -> PathRun {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let session = session("listen/endpoints", &address)?;
    let publisher = session.declare_publisher(KEY).congestion_control(CongestionControl::Block);
    let publisher = publisher.wait().map_err(|error| error.to_string())?;
    let put = |payload: &[u8]| publisher.put(payload).wait().map_err(|error| error.to_string());
    let mut child = Command::new(env::current_exe()?)
        .args(["receive", "--zenoh", &address, "--consumers", &case.consumers.to_string()])
        .args(["--bytes", &case.bytes.to_string(), "--cpu", "0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let answers = BufReader::new(child.stdout.take().ok_or("no output")?);
    let _receiver = ReceiverProcess(child);
    let (tell, lines) = mpsc::channel();
    thread::spawn(move || answers.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
    let until = Instant::now() + CONNECT_LIMIT;
    loop {
        put(HELLO)?;
        match lines.recv_timeout(Duration::from_millis(1)) {
            Ok(_connected) => break,
            Err(RecvTimeoutError::Timeout) if Instant::now() < until => {}
            Err(_) => return Err("zenoh's consumers did not connect".into()),
        }
    }
    let mut datum = vec![0; case.bytes];
    let mut sent = 0;
    for (time, measured) in [(WARM_UP_TIME, false), (case.duration, true)] {
        match case.rate {
            Some(rate) => {
                let start = now() + 1_000_000;
                for index in 0..(rate * time.as_secs_f64()) as u64 {
                    let due = start + (index as f64 * 1e9 / rate) as u64;
                    while now() < due {
                        thread::yield_now();
                    }
                    write_datum(&mut datum, sent, if measured { due } else { WARM_UP });
                    put(&datum)?;
                    sent += 1;
                }
            }
            None => {
                let until = Instant::now() + time;
                while Instant::now() < until {
                    for _ in 0..LOOK_EVERY {
                        write_datum(&mut datum, sent, if measured { UNTIMED } else { WARM_UP });
                        put(&datum)?;
                        sent += 1;
                    }
                }
            }
        }
    }
    put(END)?;
    let line = lines.recv_timeout(CONNECT_LIMIT)?;
    session.close().wait().map_err(|error| error.to_string())?;
    figures(case, sent * case.consumers as u64, &line)
}
