use corewire_macros::digest;

const NAME: &str = "prices";
const ID: [u8; 32] = digest!(7);

fn main() {}
