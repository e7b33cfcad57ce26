use corewire_macros::stream;

stream! { [corewire] pub Prices = f64, codec: 3 }

fn main() {}
