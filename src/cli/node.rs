//! Builds a node from options: addresses, secret, engine, and errors with their cure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use corewire::engine::JoinError;
use corewire::network::{BeaconReach, Builder, NetworkError};
use corewire::{EngineConfig, HostedEngine, IoChoice, Network, NetworkId, PeerEntry, PeerId, SecretKey};

use super::args::{DEFAULT_PORT, Io, NetArgs};
use super::exit::{Exit, Failure};
use super::input;
use super::wait::{self, Interrupt, Stopped};

/// Which end of a stream the node is for. They differ only in their default addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum NodeRole {
    Publisher,
    Subscriber,
}

/// How long an ending publisher waits for its consumers: in effect, as long as they live. The session of a
/// dead consumer ends within seconds, and Ctrl-C ends the wait.
pub(crate) const DRAIN: Duration = Duration::from_secs(7 * 86_400);

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// How far the node makes itself known. Options that name addresses say already whom to meet.
fn beacon(args: &NetArgs) -> BeaconReach {
    let addressed = args.listen.is_some() || !args.peer.is_empty();
    match (args.no_beacon, args.lan) {
        (true, _) => BeaconReach::Off,
        (false, true) => BeaconReach::Lan,
        (false, false) if addressed => BeaconReach::Off,
        (false, false) if args.secret_file.is_some() => BeaconReach::Lan,
        (false, false) => BeaconReach::Host,
    }
}

/// The addresses to listen on, in the order in which they are tried. The publisher's default is the
/// well-known port, unless it has `--peer`. `None`: a free port from which the peers can be reached, where a
/// publisher is found by its beacon.
fn listen_addresses(args: &NetArgs, role: NodeRole) -> Vec<Option<SocketAddr>> {
    let well_known = |ip: IpAddr| Some(SocketAddr::new(ip, DEFAULT_PORT));
    match beacon(args) {
        _ if args.listen.is_some() => vec![args.listen],
        _ if role == NodeRole::Subscriber || !args.peer.is_empty() => vec![None],
        BeaconReach::Off => vec![well_known(LOOPBACK.into())],
        BeaconReach::Host => vec![well_known(LOOPBACK.into()), None],
        BeaconReach::Lan => {
            vec![well_known(Ipv6Addr::UNSPECIFIED.into()), well_known(Ipv4Addr::UNSPECIFIED.into()), None]
        }
    }
}

/// The peers to connect to: the subscriber's default is the well-known port, unless it has `--listen`.
pub(crate) fn peers(args: &NetArgs, role: NodeRole) -> Vec<String> {
    if role == NodeRole::Subscriber && args.peer.is_empty() && args.listen.is_none() {
        return vec![SocketAddr::from((LOOPBACK, DEFAULT_PORT)).to_string()];
    }
    args.peer.clone()
}

/// The context in which the secret is derived from a file. `Builder::with_network_secret` documents it.
const SECRET_CONTEXT: &str = "corewire 2026 program network secret file";

/// The network's secret: derived from the file, so that a file of any length serves.
pub(crate) fn secret(path: &Path, interrupt: &Interrupt) -> Result<SecretKey, Failure> {
    let bytes = input::read_secret(path, interrupt)?;
    Ok(SecretKey::from_bytes(blake3::derive_key(SECRET_CONTEXT, &bytes)))
}

/// Joins the network that the options name.
pub(crate) fn join(args: &NetArgs, role: NodeRole, interrupt: &Interrupt) -> Result<Network, Failure> {
    let secret = args.secret_file.as_deref().map(|path| secret(path, interrupt)).transpose()?;
    let mut addresses = listen_addresses(args, role).into_iter().peekable();
    loop {
        let listen = addresses.next().expect("there is a last address to try");
        let mut builder = Network::builder(NetworkId::from(args.network.as_str()))
            .with_beacon(beacon(args))
            .with_addresses(listen)
            .with_bootstrap(peers(args, role));
        if let Some(secret) = &secret {
            builder = builder.with_network_secret(secret.clone());
        }
        // Not pinned: another process on this machine would choose the same core.
        match build(builder, args.io, false) {
            // The port is another publisher's, or the host lacks IPv6.
            Err(NetworkError::Join(JoinError::Bind(_))) if addresses.peek().is_some() => {}
            result => return result.map_err(|error| cannot_join(listen, &error)),
        }
    }
}

/// Joins the network `id` on a free port with a new engine, through the node at `known`.
pub(crate) fn start(id: NetworkId, io: Io, known: Option<SocketAddr>) -> Result<Network, Failure> {
    // Pinned: engines of one process give each shard its own core while there are any.
    let builder = Network::builder(id).with_bootstrap(known).with_beacon(BeaconReach::Off);
    build(builder, io, true).map_err(|error| cannot_join(None, &error))
}

/// As [`start`], on an engine that the calling thread hosts.
pub(crate) fn start_hosted(
    id: NetworkId,
    io: Io,
    known: Option<SocketAddr>,
) -> Result<(HostedEngine, Network), Failure> {
    let config = EngineConfig { io: io.into(), ..EngineConfig::default() };
    let hosted =
        HostedEngine::start(config).map_err(|error| Failure::new(Exit::CannotStart, error.to_string()))?;
    let builder = Network::builder(id).with_bootstrap(known).with_beacon(BeaconReach::Off);
    let network = builder.with_engine(&hosted).build_blocking().map_err(|error| cannot_join(None, &error))?;
    Ok((hosted, network))
}

impl From<Io> for IoChoice {
    fn from(io: Io) -> IoChoice {
        match io {
            Io::Auto => IoChoice::Auto,
            Io::Uring => IoChoice::Uring,
            Io::Epoll => IoChoice::Epoll,
        }
    }
}

fn build(builder: Builder, io: Io, pin: bool) -> Result<Network, NetworkError> {
    // One stream uses one shard.
    let engine = EngineConfig { shards: 1, io: io.into(), pin, ..EngineConfig::default() };
    corewire::block_on(builder.with_engine(engine).build())
}

pub(crate) fn cannot_join(listen: Option<SocketAddr>, error: &NetworkError) -> Failure {
    let listen = listen.map_or_else(|| "a free port".to_owned(), |address| address.to_string());
    if error.is_address_in_use() {
        return Failure::new(
            Exit::CannotStart,
            format!("{listen} is in use, perhaps by another `corewire pub`"),
        )
        .cure("--listen 127.0.0.1:0 here, and the address it tells with --peer at the other side");
    }
    Failure::new(Exit::CannotStart, format!("cannot start on {listen}: {error}"))
}

/// A node's address and engine, for people.
pub(crate) struct Facts {
    /// The addresses that it listens on.
    pub(crate) addresses: String,
    /// The driver in use.
    pub(crate) driver: String,
    /// The core of each shard.
    pub(crate) cores: String,
    /// Why io_uring is not used.
    pub(crate) fallback: Option<String>,
    /// What makes the engine slow here, and the cure.
    pub(crate) warnings: Vec<String>,
}

impl Facts {
    /// Reads them from `network`.
    pub(crate) fn of(network: &Network) -> Facts {
        let info = network.engine().info();
        let cores: Vec<String> = info
            .shards
            .iter()
            .map(|shard| match shard.cpu {
                Some(cpu) => format!("shard {} on core {cpu}", shard.shard),
                None => format!("shard {}, not pinned", shard.shard),
            })
            .collect();
        let addresses: Vec<String> = network.local().addresses().iter().map(SocketAddr::to_string).collect();
        Facts {
            addresses: addresses.join(" and "),
            driver: info.shards.first().map_or_else(String::new, |shard| shard.driver.to_string()),
            cores: cores.join(", "),
            fallback: info.fallback().map(str::to_owned),
            warnings: info.warnings,
        }
    }
}

/// Prints the node's address and driver.
pub(crate) fn introduce(network: &Network, say: &dyn Fn(&str)) {
    let facts = Facts::of(network);
    say(&format!("listening on {} ({}, {})", facts.addresses, facts.driver, facts.cores));
    let beacon = network.discovery().beacon();
    if beacon.reach != BeaconReach::Off {
        say(&beacon.to_string());
    }
    facts.fallback.iter().chain(&facts.warnings).for_each(|line| say(line));
}

/// A peer's short id and its addresses.
pub(crate) fn peer_name(id: &PeerId, peer: &PeerEntry) -> String {
    let addresses: Vec<String> = peer.addresses().iter().map(ToString::to_string).collect();
    let id = id.short();
    if addresses.is_empty() { id.to_string() } else { format!("{id} at {}", addresses.join(", ")) }
}

/// What came back from the peers that were called without success, and from strangers; empty when nothing.
pub(crate) fn dial_report(network: &Network) -> String {
    let mut lines: Vec<String> =
        network.discovery().dial_failures().iter().map(|failure| failure.to_string()).collect();
    let foreign = network.stats().foreign_packets;
    if foreign > 0 {
        lines.push(format!("{foreign} calls came from nodes with another network or secret"));
    }
    lines.iter().map(|line| format!("\n  {line}")).collect()
}

/// The moment `after` from now, if there is a limit.
pub(crate) fn deadline(after: Option<Duration>) -> Option<Instant> {
    after.and_then(|after| Instant::now().checked_add(after))
}

/// Shuts the node down, with a look at something meanwhile. `Ok(false)`: the time ran out before all datums
/// were delivered, or they can no longer be.
pub(crate) fn leave(
    network: Network,
    within: Duration,
    interrupt: &Interrupt,
    look: &mut dyn FnMut(),
) -> Result<bool, Exit> {
    let until = deadline(Some(within + Duration::from_secs(1)));
    match wait::until_looking(network.shutdown(within), until, interrupt, look) {
        Ok(result) => Ok(result.is_ok()),
        Err(Stopped::Deadline) => Ok(false),
        Err(Stopped::Interrupted(exit)) => Err(exit),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Cli, CliCommand};

    fn net(line: &[&str]) -> NetArgs {
        match Cli::try_parse_from(line).unwrap().command.unwrap() {
            CliCommand::Pub(args) => args.net,
            CliCommand::Sub(args) => args.net,
            other => panic!("{other:?} joins no network"),
        }
    }

    #[test]
    fn default_addresses_of_both_ends_match() {
        let (publisher, subscriber) = (net(&["corewire", "pub", "s"]), net(&["corewire", "sub", "s"]));
        let meeting = SocketAddr::from((LOOPBACK, DEFAULT_PORT));
        assert_eq!(listen_addresses(&publisher, NodeRole::Publisher), [Some(meeting), None]);
        assert_eq!(peers(&subscriber, NodeRole::Subscriber), [meeting.to_string()]);
        assert_eq!(listen_addresses(&subscriber, NodeRole::Subscriber), [None]);
        assert!(peers(&publisher, NodeRole::Publisher).is_empty());
    }

    #[test]
    fn publisher_with_peers_leaves_its_address_to_the_network() {
        let args = net(&["corewire", "pub", "s", "--peer", "127.0.0.1:9"]);
        assert_eq!(listen_addresses(&args, NodeRole::Publisher), [None]);
        assert_eq!(peers(&args, NodeRole::Publisher), args.peer);
    }

    #[test]
    fn beacon_follows_from_the_options() {
        for (options, reach) in [
            (&[][..], BeaconReach::Host),
            (&["--secret-file", "f"], BeaconReach::Lan),
            (&["--lan"], BeaconReach::Lan),
            (&["--no-beacon"], BeaconReach::Off),
            (&["--secret-file", "f", "--no-beacon"], BeaconReach::Off),
            (&["--listen", "127.0.0.1:0"], BeaconReach::Off),
            (&["--peer", "127.0.0.1:9", "--lan"], BeaconReach::Lan),
        ] {
            let line: Vec<&str> = ["corewire", "pub", "s"].iter().chain(options).copied().collect();
            assert_eq!(beacon(&net(&line)), reach, "{options:?}");
        }
        let lan = listen_addresses(&net(&["corewire", "pub", "s", "--lan"]), NodeRole::Publisher);
        assert_eq!(lan.len(), 3);
        let alone = listen_addresses(&net(&["corewire", "pub", "s", "--no-beacon"]), NodeRole::Publisher);
        assert_eq!(alone.len(), 1);
    }

    #[test]
    fn every_byte_of_the_secret_file_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let key = |text: &str| {
            std::fs::write(&path, text).unwrap();
            secret(&path, &Interrupt::default()).unwrap()
        };
        assert_eq!(key("open sesame"), key("open sesame"));
        assert_ne!(key("open sesame"), key("open sesame\n"));
        let documented = blake3::derive_key("corewire 2026 program network secret file", b"open sesame");
        assert_eq!(key("open sesame"), SecretKey::from_bytes(documented));
    }
}
