use corewire_macros::stream;

stream! { [corewire] pub Prices = f64, colour: 3 }

fn main() {}
