//! The state of one wanted datastore on one host.

use crate::config::Wanted;
use crate::observed::{AccessMode, Connection, Datastore, DatastoreRef, Host, HostRef, Identity, NfsVersion, Observed};
use crate::observed::{Mount, Power};
use serde::{Deserialize, Serialize};

/// The state; the driver and the console show it in capitals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING-KEBAB-CASE", tag = "state")]
pub enum State {
    /// Mounted with the wanted identity, name and access, and accessible.
    Ok,
    /// Neither vCenter nor the host's own table has it.
    Missing,
    /// In the list and not usable: all paths down, or not mounted.
    Inaccessible {
        /// The reason that vCenter gives.
        reason: String,
    },
    /// Permanent device loss.
    Pdl,
    /// The host has something that looks like it and is another datastore.
    WrongIdentity {
        /// Name of that datastore.
        name: String,
        /// Its server.
        server: String,
        /// Its path.
        path: String,
        /// How it resembles the wanted one.
        likeness: Likeness,
    },
    /// The same strings by another protocol version: their locks do not exclude each other.
    WrongVersion {
        /// The version that the host uses.
        seen: NfsVersion,
    },
    /// The right identity under another name.
    Renamed {
        /// The name that it has.
        seen: String,
    },
    /// Mounted read-only where read-write is wanted.
    Readonly,
    /// vCenter and the host's own mount table differ.
    StaleView {
        /// The view that lacks it.
        side: StaleSide,
    },
    /// vCenter's view of the host is not current.
    Unknown {
        /// The reason.
        why: NotCurrent,
    },
}

/// The view that lacks a datastore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StaleSide {
    /// The host has mounted it, vCenter does not show it.
    VcenterLacks,
    /// vCenter shows it, the host's own table lacks it.
    HostLacks,
}

/// Why vCenter's view of a host is not current, or does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotCurrent {
    /// vCenter has no connection to it.
    NotConnected,
    /// The host is off, in stand-by, or vCenter does not say.
    NotPoweredOn,
    /// The host is in maintenance mode.
    Maintenance,
}

/// How a wrong identity resembles the wanted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Likeness {
    /// The paths differ in slashes only.
    Slashes,
    /// The servers differ in case, or one is the other's full name.
    ServerSpelling,
    /// The same path by another server string: FQDN, IP, or another IP of one array.
    OtherServer,
    /// The same name, and nothing else.
    NameOnly,
}

impl State {
    /// The host does not use the wanted datastore, or may not: a step on another host waits while most are so.
    pub fn misses(&self) -> bool {
        self.is_down() || matches!(self, State::WrongIdentity { .. } | State::WrongVersion { .. })
    }
    /// Whether the state is how an outage of the storage looks on a host.
    pub fn is_down(&self) -> bool {
        match self {
            State::Missing | State::Inaccessible { .. } | State::Pdl | State::StaleView { .. } => true,
            State::Unknown { why } => *why == NotCurrent::NotConnected,
            State::Ok
            | State::WrongIdentity { .. }
            | State::WrongVersion { .. }
            | State::Renamed { .. }
            | State::Readonly => false,
        }
    }
    /// Whether something is wrong: neither well nor unknown.
    pub fn is_fault(&self) -> bool {
        !matches!(self, State::Ok | State::Unknown { .. })
    }
}

/// The state of `wanted` on a host, by vCenter's view of the host and the host's own mount table.
pub fn state_of(observed: &Observed, host_ref: &HostRef, host: &Host, wanted: &Wanted) -> State {
    if let Some(why) = not_current(host) {
        return State::Unknown { why };
    }
    let identity = wanted.identity();
    let on_host = || host.datastores.iter().filter_map(|r| Some((r, observed.datastores.get(r)?)));
    let has = |i: &Identity| i.same_strings(&identity);
    let own_table_has = host.volumes.as_ref().map(|v| v.iter().any(|v| has(&v.identity)));
    if let Some((ds_ref, ds)) = on_host().find(|(_, d)| d.identity.as_ref().is_some_and(has)) {
        if own_table_has == Some(false) {
            return State::StaleView { side: StaleSide::HostLacks };
        }
        return mounted_state(observed, host_ref, wanted, ds_ref, ds);
    }
    if let Some(volume) = host.volumes.iter().flatten().find(|v| has(&v.identity)) {
        return if volume.identity.version == wanted.version {
            State::StaleView { side: StaleSide::VcenterLacks }
        } else {
            State::WrongVersion { seen: volume.identity.version }
        };
    }
    let seen_by_vcenter = on_host().map(|(_, d)| (d.name.as_str(), d.identity.as_ref()));
    let seen_by_host = host.volumes.iter().flatten().map(|v| (v.name.as_str(), Some(&v.identity)));
    for (name, seen) in seen_by_vcenter.chain(seen_by_host) {
        if let Some(likeness) = likeness(wanted, name, seen) {
            let (server, path) = seen.map(|i| (i.server.clone(), i.path.clone())).unwrap_or_default();
            return State::WrongIdentity { name: name.into(), server, path, likeness };
        }
    }
    State::Missing
}

fn not_current(host: &Host) -> Option<NotCurrent> {
    if host.connection != Connection::Connected {
        Some(NotCurrent::NotConnected)
    } else if host.power != Power::On {
        Some(NotCurrent::NotPoweredOn)
    } else if host.maintenance {
        Some(NotCurrent::Maintenance)
    } else {
        None
    }
}

fn mounted_state(o: &Observed, host: &HostRef, wanted: &Wanted, ds_ref: &DatastoreRef, ds: &Datastore) -> State {
    let seen = ds.identity.as_ref().map_or(wanted.version, |i| i.version);
    if seen != wanted.version {
        return State::WrongVersion { seen };
    }
    // Two objects with the same strings: this host has the one that most others do not.
    let mounts = |d: &Datastore| d.mounts.len();
    let stronger = o.with_strings(&wanted.identity()).any(|(r, d)| r != ds_ref && mounts(d) > mounts(ds));
    if stronger {
        return State::WrongIdentity {
            name: ds.name.clone(),
            server: wanted.server.clone(),
            path: wanted.path.clone(),
            likeness: Likeness::NameOnly,
        };
    }
    // A datastore in the host's list without details of its mount: there is no sign of a fault.
    let Some(mount) = ds.mounts.get(host) else { return named_state(wanted, ds) };
    if !mount.mounted || !mount.accessible {
        return inaccessible(mount);
    }
    if mount.access == AccessMode::ReadOnly && wanted.access == AccessMode::ReadWrite {
        return State::Readonly;
    }
    named_state(wanted, ds)
}

fn named_state(wanted: &Wanted, ds: &Datastore) -> State {
    if ds.name == wanted.name {
        State::Ok
    } else {
        State::Renamed { seen: ds.name.clone() }
    }
}

fn inaccessible(mount: &Mount) -> State {
    match &mount.inaccessible_reason {
        Some(r) if r == "PermanentDeviceLoss" => State::Pdl,
        reason => {
            let not_mounted = (!mount.mounted).then(|| "not mounted".to_string());
            let reason = mount.mount_failed_reason.clone().or(reason.clone()).or(not_mounted);
            State::Inaccessible { reason: reason.unwrap_or_else(|| "no reason given".into()) }
        }
    }
}

/// Whether what a host has may be mistaken for the wanted datastore.
pub fn likeness(wanted: &Wanted, name: &str, seen: Option<&Identity>) -> Option<Likeness> {
    if let Some(seen) = seen {
        let path = |p: &str| p.split('/').filter(|s| !s.is_empty()).collect::<Vec<_>>().join("/");
        let same_path = path(&seen.path) == path(&wanted.path);
        if same_path && seen.server == wanted.server {
            return Some(Likeness::Slashes);
        }
        if same_path && same_server_spelled_otherwise(&seen.server, &wanted.server) {
            return Some(Likeness::ServerSpelling);
        }
        if same_path && clash_name(name, &wanted.name) {
            return Some(Likeness::OtherServer);
        }
    }
    clash_name(name, &wanted.name).then_some(Likeness::NameOnly)
}

/// `ds1`, or `ds1 (2)` as vCenter calls the second of a name.
pub fn clash_name(seen: &str, wanted: &str) -> bool {
    let Some(rest) = seen.strip_prefix(wanted) else { return false };
    let number = rest.strip_prefix(" (").and_then(|r| r.strip_suffix(')'));
    rest.is_empty() || number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

fn same_server_spelled_otherwise(a: &str, b: &str) -> bool {
    let (a, b) = (a.to_ascii_lowercase(), b.to_ascii_lowercase());
    let (a, b) = (a.trim_end_matches('.'), b.trim_end_matches('.'));
    let is_address = |s: &str| s.parse::<std::net::IpAddr>().is_ok();
    let full_name_of = |full: &str, short: &str| {
        !is_address(full) && full.strip_prefix(short).is_some_and(|rest| rest.starts_with('.'))
    };
    a == b || full_name_of(a, b) || full_name_of(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Wanted {
        Wanted {
            name: "ds1".into(),
            server: "filer".into(),
            path: "/ds1".into(),
            version: NfsVersion::V3,
            access: AccessMode::ReadWrite,
        }
    }

    fn seen(server: &str, path: &str) -> Identity {
        Identity { server: server.into(), path: path.into(), version: NfsVersion::V3 }
    }

    #[test]
    fn what_looks_like_the_wanted_datastore_is_told_by_how() {
        let like = |name, server, path| likeness(&wanted(), name, Some(&seen(server, path)));
        assert_eq!(like("x", "filer", "/ds1/"), Some(Likeness::Slashes));
        assert_eq!(like("x", "filer", "ds1"), Some(Likeness::Slashes));
        assert_eq!(like("x", "filer.example.org", "/ds1"), Some(Likeness::ServerSpelling));
        assert_eq!(like("x", "FILER", "/ds1"), Some(Likeness::ServerSpelling));
        assert_eq!(like("ds1 (1)", "10.0.0.9", "/ds1"), Some(Likeness::OtherServer));
        assert_eq!(like("ds1", "10.0.0.9", "/other"), Some(Likeness::NameOnly));
        // Another array's export of the same path is another datastore, and nothing to complain about.
        assert_eq!(like("x", "10.0.0.9", "/ds1"), None);
        assert_eq!(like("ds10", "filer2", "/ds10"), None);
        assert_eq!(like("ds1 (a)", "filer2", "/q"), None);
    }
}
