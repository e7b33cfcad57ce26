//! The network secret and a recording of every packet do not give the keys.

use std::vec::Vec;

use super::super::{
    credentials::{Credentials, CredentialsConfig, PeerLimits},
    noise::{Noise, Pattern},
    packet::PAYLOAD_BYTES,
};
use crate::{
    identity::Identity,
    ids::NetworkId,
    seal::{KeyBytes, SessionKeys, Suite, Suites},
};

fn local(who: u8) -> Credentials {
    let config = CredentialsConfig {
        network: NetworkId([3; 32]),
        secret: None,
        validity: 0,
        suites: Suites::for_cpu(true),
        boot: 1,
        limits: PeerLimits { max_packet_bytes: 1_452, max_channels: 1, idle_timeout_ms: 1 },
    };
    Credentials::new(&Identity::from_seed(&[who; 32]), config)
}

/// A bare handshake; returns both sides' keys, the messages, and the transcript hash.
fn run(pattern: Pattern, alice_seed: u8, bob_seed: u8) -> ([SessionKeys; 2], Vec<Vec<u8>>, Vec<u8>) {
    let (alice, bob) = (local(1), local(2));
    let target = (&bob.peer_id, &bob.transport.public);
    let known = (pattern == Pattern::Known).then_some(target);
    let mut sides = [
        Noise::initiator(&alice, known, &KeyBytes::from_bytes([alice_seed; 32])).unwrap(),
        Noise::responder(&bob, pattern, &KeyBytes::from_bytes([bob_seed; 32])).unwrap(),
    ];
    let sizes: &[usize] =
        if pattern == Pattern::Known { &[32 + 48 + 16, 32 + 16] } else { &[32 + 16, 32 + 48 + 16, 48 + 16] };
    let mut wire = Vec::new();
    for (step, size) in sizes.iter().enumerate() {
        let mut message = std::vec![0; size + PAYLOAD_BYTES];
        sides[step % 2].write(&[7; PAYLOAD_BYTES], &mut message).unwrap();
        let mut payload = [0; PAYLOAD_BYTES];
        sides[1 - step % 2].read(&message, &mut payload).unwrap();
        assert_eq!(payload, [7; PAYLOAD_BYTES]);
        wire.push(message);
    }
    let hash = sides[0].transcript_hash();
    assert_eq!(hash, sides[1].transcript_hash());
    (sides.map(|side| side.into_keys(Suite::Aes256Gcm).unwrap()), wire, hash)
}

#[test]
fn keys_cannot_be_computed_from_the_secret_and_the_recording() {
    for pattern in [Pattern::Known, Pattern::Address] {
        let ([ours, theirs], wire, hash) = run(pattern, 10, 20);
        assert_eq!(ours.send.as_bytes(), theirs.recv.as_bytes());
        assert_eq!(ours.recv.as_bytes(), theirs.send.as_bytes());
        let network = local(1);
        // Every public or shared value, and the keys that the protocol's own derivations make of it.
        let mut known: Vec<Vec<u8>> = std::vec![
            hash.clone(),
            network.psk.as_bytes().to_vec(),
            network.mac_own.as_bytes().to_vec(),
            network.mac_address.as_bytes().to_vec(),
            [hash.as_slice(), network.psk.as_bytes()].concat(),
            [network.psk.as_bytes(), hash.as_slice()].concat(),
            wire.concat(),
        ];
        known.extend(wire);
        for material in known {
            for direction in [1, 2] {
                let mut hasher = blake3::Hasher::new_derive_key("corewire v1 session key of one direction");
                hasher.update(&material).update(&[direction, Suite::Aes256Gcm as u8]);
                let guess = *hasher.finalize().as_bytes();
                assert!(guess != *ours.send.as_bytes() && guess != *ours.recv.as_bytes());
                assert!(material != ours.send.as_bytes() && material != ours.recv.as_bytes());
            }
        }
    }
}

#[test]
fn keys_depend_on_both_sides_randomness_and_on_the_suite() {
    for pattern in [Pattern::Known, Pattern::Address] {
        let ([first, _], _, _) = run(pattern, 10, 20);
        let ([again, _], _, _) = run(pattern, 10, 20);
        let ([other_initiator, _], _, _) = run(pattern, 11, 20);
        let ([other_responder, _], _, _) = run(pattern, 10, 21);
        assert_eq!(first.send.as_bytes(), again.send.as_bytes());
        assert_ne!(first.send.as_bytes(), other_initiator.send.as_bytes());
        assert_ne!(first.send.as_bytes(), other_responder.send.as_bytes());
        assert_ne!(first.send.as_bytes(), first.recv.as_bytes());
    }
}

#[test]
fn side_without_the_secret_gets_no_keys() {
    let (mut alice, bob) = (local(1), local(2));
    alice.psk = KeyBytes::from_bytes([0; 32]);
    let mut initiator =
        Noise::initiator(&alice, Some((&bob.peer_id, &bob.transport.public)), &KeyBytes::from_bytes([1; 32]))
            .unwrap();
    let mut responder = Noise::responder(&bob, Pattern::Known, &KeyBytes::from_bytes([2; 32])).unwrap();
    let mut message = [0; 32 + 48 + 16 + PAYLOAD_BYTES];
    initiator.write(&[0; PAYLOAD_BYTES], &mut message).unwrap();
    responder.read(&message, &mut [0; PAYLOAD_BYTES]).unwrap();
    let mut reply = [0; 32 + 16 + PAYLOAD_BYTES];
    responder.write(&[0; PAYLOAD_BYTES], &mut reply).unwrap();
    assert!(initiator.read(&reply, &mut [0; PAYLOAD_BYTES]).is_err());
    assert!(initiator.into_keys(Suite::Aes256Gcm).is_err(), "no keys before the end");
}
