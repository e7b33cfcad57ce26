use std::{collections::BTreeSet, vec, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::{
    time::Instant,
    wire::header::{HEADER_BYTES, HeaderError, PACKET_OVERHEAD_BYTES, ReceiverIndex},
};

const NOW: Instant = Instant::from_nanos(1_000);

fn pair(suite: Suite) -> (Sealer, Opener) {
    let key = KeyBytes::from_bytes([7; 32]);
    (Sealer::new(suite, &key, NOW), Opener::new(suite, &key, NOW))
}

fn index() -> ReceiverIndex {
    ReceiverIndex::new(3, 70_000, 0xc0ff_ee00).unwrap()
}

fn sealed(sealer: &mut Sealer, plaintext: &[u8]) -> Vec<u8> {
    let mut buf = vec![0; plaintext.len() + PACKET_OVERHEAD_BYTES];
    buf[HEADER_BYTES..HEADER_BYTES + plaintext.len()].copy_from_slice(plaintext);
    let sealed = sealer.seal(NOW, index(), &mut buf, plaintext.len()).unwrap();
    assert_eq!(sealed.bytes, buf.len());
    buf
}

/// The model: every number ever committed, and the highest of them.
#[derive(Default)]
struct Model {
    seen: BTreeSet<u64>,
}

impl Model {
    fn acceptable(&self, number: u64) -> bool {
        let behind = self.seen.last().map_or(0, |top| top.saturating_sub(number));
        number != u64::MAX && behind < REPLAY_WINDOW_PACKETS && !self.seen.contains(&number)
    }
}

fn steps() -> impl Strategy<Value = Vec<(u8, u64)>> {
    prop::collection::vec((0u8..8, any::<u64>()), 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn replay_window_equals_a_set(start in prop_oneof![Just(0u64), any::<u64>()], steps in steps()) {
        let mut window = ReplayWindow::new();
        let mut model = Model::default();
        let mut near = start;
        for (what, raw) in steps {
            let number = match what {
                0 => near,
                1 => near.saturating_add(1),
                2 => near.saturating_add(raw % 130),
                3 => near.saturating_sub(raw % 130),
                4 => near.saturating_sub(REPLAY_WINDOW_PACKETS - 2 + raw % 4),
                5 => near.saturating_add(REPLAY_WINDOW_PACKETS - 2 + raw % 4),
                6 => near.saturating_sub(raw % (2 * REPLAY_WINDOW_PACKETS)),
                _ => if raw % 16 == 0 { raw } else { near.saturating_add(raw % (3 * REPLAY_WINDOW_PACKETS)) },
            };
            let expected = model.acceptable(number);
            prop_assert_eq!(window.vacancy(number).is_some(), expected, "number {}", number);
            prop_assert_eq!(window.vacancy(number).map(Vacancy::commit).is_some(), expected);
            if expected {
                model.seen.insert(number);
                near = number;
            }
        }
        prop_assert_eq!(window.end(), model.seen.last().map_or(0, |top| top + 1));
    }
}

#[test]
fn replay_window_is_exact_at_its_edges() {
    let mut window = ReplayWindow::new();
    window.vacancy(0).unwrap().commit();
    assert!(window.vacancy(0).is_none());
    window.vacancy(REPLAY_WINDOW_PACKETS).unwrap().commit();
    assert!(window.vacancy(1).is_some(), "exactly as many numbers as the window is wide");
    assert!(window.vacancy(0).is_none());
    window.vacancy(u64::MAX - 1).expect("the farthest jump").commit();
    assert!(window.vacancy(u64::MAX).is_none(), "a number after which no end could be written");
    assert!(window.vacancy(1).is_none());
    window.vacancy(u64::MAX - REPLAY_WINDOW_PACKETS).unwrap().commit();
    assert!(window.vacancy(u64::MAX - REPLAY_WINDOW_PACKETS - 1).is_none());
}

#[test]
fn sealed_packet_opens_once() {
    for suite in [Suite::Aes256Gcm, Suite::ChaCha20Poly1305] {
        let (mut sealer, mut opener) = pair(suite);
        for round in 0..3u8 {
            let packet = sealed(&mut sealer, &[round; 40]);
            let mut copy = packet.clone();
            let opened = opener.open(NOW, &mut copy).unwrap();
            assert_eq!(opened.number, u64::from(round));
            assert_eq!(opened.plaintext, [round; 40]);
            assert_eq!(opener.open(NOW, &mut packet.clone()), Err(UnsealError::Replay));
        }
        let mut empty = sealed(&mut sealer, &[]);
        assert_eq!(opener.open(NOW, &mut empty).unwrap().plaintext, [0u8; 0]);
        assert_eq!(opener.opened(), 4);
    }
}

#[test]
fn every_flipped_bit_is_refused_and_changes_nothing() {
    for suite in [Suite::Aes256Gcm, Suite::ChaCha20Poly1305] {
        let (mut sealer, mut opener) = pair(suite);
        sealed(&mut sealer, b"number zero is left out");
        let packet = sealed(&mut sealer, b"every bit of this counts");
        for bit in 0..packet.len() * 8 {
            let mut bad = packet.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let error = opener.open(NOW, &mut bad).unwrap_err();
            assert!(
                matches!(error, UnsealError::Forged | UnsealError::Header(_) | UnsealError::NotData),
                "bit {bit}: {error:?}"
            );
            assert_eq!(opener.window_end(), 0, "bit {bit}");
        }
        assert!(opener.forged() > 0);
        assert!(opener.open(NOW, &mut packet.clone()).is_ok());
    }
}

#[test]
fn wrong_length_is_refused() {
    let (mut sealer, mut opener) = pair(Suite::Aes256Gcm);
    let packet = sealed(&mut sealer, b"length");
    for len in 0..packet.len() {
        assert!(opener.open(NOW, &mut packet[..len].to_vec()).is_err(), "cut to {len}");
    }
    for extra in 1..64 {
        let mut long = packet.clone();
        long.extend(std::iter::repeat_n(0, extra));
        assert_eq!(opener.open(NOW, &mut long), Err(UnsealError::Forged), "extended by {extra}");
    }
    let glued = [packet.clone(), packet.clone()].concat();
    assert_eq!(opener.open(NOW, &mut glued.clone()), Err(UnsealError::Forged));
    for len in 0..128 {
        for fill in [0x00, 0x80, 0xff] {
            assert!(opener.open(NOW, &mut vec![fill; len]).is_err());
        }
    }
    assert!(opener.open(NOW, &mut packet.clone()).is_ok());
}

#[test]
fn packet_does_not_open_under_another_key_or_suite() {
    let (mut sealer, _) = pair(Suite::Aes256Gcm);
    let packet = sealed(&mut sealer, b"secret");
    let mut other_key = Opener::new(Suite::Aes256Gcm, &KeyBytes::from_bytes([8; 32]), NOW);
    let mut other_suite = Opener::new(Suite::ChaCha20Poly1305, &KeyBytes::from_bytes([7; 32]), NOW);
    assert_eq!(other_key.open(NOW, &mut packet.clone()), Err(UnsealError::Forged));
    assert_eq!(other_suite.open(NOW, &mut packet.clone()), Err(UnsealError::Forged));
}

#[test]
fn forward_jump_that_opens_is_accepted() {
    let key = KeyBytes::from_bytes([7; 32]);
    let aead = RingAead::new(Suite::Aes256Gcm, &key);
    let mut opener = Opener::new(Suite::Aes256Gcm, &key, NOW);
    for number in [5, 1 << 40, crate::wire::header::PACKET_NUMBER_LIMIT - 1] {
        let mut packet = packet_numbered(&aead, number);
        assert_eq!(opener.open(NOW, &mut packet).unwrap().number, number);
    }
    let mut beyond = packet_numbered(&aead, crate::wire::header::PACKET_NUMBER_LIMIT);
    assert_eq!(opener.open(NOW, &mut beyond), Err(UnsealError::Header(HeaderError::Number)));
    assert_eq!(opener.key_use(NOW), KeyUse::RekeyDue, "a far jump asks for a new key and stops nothing");
}

fn packet_numbered(aead: &RingAead, number: u64) -> Vec<u8> {
    use zerocopy::IntoBytes;
    let header = crate::wire::header::Header::data(index(), number);
    let mut body = *b"jump";
    let tag = aead.seal(number, header.as_bytes(), &mut body).unwrap();
    [header.as_bytes(), &body, &tag].concat()
}

#[test]
fn key_stops_at_its_packet_limit_without_using_another_number() {
    let key = KeyBytes::from_bytes([7; 32]);
    let limits = KeyLimits { soft_packets: 2, hard_packets: 4, ..KeyLimits::new(Suite::Aes256Gcm) };
    let mut sealer =
        Sealer::with_aead(std::boxed::Box::new(RingAead::new(Suite::Aes256Gcm, &key)), limits, NOW);
    let mut buf = [0; 64];
    for number in 0..4 {
        assert_eq!(sealer.key_use(NOW), if number < 2 { KeyUse::Fresh } else { KeyUse::RekeyDue });
        assert_eq!(sealer.seal(NOW, index(), &mut buf, 4).unwrap().number, number);
    }
    assert_eq!(sealer.seal(NOW, index(), &mut buf, 4), Err(SealError::Spent));
    assert_eq!(sealer.next_number(), 4);
}

#[test]
fn successor_goes_on_with_the_numbers_of_the_key_before() {
    let (mut sealer, _) = pair(Suite::ChaCha20Poly1305);
    for _ in 0..3 {
        sealed(&mut sealer, b"before");
    }
    let (next, mut opener) = pair(Suite::ChaCha20Poly1305);
    let mut next = next.succeed(&sealer);
    assert_eq!((next.phase(), next.next_number()), (1, 3));
    assert_eq!(opener.open(NOW, &mut sealed(&mut next, b"after")).unwrap().number, 3);
}

#[test]
fn both_ends_count_blocks_and_ask_for_a_new_key() {
    let key = KeyBytes::from_bytes([7; 32]);
    // 100 bytes of frames make nine blocks with header and tag.
    let limits = KeyLimits { soft_blocks: 18, hard_blocks: 27, ..KeyLimits::new(Suite::Aes256Gcm) };
    let mut sealer = Sealer::with_limits(Suite::Aes256Gcm, &key, limits, NOW);
    let mut opener = Opener::with_limits(Suite::Aes256Gcm, &key, limits, NOW);
    for expected in [KeyUse::Fresh, KeyUse::RekeyDue, KeyUse::Spent] {
        opener.open(NOW, &mut sealed(&mut sealer, &[1; 100])).unwrap();
        assert_eq!((sealer.key_use(NOW), opener.key_use(NOW)), (expected, expected));
    }
}

#[test]
fn key_stops_at_its_age_at_both_ends() {
    let (mut sealer, mut opener) = pair(Suite::ChaCha20Poly1305);
    let mut packet = sealed(&mut sealer, b"late");
    let soft = NOW + KEY_SOFT_AGE;
    let hard = NOW + KEY_HARD_AGE;
    assert_eq!((sealer.key_use(soft), opener.key_use(soft)), (KeyUse::RekeyDue, KeyUse::RekeyDue));
    assert_eq!(opener.open(hard, &mut packet), Err(UnsealError::Spent));
    assert_eq!(sealer.seal(hard, index(), &mut [0; 64], 4), Err(SealError::Spent));
}

#[test]
fn key_stops_after_too_many_forgeries() {
    let key = KeyBytes::from_bytes([7; 32]);
    let limits = KeyLimits { forgeries: 2, ..KeyLimits::new(Suite::Aes256Gcm) };
    let mut opener =
        Opener::with_aead(std::boxed::Box::new(RingAead::new(Suite::Aes256Gcm, &key)), limits, NOW);
    let good = packet_numbered(&RingAead::new(Suite::Aes256Gcm, &key), 0);
    let mut bad = good.clone();
    bad[HEADER_BYTES] ^= 1;
    assert_eq!(opener.open(NOW, &mut bad.clone()), Err(UnsealError::Forged));
    assert_eq!(opener.open(NOW, &mut bad), Err(UnsealError::Forged));
    assert_eq!(opener.open(NOW, &mut good.clone()), Err(UnsealError::Spent));
}

#[test]
fn packet_that_does_not_fit_uses_no_number() {
    let (mut sealer, _) = pair(Suite::Aes256Gcm);
    assert_eq!(sealer.seal(NOW, index(), &mut [0; 64], 64), Err(SealError::NoRoom));
    assert_eq!(sealer.seal(NOW, index(), &mut [0; 64], usize::MAX), Err(SealError::NoRoom));
    assert_eq!(sealer.seal(NOW, index(), &mut vec![0; 70_000], 66_000), Err(SealError::NoRoom));
    assert_eq!(sealer.next_number(), 0);
}

/// These bytes agree with another implementation of both ciphers.
#[test]
fn golden_data_packets_keep_their_bytes() {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| std::format!("{b:02x}")).collect::<std::string::String>();
    let (mut aes, _) = pair(Suite::Aes256Gcm);
    let (mut chacha, _) = pair(Suite::ChaCha20Poly1305);
    sealed(&mut aes, b"");
    sealed(&mut chacha, b"");
    assert_eq!(
        hex(&sealed(&mut aes, b"golden")),
        "800000000370110100eeffc001000000000000005727d504512e17e02ab46563bd8680170b3e1f1e2520"
    );
    assert_eq!(
        hex(&sealed(&mut chacha, b"golden")),
        "800000000370110100eeffc001000000000000008e783f72a303bfc5d8161e576c3ad358010e7334e047"
    );
}

#[test]
fn suite_agreement_is_symmetric() {
    let all = [
        Suites::for_cpu(true),
        Suites::for_cpu(false),
        Suites::only(Suite::Aes256Gcm),
        Suites::from_bits(0),
        Suites::from_bits(u16::MAX),
        Suites::from_bits(1 << 9),
    ];
    for a in all {
        for b in all {
            assert_eq!(a.agree(b), b.agree(a));
        }
    }
    assert_eq!(Suites::for_cpu(true).agree(Suites::for_cpu(true)), Some(Suite::Aes256Gcm));
    assert_eq!(Suites::for_cpu(true).agree(Suites::for_cpu(false)), Some(Suite::ChaCha20Poly1305));
    assert_eq!(Suites::only(Suite::Aes256Gcm).agree(Suites::for_cpu(false)), None);
}

#[test]
fn debug_shows_no_key() {
    let key = KeyBytes::from_bytes([0xab; 32]);
    let keys = SessionKeys { send: key.clone(), recv: key, suite: Suite::Aes256Gcm };
    let text = std::format!("{keys:?}");
    assert!(!text.contains("171") && !text.contains("ab, "), "{text}");
}
