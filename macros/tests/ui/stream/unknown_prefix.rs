use corewire_macros::stream;

stream! { [corewire] pub Prices = f64, both require: |_| true }

fn main() {}
