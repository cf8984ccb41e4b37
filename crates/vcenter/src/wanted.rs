//! Which datastores a cluster's hosts shall have: declared, confirmed by a person, or seen on a strict majority.
//!
//! A learned datastore raises alerts and makes plans; the agent writes nothing before a person confirms it. A confirmed
//! one stays wanted when hosts lose it.

use crate::config::{Config, Wanted, WANTED_MAX};
use crate::observed::Observed;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a datastore became wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// In the configuration.
    Declared,
    /// Learned, then confirmed by a person.
    Confirmed,
    /// A strict majority of the hosts has it; nobody confirmed it.
    Learned,
}

/// The wanted datastores in a fixed order: declared ones first.
pub fn wanted(config: &Config, confirmed: &[Wanted], observed: &Observed) -> Vec<(Wanted, Origin)> {
    let mut out: Vec<(Wanted, Origin)> = config.wanted.iter().map(|w| (w.clone(), Origin::Declared)).collect();
    let mut add = |w: Wanted, origin| {
        let clash = out.iter().any(|(o, _)| o.name == w.name || o.identity().same_strings(&w.identity()));
        if !clash && out.len() < WANTED_MAX {
            out.push((w, origin));
        }
    };
    confirmed.iter().cloned().for_each(|w| add(w, Origin::Confirmed));
    if config.learn {
        learned(observed).into_iter().for_each(|w| add(w, Origin::Learned));
    }
    out
}

/// The datastores that more than half of all hosts have by the same name, strings, version and access mode.
fn learned(observed: &Observed) -> Vec<Wanted> {
    let mut counts: BTreeMap<Wanted, usize> = BTreeMap::new();
    for (host_ref, host) in &observed.hosts {
        for ds in host.datastores.iter().filter_map(|r| observed.datastores.get(r)) {
            let (Some(identity), Some(mount)) = (&ds.identity, ds.mounts.get(host_ref)) else { continue };
            let w = Wanted {
                name: ds.name.clone(),
                server: identity.server.clone(),
                path: identity.path.clone(),
                version: identity.version,
                access: mount.access,
            };
            *counts.entry(w).or_default() += 1;
        }
    }
    let hosts = observed.hosts.len();
    counts.into_iter().filter(|(_, count)| count * 2 > hosts && hosts > 1).map(|(w, _)| w).collect()
}
