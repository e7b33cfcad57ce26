//! What a node has yet to tell others, and how often.

use alloc::vec::Vec;

use super::{RecordBook, message::SwimWriter};
use crate::ids::PeerId;

/// News that wait at a time. What finds no room is found later by comparing sums.
const NEWS_MAX: usize = 256;

/// One thing to tell.
#[derive(Clone, Copy, Debug)]
struct NewsItem {
    peer: PeerId,
    mark: u64,
    /// The peer is suspected; otherwise it has a new record.
    suspect: bool,
    /// Packets that have yet to carry it.
    left: u32,
}

/// The news, one for each peer.
#[derive(Debug, Default)]
pub(super) struct News(Vec<NewsItem>);

impl News {
    /// Tells this in `times` packets, in the place of what was to be told about the peer.
    pub(super) fn tell(&mut self, peer: PeerId, mark: u64, suspect: bool, times: u32) {
        self.forget(&peer);
        if self.0.len() == NEWS_MAX {
            let (place, _) = self.0.iter().enumerate().min_by_key(|(_, item)| item.left).expect("it is full");
            self.0.swap_remove(place);
        }
        self.0.push(NewsItem { peer, mark, suspect, left: times });
    }

    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.0.retain(|item| item.peer != *peer);
    }

    /// Forgets the record of one peer, but not that it is suspected.
    pub(super) fn forget_record(&mut self, peer: &PeerId) {
        self.0.retain(|item| item.suspect || item.peer != *peer);
    }

    /// Forgets the records: all members have sessions, which carry them.
    pub(super) fn forget_records(&mut self) {
        self.0.retain(|item| item.suspect);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has_suspects(&self) -> bool {
        self.0.iter().any(|item| item.suspect)
    }

    /// Adds to a packet for `to` what it has room for: first what was told least.
    pub(super) fn fill(
        &mut self,
        packet: &mut SwimWriter,
        book: &impl RecordBook,
        to: Option<PeerId>,
        records: bool,
    ) {
        self.0.sort_by_key(|item| core::cmp::Reverse(item.left));
        for item in &mut self.0 {
            // Its own record is no news to a peer.
            if !item.suspect && (!records || to == Some(item.peer)) {
                continue;
            }
            let told = if item.suspect {
                packet.suspect(&item.peer, item.mark)
            } else {
                match book.record(&item.peer, item.mark) {
                    Some((record, age_s)) => packet.record(record, age_s),
                    None => {
                        item.left = 0;
                        continue;
                    }
                }
            };
            item.left -= u32::from(told);
        }
        self.0.retain(|item| item.left > 0);
    }
}
