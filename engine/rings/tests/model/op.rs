//! What the model can be asked to do, and how often.

use proptest::prelude::*;

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Push(usize),
    Claim(usize),
    Commit(usize),
    Abandon(usize),
    Many { len: usize, n: usize, keep: usize },
    Join,
    Leave(usize),
    Recv(usize),
    Hold { reader: usize, ahead: u64, advance: bool, leak: bool },
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

pub(crate) fn op() -> impl Strategy<Value = Op> {
    let len = 0..=super::MAX_RECORD;
    let which = 0..4usize;
    prop_oneof![
        6 => len.clone().prop_map(Op::Push),
        2 => len.clone().prop_map(Op::Claim),
        4 => which.clone().prop_map(Op::Commit),
        1 => which.clone().prop_map(Op::Abandon),
        2 => (len.clone(), 0..9usize, 0..9usize).prop_map(|(len, n, keep)| Op::Many { len, n, keep }),
        2 => Just(Op::Join),
        1 => which.clone().prop_map(Op::Leave),
        6 => which.clone().prop_map(Op::Recv),
        4 => (which.clone(), 0..9u64, any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(reader, ahead, advance, leak)| Op::Hold { reader, ahead, advance, leak }),
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
