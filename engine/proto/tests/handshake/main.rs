//! The handshake through its public interface.

mod hostile;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use corewire_proto::{
    NetworkId, PeerId,
    handshake::{
        AttemptParams, COOKIE_BYTES, Credentials, CredentialsConfig, GIVE_UP_AFTER, HELLO_BYTES,
        HELLO_REPLY_BYTES, HandshakeError, HandshakeLoad, HandshakeOutcome, HandshakeRequest, HandshakeRole,
        INIT_BYTES, Initiator, InitiatorProgress, InitiatorTimeout, MAX_HANDSHAKE_BYTES, NetworkSecret,
        PeerLimits, REPLY_BYTES, RETRY_FIRST, Responder, ResponderConfig, ResponderEvent, Target,
    },
    identity::Identity,
    seal::{Suite, Suites, UnsealError},
    time::Instant,
    wire::header::{HEADER_BYTES, Header, PACKET_OVERHEAD_BYTES, PacketKind, ReceiverIndex},
};

const NOW: Instant = Instant::from_nanos(1_000_000_000);
const NETWORK: NetworkId = NetworkId([0x11; 32]);
const ALICE: u8 = 1;
const BOB: u8 = 2;

fn config() -> CredentialsConfig {
    CredentialsConfig {
        network: NETWORK,
        secret: Some(NetworkSecret::new(core::array::from_fn(|i| i as u8)).unwrap()),
        validity: 0,
        suites: Suites::for_cpu(true),
        boot: 77,
        limits: PeerLimits { max_packet_bytes: 1_452, max_channels: 4_096, idle_timeout_ms: 30_000 },
    }
}

fn local(who: u8, config: CredentialsConfig) -> Arc<Credentials> {
    Arc::new(Credentials::new(&Identity::from_seed(&[who; 32]), config))
}

fn index(n: u32) -> ReceiverIndex {
    ReceiverIndex::new((n % 7) as u8, n, n.wrapping_mul(0x9e37_79b9)).unwrap()
}

fn attempt(index: ReceiverIndex) -> AttemptParams {
    AttemptParams { index, generation: 0, number: 1 }
}

fn address(n: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], n))
}

/// Fixed bytes in place of randomness, so that every run is the same.
fn entropy(mut byte: u8) -> impl FnMut(&mut [u8]) {
    move |out| {
        byte = byte.wrapping_add(1);
        out.fill(byte);
    }
}

fn no_entropy() -> impl FnMut(&mut [u8]) {
    |_: &mut [u8]| panic!("randomness was asked for before the packet was checked")
}

fn responder(local: &Arc<Credentials>) -> Responder {
    Responder::new(Arc::clone(local), ResponderConfig::default(), [9; 32])
}

fn known(local: &Credentials) -> Target {
    Target::Known { peer: local.peer_id(), key: *local.transport_key() }
}

fn start(local: &Arc<Credentials>, target: Target) -> (Initiator, Vec<u8>) {
    let entropy = if target == Target::Address { [0xa0; 32] } else { [0xa1; 32] };
    Initiator::start(NOW, entropy, Arc::clone(local), target, attempt(index(5))).unwrap()
}

fn request(responder: &mut Responder, packet: &[u8]) -> HandshakeRequest {
    match responder.handle_packet(NOW, address(1), packet, HandshakeLoad::Calm, &mut entropy(0x40)) {
        Ok(ResponderEvent::Request(request)) => *request,
        other => panic!("no request: {other:?}"),
    }
}

fn reply_to(responder: &mut Responder, packet: &[u8]) -> (HandshakeOutcome, Vec<u8>) {
    let request = request(responder, packet);
    responder.accept(NOW, request, index(6)).unwrap()
}

fn answer_to(responder: &mut Responder, packet: &[u8]) -> Vec<u8> {
    match responder.handle_packet(NOW, address(1), packet, HandshakeLoad::Calm, &mut entropy(0x40)) {
        Ok(ResponderEvent::Hello(hello)) => responder.answer(NOW, *hello, index(6)).unwrap(),
        other => panic!("no hello: {other:?}"),
    }
}

fn done(progress: Result<InitiatorProgress, HandshakeError>) -> (HandshakeOutcome, Option<Vec<u8>>) {
    match progress {
        Ok(InitiatorProgress::Done { outcome, send }) => (*outcome, send),
        other => panic!("not done: {other:?}"),
    }
}

fn joined(heard: Result<ResponderEvent, HandshakeError>) -> HandshakeOutcome {
    match heard {
        Ok(ResponderEvent::Joined(outcome)) => *outcome,
        other => panic!("not joined: {other:?}"),
    }
}

/// A whole handshake with a known peer.
fn meet(alice: &Arc<Credentials>, bob: &Arc<Credentials>) -> (HandshakeOutcome, HandshakeOutcome) {
    let (mut initiator, init) = start(alice, known(bob));
    let (theirs, reply) = reply_to(&mut responder(bob), &init);
    (done(initiator.handle_packet(NOW, &reply)).0, theirs)
}

/// A handshake by address up to the last message, which is not handed over. Gives the initiator, its outcome
/// and the three messages.
fn join_until_last(
    alice: &Arc<Credentials>,
    bobs: &mut Responder,
) -> (Initiator, HandshakeOutcome, [Vec<u8>; 3]) {
    let (mut initiator, hello) = start(alice, Target::Address);
    let reply = answer_to(bobs, &hello);
    let (ours, finish) = done(initiator.handle_packet(NOW, &reply));
    (initiator, ours, [hello, reply, finish.unwrap()])
}

/// A whole handshake by address.
fn join(
    alice: &Arc<Credentials>,
    bob: &Arc<Credentials>,
) -> (HandshakeOutcome, HandshakeOutcome, [Vec<u8>; 3]) {
    let mut bobs = responder(bob);
    let (_, ours, messages) = join_until_last(alice, &mut bobs);
    let finish = &messages[2];
    let theirs = joined(bobs.handle_packet(NOW, address(1), finish, HandshakeLoad::Calm, &mut no_entropy()));
    assert_eq!(bobs.pending(), 0);
    (ours, theirs, messages)
}

/// Each side opens what the other seals, and not what it seals itself.
fn assert_talk(ours: &HandshakeOutcome, theirs: &HandshakeOutcome) {
    assert_eq!(ours.keys.suite, theirs.keys.suite);
    assert_eq!((ours.local_index, ours.remote_index), (theirs.remote_index, theirs.local_index));
    for (from, to) in [(ours, theirs), (theirs, ours)] {
        let (mut sealer, mut own_opener) = from.seals(128, NOW);
        let (_, mut opener) = to.seals(128, NOW);
        let mut packet = [0x55; 64];
        sealer.seal(NOW, from.remote_index, &mut packet, 64 - PACKET_OVERHEAD_BYTES).unwrap();
        assert_eq!(own_opener.open(NOW, &mut packet.clone()), Err(UnsealError::Forged), "reflected");
        assert_eq!(opener.open(NOW, &mut packet).unwrap().plaintext, [0x55; 64 - PACKET_OVERHEAD_BYTES]);
    }
}

#[test]
fn handshake_by_key_gives_both_peers_the_same_keys() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let (ours, theirs) = meet(&alice, &bob);
    assert_talk(&ours, &theirs);
    assert_eq!((ours.peer, theirs.peer), (bob.peer_id(), alice.peer_id()));
    assert_eq!((&ours.peer_static, &theirs.peer_static), (bob.transport_key(), alice.transport_key()));
    assert_eq!((ours.role, theirs.role), (HandshakeRole::Initiator, HandshakeRole::Responder));
    assert_eq!((ours.confirmed, theirs.confirmed), (true, false));
    assert_eq!((ours.peer_boot, ours.peer_limits), (77, config().limits));
    assert_eq!(ours.peer_key, *Identity::from_seed(&[BOB; 32]).public_key());
}

#[test]
fn handshake_by_address_gives_both_peers_the_same_keys() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let (ours, theirs, _) = join(&alice, &bob);
    assert_talk(&ours, &theirs);
    assert_eq!((ours.peer, theirs.peer), (bob.peer_id(), alice.peer_id()));
    assert_eq!((&ours.peer_static, &theirs.peer_static), (bob.transport_key(), alice.transport_key()));
    assert_eq!((ours.confirmed, theirs.confirmed), (false, true));
}

#[test]
fn network_without_a_secret_works_and_is_separate() {
    let public = || CredentialsConfig { secret: None, ..config() };
    let (ours, theirs) = meet(&local(ALICE, public()), &local(BOB, public()));
    assert_talk(&ours, &theirs);
    let (_, init) = start(&local(ALICE, public()), known(&local(BOB, public())));
    let error = responder(&local(BOB, config())).handle_packet(
        NOW,
        address(1),
        &init,
        HandshakeLoad::Calm,
        &mut no_entropy(),
    );
    assert_eq!(error.unwrap_err(), HandshakeError::Mac);
}

#[test]
fn packets_depend_on_input_and_entropy_only() {
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
fn suites_are_agreed_without_a_downgrade() {
    let with = |who, suites| local(who, CredentialsConfig { suites, ..config() });
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
            let heard =
                responder(&bob).handle_packet(NOW, address(1), &init, HandshakeLoad::Calm, &mut entropy(1));
            assert_eq!(heard.unwrap_err(), HandshakeError::NoCommonSuite);
            let (mut initiator, hello) = start(&alice, Target::Address);
            let reply = answer_to(&mut responder(&bob), &hello);
            assert_eq!(initiator.handle_packet(NOW, &reply).unwrap_err(), HandshakeError::NoCommonSuite);
            continue;
        };
        let (ours, theirs) = meet(&alice, &bob);
        assert_eq!((ours.keys.suite, theirs.keys.suite), (suite, suite));
        let (ours, theirs, _) = join(&alice, &bob);
        assert_eq!((ours.keys.suite, theirs.keys.suite), (suite, suite));
    }
    // The offers are encrypted, and no byte outside depends on them.
    let header =
        |suites| start(&with(ALICE, suites), known(&with(BOB, suites))).1[..HEADER_BYTES + 32].to_vec();
    assert_eq!(header(Suites::for_cpu(true)), header(Suites::for_cpu(false)));
}

#[test]
fn attempt_repeats_with_growing_pauses_and_then_gives_up() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let (mut initiator, init) = start(&alice, known(&bob));
    assert_eq!(initiator.handle_timeout(NOW), InitiatorTimeout::Wait);
    let mut sent = vec![NOW];
    let end = loop {
        let due = initiator.poll_timeout().unwrap();
        match initiator.handle_timeout(due) {
            InitiatorTimeout::Resend(packet) => {
                assert_eq!(packet, init);
                sent.push(due);
            }
            InitiatorTimeout::GaveUp => break due,
            InitiatorTimeout::Wait => panic!("poll_timeout and handle_timeout disagree"),
        }
    };
    assert_eq!(end, NOW + GIVE_UP_AFTER);
    let pauses: Vec<_> = sent.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(pauses[..4], [250, 500, 1_000, 2_000].map(Duration::from_millis));
    assert!(sent.len() <= 8);
    assert_eq!(initiator.poll_timeout(), None);
    let (_, reply) = reply_to(&mut responder(&bob), &init);
    assert_eq!(initiator.handle_packet(end, &reply).unwrap_err(), HandshakeError::Unexpected, "too late");
}

#[test]
fn lost_last_message_is_repeated_until_the_session_is_confirmed() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let mut bobs = responder(&bob);
    let (mut initiator, _, [_, reply, finish]) = join_until_last(&alice, &mut bobs);
    assert_eq!(initiator.handle_timeout(NOW + RETRY_FIRST), InitiatorTimeout::Resend(finish.clone()));
    assert!(
        matches!(initiator.handle_packet(NOW, &reply), Ok(InitiatorProgress::Send(again)) if again == finish)
    );
    joined(bobs.handle_packet(NOW, address(1), &finish, HandshakeLoad::Heavy, &mut no_entropy()));
    let heard = bobs.handle_packet(NOW, address(1), &finish, HandshakeLoad::Calm, &mut no_entropy());
    assert_eq!(heard.unwrap_err(), HandshakeError::UnknownIndex, "the second copy finds nothing to do");
    initiator.handle_confirmed();
    assert_eq!(initiator.poll_timeout(), None);
}

#[test]
fn new_transport_key_takes_over_while_the_old_one_still_answers() {
    let alice = local(ALICE, config());
    let bob = local(BOB, config());
    let rotated = local(BOB, CredentialsConfig { validity: 1, ..config() });
    assert_ne!(bob.transport_key(), rotated.transport_key());
    assert_eq!(bob.peer_id(), rotated.peer_id());
    let mut bobs = responder(&bob);
    bobs.rotate(rotated.clone());
    for key in [&bob, &rotated] {
        let (mut initiator, init) = start(&alice, known(key));
        let mut fresh = entropy(key.transport_key()[0]);
        let Ok(ResponderEvent::Request(asked)) =
            bobs.handle_packet(NOW, address(1), &init, HandshakeLoad::Calm, &mut fresh)
        else {
            // The second init has the ephemeral key of the first one.
            panic!("no request")
        };
        let (theirs, reply) = bobs.accept(NOW, *asked, index(6)).unwrap();
        let (ours, _) = done(initiator.handle_packet(NOW, &reply));
        assert_talk(&ours, &theirs);
        bobs = responder(&bob);
        bobs.rotate(rotated.clone());
    }
    bobs.rotate(local(BOB, CredentialsConfig { validity: 2, ..config() }));
    let (_, init) = start(&alice, known(&bob));
    let heard = bobs.handle_packet(NOW, address(1), &init, HandshakeLoad::Calm, &mut no_entropy());
    assert_eq!(heard.unwrap_err(), HandshakeError::Mac, "two keys live at once, not three");
}

#[test]
fn each_handshake_gives_different_keys() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let (first, _) = meet(&alice, &bob);
    let (mut initiator, init) =
        Initiator::start(NOW, [0xee; 32], alice.clone(), known(&bob), attempt(index(5))).unwrap();
    let (_, reply) = reply_to(&mut responder(&bob), &init);
    let (second, _) = done(initiator.handle_packet(NOW, &reply));
    assert_ne!(first.keys.send.as_bytes(), second.keys.send.as_bytes());
    assert_ne!(first.keys.recv.as_bytes(), second.keys.recv.as_bytes());
    assert_ne!(first.keys.send.as_bytes(), first.keys.recv.as_bytes());
}

#[test]
fn header_of_a_first_message_names_the_index_for_the_answer() {
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
