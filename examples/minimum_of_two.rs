//! Three processes that know nothing of each other but the network's name and its secret.
//!
//! One produces a stream and waits for two consumers, which are the other two processes. No address is given:
//! the nodes find each other by sealed multicast datagrams, on this host and on its links. Run it with
//! `cargo run --example minimum_of_two`, which starts all three, or by hand in three terminals, on one host
//! or several:
//!
//! ```sh
//! SECRET=$(od -An -vtx1 -N32 /dev/urandom | tr -d ' \n')
//! cargo run --example minimum_of_two -- consume my-network $SECRET
//! cargo run --example minimum_of_two -- consume my-network $SECRET
//! cargo run --example minimum_of_two -- produce my-network $SECRET
//! ```

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::env;
use std::error::Error;
use std::ffi::OsStr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use corewire::{Network, NetworkId};
use serde::{Deserialize, Serialize};

/// What is sent.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Data1(u64);

/// Each process has this long for everything.
const LIMIT: Duration = Duration::from_secs(60);

async fn produce(network: &Network) -> Result<String, Box<dyn Error>> {
    let p0 = network.streams().produce::<Data1>();
    // Await the formation of the topology.
    p0.when().subscribed().minimum_of(2).await;
    let consumers = p0.consumers().filter(|channel| channel.is_connected()).count();
    p0.send(Data1(42)).await?;
    p0.flush().await?;
    Ok(format!("sent to {consumers} consumers"))
}

async fn consume(network: &Network) -> Result<String, Box<dyn Error>> {
    let mut c1 = network.streams().consume::<Data1>();
    let received = c1.recv().await;
    assert_eq!(received, Some(Data1(42)));
    Ok(format!("received {received:?}"))
}

/// One of the three processes. What it has done.
fn play(role: &str, network: &str, secret: &str) -> Result<String, Box<dyn Error>> {
    let id: NetworkId = network.parse()?;
    let secret: [u8; 32] = secret.parse::<NetworkId>()?.into();
    let network = Network::builder(id).with_network_secret(secret).build_blocking()?;
    if let Some(problem) = &network.discovery().beacon().problem {
        return Err(format!("not to be found without addresses here: {problem}").into());
    }
    let done = async {
        match role {
            "produce" => produce(&network).await,
            "consume" => consume(&network).await,
            other => Err(format!("`{other}` is neither `produce` nor `consume`").into()),
        }
    };
    let told = corewire::block_on_timeout(done, LIMIT).ok_or("the others did not come in time")??;
    network.shutdown_blocking(LIMIT)?;
    Ok(told)
}

/// Starts the three processes, each by this program with these arguments behind which its own come, and
/// gives back what they print.
fn three_processes(arguments: &[&str], own: fn(&mut Command, [&OsStr; 3])) -> Result<String, Box<dyn Error>> {
    let (network, secret) = (NetworkId::random().to_string(), NetworkId::random().to_string());
    let start = |role: &str| -> std::io::Result<Child> {
        let mut command = Command::new(env::current_exe()?);
        command.args(arguments).stdout(Stdio::piped());
        own(&mut command, [role.as_ref(), network.as_ref(), secret.as_ref()]);
        command.spawn()
    };
    let processes = [start("consume")?, start("produce")?, start("consume")?];
    let mut told = String::new();
    for process in processes {
        let ended = process.wait_with_output()?;
        told += &String::from_utf8_lossy(&ended.stdout);
        if !ended.status.success() {
            return Err(format!("a process failed: {told}").into());
        }
    }
    Ok(told)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match &arguments[..] {
        [] => {
            let told = three_processes(&[], |command, own| {
                command.args(own);
            })?;
            print!("{told}");
        }
        [role, network, secret] => println!("{}", play(role, network, secret)?),
        _ => return Err("give nothing, or a role, a network and a secret of 64 hex digits".into()),
    }
    Ok(())
}

#[test]
fn three_processes_meet_by_the_networks_name_and_secret_alone() {
    // A host without multicast has nothing to show.
    let alone = Network::builder(NetworkId::random()).with_network_secret([7; 32]).build_blocking();
    if let Some(problem) = alone.ok().and_then(|network| network.discovery().beacon().problem) {
        return println!("not tested: {problem}");
    }
    let arguments = ["--exact", "process_of_the_three", "--ignored", "--nocapture"];
    let told = three_processes(&arguments, |command, [role, network, secret]| {
        command.env("ROLE", role).env("NETWORK", network).env("SECRET", secret);
    })
    .unwrap();
    assert!(told.contains("sent to 2 consumers"), "{told}");
    assert_eq!(told.matches("received Some(Data1(42))").count(), 2, "{told}");
}

#[test]
#[ignore = "a part of the test above, which starts it"]
fn process_of_the_three() {
    let variable = |name: &str| env::var(name).unwrap();
    println!("{}", play(&variable("ROLE"), &variable("NETWORK"), &variable("SECRET")).unwrap());
}
