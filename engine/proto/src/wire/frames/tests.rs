use std::{vec, vec::Vec};

use proptest::prelude::*;

use super::{message::SessionMessage, *};
use crate::{
    ids::StreamId,
    wire::{Accept, DatumForm, OpenRequest, PublicationId, Reliability, Resume, TypeName},
};

fn only(bytes: &[u8]) -> Frame<'_> {
    let mut frames = Frames::new(bytes);
    let frame = frames.next().unwrap().unwrap();
    assert!(frames.next().is_none());
    frame
}

fn run_of(datums: &[&[u8]], room: usize) -> (Vec<u8>, usize) {
    let mut buf = vec![0; room];
    let mut out = Out::new(&mut buf);
    let mut run = out.begin_run(7, 100, 4096, datums[0]).unwrap();
    let mut taken = 1;
    for datum in &datums[1..] {
        if out.extend_run(&mut run, datum) != RunOutcome::Added {
            break;
        }
        taken += 1;
    }
    assert_eq!(usize::from(out.end_run(&run)), taken);
    let written = out.written();
    buf.truncate(written);
    (buf, taken)
}

#[test]
fn uniform_datums_have_no_length_each() {
    let datums = [[5u8; 64]; 18];
    let refs: Vec<&[u8]> = datums.iter().map(|d| &d[..]).collect();
    let (bytes, taken) = run_of(&refs, 1196);
    assert_eq!((taken, bytes.len()), (18, 26 + 18 * 64));
    let Frame::Data(run) = only(&bytes) else { panic!() };
    assert!(run.datums.is_whole() && run.datums.is_uniform());
    assert_eq!((run.label, run.first_seq, run.offset), (7, 100, 4096));
    assert!(run.datums.eq(refs));
}

#[test]
fn varied_datums_have_a_two_byte_length_each() {
    let datums: [&[u8]; 5] = [b"a", b"", b"abc", b"abcd", b"abcd"];
    let (bytes, taken) = run_of(&datums, 200);
    assert_eq!((taken, bytes.len()), (5, 26 + 5 * 2 + 12));
    let Frame::Data(run) = only(&bytes) else { panic!() };
    assert!(run.datums.is_whole() && !run.datums.is_uniform());
    assert!(run.datums.eq(datums));
}

#[test]
fn run_takes_what_fits_and_no_more() {
    for room in 26 + 10..120 {
        let datums: [&[u8]; 8] = [&[1; 10], &[2; 11], &[3; 9], &[4; 10], &[5; 1], &[6; 30], &[7; 0], &[8; 2]];
        let (bytes, taken) = run_of(&datums, room);
        assert!(bytes.len() <= room);
        let Frame::Data(run) = only(&bytes) else { panic!() };
        assert!(run.datums.eq(datums[..taken].iter().copied()));
    }
}

#[test]
fn empty_datums_are_delivered() {
    let (bytes, _) = run_of(&[b"", b"", b""], 100);
    let Frame::Data(run) = only(&bytes) else { panic!() };
    assert_eq!(run.datums.count(), 3);
}

#[test]
fn ack_ranges_round_trip() {
    for ranges in [vec![(5, 9)], vec![(u64::MAX - 3, u64::MAX)], vec![(50, 60), (40, 40), (0, 7)]] {
        let mut buf = [0; 100];
        let mut out = Out::new(&mut buf);
        assert_eq!(out.put_ack(3, 77, ranges.iter().copied()), ranges.len());
        assert!(!out.is_eliciting());
        let written = out.written();
        let Frame::Ack(ack) = only(&buf[..written]) else { panic!() };
        assert_eq!((ack.epoch, ack.delay_ns, ack.largest), (3, 77, ranges[0].1));
        assert!(ack.ranges().eq(ranges));
    }
}

#[test]
fn impossible_ack_ranges_are_refused() {
    let ack = |largest: u64, ranges: &[(u32, u32)]| {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&[1, 0]);
        bytes.extend_from_slice(&(ranges.len() as u16).to_le_bytes());
        bytes.extend_from_slice(&0u32.to_le_bytes());
        bytes.extend_from_slice(&largest.to_le_bytes());
        for (gap, length) in ranges {
            bytes.extend_from_slice(&gap.to_le_bytes());
            bytes.extend_from_slice(&length.to_le_bytes());
        }
        Frames::new(&bytes).next().unwrap().map(|_| ())
    };
    assert_eq!(ack(4, &[(0, 5)]), Ok(()));
    assert_eq!(ack(4, &[(0, 6)]), Err(FrameError::Invalid));
    assert_eq!(ack(4, &[(0, 0)]), Err(FrameError::Invalid));
    assert_eq!(ack(4, &[(1, 1)]), Err(FrameError::Invalid));
    assert_eq!(ack(9, &[(0, 1), (0, 1)]), Err(FrameError::Invalid));
    assert_eq!(ack(9, &[(0, 1), (8, 1)]), Ok(()));
    assert_eq!(ack(9, &[(0, 1), (9, 1)]), Err(FrameError::Invalid));
    assert_eq!(ack(9, &[(0, 10), (1, 1)]), Err(FrameError::Invalid));
    assert_eq!(ack(9, &[]), Err(FrameError::Invalid));
    let many = vec![(1, 1); MAX_ACK_RANGES + 1];
    assert_eq!(ack(1 << 40, &many), Err(FrameError::Invalid));
}

#[test]
fn every_cut_of_every_frame_is_an_error() {
    let mut buf = [0; 600];
    let mut out = Out::new(&mut buf);
    assert_eq!(out.put_ack(0, 1, [(8, 9), (1, 2)].into_iter()), 2);
    assert!(out.put_credit(1, 2, 3));
    assert!(out.put_blocked(1, 2, 3, true));
    assert!(out.put_skip(1, (2, 3), 4, false));
    assert!(out.put_fragment(1, 2, 3, 4, 50, b"abc"));
    assert!(out.put_control(9, (b"he", b"llo")));
    assert!(out.put_ping(1));
    assert!(out.put_pong(1));
    assert!(out.put_path_challenge(1));
    assert!(out.put_path_response(1));
    assert!(out.put_close(CloseCode::IDLE));
    let run = out.begin_run(1, 2, 3, b"xyz").unwrap();
    out.end_run(&run);
    let len = out.written();
    let whole: Vec<_> = Frames::new(&buf[..len]).map(|f| f.is_ok()).collect();
    assert_eq!(whole, [true; 12]);
    let mut ends = 0;
    for cut in 0..len {
        if Frames::new(&buf[..cut]).all(|f| f.is_ok()) {
            ends += 1;
        }
        decode_all(&buf[..cut]);
    }
    assert_eq!(ends, 12);
}

#[test]
fn padding_fills_the_packet_and_ends_it() {
    let mut buf = [0xee; 100];
    let mut out = Out::new(&mut buf);
    assert!(out.put_ping(1));
    out.put_padding();
    assert_eq!(out.written(), 100);
    out.put_padding();
    let kinds: Vec<_> = Frames::new(&buf).map(Result::unwrap).collect();
    assert!(matches!(kinds[..], [Frame::Ping(1), Frame::Padding]));
    assert_eq!((buf[9], &buf[10..]), (11, &[0; 90][..]));
}

#[test]
fn unknown_kinds_and_contradictions_are_errors() {
    for kind in [0u8, 14, 255] {
        let mut frames = Frames::new(std::slice::from_ref(&kind));
        assert_eq!(frames.next().unwrap().err(), Some(FrameError::Unknown(kind)));
        assert!(frames.next().is_none());
    }
    let mut buf = [0; 100];
    let mut out = Out::new(&mut buf);
    out.put_fragment(1, 2, 3, 48, 50, b"abc");
    let len = out.written();
    assert_eq!(Frames::new(&buf[..len]).next().unwrap().err(), Some(FrameError::Invalid));
    let mut out = Out::new(&mut buf);
    out.put_skip(1, (5, 5), 0, false);
    assert_eq!(Frames::new(&buf[..32]).next().unwrap().err(), Some(FrameError::Invalid));
}

fn request() -> OpenRequest {
    OpenRequest {
        stream_id: StreamId([7; 32]),
        subscription: [0; 8],
        resume: None,
        reliability: Reliability::FireAndForget,
        window_bytes: 1 << 40,
        window_datums: 9,
        max_datum_bytes: 16 << 20,
        weight: 4,
        form: DatumForm { fingerprint: [0xc3; 16], name: TypeName::new("u8") },
        criteria: b"prefix".to_vec(),
        tickets: vec![b"".to_vec(), b"ticket".to_vec()],
    }
}

#[test]
fn messages_round_trip_and_their_cuts_are_refused() {
    let resume = Some(Resume { publication: PublicationId([4; 16]), next_seq: 1 << 60 });
    let accept = Accept {
        publication: PublicationId([5; 16]),
        first_seq: 5,
        max_datum_bytes: 6,
        reliability: Reliability::Reliable,
        weight: 1,
    };
    for message in [
        SessionMessage::Open(3, request()),
        SessionMessage::Open(3, OpenRequest { resume, ..request() }),
        SessionMessage::Accept(4, accept),
        SessionMessage::Reject(5, CloseCode::NOT_ALLOWED, TypeName::default()),
        SessionMessage::Reject(5, CloseCode::TYPE_MISMATCH, TypeName::new("(u8, u16)")),
        SessionMessage::Fin(6, 1 << 50),
        SessionMessage::Reset { label: 7, code: CloseCode::TOO_SLOW, sender_opened: true, end_seq: None },
        SessionMessage::Reset {
            label: 7,
            code: CloseCode::DISCARDED,
            sender_opened: false,
            end_seq: Some(9),
        },
        SessionMessage::Record(b"peer".to_vec()),
        SessionMessage::Settings {
            max_ack_delay: core::time::Duration::from_micros(250),
            large_bytes: 1 << 40,
        },
    ] {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        let body = &bytes[message::MESSAGE_HEADER_BYTES..];
        assert_eq!(usize::from(bytes[4]), body.len());
        assert_eq!(SessionMessage::decode(bytes[0], body), Ok(message.clone()));
        for cut in 0..body.len() {
            let cut = SessionMessage::decode(bytes[0], &body[..cut]);
            assert!(cut.is_err() || matches!(message, SessionMessage::Record(_)));
        }
        let mut long = body.to_vec();
        long.push(0);
        assert!(
            SessionMessage::decode(bytes[0], &long).is_err() || matches!(message, SessionMessage::Record(_))
        );
        if let SessionMessage::Open(_, request) = &message {
            assert_eq!(message::open_bytes(request), bytes.len());
        }
    }
}

#[test]
fn open_with_more_tickets_than_are_taken_is_refused() {
    for (tickets, taken) in [(64, true), (65, false), (16_000, false)] {
        let open = OpenRequest { tickets: vec![vec![]; tickets], ..request() };
        let mut bytes = Vec::new();
        SessionMessage::Open(3, open).encode(&mut bytes);
        let decoded = SessionMessage::decode(bytes[0], &bytes[message::MESSAGE_HEADER_BYTES..]);
        assert_eq!(decoded.is_ok(), taken, "{tickets} tickets");
    }
}

/// OPEN and ACCEPT byte by byte: what another version of the protocol has to read.
#[test]
fn open_and_accept_have_these_bytes() {
    let encoded = |message: SessionMessage| {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        bytes
    };
    let open = OpenRequest {
        subscription: [0xa1; 8],
        resume: Some(Resume { publication: PublicationId([0xb2; 16]), next_seq: 0x0102_0304 }),
        ..request()
    };
    let bytes = encoded(SessionMessage::Open(3, open));
    let fixed = [
        &[1, 0, 0, 0, 142, 0, 0, 0][..],
        &[3, 0, 0, 0, 0, 4, 2, 0],
        &[0, 0, 0, 0, 0, 1, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 6, 0, 0, 0],
        &[7; 32],
        &[0xa1; 8],
        &[1, 2, 0, 0, 0, 0, 0, 0],
        &[0xb2; 16],
        &[4, 3, 2, 1, 0, 0, 0, 0],
        &[0xc3; 16],
        b"u8",
        b"prefix",
        &[0; 4],
        &[6, 0, 0, 0],
        b"ticket",
    ];
    assert_eq!(bytes, fixed.concat());
    let accept = Accept {
        publication: PublicationId([0xb2; 16]),
        first_seq: 0x0506,
        max_datum_bytes: 0x0708,
        reliability: Reliability::Reliable,
        weight: 9,
    };
    let fixed = [
        &[2, 0, 0, 0, 36, 0, 0, 0][..],
        &[4, 0, 0, 0, 1, 0, 0, 0, 6, 5, 0, 0, 0, 0, 0, 0, 8, 7, 0, 0],
        &[0xb2; 16],
    ];
    assert_eq!(encoded(SessionMessage::Accept(4, accept)), fixed.concat());
}

#[test]
fn open_that_resumes_nothing_carries_zeros() {
    let mut bytes = Vec::new();
    let resume = Some(Resume { publication: PublicationId([4; 16]), next_seq: 5 });
    SessionMessage::Open(3, OpenRequest { resume, ..request() }).encode(&mut bytes);
    let body = &mut bytes[message::MESSAGE_HEADER_BYTES..];
    for flag in [0, 2, 255] {
        body[72] = flag;
        assert_eq!(SessionMessage::decode(1, body), Err(FrameError::Invalid));
    }
}

proptest! {
    #[test]
    fn every_open_round_trips(
        subscription: [u8; 8],
        resume: Option<([u8; 16], u64)>,
        criteria: Vec<u8>,
        tickets in proptest::collection::vec(any::<Vec<u8>>(), 0..4),
    ) {
        let resume = resume.map(|(publication, next_seq)| Resume {
            publication: PublicationId(publication),
            next_seq,
        });
        let open = OpenRequest { subscription, resume, criteria, tickets, ..request() };
        let message = SessionMessage::Open(9, open);
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        let body = &bytes[message::MESSAGE_HEADER_BYTES..];
        prop_assert_eq!(SessionMessage::decode(bytes[0], body), Ok(message));
    }
}

#[test]
fn runs_of_empty_datums_are_short_and_longer_ones_are_refused() {
    let datums: Vec<&[u8]> = vec![&[]; 1_000];
    let (bytes, taken) = run_of(&datums, 1_196);
    assert_eq!(taken, usize::from(MAX_EMPTY_RUN));
    let Frame::Data(run) = only(&bytes) else { panic!() };
    assert!(run.datums.is_whole() && run.datums.count() == taken);
    let mut longer = bytes;
    longer[2..4].copy_from_slice(&(MAX_EMPTY_RUN + 1).to_le_bytes());
    assert!(matches!(Frames::new(&longer).next(), Some(Err(FrameError::Invalid))));
}
