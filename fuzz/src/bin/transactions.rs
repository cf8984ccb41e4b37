//! Transactions, as they are proposed and logged, and whole log files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trivet_formats::txn::Txn;
use trivet_formats::txnlog;
use trivet_fuzz as _;

fuzz_target!(|bytes: &[u8]| {
    if let Ok((txn, _)) = Txn::decode_with_digest(bytes) {
        assert_eq!(Txn::decode(&txn.encode()), Ok(txn));
    }
    let mut file = txnlog::header().to_vec();
    // Entries with correct checksums, so that the decoder of their content is reached.
    let mut rest = bytes;
    while let Some((length, more)) = rest.split_first() {
        let (entry, behind) = more.split_at(usize::from(*length).min(more.len()));
        txnlog::put_entry(&mut file, entry);
        rest = behind;
    }
    whole_and_one_by_one(&file);
    file.truncate(txnlog::HEADER_BYTES);
    file.extend_from_slice(bytes);
    whole_and_one_by_one(&file);
    whole_and_one_by_one(bytes);
});

fn whole_and_one_by_one(file: &[u8]) {
    let mut ends = Vec::new();
    let end = txnlog::scan_each(file, |e| ends.push((e.txn.zxid, e.end_offset as u64)));
    assert!(end.is_err() || end.is_ok_and(|e| e.offset <= file.len()));
    let mut ends = ends.into_iter();
    if let Some(mut entries) = txnlog::Entries::of(file).expect("memory reads") {
        while let Some(logged) = entries.next_entry().expect("memory reads") {
            assert_eq!(ends.next(), Some((logged.zxid(), entries.offset())));
        }
    }
    assert_eq!(ends.next(), None);
}
