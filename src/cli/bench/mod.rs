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
pub(crate) use self::args::{BENCH_EXAMPLES, BenchArgs};
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
    let files = ResultFiles::create(args, &cases)?;
    let mut bench = Bench { host: HostFacts::detect(), results: Vec::new(), failed: Vec::new() };
    let say = |line: &str| {
        if !args.quiet {
            term::note(line);
        }
    };
    for (index, case) in cases.iter().enumerate() {
        let seconds = case.duration.as_secs_f64();
        let begins = || say(&format!("{} of {}: {case}, {seconds} s", index + 1, cases.len()));
        let task = RunTask { args, case, interrupt: &interrupt, begins: &begins };
        let result = match case.transport {
            Transport::InProcess => task.in_process(),
            Transport::Processes => task.between_processes(),
            Transport::Machines => task.with_peer(),
        };
        match result {
            Ok(result) => bench.results.push(result),
            // Nothing of this combination was measured; those before are complete.
            Err(_) if interrupt.asked().is_some() => {}
            Err(failure) => return Err(failure),
        }
        if interrupt.asked().is_some() {
            break;
        }
    }
    let stopped = interrupt.asked();
    if stopped.is_none() {
        bench.judge(args);
    }
    output::print(&bench, args.json)?;
    files.write(&bench)?;
    if let Some(exit) = stopped {
        let done = bench.results.iter().filter(|result| !result.partial).count();
        return Err(Failure::new(
            exit,
            format!(
                "interrupted: {done} of {} results are complete{}",
                cases.len(),
                if args.expect.is_empty() { "" } else { ", and none was compared with --expect" }
            ),
        ));
    }
    if let [failed, ..] = &bench.failed[..] {
        let case = &bench.results[failed.result].case;
        return Err(Failure::new(
            Exit::Unexpected,
            format!("expected {}, and in {case} {}", failed.expected, failed.why),
        ));
    }
    match bench.results.iter().find(|result| result.partial) {
        Some(result) => Err(Failure::new(Exit::Failed, format!("the result of {} is partial", result.case))),
        None => Ok(Exit::Done),
    }
}

/// The CPU of the sending thread (0) or of the receiving one (1).
fn pin(args: &BenchArgs, end: usize) -> Result<(), Failure> {
    args.cpus.get(end).map_or(Ok(()), |&cpu| pin_thread(cpu))
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
    begins: &'a dyn Fn(),
}

impl RunTask<'_> {
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
                pin(args, 1)?;
                let waiter = BenchWaiter::without_engine(idle);
                // It ends when it is told to leave: a signal is for the end that sends.
                BenchServer::new(network, waiter, &Interrupt::default())?.serve(&|_| {})
            });
            let result = self.drive(&end, true);
            let panicked = |_| Failure::new(Exit::Failed, "the receiving thread has panicked");
            server.join().map_err(panicked)??;
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
        let _ = BenchServer::new(end.network(), end.waiter(), &parent_gone)?.serve(&|_| {})?;
        Exit::Done
    } else {
        let say = |line: &str| {
            if !args.quiet {
                term::note(line);
            }
        };
        let Facts { addresses, driver, cores, .. } = Facts::of(end.network());
        say(&format!("listening on {addresses} ({driver}, {mode}, {cores})"));
        HostFacts::detect().warnings().iter().for_each(|warning| term::note(&format!("warning: {warning}")));
        BenchServer::new(end.network(), end.waiter(), signals)?.serve(&say)?
    };
    end.leave();
    Ok(served)
}
