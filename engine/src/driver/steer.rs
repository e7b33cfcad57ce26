//! Which shard's socket a packet belongs to, when several sockets share one address.
//!
//! Not inside: the installation of the rule in the kernel ([`bind`](super::bind) does that). The rule is here
//! once as Rust, for the simulated world, and once as a classic BPF program; a test holds them together.

use corewire_proto::wire::header::{PacketKind, SHARD_OFFSET};

/// One instruction of a classic BPF program: `{code, jt, jf, k}` of `struct sock_filter`.
pub(super) type Instruction = (u16, u8, u8, u32);

/// The program: data packets go to the socket that their shard byte names, everything else to socket 0. A
/// packet too short for a load ends the program with 0 as well. A shard byte beyond the last socket makes the
/// kernel choose by its hash of the addresses, and the shard counts a packet that is not its own.
///
/// The kernel counts the sockets in the order in which they joined. When one closes, the last one takes its
/// number. So none may close while another is in use: the clerk holds all of them until it forgets the node.
pub(super) const PROGRAM: [Instruction; 6] = [
    (LOAD_BYTE, 0, 0, 0),
    (AND, 0, 0, 0xf0),
    (JUMP_EQUAL, 1, 0, PacketKind::Data.first_byte() as u32),
    (RETURN_CONSTANT, 0, 0, 0),
    (LOAD_BYTE, 0, 0, SHARD_OFFSET as u32),
    (RETURN_ACCUMULATOR, 0, 0, 0),
];

/// `BPF_LD | BPF_B | BPF_ABS`: the byte of the payload at `k`.
const LOAD_BYTE: u16 = 0x30;
/// `BPF_ALU | BPF_AND | BPF_K`.
const AND: u16 = 0x54;
/// `BPF_JMP | BPF_JEQ | BPF_K`: skip `jt` instructions if equal, else `jf`.
const JUMP_EQUAL: u16 = 0x15;
/// `BPF_RET | BPF_K`.
const RETURN_CONSTANT: u16 = 0x06;
/// `BPF_RET | BPF_A`.
const RETURN_ACCUMULATOR: u16 = 0x16;

/// The same rule in Rust: the shard of a packet.
pub(super) fn shard_of(packet: &[u8]) -> usize {
    match packet.first().and_then(|&first| PacketKind::from_first_byte(first)) {
        Some(PacketKind::Data) => packet.get(SHARD_OFFSET).map_or(0, |&shard| usize::from(shard)),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would.
    fn run(packet: &[u8]) -> usize {
        let (mut accumulator, mut counter) = (0u32, 0usize);
        loop {
            let (code, jt, jf, k) = PROGRAM[counter];
            counter += 1;
            match code {
                LOAD_BYTE => match packet.get(k as usize) {
                    Some(&byte) => accumulator = u32::from(byte),
                    None => return 0,
                },
                AND => accumulator &= k,
                JUMP_EQUAL => counter += usize::from(if accumulator == k { jt } else { jf }),
                RETURN_CONSTANT => return k as usize,
                RETURN_ACCUMULATOR => return accumulator as usize,
                other => panic!("no instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn the_kernel_program_and_the_rust_rule_agree() {
        for first in 0..=255u8 {
            for len in 0..8 {
                let mut packet = [first, 9, 9, 9, 3, 9, 9, 9];
                for shard in [0, 3, 255] {
                    packet[SHARD_OFFSET] = shard;
                    assert_eq!(run(&packet[..len]), shard_of(&packet[..len]), "{packet:?} cut to {len}");
                }
            }
        }
        let data = [PacketKind::Data.first_byte(), 0, 0, 0, 5];
        let init = [PacketKind::Init.first_byte(), 0, 0, 0, 5];
        assert_eq!((shard_of(&data), shard_of(&init)), (5, 0));
    }
}
