//! A peer: unidirectional QUIC streams of quinn, one for each consumer, in one connection.
//!
//! Both ends run tokio on the one thread of their process, pinned. Default transport settings. A datum is its
//! bytes, without a length, since all have the same. At a rate it is one write; at full speed a write has
//! many, as of a program that buffers.

use std::cell::RefCell;
use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fmt::Write as _};

use quinn::rustls::RootCertStore;
use quinn::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use quinn::{ClientConfig, Endpoint, RecvStream, SendStream, ServerConfig};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{LocalSet, spawn_local, yield_now};

use crate::limit::{ReceiverProcess, WARM_UP_TIME};
use crate::machine::{now, pin};
use crate::row::{PathCase, PathRun};
use crate::tally::{Taken, UNTIMED, WARM_UP, figures, write_datum};

/// Bytes that a stream is read by.
const READ: usize = 64 * 1024;
/// Datums of a write at full speed, between two looks at the clock.
const LOOK_EVERY: usize = 64;

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// The receiving process: tells its port and its certificate, receives until the streams end, and tells what
/// it received.
pub(crate) fn receive(consumers: usize, bytes: usize, cpu: usize) -> Result<(), Box<dyn Error>> {
    pin(cpu)?;
    LocalSet::new().block_on(&runtime()?, async {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let certificate = made.cert.der().clone();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let config = ServerConfig::with_single_cert(vec![certificate.clone()], key.into())?;
        let endpoint = Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into())?;
        let mut line = format!("{} ", endpoint.local_addr()?.port());
        certificate.iter().try_for_each(|byte| write!(line, "{byte:02x}"))?;
        writeln!(io::stdout(), "{line}")?;
        let connection = endpoint.accept().await.ok_or("no connection")?.await?;
        let taken = Rc::new(RefCell::new(Taken::new()));
        let mut readers = Vec::new();
        for _ in 0..consumers {
            let stream = connection.accept_uni().await?;
            readers.push(spawn_local(read(stream, bytes, taken.clone())));
        }
        for reader in readers {
            reader.await??;
        }
        writeln!(io::stdout(), "{}", taken.borrow().report())?;
        Ok(())
    })
}

async fn read(
    mut stream: RecvStream,
    bytes: usize,
    taken: Rc<RefCell<Taken>>,
) -> Result<(), quinn::ReadError> {
    let mut buffer = vec![0; READ];
    let mut filled = 0;
    while let Some(count) = stream.read(&mut buffer[filled..]).await? {
        filled += count;
        let mut taken = taken.borrow_mut();
        let whole = filled / bytes * bytes;
        buffer[..whole].chunks(bytes).for_each(|datum| taken.datum(datum));
        taken.batch_ends();
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
    }
    Ok(())
}

fn certificate(text: &str) -> Result<CertificateDer<'static>, Box<dyn Error>> {
    let byte = |at| u8::from_str_radix(text.get(at..at + 2).unwrap_or_default(), 16);
    Ok((0..text.len()).step_by(2).map(byte).collect::<Result<Vec<u8>, _>>()?.into())
}

/// One run: this thread, which is pinned, sends.
pub(crate) fn run(case: &PathCase, cpus: [usize; 2]) -> PathRun {
    let word = |number: usize| number.to_string();
    let mut child = Command::new(env::current_exe()?)
        .args(["receive", "--quinn", "--consumers", &word(case.consumers), "--bytes", &word(case.bytes)])
        .args(["--cpu", &word(cpus[1])])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut answers = BufReader::new(child.stdout.take().ok_or("no output")?);
    let _receiver = ReceiverProcess(child);
    let mut line = String::new();
    answers.read_line(&mut line)?;
    let (port, text) = line.trim().split_once(' ').ok_or("the receiver gave no address")?;
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse()?));
    let mut roots = RootCertStore::empty();
    roots.add(certificate(text)?)?;
    let sent = runtime()?.block_on(send(case, to, roots))?;
    line.clear();
    answers.read_line(&mut line)?;
    figures(case, sent * case.consumers as u64, &line)
}

async fn send(case: &PathCase, to: SocketAddr, roots: RootCertStore) -> Result<u64, Box<dyn Error>> {
    let mut endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
    endpoint.set_default_client_config(ClientConfig::with_root_certificates(Arc::new(roots))?);
    let connection = endpoint.connect(to, "localhost")?.await?;
    let mut streams = Vec::new();
    for _ in 0..case.consumers {
        streams.push(connection.open_uni().await?);
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
                        yield_now().await;
                    }
                    write_datum(&mut datum, sent, if measured { due } else { WARM_UP });
                    to_all(&mut streams, &datum).await?;
                    sent += 1;
                }
            }
            None => {
                let mut datums = vec![0; case.bytes * LOOK_EVERY];
                let until = Instant::now() + time;
                while Instant::now() < until {
                    for datum in datums.chunks_mut(case.bytes) {
                        write_datum(datum, sent, if measured { UNTIMED } else { WARM_UP });
                        sent += 1;
                    }
                    to_all(&mut streams, &datums).await?;
                }
            }
        }
    }
    for stream in &mut streams {
        stream.finish()?;
    }
    for stream in &mut streams {
        let _ = stream.stopped().await;
    }
    endpoint.close(0u32.into(), b"");
    let _ = tokio::time::timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
    Ok(sent)
}

async fn to_all(streams: &mut [SendStream], datum: &[u8]) -> Result<(), quinn::WriteError> {
    for stream in streams {
        stream.write_all(datum).await?;
    }
    Ok(())
}
