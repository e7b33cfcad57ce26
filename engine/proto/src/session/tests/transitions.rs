//! Prints the state machines as tables of event x state, and compares them with the README.
//!
//! Each cell is found by bringing a fresh session into the state, applying the event, and reading the state.

use std::{format, println, string::String, vec};

use super::*;
use crate::{
    channel::{Accept, Fetched, OpenRequest, PublicationId, Reliability, TypeName},
    ids::StreamId,
    seal::{KeyBytes, KeyLimits, Suite},
    wire::{
        frames::{Out, message::SessionMessage},
        header::{HEADER_BYTES, TAG_BYTES},
    },
};

const SUITE: Suite = Suite::ChaCha20Poly1305;
/// Datums in the streams of these tests.
const DATUMS: u64 = 3;

struct Source;

impl DatumSource for Source {
    fn datum(&mut self, _: Label, seq: u64) -> Fetched<'_> {
        if seq < DATUMS { Fetched::Datum(&[7; 8]) } else { Fetched::NotYet }
    }
}

/// An inbox with room for a number of datums.
struct Inbox(usize);

impl DatumSink for Inbox {
    fn deliver(&mut self, _: Label, _: u64, _: u64, _: &[u8]) -> bool {
        let room = self.0 > 0;
        self.0 -= usize::from(room);
        room
    }
}

/// A session, and the key under which its peer seals.
pub(super) struct Subject {
    pub(super) session: Session,
    pub(super) peer: Sealer,
    now: Instant,
    inbox: Inbox,
    /// What the last event was answered with, if not with a state.
    remark: Option<&'static str>,
}

impl Subject {
    pub(super) fn new() -> Self {
        let (key, now) = (KeyBytes::from_bytes([1; 32]), Instant::ZERO);
        let seals = || (Sealer::new(SUITE, &key, now), Opener::new(SUITE, &key, now));
        let (sealer, opener) = seals();
        let session = Session::new(SessionConfig::default(), sealer, opener, ReceiverIndex::NONE, now);
        Self { session, peer: seals().0, now, inbox: Inbox(usize::MAX), remark: None }
    }

    fn config(&self) -> &SessionConfig {
        self.session.config()
    }

    /// A packet of the peer arrives.
    pub(super) fn receive(&mut self, write: impl FnOnce(&mut Out<'_>)) {
        let mut packet = [0; BASE_PACKET_BYTES];
        let mut out = Out::new(&mut packet[HEADER_BYTES..BASE_PACKET_BYTES - TAG_BYTES]);
        write(&mut out);
        let bytes = out.written();
        let sealed = self.peer.seal(self.now, ReceiverIndex::NONE, &mut packet, bytes).unwrap();
        let refused = self.session.stats.refused_packets;
        let dropped = self.session.handle_packet(self.now, &mut packet[..sealed.bytes], &mut self.inbox);
        if matches!(dropped, Err(Dropped::Violation(_))) {
            self.remark = Some("violation");
        } else if self.session.stats.refused_packets > refused {
            self.remark = Some("refused");
        }
    }

    /// A control message of the peer arrives.
    fn receive_message(&mut self, message: SessionMessage) {
        if self.session.handle_message(message).is_err() {
            self.remark = Some("violation");
        }
    }

    pub(super) fn transmit(&mut self) {
        while self.session.poll_transmit(self.now, &mut [0; BASE_PACKET_BYTES], &mut Source).is_some() {}
    }

    /// Everything that can be sent is sent, and acknowledged.
    pub(super) fn round_trip(&mut self) {
        self.transmit();
        if let Some(last) = self.session.sealer().next_number().checked_sub(1) {
            self.receive(|out| assert_eq!(out.put_ack(0, 0, [(0, last)].into_iter()), 1));
        }
    }

    pub(super) fn wait(&mut self, time: core::time::Duration) {
        self.now += time;
        self.session.handle_timeout(self.now);
    }
}

/// A state's name, and how to reach it.
type StateOf<T> = (&'static str, fn() -> T);

/// An event's name, and how to cause it.
type EventOf<T> = (&'static str, fn(&mut T));

/// Prints a machine. A cell is the state after the event, `-` where the event changes nothing.
fn table<T>(states: &[StateOf<T>], events: &[EventOf<T>], read: impl Fn(&T) -> String) -> String {
    let mut rows: Vec<Vec<String>> = vec![vec![String::new()]];
    rows[0].extend(states.iter().map(|state| state.0.into()));
    for (event, apply) in events {
        let mut row = vec![String::from(*event)];
        for (name, build) in states {
            let mut subject = build();
            assert_eq!(read(&subject), *name, "the state to start from");
            apply(&mut subject);
            let after = read(&subject);
            row.push(if after == *name { "-".into() } else { after });
        }
        rows.push(row);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..=states.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join(" | ").trim_end())
    };
    rows.iter().map(line).collect()
}

fn assert_printed(machine: &str, table: &str) {
    let readme = include_str!("../../../README.md");
    println!("{machine}:\n{table}");
    assert!(readme.contains(table), "the README shows another table of {machine}; it is now\n{table}");
}

#[test]
fn session_lifecycle_is_as_the_readme_prints_it() {
    let read = |subject: &Subject| match subject.session.lifecycle {
        Lifecycle::Open => "open".into(),
        Lifecycle::Closing { .. } => "closing".into(),
        Lifecycle::Closed => "closed".into(),
    };
    let table = table(
        &[
            ("open", Subject::new),
            ("closing", || {
                let mut subject = Subject::new();
                subject.session.close(subject.now, CloseCode::GRACEFUL);
                subject
            }),
            ("closed", || {
                let mut subject = Subject::new();
                subject.session.terminate(CloseCode::PEER_LOST, false);
                subject
            }),
        ],
        &[
            ("close()", |subject| subject.session.close(subject.now, CloseCode::GRACEFUL)),
            ("packet", |subject| subject.receive(|out| assert!(out.put_ping(1)))),
            ("packet that breaks a rule", |subject| {
                // A CREDIT for a label that was never used.
                subject.receive(|out| assert!(out.put_credit(5, 1, 1)));
            }),
            ("CLOSE", |subject| subject.receive(|out| assert!(out.put_close(CloseCode::GRACEFUL)))),
            ("close_linger passes", |subject| subject.wait(subject.session.close_linger())),
            ("dead_after passes, packet in flight", |subject| {
                subject.session.ping_due = true;
                subject.transmit();
                subject.wait(subject.config().dead_after);
            }),
            ("idle_timeout passes", |subject| {
                for _ in 0..2 {
                    subject.receive(|out| assert!(out.put_pong(1)));
                    subject.wait(subject.config().idle_timeout / 2);
                }
            }),
            ("key spent", |subject| {
                let limits = KeyLimits { hard_packets: 0, ..KeyLimits::new(SUITE) };
                let key = KeyBytes::from_bytes([1; 32]);
                subject.session.keys.sealer = Sealer::with_limits(SUITE, &key, limits, subject.now);
                subject.session.ping_due = true;
                subject.transmit();
            }),
        ],
        read,
    );
    assert_printed("session", &table);
}

fn request(reliability: Reliability) -> OpenRequest {
    OpenRequest {
        stream_id: StreamId([1; 32]),
        subscription: [0; 8],
        resume: None,
        reliability,
        window_bytes: 0,
        window_datums: 0,
        max_datum_bytes: 64,
        weight: 1,
        form: Default::default(),
        criteria: vec![],
        tickets: vec![],
    }
}

fn accept() -> Accept {
    Accept {
        publication: PublicationId([5; 16]),
        first_seq: 0,
        max_datum_bytes: 64,
        reliability: Reliability::Reliable,
        weight: 1,
    }
}

const TX: Label = Label::new(0, 0, true);

fn requested(reliability: Reliability) -> Subject {
    let mut subject = Subject::new();
    subject.receive_message(SessionMessage::Open(TX.wire(), request(reliability)));
    subject
}

/// Accepted, with datums published and nothing sent.
fn accepting(reliability: Reliability) -> Subject {
    let mut subject = requested(reliability);
    subject.session.accept(TX, accept()).unwrap();
    subject
}

pub(super) fn producing(reliability: Reliability) -> Subject {
    let mut subject = accepting(reliability);
    subject.round_trip();
    subject.session.publish(TX, DATUMS);
    subject
}

fn tx_state(subject: &Subject) -> String {
    let state = match subject.session.tx_channels.get(TX) {
        None => "gone".into(),
        Some(channel) => {
            let end = match (channel.fin_sent, channel.end()) {
                (true, _) => " + FIN",
                (false, Some(_)) => " + end",
                (false, None) => "",
            };
            format!("{:?}{end}", channel.stage()).replace("Requested", "requested")
        }
    };
    state.replace("Accepting", "accepting").replace("Open", "open")
}

#[test]
fn producer_channel_is_as_the_readme_prints_it() {
    let finish = |subject: &mut Subject| {
        let _ = subject.session.finish(TX, DATUMS);
    };
    let table = table(
        &[
            ("requested", || requested(Reliability::Reliable)),
            ("accepting", || accepting(Reliability::Reliable)),
            ("accepting + FIN", || {
                let mut subject = accepting(Reliability::Reliable);
                subject.session.publish(TX, DATUMS);
                subject.session.finish(TX, DATUMS).unwrap();
                subject
            }),
            ("open", || producing(Reliability::Reliable)),
            ("open + end", || {
                let mut subject = producing(Reliability::FireAndForget);
                subject.session.finish(TX, DATUMS).unwrap();
                subject
            }),
            ("open + FIN", || {
                let mut subject = producing(Reliability::Reliable);
                subject.session.finish(TX, DATUMS).unwrap();
                subject
            }),
            ("gone", Subject::new),
        ],
        &[
            ("accept()", |subject| {
                let _ = subject.session.accept(TX, accept());
            }),
            ("reject()", |subject| {
                let _ = subject.session.reject(TX, CloseCode::NOT_ALLOWED);
            }),
            ("finish()", finish),
            ("reset()", |subject| {
                let _ = subject.session.reset(TX, CloseCode::GRACEFUL);
            }),
            ("all sent and acknowledged", Subject::round_trip),
            ("datum lost for too long", |subject| {
                subject.transmit();
                let late = subject.now + subject.config().give_up_after() * 2;
                subject.session.advance_clock(late);
                for frame in subject.session.recovery.frames().clone() {
                    if let SentFrame::Data(data) = frame {
                        subject.session.fates.push((FrameFate::Lost, SentFrame::Data(data)));
                    }
                }
                subject.session.apply_fates();
            }),
            ("RESET", |subject| {
                let (label, code) = (TX.wire(), CloseCode::GRACEFUL);
                subject.receive_message(SessionMessage::Reset {
                    label,
                    code,
                    sender_opened: true,
                    end_seq: None,
                });
            }),
            ("OPEN in the same slot", |subject| {
                let label = Label::new(TX.slot(), TX.life() + 1, true).wire();
                subject.receive_message(SessionMessage::Open(label, request(Reliability::Reliable)));
            }),
        ],
        tx_state,
    );
    assert_printed("producer channel", &table);
}

const RX: Label = Label::new(0, 0, false);

fn opening() -> Subject {
    let mut subject = Subject::new();
    assert_eq!(subject.session.open(request(Reliability::Reliable)), Ok(RX));
    subject
}

fn consuming() -> Subject {
    let mut subject = opening();
    subject.receive_message(SessionMessage::Accept(RX.wire(), accept()));
    subject
}

fn datums(subject: &mut Subject) {
    subject.receive(|out| {
        let mut run = out.begin_run(RX.wire(), 0, 0, &[1; 8]).unwrap();
        for _ in 1..DATUMS {
            assert_eq!(out.extend_run(&mut run, &[1; 8]), crate::wire::frames::RunOutcome::Added);
        }
        out.end_run(&run);
    });
}

fn rx_state(subject: &Subject) -> String {
    match (subject.remark, subject.session.rx_channels.get(RX)) {
        (Some(remark), _) => remark.into(),
        (None, None) => "gone".into(),
        (None, Some(channel)) if !channel.is_open() => "opening".into(),
        (None, Some(channel)) => if channel.end().is_some() { "open + end" } else { "open" }.into(),
    }
}

#[test]
fn consumer_channel_is_as_the_readme_prints_it() {
    let table = table(
        &[
            ("opening", opening),
            ("open", consuming),
            ("open + end", || {
                let mut subject = consuming();
                subject.receive_message(SessionMessage::Fin(RX.wire(), DATUMS));
                subject
            }),
            ("gone", || {
                let mut subject = opening();
                subject.session.reset(RX, CloseCode::GRACEFUL).unwrap();
                subject
            }),
        ],
        &[
            ("ACCEPT", |subject| subject.receive_message(SessionMessage::Accept(RX.wire(), accept()))),
            ("REJECT", |subject| {
                subject.receive_message(SessionMessage::Reject(
                    RX.wire(),
                    CloseCode::NOT_ALLOWED,
                    TypeName::default(),
                ));
            }),
            ("datums up to the end", datums),
            ("datums, sink full", |subject| {
                subject.inbox = Inbox(1);
                datums(subject);
            }),
            ("FIN at the position", |subject| {
                subject.receive_message(SessionMessage::Fin(RX.wire(), 0));
            }),
            ("FIN behind the position", |subject| {
                subject.receive_message(SessionMessage::Fin(RX.wire(), DATUMS));
            }),
            ("RESET", |subject| {
                let (label, code) = (RX.wire(), CloseCode::GRACEFUL);
                subject.receive_message(SessionMessage::Reset {
                    label,
                    code,
                    sender_opened: false,
                    end_seq: None,
                });
            }),
            ("reset()", |subject| {
                let _ = subject.session.reset(RX, CloseCode::GRACEFUL);
            }),
        ],
        rx_state,
    );
    assert_printed("consumer channel", &table);
}
