//! The limit: a program that packs, seals and sends with segmentation offload, and opens what it receives.
//!
//! It has no protocol: no handshake (both ends know the keys), no acknowledgement, no flow control, no order.
//! What the kernel drops is lost. Each consumer has a socket and a key of its own. The sending thread and the
//! receiving one spin, each on a CPU of its own.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, hint};

use nix::sys::socket::{setsockopt, sockopt};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::machine::{now, pin};
use crate::row::{PathCase, PathRun};
use crate::tally::{Taken, UNTIMED, WARM_UP, figures, write_datum};

/// The packet's number, which is its nonce.
const HEADER: usize = 8;
const TAG: usize = 16;
/// The length in front of a datum.
const LENGTH: usize = 2;
/// A packet of a train at full speed: four of them are what one send takes.
const PACKET: usize = 16_368;
const PACKETS: usize = 4;
/// Bytes of a socket's buffers, as far as the system allows.
const SOCKET_BUFFER: usize = 8 << 20;
/// How long is sent before the measurement.
pub(crate) const WARM_UP_TIME: Duration = Duration::from_millis(200);
fn key() -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).expect("32 bytes are a key"))
}

fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[4..].copy_from_slice(&number.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// The number of packets sent, and the way to seal one more.
struct Packets {
    key: LessSafeKey,
    next: u64,
}

impl Packets {
    /// Packs as many of the datums from `first` on as fit `packet`, at most `most`, and seals them. Returns
    /// the length and how many they are.
    fn seal(&mut self, packet: &mut [u8], bytes: usize, first: u64, due: u64, most: u64) -> (usize, u64) {
        let (number, room) = (self.next, packet.len() - TAG);
        packet[..HEADER].copy_from_slice(&number.to_le_bytes());
        let (mut at, mut count) = (HEADER, 0);
        while count < most && at + LENGTH + bytes <= room {
            packet[at..at + LENGTH].copy_from_slice(&(bytes as u16).to_le_bytes());
            write_datum(&mut packet[at + LENGTH..at + LENGTH + bytes], first + count, due);
            at += LENGTH + bytes;
            count += 1;
        }
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce(number), Aad::empty(), &mut packet[HEADER..at])
            .expect("a packet is short enough to be sealed");
        packet[at..at + TAG].copy_from_slice(tag.as_ref());
        self.next += 1;
        (at + TAG, count)
    }
}

/// The length of a packet at full speed: as many datums of `bytes` as fit.
fn full_packet(bytes: usize) -> usize {
    HEADER + (PACKET - HEADER - TAG) / (LENGTH + bytes) * (LENGTH + bytes) + TAG
}

/// Takes the datums of one packet.
fn take_packet(taken: &mut Taken, mut datums: &[u8]) {
    while let Some((length, rest)) = datums.split_first_chunk::<LENGTH>() {
        let (datum, rest) = rest.split_at(usize::from(u16::from_le_bytes(*length)));
        taken.datum(datum);
        datums = rest;
    }
}

/// The receiving process: tells its ports, receives until its standard input ends, tells what it received.
pub(crate) fn receive(consumers: usize, bytes: usize, cpu: usize) -> Result<(), Box<dyn Error>> {
    let mut sockets = Vec::new();
    let mut ports = String::new();
    for _ in 0..consumers {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_nonblocking(true)?;
        setsockopt(&socket, sockopt::UdpGroSegment, &true)?;
        setsockopt(&socket, sockopt::RcvBuf, &SOCKET_BUFFER)?;
        ports += &format!("{} ", socket.local_addr()?.port());
        sockets.push(socket);
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{ports}")?;
    out.flush()?;
    let done = Arc::new(AtomicBool::new(false));
    let ended = done.clone();
    thread::spawn(move || {
        let _ = io::stdin().lock().read_to_end(&mut Vec::new());
        ended.store(true, Ordering::Relaxed);
    });
    pin(cpu)?;
    let (key, length) = (key(), full_packet(bytes));
    let mut buffer = vec![0; 65_536];
    let mut taken = Taken::new();
    loop {
        let mut came = false;
        for socket in &sockets {
            let Ok(received) = socket.recv(&mut buffer) else { continue };
            came = true;
            // A train is received as it was sent: packets of the full length, and a rest.
            for packet in buffer[..received].chunks_mut(length) {
                let (header, sealed) = packet.split_first_chunk_mut::<HEADER>().ok_or("a short packet")?;
                let opened = key.open_in_place(nonce(u64::from_le_bytes(*header)), Aad::empty(), sealed);
                take_packet(&mut taken, opened.map_err(|_| "a packet did not open")?);
            }
        }
        if came {
            taken.batch_ends();
        } else if done.load(Ordering::Relaxed) {
            break;
        } else {
            hint::spin_loop();
        }
    }
    writeln!(out, "{}", taken.report())?;
    Ok(())
}

/// A receiving process, seen from the sending one. It ends with its standard input.
pub(crate) struct ReceiverProcess(pub(crate) Child);

impl Drop for ReceiverProcess {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// One run: this thread, which is pinned, sends.
pub(crate) fn run(case: &PathCase, cpus: [usize; 2]) -> PathRun {
    let word = |number: usize| number.to_string();
    let mut child = Command::new(env::current_exe()?)
        .args(["receive", "--consumers", &word(case.consumers), "--bytes", &word(case.bytes)])
        .args(["--cpu", &word(cpus[1])])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut answers = BufReader::new(child.stdout.take().ok_or("no output")?);
    let mut receiver = ReceiverProcess(child);
    let mut line = String::new();
    answers.read_line(&mut line)?;
    let length = full_packet(case.bytes);
    let mut sockets = Vec::new();
    for port in line.split_whitespace() {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(("127.0.0.1", port.parse()?))?;
        setsockopt(&socket, sockopt::UdpGsoSegment, &i32::try_from(length)?)?;
        setsockopt(&socket, sockopt::SndBuf, &SOCKET_BUFFER)?;
        sockets.push(socket);
    }
    let mut packets = Packets { key: key(), next: 0 };
    let mut buffer = vec![0; length * PACKETS];
    let mut sent = 0;
    let phases = [(WARM_UP_TIME, false), (case.duration, true)];
    for (time, measured) in phases {
        match case.rate {
            Some(rate) => {
                let start = now() + 1_000_000;
                for index in 0..(rate * time.as_secs_f64()) as u64 {
                    let due = start + (index as f64 * 1e9 / rate) as u64;
                    while now() < due {
                        hint::spin_loop();
                    }
                    let stamp = if measured { due } else { WARM_UP };
                    for socket in &sockets {
                        let (length, _) = packets.seal(&mut buffer[..length], case.bytes, sent, stamp, 1);
                        // A full queue loses the packet, as on the way.
                        let _ = socket.send(&buffer[..length]);
                    }
                    sent += 1;
                }
            }
            None => {
                let stamp = if measured { UNTIMED } else { WARM_UP };
                let until = Instant::now() + time;
                while Instant::now() < until {
                    let mut packed = 0;
                    for socket in &sockets {
                        packed = 0;
                        for packet in buffer.chunks_mut(length) {
                            packed += packets.seal(packet, case.bytes, sent + packed, stamp, u64::MAX).1;
                        }
                        let _ = socket.send(&buffer);
                    }
                    sent += packed;
                }
            }
        }
    }
    // What is on its way is received before the end is looked at.
    drop(receiver.0.stdin.take());
    line.clear();
    answers.read_line(&mut line)?;
    figures(case, sent * sockets.len() as u64, &line)
}
