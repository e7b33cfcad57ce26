//! A session that carries datums through loss allocates nothing once its buffers have grown.

mod harness;

use std::time::Duration;

use allocation_counter::measure;
use corewire_proto::{
    StreamId,
    channel::{Accept, Label, OpenRequest, PublicationId, Reliability, datum_cost},
    session::{DatumSink, DatumSource, Fetched, Session, SessionConfig, SessionEvent},
    time::Instant,
};
use harness::{Rng, session};

static BYTES: [u8; 20_000] = [7; 20_000];

/// Every hundredth datum is large.
const fn length(seq: u64) -> usize {
    if seq.is_multiple_of(100) { 20_000 } else { 100 }
}

struct Ring;

impl DatumSource for Ring {
    fn datum(&mut self, _: Label, seq: u64) -> Fetched<'_> {
        Fetched::Datum(&BYTES[..length(seq)])
    }

    fn copy_run(&mut self, _: Label, seq: u64, len: usize, out: &mut [u8]) -> u32 {
        let count = ((99 - seq.wrapping_sub(1) % 100) as usize).min(out.len() / len);
        out[..len * count].copy_from_slice(&BYTES[..len * count]);
        count as u32
    }
}

/// Takes every datum at once.
#[derive(Default)]
struct Inbox {
    taken_seq: u64,
    taken_bytes: u64,
}

impl DatumSink for Inbox {
    fn deliver(&mut self, _: Label, seq: u64, skipped_before: u64, datum: &[u8]) -> bool {
        assert_eq!((seq, skipped_before), (self.taken_seq, 0));
        self.taken_seq += 1;
        self.taken_bytes += datum_cost(datum.len());
        true
    }
}

struct Pair {
    now: Instant,
    rng: Rng,
    producer: Session,
    consumer: Session,
    inbox: Inbox,
    buf: Vec<u8>,
    published: u64,
}

impl Pair {
    fn events(&mut self) {
        while let Some(event) = self.producer.poll_event() {
            if let SessionEvent::Opened { label, .. } = event {
                let accept = Accept {
                    publication: PublicationId::default(),
                    first_seq: 0,
                    max_datum_bytes: 1 << 20,
                    reliability: Reliability::Reliable,
                    weight: 1,
                };
                self.producer.accept(label, accept).unwrap();
            }
        }
        while self.consumer.poll_event().is_some() {}
    }

    /// A tenth of a millisecond in which one packet in twenty is lost.
    fn round(&mut self, label: Label) {
        self.now += Duration::from_micros(100);
        self.published += 20;
        self.producer.publish(Label::from_u32(label.as_u32() | 1 << 31), self.published);
        self.producer.handle_timeout(self.now);
        self.consumer.handle_timeout(self.now);
        self.events();
        while let Some(len) = self.producer.poll_transmit(self.now, &mut self.buf, &mut Ring) {
            if !self.rng.chance(50) {
                self.consumer.handle_packet(self.now, &mut self.buf[..len], &mut self.inbox).unwrap();
            }
        }
        self.events();
        self.consumer.grant(label, self.inbox.taken_seq, self.inbox.taken_bytes);
        while let Some(len) = self.consumer.poll_transmit(self.now, &mut self.buf, &mut Ring) {
            if !self.rng.chance(50) {
                self.producer.handle_packet(self.now, &mut self.buf[..len], &mut self.inbox).unwrap();
            }
        }
        self.events();
    }
}

#[test]
fn session_under_loss_allocates_nothing_in_steady_state() {
    let config = SessionConfig { max_packet_bytes: 1_452, ..SessionConfig::default() };
    let mut pair = Pair {
        now: Instant::ZERO,
        rng: Rng::new(3),
        producer: session(&config, 1, 2),
        consumer: session(&config, 2, 1),
        inbox: Inbox::default(),
        buf: vec![0; 2_000],
        published: 0,
    };
    let request = OpenRequest {
        stream_id: StreamId([1; 32]),
        subscription: [0; 8],
        resume: None,
        reliability: Reliability::Reliable,
        window_bytes: 1 << 20,
        window_datums: 0,
        max_datum_bytes: 1 << 20,
        weight: 1,
        form: Default::default(),
        criteria: vec![],
        tickets: vec![],
    };
    let label = pair.consumer.open(request).unwrap();
    for _ in 0..20_000 {
        pair.round(label);
    }
    let taken = pair.inbox.taken_seq;
    let allocations = measure(|| (0..3_000).for_each(|_| pair.round(label))).count_total;
    let lost = pair.producer.session_stats().packets_lost;
    assert!(
        pair.inbox.taken_seq > taken + 3_000 && lost > 300,
        "{} datums, {lost} lost",
        pair.inbox.taken_seq
    );
    assert_eq!(allocations, 0);
}
