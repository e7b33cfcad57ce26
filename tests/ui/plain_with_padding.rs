use corewire::Network;
use corewire::Plain;

#[repr(C)]
struct Padded {
    small: u8,
    large: u64,
}

fn publish(network: &Network) {
    let _ = network.streams().producer::<Padded>().codec(Plain);
}

fn main() {}
