use corewire_macros::stream;

stream! { [corewire] pub "prices" = f64 }

fn main() {}
