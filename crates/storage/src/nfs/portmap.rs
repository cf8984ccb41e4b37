//! The portmapper on the wire (RFC 1833): portmap version 2 and rpcbind versions 3 and 4.
//!
//! Clients without port options (ESXi has none) ask port 111 where a program is served. The answers come from a fixed
//! table of what this process serves; a program, version or transport that is not in it has port 0 and no address.
//! Nobody can register here, and no call is passed on: CALLIT would let strangers call programs through this host.

use super::rpc;
use super::xdr::{XdrError, XdrReader, XdrWriter};
use std::net::IpAddr;

/// Program number of portmap and rpcbind (RFC 1833).
pub const PROGRAM_PORTMAP: u32 = 100_000;
/// Where clients look for it.
pub const PORT: u16 = 111;
/// Longest call in bytes: its credentials and verifier have 400 at most, its strings 256 each. Longer ones are not read.
pub const CALL_BYTES_MAX: usize = 2_048;
/// Longest string of an rpcbind argument, in bytes; a call with a longer one gets GARBAGE_ARGS.
const STRING_BYTES_MAX: u32 = 256;
/// The owner that a dump names for each service.
const OWNER: &str = "trivet";

const VERSION_PORTMAP: u32 = 2;
const VERSION_RPCBIND_4: u32 = 4;

/// A transport that a program is served over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// The protocol's number, as portmap version 2 has it.
    pub fn protocol(self) -> u32 {
        match self {
            Transport::Tcp => 6,
            Transport::Udp => 17,
        }
    }
    fn of_protocol(number: u32) -> Option<Transport> {
        [Transport::Tcp, Transport::Udp].into_iter().find(|t| t.protocol() == number)
    }
    /// rpcbind's name of this transport over the address's family.
    pub fn netid(self, ip: IpAddr) -> &'static str {
        match (self, ip.is_ipv6()) {
            (Transport::Tcp, false) => "tcp",
            (Transport::Tcp, true) => "tcp6",
            (Transport::Udp, false) => "udp",
            (Transport::Udp, true) => "udp6",
        }
    }
}

/// A program that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    /// Program number.
    pub program: u32,
    /// Version of the program.
    pub version: u32,
    /// The transport.
    pub transport: Transport,
    /// The port; the address is the one that the client asks.
    pub port: u16,
}

/// `10.0.10.70.8.1`: an address and a port in rpcbind's notation.
pub fn universal_address(ip: IpAddr, port: u16) -> String {
    format!("{ip}.{}.{}", port >> 8, port & 0xff)
}

/// The services at one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    ip: IpAddr,
    services: Vec<Service>,
}

impl Table {
    /// The portmapper itself is listed, too, as it is served at `port`.
    pub fn new(ip: IpAddr, port: u16, services: Vec<Service>) -> Table {
        let own = [2, 3, 4].into_iter().flat_map(|version| {
            let at = move |transport| Service { program: PROGRAM_PORTMAP, version, transport, port };
            [at(Transport::Tcp), at(Transport::Udp)]
        });
        Table { ip, services: own.chain(services).collect() }
    }

    /// The reply to a call that came over this transport, with a record mark before it. `None` for what is no call.
    pub fn answer(&self, record: &[u8], over: Transport) -> Option<Vec<u8>> {
        let call = match rpc::parse_call(record) {
            Ok(call) => call,
            Err(bad) => return bad.reply(),
        };
        if call.program != PROGRAM_PORTMAP {
            return Some(rpc::not_accepted(call.xid, rpc::AcceptStat::ProgUnavail));
        }
        if !(VERSION_PORTMAP..=VERSION_RPCBIND_4).contains(&call.version) {
            return Some(version_mismatch(call.xid));
        }
        let mut w = rpc::accepted(call.xid);
        let mut arguments = XdrReader::new(&record[call.body_at..]);
        let known = match (call.version, call.procedure) {
            (_, 0) => Ok(()),
            (VERSION_PORTMAP, 3) => self.get_port(&mut arguments, &mut w),
            (VERSION_PORTMAP, 4) => {
                self.dump_ports(&mut w);
                Ok(())
            }
            // GETADDR, and GETVERSADDR of version 4: here both name exactly the version that is asked for.
            (3 | VERSION_RPCBIND_4, 3) | (VERSION_RPCBIND_4, 9) => self.get_address(&mut arguments, over, &mut w),
            (3 | VERSION_RPCBIND_4, 4) => {
                self.dump_addresses(&mut w);
                Ok(())
            }
            _ => return Some(rpc::not_accepted(call.xid, rpc::AcceptStat::ProcUnavail)),
        };
        Some(match known {
            Ok(()) => rpc::finish(w),
            Err(_) => rpc::not_accepted(call.xid, rpc::AcceptStat::GarbageArgs),
        })
    }

    fn port(&self, program: u32, version: u32, transport: Transport) -> Option<u16> {
        let asked = |s: &&Service| (s.program, s.version, s.transport) == (program, version, transport);
        self.services.iter().find(asked).map(|s| s.port)
    }

    fn get_port(&self, r: &mut XdrReader<'_>, w: &mut XdrWriter) -> Result<(), XdrError> {
        let (program, version, protocol) = (r.u32()?, r.u32()?, r.u32()?);
        r.u32()?;
        let port = Transport::of_protocol(protocol).and_then(|t| self.port(program, version, t));
        w.u32(port.unwrap_or(0).into());
        Ok(())
    }

    fn get_address(&self, r: &mut XdrReader<'_>, over: Transport, w: &mut XdrWriter) -> Result<(), XdrError> {
        let (program, version) = (r.u32()?, r.u32()?);
        let netid = r.opaque(STRING_BYTES_MAX)?;
        let (_address, _owner) = (r.opaque(STRING_BYTES_MAX)?, r.opaque(STRING_BYTES_MAX)?);
        // RFC 1833 takes the transport of the call; a client that names another one means that.
        let transport = match netid {
            b"tcp" | b"tcp6" | b"udp" | b"udp6" => {
                [Transport::Tcp, Transport::Udp].into_iter().find(|t| t.netid(self.ip).as_bytes() == netid)
            }
            _ => Some(over),
        };
        let port = transport.and_then(|t| self.port(program, version, t));
        w.opaque(port.map(|p| universal_address(self.ip, p)).unwrap_or_default().as_bytes());
        Ok(())
    }

    fn dump_ports(&self, w: &mut XdrWriter) {
        for s in &self.services {
            w.bool(true).u32(s.program).u32(s.version).u32(s.transport.protocol()).u32(s.port.into());
        }
        w.bool(false);
    }

    fn dump_addresses(&self, w: &mut XdrWriter) {
        for s in &self.services {
            w.bool(true).u32(s.program).u32(s.version).opaque(s.transport.netid(self.ip).as_bytes());
            w.opaque(universal_address(self.ip, s.port).as_bytes()).opaque(OWNER.as_bytes());
        }
        w.bool(false);
    }
}

/// PROG_MISMATCH with the versions that there are.
fn version_mismatch(xid: u32) -> Vec<u8> {
    let mut w = XdrWriter::default();
    w.u32(0).u32(xid).u32(1).u32(0).u32(0).u32(0).u32(2).u32(VERSION_PORTMAP).u32(VERSION_RPCBIND_4);
    rpc::finish(w)
}

// ---- calls to a portmapper of somebody else ----

/// A call to a host's own portmapper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Register this service; false where another one is registered.
    Set,
    /// Forget this program and version. In portmap version 2 this goes for all transports.
    Unset,
    /// Which port the service has.
    GetPort,
}

/// A call, with its record mark. With an address it is one of rpcbind version 4 about that address. Without, it is one of
/// portmap version 2, whose registrations are for all IPv4 addresses: a client that asks by rpcbind is then named the
/// host's address that is nearest to it, which need not be the one where the service is.
pub fn call(xid: u32, ask: Ask, service: &Service, address: Option<IpAddr>) -> Vec<u8> {
    let mut w = XdrWriter::default();
    let procedure = match ask {
        Ask::Set => 1,
        Ask::Unset => 2,
        Ask::GetPort => 3,
    };
    let address = address.filter(|_| ask != Ask::GetPort);
    let version = if address.is_some() { VERSION_RPCBIND_4 } else { VERSION_PORTMAP };
    w.u32(0).u32(xid).u32(0).u32(2).u32(PROGRAM_PORTMAP).u32(version).u32(procedure);
    // Neither credentials nor a verifier: who may register is told by where the call comes from.
    w.u32(0).u32(0).u32(0).u32(0);
    w.u32(service.program).u32(service.version);
    if let Some(ip) = address {
        w.opaque(service.transport.netid(ip).as_bytes());
        w.opaque(universal_address(ip, service.port).as_bytes()).opaque(OWNER.as_bytes());
    } else {
        w.u32(service.transport.protocol()).u32(service.port.into());
    }
    rpc::finish(w)
}

/// The number in the reply to such a call: a port, or 1 for done and 0 for refused. `None` for any other reply.
pub fn reply_number(xid: u32, record: &[u8]) -> Option<u32> {
    let mut r = XdrReader::new(record);
    let mut parse = || -> Result<Option<u32>, XdrError> {
        if (r.u32()?, r.u32()?, r.u32()?) != (xid, 1, 0) {
            return Ok(None);
        }
        let (_flavour, _verifier) = (r.u32()?, r.opaque(400)?);
        if r.u32()? != 0 {
            return Ok(None);
        }
        r.u32().map(Some)
    };
    parse().ok().flatten()
}

#[cfg(test)]
mod tests;
