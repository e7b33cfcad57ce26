use corewire_macros::stream;

stream! { [corewire] pub producer consumer Prices = f64 }

fn main() {}
