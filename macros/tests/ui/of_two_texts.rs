use corewire_macros::digest;

const NAME: &str = "prices";
const ID: [u8; 32] = digest!("a", "b");

fn main() {}
