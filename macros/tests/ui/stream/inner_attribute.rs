use corewire_macros::stream;

stream! { [corewire] #![allow(dead_code)] pub Prices = f64 }

fn main() {}
