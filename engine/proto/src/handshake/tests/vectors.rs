//! Published test vectors of the two patterns (the "cacophony" set), run with this crate's curve, pattern
//! names and positions of the pre-shared key.

use std::{boxed::Box, string::String, vec, vec::Vec};

use snow::{Builder, HandshakeState};

use super::super::noise::{Pattern, Resolver};
use crate::seal::KeyBytes;

struct Vector {
    pattern: Pattern,
    transcript_hash: &'static str,
    /// Payload and message of each step; the first steps are the handshake, the others use the split keys.
    messages: &'static [(&'static str, &'static str)],
}

const PROLOGUE: &str = "4a6f686e2047616c74";
const PSK: &str = "54686973206973206d7920417573747269616e20706572737065637469766521";
const INITIATOR_STATIC: &str = "e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1";
const INITIATOR_EPHEMERAL: &str = "893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a";
const RESPONDER_STATIC: &str = "4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893";
const RESPONDER_EPHEMERAL: &str = "bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b";
const RESPONDER_PUBLIC: &str = "31e0303fd6418d2f8c0e78b91f22e8caed0fbe48656dcf4767e4834f701b8f62";

const VECTORS: [Vector; 2] = [
    Vector {
        pattern: Pattern::Known,
        transcript_hash: "f5191b875290abcd41347ac3622d9679688a7e980229cb937ef748336cfde0e5",
        messages: &[
            (
                "4c756477696720766f6e204d69736573",
                concat!(
                    "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944001e21de9f98ddd8",
                    "e2ad57527207feb56253c9c94a9e496782ecfcb2a75fbcaf1b52948cc48daefe660c62119ab50009",
                    "80c84831215f2441eba616548e832985464cf17e51ee93109008399a21f7e13f",
                ),
            ),
            (
                "4d757272617920526f746862617264",
                concat!(
                    "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843cb765f2caef0751b",
                    "8f007572dab0322217755c0632f365717edbf34d33e87a",
                ),
            ),
            ("462e20412e20486179656b", "8153ca9833bc3c1b91a7e66e5f4d4f5b59bf9e64c2f20d15f0bba7"),
            ("4361726c204d656e676572", "07af0c9c86e1b4e80f36b04ff7688d51141af3debd0332f0a705ef"),
            (
                "4a65616e2d426170746973746520536179",
                "6ab1467c0448cc78394494abaaf23afce0e234315d6e2624dcbfa8a21c1c4d073d",
            ),
            (
                "457567656e2042f6686d20766f6e2042617765726b",
                "dfc346c0d2296ae6cf1acf6f12b8456a1dba228cf8d8b774aacf1c47fc53aa80ebc7a4c292",
            ),
        ],
    },
    Vector {
        pattern: Pattern::Address,
        transcript_hash: "fc0819f08aebc23de9a783653d8d7d6395b7d243d9deec12f5d6fe2f4c206673",
        messages: &[
            (
                "4c756477696720766f6e204d69736573",
                concat!(
                    "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944325ea71699951ece",
                    "20f284b6ad9604a029eb335bf84564c308b6ade90ae45078",
                ),
            ),
            (
                "4d757272617920526f746862617264",
                concat!(
                    "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f1448088432645535233ffe143",
                    "2564d66a85227b677ced6fc2730ae0998ff49aa1dc56b8186e31b16e416f5d9c03c71f6c34fd37ec",
                    "013105020070a8b00c000ce7ed56629c119795f96463274bc05519d5c24dc1",
                ),
            ),
            (
                "462e20412e20486179656b",
                concat!(
                    "adf16c5375ec4172576783fd59f2bfa5c7a320d0a13b759592e1a2ddf5524cce59ccbb92ff5d321f",
                    "ced3bdb2840596df562c0e68aad41b090abd285f6d300130072e06964a6ba494e58d47",
                ),
            ),
            ("4361726c204d656e676572", "dcdc045c8e9ec36c8ea4078552e5849f87cb9bdfbd2a4eee3baaf6"),
            (
                "4a65616e2d426170746973746520536179",
                "4d11ed1f242e199dbcbc9773495834a95e8a6109e2b555aeb50780e69b152821e4",
            ),
            (
                "457567656e2042f6686d20766f6e2042617765726b",
                "4d1e6873ffcc88490be6914928590f63253c2db434f1f206f083f89ca559a3e60a8dcc4f12",
            ),
        ],
    },
];

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| std::format!("{byte:02x}")).collect()
}

fn side(pattern: Pattern, initiator: bool) -> HandshakeState {
    let resolver = Resolver { seed: KeyBytes::from_bytes([0; 32]) };
    let (own, ephemeral) = if initiator {
        (bytes(INITIATOR_STATIC), bytes(INITIATOR_EPHEMERAL))
    } else {
        (bytes(RESPONDER_STATIC), bytes(RESPONDER_EPHEMERAL))
    };
    let (prologue, responder_public) = (bytes(PROLOGUE), bytes(RESPONDER_PUBLIC));
    let psk: [u8; 32] = bytes(PSK).try_into().unwrap();
    let mut builder = Builder::with_resolver(pattern.name().parse().unwrap(), Box::new(resolver))
        .psk(pattern.psk_place(), &psk)
        .and_then(|builder| builder.local_private_key(&own))
        .and_then(|builder| builder.prologue(&prologue))
        .unwrap()
        .fixed_ephemeral_key_for_testing_only(&ephemeral);
    if !initiator {
        return builder.build_responder().unwrap();
    }
    if pattern == Pattern::Known {
        builder = builder.remote_public_key(&responder_public).unwrap();
    }
    builder.build_initiator().unwrap()
}

#[test]
fn both_patterns_agree_with_published_vectors() {
    for vector in &VECTORS {
        let mut sides = [side(vector.pattern, true), side(vector.pattern, false)];
        let mut steps = vector.messages.iter();
        let mut turn = 0;
        while !sides[0].is_handshake_finished() {
            let (payload, message) = steps.next().unwrap();
            let (mut sent, mut received) = (vec![0; 512], vec![0; 512]);
            let length = sides[turn].write_message(&bytes(payload), &mut sent).unwrap();
            assert_eq!(hex(&sent[..length]), *message);
            let length = sides[1 - turn].read_message(&sent[..length], &mut received).unwrap();
            assert_eq!(hex(&received[..length]), *payload);
            turn = 1 - turn;
        }
        assert_eq!(hex(sides[0].get_handshake_hash()), vector.transcript_hash);
        // The keys taken from the split are those that seal the vectors' later messages.
        assert_eq!(sides[0].dangerously_get_raw_split(), sides[1].dangerously_get_raw_split());
        let [initiator, responder] = sides;
        let mut transports =
            [initiator.into_transport_mode().unwrap(), responder.into_transport_mode().unwrap()];
        for (payload, message) in steps {
            let mut sent = vec![0; 512];
            let length = transports[turn].write_message(&bytes(payload), &mut sent).unwrap();
            assert_eq!(hex(&sent[..length]), *message);
            turn = 1 - turn;
        }
    }
}

#[test]
fn raw_split_keys_seal_the_vectors_later_messages() {
    use crate::seal::{Aead, RingAead, Suite};

    for vector in &VECTORS {
        let mut sides = [side(vector.pattern, true), side(vector.pattern, false)];
        let mut turn = 0;
        let mut steps = vector.messages.iter();
        while !sides[0].is_handshake_finished() {
            let (payload, message) = steps.next().unwrap();
            sides[turn].write_message(&bytes(payload), &mut [0; 512]).unwrap();
            sides[1 - turn].read_message(&bytes(message), &mut [0; 512]).unwrap();
            turn = 1 - turn;
        }
        let (forth, back) = sides[0].dangerously_get_raw_split();
        // The first message of each direction: Noise writes its nonce little-endian, which for 0 is the same.
        for (key, (payload, message)) in [forth, back].into_iter().cycle().skip(turn).zip(steps).take(2) {
            let mut message = bytes(message);
            let aead = RingAead::new(Suite::ChaCha20Poly1305, &KeyBytes::from_bytes(key));
            let length = aead.open(0, &[], &mut message).unwrap();
            assert_eq!(hex(&message[..length]), *payload);
        }
    }
}
