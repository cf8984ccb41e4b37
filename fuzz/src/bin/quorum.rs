//! Packets between a leader and its learners.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trivet_formats::quorum::*;
use trivet_formats::Jute;
use trivet_fuzz as _;

const DATA_BYTES_MAX: usize = 64 << 20;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some((packet, length))) = first_packet(bytes, DATA_BYTES_MAX) {
        assert!(length <= bytes.len());
        let mut again = Vec::new();
        packet.encode(&mut again);
        assert_eq!(QuorumPacket::parse(&again), Ok(packet.clone()));
        let _ = ForwardedRequest::decode(packet.body());
        let _ = LearnerInfo::parse(packet.body());
    }
});
