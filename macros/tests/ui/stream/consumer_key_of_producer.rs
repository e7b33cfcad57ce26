use corewire_macros::stream;

stream! { [corewire] pub producer Prices = f64, backoff: 3 }

fn main() {}
