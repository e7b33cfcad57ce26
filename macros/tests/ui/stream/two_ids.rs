use corewire_macros::stream;

stream! { [corewire] pub Prices = f64, "prices", "rates" }

fn main() {}
