//! An ensemble of coordination servers in a simulated world.
//!
//! `world` moves messages, disks and clocks; `faults` breaks things, at random or by `schedule`; `clients` write and read
//! registers; `check` knows what may not happen.

mod check;
mod clients;
mod disk;
mod event_hash;
mod faults;
mod liveness;
mod members;
mod schedule;
pub mod small;
mod world;

use bytes::{Bytes, BytesMut};
use trivet_formats::quorum::{take_packet, QuorumPacket};

pub use check::Violation;
pub(crate) use disk::Disk;
pub use schedule::{Schedule, ScheduleError};
pub use world::{run, Options, Report};

/// The packets in a message between servers, each with its bytes.
pub(crate) fn each_packet(message: &[u8]) -> impl Iterator<Item = (QuorumPacket, Bytes)> + '_ {
    let mut rest = BytesMut::from(message);
    std::iter::from_fn(move || {
        let begin = message.len() - rest.len();
        let packet = take_packet(&mut rest, 64 << 20).expect("what a server of ours sends are packets");
        assert!(packet.is_some() || rest.is_empty(), "the end of a packet is missing");
        Some((packet?, Bytes::copy_from_slice(&message[begin..message.len() - rest.len()])))
    })
}

fn packets(message: &[u8]) -> Vec<QuorumPacket> {
    each_packet(message).map(|(packet, _)| packet).collect()
}
fn packets_apart(message: &[u8]) -> Vec<Bytes> {
    each_packet(message).map(|(_, bytes)| bytes).collect()
}
