use corewire_macros::PlainLayout;

#[derive(PlainLayout)]
#[plain_layout(path = "corewire")]
struct Price(i64);

fn main() {}
