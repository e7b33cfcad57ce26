use corewire_macros::stream;

stream! { [corewire] }

fn main() {}
