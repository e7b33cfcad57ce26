//! Frames, and the messages in CONTROL frames.

#![no_main]

use corewire_proto::wire::frames;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let frames = frames::decode_all(data);
    assert!(frames <= data.len(), "every frame has at least its kind");
    let messages = frames::message::decode_all(data);
    assert!(messages <= data.len());
});
