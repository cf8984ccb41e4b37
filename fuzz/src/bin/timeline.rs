//! Lines of logs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trivet_fuzz as _;

fuzz_target!(|bytes: &[u8]| {
    let mut reader = trivet_forensics::Reader::default();
    reader.file("a");
    bytes.split(|b| *b == b'\n').for_each(|line| reader.line(line));
    let (facts, _) = reader.finish();
    let _ = trivet_forensics::story::tell(&facts);
});
