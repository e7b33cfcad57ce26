use corewire_macros::stream;

stream! { [corewire] pub Prices = f64, max_consumers:, backoff: 3 }

fn main() {}
