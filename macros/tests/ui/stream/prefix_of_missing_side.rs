use corewire_macros::stream;

stream! { [corewire] pub producer Prices = f64, consumer require: |_| true }

fn main() {}
