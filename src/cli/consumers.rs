//! What the consumers of `pub` did not get, and which of them keeps the others waiting.
//!
//! The channels of a producer come and go; an account keeps those of a consumer until it is known what they
//! did not deliver. A consumer is a node: a program that was started anew is another one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use corewire::PeerId;
use corewire::streams::{ChannelInfo, CloseCode};

use super::node;
use super::units::grouped;

/// Consumers that are remembered by name after they have missed something. Beyond it they are counted only.
const NAMED_MAX: usize = 1_000;
/// Consumers that one report lists.
const LISTED_MAX: usize = 10;
/// For how long consumers keep the producer waiting before that is told; the pause until it is told again
/// doubles each time.
const HOLD_NOTICE: Duration = Duration::from_secs(1);
/// The longest pause between two notices.
const HOLD_NOTICE_MAX: Duration = Duration::from_secs(60);
/// After this time without a hold the next one is told anew.
const HOLD_FORGOTTEN: Duration = Duration::from_secs(10);
/// How long the outcome of a channel that has broken may be open: for as long as the producer keeps the place
/// of its consumer (20 s, see `resume_for` of the producer's builder), and a little longer.
const OUTCOME_OPEN: Duration = Duration::from_secs(25);

/// How long the end of the stream waits for a consumer whose session has broken. A consumer that is only
/// stopped keeps its session for ten seconds before that.
const AWAITED: Duration = Duration::from_secs(5);

/// What is known about one consumer.
struct ConsumerAccount {
    /// Its short id and address.
    name: String,
    /// Its channels whose outcome is not known yet, oldest first.
    channels: Vec<KnownChannel>,
    /// Records that were not acknowledged each time it lost its place, in total.
    skipped: u64,
    /// Of these, the ones since it came back the last time. Those on their way then may have arrived.
    lost: u64,
    /// Records that it missed between its channels, exactly as it was told when it came back.
    missed_while_away: u64,
    /// Why it lost its place the last time.
    reason: Option<CloseCode>,
}

/// A channel that was seen.
struct KnownChannel {
    info: ChannelInfo,
    /// When it was first seen to be over.
    over_at: Option<Instant>,
    /// Its outcome is known and counted.
    settled: bool,
    /// The producer still lists it.
    listed: bool,
}

/// What became of a channel.
#[derive(Debug, PartialEq)]
enum ChannelOutcome {
    /// It carries records, or its consumer may still come back to its place.
    Open,
    /// It is over, and its consumer does not get this many records that were accepted for it.
    Missed(u64, CloseCode),
    /// It is over, and nothing is missing, or its consumer left on its own.
    Whole,
}

/// The account of every consumer that came.
#[derive(Default)]
pub(crate) struct ConsumerAccounts {
    accounts: BTreeMap<PeerId, ConsumerAccount>,
}

impl KnownChannel {
    fn outcome(&mut self, now: Instant) -> ChannelOutcome {
        let Some(code) = self.info.close_code() else { return ChannelOutcome::Open };
        let over_for = now.saturating_duration_since(*self.over_at.get_or_insert(now));
        let stats = self.info.stats();
        if stats.uptime().is_none() {
            // It was refused.
            return ChannelOutcome::Whole;
        }
        outcome(code, stats.skipped_at_close(), self.listed, over_for)
    }
}

/// What became of a channel that is over since `over_for`, given what is `missed` as far as it is counted.
fn outcome(code: CloseCode, missed: u64, listed: bool, over_for: Duration) -> ChannelOutcome {
    match missed {
        // It left on its own.
        _ if is_proper(code) => ChannelOutcome::Whole,
        // The producer counts what is missing before it ceases to list the channel.
        0 if listed || is_break(code) && over_for < OUTCOME_OPEN => ChannelOutcome::Open,
        0 => ChannelOutcome::Whole,
        missed => ChannelOutcome::Missed(missed, code),
    }
}

/// Whether the consumer of a channel that ended so has everything, or left on its own.
fn is_proper(code: CloseCode) -> bool {
    code == CloseCode::GRACEFUL || code == CloseCode::ABORTED
}

/// Whether a channel that ended so left its consumer's place behind.
fn is_break(code: CloseCode) -> bool {
    code.is_retriable() && code != CloseCode::TOO_SLOW
}

impl ConsumerAccount {
    fn new(channel: &ChannelInfo) -> Self {
        let name = node::peer_name(channel.consumer_id(), channel.peer());
        let (skipped, lost, missed_while_away) = (0, 0, 0);
        ConsumerAccount { name, channels: Vec::new(), skipped, lost, missed_while_away, reason: None }
    }

    /// Records that it does not get.
    fn missed(&self) -> u64 {
        self.missed_while_away + self.lost
    }

    /// Settles the channels that are over. Returns a line if the consumer is now known to miss records.
    fn settle(&mut self, now: Instant) -> Option<String> {
        let mut missed = 0;
        let mut away = 0;
        let mut newer = self.channels.len();
        for channel in &mut self.channels {
            newer -= 1;
            away = away.max(channel.info.stats().missed_while_away());
            if channel.settled {
                continue;
            }
            channel.settled = match channel.outcome(now) {
                // A consumer that is connected again has taken its place over, or has lost it.
                ChannelOutcome::Open => newer > 0,
                ChannelOutcome::Whole => true,
                ChannelOutcome::Missed(records, code) => {
                    missed += records;
                    self.reason = Some(code);
                    true
                }
            };
        }
        self.channels.retain(|channel| channel.listed || !channel.settled);
        self.note(missed, away)
    }

    /// Takes in what was not acknowledged when channels ended, and what the consumer has missed between all
    /// its channels. Returns a line if something is new.
    fn note(&mut self, skipped: u64, missed_while_away: u64) -> Option<String> {
        self.skipped += skipped;
        self.lost += skipped;
        let returned_without = missed_while_away.saturating_sub(self.missed_while_away);
        if returned_without > 0 {
            // It holds what was lost with the consumer's place, as far as that did not arrive.
            (self.missed_while_away, self.lost) = (missed_while_away, 0);
            return Some(format!("{} is back, and misses {} records", self.name, grouped(returned_without)));
        }
        let reason = self.reason.filter(|_| skipped > 0)?;
        let rest = if reason == CloseCode::TOO_SLOW {
            " and misses those that are sent until it is back"
        } else {
            ""
        };
        Some(format!("{} may miss {} records{rest}: {reason}", self.name, grouped(skipped)))
    }

    /// The channel, unless its outcome is known.
    fn channel(&self) -> Option<&ChannelInfo> {
        self.channels.last().filter(|channel| !channel.settled).map(|channel| &channel.info)
    }

    /// The channel, if it is connected.
    fn connected(&self) -> Option<&ChannelInfo> {
        self.channel().filter(|channel| channel.is_connected())
    }
}

impl ConsumerAccounts {
    /// Takes in the channels as they are now. Returns a line for each consumer that has missed something
    /// since the last look.
    pub(crate) fn look(&mut self, channels: impl Iterator<Item = ChannelInfo>) -> Vec<String> {
        let known = self.accounts.values_mut().flat_map(|account| &mut account.channels);
        known.for_each(|channel| channel.listed = false);
        for info in channels {
            let account =
                self.accounts.entry(*info.consumer_id()).or_insert_with(|| ConsumerAccount::new(&info));
            match account.channels.iter_mut().find(|known| known.info.is_same(&info)) {
                Some(known) => known.listed = true,
                None => {
                    account.channels.push(KnownChannel { info, over_at: None, settled: false, listed: true })
                }
            }
        }
        let now = Instant::now();
        let lines = self.accounts.values_mut().filter_map(|account| account.settle(now)).collect();
        self.forget();
        lines
    }

    /// Forgets consumers that have gone: those that have everything, and of the others as many as are too
    /// many.
    fn forget(&mut self) {
        self.accounts.retain(|_, account| !account.channels.is_empty() || account.missed() > 0);
        while self.accounts.len() > NAMED_MAX
            && let Some(id) =
                self.accounts.iter().find(|(_, account)| account.channels.is_empty()).map(|(id, _)| *id)
        {
            self.accounts.remove(&id);
        }
    }

    /// Consumers that are connected.
    pub(crate) fn connected(&self) -> usize {
        self.accounts.values().filter(|account| account.connected().is_some()).count()
    }

    /// Records that the furthest connected consumer is behind.
    pub(crate) fn lag(&self) -> u64 {
        self.accounts
            .values()
            .filter_map(ConsumerAccount::connected)
            .map(|channel| channel.stats().lag())
            .max()
            .unwrap_or(0)
    }

    /// The consumers whose session has broken and whose place in the stream is kept.
    pub(crate) fn absent(&self) -> Vec<&str> {
        let away = |account: &&ConsumerAccount| {
            account.channel().is_some_and(|channel| channel.close_code().is_some())
        };
        self.accounts.values().filter(away).map(|account| &*account.name).collect()
    }

    /// Whether a consumer is absent that the end of the stream waits for.
    pub(crate) fn awaits(&self, now: Instant) -> bool {
        let last = self.accounts.values().filter_map(|account| account.channels.last());
        last.filter(|channel| !channel.settled)
            .filter_map(|channel| channel.over_at)
            .any(|over_at| now.saturating_duration_since(over_at) < AWAITED)
    }

    /// Who keeps the producer waiting: the connected consumers that are furthest behind, and those that are
    /// away. `None` if there is none.
    pub(crate) fn holders(&self) -> Option<String> {
        let lag = self.lag();
        let connected = self.accounts.values().filter_map(|account| {
            let behind = account.connected()?.stats().lag();
            // Within a tenth of the furthest: their numbers are of slightly different moments.
            (behind > 0 && behind >= lag - lag / 10)
                .then(|| format!("{}, which is {} records behind", account.name, grouped(behind)))
        });
        let away = self.absent().into_iter().map(|name| format!("{name}, which does not answer"));
        listed(connected.chain(away), "; ")
    }

    /// Whether one connected consumer is this many records behind while another has everything.
    pub(crate) fn is_held_up(&self, records: u64) -> bool {
        let connected = || self.accounts.values().filter_map(ConsumerAccount::connected);
        // A consumer that keeps up still has what is on its way.
        self.lag() >= records && connected().any(|channel| channel.stats().lag() <= records / 4)
    }

    /// What the consumers did not get: the total, and a line for each. The arguments are the producer's own
    /// counts; what they have and no account has is of consumers without an account.
    pub(crate) fn missed(&self, skipped_at_close: u64, missed_while_away: u64) -> Option<(u64, String)> {
        let sum = |figure: fn(&ConsumerAccount) -> u64| self.accounts.values().map(figure).sum::<u64>();
        let mut lines: Vec<String> = self
            .accounts
            .values()
            .filter(|account| account.missed() > 0)
            .map(|account| {
                let reason = account.reason.map_or(String::new(), |reason| format!(": {reason}"));
                let is_open = account.lost > 0 && account.reason == Some(CloseCode::TOO_SLOW);
                let least = if is_open { "at least " } else { "" };
                format!("{least}{} for {}{reason}", grouped(account.missed()), account.name)
            })
            .collect();
        // Of a consumer that came back the second count holds what the first one has.
        let others = skipped_at_close
            .saturating_sub(sum(|account| account.skipped))
            .max(missed_while_away.saturating_sub(sum(|account| account.missed_while_away)));
        if others > 0 {
            lines.push(format!("{} for others", grouped(others)));
        }
        let list = listed(lines.into_iter(), "\n  ")?;
        Some((sum(ConsumerAccount::missed) + others, format!("\n  {list}")))
    }
}

/// At most [`LISTED_MAX`] items, and how many more there are.
fn listed(items: impl Iterator<Item = String>, separator: &str) -> Option<String> {
    let mut items: Vec<String> = items.collect();
    if items.is_empty() {
        return None;
    }
    let more = items.len().saturating_sub(LISTED_MAX);
    if more > 0 {
        items.truncate(LISTED_MAX);
        items.push(format!("and {more} more"));
    }
    Some(items.join(separator))
}

/// Decides when to tell that consumers keep the producer waiting: after a second in total, and then at
/// growing intervals.
pub(crate) struct HoldNotice {
    /// For how long the producer was kept waiting.
    held: Duration,
    /// When it is told next, in terms of `held`.
    due: Duration,
    last_look: Option<Instant>,
    last_held: Option<Instant>,
}

impl Default for HoldNotice {
    fn default() -> Self {
        HoldNotice { held: Duration::ZERO, due: HOLD_NOTICE, last_look: None, last_held: None }
    }
}

impl HoldNotice {
    /// To be called at each look. `Some`: it is to be told now that the producer has waited for this long.
    pub(crate) fn look(&mut self, held: bool, now: Instant) -> Option<Duration> {
        let since =
            |then: Option<Instant>| then.map_or(Duration::ZERO, |then| now.saturating_duration_since(then));
        let passed = since(self.last_look.replace(now));
        if !held {
            if since(self.last_held) >= HOLD_FORGOTTEN {
                *self = HoldNotice { last_look: Some(now), ..HoldNotice::default() };
            }
            return None;
        }
        // What happened between two looks is not known: the first look at a hold is its start.
        if self.last_held.replace(now).is_some() {
            self.held += passed.min(HOLD_NOTICE);
        }
        if self.held < self.due {
            return None;
        }
        self.due = self.held + self.held.min(HOLD_NOTICE_MAX);
        Some(self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_is_not_whole_before_the_producer_has_counted_what_it_lacks() {
        let at_once = |code, missed, listed| outcome(code, missed, listed, Duration::ZERO);
        assert_eq!(at_once(CloseCode::TOO_LARGE, 0, true), ChannelOutcome::Open);
        assert_eq!(at_once(CloseCode::TOO_LARGE, 3, true), ChannelOutcome::Missed(3, CloseCode::TOO_LARGE));
        assert_eq!(at_once(CloseCode::TOO_LARGE, 0, false), ChannelOutcome::Whole);
        assert_eq!(at_once(CloseCode::GRACEFUL, 0, true), ChannelOutcome::Whole);
        assert_eq!(at_once(CloseCode::PEER_GONE, 0, false), ChannelOutcome::Open);
        assert_eq!(outcome(CloseCode::PEER_GONE, 0, false, OUTCOME_OPEN), ChannelOutcome::Whole);
    }

    #[test]
    fn hold_is_told_after_a_second_and_then_at_growing_intervals() {
        let start = Instant::now();
        let mut notice = HoldNotice::default();
        let told: Vec<u64> = (0..=200)
            .filter(|second| notice.look(true, start + Duration::from_secs(*second)).is_some())
            .collect();
        assert_eq!(told, [1, 2, 4, 8, 16, 32, 64, 124, 184]);
    }

    #[test]
    fn short_holds_add_up_and_are_forgotten_after_a_while() {
        let start = Instant::now();
        let at = |second: u64| start + Duration::from_secs(second);
        let mut notice = HoldNotice::default();
        let held: Vec<bool> =
            [0, 1, 2, 3, 5, 6].map(|second| notice.look(second % 3 != 2, at(second)).is_some()).into();
        assert_eq!(held, [false, true, false, true, false, false], "two seconds of it are told once");
        assert!(notice.look(false, at(20)).is_none());
        assert!(notice.look(true, at(21)).is_none() && notice.look(true, at(22)).is_some(), "it begins anew");
    }

    #[test]
    fn long_lists_are_cut() {
        let names = |count: usize| listed((0..count).map(|n| n.to_string()), ", ");
        assert_eq!(names(0), None);
        assert_eq!(names(2).as_deref(), Some("0, 1"));
        assert_eq!(names(12).as_deref(), Some("0, 1, 2, 3, 4, 5, 6, 7, 8, 9, and 2 more"));
    }

    #[test]
    fn what_no_consumer_is_named_for_is_still_counted() {
        for (skipped, away) in [(7, 0), (0, 7), (5, 7)] {
            let (total, text) = ConsumerAccounts::default().missed(skipped, away).unwrap();
            assert_eq!((total, &*text), (7, "\n  7 for others"));
        }
        assert!(ConsumerAccounts::default().missed(0, 0).is_none());
    }

    #[test]
    fn return_replaces_what_was_lost_by_what_was_missed() {
        let mut account = ConsumerAccount {
            name: "it".to_owned(),
            channels: Vec::new(),
            skipped: 0,
            lost: 0,
            missed_while_away: 0,
            reason: Some(CloseCode::TOO_SLOW),
        };
        assert!(account.note(10, 0).unwrap().contains("may miss 10 records and misses those"));
        assert_eq!((account.missed(), account.note(0, 0)), (10, None));
        assert_eq!(account.note(0, 12).as_deref(), Some("it is back, and misses 12 records"));
        assert_eq!((account.missed(), account.note(0, 12)), (12, None));
        account.note(5, 12);
        assert_eq!(account.missed(), 17);
        let accounts = ConsumerAccounts { accounts: [(PeerId::random(), account)].into() };
        let (total, text) = accounts.missed(15, 12).unwrap();
        assert_eq!((total, text.contains("at least 17 for it")), (17, true), "{text}");
        assert_eq!(accounts.missed(15, 20).unwrap().0, 25, "8 are of another one");
    }
}
