//! Records and the catalogue through their public interface.

use std::net::SocketAddr;

use corewire_proto::{
    NetworkId, PeerId, StreamId, TagId,
    identity::Identity,
    membership::{
        Catalog, CatalogConfig, CatalogDigest, DIGEST_BYTES, Insert, MAX_ADDRESSES, MAX_LIFETIME_S,
        MAX_RECORD_BYTES, MAX_STREAMS, MAX_TAGS, PeerRecord, RecordError, RecordSummary, RecordVersion,
        SignedRecord, SummaryList, TransportKeyEntry, bucket_of,
    },
};
use proptest::prelude::*;

const NETWORK: NetworkId = NetworkId([0x11; 32]);
const NOW_S: u64 = 1_800_000_000;

fn identity(n: u64) -> Identity {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&n.to_le_bytes());
    Identity::from_seed(&seed)
}

fn id(n: usize) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
    bytes
}

fn record(sequence: u64) -> PeerRecord {
    PeerRecord {
        peer_id: PeerId::default(),
        identity_key: [0; 32],
        transport_keys: vec![TransportKeyEntry { key: [9; 32], validity: 0 }],
        addresses: vec!["10.0.0.1:4000".parse().unwrap(), "[fd00::1]:4000".parse().unwrap()],
        tags: vec![TagId(id(2)), TagId(id(1))],
        streams: vec![StreamId(id(3))],
        version: RecordVersion { incarnation: 5, sequence },
        lifetime_s: 600,
        leaving: false,
    }
}

fn signed(n: u64, record: PeerRecord) -> SignedRecord {
    SignedRecord::sign(&identity(n), &NETWORK, record).unwrap()
}

/// A record with a hand-made body, signed as it is.
fn forged(n: u64, body: &[u8]) -> Vec<u8> {
    let identity = identity(n);
    let mut bytes = vec![2];
    bytes.extend_from_slice(identity.public_key());
    bytes.extend_from_slice(body);
    let message = [b"corewire v1 peer record\0".as_slice(), NETWORK.as_bytes(), &bytes].concat();
    bytes.extend_from_slice(&identity.sign(&message));
    bytes
}

fn body_of(record: &SignedRecord) -> Vec<u8> {
    record.bytes()[33..record.bytes().len() - 64].to_vec()
}

#[test]
fn record_round_trips() {
    let sent = signed(1, record(1));
    let got = SignedRecord::verify(sent.bytes(), &NETWORK).unwrap();
    assert_eq!(got, sent);
    assert_eq!(got.record().peer_id, identity(1).peer_id());
    assert_eq!(got.record().tags, [TagId(id(1)), TagId(id(2))], "brought in order");
    assert_eq!(got.record().addresses, record(1).addresses);
    assert_eq!(forged(1, &body_of(&sent)), sent.bytes(), "the signature is deterministic");
}

#[test]
fn longest_record_fits_and_one_more_element_does_not() {
    let full = || PeerRecord {
        transport_keys: vec![TransportKeyEntry { key: [0xff; 32], validity: u64::MAX }; 2],
        addresses: vec!["[fd00:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap(); MAX_ADDRESSES],
        tags: (0..MAX_TAGS).map(|n| TagId(id(n))).collect(),
        streams: (0..MAX_STREAMS).map(|n| StreamId(id(n))).collect(),
        version: RecordVersion { incarnation: u64::MAX, sequence: u64::MAX },
        lifetime_s: u64::MAX,
        ..record(0)
    };
    let longest = signed(1, full());
    assert!(longest.bytes().len() <= MAX_RECORD_BYTES);
    assert!(SignedRecord::verify(longest.bytes(), &NETWORK).is_ok());
    let refused = |record| SignedRecord::sign(&identity(1), &NETWORK, record).unwrap_err();
    let one_more = |change: fn(&mut PeerRecord)| {
        let mut record = full();
        change(&mut record);
        refused(record)
    };
    assert_eq!(one_more(|record| record.tags.push(TagId(id(99_999)))), RecordError::Malformed);
    assert_eq!(one_more(|record| record.streams.push(StreamId(id(99_999)))), RecordError::Malformed);
    assert_eq!(one_more(|record| record.addresses.push(record.addresses[0])), RecordError::Malformed);
    assert_eq!(
        one_more(|record| record.transport_keys.push(record.transport_keys[0])),
        RecordError::Malformed
    );
    assert_eq!(one_more(|record| record.transport_keys.clear()), RecordError::NoTransportKey);
}

#[test]
fn every_flipped_bit_and_every_other_length_is_refused() {
    let good = signed(1, record(1));
    let good = good.bytes();
    for bit in 0..good.len() * 8 {
        let mut bad = good.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(SignedRecord::verify(&bad, &NETWORK).is_err(), "bit {bit}");
    }
    for length in 0..good.len() {
        assert!(SignedRecord::verify(&good[..length], &NETWORK).is_err(), "cut to {length}");
    }
    let mut long = good.to_vec();
    long.push(0);
    assert!(SignedRecord::verify(&long, &NETWORK).is_err());
    assert_eq!(SignedRecord::verify(&vec![1; MAX_RECORD_BYTES + 1], &NETWORK), Err(RecordError::Length));
}

#[test]
fn record_is_invalid_in_another_network_or_from_another_peer() {
    let good = signed(1, record(1));
    assert_eq!(SignedRecord::verify(good.bytes(), &NetworkId([0x12; 32])), Err(RecordError::Signature));
    let mut stolen = good.bytes().to_vec();
    stolen[1..33].copy_from_slice(identity(2).public_key());
    assert_eq!(SignedRecord::verify(&stolen, &NETWORK), Err(RecordError::Signature));
    let mut other_format = good.bytes().to_vec();
    other_format[0] = 1;
    assert_eq!(SignedRecord::verify(&other_format, &NETWORK), Err(RecordError::Format));
}

#[test]
fn announced_length_without_content_is_refused() {
    let many = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let body = body_of(&signed(1, record(1)));
    // The first list: 2⁶⁴ − 1 keys; then the second: as many addresses.
    assert_eq!(SignedRecord::verify(&forged(1, &many), &NETWORK), Err(RecordError::Malformed));
    let mut second = body[..1 + 33].to_vec();
    second.extend_from_slice(&many);
    assert_eq!(SignedRecord::verify(&forged(1, &second), &NETWORK), Err(RecordError::Malformed));
    let mut third = body[..1 + 33].to_vec();
    third.extend_from_slice(&[0, 65]);
    third.extend(std::iter::repeat_n(0, 65 * 32));
    assert_eq!(SignedRecord::verify(&forged(1, &third), &NETWORK), Err(RecordError::Malformed), "65 tags");
}

#[test]
fn signed_record_that_is_not_canonical_is_refused() {
    // The same length in two bytes.
    let body = body_of(&signed(1, record(1)));
    assert_eq!(body[0], 1);
    let padded = [&[0x81, 0x00], &body[1..]].concat();
    let error = SignedRecord::verify(&forged(1, &padded), &NETWORK).unwrap_err();
    assert!(matches!(error, RecordError::NotCanonical | RecordError::Malformed), "{error:?}");
    // Tags that do not ascend, or repeat.
    let two_tags = |a: usize, b: usize| {
        let good = PeerRecord { addresses: vec![], streams: vec![], ..record(1) };
        let mut body = body_of(&signed(1, good));
        let tags = 1 + 33 + 1 + 1;
        body[tags..tags + 32].copy_from_slice(&id(a));
        body[tags + 32..tags + 64].copy_from_slice(&id(b));
        SignedRecord::verify(&forged(1, &body), &NETWORK).map(|_| ())
    };
    assert_eq!(two_tags(1, 2), Ok(()));
    assert_eq!(two_tags(2, 1), Err(RecordError::NotCanonical));
    assert_eq!(two_tags(2, 2), Err(RecordError::NotCanonical));
    let trailing = [body.as_slice(), &[0]].concat();
    assert_eq!(SignedRecord::verify(&forged(1, &trailing), &NETWORK), Err(RecordError::Malformed));
}

#[test]
fn address_that_no_packet_can_be_sent_to_is_refused() {
    for bad in [
        "0.0.0.0:1",
        "10.0.0.1:0",
        "224.0.0.1:1",
        "255.255.255.255:1",
        "[::]:1",
        "[ff02::1]:1",
        "[::ffff:10.0.0.1]:1",
    ] {
        let addresses = vec![bad.parse::<SocketAddr>().unwrap()];
        let refused = SignedRecord::sign(&identity(1), &NETWORK, PeerRecord { addresses, ..record(1) });
        assert_eq!(refused.unwrap_err(), RecordError::Address, "{bad}");
    }
}

#[test]
fn record_is_believed_for_its_lifetime_whatever_the_date() {
    let at = |lifetime_s, age_s| PeerRecord { lifetime_s, ..record(1) }.check_age(age_s);
    assert_eq!(at(0, 0), Err(RecordError::Expired));
    assert_eq!(at(10, 10), Err(RecordError::Expired));
    assert_eq!(at(10, 9), Ok(1));
    assert_eq!(at(MAX_LIFETIME_S, 0), Ok(MAX_LIFETIME_S));
    assert_eq!(at(MAX_LIFETIME_S + 1, 0), Err(RecordError::TooLongLived));
    assert_eq!(at(u64::MAX, u64::MAX), Err(RecordError::TooLongLived));
    let source = PeerId([1; 32]);
    let mut catalog = Catalog::new(CatalogConfig::default());
    let far = signed(1, PeerRecord { lifetime_s: u64::MAX, ..record(1) });
    assert_eq!(catalog.insert(far, source, NOW_S, 0), Insert::Refused(RecordError::TooLongLived));
    // One that was passed on is not believed for longer than its peer asked for.
    let (peer, passed_on) = (identity(1).peer_id(), signed(1, record(1)));
    assert_eq!(catalog.insert(passed_on, source, NOW_S, 500), Insert::New { evicted: None });
    assert_eq!(catalog.age_s(&peer, NOW_S + 50), Some(551), "rounded up");
    assert!(catalog.expire(NOW_S + 99).is_none());
    assert!(catalog.expire(NOW_S + 100).is_some());
}

#[test]
fn newest_record_stays_and_equivocation_resolves_the_same_everywhere() {
    let source = PeerId([1; 32]);
    let mut catalog = Catalog::new(CatalogConfig::default());
    assert_eq!(catalog.insert(signed(1, record(5)), source, NOW_S, 0), Insert::New { evicted: None });
    assert_eq!(catalog.insert(signed(1, record(5)), source, NOW_S, 0), Insert::Equal);
    assert_eq!(catalog.insert(signed(1, record(4)), source, NOW_S, 0), Insert::Stale);
    assert_eq!(catalog.insert(signed(1, record(6)), source, NOW_S, 0), Insert::Newer { evicted: None });
    let restarted = PeerRecord { version: RecordVersion { incarnation: 6, sequence: 0 }, ..record(0) };
    assert_eq!(catalog.insert(signed(1, restarted), source, NOW_S, 0), Insert::Newer { evicted: None });
    assert_eq!(catalog.insert(signed(1, record(99)), source, NOW_S, 0), Insert::Stale, "another incarnation");

    let one = signed(2, record(1));
    let other = signed(2, PeerRecord { tags: vec![], ..record(1) });
    let (smaller, larger) = if one.hash() < other.hash() { (one, other) } else { (other, one) };
    for order in [[&smaller, &larger], [&larger, &smaller]] {
        let mut catalog = Catalog::new(CatalogConfig::default());
        catalog.insert(order[0].clone(), source, NOW_S, 0);
        let replaced = order[1].hash() == smaller.hash();
        assert_eq!(catalog.insert(order[1].clone(), source, NOW_S, 0), Insert::Equivocation { replaced });
        assert_eq!(catalog.get(&smaller.record().peer_id).unwrap().hash(), smaller.hash());
    }
}

#[test]
fn flood_of_invented_peers_displaces_only_its_own_records() {
    let config = CatalogConfig { max_records: 40, ..CatalogConfig::default() };
    let mut catalog = Catalog::new(config);
    let honest: Vec<u64> = (0..20).collect();
    for n in &honest {
        let source = identity(*n).peer_id();
        assert_eq!(catalog.insert(signed(*n, record(1)), source, NOW_S, 0), Insert::New { evicted: None });
    }
    let mallory = PeerId([0xee; 32]);
    let mut refused = 0;
    for n in 1_000..1_200 {
        match catalog.insert(signed(n, record(1)), mallory, NOW_S, 0) {
            Insert::New { evicted } => assert_eq!(evicted, None),
            Insert::Full => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((catalog.len(), refused), (40, 180));
    for n in &honest {
        assert!(catalog.get(&identity(*n).peer_id()).is_some());
    }
    // A new honest peer still finds room, at Mallory's cost.
    let late = identity(50).peer_id();
    match catalog.insert(signed(50, record(1)), late, NOW_S, 0) {
        Insert::New { evicted: Some(victim) } => {
            assert!((1_000..1_200).any(|n| identity(n).peer_id() == victim))
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(catalog.len(), 40);
}

#[test]
fn pinned_records_stay_and_expired_ones_go_first() {
    let mut catalog = Catalog::new(CatalogConfig { max_records: 2, ..CatalogConfig::default() });
    let (source, other) = (PeerId([1; 32]), PeerId([2; 32]));
    let soon = PeerRecord { lifetime_s: 10, ..record(1) };
    catalog.insert(signed(1, soon), source, NOW_S, 0);
    catalog.insert(signed(2, record(1)), source, NOW_S, 0);
    assert!(catalog.pin(&identity(1).peer_id(), true));
    assert!(catalog.pin(&identity(2).peer_id(), true));
    assert!(!catalog.pin(&identity(3).peer_id(), true));
    assert_eq!(catalog.insert(signed(3, record(1)), other, NOW_S, 0), Insert::Full);
    assert_eq!(catalog.expire(NOW_S + 9), None);
    let evicted = Some(identity(1).peer_id());
    assert_eq!(catalog.insert(signed(3, record(1)), other, NOW_S + 10, 0), Insert::New { evicted });
    assert_eq!(catalog.expire(NOW_S + 20), None);
    assert!(catalog.remove(&identity(2).peer_id()).is_some());
    assert_eq!(catalog.len(), 1);
    assert_eq!(catalog.matching(|record| record.tags.contains(&TagId(id(1)))).count(), 1);
    assert_eq!(catalog.matching(|record| record.tags.contains(&TagId(id(8)))).count(), 0);
}

#[test]
fn catalogue_bounds_bytes_too() {
    let big = |n, sequence| {
        let streams = (0..MAX_STREAMS).map(|n| StreamId(id(n))).collect();
        signed(n, PeerRecord { streams, ..record(sequence) })
    };
    let one = big(1, 2).bytes().len();
    let mut catalog = Catalog::new(CatalogConfig { max_records: 100, max_bytes: 2 * one });
    let source = PeerId([1; 32]);
    for n in 0..10 {
        catalog.insert(signed(n, record(1)), source, NOW_S, 0);
    }
    for n in 0..10 {
        catalog.insert(big(n, 2), source, NOW_S, 0);
        assert!(catalog.bytes() <= 2 * one);
    }
    let sum: usize = catalog.iter().map(|record| record.bytes().len()).sum();
    assert_eq!(catalog.bytes(), sum);
    assert!(!catalog.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_record_round_trips(
        tags in prop::collection::vec(any::<[u8; 32]>(), 0..MAX_TAGS),
        streams in prop::collection::vec(any::<[u8; 32]>(), 0..80),
        addresses in prop::collection::vec((any::<[u8; 4]>(), 1u16..), 0..MAX_ADDRESSES),
        keys in prop::collection::vec((any::<[u8; 32]>(), any::<u64>()), 1..=2),
        incarnation: u64,
        sequence: u64,
        lifetime_s: u64,
    ) {
        let made = PeerRecord {
            transport_keys: keys.into_iter().map(|(key, validity)| TransportKeyEntry { key, validity }).collect(),
            addresses: addresses.into_iter().map(|([_, b, c, d], port)| SocketAddr::from(([10, b, c, d], port))).collect(),
            tags: tags.into_iter().map(TagId).collect(),
            streams: streams.into_iter().map(StreamId).collect(),
            version: RecordVersion { incarnation, sequence },
            lifetime_s,
            ..record(0)
        };
        let sent = signed(1, made);
        prop_assert_eq!(SignedRecord::verify(sent.bytes(), &NETWORK).unwrap(), sent);
    }

    #[test]
    fn arbitrary_bytes_are_not_a_record(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(SignedRecord::verify(&bytes, &NETWORK).is_err());
        prop_assert!(SignedRecord::verify(&forged(1, &bytes), &NETWORK).is_err());
    }

}

proptest! {
    // Each step signs a record, which is slow without optimisation.
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// In any order of operations the bounds hold, and the catalogue's sums agree with its content.
    #[test]
    fn catalogue_keeps_its_bounds(
        steps in prop::collection::vec((0u64..12, 0u8..4, 0u64..4, 0u8..10), 1..120),
    ) {
        let mut catalog = Catalog::new(CatalogConfig { max_records: 5, max_bytes: 2_000 });
        for (peer, source, sequence, what) in steps {
            let id = identity(peer).peer_id();
            match what {
                0 => { catalog.pin(&id, true); }
                1 => { catalog.pin(&id, false); }
                2 => { catalog.remove(&id); }
                3 => { while catalog.expire(NOW_S + 300).is_some() {} }
                _ => {
                    let before = catalog.get(&id).map(|record| record.record().version);
                    let streams = (0..sequence as usize * 3).map(|n| StreamId(self::id(n))).collect();
                    let lifetime_s = 100 * (1 + peer);
                    let tags = if what == 9 { vec![] } else { vec![TagId(self::id(1))] };
                    let made = PeerRecord { streams, lifetime_s, tags, ..record(sequence) };
                    catalog.insert(signed(peer, made), PeerId([source; 32]), NOW_S, 0);
                    let after = catalog.get(&id).map(|record| record.record().version);
                    prop_assert!(before.is_none() || after >= before, "a record never gets older");
                }
            }
            prop_assert!(catalog.len() <= 5 && catalog.bytes() <= 2_000);
            prop_assert_eq!(catalog.bytes(), catalog.iter().map(|record| record.bytes().len()).sum::<usize>());
        }
    }
}

#[test]
fn digests_differ_exactly_in_the_buckets_of_other_records() {
    let records: Vec<_> = (0..60).map(|n| signed(n, record(1))).collect();
    let all = CatalogDigest::of(&records);
    assert_eq!(all, CatalogDigest::of(records.iter().rev()), "the order does not count");
    let newer = signed(7, record(2));
    let changed = records
        .iter()
        .map(|record| if record.record().peer_id == newer.record().peer_id { &newer } else { record });
    let bucket = bucket_of(&newer.record().peer_id);
    assert_eq!(all.differing(&CatalogDigest::of(changed)), bucket);
    let some = CatalogDigest::of(&records[1..]);
    assert_eq!(all.differing(&some), bucket_of(&records[0].record().peer_id));
    let filled = records.iter().fold(0, |set, record| set | bucket_of(&record.record().peer_id));
    assert_eq!(all.empty(), !filled);
    assert_eq!(CatalogDigest::of([]).empty(), u64::MAX);

    let mut bytes = Vec::new();
    all.write(&mut bytes);
    assert_eq!(bytes.len(), DIGEST_BYTES);
    assert_eq!(CatalogDigest::read(&bytes), Some(all));
    bytes.push(0);
    assert_eq!(CatalogDigest::read(&bytes), None);
    assert_eq!(CatalogDigest::read(&bytes[..DIGEST_BYTES - 1]), None);
}

#[test]
fn a_summary_tells_which_records_another_node_lacks() {
    let (old, new) = (signed(1, record(1)), signed(1, record(2)));
    let (one, two) = (signed(2, record(5)), signed(2, PeerRecord { tags: Vec::new(), ..record(5) }));
    let (small, large) = if one.hash() < two.hash() { (one, two) } else { (two, one) };
    let list = |records: &[&SignedRecord]| {
        let mut bytes = Vec::new();
        records.iter().for_each(|record| RecordSummary::of(record).write(&mut bytes));
        assert_eq!(SummaryList::read(&[&bytes[..], &[0]].concat()), None);
        SummaryList::read(&bytes).unwrap()
    };
    assert!(list(&[]).lacks(&old) && list(&[&small]).lacks(&old));
    assert!(list(&[&old]).lacks(&new) && !list(&[&new]).lacks(&old) && !list(&[&new, &small]).lacks(&new));
    assert!(list(&[&large]).lacks(&small) && !list(&[&small]).lacks(&large), "as every node keeps it");
}
