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
    pub quorum: SocketAddr,
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

    pub fn all(&self) -> &[Place] {
        &self.0
    }

    pub fn first(&self) -> &Place {
        &self.0[0]
    }

    pub fn quorum(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|p| p.quorum).collect()
    }

    pub fn election(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|p| p.election).collect()
    }

    pub fn has(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|p| p.quorum.ip() == ip)
    }
}
