//! A line of tasks that wait, first come first served. Always behind a lock, so nothing here runs a waker, clones one
//! or drops one: wakers are code of somebody's executor. They go in and come out as values.

use std::collections::VecDeque;
use std::task::Waker;

/// Most tasks that one line takes.
pub(super) const MAX_WAITING: usize = 1024;

/// A place in a line. Tickets rise from front to back.
#[derive(Debug)]
pub(super) struct Ticket(u64);

struct Waiting {
    ticket: u64,
    /// `None`: woken, and not polled since.
    waker: Option<Waker>,
}

#[derive(Default)]
pub(super) struct Line {
    waiting: VecDeque<Waiting>,
    next_ticket: u64,
}

impl Line {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether nobody is in front of `place`; for those who have none yet, whether nobody waits.
    pub(super) fn is_first(&self, place: &Option<Ticket>) -> bool {
        match (place, self.waiting.front()) {
            (Some(Ticket(ticket)), Some(first)) => first.ticket == *ticket,
            (_, first) => first.is_none(),
        }
    }

    /// Joins the line, or leaves another waker at the place. Gives back the waker that was there, or `Err` with the
    /// new one if the line is full.
    pub(super) fn wait(&mut self, place: &mut Option<Ticket>, waker: Waker) -> Result<Option<Waker>, Waker> {
        if let Some(Ticket(ticket)) = place {
            return match self.at(*ticket) {
                Some(at) => Ok(self.waiting[at].waker.replace(waker)),
                None => Err(waker),
            };
        }
        if self.waiting.len() == MAX_WAITING {
            return Err(waker);
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting.push_back(Waiting { ticket, waker: Some(waker) });
        *place = Some(Ticket(ticket));
        Ok(None)
    }

    /// Leaves the line. Gives the waker that was left there.
    pub(super) fn leave(&mut self, place: &mut Option<Ticket>) -> Option<Waker> {
        let Ticket(ticket) = place.take()?;
        let at = self.at(ticket)?;
        self.waiting.remove(at).and_then(|gone| gone.waker)
    }

    /// The waker of the first, unless it is awake.
    pub(super) fn first(&mut self) -> Option<Waker> {
        self.waiting.front_mut().and_then(|first| first.waker.take())
    }

    /// The waker of the first that is not awake.
    pub(super) fn first_asleep(&mut self) -> Option<Waker> {
        self.waiting.iter_mut().find_map(|one| one.waker.take())
    }

    /// The wakers of all.
    pub(super) fn all(&mut self) -> impl Iterator<Item = Waker> {
        self.waiting.iter_mut().filter_map(|one| one.waker.take())
    }

    fn at(&self, ticket: u64) -> Option<usize> {
        self.waiting.binary_search_by_key(&ticket, |one| one.ticket).ok()
    }
}
