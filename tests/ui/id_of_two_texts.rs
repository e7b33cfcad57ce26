use corewire::{Tag, tag, unique_id};

const PRICES: corewire::StreamId = unique_id!("a", "b");
const NOTHING: Tag = tag!();
const NUMBER: Tag = tag!(7);

fn main() {}
