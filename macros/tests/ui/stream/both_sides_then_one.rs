use corewire_macros::stream;

stream! { [corewire] pub Prices = f64, online_when: |c| c, consumer online_when: |c| c }

fn main() {}
