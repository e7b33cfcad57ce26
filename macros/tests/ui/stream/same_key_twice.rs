use corewire_macros::stream;

stream! { [corewire] pub Prices = f64, buffer_size: 3, producer buffer_size: 4 }

fn main() {}
