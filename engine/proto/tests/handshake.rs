//! The handshake over its public interface: who gets keys, who does not, and that nothing else happens.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use corewire_proto::{
    NetworkId, PeerId,
    handshake::{
        Attempt, COOKIE_BYTES, GIVE_UP_AFTER, HELLO_BYTES, HELLO_REPLY_BYTES, HandshakeError, Heard,
        INIT_BYTES, Initiator, Load, Local, LocalConfig, MAX_HANDSHAKE_BYTES, NetworkSecret, Outcome,
        PeerLimits, Progress, REPLY_BYTES, RETRY_FIRST, Request, Responder, ResponderConfig, Role, Target,
        Timeout,
    },
    identity::Identity,
    seal::{OpenError, Suite, Suites},
    time::Instant,
    wire::header::{HEADER_BYTES, Header, PACKET_OVERHEAD_BYTES, PacketKind, ReceiverIndex},
};

const NOW: Instant = Instant::from_nanos(1_000_000_000);
const NETWORK: NetworkId = NetworkId([0x11; 32]);
const ALICE: u8 = 1;
const BOB: u8 = 2;

fn config() -> LocalConfig {
    LocalConfig {
        network: NETWORK,
        secret: Some(NetworkSecret::new(core::array::from_fn(|i| i as u8)).unwrap()),
        validity: 0,
        suites: Suites::for_cpu(true),
        boot: 77,
        limits: PeerLimits { max_packet_bytes: 1_452, max_channels: 4_096, idle_timeout_ms: 30_000 },
    }
}

fn local(who: u8, config: LocalConfig) -> Arc<Local> {
    Arc::new(Local::new(&Identity::from_seed(&[who; 32]), config))
}

fn index(n: u32) -> ReceiverIndex {
    ReceiverIndex::new((n % 7) as u8, n, n.wrapping_mul(0x9e37_79b9)).unwrap()
}

fn attempt(index: ReceiverIndex) -> Attempt {
    Attempt { index, generation: 0, number: 1 }
}

fn address(n: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], n))
}

/// Randomness that is none, so that every run of a test is the same.
fn entropy(mut byte: u8) -> impl FnMut(&mut [u8]) {
    move |out| {
        byte = byte.wrapping_add(1);
        out.fill(byte);
    }
}

fn no_entropy() -> impl FnMut(&mut [u8]) {
    |_: &mut [u8]| panic!("randomness was asked for before the packet was checked")
}

fn responder(local: &Arc<Local>) -> Responder {
    Responder::new(Arc::clone(local), ResponderConfig::default(), [9; 32])
}

fn known(local: &Local) -> Target {
    Target::Known { peer: local.peer_id(), key: *local.transport_key() }
}

fn start(local: &Arc<Local>, target: Target) -> (Initiator, Vec<u8>) {
    let entropy = if target == Target::Address { [0xa0; 32] } else { [0xa1; 32] };
    Initiator::start(NOW, entropy, Arc::clone(local), target, attempt(index(5))).unwrap()
}

fn request(responder: &mut Responder, packet: &[u8]) -> Request {
    match responder.handle(NOW, address(1), packet, Load::Calm, &mut entropy(0x40)) {
        Ok(Heard::Request(request)) => *request,
        other => panic!("no request: {other:?}"),
    }
}

fn reply_to(responder: &mut Responder, packet: &[u8]) -> (Outcome, Vec<u8>) {
    let request = request(responder, packet);
    responder.accept(NOW, request, index(6)).unwrap()
}

fn answer_to(responder: &mut Responder, packet: &[u8]) -> Vec<u8> {
    match responder.handle(NOW, address(1), packet, Load::Calm, &mut entropy(0x40)) {
        Ok(Heard::Hello(hello)) => responder.answer(NOW, *hello, index(6)).unwrap(),
        other => panic!("no hello: {other:?}"),
    }
}

fn done(progress: Result<Progress, HandshakeError>) -> (Outcome, Option<Vec<u8>>) {
    match progress {
        Ok(Progress::Done { outcome, send }) => (*outcome, send),
        other => panic!("not done: {other:?}"),
    }
}

fn joined(heard: Result<Heard, HandshakeError>) -> Outcome {
    match heard {
        Ok(Heard::Joined(outcome)) => *outcome,
        other => panic!("not joined: {other:?}"),
    }
}

/// A whole handshake with a known peer.
fn meet(alice: &Arc<Local>, bob: &Arc<Local>) -> (Outcome, Outcome) {
    let (mut initiator, init) = start(alice, known(bob));
    let (theirs, reply) = reply_to(&mut responder(bob), &init);
    (done(initiator.handle(NOW, &reply)).0, theirs)
}

/// A whole handshake by address.
fn join(alice: &Arc<Local>, bob: &Arc<Local>) -> (Outcome, Outcome, [Vec<u8>; 3]) {
    let mut bobs = responder(bob);
    let (mut initiator, hello) = start(alice, Target::Address);
    let reply = answer_to(&mut bobs, &hello);
    let (ours, finish) = done(initiator.handle(NOW, &reply));
    let finish = finish.unwrap();
    let theirs = joined(bobs.handle(NOW, address(1), &finish, Load::Calm, &mut no_entropy()));
    assert_eq!(bobs.pending(), 0);
    (ours, theirs, [hello, reply, finish])
}

/// What one side seals, the other opens, in both directions, and nobody opens its own.
fn assert_talk(ours: &Outcome, theirs: &Outcome) {
    assert_eq!(ours.keys.suite, theirs.keys.suite);
    assert_eq!((ours.local_index, ours.remote_index), (theirs.remote_index, theirs.local_index));
    for (from, to) in [(ours, theirs), (theirs, ours)] {
        let (mut sealer, mut own_opener) = from.seals(1_452, 128, NOW);
        let (_, mut opener) = to.seals(1_452, 128, NOW);
        let mut packet = [0x55; 64];
        sealer.seal(NOW, from.remote_index, &mut packet, 64 - PACKET_OVERHEAD_BYTES).unwrap();
        assert_eq!(own_opener.open(NOW, &mut packet.clone()), Err(OpenError::Forged), "reflected");
        assert_eq!(opener.open(NOW, &mut packet).unwrap().plaintext, [0x55; 64 - PACKET_OVERHEAD_BYTES]);
    }
}

#[test]
fn two_peers_that_know_each_other_get_the_same_keys() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let (ours, theirs) = meet(&alice, &bob);
    assert_talk(&ours, &theirs);
    assert_eq!((ours.peer, theirs.peer), (bob.peer_id(), alice.peer_id()));
    assert_eq!((&ours.peer_static, &theirs.peer_static), (bob.transport_key(), alice.transport_key()));
    assert_eq!((ours.role, theirs.role), (Role::Initiator, Role::Responder));
    assert_eq!((ours.confirmed, theirs.confirmed), (true, false));
    assert_eq!((ours.peer_boot, ours.peer_limits), (77, config().limits));
    assert_eq!(ours.peer_key, *Identity::from_seed(&[BOB; 32]).public_key());
}

#[test]
fn two_peers_that_know_only_an_address_get_the_same_keys() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let (ours, theirs, _) = join(&alice, &bob);
    assert_talk(&ours, &theirs);
    assert_eq!((ours.peer, theirs.peer), (bob.peer_id(), alice.peer_id()));
    assert_eq!((&ours.peer_static, &theirs.peer_static), (bob.transport_key(), alice.transport_key()));
    assert_eq!((ours.confirmed, theirs.confirmed), (false, true));
}

#[test]
fn a_network_without_a_secret_works_and_is_another_one() {
    let public = || LocalConfig { secret: None, ..config() };
    let (ours, theirs) = meet(&local(ALICE, public()), &local(BOB, public()));
    assert_talk(&ours, &theirs);
    let (_, init) = start(&local(ALICE, public()), known(&local(BOB, public())));
    let error =
        responder(&local(BOB, config())).handle(NOW, address(1), &init, Load::Calm, &mut no_entropy());
    assert_eq!(error.unwrap_err(), HandshakeError::Mac);
}

#[test]
fn the_same_input_always_gives_the_same_packets_and_other_entropy_gives_others() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    assert_eq!(start(&alice, known(&bob)).1, start(&alice, known(&bob)).1);
    let other = Initiator::start(NOW, [0xa2; 32], alice.clone(), known(&bob), attempt(index(5))).unwrap();
    assert_ne!(start(&alice, known(&bob)).1[HEADER_BYTES..], other.1[HEADER_BYTES..]);
    let (first, second) = (join(&alice, &bob), join(&alice, &bob));
    assert_eq!(first.2, second.2);
}

#[test]
fn golden_handshakes_keep_their_bytes() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let (_, init) = start(&alice, known(&bob));
    let (ours, reply) = reply_to(&mut responder(&bob), &init);
    let (_, _, [hello, hello_reply, finish]) = join(&alice, &bob);
    let name = |bytes: &[u8]| {
        blake3::hash(bytes).as_bytes()[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let golden = [&init, &reply, &hello, &hello_reply, &finish].map(|packet| name(packet));
    assert_eq!(golden, GOLDEN);
    assert_eq!(name(ours.keys.send.as_bytes()), GOLDEN_KEY);
}

/// Change these only together with the protocol version.
const GOLDEN: [&str; 5] =
    ["0cd2cd5bbf34b75d", "7bfd0f4c6ff5b08b", "7ccb76382f8b16ca", "50c25383d4f1dc5b", "18851a82b290a6d3"];
const GOLDEN_KEY: &str = "c404b3ce7481c53b";

#[test]
fn every_flipped_bit_of_every_handshake_packet_is_refused() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let mut bobs = responder(&bob);
    let (mut initiator, init) = start(&alice, known(&bob));
    each_flipped(&init[..], |bad| bobs.handle(NOW, address(1), bad, Load::Calm, &mut no_entropy()).err());
    assert_eq!(bobs.remembered(), 0);
    let (_, reply) = reply_to(&mut bobs, &init);
    each_flipped(&reply, |bad| initiator.handle(NOW, bad).err());
    done(initiator.handle(NOW, &reply));

    let (mut initiator, hello) = start(&alice, Target::Address);
    each_flipped(&hello, |bad| bobs.handle(NOW, address(1), bad, Load::Calm, &mut no_entropy()).err());
    let reply = answer_to(&mut bobs, &hello);
    each_flipped(&reply, |bad| initiator.handle(NOW, bad).err());
    let (_, finish) = done(initiator.handle(NOW, &reply));
    let finish = finish.unwrap();
    each_flipped(&finish, |bad| bobs.handle(NOW, address(1), bad, Load::Calm, &mut no_entropy()).err());
    joined(bobs.handle(NOW, address(1), &finish, Load::Calm, &mut no_entropy()));
}

/// `mac2` is left out: it means nothing unless a cookie was asked for (see the cookie's test).
fn each_flipped(packet: &[u8], mut handle: impl FnMut(&[u8]) -> Option<HandshakeError>) {
    for bit in 0..(packet.len() - 16) * 8 {
        let mut bad = packet.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(handle(&bad).is_some(), "bit {bit} of a packet of {} bytes", packet.len());
    }
}

#[test]
fn every_flipped_bit_is_refused_even_when_an_insider_repairs_the_filter() {
    // A member knows the filter's key and can flip bits and then make the keyed hash right again.
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let mut bobs = responder(&bob);
    let (mut initiator, init) = start(&alice, known(&bob));
    let (mut joiner, hello) = start(&alice, Target::Address);
    let (_, reply) = reply_to(&mut responder(&bob), &init);
    let repair = |packet: &[u8], bit: usize, key: &[u8; 32]| {
        let mut bad = packet.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        let end = bad.len() - 32;
        let mac = blake3::keyed_hash(key, &bad[..end]);
        bad[end..end + 16].copy_from_slice(&mac.as_bytes()[..16]);
        bad
    };
    // Every third bit is enough here: each one costs curve operations.
    for bit in (0..(init.len() - 32) * 8).step_by(3) {
        let bad = repair(&init, bit, &filter_key(Some(bob.transport_key())));
        let heard = bobs.handle(NOW, address(1), &bad, Load::Calm, &mut entropy(1));
        assert!(heard.is_err(), "bit {bit} of an init");
    }
    // A rewritten sender index (bytes 12 to 20) is survived three times, so only three bits of it are tried.
    let rewritten = |bit: &usize| (96 + 9..160).contains(bit);
    for bit in (0..(reply.len() - 32) * 8).step_by(3).filter(|bit| !rewritten(bit)) {
        let bad = repair(&reply, bit, &filter_key(Some(alice.transport_key())));
        assert!(initiator.handle(NOW, &bad).is_err(), "bit {bit} of a reply");
    }
    done(initiator.handle(NOW, &reply));
    let hello_reply = answer_to(&mut bobs, &hello);
    for bit in (0..(hello_reply.len() - 32) * 8).step_by(3).filter(|bit| !rewritten(bit)) {
        let bad = repair(&hello_reply, bit, &filter_key(None));
        assert!(joiner.handle(NOW, &bad).is_err(), "bit {bit} of a hello reply");
    }
    let (_, finish) = done(joiner.handle(NOW, &hello_reply));
    let finish = finish.unwrap();
    // A broken last message does not spoil the handshake, twice; the third ends it and gives the index back.
    for bit in [200 * 8, 100 * 8] {
        let bad = repair(&finish, bit, &filter_key(None));
        let heard = bobs.handle(NOW, address(1), &bad, Load::Calm, &mut no_entropy());
        assert_eq!(heard.unwrap_err(), HandshakeError::Noise);
    }
    let theirs = joined(bobs.handle(NOW, address(1), &finish, Load::Calm, &mut no_entropy()));
    assert_eq!(theirs.peer, alice.peer_id());
    assert_eq!(bobs.poll_freed(), None);
}

/// The filter's key as any member can compute it (a copy of the derivation, which pins it down).
fn filter_key(transport_key: Option<&[u8; 32]>) -> [u8; 32] {
    let secret: [u8; 32] = core::array::from_fn(|i| i as u8);
    let context = match transport_key {
        Some(_) => "corewire v1 packet filter for a known peer",
        None => "corewire v1 packet filter for an address",
    };
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(&secret).update(NETWORK.as_bytes());
    if let Some(key) = transport_key {
        hasher.update(key);
    }
    *hasher.finalize().as_bytes()
}

#[test]
fn too_many_broken_last_messages_end_the_handshake_and_free_the_index() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let mut bobs = responder(&bob);
    let (mut initiator, hello) = start(&alice, Target::Address);
    let reply = answer_to(&mut bobs, &hello);
    let (_, finish) = done(initiator.handle(NOW, &reply));
    let mut bad = finish.unwrap();
    bad[60] ^= 1;
    let end = bad.len() - 32;
    let mac = blake3::keyed_hash(&filter_key(None), &bad[..end]);
    bad[end..end + 16].copy_from_slice(&mac.as_bytes()[..16]);
    for _ in 0..3 {
        assert!(bobs.handle(NOW, address(1), &bad, Load::Calm, &mut no_entropy()).is_err());
    }
    assert_eq!(bobs.poll_freed(), Some(index(6)));
    assert_eq!(bobs.pending(), 0);
    let heard = bobs.handle(NOW, address(1), &bad, Load::Calm, &mut no_entropy());
    assert_eq!(heard.unwrap_err(), HandshakeError::UnknownIndex);
}

#[test]
fn every_other_length_is_refused_before_anything_else() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let mut bobs = responder(&bob);
    let (mut initiator, init) = start(&alice, known(&bob));
    let (_, hello) = start(&alice, Target::Address);
    let (_, reply) = reply_to(&mut responder(&bob), &init);
    for packet in [&init, &hello, &reply] {
        for length in 0..packet.len() {
            let cut = &packet[..length];
            assert!(bobs.handle(NOW, address(1), cut, Load::Heavy, &mut no_entropy()).is_err());
            assert!(initiator.handle(NOW, cut).is_err());
        }
        for extra in 1..100 {
            let mut long = packet.clone();
            long.resize(packet.len() + extra, 0);
            assert!(bobs.handle(NOW, address(1), &long, Load::Heavy, &mut no_entropy()).is_err());
            assert!(initiator.handle(NOW, &long).is_err());
        }
    }
    for length in 0..400 {
        for fill in 0..=255 {
            let junk = vec![fill; length];
            assert!(bobs.handle(NOW, address(1), &junk, Load::Heavy, &mut no_entropy()).is_err());
            assert!(initiator.handle(NOW, &junk).is_err());
        }
    }
    done(initiator.handle(NOW, &reply));
}

#[test]
fn a_wrong_network_secret_or_key_gets_no_answer() {
    let bob = local(BOB, config());
    let mut bobs = responder(&bob);
    let mut refused = |config: LocalConfig, target: Target| {
        let (_, packet) = start(&local(ALICE, config), target);
        bobs.handle(NOW, address(1), &packet, Load::Heavy, &mut no_entropy()).unwrap_err()
    };
    let secret = || Some(NetworkSecret::new(core::array::from_fn(|i| 255 - i as u8)).unwrap());
    for target in [known(&bob), Target::Address] {
        let other_network = LocalConfig { network: NetworkId([0x12; 32]), ..config() };
        assert_eq!(refused(other_network, target), HandshakeError::Mac);
        assert_eq!(refused(LocalConfig { secret: secret(), ..config() }, target), HandshakeError::Mac);
        assert_eq!(refused(LocalConfig { secret: None, ..config() }, target), HandshakeError::Mac);
    }
    let other_key = Target::Known { peer: bob.peer_id(), key: *local(3, config()).transport_key() };
    assert_eq!(refused(config(), other_key), HandshakeError::Mac, "meant for another key");
    let other_name = Target::Known { peer: PeerId([3; 32]), key: *bob.transport_key() };
    let (_, packet) = start(&local(ALICE, config()), other_name);
    let heard = bobs.handle(NOW, address(1), &packet, Load::Calm, &mut entropy(1));
    assert_eq!(heard.unwrap_err(), HandshakeError::Noise, "the name is in the prologue");
}

#[test]
fn an_own_message_that_comes_back_is_refused() {
    let alice = local(ALICE, config());
    let mut alices = responder(&alice);
    let bob = local(BOB, config());
    let (mut initiator, init) = start(&alice, known(&bob));
    let heard = alices.handle(NOW, address(1), &init, Load::Calm, &mut no_entropy());
    assert_eq!(heard.unwrap_err(), HandshakeError::Mac);
    assert_eq!(initiator.handle(NOW, &init).unwrap_err(), HandshakeError::UnknownIndex);

    let (mut initiator, hello) = start(&alice, Target::Address);
    let reply = answer_to(&mut alices, &hello);
    assert_eq!(initiator.handle(NOW, &reply).unwrap_err(), HandshakeError::OwnIdentity);
    assert_eq!(initiator.poll_timeout(), None, "whoever answered with our identity will not do better");
    let start = Initiator::start(NOW, [1; 32], alice.clone(), known(&alice), attempt(index(5)));
    assert_eq!(start.unwrap_err(), HandshakeError::OwnIdentity);
}

#[test]
fn another_node_with_the_own_identity_is_refused() {
    // The same seed on two machines: same name, other transport key.
    let (first, second) = (local(ALICE, config()), local(ALICE, LocalConfig { validity: 1, ..config() }));
    let target = Target::Known { peer: first.peer_id(), key: *second.transport_key() };
    let start = Initiator::start(NOW, [1; 32], first.clone(), target, attempt(index(5)));
    assert_eq!(start.unwrap_err(), HandshakeError::OwnIdentity);
    let (mut initiator, hello) = self::start(&first, Target::Address);
    let reply = answer_to(&mut responder(&second), &hello);
    assert_eq!(initiator.handle(NOW, &reply).unwrap_err(), HandshakeError::OwnIdentity);
}

#[test]
fn a_peer_whose_name_is_not_the_expected_one_is_refused() {
    // Mallory's record names Bob's transport key: who is reached there shows another identity.
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let mallory = local(3, config());
    let target = Target::Known { peer: mallory.peer_id(), key: *bob.transport_key() };
    let (_, init) = start(&alice, target);
    let heard = responder(&bob).handle(NOW, address(1), &init, Load::Calm, &mut entropy(1));
    assert_eq!(heard.unwrap_err(), HandshakeError::Noise);
}

#[test]
fn a_repeated_init_gets_the_same_reply_and_a_replayed_one_gets_nothing() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let mut bobs = responder(&bob);
    let (_, init) = start(&alice, known(&bob));
    let (_, reply) = reply_to(&mut bobs, &init);
    for _ in 0..8 {
        let heard = bobs.handle(NOW, address(1), &init, Load::Calm, &mut no_entropy());
        assert!(matches!(heard, Ok(Heard::Reply(again)) if again == reply));
    }
    let heard = bobs.handle(NOW, address(1), &init, Load::Calm, &mut no_entropy());
    assert_eq!(heard.unwrap_err(), HandshakeError::Replayed);
    let later = NOW + GIVE_UP_AFTER + Duration::from_secs(1);
    for (now, from) in
        [(NOW, address(2)), (later, address(1)), (later + Duration::from_secs(200), address(3))]
    {
        let heard = bobs.handle(now, from, &init, Load::Calm, &mut no_entropy());
        assert_eq!(heard.unwrap_err(), HandshakeError::Replayed);
    }
    assert_eq!(bobs.remembered(), 1);
}

#[test]
fn a_refused_request_costs_nothing_when_it_is_repeated() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let mut bobs = responder(&bob);
    let (_, init) = start(&alice, known(&bob));
    let asked = request(&mut bobs, &init);
    bobs.refuse(NOW, &asked);
    let heard = bobs.handle(NOW, address(1), &init, Load::Calm, &mut no_entropy());
    assert_eq!(heard.unwrap_err(), HandshakeError::Replayed);
}

#[test]
fn an_ignored_request_may_be_repeated() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let mut bobs = responder(&bob);
    let (mut initiator, init) = start(&alice, known(&bob));
    drop(request(&mut bobs, &init));
    let (_, reply) = reply_to(&mut bobs, &init);
    done(initiator.handle(NOW, &reply));
}

#[test]
fn the_memory_of_a_responder_is_bounded() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let config = ResponderConfig { max_recent: 4, max_pending: 3, pending_for: Duration::from_secs(5) };
    let mut bobs = Responder::new(bob.clone(), config, [9; 32]);
    for n in 0..10u8 {
        let (_, hello) =
            Initiator::start(NOW, [n; 32], alice.clone(), Target::Address, attempt(index(u32::from(n))))
                .unwrap();
        let from = address(u16::from(n));
        match bobs.handle(NOW, from, &hello, Load::Calm, &mut entropy(n)) {
            Ok(Heard::Hello(hello)) => {
                bobs.answer(NOW, *hello, index(100 + u32::from(n))).unwrap();
            }
            other => assert_eq!(other.unwrap_err(), HandshakeError::Busy),
        }
        assert!(bobs.pending() <= 3);
    }
    assert_eq!(bobs.pending(), 3);
    assert_eq!(bobs.poll_timeout(), Some(NOW + Duration::from_secs(5)));
    bobs.handle_timeout(NOW + Duration::from_secs(5));
    assert_eq!((bobs.pending(), bobs.poll_timeout()), (0, None));
    let mut freed: Vec<_> = std::iter::from_fn(|| bobs.poll_freed()).collect();
    freed.sort();
    let mut given = vec![index(100), index(101), index(102)];
    given.sort();
    assert_eq!(freed, given);
    for n in 20..40u8 {
        let (_, init) =
            Initiator::start(NOW, [n; 32], alice.clone(), known(&bob), attempt(index(1))).unwrap();
        let (_, _) = reply_to(&mut bobs, &init);
        assert!(bobs.remembered() <= 4);
    }
}

#[test]
fn under_load_only_who_returns_the_cookie_is_served() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    for target in [known(&bob), Target::Address] {
        let mut bobs = responder(&bob);
        let (mut initiator, first) = start(&alice, target);
        let heard = bobs.handle(NOW, address(1), &first, Load::Heavy, &mut entropy(3));
        let Ok(Heard::Reply(cookie)) = heard else { panic!("no cookie: {heard:?}") };
        assert_eq!(cookie.len(), COOKIE_BYTES);
        for bit in 0..cookie.len() * 8 {
            let mut bad = cookie.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(initiator.handle(NOW, &bad).is_err(), "bit {bit} of a cookie");
        }
        let Ok(Progress::Send(again)) = initiator.handle(NOW, &cookie) else { panic!("no second try") };
        assert_eq!(again[..again.len() - 16], first[..first.len() - 16]);
        // From another address, later, or with one bit of it changed it is worth nothing.
        let mut asked_again =
            |from, now, packet: &[u8]| match bobs.handle(now, from, packet, Load::Heavy, &mut entropy(4)) {
                Ok(Heard::Reply(packet)) => packet.len() == COOKIE_BYTES,
                Ok(_) => false,
                Err(error) => panic!("{error}"),
            };
        assert!(asked_again(address(2), NOW, &again));
        assert!(asked_again(address(1), NOW + Duration::from_secs(300), &again));
        for bit in 0..128 {
            let mut bad = again.clone();
            let start = bad.len() - 16;
            bad[start + bit / 8] ^= 1 << (bit % 8);
            assert!(asked_again(address(1), NOW, &bad), "bit {bit} of mac2");
        }
        assert!(!asked_again(address(1), NOW, &again));
        assert_eq!(
            initiator.handle_timeout(NOW + RETRY_FIRST),
            Timeout::Resend(again),
            "repeats carry it too"
        );
    }
}

#[test]
fn an_attempt_takes_few_cookies_and_none_that_it_did_not_ask_for() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let bobs = responder(&bob);
    let (mut initiator, init) = start(&alice, known(&bob));
    let (mut other, other_init) =
        Initiator::start(NOW, [0xb7; 32], alice.clone(), known(&bob), attempt(index(5))).unwrap();
    let mut bobs = bobs;
    let mut cookie_for =
        |packet: &[u8], n| match bobs.handle(NOW, address(1), packet, Load::Heavy, &mut entropy(n)) {
            Ok(Heard::Reply(cookie)) => cookie,
            other => panic!("{other:?}"),
        };
    let mine = cookie_for(&init, 1);
    let not_mine = cookie_for(&other_init, 2);
    assert_eq!(initiator.handle(NOW, &not_mine).unwrap_err(), HandshakeError::Cookie);
    for _ in 0..3 {
        assert!(matches!(initiator.handle(NOW, &mine), Ok(Progress::Send(_))));
    }
    assert_eq!(initiator.handle(NOW, &mine).unwrap_err(), HandshakeError::Cookie);
    assert!(matches!(other.handle(NOW, &not_mine), Ok(Progress::Send(_))));
}

#[test]
fn no_reply_is_longer_than_what_asked_for_it() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let (_, init) = start(&alice, known(&bob));
    let (_, reply) = reply_to(&mut responder(&bob), &init);
    let (_, _, [hello, hello_reply, finish]) = join(&alice, &bob);
    assert_eq!((init.len(), reply.len()), (INIT_BYTES, REPLY_BYTES));
    assert_eq!((hello.len(), hello_reply.len()), (HELLO_BYTES, HELLO_REPLY_BYTES));
    assert!(reply.len() <= init.len() && hello_reply.len() <= hello.len());
    assert!(
        [init, reply, hello, hello_reply, finish].iter().all(|packet| packet.len() <= MAX_HANDSHAKE_BYTES)
    );
}

#[test]
fn suites_are_agreed_and_cannot_be_talked_down() {
    let with = |who, suites| local(who, LocalConfig { suites, ..config() });
    let pairs = [
        (Suites::for_cpu(true), Suites::for_cpu(true), Some(Suite::Aes256Gcm)),
        (Suites::for_cpu(true), Suites::for_cpu(false), Some(Suite::ChaCha20Poly1305)),
        (Suites::for_cpu(false), Suites::for_cpu(true), Some(Suite::ChaCha20Poly1305)),
        (Suites::only(Suite::Aes256Gcm), Suites::for_cpu(false), None),
        (Suites::from_bits(1 << 12), Suites::from_bits(u16::MAX), None),
    ];
    for (a, b, expected) in pairs {
        let (alice, bob) = (with(ALICE, a), with(BOB, b));
        let Some(suite) = expected else {
            let (_, init) = start(&alice, known(&bob));
            let heard = responder(&bob).handle(NOW, address(1), &init, Load::Calm, &mut entropy(1));
            assert_eq!(heard.unwrap_err(), HandshakeError::NoCommonSuite);
            let (mut initiator, hello) = start(&alice, Target::Address);
            let reply = answer_to(&mut responder(&bob), &hello);
            assert_eq!(initiator.handle(NOW, &reply).unwrap_err(), HandshakeError::NoCommonSuite);
            continue;
        };
        let (ours, theirs) = meet(&alice, &bob);
        assert_eq!((ours.keys.suite, theirs.keys.suite), (suite, suite));
        let (ours, theirs, _) = join(&alice, &bob);
        assert_eq!((ours.keys.suite, theirs.keys.suite), (suite, suite));
    }
    // The offers stand inside the encryption: no byte outside it depends on them, so there is nothing to rewrite.
    let header =
        |suites| start(&with(ALICE, suites), known(&with(BOB, suites))).1[..HEADER_BYTES + 32].to_vec();
    assert_eq!(header(Suites::for_cpu(true)), header(Suites::for_cpu(false)));
}

#[test]
fn another_protocol_version_gets_no_answer() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let (_, init) = start(&alice, known(&bob));
    for version in [0, 2, 255] {
        let mut other = init.clone();
        other[1] = version;
        let end = other.len() - 32;
        let mac = blake3::keyed_hash(&filter_key(Some(bob.transport_key())), &other[..end]);
        other[end..end + 16].copy_from_slice(&mac.as_bytes()[..16]);
        let heard = responder(&bob).handle(NOW, address(1), &other, Load::Heavy, &mut no_entropy());
        assert_eq!(heard.unwrap_err(), HandshakeError::Header);
    }
}

#[test]
fn an_attempt_repeats_itself_with_growing_pauses_and_then_gives_up() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let (mut initiator, init) = start(&alice, known(&bob));
    assert_eq!(initiator.handle_timeout(NOW), Timeout::Wait);
    let mut sent = vec![NOW];
    let end = loop {
        let due = initiator.poll_timeout().unwrap();
        match initiator.handle_timeout(due) {
            Timeout::Resend(packet) => {
                assert_eq!(packet, init);
                sent.push(due);
            }
            Timeout::GaveUp => break due,
            Timeout::Wait => panic!("poll_timeout and handle_timeout disagree"),
        }
    };
    assert_eq!(end, NOW + GIVE_UP_AFTER);
    let pauses: Vec<_> = sent.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(pauses[..4], [250, 500, 1_000, 2_000].map(Duration::from_millis));
    assert!(sent.len() <= 8);
    assert_eq!(initiator.poll_timeout(), None);
    let (_, reply) = reply_to(&mut responder(&bob), &init);
    assert_eq!(initiator.handle(end, &reply).unwrap_err(), HandshakeError::Unexpected, "too late");
}

#[test]
fn a_lost_last_message_is_repeated_until_the_session_is_confirmed() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let mut bobs = responder(&bob);
    let (mut initiator, hello) = start(&alice, Target::Address);
    let reply = answer_to(&mut bobs, &hello);
    let (_, finish) = done(initiator.handle(NOW, &reply));
    let finish = finish.unwrap();
    assert_eq!(initiator.handle_timeout(NOW + RETRY_FIRST), Timeout::Resend(finish.clone()));
    assert!(matches!(initiator.handle(NOW, &reply), Ok(Progress::Send(again)) if again == finish));
    joined(bobs.handle(NOW, address(1), &finish, Load::Heavy, &mut no_entropy()));
    let heard = bobs.handle(NOW, address(1), &finish, Load::Calm, &mut no_entropy());
    assert_eq!(heard.unwrap_err(), HandshakeError::UnknownIndex, "the second copy finds nothing to do");
    initiator.confirmed();
    assert_eq!(initiator.poll_timeout(), None);
}

#[test]
fn a_last_message_from_elsewhere_finds_nothing() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let mut bobs = responder(&bob);
    let (mut initiator, hello) = start(&alice, Target::Address);
    let reply = answer_to(&mut bobs, &hello);
    let (_, finish) = done(initiator.handle(NOW, &reply));
    let finish = finish.unwrap();
    let heard = bobs.handle(NOW, address(2), &finish, Load::Calm, &mut no_entropy());
    assert_eq!(heard.unwrap_err(), HandshakeError::UnknownIndex);
    joined(bobs.handle(NOW, address(1), &finish, Load::Calm, &mut no_entropy()));
}

#[test]
fn packets_of_the_wrong_side_or_another_attempt_change_nothing() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let mut bobs = responder(&bob);
    let (mut initiator, init) = start(&alice, known(&bob));
    let (mut second, second_init) =
        Initiator::start(NOW, [0xb2; 32], alice.clone(), known(&bob), attempt(index(8))).unwrap();
    let (_, reply) = reply_to(&mut bobs, &init);
    let (_, second_reply) = reply_to(&mut bobs, &second_init);
    assert_eq!(initiator.handle(NOW, &second_reply).unwrap_err(), HandshakeError::UnknownIndex);
    let heard = bobs.handle(NOW, address(1), &reply, Load::Calm, &mut no_entropy());
    assert_eq!(heard.unwrap_err(), HandshakeError::Unexpected);
    let (_, _, [_, hello_reply, finish]) = join(&alice, &bob);
    assert_eq!(initiator.handle(NOW, &hello_reply).unwrap_err(), HandshakeError::Unexpected);
    assert!(initiator.handle(NOW, &finish).is_err());
    done(initiator.handle(NOW, &reply));
    assert_eq!(initiator.handle(NOW, &reply).unwrap_err(), HandshakeError::Unexpected, "finished already");
    done(second.handle(NOW, &second_reply));
}

#[test]
fn points_of_low_order_are_refused() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let low = Target::Known { peer: bob.peer_id(), key: [0; 32] };
    let start_low = Initiator::start(NOW, [1; 32], alice.clone(), low, attempt(index(5)));
    assert_eq!(start_low.unwrap_err(), HandshakeError::BadKey);
    // A member that puts such a point into a first message as its ephemeral key.
    let (_, mut init) = start(&alice, known(&bob));
    init[HEADER_BYTES..HEADER_BYTES + 32].fill(0);
    let end = init.len() - 32;
    let mac = blake3::keyed_hash(&filter_key(Some(bob.transport_key())), &init[..end]);
    init[end..end + 16].copy_from_slice(&mac.as_bytes()[..16]);
    let heard = responder(&bob).handle(NOW, address(1), &init, Load::Calm, &mut entropy(1));
    assert_eq!(heard.unwrap_err(), HandshakeError::BadKey);
}

#[test]
fn a_new_transport_key_takes_over_while_the_old_one_still_answers() {
    let alice = local(ALICE, config());
    let bob = local(BOB, config());
    let rotated = local(BOB, LocalConfig { validity: 1, ..config() });
    assert_ne!(bob.transport_key(), rotated.transport_key());
    assert_eq!(bob.peer_id(), rotated.peer_id());
    let mut bobs = responder(&bob);
    bobs.rotate(rotated.clone());
    for key in [&bob, &rotated] {
        let (mut initiator, init) = start(&alice, known(key));
        let mut fresh = entropy(key.transport_key()[0]);
        let Ok(Heard::Request(asked)) = bobs.handle(NOW, address(1), &init, Load::Calm, &mut fresh) else {
            // The second init has the ephemeral key of the first one.
            panic!("no request")
        };
        let (theirs, reply) = bobs.accept(NOW, *asked, index(6)).unwrap();
        let (ours, _) = done(initiator.handle(NOW, &reply));
        assert_talk(&ours, &theirs);
        bobs = responder(&bob);
        bobs.rotate(rotated.clone());
    }
    bobs.rotate(local(BOB, LocalConfig { validity: 2, ..config() }));
    let (_, init) = start(&alice, known(&bob));
    let heard = bobs.handle(NOW, address(1), &init, Load::Calm, &mut no_entropy());
    assert_eq!(heard.unwrap_err(), HandshakeError::Mac, "two keys live at once, not three");
}

#[test]
fn each_handshake_gives_other_keys() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let (first, _) = meet(&alice, &bob);
    let (mut initiator, init) =
        Initiator::start(NOW, [0xee; 32], alice.clone(), known(&bob), attempt(index(5))).unwrap();
    let (_, reply) = reply_to(&mut responder(&bob), &init);
    let (second, _) = done(initiator.handle(NOW, &reply));
    assert_ne!(first.keys.send.as_bytes(), second.keys.send.as_bytes());
    assert_ne!(first.keys.recv.as_bytes(), second.keys.recv.as_bytes());
    assert_ne!(first.keys.send.as_bytes(), first.keys.recv.as_bytes());
}

#[test]
fn the_header_of_a_first_message_names_who_wants_to_be_answered() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let (_, init) = start(&alice, known(&bob));
    let (header, kind) = Header::parse(&init).unwrap();
    assert_eq!((kind, header.receiver(), header.sender()), (PacketKind::Init, ReceiverIndex::NONE, index(5)));
    let (_, reply) = reply_to(&mut responder(&bob), &init);
    let (header, kind) = Header::parse(&reply).unwrap();
    assert_eq!((kind, header.receiver(), header.sender()), (PacketKind::Reply, index(5), index(6)));
}

#[test]
fn weak_secrets_are_refused() {
    for weak in [[0; 32], [0xff; 32], *b"passwordpasswordpasswordpassword"] {
        assert!(NetworkSecret::new(weak).is_err());
    }
    assert!(NetworkSecret::new(*blake3::hash(b"random").as_bytes()).is_ok());
}
