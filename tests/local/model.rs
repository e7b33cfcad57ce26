//! A stream beside a model of it, step by step: what each call returns, what every counter shows, and that
//! each task that could go on has been woken.

use std::collections::{HashMap, VecDeque};
use std::task::Poll;

use corewire::BackpressurePolicy;
use corewire::local::{Pop, Push, Stream, StreamError, StreamMetricsSnapshot, TryPopError};
use proptest::prelude::*;

use super::support::{Task, stream_of};

#[derive(Clone, Copy, Debug)]
enum Step {
    TryPush,
    TryPop,
    StartPush,
    StartPop,
    /// The others name a task by any number.
    PollPush(usize),
    PollPop(usize),
    DropPush(usize),
    TakeBack(usize),
    DropPop(usize),
    PollWoken,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    use Step::*;
    let n = 0usize..64;
    prop_oneof![
        4 => Just(TryPush),
        4 => Just(TryPop),
        4 => Just(StartPush),
        4 => Just(StartPop),
        3 => n.clone().prop_map(PollPush),
        3 => n.clone().prop_map(PollPop),
        2 => n.clone().prop_map(DropPush),
        1 => n.clone().prop_map(TakeBack),
        2 => n.prop_map(DropPop),
        6 => Just(PollWoken),
        1 => prop_oneof![9 => Just(TryPop), 1 => Just(Close)],
    ]
}

/// What the stream should be.
struct Model {
    policy: BackpressurePolicy,
    capacity: usize,
    buffer: VecDeque<u64>,
    /// Pushes that wait, by number of task.
    line: VecDeque<u64>,
    closed: bool,
    counts: StreamMetricsSnapshot,
}

impl Model {
    /// The result of a push; `task` waits under a policy that pauses.
    fn push(&mut self, item: u64, task: Option<u64>) -> Poll<Result<(), StreamError>> {
        let waits = task.and_then(|task| self.line.iter().position(|&other| other == task));
        if waits.is_none() {
            self.counts.items_pushed += 1;
        }
        let result = self.offer(item, waits);
        match (&result, waits, task) {
            (Poll::Pending, None, Some(task)) => {
                self.line.push_back(task);
                self.counts.pause_upstream_blocks += 1;
            }
            (Poll::Ready(_), Some(at), _) => drop(self.line.remove(at)),
            _ => {}
        }
        if task.is_none() && result.is_pending() {
            self.counts.refused_full += 1;
            return Poll::Ready(Err(StreamError::Backpressure));
        }
        result
    }

    fn offer(&mut self, item: u64, waits: Option<usize>) -> Poll<Result<(), StreamError>> {
        if self.closed {
            self.counts.refused_closed += 1;
            return Poll::Ready(Err(StreamError::Cancelled));
        }
        let mut item = item;
        let full = self.buffer.len() == self.capacity;
        match self.policy {
            BackpressurePolicy::PauseUpstream if full || waits.unwrap_or(self.line.len()) > 0 => {
                return Poll::Pending;
            }
            BackpressurePolicy::Fail if full => {
                self.counts.fail_overflows += 1;
                let buffer_capacity = self.capacity;
                return Poll::Ready(Err(StreamError::Overflow { policy: self.policy, buffer_capacity }));
            }
            BackpressurePolicy::DropOldest | BackpressurePolicy::DegradeQuality if full => {
                self.buffer.pop_front();
                self.counts.drop_oldest_hits += 1;
                if self.policy == BackpressurePolicy::DegradeQuality {
                    item += 1_000_000;
                    self.counts.degrade_quality_hits += 1;
                }
            }
            _ => {}
        }
        self.buffer.push_back(item);
        Poll::Ready(Ok(()))
    }

    fn pop(&mut self) -> Poll<Option<u64>> {
        match self.buffer.pop_front() {
            Some(item) => {
                self.counts.items_delivered += 1;
                Poll::Ready(Some(item))
            }
            None if self.closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    fn cancel(&mut self, task: u64) {
        if let Some(at) = self.line.iter().position(|&other| other == task) {
            self.line.remove(at);
            self.counts.cancelled += 1;
        }
    }
}

/// The stream, its model, and the tasks that are under way.
struct Both<'a> {
    stream: &'a Stream<u64>,
    model: Model,
    pushes: HashMap<u64, (u64, Task<Push<'a, u64>>)>,
    pops: HashMap<u64, Task<Pop<'a, u64>>>,
    next: u64,
}

impl<'a> Both<'a> {
    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A task by any number: stable, as the keys are sorted.
    fn pick<V>(tasks: &HashMap<u64, V>, n: usize) -> Option<u64> {
        let mut keys: Vec<u64> = tasks.keys().copied().collect();
        keys.sort_unstable();
        (!keys.is_empty()).then(|| keys[n % keys.len()])
    }

    fn poll_push(&mut self, task: u64) {
        let (item, future) = self.pushes.get_mut(&task).unwrap();
        let expected = self.model.push(*item, Some(task));
        let got = future.poll();
        assert_eq!(got, expected, "push {task}");
        if let Poll::Ready(result) = got {
            assert_eq!(future.future().take_item(), result.is_err().then_some(*item));
            self.pushes.remove(&task);
        }
    }

    fn poll_pop(&mut self, task: u64) {
        let got = self.pops.get_mut(&task).unwrap().poll();
        assert_eq!(got, self.model.pop(), "pop {task}");
        if got.is_ready() {
            self.pops.remove(&task);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::TryPush => {
                let item = self.fresh();
                let got = self.stream.try_push(item);
                let Poll::Ready(expected) = self.model.push(item, None) else { unreachable!() };
                assert_eq!(got.as_ref().err().map(|refused| &refused.error), expected.as_ref().err());
                assert_eq!(got.err().map(|refused| refused.item), expected.is_err().then_some(item));
            }
            Step::TryPop => {
                let expected = match self.model.pop() {
                    Poll::Ready(item) => item.ok_or(TryPopError::Closed),
                    Poll::Pending => Err(TryPopError::Empty),
                };
                assert_eq!(self.stream.try_pop(), expected);
            }
            Step::StartPush => {
                let item = self.fresh();
                self.pushes.insert(item, (item, Task::new(self.stream.push(item))));
                self.poll_push(item);
            }
            Step::StartPop => {
                let task = self.fresh();
                self.pops.insert(task, Task::new(self.stream.pop()));
                self.poll_pop(task);
            }
            Step::PollPush(n) => {
                if let Some(task) = Self::pick(&self.pushes, n) {
                    self.poll_push(task);
                }
            }
            Step::PollPop(n) => {
                if let Some(task) = Self::pick(&self.pops, n) {
                    self.poll_pop(task);
                }
            }
            Step::DropPush(n) => {
                if let Some(task) = Self::pick(&self.pushes, n) {
                    self.model.cancel(task);
                    self.pushes.remove(&task);
                }
            }
            Step::TakeBack(n) => {
                if let Some(task) = Self::pick(&self.pushes, n) {
                    self.model.cancel(task);
                    let (item, mut future) = self.pushes.remove(&task).unwrap();
                    assert_eq!(future.future().take_item(), Some(item));
                }
            }
            Step::DropPop(n) => {
                if let Some(task) = Self::pick(&self.pops, n) {
                    self.pops.remove(&task);
                }
            }
            Step::PollWoken => {
                self.poll_woken();
            }
            Step::Close => {
                self.stream.close();
                self.model.closed = true;
            }
        }
    }

    fn poll_woken(&mut self) -> bool {
        let woken = |(task, future): (&u64, &Task<_>)| future.is_woken().then_some(*task);
        let pushes: Vec<u64> =
            self.pushes.iter().filter_map(|(task, (_, future))| future.is_woken().then_some(*task)).collect();
        let pops: Vec<u64> = self.pops.iter().filter_map(woken).collect();
        pushes.iter().for_each(|task| self.poll_push(*task));
        pops.iter().for_each(|task| self.poll_pop(*task));
        !(pushes.is_empty() && pops.is_empty())
    }

    /// Holds after every step.
    fn check(&self) {
        let mut expected = self.model.counts.clone();
        expected.depth = self.model.buffer.len() as u64;
        expected.waiting = self.model.line.len() as u64;
        let got = self.stream.metrics();
        assert_eq!(got, expected);
        assert!(got.is_balanced());
        assert_eq!(self.stream.depth(), self.model.buffer.len());
        assert!(self.model.buffer.len() <= self.model.capacity);
        // No task sleeps that could go on.
        if self.model.closed {
            assert!(self.pops.values().all(Task::is_woken), "a pop sleeps after the end");
            assert!(self.pushes.values().all(|(_, push)| push.is_woken()), "a push sleeps after the end");
        }
        if !self.model.buffer.is_empty() && !self.pops.is_empty() {
            assert!(self.pops.values().any(Task::is_woken), "there is a datum, and all pops sleep");
        }
        if self.model.buffer.len() < self.model.capacity
            && let Some(first) = self.model.line.front()
        {
            assert!(self.pushes[first].1.is_woken(), "there is room, and the first push sleeps");
        }
    }
}

fn run(policy: BackpressurePolicy, capacity: usize, steps: &[Step]) {
    let stream = stream_of(policy, capacity);
    let counts = StreamMetricsSnapshot::default();
    let model =
        Model { policy, capacity, buffer: VecDeque::new(), line: VecDeque::new(), closed: false, counts };
    let mut both = Both { stream: &stream, model, pushes: HashMap::new(), pops: HashMap::new(), next: 0 };
    for step in steps {
        both.step(*step);
        both.check();
    }
    // Polling only woken tasks ends with nothing left that could be done.
    while both.poll_woken() {
        both.check();
    }
    assert!(both.model.buffer.is_empty() || both.pops.is_empty());
    assert!(both.model.buffer.len() == capacity || both.model.line.is_empty());
    // Every waiting task is cancelled; the counters still balance.
    both.model.counts.cancelled += both.model.line.len() as u64;
    both.model.line.clear();
    both.pushes.clear();
    both.pops.clear();
    both.check();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_stream_does_what_its_model_does(
        policy in prop::sample::select(&BackpressurePolicy::ALL[..]),
        capacity in 1usize..5,
        steps in prop::collection::vec(step(), 0..120),
    ) {
        run(policy, capacity, &steps);
    }
}
