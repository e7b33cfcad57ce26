//! How nodes leave and how the engine ends: in order, and in time.
//!
//! The steps of a node:
//! 1. Its rings are closed and its record announces no stream; channels drain.
//! 2. When all have, or the time is up, its subscriptions end, and its sessions and sockets are closed.
//! 3. When the last session is gone, its handles learn whether everything was delivered.
//!
//! The engine's end is the end of all its nodes, then of the shards.
//!
//! Not inside: what each step does to the tables of others (the clerk), and how a shard ends.

use std::time::Duration;

use corewire_proto::{ordered::OrderedMap, time::Instant};

use super::{effect::Effect, env::Env, timers::Timer};
use crate::{
    shard::NodeId,
    shared::{flush::Shortfall, node::LeaveError},
};

/// How often a node that drains is checked: local consumers read without telling the clerk.
const DRAIN_CHECK: Duration = Duration::from_millis(2);

/// How long the sessions of a node may take to close before the node is forgotten without them.
const CLOSE_GRACE: Duration = Duration::from_millis(500);

/// How long the shards may take to stop, and how much longer they are waited for.
const STOP_TIME: Duration = Duration::from_millis(500);

/// The ends that are under way.
#[derive(Debug, Default)]
pub(crate) struct Shutdown {
    leaving: OrderedMap<NodeId, Leaving>,
    engine: EngineEnd,
}

/// The end of a node.
#[derive(Clone, Debug)]
struct Leaving {
    /// Streams may drain until then.
    until: Instant,
    /// There once sessions are being closed: whether everything had drained.
    closing: Option<bool>,
    /// What publications did not deliver that are forgotten by now.
    missing: Vec<Shortfall>,
}

/// How far the engine's end is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum EngineEnd {
    #[default]
    Running,
    /// Nodes leave until then.
    Leaving(Instant),
    /// Shards stop.
    Stopping,
    /// Over.
    Stopped,
}

impl Shutdown {
    pub(crate) fn is_leaving(&self, node: NodeId) -> bool {
        self.leaving.contains_key(&node)
    }

    /// Whether the engine's end has begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.engine != EngineEnd::Running
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.engine == EngineEnd::Stopped
    }

    /// A node is to leave. `true`: it was not leaving yet. Asked again, the earlier end holds.
    pub(crate) fn leave(&mut self, env: &mut Env, node: NodeId, drain: Duration) -> bool {
        let until = env.now + drain;
        if let Some(leaving) = self.leaving.get_mut(&node) {
            leaving.until = leaving.until.min(until);
            if leaving.closing.is_none() {
                let at = leaving.until.min(env.now + DRAIN_CHECK);
                env.effects.set_timer(Timer::Leave(node), at);
            }
            return false;
        }
        self.leaving.insert(node, Leaving { until, closing: None, missing: Vec::new() });
        env.effects.set_timer(Timer::Leave(node), env.now);
        true
    }

    /// What a publication of a node did not deliver.
    pub(crate) fn delivery_failed(&mut self, node: NodeId, missing: Vec<Shortfall>) {
        if let Some(leaving) = self.leaving.get_mut(&node) {
            leaving.missing.extend(missing);
        }
    }

    /// Something of a node may have drained: checks it, if it leaves.
    pub(crate) fn check(&self, env: &mut Env, node: NodeId) {
        if self.is_leaving(node) {
            env.effects.set_timer(Timer::Leave(node), env.now);
        }
    }

    /// Takes the end of a node on. `drained`: everything that it published was delivered; `sessions`: it has
    /// some.
    pub(crate) fn leave_due(&mut self, env: &mut Env, node: NodeId, drained: bool, sessions: bool) {
        let Some(leaving) = self.leaving.get(&node) else { return };
        let until = leaving.until;
        if leaving.closing.is_none() {
            if !drained && env.now < until {
                return env.effects.set_timer(Timer::Leave(node), (env.now + DRAIN_CHECK).min(until));
            }
            env.effects.push(Effect::CloseNode(node, drained));
        }
        if sessions && env.now < until + CLOSE_GRACE {
            return env.effects.set_timer(Timer::Leave(node), until + CLOSE_GRACE);
        }
        env.effects.push(Effect::ForgetNode(node));
    }

    /// The sessions of a node are being closed; `drained`: nothing waits to be delivered.
    pub(crate) fn node_closes(&mut self, env: &Env, node: NodeId, drained: bool) {
        if let Some(leaving) = self.leaving.get_mut(&node) {
            leaving.closing = Some(drained);
            leaving.until = leaving.until.min(env.now);
        }
    }

    /// A node is forgotten, and with it publications that did not deliver what is in `missing`. The error has
    /// all that was not delivered.
    pub(crate) fn node_gone(
        &mut self,
        env: &mut Env,
        node: NodeId,
        mut missing: Vec<Shortfall>,
    ) -> Result<(), LeaveError> {
        env.effects.cancel_timer(Timer::Leave(node));
        let leaving = self.leaving.remove(&node);
        let drained = leaving.as_ref().and_then(|leaving| leaving.closing) == Some(true);
        missing.extend(leaving.into_iter().flat_map(|leaving| leaving.missing));
        if drained && missing.is_empty() { Ok(()) } else { Err(LeaveError::Deadline { missing }) }
    }

    /// The engine is to end. `true`: its nodes are to leave within `drain`. Asked again, the earlier end
    /// holds.
    pub(crate) fn begin(&mut self, env: &mut Env, drain: Duration) -> bool {
        let until = env.now + drain;
        let until = match self.engine {
            EngineEnd::Running => until,
            EngineEnd::Leaving(before) => before.min(until),
            EngineEnd::Stopping | EngineEnd::Stopped => return false,
        };
        self.engine = EngineEnd::Leaving(until);
        // A node forgets its sessions a little after its time is up; nothing may hold the end up longer.
        env.effects.set_timer(Timer::Shutdown, until + CLOSE_GRACE * 2);
        true
    }

    /// Goes on with the engine's end once nothing more has to be waited for.
    pub(crate) fn step(&mut self, env: &mut Env, nodes: usize, shards_stopped: bool) {
        if matches!(self.engine, EngineEnd::Leaving(_)) && nodes == 0 {
            self.engine = EngineEnd::Stopping;
            let deadline = env.now + STOP_TIME;
            env.effects.set_timer(Timer::Shutdown, deadline + STOP_TIME);
            env.effects.push(Effect::StopShards(deadline));
        } else if self.engine == EngineEnd::Stopping && shards_stopped {
            env.effects.push(Effect::Finish);
        }
    }

    /// The time for a step of the engine's end is up.
    pub(crate) fn due(&mut self, env: &mut Env, nodes: Vec<NodeId>) {
        match self.engine {
            EngineEnd::Leaving(_) => {
                for node in nodes {
                    env.effects.push(Effect::CloseNode(node, false));
                    env.effects.push(Effect::ForgetNode(node));
                }
            }
            EngineEnd::Stopping => env.effects.push(Effect::Finish),
            EngineEnd::Running | EngineEnd::Stopped => {}
        }
    }

    /// The end.
    pub(crate) fn stopped(&mut self, env: &mut Env) {
        self.engine = EngineEnd::Stopped;
        env.effects.cancel_timer(Timer::Shutdown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clerk::testing;

    const NODE: NodeId = NodeId(1);
    const DRAIN: Duration = Duration::from_secs(1);

    #[test]
    fn a_node_drains_until_its_time_is_up() {
        let (mut env, mut shutdown) = (testing::env(), Shutdown::default());
        assert!(shutdown.leave(&mut env, NODE, DRAIN));
        assert!(!shutdown.leave(&mut env, NODE, DRAIN * 9), "it leaves already");
        env.effects.drain();
        shutdown.leave_due(&mut env, NODE, false, true);
        assert!(matches!(env.effects.drain()[..], [Effect::SetTimer(Timer::Leave(NODE), _)]));
        env.now += DRAIN;
        shutdown.leave_due(&mut env, NODE, false, false);
        let ends = env.effects.drain();
        assert!(matches!(ends[..], [Effect::CloseNode(NODE, false), Effect::ForgetNode(NODE)]));
    }

    #[test]
    fn a_loss_is_reported_though_everything_drained() {
        let (mut env, mut shutdown) = (testing::env(), Shutdown::default());
        let (stream, consumer) = (testing::STREAM, corewire_proto::PeerId([1; 32]));
        let some = |datums| vec![Shortfall { stream, consumer, datums }];
        for (before, after) in [(vec![], vec![]), (some(1), vec![]), (vec![], some(2)), (some(1), some(2))] {
            shutdown.leave(&mut env, NODE, DRAIN);
            shutdown.delivery_failed(NODE, before.clone());
            shutdown.node_closes(&env, NODE, true);
            let told = shutdown.node_gone(&mut env, NODE, after.clone());
            let all: Vec<_> = after.into_iter().chain(before).collect();
            assert_eq!(
                told,
                if all.is_empty() { Ok(()) } else { Err(LeaveError::Deadline { missing: all }) }
            );
        }
    }

    #[test]
    fn shards_stop_after_the_last_node() {
        let (mut env, mut shutdown) = (testing::env(), Shutdown::default());
        assert!(shutdown.begin(&mut env, DRAIN));
        env.effects.drain();
        shutdown.step(&mut env, 1, false);
        assert!(env.effects.drain().is_empty());
        shutdown.step(&mut env, 0, false);
        assert!(matches!(
            env.effects.drain()[..],
            [Effect::SetTimer(Timer::Shutdown, _), Effect::StopShards(_)]
        ));
        shutdown.step(&mut env, 0, true);
        assert!(matches!(env.effects.drain()[..], [Effect::Finish]));
    }
}
