//! Round trips of a bare datagram: what a driver on each of these runtimes would start from.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use glommio::{LocalExecutorBuilder, Placement};

use crate::{HostRow, HostRun};

pub(crate) const ROWS: [HostRow; 4] = [
    ("blocking calls", by_calls),
    ("tokio", by_tokio),
    ("tokio-uring", by_tokio_uring),
    ("glommio", by_glommio),
];

const BYTES: usize = 64;

fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// Two sockets, connected with each other. With blocking calls a datagram that is lost ends the run; the
/// other rows would wait for ever.
fn pair() -> io::Result<[UdpSocket; 2]> {
    let [one, other] = [UdpSocket::bind(loopback())?, UdpSocket::bind(loopback())?];
    one.connect(other.local_addr()?)?;
    other.connect(one.local_addr()?)?;
    for socket in [&one, &other] {
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    }
    Ok([one, other])
}

/// Runs one end on a thread of its own, and the other here.
fn both(trips: u64, end: fn(UdpSocket, u64, bool) -> HostRun) -> HostRun {
    let [here, there] = pair()?;
    let other = thread::spawn(move || end(there, trips, false).map(drop).map_err(|error| error.to_string()));
    let times = end(here, trips, true);
    other.join().map_err(|_| "the echo has panicked")??;
    times
}

/// One end's round trips: `$send` and `$receive` are expressions that end with an error or a length.
macro_rules! trips {
    ($trips:expr, $begins:expr, $send:expr, $receive:expr) => {{
        let mut times = Vec::with_capacity($trips as usize);
        for _ in 0..$trips {
            let start = Instant::now();
            if $begins {
                $send;
                $receive;
                times.push(start.elapsed());
            } else {
                $receive;
                $send;
            }
        }
        Ok(times)
    }};
}

fn by_calls(count: u64) -> HostRun {
    both(count, |socket, trips, begins| {
        let mut bytes = [0; BYTES];
        trips!(trips, begins, socket.send(&bytes)?, socket.recv(&mut bytes)?)
    })
}

fn by_tokio(count: u64) -> HostRun {
    both(count, |socket, trips, begins| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        runtime.block_on(async move {
            socket.set_nonblocking(true)?;
            let socket = tokio::net::UdpSocket::from_std(socket)?;
            let mut bytes = [0; BYTES];
            trips!(trips, begins, socket.send(&bytes).await?, socket.recv(&mut bytes).await?)
        })
    })
}

fn by_tokio_uring(count: u64) -> HostRun {
    both(count, |socket, trips, begins| {
        let runtime = tokio_uring::Runtime::new(&tokio_uring::builder())?;
        runtime.block_on(async move {
            let socket = tokio_uring::net::UdpSocket::from_std(socket);
            let mut bytes = vec![0; BYTES];
            trips!(
                trips,
                begins,
                {
                    let (sent, back) = socket.send(bytes).await;
                    bytes = back;
                    sent?
                },
                {
                    let (received, back) = socket.read(bytes).await;
                    bytes = back;
                    received?
                }
            )
        })
    })
}

fn by_glommio(count: u64) -> HostRun {
    // It takes no socket of others without unsafe code, so each end binds one and tells its address.
    let (tell, told) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
    let end = move |tell: std::sync::mpsc::Sender<SocketAddr>,
                    told: std::sync::mpsc::Receiver<SocketAddr>,
                    begins| {
        let executor =
            LocalExecutorBuilder::new(Placement::Unbound).make().map_err(|error| error.to_string())?;
        executor.run(async move {
            let why = |error: &dyn std::fmt::Display| error.to_string();
            let socket = glommio::net::UdpSocket::bind(loopback()).map_err(|error| why(&error))?;
            tell.send(socket.local_addr().map_err(|error| why(&error))?).map_err(|error| why(&error))?;
            let peer = told.recv().map_err(|_| "the other end did not start".to_owned())?;
            socket.connect(peer).await.map_err(|error| why(&error))?;
            let mut bytes = [0; BYTES];
            trips!(
                count,
                begins,
                socket.send(&bytes).await.map_err(|error| why(&error))?,
                socket.recv(&mut bytes).await.map_err(|error| why(&error))?
            )
        })
    };
    let other = thread::spawn(move || -> Result<(), String> { end(tell.0, told.1, false).map(drop) });
    let times: Result<Vec<Duration>, String> = end(told.0, tell.1, true);
    let ended = other.join().map_err(|_| "the echo has panicked")?;
    let times = times?;
    ended?;
    Ok(times)
}
