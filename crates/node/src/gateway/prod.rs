//! Clients of an address that moved are told so.
//!
//! A client that has sent everything, and waits for an answer of a node that is gone or cut off, sends nothing
//! and so never learns that its connection is dead. The new node sends it a segment of that connection that cannot be right;
//! it answers with the sequence number that it expects (RFC 9293 section 3.10.7.4). That answer goes to the address's new
//! node, whose kernel resets the unknown connection. The client connects again at once.
//!
//! A client that is connecting, from its old port, and waits longer and longer between its tries, ignores that segment; but
//! it answers a SYN (section 3.5, simultaneous open), and is reset in the same way.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

const IP_HEADER: usize = 20;
const TCP_HEADER: usize = 20;
const ACK: u8 = 0x10;
const SYN: u8 = 0x02;

/// Sends both, from a datastore address of this host (IPv4; there is none for IPv6 yet). Needs CAP_NET_RAW.
pub(super) fn prod(datastore: SocketAddr, client: SocketAddr) -> std::io::Result<()> {
    let (SocketAddr::V4(from), SocketAddr::V4(to)) = (datastore, client) else { return Ok(()) };
    let raw = Some(socket2::Protocol::from(libc::IPPROTO_RAW));
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::RAW, raw)?;
    // The port is in the segment; the socket wants none.
    for flag in [ACK, SYN] {
        socket.send_to(&packet(from, to, flag), &SocketAddrV4::new(*to.ip(), 0).into())?;
    }
    Ok(())
}

/// Without data, with sequence and acknowledgement number 0: outside of any window but one in a hundred thousand.
/// The kernel fills in the IP header's length, id and checksum.
fn packet(from: SocketAddrV4, to: SocketAddrV4, flag: u8) -> Vec<u8> {
    let mut tcp = Vec::with_capacity(TCP_HEADER);
    tcp.extend(from.port().to_be_bytes());
    tcp.extend(to.port().to_be_bytes());
    tcp.extend([0; 8]);
    tcp.extend([(TCP_HEADER as u8 / 4) << 4, flag]);
    // Window, checksum, urgent pointer.
    tcp.extend([0x10, 0, 0, 0, 0, 0]);
    let sum = checksum(*from.ip(), *to.ip(), &tcp);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, libc::IPPROTO_TCP as u8, 0, 0];
    packet.extend(from.ip().octets());
    packet.extend(to.ip().octets());
    debug_assert_eq!(packet.len(), IP_HEADER);
    packet.extend(tcp);
    packet
}

/// Checksum of a segment of even length (RFC 9293 section 3.1).
fn checksum(from: Ipv4Addr, to: Ipv4Addr, tcp: &[u8]) -> u16 {
    let mut pseudo = Vec::new();
    pseudo.extend(from.octets());
    pseudo.extend(to.octets());
    pseudo.extend([0, libc::IPPROTO_TCP as u8]);
    pseudo.extend((tcp.len() as u16).to_be_bytes());
    let words = pseudo.chunks_exact(2).chain(tcp.chunks_exact(2));
    let sum: u32 = words.map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_a_whole_segment_is_zero() {
        let (from, to) = ("10.0.10.70:2049".parse().unwrap(), "10.0.10.200:789".parse().unwrap());
        let p = packet(from, to, SYN);
        assert_eq!(p.len(), IP_HEADER + TCP_HEADER);
        assert_eq!((&p[12..16], &p[16..20]), (&[10, 0, 10, 70][..], &[10, 0, 10, 200][..]));
        assert_eq!(checksum(*from.ip(), *to.ip(), &p[IP_HEADER..]), 0);
        assert_eq!(u16::from_be_bytes([p[20], p[21]]), 2049);
        let mut bad = p[IP_HEADER..].to_vec();
        bad[3] ^= 1;
        assert_ne!(checksum(*from.ip(), *to.ip(), &bad), 0);
    }
}
