use corewire_macros::stream;

stream! { [corewire] pub Feed<T> = Vec<T> where T: corewire::Datum, "feed" }

fn main() {}
