use corewire_macros::stream;

stream! { [corewire] pub Prices = f64, criteria: 3 }

fn main() {}
