//! What the packer does with pieces of any length. What serializers give it is in [`super::wire`]'s own tests.

use postcard::{Error, Result};
use proptest::prelude::*;

use super::{Packer, SHORT_WORDS, Short, Sink, WORD, Word, pack_into, read_short, write_short};

/// Gives `pieces` to `packer`, short ones in one push if `push` says so.
fn give<'a, W: Word>(packer: Packer<'a, W>, pieces: &[(Vec<u8>, bool)]) -> Result<Packer<'a, W>> {
    pieces.iter().try_fold(packer, |packer, (piece, push)| match piece.len() {
        len @ 1..=WORD if *push => {
            let mut word = [0; WORD];
            word[..len].copy_from_slice(piece);
            packer.push(u64::from_le_bytes(word), 8 * len as u32)
        }
        _ => packer.run(piece),
    })
}

fn flat(pieces: &[(Vec<u8>, bool)]) -> Vec<u8> {
    pieces.iter().flat_map(|(piece, _)| piece.iter().copied()).collect()
}

fn pieces(
    len: core::ops::Range<usize>,
    number: core::ops::Range<usize>,
) -> impl Strategy<Value = Vec<(Vec<u8>, bool)>> {
    prop::collection::vec(
        (
            prop_oneof![prop::collection::vec(any::<u8>(), 0..9), prop::collection::vec(any::<u8>(), len)],
            any::<bool>(),
        ),
        number,
    )
}

proptest! {
    #[test]
    fn pieces_of_any_length_follow_one_another(pieces in pieces(0..80, 0..20)) {
        let flat = flat(&pieces);
        let mut out = vec![0xa5; flat.len()];
        prop_assert_eq!(pack_into(&mut out, |packer| give(packer, &pieces)), Ok(true));
        prop_assert_eq!(out, flat);
    }

    #[test]
    fn room_that_is_not_filled_is_noticed(pieces in pieces(0..80, 0..20), spare in 1usize..20) {
        let mut out = vec![0xa5; flat(&pieces).len() + spare];
        prop_assert_eq!(pack_into(&mut out, |packer| give(packer, &pieces)), Ok(false));
    }

    #[test]
    fn room_that_ends_too_early_is_noticed(pieces in pieces(1..80, 1..20), missing in 1usize..20) {
        let flat = flat(&pieces);
        prop_assume!(!flat.is_empty());
        let mut out = vec![0; flat.len().saturating_sub(missing)];
        let packed = pack_into(&mut out, |packer| give(packer, &pieces));
        prop_assert!(matches!(packed, Ok(false) | Err(Error::SerializeBufferFull)), "{:?}", packed);
    }

    #[test]
    fn a_short_datum_is_copied_whole(pieces in pieces(0..40, 0..12)) {
        let flat = flat(&pieces);
        let mut short = Short::new();
        let fits = short.pack(|packer| give(packer, &pieces));
        prop_assert_eq!(&fits, &Ok(flat.len() <= SHORT_WORDS * WORD));
        if fits == Ok(true) {
            let mut out = vec![0; short.len()];
            short.copy_to(&mut out);
            prop_assert_eq!(out, flat);
        }
    }

    #[test]
    fn fewer_bytes_than_a_word_are_read_and_written(bytes in prop::collection::vec(any::<u8>(), 0..WORD)) {
        let mut word = [0; WORD];
        word[..bytes.len()].copy_from_slice(&bytes);
        prop_assert_eq!(read_short(&bytes), u64::from_le_bytes(word));
        let mut out = vec![0; bytes.len()];
        write_short(&mut out, u64::MAX << (8 * bytes.len()) | u64::from_le_bytes(word));
        prop_assert_eq!(out, bytes);
    }
}

#[test]
fn nothing_that_was_lost_after_an_error_counts_as_written() {
    // A `Serialize` may ignore an error and go on with what is left.
    let mut out = [0xa5; 8];
    assert_eq!(pack_into(&mut out, |_| Ok(Packer::default())), Ok(false));
}
