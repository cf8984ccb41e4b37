//! Calls of NFS clients, from the RPC header on.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use trivet_fuzz as _;
use trivet_storage::nfs::{calls, handle, rpc};

fuzz_target!(|bytes: &[u8]| {
    let _ = rpc::parse_call(bytes);
    if let Some((procedure, body)) = bytes.split_first() {
        let _ = calls::parse(u32::from(procedure % 24), &Bytes::copy_from_slice(body), 0);
        let _ = handle::Claimed::decode(body);
    }
});
