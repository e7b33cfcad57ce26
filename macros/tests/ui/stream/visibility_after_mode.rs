use corewire_macros::stream;

stream! { [corewire] producer pub Prices = f64 }

fn main() {}
