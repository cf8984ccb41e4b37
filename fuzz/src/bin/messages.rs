//! Decoders of messages between nodes and of their records: journal records and metad's log.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use trivet_fuzz as _;
use trivet_storage::messages::*;

fn both_ways<T: Message + Default + PartialEq>(bytes: &[u8]) {
    if let Ok(read) = T::decode(bytes) {
        assert!(T::decode(&read.encode_to_vec()[..]).is_ok_and(|again| again == read));
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 8 {
        0 => both_ways::<ChunkRequest>(bytes),
        1 => both_ways::<ChunkAnswer>(bytes),
        2 => both_ways::<Record>(bytes),
        3 => both_ways::<ExtentConfig>(bytes),
        4 => both_ways::<Inode>(bytes),
        5 => both_ways::<Command>(bytes),
        6 => both_ways::<Entry>(bytes),
        _ => both_ways::<Reply>(bytes),
    }
});
