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
    // Entries whose checksums are right, so that what is in them is looked at.
    let mut rest = bytes;
    while let Some((length, more)) = rest.split_first() {
        let (entry, behind) = more.split_at(usize::from(*length).min(more.len()));
        txnlog::put_entry(&mut file, entry);
        rest = behind;
    }
    if let Ok(scan) = txnlog::scan(&file) {
        assert!(scan.end_offset <= file.len());
    }
    file.truncate(txnlog::HEADER_BYTES);
    file.extend_from_slice(bytes);
    let _ = txnlog::scan(&file);
    let _ = txnlog::scan(bytes);
});
