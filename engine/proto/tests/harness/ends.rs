//! The rings and inboxes at the ends of a session, which check the laws of delivery.

use std::collections::{BTreeMap, VecDeque};

use corewire_proto::{
    channel::{Label, Reliability, datum_cost},
    session::{CloseCode, DatumSink, DatumSource, Fetched},
};

use super::{Flow, content, is_skipped};

/// The producer's side of a flow.
pub struct Producing {
    pub flow: u64,
    pub config: Flow,
    pub published: u64,
    pub finished: bool,
    pub closed: Option<CloseCode>,
    pub fetched: u64,
}

/// The consumer's side of a flow.
pub struct Consuming {
    pub flow: u64,
    pub config: Flow,
    pub accepted: bool,
    /// What the next datum has to be, on Reliable.
    pub next: u64,
    pub inbox: VecDeque<(u64, usize)>,
    pub inbox_cost: u64,
    pub taken_seq: u64,
    pub taken_bytes: u64,
    pub delivered: u64,
    pub skipped: u64,
    pub finished: bool,
    pub closed: Option<CloseCode>,
    pub stalled: bool,
}

impl Consuming {
    /// How many datums the whole flow has for this consumer.
    pub fn expected(&self) -> u64 {
        let all = self.config.first_seq..self.config.first_seq + self.config.datums;
        all.filter(|seq| !is_skipped(self.flow, &self.config, *seq)).count() as u64
    }
}

#[derive(Default)]
pub struct Rings {
    pub producing: BTreeMap<Label, Producing>,
    /// The last datum of each flow, with its sequence; a large one is asked for once per fragment.
    datums: BTreeMap<u64, (u64, Vec<u8>)>,
    pub released: BTreeMap<Label, u64>,
    /// Datums offered in runs.
    pub runs: u64,
}

impl DatumSource for Rings {
    fn datum(&mut self, label: Label, seq: u64) -> Fetched<'_> {
        let Some(ring) = self.producing.get_mut(&label) else { panic!("fetch for unknown {label:?}") };
        let released = self.released.get(&label).copied().unwrap_or(0);
        assert!(seq >= released, "fetched {seq} below released {released}");
        assert!(seq < ring.published, "fetched {seq}, published {}", ring.published);
        ring.fetched += 1;
        let oldest =
            if ring.config.overwrite > 0 { ring.published.saturating_sub(ring.config.overwrite) } else { 0 };
        if seq < oldest {
            return Fetched::Skip { until: oldest };
        }
        if is_skipped(ring.flow, &ring.config, seq) {
            let unwanted = |seq: &u64| !is_skipped(ring.flow, &ring.config, *seq);
            let until = (seq + 1..ring.published).find(unwanted).unwrap_or(ring.published);
            return Fetched::Filtered { until };
        }
        let datum = self.datums.entry(ring.flow).or_insert((u64::MAX, Vec::new()));
        if datum.0 != seq {
            *datum = (seq, content(ring.flow, seq, (ring.config.length)(seq)));
        }
        Fetched::Datum(&datum.1)
    }

    /// Every second flow copies runs.
    fn copy_run(&mut self, label: Label, seq: u64, len: usize, out: &mut [u8]) -> u32 {
        let Some(ring) = self.producing.get_mut(&label).filter(|ring| ring.flow % 2 == 0) else { return 0 };
        let max = (out.len() / len) as u64;
        assert!(max > 0 && seq + max <= ring.published, "a run beyond {}", ring.published);
        let oldest = ring.published.saturating_sub(ring.config.overwrite);
        let overwritten = |seq| ring.config.overwrite > 0 && seq < oldest;
        let count = (seq..seq + max.min(40))
            .take_while(|seq| {
                let skipped = overwritten(*seq) || is_skipped(ring.flow, &ring.config, *seq);
                !skipped && (ring.config.length)(*seq) == len
            })
            .count() as u64;
        for (seq, out) in (seq..seq + count).zip(out.chunks_exact_mut(len)) {
            out.copy_from_slice(&content(ring.flow, seq, len));
        }
        self.runs += count;
        count as u32
    }
}

#[derive(Default)]
pub struct Inboxes {
    pub consuming: BTreeMap<Label, Consuming>,
}

impl DatumSink for Inboxes {
    fn deliver(&mut self, label: Label, seq: u64, skipped_before: u64, datum: &[u8]) -> bool {
        let inbox = self.consuming.get_mut(&label).expect("delivery to an unknown channel");
        assert!(inbox.accepted, "a datum before Accepted");
        assert!(!inbox.finished && inbox.closed.is_none(), "a datum after the end");
        let filtered =
            (inbox.next..seq).filter(|seq| is_skipped(inbox.flow, &inbox.config, *seq)).count() as u64;
        let passed = seq.checked_sub(inbox.next).expect("order");
        assert!(
            (passed - filtered..=passed).contains(&skipped_before),
            "the exact size of the gap: {passed} passed, {filtered} filtered, {skipped_before} told"
        );
        let length = (inbox.config.length)(seq);
        assert!(datum == content(inbox.flow, seq, length), "datum {seq} of flow {} is another", inbox.flow);
        if inbox.config.reliability == Reliability::Reliable && inbox.config.overwrite == 0 {
            assert_eq!(
                (passed, skipped_before),
                (filtered, 0),
                "what is filtered is no gap, and nothing else"
            );
        }
        inbox.next = seq + 1;
        inbox.skipped += skipped_before;
        inbox.delivered += 1;
        let cost = datum_cost(datum.len());
        inbox.inbox.push_back((seq, datum.len()));
        inbox.inbox_cost += cost;
        let config = &inbox.config;
        if config.window_bytes > 0 {
            let room = config.window_bytes + datum_cost(config.max_datum as usize);
            assert!(inbox.inbox_cost <= room, "inbox holds {} of {room}", inbox.inbox_cost);
        }
        if config.window_datums > 0 {
            assert!(inbox.inbox.len() as u64 <= config.window_datums, "too many datums in the inbox");
        }
        true
    }
}
