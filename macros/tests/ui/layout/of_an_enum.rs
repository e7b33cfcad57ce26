use corewire_macros::PlainLayout;

#[derive(PlainLayout)]
#[repr(u8)]
enum Side {
    Bid,
    Ask,
}

fn main() {}
