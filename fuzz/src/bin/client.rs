//! Decoders of a client's input: handshake, headers, every request.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trivet_formats::client::*;
use trivet_formats::{Jute, Reader};
use trivet_fuzz as _;

fn both_ways<T: Jute + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(read) = T::parse(bytes) {
        assert_eq!(T::parse(&read.to_vec()).as_ref(), Ok(&read));
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 16 {
        0 => both_ways::<ConnectResponse>(bytes),
        1 => both_ways::<RequestHeader>(bytes),
        2 => both_ways::<CreateRequest>(bytes),
        3 => both_ways::<CreateTtlRequest>(bytes),
        4 => both_ways::<DeleteRequest>(bytes),
        5 => both_ways::<SetDataRequest>(bytes),
        6 => both_ways::<SetAclRequest>(bytes),
        7 => both_ways::<CheckVersionRequest>(bytes),
        8 => both_ways::<ReconfigRequest>(bytes),
        9 => both_ways::<PathWatch>(bytes),
        10 => both_ways::<PathInt>(bytes),
        11 => both_ways::<SetWatches>(bytes),
        12 => drop(ConnectRequest::parse(bytes)),
        13 => both_ways::<Stat>(bytes),
        14 => both_ways::<Vec<Acl>>(bytes),
        _ => drop(parse_multi(&mut Reader::new(bytes))),
    }
});
