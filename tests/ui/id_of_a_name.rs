use corewire::{StreamId, unique_id};

const NAME: &str = "prices";
const PRICES: StreamId = unique_id!(NAME);

fn main() {}
