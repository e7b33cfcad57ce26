//! The futures of a stream inside one process: `push` and `pop`.

use std::sync::Arc;

use corewire::BackpressurePolicy;
use corewire::local::{Pop, Push, Stream, StreamError, TryPopError};

use super::steps::{CancelledTask, Task, sequences};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// Polls the futures that will be dropped, or another push and pop beside them.
    Push,
    Pop,
    PushOther,
    PopOther,
    TryPush,
    TryPop,
    Close,
}

const STEPS: [Step; 7] =
    [Step::Push, Step::Pop, Step::PushOther, Step::PopOther, Step::TryPush, Step::TryPop, Step::Close];

struct World<'a> {
    stream: &'a Stream<u64>,
    pushes: [Option<Task<Push<'a, u64>>>; 2],
    pops: [Option<Task<Pop<'a, u64>>>; 2],
    accepted: Vec<u64>,
    taken: Vec<u64>,
    tried: u64,
}

impl<'a> World<'a> {
    fn new(stream: &'a Stream<u64>) -> Self {
        Self {
            stream,
            pushes: [1, 2].map(|datum| Some(Task::new(stream.push(datum)))),
            pops: [(), ()].map(|()| Some(Task::new(stream.pop()))),
            accepted: Vec::new(),
            taken: Vec::new(),
            tried: 0,
        }
    }

    fn push(&mut self, which: usize, only_if_woken: bool) {
        let Some(task) = &mut self.pushes[which] else { return };
        match if only_if_woken { task.poll_if_woken() } else { task.poll() } {
            None => {}
            Some(Ok(())) => self.accepted.push(which as u64 + 1),
            Some(Err(StreamError::Cancelled)) => assert!(self.stream.is_closed()),
            Some(Err(error)) => assert_eq!(self.stream.policy(), BackpressurePolicy::Fail, "{error}"),
        }
    }

    fn pop(&mut self, which: usize, only_if_woken: bool) {
        let Some(task) = &mut self.pops[which] else { return };
        match if only_if_woken { task.poll_if_woken() } else { task.poll() } {
            None => {}
            Some(Some(datum)) => self.taken.push(datum),
            Some(None) => assert!(self.stream.is_closed()),
        }
    }

    fn try_push(&mut self) {
        let datum = 10 + self.tried;
        self.tried += 1;
        if self.stream.try_push(datum).is_ok() {
            self.accepted.push(datum);
        }
    }

    fn try_pop(&mut self) -> Option<TryPopError> {
        self.stream.try_pop().map(|datum| self.taken.push(datum)).err()
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Push => self.push(0, false),
            Step::Pop => self.pop(0, false),
            Step::PushOther => self.push(1, false),
            Step::PopOther => self.pop(1, false),
            Step::TryPush => self.try_push(),
            Step::TryPop => _ = self.try_pop(),
            Step::Close => _ = self.stream.close(),
        }
    }

    fn pushes_wait(&self) -> bool {
        self.pushes[1].as_ref().is_some_and(Task::is_pending)
    }

    fn pops_wait(&self) -> bool {
        self.pops[1].as_ref().is_some_and(Task::is_pending)
    }

    /// Drops the futures; the others get on by their own wakes; every datum is somewhere.
    fn end(mut self, steps: &[Step]) {
        let mut gone: Vec<CancelledTask> = Vec::new();
        gone.extend(self.pushes[0].take().map(Task::cancel));
        gone.extend(self.pops[0].take().map(Task::cancel));
        for _ in 0..4 {
            self.push(1, true);
            self.pop(1, true);
            if self.pushes_wait() {
                self.try_pop();
            }
            if self.pops_wait() {
                self.try_push();
            }
        }
        assert!(!self.pushes_wait() && !self.pops_wait(), "{steps:?}: a task sleeps for ever");
        gone.extend(self.pushes[1].take().map(Task::cancel));
        gone.extend(self.pops[1].take().map(Task::cancel));
        assert!(!gone.iter().any(CancelledTask::is_leaked), "{steps:?}: a waker was leaked");
        while self.try_pop().is_none() {}
        let metrics = self.stream.metrics();
        assert!(metrics.is_balanced(), "{steps:?}: {metrics:?}");
        assert_eq!((metrics.waiting, metrics.depth), (0, 0), "{steps:?}");
        let dropped = metrics.drop_oldest_hits as usize;
        assert_eq!(self.accepted.len() - dropped, self.taken.len(), "{steps:?}");
        let mut accepted = self.accepted.iter();
        assert!(
            self.taken.iter().all(|datum| accepted.any(|other| other == datum)),
            "{steps:?}: out of order"
        );
        if !self.stream.is_closed() {
            assert_eq!(self.stream.try_push(99), Ok(()), "{steps:?}: a cancelled push still holds a place");
        }
    }
}

fn drop_after_any_poll(policy: BackpressurePolicy, len: usize) {
    for steps in sequences(&STEPS, len) {
        let stream = if policy == BackpressurePolicy::DegradeQuality {
            Stream::with_degrader(1, policy, Arc::new(|datum| *datum))
        } else {
            Stream::new(1, policy)
        };
        let mut world = World::new(&stream);
        steps.iter().for_each(|step| world.step(*step));
        world.end(&steps);
    }
}

#[test]
fn a_push_that_waits_and_a_pop_can_be_dropped_after_any_poll() {
    drop_after_any_poll(BackpressurePolicy::PauseUpstream, 5);
}

#[test]
fn a_push_that_drops_the_oldest_and_a_pop_can_be_dropped_after_any_poll() {
    drop_after_any_poll(BackpressurePolicy::DropOldest, 5);
}

#[test]
fn a_push_that_degrades_and_a_pop_can_be_dropped_after_any_poll() {
    drop_after_any_poll(BackpressurePolicy::DegradeQuality, 4);
}

#[test]
fn a_push_that_fails_and_a_pop_can_be_dropped_after_any_poll() {
    drop_after_any_poll(BackpressurePolicy::Fail, 4);
}
