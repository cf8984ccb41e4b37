//! The agent's configuration: mode, wanted datastores, thresholds and opt-ins.

use crate::observed::{AccessMode, Identity, NfsVersion};
use serde::{Deserialize, Serialize};

/// How far the agent may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Look and explain; nothing is ever written.
    #[default]
    Watch,
    /// Each step waits for a person's confirmation of its plan.
    Propose,
    /// Steps whose gates are all open are carried out.
    Repair,
}

/// A datastore that every host of the cluster shall have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Name of the datastore in vCenter.
    pub name: String,
    /// Server string, compared byte by byte.
    pub server: String,
    /// Path of the export, compared byte by byte; begins with a slash and does not end with one.
    pub path: String,
    /// NFS version; 3 where it is left out.
    #[serde(default = "v3")]
    pub version: NfsVersion,
    /// Access mode; read-write where it is left out.
    #[serde(default = "read_write")]
    pub access: AccessMode,
}

fn v3() -> NfsVersion {
    NfsVersion::V3
}
fn read_write() -> AccessMode {
    AccessMode::ReadWrite
}

impl Wanted {
    /// The strings and the version, without the name.
    pub fn identity(&self) -> Identity {
        Identity { server: self.server.clone(), path: self.path.clone(), version: self.version }
    }
}

/// The agent's configuration, as the driver makes it of the section `[vcenter]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How far the agent may go.
    pub mode: Mode,
    /// The agent's own user at vCenter: its own removals and tasks are no person's.
    pub user: String,
    /// Declared datastores, at most [`WANTED_MAX`].
    pub wanted: Vec<Wanted>,
    /// When `wanted` was declared: a person's removal before it is settled.
    pub declared_wall_ms: i64,
    /// Learn wanted datastores from a strict majority of the hosts.
    pub learn: bool,
    /// A fault lasts this long before its alert is raised.
    pub alert_after_ms: u64,
    /// A fault lasts this long before the first step.
    pub repair_after_ms: u64,
    /// Nothing is done for this long after a failover of the storage.
    pub failover_hold_ms: u64,
    /// Steps in an hour, on all hosts together; at most [`REPAIRS_PER_HOUR_MAX`].
    pub repairs_per_hour: u32,
    /// The driver can close a host's NFS connections to our gateways.
    pub can_reset_clients: bool,
    /// Rung 3: `ReconfigureHostForDAS_Task`.
    pub allow_ha_reconfigure: bool,
    /// Rung 4: disconnect and reconnect the host.
    pub allow_host_reconnect: bool,
}

/// Bounds of the thresholds that a person may set, in milliseconds.
pub const ALERT_AFTER_MS: std::ops::RangeInclusive<u64> = 1_000..=600_000;
/// Bounds of the time that a fault lasts before the first step, in milliseconds.
pub const REPAIR_AFTER_MS: std::ops::RangeInclusive<u64> = 5_000..=86_400_000;
/// A takeover ends within 5 s; the hold-down is at least twice that.
pub const FAILOVER_HOLD_MS: std::ops::RangeInclusive<u64> = 10_000..=3_600_000;
/// Greatest permitted number of repairs an hour; more would be a fault of their own.
pub const REPAIRS_PER_HOUR_MAX: u32 = 60;
/// Datastores that may be wanted, declared and learned together: ESXi mounts at most 256 NFS volumes.
pub const WANTED_MAX: usize = 256;

impl Default for Config {
    fn default() -> Self {
        Config {
            mode: Mode::Watch,
            user: String::new(),
            wanted: Vec::new(),
            declared_wall_ms: 0,
            learn: true,
            alert_after_ms: 30_000,
            repair_after_ms: 60_000,
            failover_hold_ms: 60_000,
            repairs_per_hour: 4,
            can_reset_clients: false,
            allow_ha_reconfigure: false,
            allow_host_reconnect: false,
        }
    }
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A path is not in the form that vSphere keeps.
    #[error("vcenter: datastore {name}: path {path:?} must begin with / and not end with it; {canonical:?} is meant")]
    Path {
        /// The datastore.
        name: String,
        /// The path, as it was written.
        path: String,
        /// The path that is meant.
        canonical: String,
    },
    /// A datastore is declared in part.
    #[error("vcenter: a wanted datastore lacks its {field}; write name, server and path")]
    Empty {
        /// The field that is empty.
        field: &'static str,
    },
    /// Two declarations contradict each other.
    #[error("vcenter: {what} is declared twice; hosts would mount one of the two and miss the other")]
    Twice {
        /// The name or the identity that both declarations have.
        what: String,
    },
    /// A threshold is out of its bounds.
    #[error("vcenter: {field} = {value} is outside {min} to {max}")]
    Range {
        /// Its name.
        field: &'static str,
        /// Its value.
        value: u64,
        /// The least that is allowed.
        min: u64,
        /// The most that is allowed.
        max: u64,
    },
    /// More datastores than [`WANTED_MAX`].
    #[error("vcenter: {count} datastores are declared; a host mounts at most {WANTED_MAX}")]
    TooMany {
        /// How many are declared.
        count: usize,
    },
}

impl Config {
    /// Checks everything that a person may have written wrongly.
    ///
    /// # Errors
    /// A threshold is out of its bounds, or a wanted datastore could not be one datastore on all hosts.
    pub fn check(&self) -> Result<(), ConfigError> {
        let range = |field, value: u64, r: &std::ops::RangeInclusive<u64>| {
            let (min, max) = (*r.start(), *r.end());
            if r.contains(&value) {
                Ok(())
            } else {
                Err(ConfigError::Range { field, value, min, max })
            }
        };
        range("alert_after_ms", self.alert_after_ms, &ALERT_AFTER_MS)?;
        range("repair_after_ms", self.repair_after_ms, &REPAIR_AFTER_MS)?;
        range("failover_hold_ms", self.failover_hold_ms, &FAILOVER_HOLD_MS)?;
        range("repairs_per_hour", u64::from(self.repairs_per_hour), &(0..=u64::from(REPAIRS_PER_HOUR_MAX)))?;
        if self.wanted.len() > WANTED_MAX {
            return Err(ConfigError::TooMany { count: self.wanted.len() });
        }
        for (i, w) in self.wanted.iter().enumerate() {
            for (field, value) in [("name", &w.name), ("server", &w.server), ("path", &w.path)] {
                if value.is_empty() {
                    return Err(ConfigError::Empty { field });
                }
            }
            let canonical = format!("/{}", w.path.trim_matches('/'));
            if w.path != canonical {
                return Err(ConfigError::Path { name: w.name.clone(), path: w.path.clone(), canonical });
            }
            let twice = |other: &&Wanted| other.name == w.name || other.identity().same_strings(&w.identity());
            if self.wanted[..i].iter().any(|other| twice(&other)) {
                return Err(ConfigError::Twice { what: format!("{} ({})", w.name, w.identity()) });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(name: &str, path: &str) -> Wanted {
        Wanted {
            name: name.into(),
            server: "10.0.0.9".into(),
            path: path.into(),
            version: NfsVersion::V3,
            access: AccessMode::ReadWrite,
        }
    }

    #[test]
    fn what_could_not_be_one_datastore_is_refused() {
        let with = |wanted| Config { wanted, ..Config::default() }.check();
        assert_eq!(with(vec![wanted("ds1", "/ds1"), wanted("ds2", "/ds2")]), Ok(()));
        for path in ["ds1", "/ds1/", "//ds1"] {
            assert!(matches!(with(vec![wanted("ds1", path)]), Err(ConfigError::Path { .. })), "{path}");
        }
        assert!(matches!(with(vec![wanted("a", "/x"), wanted("b", "/x")]), Err(ConfigError::Twice { .. })));
        assert!(matches!(with(vec![wanted("a", "/x"), wanted("a", "/y")]), Err(ConfigError::Twice { .. })));
        assert!(matches!(with(vec![wanted("", "/x")]), Err(ConfigError::Empty { field: "name" })));
        let hasty = Config { failover_hold_ms: 9_999, ..Config::default() };
        assert!(hasty.check().unwrap_err().to_string().contains("failover_hold_ms = 9999 is outside 10000 to"));
    }
}
