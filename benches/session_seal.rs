//! How much does a session cost beside its cipher?
//!
//! One packet of datums goes from a producer's session to a consumer's, sealed, opened, delivered,
//! acknowledged and granted, all in memory on one thread. Beside it the bare cipher seals and opens a packet
//! of the same length. The ratio of the two is what the protocol adds.
#![allow(
    clippy::print_stderr,
    missing_docs,
    reason = "a bench reports to its reader; criterion's macros have no docs"
)]

use std::{
    hint::black_box,
    time::{Duration, Instant as Clock},
};

use corewire_proto::{
    StreamId,
    channel::{Accept, Label, OpenRequest, PublicationId, Reliability, datum_cost},
    congestion::Congestion,
    seal::{Aead, KeyBytes, Opener, RingAead, Sealer, Suite},
    session::{DatumSink, DatumSource, Fetched, Session, SessionConfig, SessionEvent},
    time::Instant,
    wire::header::{HEADER_BYTES, ReceiverIndex, TAG_BYTES},
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

struct Ring(Vec<u8>);

impl DatumSource for Ring {
    #[inline]
    fn datum(&mut self, _: Label, _: u64) -> Fetched<'_> {
        Fetched::Datum(&self.0)
    }
}

#[derive(Default)]
struct Inbox {
    next: u64,
    bytes: u64,
    sum: u64,
}

impl DatumSink for Inbox {
    #[inline]
    fn deliver(&mut self, _: Label, seq: u64, _: u64, datum: &[u8]) -> bool {
        self.next = seq + 1;
        self.bytes += datum_cost(datum.len());
        self.sum = self.sum.wrapping_add(u64::from(datum.first().copied().unwrap_or(0)));
        true
    }
}

struct Pair {
    producer: Session,
    consumer: Session,
    ring: Ring,
    inbox: Inbox,
    tx: Label,
    rx: Label,
    now: u64,
    published: u64,
    buf: Vec<u8>,
    packets: u64,
}

impl Pair {
    fn new(datum: usize, packet: usize) -> Self {
        let config = SessionConfig {
            max_packet_bytes: packet,
            congestion: Congestion::Unlimited,
            ..SessionConfig::default()
        };
        let key = |byte| KeyBytes::from_bytes([byte; 32]);
        let session = |send, receive| {
            Session::new(
                config.clone(),
                Sealer::new(Suite::Aes256Gcm, &key(send), Instant::ZERO),
                Opener::new(Suite::Aes256Gcm, &key(receive), Instant::ZERO),
                ReceiverIndex::NONE,
                Instant::ZERO,
            )
        };
        let (producer, mut consumer) = (session(1, 2), session(2, 1));
        let rx = consumer
            .open(OpenRequest {
                stream_id: StreamId([0; 32]),
                subscription: [0; 8],
                resume: None,
                reliability: Reliability::Reliable,
                window_bytes: 1 << 20,
                window_datums: 0,
                max_datum_bytes: 1 << 16,
                weight: 1,
                form: Default::default(),
                criteria: Vec::new(),
                tickets: Vec::new(),
            })
            .expect("the table is empty");
        let mut pair = Self {
            producer,
            consumer,
            ring: Ring(vec![7; datum]),
            inbox: Inbox::default(),
            tx: rx,
            rx,
            now: 0,
            published: 0,
            buf: vec![0; packet],
            packets: 0,
        };
        for _ in 0..10 {
            pair.back();
            while let Some(event) = pair.producer.poll_event() {
                if let SessionEvent::Opened { label, .. } = event {
                    pair.tx = label;
                    let accept = Accept {
                        publication: PublicationId::default(),
                        first_seq: 0,
                        max_datum_bytes: 1 << 16,
                        reliability: Reliability::Reliable,
                        weight: 1,
                    };
                    pair.producer.accept(label, accept).expect("it was just opened");
                }
            }
            pair.forth();
        }
        pair
    }

    fn forth(&mut self) {
        self.now += 1_000;
        let now = Instant::from_nanos(self.now);
        while let Some(len) = self.producer.poll_transmit(now, &mut self.buf, &mut self.ring) {
            self.packets += 1;
            self.consumer
                .handle_packet(now, &mut self.buf[..len], &mut self.inbox)
                .expect("an honest packet");
        }
        while self.consumer.poll_event().is_some() {}
        self.consumer.grant(self.rx, self.inbox.next, self.inbox.bytes);
    }

    fn back(&mut self) {
        self.now += 1_000;
        let now = Instant::from_nanos(self.now);
        self.consumer.handle_timeout(now);
        while let Some(len) = self.consumer.poll_transmit(now, &mut self.buf, &mut self.ring) {
            self.producer
                .handle_packet(now, &mut self.buf[..len], &mut self.inbox)
                .expect("an honest packet");
        }
    }

    /// Publishes `count` datums, delivers their packets, and returns the acknowledgements and credit.
    fn carry(&mut self, count: u64) {
        self.published += count;
        self.producer.publish(self.tx, self.published);
        self.forth();
        self.back();
        while let Some(event) = self.producer.poll_event() {
            black_box(event);
        }
        debug_assert_eq!(self.inbox.next, self.published);
    }
}

struct Bare {
    aead: RingAead,
    number: u64,
    packet: Vec<u8>,
}

impl Bare {
    fn new(packet: usize) -> Self {
        let aead = RingAead::new(Suite::Aes256Gcm, &KeyBytes::from_bytes([1; 32]));
        Self { aead, number: 0, packet: vec![7; packet] }
    }

    fn seal_and_open(&mut self) {
        self.number += 1;
        let (header, rest) = self.packet.split_at_mut(HEADER_BYTES);
        let (body, tag) = rest.split_at_mut(rest.len() - TAG_BYTES);
        tag.copy_from_slice(&self.aead.seal(self.number, header, body).expect("short enough"));
        black_box(self.aead.open(self.number, header, rest).expect("just sealed"));
    }
}

/// Datums of `datum` bytes that fill one packet of `packet` bytes.
fn per_packet(datum: usize, packet: usize) -> u64 {
    ((packet - HEADER_BYTES - TAG_BYTES - 26) / datum) as u64
}

fn nanos(mut act: impl FnMut()) -> f64 {
    for _ in 0..2_000 {
        act();
    }
    let (start, mut rounds) = (Clock::now(), 0u32);
    while start.elapsed() < Duration::from_millis(300) {
        for _ in 0..100 {
            act();
        }
        rounds += 100;
    }
    start.elapsed().as_nanos() as f64 / f64::from(rounds)
}

fn benches(c: &mut Criterion) {
    let cases = [(64, 1_452), (1_200, 1_452), (64, 8_900), (64, 65_507)];
    let measuring = std::env::args().any(|arg| arg == "--bench");
    for (datum, packet) in cases {
        let count = per_packet(datum, packet);
        let (mut pair, mut bare) = (Pair::new(datum, packet), Bare::new(packet));
        if measuring {
            let (session, cipher) = (nanos(|| pair.carry(count)), nanos(|| bare.seal_and_open()));
            eprintln!(
                "{datum} B datums in {packet} B packets: session {session:.0} ns, cipher {cipher:.0} ns, ratio {:.2}, \
                 {:.1} ns and {:.2} M datums/s end to end, payload {:.1} %",
                session / cipher,
                session / count as f64,
                1e3 * count as f64 / session,
                100.0 * (count as usize * datum) as f64 / packet as f64,
            );
        }
        let mut group = c.benchmark_group(format!("session_seal/{datum}B_in_{packet}B"));
        group.throughput(Throughput::Elements(count));
        group.bench_function("session", |b| b.iter(|| pair.carry(count)));
        group.bench_function("cipher", |b| b.iter(|| bare.seal_and_open()));
        group.finish();
    }
}

criterion_group!(
    name = group;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(1)).warm_up_time(Duration::from_millis(300));
    targets = benches
);
criterion_main!(group);
