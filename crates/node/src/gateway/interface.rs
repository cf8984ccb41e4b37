//! Datastore addresses on the network interfaces of a real host.
//!
//! The addresses lie on a device that goes with this process (`own_device.rs`). And the kernel is told that an address is valid
//! for `VALID_S` seconds, and is told so again every second: of a process that is frozen it hears nothing, and takes the
//! address off by itself. Nobody has to clean up. (On loopback every address of 127.0.0.0/8 is there already.)

use super::arp::{self, Mac};
use super::own_device::{self, OwnDevice};
use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, CacheInfo};
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::{Handle, LinkUnspec};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Seconds without renewal after which the kernel removes the address.
const VALID_S: u32 = 4;

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("this process may not change addresses of interfaces ({0}); it needs CAP_NET_ADMIN and CAP_NET_RAW")]
    NotAllowed(String),
    #[error("no interface of this host has an address in the network of {0}; give it one there")]
    NoInterface(IpAddr),
    #[error("addresses of interfaces cannot be changed here: {0}")]
    NoNetlink(String),
    #[error("NFS cannot listen on {0}: {1}")]
    Port(SocketAddr, std::io::Error),
    #[error("netlink: {0}")]
    Netlink(#[from] rtnetlink::Error),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// Where an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Loopback, or put there for ever by somebody else: neither announced nor taken off.
    NotOurs,
    /// On this process's own device, found by others by the interface of this number.
    OwnDevice(u32),
    /// On the interface of this number itself.
    Interface(u32),
}

impl Place {
    /// The number of the interface by which others find the address.
    pub(super) fn found_by(self) -> Option<u32> {
        match self {
            Place::NotOurs => None,
            Place::OwnDevice(index) | Place::Interface(index) => Some(index),
        }
    }
}

/// Without netlink (in some sandboxes) there is still loopback.
pub(super) struct Interfaces {
    handle: std::io::Result<Handle>,
    /// The TUN device and its index; `None` before the first attempt, `Some(None)` if the device cannot be made.
    own: Option<Option<(OwnDevice, u32)>>,
}

impl Interfaces {
    pub(super) fn open() -> Self {
        let handle = rtnetlink::new_connection().map(|(connection, handle, _messages)| {
            tokio::spawn(connection);
            handle
        });
        Interfaces { handle, own: None }
    }

    fn handle(&self) -> Result<&Handle, Error> {
        self.handle.as_ref().map_err(|e| Error::NoNetlink(e.to_string()))
    }

    /// Puts the address on this host, or renews it there, and says by which interface others find it: the one whose
    /// network it is in.
    pub(super) async fn put(&mut self, address: IpAddr) -> Result<Place, Error> {
        if address.is_loopback() {
            return Ok(Place::NotOurs);
        }
        let all: Vec<AddressMessage> = self.handle()?.address().get().execute().try_collect().await?;
        let there = |m: &&AddressMessage| ip_of(m) == Some(address);
        if all.iter().any(|m| there(&m) && m.header.flags.contains(AddressHeaderFlags::Permanent)) {
            return Ok(Place::NotOurs);
        }
        let near = |m: &&AddressMessage| ip_of(m).is_some_and(|ip| same_network(ip, address, m.header.prefix_len));
        let near = all.iter().filter(|m| !there(m)).find(near).ok_or(Error::NoInterface(address))?;
        let shared = near.header.index;
        let own = self.own_device(address, shared).await;
        let (index, prefix) = own.map_or((shared, near.header.prefix_len), |own| (own, 32));
        if let Err(e) = self.put_on(index, address, prefix).await {
            // An operator may have removed the device: the next attempt makes another. One that could not be made is
            // not tried again.
            if self.own.as_ref().is_some_and(Option::is_some) {
                self.own = None;
            }
            return Err(e);
        }
        Ok(if own.is_some() { Place::OwnDevice(shared) } else { Place::Interface(shared) })
    }

    /// Whether this process tried to make its own device, and could not.
    pub(super) fn lacks_own_device(&self) -> bool {
        matches!(self.own, Some(None))
    }

    /// MAC addresses of this host, by interface; those of other lengths are left out.
    pub(super) async fn macs(&self) -> Result<BTreeMap<u32, Mac>, Error> {
        let links: Vec<_> = self.handle()?.link().get().execute().try_collect().await?;
        let mac = |a: &LinkAttribute| match a {
            LinkAttribute::Address(mac) => Mac::try_from(mac.as_slice()).ok(),
            _ => None,
        };
        Ok(links.iter().filter_map(|l| Some((l.header.index, l.attributes.iter().find_map(mac)?))).collect())
    }

    /// Puts a local address on this process's own device, or renews it there. It is in no interface's network, and hosts are
    /// led to it by a route.
    pub(super) async fn put_local(&mut self, address: IpAddr) -> Result<(), Error> {
        let all: Vec<AddressMessage> = self.handle()?.address().get().execute().try_collect().await?;
        let there = |m: &AddressMessage| ip_of(m) == Some(address);
        let for_ever = |m: &AddressMessage| m.header.flags.contains(AddressHeaderFlags::Permanent);
        if address.is_loopback() || all.iter().any(|m| there(m) && for_ever(m)) {
            return Ok(());
        }
        if self.own.as_ref().is_none_or(Option::is_none) {
            self.own = Some(Some(self.make_own_device().await?));
        }
        let Some((_, index)) = self.own.as_ref().and_then(Option::as_ref) else { return Ok(()) };
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        let put = self.put_on(*index, address, prefix).await;
        if put.is_err() {
            self.own = None;
        }
        put
    }

    async fn put_on(&self, index: u32, address: IpAddr, prefix: u8) -> Result<(), Error> {
        let mut request = self.handle()?.address().add(index, address, prefix).replace();
        let mut valid = CacheInfo::default();
        // A preferred lifetime of 0 keeps the kernel from choosing the address as a source for connections of this host.
        (valid.ifa_preferred, valid.ifa_valid) = (0, VALID_S);
        request.message_mut().attributes.push(AddressAttribute::CacheInfo(valid));
        request.execute().await.map_err(allowed)
    }

    /// Whether `put` and then listening would do, as far as that shows without trying. An address that is on this host
    /// already is another node's here, which has the port.
    pub(super) async fn could_put(&self, address: IpAddr, port: SocketAddr) -> Result<(), Error> {
        if address.is_loopback() {
            return Ok(());
        }
        let all: Vec<AddressMessage> = self.handle()?.address().get().execute().try_collect().await?;
        if all.iter().any(|m| ip_of(m) == Some(address)) {
            return Ok(());
        }
        let near = |m: &AddressMessage| ip_of(m).is_some_and(|ip| same_network(ip, address, m.header.prefix_len));
        all.iter().find(|m| near(m)).ok_or(Error::NoInterface(address))?;
        if !super::unserved::has_rights() {
            return Err(Error::NotAllowed("it does not have them".into()));
        }
        super::unserved::port_is_free(port).map_err(|e| Error::Port(port, e))
    }

    /// The device that lives as long as this process, if addresses on it are found by that interface. Where there can
    /// be none, addresses lie on the interface itself, and outlive a killed process by seconds.
    async fn own_device(&mut self, address: IpAddr, shared: u32) -> Option<u32> {
        let name = self.name_of(shared).await?;
        if !address.is_ipv4() || !own_device::answers_for_others(&name) {
            return None;
        }
        if self.own.is_none() {
            self.own = Some(match self.make_own_device().await {
                Ok(own) => Some(own),
                Err(e) => {
                    tracing::warn!(error = %e, "no network device of this process's own: addresses go on {name} itself");
                    None
                }
            });
        }
        self.own.as_ref()?.as_ref().map(|(_, index)| *index)
    }

    async fn make_own_device(&self) -> Result<(OwnDevice, u32), Error> {
        let device = OwnDevice::make()?;
        let mut links = self.handle()?.link().get().match_name(device.name.clone()).execute();
        let index = links.try_next().await?.ok_or(std::io::Error::other("the new device is gone"))?.header.index;
        self.handle()?.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await.map_err(allowed)?;
        Ok((device, index))
    }

    async fn name_of(&self, index: u32) -> Option<String> {
        let mut links = self.handle().ok()?.link().get().match_index(index).execute();
        links.try_next().await.ok()??.attributes.into_iter().find_map(|a| match a {
            LinkAttribute::IfName(name) => Some(name),
            _ => None,
        })
    }

    pub(super) async fn take_off(&self, address: IpAddr) -> Result<(), Error> {
        let all: Vec<AddressMessage> = self.handle()?.address().get().execute().try_collect().await?;
        let ours =
            |m: &AddressMessage| ip_of(m) == Some(address) && !m.header.flags.contains(AddressHeaderFlags::Permanent);
        for m in all.into_iter().filter(ours) {
            self.handle()?.address().del(m).execute().await.map_err(allowed)?;
        }
        Ok(())
    }

    /// Tells everybody on the network that the address is here now (an ARP announcement, RFC 5227 section 2.3).
    pub(super) async fn announce(&self, index: u32, address: IpAddr) -> Result<(), Error> {
        let IpAddr::V4(ip) = address else { return Ok(()) };
        let Some(mac) = self.macs().await?.remove(&index) else { return Ok(()) };
        arp::broadcast(index, &arp::announcement(mac, ip)).map_err(|e| match e.kind() {
            std::io::ErrorKind::PermissionDenied => Error::NotAllowed(e.to_string()),
            _ => Error::Io(e),
        })
    }
}

fn allowed(e: rtnetlink::Error) -> Error {
    match &e {
        rtnetlink::Error::NetlinkError(m) if m.raw_code() == -libc::EPERM => Error::NotAllowed(e.to_string()),
        _ => Error::Netlink(e),
    }
}

fn ip_of(m: &AddressMessage) -> Option<IpAddr> {
    let local = m.attributes.iter().find_map(|a| match a {
        AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    });
    local.or_else(|| {
        m.attributes.iter().find_map(|a| match a {
            AddressAttribute::Address(ip) => Some(*ip),
            _ => None,
        })
    })
}

fn same_network(a: IpAddr, b: IpAddr, prefix: u8) -> bool {
    let differ =
        |bits: u32, x: u128, y: u128| (x ^ y).checked_shr(bits - u32::from(prefix).min(bits)).unwrap_or(0) != 0;
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => !differ(32, u32::from(a).into(), u32::from(b).into()),
        (IpAddr::V6(a), IpAddr::V6(b)) => !differ(128, a.into(), b.into()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        let ip = |s: &str| s.parse::<IpAddr>().unwrap();
        assert!(same_network(ip("10.0.10.71"), ip("10.0.10.70"), 24));
        assert!(!same_network(ip("10.0.11.71"), ip("10.0.10.70"), 24));
        assert!(same_network(ip("10.0.11.71"), ip("10.0.10.70"), 16));
        assert!(!same_network(ip("10.0.10.71"), ip("10.0.10.70"), 32));
        assert!(same_network(ip("10.0.10.71"), ip("192.168.0.1"), 0));
        assert!(same_network(ip("fd00::1"), ip("fd00::2"), 64));
        assert!(!same_network(ip("fd00::1"), ip("10.0.0.1"), 0));
    }
}
