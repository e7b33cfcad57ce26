use corewire_macros::stream;

stream! { [corewire] pub Prices = , "prices" }

fn main() {}
