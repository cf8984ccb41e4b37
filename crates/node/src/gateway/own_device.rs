//! A network device that exists for as long as this process does: a TUN device that nobody reads. Datastore
//! addresses lie on it, so that they are gone with the process, however it dies, and before its connections are.
//!
//! Why a device: the kernel ends the connections of a killed server and refuses new ones at once. The Linux NFS client
//! retries after a refusal, but 3 s later (`XS_TCP_INIT_REEST_TO` in net/sunrpc/xprtsock.c). An address that is gone answers
//! nothing, and the next node that serves it has its clients back as soon as it sends them a tickle ACK.
//!
//! The hosts of the network find the address by the interface that they share with this host: Linux answers ARP on
//! each interface for all its addresses, unless `arp_ignore` says otherwise.

use rustix::fs::{Mode, OFlags};
use rustix::process::{getrlimit, Resource};
use std::os::fd::{AsRawFd, OwnedFd};

/// The kernel lets go of a dead process's files from the highest number down, and the device shall go first. (Seen on
/// Linux 6.18: with the highest number nothing comes from the address any more; with a low one clients get the end of
/// their connection, and a refusal.) Larger numbers than this would make the table of files large.
const HIGHEST_FD: u64 = 65_535;

pub(super) struct OwnDevice {
    pub(super) name: String,
    /// The device goes with it.
    _file: OwnedFd,
}

impl OwnDevice {
    /// Makes the device; the kernel picks its number. It is not up yet. Needs /dev/net/tun and CAP_NET_ADMIN.
    pub(super) fn make() -> std::io::Result<OwnDevice> {
        let file = rustix::fs::open("/dev/net/tun", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        // SAFETY: all-zero bytes are a valid `ifreq`, a C struct of numbers and arrays.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(b"trivet%d") {
            *to = *from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: the descriptor is open and the request lives through the call, which writes the name into it.
        if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &mut request) } < 0 {
            return Err(std::io::Error::last_os_error());
        }
        let name = request.ifr_name.iter().take_while(|c| **c != 0).map(|c| *c as u8 as char).collect();
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(HIGHEST_FD).min(HIGHEST_FD);
        let highest = rustix::io::fcntl_dupfd_cloexec(&file, limit.saturating_sub(1) as i32);
        Ok(OwnDevice { name, _file: highest.unwrap_or(file) })
    }
}

/// Whether this host answers ARP on that interface for addresses of its other ones.
pub(super) fn answers_for_others(interface: &str) -> bool {
    let set = |name: &str| {
        let path = format!("/proc/sys/net/ipv4/conf/{name}/arp_ignore");
        std::fs::read_to_string(path).is_ok_and(|s| s.trim() != "0")
    };
    !set("all") && !set(interface)
}
