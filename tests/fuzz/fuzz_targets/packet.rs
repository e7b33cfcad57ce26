//! Packet headers and the opener.

#![no_main]

use std::collections::BTreeSet;

use arbitrary::Arbitrary;
use corewire_proto::{
    seal::{KeyBytes, Opener, Sealer, Suite, UnsealError},
    time::Instant,
    wire::header::{HEADER_BYTES, Header, PACKET_OVERHEAD_BYTES, ReceiverIndex},
};
use libfuzzer_sys::fuzz_target;

const NOW: Instant = Instant::from_nanos(1);
const KEY: [u8; 32] = [7; 32];

#[derive(Arbitrary, Debug)]
enum Step {
    /// Seal a packet with this plaintext.
    Seal(Vec<u8>),
    /// Open packet `n` as it was sealed.
    Open(u8),
    /// Open packet `n` with one bit flipped.
    Flip(u8, u16),
    /// Open the first bytes of packet `n`.
    Cut(u8, u16),
    /// Open packet `n` with bytes appended.
    Extend(u8, Vec<u8>),
    /// Open the header of one packet with the body of another.
    Splice(u8, u8),
    /// Open these bytes.
    Raw(Vec<u8>),
    /// Open these bytes behind a header with this number.
    Numbered(u64, Vec<u8>),
}

#[derive(Arbitrary, Debug)]
struct Input {
    aes: bool,
    steps: Vec<Step>,
}

fuzz_target!(|input: Input| {
    let suite = if input.aes { Suite::Aes256Gcm } else { Suite::ChaCha20Poly1305 };
    let key = KeyBytes::from_bytes(KEY);
    let mut sealer = Sealer::new(suite, &key, NOW);
    let mut opener = Opener::new(suite, &key, NOW);
    let index = ReceiverIndex::new(3, 70_000, 0xc0ff_ee00).expect("the slot has 17 bits");
    let mut sealed: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut opened = BTreeSet::new();
    for step in input.steps.into_iter().take(64) {
        let pick = |n: u8| sealed.get(usize::from(n) % sealed.len().max(1)).map(|(packet, _)| packet.clone());
        let packet = match step {
            Step::Seal(plaintext) => {
                let mut packet = vec![0; plaintext.len() + PACKET_OVERHEAD_BYTES];
                packet[HEADER_BYTES..HEADER_BYTES + plaintext.len()].copy_from_slice(&plaintext);
                let done = sealer.seal(NOW, index, &mut packet, plaintext.len()).expect("within every limit");
                assert_eq!((done.number, done.bytes), (sealed.len() as u64, packet.len()));
                sealed.push((packet, plaintext));
                continue;
            }
            Step::Open(n) => pick(n),
            Step::Flip(n, bit) => pick(n).map(|mut packet| {
                let bit = usize::from(bit) % (packet.len() * 8);
                packet[bit / 8] ^= 1 << (bit % 8);
                packet
            }),
            Step::Cut(n, length) => pick(n).map(|mut packet| {
                packet.truncate(usize::from(length) % (packet.len() + 1));
                packet
            }),
            Step::Extend(n, more) => pick(n).map(|mut packet| {
                packet.extend(more);
                packet
            }),
            Step::Splice(head, body) => pick(head).zip(pick(body)).map(|(head, mut body)| {
                body[..HEADER_BYTES].copy_from_slice(&head[..HEADER_BYTES]);
                body
            }),
            Step::Raw(bytes) => Some(bytes),
            Step::Numbered(number, body) => {
                let mut packet = vec![0x80, 0, 0, 0];
                packet.extend_from_slice(&index.to_bytes());
                packet.extend_from_slice(&number.to_le_bytes());
                packet.extend(body);
                Some(packet)
            }
        };
        let Some(packet) = packet else { continue };
        let number = sealed.iter().position(|(known, _)| *known == packet).map(|number| number as u64);
        let before = opener.window_end();
        let parsed = Header::parse(&packet);
        let mut copy = packet.clone();
        match opener.open(NOW, &mut copy) {
            Ok(done) => {
                assert!(parsed.is_ok());
                assert_eq!(Some(done.number), number, "opened what nobody sealed");
                assert_eq!(done.plaintext, sealed[done.number as usize].1);
                assert!(opened.insert(done.number), "opened twice");
            }
            Err(error) => {
                assert_eq!(opener.window_end(), before, "a refused packet moved the window");
                if let Some(number) = number {
                    assert!(opened.contains(&number) && error == UnsealError::Replay, "{error:?}");
                }
            }
        }
    }
});
