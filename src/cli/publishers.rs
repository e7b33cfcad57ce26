//! The publishers of `sub`: which are connected, how each ended, and whether the stream has ended with them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use corewire::PeerId;
use corewire::streams::CloseCode;

use super::wait::POLL_INTERVAL;

/// How long no record has to come, and no publisher to be connected, before the stream has ended: the last
/// records of a publisher are taken meanwhile.
const LAST_RECORDS: Duration = POLL_INTERVAL;
/// How long `--until-end` waits for a publisher to come back whose port is closed, or that has left the
/// network.
const KILLED_PATIENCE: Duration = Duration::from_secs(5);
/// The same for one that is silent: it may be stopped, or its network may be down.
const SILENT_PATIENCE: Duration = Duration::from_secs(60);

/// Publishers that were lost and are remembered, at most.
const REMEMBERED_MAX: usize = 1_000;

/// How a stream ended all of whose publishers have left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamOutcome {
    /// Every publisher has ended its stream.
    Finished,
    /// As far as it is known every publisher has ended its stream, but events were missed.
    Unknown,
    /// A publisher ended the stream before its input ended.
    CutShort,
    /// A publisher is gone without having ended its stream, and did not come back in time.
    Lost(CloseCode),
}

/// The publishers that were connected at some time.
pub(crate) struct Publishers {
    /// How the last connection of each ended; `None` while it is connected. Those that ended their stream
    /// properly are forgotten while another one is connected.
    ends: BTreeMap<PeerId, Option<CloseCode>>,
    /// Those whose records have overtaken the event of their connection.
    unannounced: BTreeSet<PeerId>,
    /// Those that have ended since the last call of [`settle`](Self::settle). Their last records may come
    /// yet, so they are not forgotten.
    just_ended: BTreeSet<PeerId>,
    /// Since when none is connected and no record came; from the start.
    alone_since: Option<Instant>,
    /// A record or a connection came at some time.
    met: bool,
    /// Events were missed: how a publisher ended may not be known.
    missed: bool,
}

impl Publishers {
    pub(crate) fn new(now: Instant) -> Self {
        Publishers {
            ends: BTreeMap::new(),
            unannounced: BTreeSet::new(),
            just_ended: BTreeSet::new(),
            alone_since: Some(now),
            met: false,
            missed: false,
        }
    }

    /// Whether one was connected at some time.
    pub(crate) fn met(&self) -> bool {
        self.met
    }

    /// A record has come. It may overtake the event of its publisher's connection.
    pub(crate) fn record(&mut self, id: PeerId) {
        (self.met, self.alone_since) = (true, None);
        if !self.ends.contains_key(&id) {
            self.unannounced.insert(id);
        }
    }

    pub(crate) fn connected(&mut self, id: PeerId) {
        (self.met, self.alone_since) = (true, None);
        self.unannounced.remove(&id);
        self.ends.insert(id, None);
    }

    pub(crate) fn ended(&mut self, id: PeerId, code: CloseCode) {
        self.unannounced.remove(&id);
        self.just_ended.insert(id);
        self.ends.insert(id, Some(code));
    }

    /// Events were missed. `listed` are the channels that are known now, and how those ended that are over.
    pub(crate) fn resync(&mut self, listed: impl Iterator<Item = (PeerId, Option<CloseCode>)>) {
        self.missed = true;
        let connected = self.ends.iter().filter(|(_, end)| end.is_none()).map(|(id, _)| *id);
        let mut unlisted: BTreeSet<PeerId> = connected.chain(self.unannounced.iter().copied()).collect();
        for (id, end) in listed {
            unlisted.remove(&id);
            match end {
                None => self.connected(id),
                Some(code) => self.ended(id, code),
            }
        }
        // The channel is gone, and nothing tells how it ended.
        unlisted.into_iter().for_each(|id| self.ended(id, CloseCode::PEER_LOST));
    }

    /// To be called when all events that have come are taken in, and all records that had come before the
    /// last call.
    pub(crate) fn settle(&mut self, now: Instant) {
        let just_ended = std::mem::take(&mut self.just_ended);
        if self.unannounced.is_empty() && self.ends.values().all(Option::is_some) {
            self.alone_since.get_or_insert(now);
            return;
        }
        self.alone_since = None;
        // Only a stream that was not ended counts at the end.
        self.ends.retain(|id, end| *end != Some(CloseCode::GRACEFUL) || just_ended.contains(id));
        let mut surplus = self.ends.len().saturating_sub(REMEMBERED_MAX);
        self.ends.retain(|id, end| {
            let goes = surplus > 0 && end.is_some() && !just_ended.contains(id);
            surplus -= usize::from(goes);
            !goes
        });
    }

    /// How long none has been connected; `None` while one is.
    pub(crate) fn alone_for(&self, now: Instant) -> Option<Duration> {
        self.alone_since.map(|since| now.saturating_duration_since(since))
    }

    /// How the stream has ended; `None` while a publisher is connected or may come back, while its last
    /// records may come, and before the end of one is known. `is_present` tells whether a peer is in the
    /// network now.
    pub(crate) fn stream_end(
        &self,
        now: Instant,
        is_present: impl Fn(&PeerId) -> bool,
    ) -> Option<StreamOutcome> {
        let alone_for = self.alone_for(now).filter(|time| *time >= LAST_RECORDS && !self.ends.is_empty())?;
        let codes = || self.ends.values().copied().flatten();
        let is_cut = |code: &CloseCode| matches!(*code, CloseCode::ABORTED | CloseCode::DISCARDED);
        match codes().find(|code| *code != CloseCode::GRACEFUL && !is_cut(code)) {
            _ if codes().any(|code| is_cut(&code)) => Some(StreamOutcome::CutShort),
            Some(code) => (alone_for >= self.patience(is_present)).then_some(StreamOutcome::Lost(code)),
            None if self.missed => Some(StreamOutcome::Unknown),
            None => Some(StreamOutcome::Finished),
        }
    }

    /// How long the lost publishers may take to come back: shorter if none of them runs any more.
    fn patience(&self, is_present: impl Fn(&PeerId) -> bool) -> Duration {
        let is_over = |(id, code): (&PeerId, &Option<CloseCode>)| match *code {
            Some(CloseCode::PEER_LOST) => false,
            None | Some(CloseCode::GRACEFUL | CloseCode::ABORTED | CloseCode::PEER_GONE) => true,
            // It closed the channel itself, and may have left the network since.
            Some(_) => !is_present(id),
        };
        if self.ends.iter().all(is_over) { KILLED_PATIENCE } else { SILENT_PATIENCE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(publishers: &Publishers, now: Instant) -> Option<StreamOutcome> {
        publishers.stream_end(now, |_| true)
    }

    #[test]
    fn record_that_overtakes_its_connection_does_not_end_the_stream() {
        let now = Instant::now();
        let mut publishers = Publishers::new(now);
        let id = PeerId::random();
        publishers.record(id);
        publishers.settle(now);
        assert!(publishers.met());
        assert_eq!(end(&publishers, now + SILENT_PATIENCE), None);
        publishers.connected(id);
        publishers.settle(now);
        assert_eq!((end(&publishers, now), publishers.alone_for(now)), (None, None));
        publishers.ended(id, CloseCode::GRACEFUL);
        publishers.settle(now);
        assert_eq!(end(&publishers, now), None, "its last records may not be taken");
        assert_eq!(end(&publishers, now + LAST_RECORDS), Some(StreamOutcome::Finished));
    }

    #[test]
    fn record_that_overtakes_its_connection_counts_after_the_end_of_another() {
        for code in [CloseCode::GRACEFUL, CloseCode::ABORTED] {
            let (now, later) = (Instant::now(), Instant::now() + 2 * SILENT_PATIENCE);
            let mut publishers = Publishers::new(now);
            let [first, second] = [PeerId::random(), PeerId::random()];
            publishers.connected(first);
            publishers.ended(first, code);
            publishers.settle(now);
            publishers.record(second);
            publishers.settle(now);
            assert_eq!((end(&publishers, later), publishers.alone_for(later)), (None, None), "{code}");
            publishers.connected(second);
            publishers.settle(now);
            assert_eq!(end(&publishers, later), None, "{code}");
        }
    }

    #[test]
    fn publisher_that_came_and_went_between_two_looks_delays_the_end() {
        let now = Instant::now();
        let mut publishers = Publishers::new(now);
        for time in [now, now + LAST_RECORDS] {
            let id = PeerId::random();
            publishers.connected(id);
            publishers.ended(id, CloseCode::GRACEFUL);
            publishers.settle(time);
            assert_eq!(end(&publishers, time), None, "its records are not taken");
            assert_eq!(end(&publishers, time + LAST_RECORDS), Some(StreamOutcome::Finished));
        }
    }

    #[test]
    fn last_records_after_an_end_are_not_of_an_unknown_publisher() {
        let now = Instant::now();
        let mut publishers = Publishers::new(now);
        let [first, second] = [PeerId::random(), PeerId::random()];
        [first, second].into_iter().for_each(|id| publishers.connected(id));
        publishers.ended(first, CloseCode::GRACEFUL);
        publishers.settle(now);
        publishers.record(first);
        publishers.settle(now);
        assert_eq!(publishers.ends.len(), 1, "it is forgotten when its records are taken");
        publishers.ended(second, CloseCode::GRACEFUL);
        publishers.settle(now);
        assert_eq!(end(&publishers, now + LAST_RECORDS), Some(StreamOutcome::Finished));
    }

    #[test]
    fn missed_events_leave_no_publisher_connected_and_are_no_success() {
        let now = Instant::now();
        let mut publishers = Publishers::new(now);
        let [gone, unannounced, listed] = [PeerId::random(), PeerId::random(), PeerId::random()];
        publishers.connected(gone);
        publishers.record(unannounced);
        publishers.resync([(listed, None)].into_iter());
        publishers.settle(now);
        assert_eq!(publishers.alone_for(now), None);
        publishers.ended(listed, CloseCode::GRACEFUL);
        publishers.settle(now);
        assert_eq!(end(&publishers, now + SILENT_PATIENCE), Some(StreamOutcome::Lost(CloseCode::PEER_LOST)));

        let mut publishers = Publishers::new(now);
        publishers.connected(listed);
        publishers.resync([(listed, Some(CloseCode::GRACEFUL))].into_iter());
        publishers.settle(now);
        assert_eq!(end(&publishers, now + LAST_RECORDS), Some(StreamOutcome::Unknown));
    }

    #[test]
    fn stream_has_not_ended_while_a_publisher_is_connected() {
        let now = Instant::now();
        let mut publishers = Publishers::new(now);
        assert_eq!(end(&publishers, now + SILENT_PATIENCE), None, "none has come yet");
        let ids = [PeerId::random(), PeerId::random()];
        ids.into_iter().for_each(|id| publishers.connected(id));
        publishers.ended(ids[0], CloseCode::ABORTED);
        publishers.settle(now);
        assert_eq!(end(&publishers, now + SILENT_PATIENCE), None);
        publishers.ended(ids[1], CloseCode::GRACEFUL);
        publishers.settle(now);
        assert_eq!(
            end(&publishers, now + LAST_RECORDS),
            Some(StreamOutcome::CutShort),
            "one of two was interrupted"
        );
    }

    #[test]
    fn lost_publisher_is_awaited_as_long_as_it_may_still_run() {
        let now = Instant::now();
        let waits = |code, is_present| {
            let mut publishers = Publishers::new(now);
            let id = PeerId::random();
            publishers.connected(id);
            publishers.ended(id, code);
            publishers.settle(now);
            let at = |time| publishers.stream_end(now + time, |_| is_present);
            let patience = [KILLED_PATIENCE, SILENT_PATIENCE].into_iter().find(|time| at(*time).is_some());
            let patience = patience.expect("it is given up at some time");
            assert_eq!(at(patience), Some(StreamOutcome::Lost(code)));
            assert_eq!(at(patience - Duration::from_millis(1)), None);
            patience
        };
        assert_eq!(waits(CloseCode::PEER_GONE, true), KILLED_PATIENCE);
        assert_eq!(waits(CloseCode::PEER_LOST, false), SILENT_PATIENCE);
        assert_eq!(waits(CloseCode::TOO_SLOW, true), SILENT_PATIENCE);
        assert_eq!(waits(CloseCode::TOO_SLOW, false), KILLED_PATIENCE);
    }

    #[test]
    fn number_of_remembered_publishers_is_bounded() {
        let now = Instant::now();
        let mut publishers = Publishers::new(now);
        let connected = PeerId::random();
        publishers.connected(connected);
        for _ in 0..2 * REMEMBERED_MAX {
            publishers.ended(PeerId::random(), CloseCode::PEER_GONE);
        }
        publishers.settle(now);
        // The last records of all are taken.
        publishers.settle(now);
        assert_eq!(publishers.ends.len(), REMEMBERED_MAX);
        assert_eq!(publishers.ends[&connected], None);
    }
}
