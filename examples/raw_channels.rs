//! Raw channels: bytes to one peer, several channels in one session, each with its own settings.
//!
//! Run it with `cargo run --example raw_channels`. A robot and its operator talk in one process; on two
//! hosts, give one network the address of the other with `with_bootstrap`, and the peers' ids by
//! configuration.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::thread;

use corewire::raw::{CloseBehavior, RawStream, Reliability, StreamConfig, StreamError, stream_id_from_key};
use corewire::{Network, NetworkId, PeerId};

/// Both ends open the same channels with the same peer pair, in any order.
struct RobotLink {
    /// Orders and their answers: every one arrives, in order.
    orders: RawStream,
    /// Camera frames: a lost one is not worth sending again, and they leave most of the bandwidth to others.
    frames: RawStream,
}

impl RobotLink {
    fn open(network: &Network, peer: PeerId) -> Result<Self, StreamError> {
        let orders = StreamConfig::new()
            .with_reliability(Reliability::Reliable)
            .with_fairness_weight(8)
            .with_close_behavior(CloseBehavior::DrainThenClose);
        let frames = StreamConfig::new().with_window_bytes(256 << 10);
        Ok(Self {
            orders: network.open_stream(peer, stream_id_from_key("orders"), orders)?,
            frames: network.open_stream(peer, stream_id_from_key("frames"), frames)?,
        })
    }
}

/// Sends a frame unless the window is full, and carries out orders until the operator closes the channel.
fn robot(network: &Network, operator: PeerId) -> Result<usize, StreamError> {
    let RobotLink { orders, frames } = RobotLink::open(network, operator)?;
    let mut done = 0;
    loop {
        match orders.recv_blocking() {
            Ok(order) => {
                done += 1;
                match frames.try_send(vec![0; 4_000]) {
                    // A frame that finds no room is left out: the next one is fresher.
                    Ok(()) | Err(StreamError::Backpressure | StreamError::NotConnected) => {}
                    Err(other) => return Err(other),
                }
                orders.send_blocking([b"done: ", &order[..]].concat())?;
            }
            // The operator has closed the channel, and everything before that was received.
            Err(StreamError::NotConnected) => return Ok(done),
            Err(other) => return Err(other),
        }
    }
}

/// Gives orders and waits for the answers.
fn operate(network: &Network, robot: PeerId) -> Result<Vec<String>, Box<dyn Error>> {
    let RobotLink { orders, frames } = RobotLink::open(network, robot)?;
    frames.connected_blocking()?;
    let mut answers = Vec::new();
    for order in ["forward", "left", "halt"] {
        orders.send_blocking(order)?;
        answers.push(String::from_utf8(orders.recv_blocking()?.to_vec())?);
    }
    let frame = frames.recv_blocking()?;
    println!("a frame of {} bytes; {:?}", frame.len(), frames.stats());
    orders.close();
    Ok(answers)
}

fn run() -> Result<(usize, Vec<String>), Box<dyn Error>> {
    let id = NetworkId::random();
    let (operator, machine) = (Network::new_blocking(id)?, Network::new_blocking(id)?);
    let (operator_id, machine_id) = (*operator.local().id(), *machine.local().id());
    let robot = thread::spawn(move || robot(&machine, operator_id));
    let answers = operate(&operator, machine_id)?;
    let done = robot.join().map_err(|_| "the robot has panicked")??;
    Ok((done, answers))
}

fn main() -> Result<(), Box<dyn Error>> {
    let (done, answers) = run()?;
    println!("{done} orders: {answers:?}");
    Ok(())
}

#[test]
fn orders_are_carried_out_and_a_frame_is_seen() {
    let (done, answers) = run().expect("both open the channels");
    assert_eq!(done, 3);
    assert_eq!(answers, ["done: forward", "done: left", "done: halt"]);
}
