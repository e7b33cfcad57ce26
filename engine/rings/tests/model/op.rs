//! The operations of the model, and how often each comes.

use corewire_rings::RingConfig;
use proptest::prelude::*;

pub(crate) const READERS: usize = 3;

/// The longest record of a ring that scatters small records and packs others.
const LONG: usize = 200;

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Push(usize),
    RecordClaim(usize),
    Commit(usize),
    Abandon(usize),
    Many { len: usize, n: usize, keep: usize },
    Join,
    Leave(usize),
    Recv(usize),
    PinGuard { reader: usize, ahead: u64, advance: bool, leak: bool },
    Read { reader: usize, first: usize, then: usize },
    Poll(usize),
    Evict(usize),
    PushEvicting(usize),
    Detach(usize),
    Wait(usize),
    PollWaiter(usize),
    CancelWaiter(usize),
    Close,
}

/// `len`: the lengths of records.
fn op(len: BoxedStrategy<usize>) -> impl Strategy<Value = Op> {
    let which = 0..4usize;
    prop_oneof![
        6 => len.clone().prop_map(Op::Push),
        2 => len.clone().prop_map(Op::RecordClaim),
        4 => which.clone().prop_map(Op::Commit),
        1 => which.clone().prop_map(Op::Abandon),
        2 => (len.clone(), 0..9usize, 0..9usize).prop_map(|(len, n, keep)| Op::Many { len, n, keep }),
        2 => Just(Op::Join),
        1 => which.clone().prop_map(Op::Leave),
        6 => which.clone().prop_map(Op::Recv),
        4 => (which.clone(), 0..9u64, any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(reader, ahead, advance, leak)| Op::PinGuard { reader, ahead, advance, leak }),
        4 => (which.clone(), 0..6usize, 0..6usize)
            .prop_map(|(reader, first, then)| Op::Read { reader, first, then }),
        3 => which.clone().prop_map(Op::Poll),
        2 => len.clone().prop_map(Op::Evict),
        3 => len.clone().prop_map(Op::PushEvicting),
        1 => which.clone().prop_map(Op::Detach),
        2 => len.prop_map(Op::Wait),
        4 => which.clone().prop_map(Op::PollWaiter),
        1 => which.prop_map(Op::CancelWaiter),
        1 => prop::bool::weighted(0.1).prop_map(|close| if close { Op::Close } else { Op::Join }),
    ]
}

/// The sizes of a ring, and the operations on it.
pub(crate) fn plans() -> impl Strategy<Value = (RingConfig, Vec<Op>)> {
    let ops =
        |len: BoxedStrategy<usize>| prop::collection::vec(op(len), 1..if cfg!(miri) { 40 } else { 200 });
    let sizes = |datums, bytes, max_record| RingConfig {
        datums,
        bytes,
        max_record,
        readers: READERS,
        scatter_small: RingConfig::scatter_fits(datums, bytes),
    };
    let packed = (1..7usize, 3..13usize).prop_map(move |(datums, units)| sizes(datums, units * 16 + 7, 40));
    // Scattering: bytes for each datum, rounded up to a power of two. Then small records never run out of
    // bytes.
    let short = (1..7usize, 0..20usize)
        .prop_map(move |(datums, more)| sizes(datums, datums.next_power_of_two() * 128 + more, 128));
    // Long ones run out of bytes before datums.
    let mixed = (1..7usize, 0..100usize).prop_map(move |(datums, more)| {
        sizes(datums, (datums.next_power_of_two() * 128).max(RingConfig::cost(LONG)) + more, LONG)
    });
    let edge = 127..=129usize;
    prop_oneof![
        2 => (packed, ops((0..=40usize).boxed())),
        1 => (short, ops(prop_oneof![0..=128usize, Just(64), 127..=128usize].boxed())),
        1 => (mixed, ops(prop_oneof![0..=LONG, edge, Just(LONG)].boxed())),
    ]
}
