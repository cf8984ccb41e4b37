//! Clients of an address that moved are told so.
//!
//! A client that has sent everything, and waits for an answer of a node that is gone or cut off, sends nothing
//! and so never learns that its connection is dead. The new node sends it a segment of that connection that cannot be right;
//! it answers with the sequence number that it expects (RFC 9293 section 3.10.7.4). That answer goes to the address's new
//! node, whose kernel resets the unknown connection. The client connects again at once.
//!
//! A client that is connecting, from its old port, and waits longer and longer between its tries, ignores that segment; but
//! it answers a SYN (section 3.5, simultaneous open), and is reset in the same way.

use etherparse::err::packet::BuildWriteError;
use etherparse::{PacketBuilder, TcpHeader};
use std::net::{SocketAddr, SocketAddrV4};

/// Time to live of a segment, in hops.
const HOPS_MAX: u8 = 64;
/// Receive window that a segment tells, in bytes.
const WINDOW_BYTES: u16 = 4_096;

/// Sends both, from a datastore address of this host (IPv4; there is none for IPv6 yet). Needs CAP_NET_RAW.
pub(super) fn prod(datastore: SocketAddr, client: SocketAddr) -> std::io::Result<()> {
    let (SocketAddr::V4(from), SocketAddr::V4(to)) = (datastore, client) else { return Ok(()) };
    let raw = Some(socket2::Protocol::from(libc::IPPROTO_RAW));
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::RAW, raw)?;
    // The port is in the segment; the socket wants none.
    let head = TcpHeader::new(from.port(), to.port(), 0, WINDOW_BYTES);
    for head in [TcpHeader { ack: true, ..head.clone() }, TcpHeader { syn: true, ..head }] {
        let segment = packet(from, to, head).map_err(std::io::Error::other)?;
        socket.send_to(&segment, &SocketAddrV4::new(*to.ip(), 0).into())?;
    }
    Ok(())
}

/// Without data, with sequence and acknowledgement number 0: outside of any window but one in a hundred thousand.
fn packet(from: SocketAddrV4, to: SocketAddrV4, head: TcpHeader) -> Result<Vec<u8>, BuildWriteError> {
    let builder = PacketBuilder::ipv4(from.ip().octets(), to.ip().octets(), HOPS_MAX).tcp_header(head);
    let mut packet = Vec::with_capacity(builder.size(0));
    builder.write(&mut packet, &[])?;
    Ok(packet)
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{Ipv4HeaderSlice, TcpHeaderSlice};

    #[test]
    fn a_segment_has_both_ends_its_flag_and_right_checksums() {
        let (from, to) = ("10.0.10.70:2049".parse().unwrap(), "10.0.10.200:789".parse().unwrap());
        let p = packet(from, to, TcpHeader { syn: true, ..TcpHeader::new(2049, 789, 0, WINDOW_BYTES) }).unwrap();
        let ip = Ipv4HeaderSlice::from_slice(&p).unwrap().to_header();
        assert_eq!((ip.source, ip.destination, ip.time_to_live), ([10, 0, 10, 70], [10, 0, 10, 200], HOPS_MAX));
        assert_eq!((ip.header_checksum, ip.dont_fragment), (ip.calc_header_checksum(), true));
        let tcp = TcpHeaderSlice::from_slice(&p[ip.header_len()..]).unwrap().to_header();
        assert_eq!((tcp.source_port, tcp.destination_port, tcp.syn, tcp.ack), (2049, 789, true, false));
        assert_eq!((tcp.sequence_number, tcp.acknowledgment_number), (0, 0));
        assert_eq!(tcp.checksum, tcp.calc_checksum_ipv4(&ip, &[]).unwrap());
        assert_eq!(p.len(), ip.header_len() + tcp.header_len());
    }
}
