//! Nodes on an engine that this thread hosts.

use crate::engine::HostedEngine;
use crate::network::EngineSource;

impl From<&HostedEngine> for EngineSource {
    fn from(hosted: &HostedEngine) -> Self {
        hosted.engine().into()
    }
}
