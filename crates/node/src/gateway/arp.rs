//! ARP frames (RFC 826, RFC 5227) for the datastore addresses: announcements, probes, and those of others.

use etherparse::{ArpEthIpv4Packet, ArpOperation, ArpPacketSlice};
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{self, Read};
use std::net::Ipv4Addr;

/// A MAC address.
pub(super) type Mac = [u8; 6];

fn request(mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let frame = ArpEthIpv4Packet {
        operation: ArpOperation::REQUEST,
        sender_mac: mac,
        sender_ipv4: sender.octets(),
        target_mac: [0; 6],
        target_ipv4: target.octets(),
    };
    frame.to_bytes().to_vec()
}

/// A request for one's own address: everybody who knows the address learns where it is (RFC 5227 section 2.3).
pub(super) fn announcement(mac: Mac, ip: Ipv4Addr) -> Vec<u8> {
    request(mac, ip, ip)
}

/// A request from nobody's address: who has this one answers, and nobody's table changes (RFC 5227 section 2.1.1).
pub(super) fn probe(mac: Mac, ip: Ipv4Addr) -> Vec<u8> {
    request(mac, Ipv4Addr::UNSPECIFIED, ip)
}

/// The device that a frame comes from and the address that this device says it has; `None` for a frame that claims nothing.
fn claim(frame: &[u8]) -> Option<(Mac, Ipv4Addr)> {
    let frame = ArpPacketSlice::from_slice(frame).ok()?.to_packet().try_eth_ipv4().ok()?;
    let ip = frame.sender_ipv4_addr();
    (!ip.is_unspecified()).then_some((frame.sender_mac, ip))
}

/// `to`: the receiver's MAC address in the first six bytes; for listening it says nothing.
fn at_interface(index: u32, to: Mac) -> io::Result<SockAddr> {
    let mut sll_addr = [0; 8];
    sll_addr[..6].copy_from_slice(&to);
    // SAFETY: `sockaddr_ll` is plain data that is smaller than the storage, and its length is given.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            storage.cast::<libc::sockaddr_ll>().write(libc::sockaddr_ll {
                sll_family: libc::AF_PACKET as u16,
                sll_protocol: (libc::ETH_P_ARP as u16).to_be(),
                sll_ifindex: index as i32,
                sll_hatype: 0,
                sll_pkttype: 0,
                sll_halen: 6,
                sll_addr,
            });
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })
    }?;
    Ok(address)
}

/// Sends a frame to everybody on an interface's network.
///
/// # Errors
/// Permission is denied without CAP_NET_RAW.
pub(super) fn broadcast(index: u32, frame: &[u8]) -> io::Result<()> {
    Socket::new(Domain::PACKET, Type::DGRAM, None)?.send_to(frame, &at_interface(index, [0xff; 6])?)?;
    Ok(())
}

/// Hears the ARP frames that arrive at an interface.
pub(super) struct Listener(Socket);

impl Listener {
    /// # Errors
    /// Permission is denied without CAP_NET_RAW.
    pub(super) fn at(index: u32) -> io::Result<Listener> {
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&at_interface(index, [0; 6])?)?;
        Ok(Listener(socket))
    }

    /// The claims in the frames that are there, of `frames_max` frames at most.
    pub(super) fn claims(&mut self, frames_max: usize) -> Vec<(Mac, Ipv4Addr)> {
        let mut frame = [0; 64];
        let mut all = Vec::new();
        for _ in 0..frames_max {
            // Nothing is there, or the interface went down: the next look tells.
            let Ok(n) = self.0.read(&mut frame) else { break };
            all.extend(claim(&frame[..n]));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_claims_its_address_and_a_probe_claims_nothing() {
        let (mac, ip) = ([2, 0, 0, 0, 0, 7], Ipv4Addr::new(10, 0, 10, 70));
        let a = announcement(mac, ip);
        assert_eq!(a.len(), ArpEthIpv4Packet::LEN);
        assert_eq!((&a[14..18], &a[24..28]), (&[10, 0, 10, 70][..], &[10, 0, 10, 70][..]));
        assert_eq!(claim(&a), Some((mac, ip)));
        assert_eq!(claim(&probe(mac, ip)), None);
        assert_eq!((claim(&a[..27]), claim(&[0; 28])), (None, None));
        // Ethernet pads a frame.
        assert_eq!(claim(&[a.clone(), vec![0; 18]].concat()), Some((mac, ip)));
        // Lengths of addresses that are not those of Ethernet and IPv4.
        let with = |at: usize, byte: u8| [&a[..at], &[byte], &a[at + 1..], &[0; 40]].concat();
        assert_eq!((claim(&with(4, 8)), claim(&with(5, 16)), claim(&with(4, 255))), (None, None, None));
    }
}
