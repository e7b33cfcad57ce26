use corewire_macros::stream;

stream! { [corewire] pub Prices = f64, 7 }

fn main() {}
