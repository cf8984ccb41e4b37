//! Packets between a leader and its learners.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use trivet_formats::quorum::*;
use trivet_formats::Jute;
use trivet_fuzz as _;

const DATA_BYTES_MAX: usize = 64 << 20;

fuzz_target!(|bytes: &[u8]| {
    let mut buffer = BytesMut::from(bytes);
    if let Ok(Some(packet)) = take_packet(&mut buffer, DATA_BYTES_MAX) {
        let length = bytes.len() - buffer.len();
        assert_eq!(QuorumPacket::parse(&bytes[..length]), Ok(packet.clone()));
        let mut again = Vec::new();
        packet.encode(&mut again);
        assert_eq!(QuorumPacket::parse(&again), Ok(packet.clone()));
        assert_eq!(buffer, bytes[length..]);
        let _ = LearnerInfo::parse(packet.body());
        let _ = ForwardedRequest::decode(&packet.data.unwrap_or_default());
    }
});
