//! Handshakes under attack by outsiders and members, and over a bad network.

use super::*;

#[test]
fn flipped_bit_in_any_handshake_packet_is_refused() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let mut bobs = responder(&bob);
    let (mut initiator, init) = start(&alice, known(&bob));
    each_flipped(&init[..], |bad| {
        bobs.handle_packet(NOW, address(1), bad, HandshakeLoad::Calm, &mut no_entropy()).err()
    });
    assert_eq!(bobs.remembered(), 0);
    let (_, reply) = reply_to(&mut bobs, &init);
    each_flipped(&reply, |bad| initiator.handle_packet(NOW, bad).err());
    done(initiator.handle_packet(NOW, &reply));

    let (mut initiator, hello) = start(&alice, Target::Address);
    each_flipped(&hello, |bad| {
        bobs.handle_packet(NOW, address(1), bad, HandshakeLoad::Calm, &mut no_entropy()).err()
    });
    let reply = answer_to(&mut bobs, &hello);
    each_flipped(&reply, |bad| initiator.handle_packet(NOW, bad).err());
    let (_, finish) = done(initiator.handle_packet(NOW, &reply));
    let finish = finish.unwrap();
    each_flipped(&finish, |bad| {
        bobs.handle_packet(NOW, address(1), bad, HandshakeLoad::Calm, &mut no_entropy()).err()
    });
    joined(bobs.handle_packet(NOW, address(1), &finish, HandshakeLoad::Calm, &mut no_entropy()));
}

/// Without `mac2`, which is read only under load.
fn each_flipped(packet: &[u8], mut handle: impl FnMut(&[u8]) -> Option<HandshakeError>) {
    for bit in 0..(packet.len() - 16) * 8 {
        let mut bad = packet.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(handle(&bad).is_some(), "bit {bit} of a packet of {} bytes", packet.len());
    }
}

#[test]
fn flipped_bit_is_refused_even_if_a_member_repairs_mac1() {
    // A member knows the key of `mac1`, so it can change a packet and compute `mac1` anew.
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
    // Every third bit only, as each costs curve operations.
    for bit in (0..(init.len() - 32) * 8).step_by(3) {
        let bad = repair(&init, bit, &filter_key(Some(bob.transport_key())));
        let heard = bobs.handle_packet(NOW, address(1), &bad, HandshakeLoad::Calm, &mut entropy(1));
        assert!(heard.is_err(), "bit {bit} of an init");
    }
    // An attempt recovers from a changed sender index (bytes 12 to 20) three times, so only three bits of it
    // are tried.
    let rewritten = |bit: &usize| (96 + 9..160).contains(bit);
    for bit in (0..(reply.len() - 32) * 8).step_by(3).filter(|bit| !rewritten(bit)) {
        let bad = repair(&reply, bit, &filter_key(Some(alice.transport_key())));
        assert!(initiator.handle_packet(NOW, &bad).is_err(), "bit {bit} of a reply");
    }
    done(initiator.handle_packet(NOW, &reply));
    let hello_reply = answer_to(&mut bobs, &hello);
    for bit in (0..(hello_reply.len() - 32) * 8).step_by(3).filter(|bit| !rewritten(bit)) {
        let bad = repair(&hello_reply, bit, &filter_key(None));
        assert!(joiner.handle_packet(NOW, &bad).is_err(), "bit {bit} of a hello reply");
    }
    let (_, finish) = done(joiner.handle_packet(NOW, &hello_reply));
    let finish = finish.unwrap();
    // The handshake survives two broken last messages; the third ends it and frees the index.
    for bit in [200 * 8, 100 * 8] {
        let bad = repair(&finish, bit, &filter_key(None));
        let heard = bobs.handle_packet(NOW, address(1), &bad, HandshakeLoad::Calm, &mut no_entropy());
        assert_eq!(heard.unwrap_err(), HandshakeError::Noise);
    }
    let theirs = joined(bobs.handle_packet(NOW, address(1), &finish, HandshakeLoad::Calm, &mut no_entropy()));
    assert_eq!(theirs.peer, alice.peer_id());
    assert_eq!(bobs.poll_freed(), None);
}

/// The key of `mac1` as any member derives it; a copy of the derivation, so that a change of it is noticed.
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
fn third_broken_last_message_ends_the_handshake_and_frees_its_index() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let mut bobs = responder(&bob);
    let (_, _, [_, _, mut bad]) = join_until_last(&alice, &mut bobs);
    bad[60] ^= 1;
    let end = bad.len() - 32;
    let mac = blake3::keyed_hash(&filter_key(None), &bad[..end]);
    bad[end..end + 16].copy_from_slice(&mac.as_bytes()[..16]);
    for _ in 0..3 {
        assert!(bobs.handle_packet(NOW, address(1), &bad, HandshakeLoad::Calm, &mut no_entropy()).is_err());
    }
    assert_eq!(bobs.poll_freed(), Some(index(6)));
    assert_eq!(bobs.pending(), 0);
    let heard = bobs.handle_packet(NOW, address(1), &bad, HandshakeLoad::Calm, &mut no_entropy());
    assert_eq!(heard.unwrap_err(), HandshakeError::UnknownIndex);
}

#[test]
fn wrong_length_is_refused_before_anything_else() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let mut bobs = responder(&bob);
    let (mut initiator, init) = start(&alice, known(&bob));
    let (_, hello) = start(&alice, Target::Address);
    let (_, reply) = reply_to(&mut responder(&bob), &init);
    for packet in [&init, &hello, &reply] {
        for length in 0..packet.len() {
            let cut = &packet[..length];
            assert!(
                bobs.handle_packet(NOW, address(1), cut, HandshakeLoad::Heavy, &mut no_entropy()).is_err()
            );
            assert!(initiator.handle_packet(NOW, cut).is_err());
        }
        for extra in 1..100 {
            let mut long = packet.clone();
            long.resize(packet.len() + extra, 0);
            assert!(
                bobs.handle_packet(NOW, address(1), &long, HandshakeLoad::Heavy, &mut no_entropy()).is_err()
            );
            assert!(initiator.handle_packet(NOW, &long).is_err());
        }
    }
    for length in 0..400 {
        for fill in 0..=255 {
            let junk = vec![fill; length];
            assert!(
                bobs.handle_packet(NOW, address(1), &junk, HandshakeLoad::Heavy, &mut no_entropy()).is_err()
            );
            assert!(initiator.handle_packet(NOW, &junk).is_err());
        }
    }
    done(initiator.handle_packet(NOW, &reply));
}

#[test]
fn wrong_network_secret_or_key_gets_no_answer() {
    let bob = local(BOB, config());
    let mut bobs = responder(&bob);
    let mut refused = |config: CredentialsConfig, target: Target| {
        let (_, packet) = start(&local(ALICE, config), target);
        bobs.handle_packet(NOW, address(1), &packet, HandshakeLoad::Heavy, &mut no_entropy()).unwrap_err()
    };
    let secret = || Some(NetworkSecret::new(core::array::from_fn(|i| 255 - i as u8)).unwrap());
    for target in [known(&bob), Target::Address] {
        let other_network = CredentialsConfig { network: NetworkId([0x12; 32]), ..config() };
        assert_eq!(refused(other_network, target), HandshakeError::Mac);
        assert_eq!(refused(CredentialsConfig { secret: secret(), ..config() }, target), HandshakeError::Mac);
        assert_eq!(refused(CredentialsConfig { secret: None, ..config() }, target), HandshakeError::Mac);
    }
    let other_key = Target::Known { peer: bob.peer_id(), key: *local(3, config()).transport_key() };
    assert_eq!(refused(config(), other_key), HandshakeError::Mac, "meant for another key");
    let other_name = Target::Known { peer: PeerId([3; 32]), key: *bob.transport_key() };
    let (_, packet) = start(&local(ALICE, config()), other_name);
    let heard = bobs.handle_packet(NOW, address(1), &packet, HandshakeLoad::Calm, &mut entropy(1));
    assert_eq!(heard.unwrap_err(), HandshakeError::Noise, "the name is in the prologue");
}

#[test]
fn reflected_message_is_refused() {
    let alice = local(ALICE, config());
    let mut alices = responder(&alice);
    let bob = local(BOB, config());
    let (mut initiator, init) = start(&alice, known(&bob));
    let heard = alices.handle_packet(NOW, address(1), &init, HandshakeLoad::Calm, &mut no_entropy());
    assert_eq!(heard.unwrap_err(), HandshakeError::Mac);
    assert_eq!(initiator.handle_packet(NOW, &init).unwrap_err(), HandshakeError::UnknownIndex);

    let (mut initiator, hello) = start(&alice, Target::Address);
    let reply = answer_to(&mut alices, &hello);
    assert_eq!(initiator.handle_packet(NOW, &reply).unwrap_err(), HandshakeError::OwnIdentity);
    assert_eq!(initiator.poll_timeout(), None, "whoever answered with our identity will not do better");
    let start = Initiator::start(NOW, [1; 32], alice.clone(), known(&alice), attempt(index(5)));
    assert_eq!(start.unwrap_err(), HandshakeError::OwnIdentity);
}

#[test]
fn another_node_with_the_same_identity_is_refused() {
    // The same seed on two machines: same name, different transport keys.
    let (first, second) =
        (local(ALICE, config()), local(ALICE, CredentialsConfig { validity: 1, ..config() }));
    let target = Target::Known { peer: first.peer_id(), key: *second.transport_key() };
    let start = Initiator::start(NOW, [1; 32], first.clone(), target, attempt(index(5)));
    assert_eq!(start.unwrap_err(), HandshakeError::OwnIdentity);
    let (mut initiator, hello) = self::start(&first, Target::Address);
    let reply = answer_to(&mut responder(&second), &hello);
    assert_eq!(initiator.handle_packet(NOW, &reply).unwrap_err(), HandshakeError::OwnIdentity);
}

#[test]
fn peer_with_an_unexpected_name_is_refused() {
    // Mallory's record names Bob's transport key, so the peer that answers presents another identity.
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let mallory = local(3, config());
    let target = Target::Known { peer: mallory.peer_id(), key: *bob.transport_key() };
    let (_, init) = start(&alice, target);
    let heard = responder(&bob).handle_packet(NOW, address(1), &init, HandshakeLoad::Calm, &mut entropy(1));
    assert_eq!(heard.unwrap_err(), HandshakeError::Noise);
}

#[test]
fn repeated_init_gets_the_same_reply_and_replayed_one_gets_none() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let mut bobs = responder(&bob);
    let (_, init) = start(&alice, known(&bob));
    let (_, reply) = reply_to(&mut bobs, &init);
    for _ in 0..8 {
        let heard = bobs.handle_packet(NOW, address(1), &init, HandshakeLoad::Calm, &mut no_entropy());
        assert!(matches!(heard, Ok(ResponderEvent::Reply(again)) if again == reply));
    }
    let heard = bobs.handle_packet(NOW, address(1), &init, HandshakeLoad::Calm, &mut no_entropy());
    assert_eq!(heard.unwrap_err(), HandshakeError::Replayed);
    let later = NOW + GIVE_UP_AFTER + Duration::from_secs(1);
    for (now, from) in
        [(NOW, address(2)), (later, address(1)), (later + Duration::from_secs(200), address(3))]
    {
        let heard = bobs.handle_packet(now, from, &init, HandshakeLoad::Calm, &mut no_entropy());
        assert_eq!(heard.unwrap_err(), HandshakeError::Replayed);
    }
    assert_eq!(bobs.remembered(), 1);
}

#[test]
fn refused_request_costs_no_curve_operation_when_repeated() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let mut bobs = responder(&bob);
    let (_, init) = start(&alice, known(&bob));
    let asked = request(&mut bobs, &init);
    bobs.refuse(NOW, &asked);
    let heard = bobs.handle_packet(NOW, address(1), &init, HandshakeLoad::Calm, &mut no_entropy());
    assert_eq!(heard.unwrap_err(), HandshakeError::Replayed);
}

#[test]
fn ignored_request_may_be_repeated() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let mut bobs = responder(&bob);
    let (mut initiator, init) = start(&alice, known(&bob));
    drop(request(&mut bobs, &init));
    let (_, reply) = reply_to(&mut bobs, &init);
    done(initiator.handle_packet(NOW, &reply));
}

#[test]
fn memory_of_a_responder_is_bounded() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let config = ResponderConfig { max_recent: 4, max_pending: 3, pending_for: Duration::from_secs(5) };
    let mut bobs = Responder::new(bob.clone(), config, [9; 32]);
    for n in 0..10u8 {
        let (_, hello) =
            Initiator::start(NOW, [n; 32], alice.clone(), Target::Address, attempt(index(u32::from(n))))
                .unwrap();
        let from = address(u16::from(n));
        match bobs.handle_packet(NOW, from, &hello, HandshakeLoad::Calm, &mut entropy(n)) {
            Ok(ResponderEvent::Hello(hello)) => {
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

/// A `Hello` with its own ephemeral key from `from`.
fn hello_from(alice: &Arc<Credentials>, n: u8, from: SocketAddr) -> (Vec<u8>, SocketAddr) {
    let numbers = attempt(index(u32::from(n)));
    (Initiator::start(NOW, [n; 32], alice.clone(), Target::Address, numbers).unwrap().1, from)
}

/// Answers it under the index `n + 100`.
fn answered(bobs: &mut Responder, n: u8, hello: &(Vec<u8>, SocketAddr)) -> bool {
    answered_at(NOW, bobs, n, hello)
}

fn answered_at(now: Instant, bobs: &mut Responder, n: u8, (hello, from): &(Vec<u8>, SocketAddr)) -> bool {
    match bobs.handle_packet(now, *from, hello, HandshakeLoad::Calm, &mut entropy(n)) {
        Ok(ResponderEvent::Hello(hello)) => bobs.answer(now, *hello, index(100 + u32::from(n))).is_ok(),
        other => {
            assert_eq!(other.unwrap_err(), HandshakeError::Busy);
            false
        }
    }
}

#[test]
fn pending_handshakes_of_one_host_leave_room_for_others() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let host = |text: &str, n: u16| SocketAddr::new(text.parse().unwrap(), n);
    for (crowd, other) in [
        (["10.0.0.1"; 2], "10.0.0.2"),
        (["::ffff:10.0.0.1", "10.0.0.1"], "10.0.0.2"),
        (["2001:db8:0:1::1", "2001:db8:0:1:ffff::1"], "2001:db8:0:2::1"),
    ] {
        let config = ResponderConfig { max_pending: 64, ..ResponderConfig::default() };
        let mut bobs = Responder::new(bob.clone(), config, [9; 32]);
        let hellos: Vec<_> = (0..65)
            .map(|n| hello_from(&alice, n, host(crowd[usize::from(n) % 2], u16::from(n) / 4)))
            .collect();
        for n in 0..64 {
            assert!(answered(&mut bobs, n, &hellos[usize::from(n)]));
        }
        let before = bobs.opened();
        assert!(!answered(&mut bobs, 64, &hellos[64]), "the host has all places");
        assert_eq!(bobs.opened(), before, "a refusal costs no curve operation");
        let other = hello_from(&alice, 65, host(other, 9));
        assert!(!answered(&mut bobs, 65, &other), "those under way may end with their next message");
        assert!(answered_at(NOW + Duration::from_secs(1), &mut bobs, 65, &other));
        assert_eq!((bobs.pending(), bobs.poll_freed(), bobs.poll_freed()), (64, Some(index(100)), None));
        // The one that gave way begins anew when its first message is repeated and there is room.
        assert!(!answered(&mut bobs, 0, &hellos[0]));
        bobs.handle_timeout(NOW + GIVE_UP_AFTER);
        assert!(answered(&mut bobs, 0, &hellos[0]));
    }
}

#[test]
fn each_packet_that_reaches_the_curve_is_counted() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let mut bobs = responder(&bob);
    let (_, init) = start(&alice, known(&bob));
    let other_name = Target::Known { peer: PeerId([3; 32]), key: *bob.transport_key() };
    let (_, broken) = start(&alice, other_name);
    for (packet, load, opened) in [
        (&init, HandshakeLoad::Heavy, 0),
        (&init[..9].to_vec(), HandshakeLoad::Calm, 0),
        (&broken, HandshakeLoad::Calm, 1),
        (&init, HandshakeLoad::Calm, 2),
    ] {
        drop(bobs.handle_packet(NOW, address(1), packet, load, &mut entropy(1)));
        assert_eq!(bobs.opened(), opened);
    }
    let (_, _, [_, _, finish]) = join_until_last(&alice, &mut bobs);
    assert_eq!(bobs.opened(), 3);
    joined(bobs.handle_packet(NOW, address(1), &finish, HandshakeLoad::Calm, &mut no_entropy()));
    assert_eq!(bobs.opened(), 4);
}

#[test]
fn under_load_only_initiators_with_a_cookie_are_served() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    for target in [known(&bob), Target::Address] {
        let mut bobs = responder(&bob);
        let (mut initiator, first) = start(&alice, target);
        let heard = bobs.handle_packet(NOW, address(1), &first, HandshakeLoad::Heavy, &mut entropy(3));
        let Ok(ResponderEvent::Reply(cookie)) = heard else { panic!("no cookie: {heard:?}") };
        assert_eq!(cookie.len(), COOKIE_BYTES);
        for bit in 0..cookie.len() * 8 {
            let mut bad = cookie.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(initiator.handle_packet(NOW, &bad).is_err(), "bit {bit} of a cookie");
        }
        let Ok(InitiatorProgress::Send(again)) = initiator.handle_packet(NOW, &cookie) else {
            panic!("no second try")
        };
        assert_eq!(again[..again.len() - 16], first[..first.len() - 16]);
        // It is refused from another address, later, or with one bit changed.
        let mut asked_again = |from, now, packet: &[u8]| match bobs.handle_packet(
            now,
            from,
            packet,
            HandshakeLoad::Heavy,
            &mut entropy(4),
        ) {
            Ok(ResponderEvent::Reply(packet)) => packet.len() == COOKIE_BYTES,
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
            InitiatorTimeout::Resend(again),
            "repeats carry it too"
        );
    }
}

#[test]
fn initiator_with_a_cookie_is_refused_when_its_share_is_spent() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    for target in [known(&bob), Target::Address] {
        let mut bobs = responder(&bob);
        let (mut initiator, first) = start(&alice, target);
        let mut seed = entropy(3);
        let mut hear = |packet: &[u8], load| bobs.handle_packet(NOW, address(2), packet, load, &mut seed);
        let Ok(ResponderEvent::Reply(cookie)) = hear(&first, HandshakeLoad::Spent) else {
            panic!("no cookie")
        };
        let Ok(InitiatorProgress::Send(again)) = initiator.handle_packet(NOW, &cookie) else {
            panic!("no second try")
        };
        for _ in 0..2 {
            let heard = hear(&again, HandshakeLoad::Spent);
            assert_eq!(heard.unwrap_err(), HandshakeError::Busy);
        }
        assert!(hear(&again, HandshakeLoad::Heavy).is_ok(), "it is not taken for a replay");
        assert_eq!(bobs.opened(), 1);
    }
    // A handshake that is in progress ends all the same.
    let mut bobs = responder(&bob);
    let (_, _, [_, _, finish]) = join_until_last(&alice, &mut bobs);
    joined(bobs.handle_packet(NOW, address(1), &finish, HandshakeLoad::Spent, &mut no_entropy()));
}

#[test]
fn attempt_accepts_few_cookies_and_none_for_another_packet() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let bobs = responder(&bob);
    let (mut initiator, init) = start(&alice, known(&bob));
    let (mut other, other_init) =
        Initiator::start(NOW, [0xb7; 32], alice.clone(), known(&bob), attempt(index(5))).unwrap();
    let mut bobs = bobs;
    let mut cookie_for = |packet: &[u8], n| match bobs.handle_packet(
        NOW,
        address(1),
        packet,
        HandshakeLoad::Heavy,
        &mut entropy(n),
    ) {
        Ok(ResponderEvent::Reply(cookie)) => cookie,
        other => panic!("{other:?}"),
    };
    let mine = cookie_for(&init, 1);
    let not_mine = cookie_for(&other_init, 2);
    assert_eq!(initiator.handle_packet(NOW, &not_mine).unwrap_err(), HandshakeError::Cookie);
    for _ in 0..3 {
        assert!(matches!(initiator.handle_packet(NOW, &mine), Ok(InitiatorProgress::Send(_))));
    }
    assert_eq!(initiator.handle_packet(NOW, &mine).unwrap_err(), HandshakeError::Cookie);
    assert!(matches!(other.handle_packet(NOW, &not_mine), Ok(InitiatorProgress::Send(_))));
}

#[test]
fn no_reply_is_longer_than_the_packet_it_answers() {
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
fn other_protocol_version_gets_no_answer() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let (_, init) = start(&alice, known(&bob));
    for version in [0, 2, 255] {
        let mut other = init.clone();
        other[1] = version;
        let end = other.len() - 32;
        let mac = blake3::keyed_hash(&filter_key(Some(bob.transport_key())), &other[..end]);
        other[end..end + 16].copy_from_slice(&mac.as_bytes()[..16]);
        let heard =
            responder(&bob).handle_packet(NOW, address(1), &other, HandshakeLoad::Heavy, &mut no_entropy());
        assert_eq!(heard.unwrap_err(), HandshakeError::Header);
    }
}

#[test]
fn last_message_from_another_address_is_refused() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let mut bobs = responder(&bob);
    let (_, _, [_, _, finish]) = join_until_last(&alice, &mut bobs);
    let heard = bobs.handle_packet(NOW, address(2), &finish, HandshakeLoad::Calm, &mut no_entropy());
    assert_eq!(heard.unwrap_err(), HandshakeError::UnknownIndex);
    joined(bobs.handle_packet(NOW, address(1), &finish, HandshakeLoad::Calm, &mut no_entropy()));
}

#[test]
fn packet_of_the_wrong_side_or_attempt_changes_nothing() {
    let (alice, bob) = (local(ALICE, config()), local(BOB, config()));
    let mut bobs = responder(&bob);
    let (mut initiator, init) = start(&alice, known(&bob));
    let (mut second, second_init) =
        Initiator::start(NOW, [0xb2; 32], alice.clone(), known(&bob), attempt(index(8))).unwrap();
    let (_, reply) = reply_to(&mut bobs, &init);
    let (_, second_reply) = reply_to(&mut bobs, &second_init);
    assert_eq!(initiator.handle_packet(NOW, &second_reply).unwrap_err(), HandshakeError::UnknownIndex);
    let heard = bobs.handle_packet(NOW, address(1), &reply, HandshakeLoad::Calm, &mut no_entropy());
    assert_eq!(heard.unwrap_err(), HandshakeError::Unexpected);
    let (_, _, [_, hello_reply, finish]) = join(&alice, &bob);
    assert_eq!(initiator.handle_packet(NOW, &hello_reply).unwrap_err(), HandshakeError::Unexpected);
    assert!(initiator.handle_packet(NOW, &finish).is_err());
    done(initiator.handle_packet(NOW, &reply));
    assert_eq!(
        initiator.handle_packet(NOW, &reply).unwrap_err(),
        HandshakeError::Unexpected,
        "finished already"
    );
    done(second.handle_packet(NOW, &second_reply));
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
    let heard = responder(&bob).handle_packet(NOW, address(1), &init, HandshakeLoad::Calm, &mut entropy(1));
    assert_eq!(heard.unwrap_err(), HandshakeError::BadKey);
}
