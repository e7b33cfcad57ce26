use corewire_macros::stream;

stream! { [corewire] pub Prices = f64, codec: Plain, codec: Plain }

fn main() {}
