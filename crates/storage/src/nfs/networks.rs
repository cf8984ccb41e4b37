//! Which clients may use a datastore: networks as an administrator gives them, and addresses as calls come from them.

use std::net::IpAddr;
use thiserror::Error;

/// Networks of one datastore at most; one more is refused when it is given.
pub const NETWORKS_MAX: usize = 256;

/// An IPv4 or IPv6 network; one of IPv4 in IPv6 (`::ffff:10.0.0.0/104`) is one of IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    bits: u32,
}

/// Text that is no network, or too many networks; its message says what to give instead.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum WrongNetwork {
    /// The text is neither an address nor an address with its bits.
    #[error(
        "{0:?} is no network: give an address (10.0.0.7, fd00::7) or an address and its bits (10.0.0.0/24, fd00::/64)"
    )]
    NoNetwork(String),
    /// The text has more bits than its kind of address, which has this number.
    #[error("{0:?} has more bits than its address, which has {1}")]
    Bits(String, u32),
    /// The text's address has bits set beyond its number of bits; the last field is the network that was probably
    /// meant.
    #[error("{0:?} has bits set beyond its {1}: the network is {2}")]
    HostBits(String, u32, String),
    /// This number of networks, more than [`NETWORKS_MAX`], is given.
    #[error("{0} networks are given, at most {NETWORKS_MAX} are kept: join some to larger ones")]
    TooMany(usize),
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

fn width(ip: IpAddr) -> u32 {
    if ip.is_ipv4() {
        32
    } else {
        128
    }
}

/// The address without what is beyond the bits.
fn masked(ip: IpAddr, bits: u32) -> IpAddr {
    match ip {
        IpAddr::V4(a) => IpAddr::V4((u32::from(a) & u32::MAX.checked_shl(32 - bits).unwrap_or(0)).into()),
        IpAddr::V6(a) => IpAddr::V6((u128::from(a) & u128::MAX.checked_shl(128 - bits).unwrap_or(0)).into()),
    }
}

impl Network {
    /// Parses `address` or `address/bits`.
    ///
    /// # Errors
    /// [`WrongNetwork`] for text that is no network, and for an address with bits beyond the network's.
    pub fn parse(text: &str) -> Result<Network, WrongNetwork> {
        let network = Self::parse_stored(text)?;
        let (address, _) = text.split_once('/').unwrap_or((text, ""));
        let given: IpAddr = address.parse().map_err(|_| WrongNetwork::NoNetwork(text.into()))?;
        if given.to_canonical() != network.base {
            return Err(WrongNetwork::HostBits(text.into(), network.bits, network.to_string()));
        }
        Ok(network)
    }

    /// Parses a network from metad's state. Older programs stored addresses with bits beyond the network's, which are ignored.
    ///
    /// # Errors
    /// [`WrongNetwork::NoNetwork`] for text that is no network.
    pub fn parse_stored(text: &str) -> Result<Network, WrongNetwork> {
        let no_network = || WrongNetwork::NoNetwork(text.into());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let given: IpAddr = address.parse().map_err(|_| no_network())?;
        let bits = match bits {
            None => width(given),
            // "+24" and "024" are numbers to `parse`, and a slip of somebody.
            Some(b) if b.is_empty() || b.len() > 3 || !b.bytes().all(|c| c.is_ascii_digit()) => {
                return Err(no_network())
            }
            Some(b) if b.len() > 1 && b.starts_with('0') => return Err(no_network()),
            Some(b) => b.parse().map_err(|_| no_network())?,
        };
        if bits > width(given) {
            return Err(WrongNetwork::Bits(text.into(), width(given)));
        }
        let base = given.to_canonical();
        // A network of IPv4 in IPv6 that is larger than all of IPv4 stays one of IPv6.
        let (base, bits) = match (width(given) - width(base), bits) {
            (0, bits) => (base, bits),
            (prefix, bits) if bits >= prefix => (base, bits - prefix),
            (_, bits) => (given, bits),
        };
        Ok(Network { base: masked(base, bits), bits })
    }

    /// Whether the address is in the network. An IPv4 address within IPv6 counts as the IPv4 address that it is.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        width(ip) == width(self.base) && masked(ip, self.bits) == self.base
    }
}

/// # Errors
/// The first that is no network, or too many of them.
pub fn check(networks: &[String]) -> Result<(), WrongNetwork> {
    if networks.len() > NETWORKS_MAX {
        return Err(WrongNetwork::TooMany(networks.len()));
    }
    networks.iter().try_for_each(|n| Network::parse(n).map(|_| ()))
}

/// The clients of a datastore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Clients {
    /// No network was named: every client may mount.
    Everybody,
    /// A datastore that was made with nothing but wrong networks is nobody's.
    Of(Vec<Network>),
}

impl Clients {
    /// The clients that a datastore's stored networks admit; text that is no network admits no client.
    pub fn of(networks: &[String]) -> Clients {
        if networks.is_empty() {
            return Clients::Everybody;
        }
        Clients::Of(networks.iter().filter_map(|n| Network::parse_stored(n).ok()).collect())
    }

    /// Whether a client with this address may mount.
    pub fn contain(&self, ip: IpAddr) -> bool {
        match self {
            Clients::Everybody => true,
            Clients::Of(networks) => networks.iter().any(|n| n.contains(ip)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients(networks: &[&str]) -> Clients {
        Clients::of(&networks.iter().map(|n| n.to_string()).collect::<Vec<_>>())
    }
    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn what_is_no_network_is_refused_with_what_to_do() {
        for wrong in [
            "banana",
            "",
            "10.0.0.0/",
            "10.0.0.0/ 8",
            "10.0.0.0/+8",
            "10.0.0/24",
            "10.0.0.0/8/8",
            "fd00::/0x40",
            "10.0.0.0/08",
        ] {
            assert_eq!(Network::parse(wrong), Err(WrongNetwork::NoNetwork(wrong.into())), "{wrong}");
        }
        assert_eq!(Network::parse("10.0.0.0/99"), Err(WrongNetwork::Bits("10.0.0.0/99".into(), 32)));
        assert_eq!(Network::parse("fd00::/129"), Err(WrongNetwork::Bits("fd00::/129".into(), 128)));
        let said = Network::parse("10.0.0.77/24").expect_err("host bits").to_string();
        assert!(said.contains("10.0.0.0/24"), "{said}");
        assert!(Network::parse("fd00::1/64").is_err());
        for right in ["10.0.0.7", "10.0.0.0/8", "0.0.0.0/0", "fd00::/64", "::/0", "fe80::1", "::ffff:10.0.0.0/104"] {
            assert!(Network::parse(right).is_ok(), "{right}");
        }
        assert!(check(&vec!["10.0.0.1".to_string(); NETWORKS_MAX + 1]).is_err());
    }

    #[test]
    fn addresses_of_both_families_are_inside_or_not() {
        let c = clients(&["10.1.0.0/16", "192.168.7.9", "fd00:1::/32"]);
        for inside in ["10.1.255.255", "192.168.7.9", "fd00:1:ffff::1", "::ffff:10.1.2.3", "::ffff:192.168.7.9"] {
            assert!(c.contain(ip(inside)), "{inside}");
        }
        for outside in ["10.2.0.0", "192.168.7.8", "fd00:2::1", "::ffff:10.2.0.1", "::1", "0.0.0.0"] {
            assert!(!c.contain(ip(outside)), "{outside}");
        }
        assert!(
            clients(&["0.0.0.0/0"]).contain(ip("::ffff:9.9.9.9")) && !clients(&["0.0.0.0/0"]).contain(ip("fd00::1"))
        );
        assert!(clients(&["::ffff:10.0.0.0/104"]).contain(ip("10.200.0.1")));
        assert!(!clients(&["::ffff:10.0.0.0/104"]).contain(ip("11.0.0.1")));
        assert!(clients(&[]).contain(ip("fd00::1")));
    }

    #[test]
    fn networks_of_before_are_taken_as_they_were() {
        assert!(clients(&["10.0.0.77/24"]).contain(ip("10.0.0.1")));
        assert!(!clients(&["banana"]).contain(ip("10.0.0.1")), "nobody's, not everybody's");
        assert!(clients(&["banana", "10.0.0.0/8"]).contain(ip("10.0.0.1")));
    }
}
