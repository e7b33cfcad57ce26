use corewire_macros::stream;

stream! { [corewire] pub Prices = f64, max_consumers: 3 backoff: 4 }

fn main() {}
