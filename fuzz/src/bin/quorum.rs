//! Packets between a leader and its learners.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trivet_formats::quorum::*;
use trivet_formats::Jute;
use trivet_fuzz as _;

const DATA_BYTES_MAX: usize = 64 << 20;

fuzz_target!(|bytes: &[u8]| {
    let length = packet_length(bytes, DATA_BYTES_MAX);
    let read = read_packet(&mut &bytes[..], DATA_BYTES_MAX);
    if let Ok(Some(length)) = length {
        let packet = QuorumPacket::parse(&bytes[..length]).expect("a packet of that length");
        assert_eq!(read.expect("either way"), packet);
        let mut again = Vec::new();
        packet.encode(&mut again);
        assert_eq!(QuorumPacket::parse(&again), Ok(packet.clone()));
        let _ = ForwardedRequest::decode(packet.body());
        let _ = LearnerInfo::parse(packet.body());
    }
});
