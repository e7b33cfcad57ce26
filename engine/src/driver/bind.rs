//! Bound UDP sockets for the shards of one node.
//!
//! A node has one address. With one shard it is one plain socket. With several, each shard has a socket of
//! its own on that address (`SO_REUSEPORT`), and a classic BPF program, which needs no privilege, gives each
//! packet to the socket of the shard that its header names (`driver/steer.rs` states the rule).
//!
//! `SO_REUSEPORT` alone would let a second program of the same user bind the address too. So the first socket
//! is bound without it, which fails if the address is in use, and only then opens the group for the others.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    thread,
    time::{Duration, Instant},
};

use thiserror::Error;

use super::{
    MAX_SHARDS, steer,
    sys::{options, socket},
};

/// Bytes requested for each socket's queues. 4 MiB hold 10,000 small datagrams or 3,600 of 1,400 bytes: a
/// pause of some milliseconds at full speed. The system's default (208 KiB) holds 256.
const QUEUE_BYTES: i32 = 4 << 20;

/// How long a port that is in use is tried again. The kernel frees the sockets of a killed process that used
/// io_uring up to 25 ms after the process is gone.
const IN_USE_PATIENCE: Duration = Duration::from_millis(100);

/// The pause between two tries.
const IN_USE_PAUSE: Duration = Duration::from_millis(5);

/// One socket per shard, all on one address.
#[derive(Debug)]
pub struct Bound {
    /// The address, with the port that was chosen if 0 was asked for.
    pub address: SocketAddr,
    /// The sockets in the order of the shards.
    pub sockets: Vec<UdpSocket>,
    /// Bytes that the kernel granted for the receive queue of each, its own overhead included. Less than 8
    /// MiB means that `net.core.rmem_max` is below 4 MiB.
    pub receive_buffer_bytes: usize,
    /// Bytes that the kernel granted for the send queue of each, its own overhead included.
    pub send_buffer_bytes: usize,
}

/// Why an address could not be bound.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another socket has it.
    #[error("{address} is in use; stop the program that holds it or choose another port (0 = any free one)")]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// It is not an address of this host.
    #[error("{address} is not an address of this host; bind one that is, or the unspecified address for all")]
    NotHere {
        /// The address.
        address: SocketAddr,
    },
    /// Ports below `net.ipv4.ip_unprivileged_port_start` (usually 1024) need a privilege.
    #[error(
        "no permission to bind {address}; ports below 1024 need CAP_NET_BIND_SERVICE, choose a higher one"
    )]
    NotAllowed {
        /// The address.
        address: SocketAddr,
    },
    /// More shards than the header can name, or none.
    #[error("{shards} shards can't share {address}; 1 to {MAX_SHARDS} can")]
    Shards {
        /// The address.
        address: SocketAddr,
        /// What was asked for.
        shards: usize,
    },
    /// Another refusal.
    #[error("cannot {what} {address}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The address.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
}

impl BindError {
    fn new(what: &'static str, address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { address },
            io::ErrorKind::AddrNotAvailable => Self::NotHere { address },
            io::ErrorKind::PermissionDenied => Self::NotAllowed { address },
            _ => Self::System { what, address, source },
        }
    }
}

/// Binds one socket for each of `shards` to `address`; port 0 picks a free one. Data packets reach the socket
/// that their shard byte names, all others the first. A port in use is tried again for 100 ms.
///
/// # Errors
///
/// [`BindError::InUse`] when another socket has the address, also one of a node with several shards.
pub fn bind_shards(address: SocketAddr, shards: usize) -> Result<Bound, BindError> {
    if !(1..=MAX_SHARDS).contains(&shards) {
        return Err(BindError::Shards { address, shards });
    }
    let failed = |what| move |source| BindError::new(what, address, source);
    let first = bind_first(address).map_err(failed("bind"))?;
    let address = first.local_addr().map_err(failed("read back"))?;
    let mut sockets = vec![first];
    if shards > 1 {
        // From here on other programs of the same user may bind too, if they ask for a shared address.
        share(&sockets[0]).map_err(failed("share"))?;
        for _ in 1..shards {
            sockets.push(socket::bind(address, true).map_err(failed("bind another socket to"))?);
        }
        socket::steer(sockets[0].as_raw_fd(), &steer::PROGRAM).map_err(failed("steer packets on"))?;
    }
    let [mut receive_buffer_bytes, mut send_buffer_bytes] = [usize::MAX; 2];
    for socket in &sockets {
        receive_buffer_bytes = receive_buffer_bytes.min(ask(socket, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF));
        send_buffer_bytes = send_buffer_bytes.min(ask(socket, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF));
    }
    Ok(Bound { address, sockets, receive_buffer_bytes, send_buffer_bytes })
}

/// Binds the first socket of an address. Blocks while the port is in use, within the patience.
fn bind_first(address: SocketAddr) -> io::Result<UdpSocket> {
    let until = Instant::now() + IN_USE_PATIENCE;
    loop {
        match socket::bind(address, false) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                thread::sleep(IN_USE_PAUSE);
            }
            bound => return bound,
        }
    }
}

fn share(socket: &UdpSocket) -> io::Result<()> {
    options::set(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)
}

/// Requests a queue of [`QUEUE_BYTES`], with privilege (`force`, which the sysctl does not bound) or without.
/// Returns the bytes granted.
fn ask(socket: &UdpSocket, force: libc::c_int, plain: libc::c_int) -> usize {
    let fd = socket.as_raw_fd();
    if options::set(fd, libc::SOL_SOCKET, force, QUEUE_BYTES).is_err() {
        let _ = options::set(fd, libc::SOL_SOCKET, plain, QUEUE_BYTES);
    }
    options::get(fd, libc::SOL_SOCKET, plain).map_or(0, |bytes| usize::try_from(bytes).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use corewire_proto::wire::header::{PacketKind, SHARD_OFFSET};

    use super::*;

    fn any(host: &str) -> SocketAddr {
        format!("{host}:0").parse().unwrap()
    }

    #[test]
    fn an_address_in_use_is_an_error_for_any_number_of_shards() {
        for (taken_by, wanted_by) in [(1, 1), (1, 3), (3, 1), (3, 3)] {
            let taken = bind_shards(any("127.0.0.1"), taken_by).unwrap();
            match bind_shards(taken.address, wanted_by) {
                Err(error @ BindError::InUse { address }) => {
                    assert_eq!(address, taken.address);
                    assert!(error.to_string().contains(&taken.address.to_string()));
                }
                other => panic!("{taken_by} then {wanted_by}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_port_that_is_freed_late_is_bound_all_the_same() {
        let taken = UdpSocket::bind(any("127.0.0.1")).unwrap();
        let address = taken.local_addr().unwrap();
        let (begun, begins) = std::sync::mpsc::channel();
        let freeing = thread::spawn(move || {
            begins.recv().unwrap();
            // Dropped a little after the other thread has begun to try.
            thread::park_timeout(Duration::from_millis(25));
            drop(taken);
        });
        begun.send(()).unwrap();
        assert_eq!(bind_shards(address, 2).unwrap().address, address);
        freeing.join().unwrap();
    }

    #[test]
    fn a_socket_of_the_unspecified_ipv6_address_takes_both_families() {
        let Ok(bound) = bind_shards(any("[::]"), 2) else { return };
        for host in ["127.0.0.1", "[::1]"] {
            let Ok(sender) = UdpSocket::bind(any(host)) else { continue };
            let to: SocketAddr = format!("{host}:{}", bound.address.port()).parse().unwrap();
            sender.send_to(b"!", to).unwrap();
            bound.sockets[0].set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            assert_eq!(bound.sockets[0].recv(&mut [0; 8]).unwrap(), 1, "from {host}");
        }
    }

    #[test]
    fn a_strange_address_and_a_strange_number_of_shards_are_errors() {
        // TEST-NET-1, which no host has.
        let strange = "192.0.2.1:0".parse().unwrap();
        assert!(matches!(bind_shards(strange, 1), Err(BindError::NotHere { .. })));
        assert!(matches!(bind_shards(any("127.0.0.1"), 0), Err(BindError::Shards { shards: 0, .. })));
        assert!(matches!(bind_shards(any("127.0.0.1"), MAX_SHARDS + 1), Err(BindError::Shards { .. })));
    }

    #[test]
    fn the_queues_are_larger_than_the_default() {
        let bound = bind_shards(any("127.0.0.1"), 2).unwrap();
        let plain = UdpSocket::bind(any("127.0.0.1")).unwrap();
        let default = options::get(plain.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF).unwrap() as usize;
        assert!(bound.receive_buffer_bytes >= default && bound.send_buffer_bytes > 0);
    }

    #[test]
    fn data_reaches_the_shard_that_it_names_and_the_rest_the_first() {
        for host in ["127.0.0.1", "[::1]"] {
            let bound = match bind_shards(any(host), 4) {
                Err(BindError::NotHere { .. }) if host == "[::1]" => continue,
                other => other.unwrap(),
            };
            for socket in &bound.sockets {
                socket.set_nonblocking(true).unwrap();
            }
            // Several senders, so that steering by the hash of addresses would be seen.
            for _ in 0..4 {
                let sender = UdpSocket::bind(any(host)).unwrap();
                for shard in 0..4u8 {
                    let mut packet = [0u8; 40];
                    packet[SHARD_OFFSET] = shard;
                    packet[0] = PacketKind::Data.first_byte();
                    sender.send_to(&packet, bound.address).unwrap();
                    packet[0] = PacketKind::Init.first_byte();
                    sender.send_to(&packet, bound.address).unwrap();
                }
                sender.send_to(&[], bound.address).unwrap();
                sender.send_to(&[PacketKind::Data.first_byte()], bound.address).unwrap();
            }
            let mut received = [[0; 2]; 4];
            for (index, socket) in bound.sockets.iter().enumerate() {
                let mut packet = [0u8; 64];
                while let Ok(len) = socket.recv(&mut packet) {
                    let is_whole_data = len == 40 && packet[0] == PacketKind::Data.first_byte();
                    assert_eq!(steer::shard_of(&packet[..len]), index);
                    received[index][usize::from(is_whole_data)] += 1;
                }
            }
            // 4 senders × (4 handshake packets + an empty one + a short one) at the first shard.
            assert_eq!(received, [[24, 4], [0, 4], [0, 4], [0, 4]], "on {host}");
        }
    }

    #[test]
    fn sockets_of_one_group_share_the_address_and_work_like_any_other() {
        let bound = bind_shards(any("127.0.0.1"), 2).unwrap();
        assert_eq!(bound.sockets.len(), 2);
        assert!(bound.sockets.iter().all(|socket| socket.local_addr().unwrap() == bound.address));
        let other = UdpSocket::bind(any("127.0.0.1")).unwrap();
        other.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        bound.sockets[1].send_to(b"from the second", other.local_addr().unwrap()).unwrap();
        let mut bytes = [0; 64];
        assert_eq!(other.recv_from(&mut bytes).unwrap(), (15, bound.address));
    }
}
