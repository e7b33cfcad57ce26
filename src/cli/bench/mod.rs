//! `corewire bench`: latency and throughput, measured with the library's public interface.
//!
//! One end sends and orders the runs (`drive`), the other receives and reports (`serve`). They are two
//! threads, two processes of this machine, or two machines; what they tell each other goes through streams.

mod args;
mod case;
mod clock;
mod drive;
mod end;
mod expect;
mod hgrm;
mod host;
mod json;
mod message;
mod output;
mod result;
mod serve;
mod svg;
mod tick;

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;

use clap::ValueEnum;
use corewire::{Network, NetworkId, network};

use self::args::EngineMode;
pub(crate) use self::args::{BENCH_EXAMPLES, BenchArgs, MAX_CONSUMERS};
use self::case::{BenchCase, Transport};
use self::drive::BenchDriver;
use self::end::{BenchEnd, BenchWaiter};
use self::host::{HostFacts, pin_thread};
use self::output::{Bench, ResultFiles};
use self::result::BenchResult;
use self::serve::BenchServer;
use super::exit::{Exit, Failure};
use super::node::{self, Facts};
use super::term;
use super::wait::Interrupt;

/// Runs the bench.
pub(crate) fn run(args: &BenchArgs) -> Result<Exit, Failure> {
    let interrupt = Interrupt::listen()?;
    if let Some(address) = args.listen {
        return listen(args, address, &interrupt);
    }
    let cases = case::cases(args)?;
    try_cpus(args)?;
    let files = ResultFiles::create(args, &cases)?;
    let host = HostFacts::detect();
    host.one_cpu().into_iter().for_each(|warning| term::warn(&warning));
    let mut bench = Bench { host, planned: cases.len(), results: Vec::new(), failed: Vec::new() };
    let broken = measure(args, &cases, &interrupt, &mut bench);
    if broken.is_none() {
        bench.judge(args);
    }
    if bench.results.is_empty()
        && interrupt.asked().is_none()
        && let Some(failure) = broken
    {
        return Err(failure);
    }
    let written = files.write(&bench).and(output::print(&bench, args.json).map_err(Failure::from));
    match (verdict(&bench, broken), written) {
        (Ok(exit), written) => written.map(|()| exit),
        (Err(verdict), written) => {
            // The verdict has the exit code: a reader who has gone does not change it.
            if let Err(failure) = written
                && failure.exit != Exit::Done
            {
                term::note(&failure.to_string());
            }
            Err(verdict)
        }
    }
}

/// Runs one combination after the other. Returns why not all of them were measured.
fn measure(
    args: &BenchArgs,
    cases: &[BenchCase],
    interrupt: &Interrupt,
    bench: &mut Bench,
) -> Option<Failure> {
    for (index, case) in cases.iter().enumerate() {
        let begins = || {
            if !args.quiet {
                let seconds = case.duration.as_secs_f64();
                term::note(&format!("{} of {}: {case}, {seconds} s", index + 1, cases.len()));
            }
        };
        let result = RunTask { args, case, interrupt, begins: &begins }.run();
        if let Some(exit) = interrupt.asked() {
            // If it failed, nothing of this combination was measured.
            bench.results.extend(result.ok());
            let done = bench.results.iter().filter(|result| result.partial.is_none()).count();
            let unjudged = if args.expect.is_empty() { "" } else { ", and none was compared with --expect" };
            let cause = format!("interrupted: {done} of {} results are complete{unjudged}", cases.len());
            return Some(Failure::new(exit, cause));
        }
        match result {
            Ok(result) => bench.results.push(result),
            Err(failure) if index == 0 => return Some(failure),
            Err(Failure { exit, cause, cure }) => {
                let cause = format!("{case}: {cause}; {index} of {} results are complete", cases.len());
                return Some(Failure { exit, cause, cure });
            }
        }
    }
    None
}

/// The outcome of what was measured. `broken`: why that is not everything.
fn verdict(bench: &Bench, broken: Option<Failure>) -> Result<Exit, Failure> {
    if let Some(failure) = broken {
        return Err(failure);
    }
    if let [failed, ..] = &bench.failed[..] {
        let case = &bench.results[failed.result].case;
        return Err(Failure::new(
            Exit::Unexpected,
            format!("expected {}, and in {case} {}", failed.expected, failed.why),
        ));
    }
    match bench.results.iter().find_map(|result| Some((&result.case, result.partial?))) {
        Some((case, why)) => {
            Err(Failure::new(Exit::Failed, format!("the result of {case} is partial: {why}")))
        }
        None => Ok(Exit::Done),
    }
}

/// The CPU of the sending thread (0) or of the receiving one (1).
fn pin(args: &BenchArgs, end: usize) -> Result<(), Failure> {
    args.cpus.get(end).map_or(Ok(()), |&cpu| pin_thread(cpu))
}

/// Fails if a CPU of `--cpus` can't be used. In a run, the other end would wait for that thread to its limit.
fn try_cpus(args: &BenchArgs) -> Result<(), Failure> {
    let each = || (0..args.cpus.len()).try_for_each(|end| pin(args, end));
    // On a thread that ends.
    thread::scope(|scope| scope.spawn(each).join()).unwrap_or_else(|_| Err(panicked()))
}

fn panicked() -> Failure {
    Failure::new(Exit::Failed, "a thread of the bench has panicked")
}

fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// One combination on its way to a result.
struct RunTask<'a> {
    args: &'a BenchArgs,
    case: &'a BenchCase,
    interrupt: &'a Interrupt,
    /// Called when the ends are connected.
    begins: &'a (dyn Fn() + Sync),
}

impl RunTask<'_> {
    /// On a thread of its own, which may be pinned. The engine of the next combination and the process that
    /// receives must not be confined to its CPU.
    fn run(&self) -> Result<BenchResult, Failure> {
        let run = || match self.case.transport {
            Transport::InProcess => self.in_process(),
            Transport::Processes => self.between_processes(),
            Transport::Machines => self.with_peer(),
        };
        thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|_| Err(panicked()))
    }

    fn start(&self, builder: network::Builder) -> Result<BenchEnd, Failure> {
        let RunTask { case, .. } = self;
        BenchEnd::start(builder, (case.engine, case.io, case.idle), None)
    }

    /// One run from this end. `dismiss`: the other end is told to leave, whatever became of the run.
    fn drive(&self, end: &BenchEnd, dismiss: bool) -> Result<BenchResult, Failure> {
        let mut driver = BenchDriver::new(end.network(), end.waiter(), self.interrupt)?;
        let result = pin(self.args, 0).and_then(|()| driver.run(self.case, self.begins));
        if dismiss {
            driver.dismiss();
        }
        result
    }

    /// Both ends on one node: datums stay in the producer's ring.
    fn in_process(&self) -> Result<BenchResult, Failure> {
        let end = self.start(Network::builder(NetworkId::random()))?;
        let (network, args, idle) = (end.network(), self.args, self.case.idle);
        let result = thread::scope(|scope| {
            let server = scope.spawn(move || {
                let host = HostFacts::detect();
                pin(args, 1)?;
                let waiter = BenchWaiter::without_engine(idle);
                // It ends when it is told to leave: a signal is for the end that sends.
                BenchServer::new(network, waiter, &Interrupt::default(), host)?.serve(&|_| {})
            });
            let result = self.drive(&end, true);
            server.join().map_err(|_| panicked())??;
            result
        });
        end.leave();
        result
    }

    fn between_processes(&self) -> Result<BenchResult, Failure> {
        // A name that is not guessed is enough to keep others out.
        let name = NetworkId::random().to_string();
        let (other, address) = OtherProcess::start(self.args, self.case, &name)?;
        let end = self.start(Network::builder(NetworkId::from(name.as_str())).with_bootstrap([address]))?;
        let result = self.drive(&end, true);
        // The other process leaves while this one is turned.
        end.leave();
        drop(other);
        result
    }

    fn with_peer(&self) -> Result<BenchResult, Failure> {
        let peer = self.args.peer.as_deref();
        let end = self.start(builder(self.args, self.interrupt)?.with_bootstrap(peer))?;
        let result = self.drive(&end, false);
        end.leave();
        result
    }
}

/// A process of this program that receives. It ends with its standard input, so it does not outlive this one.
struct OtherProcess(Child);

impl OtherProcess {
    /// Starts it, and returns the address that it listens on.
    fn start(
        args: &BenchArgs,
        case: &BenchCase,
        network: &str,
    ) -> Result<(OtherProcess, SocketAddr), Failure> {
        let name = |value: &dyn ToString| value.to_string();
        let io = case.io.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        let mut command = Command::new(env::current_exe()?);
        command
            .args(["bench", "--child", "--listen", &name(&loopback()), "--network", network])
            .args(["--engine", &name(&case.engine), "--io", &io, "--idle", &name(&case.idle)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C is for this process, which gets the other one's results.
            .process_group(0);
        if let Some(cpu) = args.cpus.get(1) {
            command.args(["--cpus", &name(cpu)]);
        }
        let mut child = command.spawn()?;
        let stdout = child.stdout.take();
        let other = OtherProcess(child);
        let mut line = String::new();
        if let Some(stdout) = stdout {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let address = line.trim().parse().map_err(|_| {
            Failure::new(Exit::CannotStart, "the receiving process did not start; its message is above")
        })?;
        Ok((other, address))
    }
}

impl Drop for OtherProcess {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn builder(args: &BenchArgs, interrupt: &Interrupt) -> Result<network::Builder, Failure> {
    let builder = Network::builder(NetworkId::from(args.network.as_str()));
    match &args.secret_file {
        Some(path) => Ok(builder.with_network_secret(node::secret(path, interrupt)?)),
        None => Ok(builder),
    }
}

/// The end that receives, in a process of its own.
fn listen(args: &BenchArgs, address: SocketAddr, signals: &Interrupt) -> Result<Exit, Failure> {
    case::check_cpus(args)?;
    let mode = match args.engine[..] {
        [] => EngineMode::Hosted,
        [mode] => mode,
        _ => {
            return Err(
                Failure::new(Exit::Usage, "an end that listens has one engine").cure("--engine hosted")
            );
        }
    };
    let builder = builder(args, signals)?.with_addresses([address]);
    let end = BenchEnd::start(builder, (mode, args.io, args.idle), Some(address))?;
    // Asked before the thread is pinned: afterwards it would know its own CPU only.
    let host = HostFacts::detect();
    pin(args, 0)?;
    let served = if args.child {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", end.network().local().addresses()[0])?;
        out.flush()?;
        drop(out);
        let parent_gone = Interrupt::default();
        let ask = parent_gone.clone();
        thread::Builder::new().name("corewire-parent".into()).spawn(move || {
            let _ = io::stdin().lock().read_to_end(&mut Vec::new());
            ask.ask();
        })?;
        let _ = BenchServer::new(end.network(), end.waiter(), &parent_gone, host)?.serve(&|_| {})?;
        Exit::Done
    } else {
        let say = |line: &str| {
            if !args.quiet {
                term::note(line);
            }
        };
        let Facts { addresses, driver, cores, warnings, .. } = Facts::of(end.network());
        say(&format!("listening on {addresses} ({driver}, {mode}, {cores})"));
        host.warnings().iter().chain(&warnings).for_each(|warning| term::warn(warning));
        BenchServer::new(end.network(), end.waiter(), signals, host)?.serve(&say)?
    };
    end.leave();
    Ok(served)
}
