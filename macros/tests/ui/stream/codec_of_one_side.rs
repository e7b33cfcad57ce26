use corewire_macros::stream;

stream! { [corewire] pub Prices = f64, producer codec: Plain }

fn main() {}
