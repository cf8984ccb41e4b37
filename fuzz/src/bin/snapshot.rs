//! Snapshots, as files and as streams. What is accepted is a tree that is written and read back alike.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trivet_coordination::tree::Tree;
use trivet_formats::snapshot::{read_file, read_stream, Writer};
use trivet_formats::Zxid;
use trivet_fuzz as _;

fuzz_target!(|bytes: &[u8]| {
    let _ = read_file(bytes, &mut Tree::bare());
    let mut tree = Tree::bare();
    // A stream has no checksum that keeps the fuzzer out.
    if read_stream(&mut &bytes[..], &mut tree).is_err() {
        return;
    }
    tree.set_last_zxid(Zxid(1));
    let mut back = Tree::bare();
    read_file(&tree.write(Writer::file())[..], &mut back).expect("what was written is read");
    back.set_last_zxid(Zxid(1));
    assert_eq!((back.digest(), back.node_count(), back.data_bytes()), (tree.digest(), tree.node_count(), tree.data_bytes()));
});
