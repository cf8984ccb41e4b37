//! Lines of logs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trivet_fuzz as _;

fuzz_target!(|bytes: &[u8]| {
    let mut reader = trivet_forensics::Reader::default();
    reader.file("a");
    bytes.split(|b| *b == b'\n').for_each(|line| reader.line(line));
    let (facts, files) = reader.finish();
    let analysis = trivet_forensics::analyse(facts, files);
    let _ = trivet_forensics::report::json(&analysis);
    let _ = trivet_forensics::report::html(&analysis, trivet_forensics::report::Lang::Chinese);
});
