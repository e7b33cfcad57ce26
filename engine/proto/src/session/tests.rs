//! Tests that need a session's private state.

use super::*;
use crate::{
    channel::{OpenRequest, Reliability},
    ids::StreamId,
    seal::{KeyBytes, Suite},
};

mod acknowledgements;
mod transitions;

#[test]
fn slot_reused_while_blocked_is_listed_once() {
    let config = SessionConfig::default();
    let key = KeyBytes::from_bytes([1; 32]);
    let suite = Suite::ChaCha20Poly1305;
    let mut now = Instant::ZERO;
    let (sealer, opener) = (Sealer::new(suite, &key, now), Opener::new(suite, &key, now));
    let mut session = Session::new(config, sealer, opener, ReceiverIndex::NONE, now);
    let request = OpenRequest {
        stream_id: StreamId([1; 32]),
        subscription: [0; 8],
        resume: None,
        reliability: Reliability::Reliable,
        window_bytes: 16,
        window_datums: 1,
        max_datum_bytes: 16,
        weight: 1,
        form: Default::default(),
        criteria: Vec::new(),
        tickets: Vec::new(),
    };
    for life in 0..50 {
        let label = Label::new(3, life, true);
        let former = session.tx_channels.insert(label, TxChannel::new(label, &request));
        assert_eq!(former.is_some(), life > 0);
        session.block_channel(label);
        now += session.config().blocked_probe * 20;
        session.advance_clock(now);
        session.probe_blocked();
        assert_eq!(session.credit_wait.len(), 1, "life {life}");
    }
}
