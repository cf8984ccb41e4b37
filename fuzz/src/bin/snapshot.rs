//! Snapshots, as files and as streams, whole and in blocks of any size. What is accepted is a tree that is written and
//! read back alike, and the file that is made of a stream is that of the same tree.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::io::BufReader;
use trivet_coordination::tree::Tree;
use trivet_formats::snapshot::{read_file, read_stream, Copied, Writer};
use trivet_formats::Zxid;
use trivet_fuzz as _;

fuzz_target!(|bytes: &[u8]| {
    let _ = read_file(bytes, &mut Tree::bare());
    let mut tree = Tree::bare();
    let block = usize::from(bytes.first().copied().unwrap_or_default()) + 1;
    let mut copied = Copied::new(BufReader::with_capacity(block, bytes), Vec::new());
    let in_blocks = read_stream(&mut copied, &mut Tree::bare()).is_ok();
    // A stream has no checksum that keeps the fuzzer out.
    let accepted = read_stream(&mut &bytes[..], &mut tree).is_ok();
    assert_eq!(in_blocks, accepted);
    if !accepted {
        return;
    }
    tree.set_last_zxid(Zxid(1));
    let (_, file) = copied.finish(Default::default(), Zxid(1)).expect("memory takes it");
    for file in [tree.write(Writer::file(Default::default())), file] {
        let mut back = Tree::bare();
        read_file(&file[..], &mut back).expect("what was written is read");
        back.set_last_zxid(Zxid(1));
        let seen = |t: &Tree| (t.digest(), t.node_count(), t.data_bytes());
        assert_eq!(seen(&back), seen(&tree));
    }
});
