//! Where the members of an ensemble are reached: each at one address, or at one in each of several networks
//! (`multiAddress.enabled`).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use trivet_formats::ServerId;

/// An address of a member, as its name was looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// As the configuration has it; a certificate of the member is for it.
    pub host: String,
    /// Address of the quorum port.
    pub quorum: SocketAddr,
    /// Address of the election port.
    pub election: SocketAddr,
}

/// The addresses of one member, in the order of its line: one at least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places(Vec<Place>);

/// The members that can be reached.
pub type Members = BTreeMap<ServerId, Places>;

impl Places {
    /// None without any address.
    pub fn new(places: Vec<Place>) -> Option<Places> {
        (!places.is_empty()).then_some(Places(places))
    }

    /// A member with one address.
    pub fn one(quorum: SocketAddr, election: SocketAddr) -> Places {
        Places(vec![Place { host: quorum.ip().to_string(), quorum, election }])
    }

    /// The places, in the order of the configuration.
    pub fn all(&self) -> &[Place] {
        &self.0
    }

    /// The place that the configuration names first.
    pub fn first(&self) -> &Place {
        &self.0[0]
    }

    /// The addresses of the quorum ports.
    pub fn quorum(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|p| p.quorum).collect()
    }

    /// The addresses of the election ports.
    pub fn election(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|p| p.election).collect()
    }

    /// Whether a quorum address is on this IP address.
    pub fn has(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|p| p.quorum.ip() == ip)
    }
}
