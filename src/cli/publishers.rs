//! The publishers of `sub`: which are connected, how each ended, and whether the stream has ended with them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use corewire::PeerId;
use corewire::streams::CloseCode;

/// How long `--until-end` waits for a publisher to come back whose port is closed, or that has left the
/// network.
const KILLED_PATIENCE: Duration = Duration::from_secs(5);
/// The same for one that is silent: it may be stopped, or its network may be down.
const SILENT_PATIENCE: Duration = Duration::from_secs(60);

/// Publishers that were lost and are remembered, at most.
const REMEMBERED_MAX: usize = 1_000;

/// How a stream ended all of whose publishers have left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamEnd {
    /// Every publisher has ended its stream.
    Finished,
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
    /// Since when none is connected; from the start.
    alone_since: Option<Instant>,
    /// A record or a connection came at some time.
    met: bool,
}

impl Publishers {
    pub(crate) fn new(now: Instant) -> Self {
        Publishers { ends: BTreeMap::new(), alone_since: Some(now), met: false }
    }

    /// Whether one was connected at some time.
    pub(crate) fn met(&self) -> bool {
        self.met
    }

    /// A record has come. It may overtake the event of its publisher's connection.
    pub(crate) fn record(&mut self) {
        (self.met, self.alone_since) = (true, None);
    }

    pub(crate) fn connected(&mut self, id: PeerId) {
        self.met = true;
        self.ends.insert(id, None);
    }

    pub(crate) fn ended(&mut self, id: PeerId, code: CloseCode) {
        self.ends.insert(id, Some(code));
    }

    /// To be called when all events that have come are taken in.
    pub(crate) fn settle(&mut self, now: Instant) {
        if !self.ends.values().any(Option::is_none) {
            self.alone_since.get_or_insert(now);
            return;
        }
        self.alone_since = None;
        // Only a stream that was not ended counts at the end.
        self.ends.retain(|_, end| *end != Some(CloseCode::GRACEFUL));
        while self.ends.len() > REMEMBERED_MAX
            && let Some(id) = self.ends.iter().find(|(_, end)| end.is_some()).map(|(id, _)| *id)
        {
            self.ends.remove(&id);
        }
    }

    /// How long none has been connected; `None` while one is.
    pub(crate) fn alone_for(&self, now: Instant) -> Option<Duration> {
        self.alone_since.map(|since| now.saturating_duration_since(since))
    }

    /// How the stream has ended; `None` while a publisher is connected or may come back, and before the end
    /// of one is known. `is_present` tells whether a peer is in the network now.
    pub(crate) fn stream_end(&self, now: Instant, is_present: impl Fn(&PeerId) -> bool) -> Option<StreamEnd> {
        let alone_for = self.alone_for(now).filter(|_| !self.ends.is_empty())?;
        let codes = || self.ends.values().copied().flatten();
        let is_cut = |code: &CloseCode| matches!(*code, CloseCode::ABORTED | CloseCode::DISCARDED);
        match codes().find(|code| *code != CloseCode::GRACEFUL && !is_cut(code)) {
            _ if codes().any(|code| is_cut(&code)) => Some(StreamEnd::CutShort),
            Some(code) => (alone_for >= self.patience(is_present)).then_some(StreamEnd::Lost(code)),
            None => Some(StreamEnd::Finished),
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

    fn end(publishers: &Publishers, now: Instant) -> Option<StreamEnd> {
        publishers.stream_end(now, |_| true)
    }

    #[test]
    fn record_that_overtakes_its_publishers_connection_does_not_end_the_stream() {
        let now = Instant::now();
        let mut publishers = Publishers::new(now);
        publishers.record();
        publishers.settle(now);
        assert!(publishers.met());
        assert_eq!(end(&publishers, now + SILENT_PATIENCE), None);
        let id = PeerId::random();
        publishers.connected(id);
        publishers.settle(now);
        assert_eq!((end(&publishers, now), publishers.alone_for(now)), (None, None));
        publishers.ended(id, CloseCode::GRACEFUL);
        publishers.settle(now);
        assert_eq!(end(&publishers, now), Some(StreamEnd::Finished));
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
        assert_eq!(end(&publishers, now), None);
        publishers.ended(ids[1], CloseCode::GRACEFUL);
        publishers.settle(now);
        assert_eq!(end(&publishers, now), Some(StreamEnd::CutShort), "one of two was interrupted");
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
            assert_eq!(at(patience), Some(StreamEnd::Lost(code)));
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
        assert_eq!(publishers.ends.len(), REMEMBERED_MAX);
        assert_eq!(publishers.ends[&connected], None);
    }
}
