//! The steps that the agent can take, and how each is paced.

use crate::config::Wanted;
use crate::observed::HostRef;
use serde::{Deserialize, Serialize};

/// A step that changes something. There is none that unmounts, destroys or sets an option.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum Action {
    /// Rung 1, for a datastore of ours: the gateway closes this host's NFS connections; the host reconnects.
    ResetClient {
        /// The host.
        host: HostRef,
        /// The datastore's server, as the host mounted it.
        server: String,
    },
    /// Rung 1: `RefreshStorageSystem`; vCenter reads the host's mounts again.
    Refresh {
        /// The host.
        host: HostRef,
    },
    /// Rung 2: `CreateNasDatastore` with the strings of the healthy peers.
    Mount {
        /// The host.
        host: HostRef,
        /// The datastore to mount.
        wanted: Wanted,
    },
    /// Rung 3: `ReconfigureHostForDAS_Task`.
    ReconfigureHa {
        /// The host.
        host: HostRef,
    },
    /// Rung 4: `DisconnectHost_Task`, then `ReconnectHost_Task`.
    Reconnect {
        /// The host.
        host: HostRef,
    },
}

/// The kind of a step; a higher rung disturbs the host more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rung {
    /// Rung 1, for a datastore of ours.
    ResetClient,
    /// Rung 1, for any datastore.
    Refresh,
    /// Rung 2.
    Mount,
    /// Rung 3, if `allow_ha_reconfigure` is set.
    ReconfigureHa,
    /// Rung 4, if `allow_host_reconnect` is set.
    Reconnect,
}

impl Action {
    /// The kind of this step.
    pub fn rung(&self) -> Rung {
        match self {
            Action::ResetClient { .. } => Rung::ResetClient,
            Action::Refresh { .. } => Rung::Refresh,
            Action::Mount { .. } => Rung::Mount,
            Action::ReconfigureHa { .. } => Rung::ReconfigureHa,
            Action::Reconnect { .. } => Rung::Reconnect,
        }
    }
    /// The host that the step is taken on.
    pub fn host(&self) -> &HostRef {
        match self {
            Action::ResetClient { host, .. }
            | Action::Refresh { host }
            | Action::Mount { host, .. }
            | Action::ReconfigureHa { host }
            | Action::Reconnect { host } => host,
        }
    }
}

impl Rung {
    /// A rung is not taken again on the same host within this; after failures it doubles.
    pub fn cool_down_ms(self) -> i64 {
        match self {
            Rung::ResetClient | Rung::Refresh => 120_000,
            Rung::Mount => 300_000,
            Rung::ReconfigureHa => 1_800_000,
            Rung::Reconnect => 21_600_000,
        }
    }
    /// How long after a step its effect may take to show.
    pub fn proof_limit_ms(self) -> u64 {
        match self {
            Rung::ResetClient | Rung::Refresh => 30_000,
            Rung::Mount => 60_000,
            Rung::ReconfigureHa => 180_000,
            Rung::Reconnect => 300_000,
        }
    }
}
