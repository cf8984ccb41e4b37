//! Where a host's route should lead, by what the LEADER has seen of the nodes.

use super::{Host, NodeState, Phase, Routes, AWAY_AFTER_MS, BACK_AFTER_MS};
use crate::now::Now;
use std::collections::BTreeSet;
use std::net::IpAddr;

impl Routes {
    pub(super) fn is_well(&self, node: u32) -> bool {
        matches!(self.seen.get(&node), Some(NodeState::Well { .. }))
    }

    /// For how long a node has been silent.
    fn silent_ms(&self, now: Now, node: u32) -> Option<u64> {
        match self.seen.get(&node) {
            Some(NodeState::Silent { since_ms }) => Some(now.mono_ms.saturating_sub(*since_ms)),
            _ => None,
        }
    }

    pub(super) fn node_at(&self, via: IpAddr) -> Option<u32> {
        self.nodes.iter().find(|(_, a)| **a == via).map(|(n, _)| *n)
    }

    /// Most nodes look silent: it may be this one that hears nothing.
    fn most_are_silent(&self) -> bool {
        let silent = self.nodes.keys().filter(|n| !self.is_well(**n)).count();
        silent * 2 > self.nodes.len()
    }

    /// Where a host's route should lead now, if that differs from what it has; with the reason.
    pub(super) fn wanted(&self, now: Now, host: &Host) -> Option<(Option<IpAddr>, Why)> {
        if !self.quorum || self.most_are_silent() {
            return None;
        }
        let nothing = BTreeSet::new();
        let gateways = host.gateways.as_ref().unwrap_or(&nothing);
        let at: BTreeSet<u32> = gateways.iter().filter_map(|via| self.node_at(*via)).collect();
        let own = host.own.node;
        let given_up = |node: u32| self.silent_ms(now, node).is_some_and(|ms| ms >= AWAY_AFTER_MS);
        match self.seen.get(&own)? {
            NodeState::Well { since_ms } => {
                let long = now.mono_ms.saturating_sub(*since_ms) >= BACK_AFTER_MS;
                let back = !at.is_empty() && (long || at.contains(&own) || at.iter().any(|node| given_up(*node)));
                back.then_some((None, Why::OwnIsWell { node: own }))
            }
            // Nothing is added to a person's route.
            NodeState::Silent { .. } if at.len() < gateways.len() => None,
            NodeState::Silent { .. } if given_up(own) => {
                let mut good = at.iter().filter(|node| **node != own && !given_up(**node));
                let stays = good.next().copied();
                if stays.is_some() && at.len() == 1 {
                    return None;
                }
                // A second route goes; the host stays where it is led, if that is well.
                let stays = stays.filter(|node| self.is_well(*node)).map(|node| self.nodes[&node]);
                let others = self.nodes.iter().filter(|(n, _)| self.is_well(**n)).map(|(_, via)| *via);
                let via = stays.or_else(|| others.min_by_key(|via| self.led(*via)))?;
                Some((Some(via), Why::OwnIsDown { node: own }))
            }
            NodeState::Silent { .. } => None,
        }
    }

    /// Hosts that are led to a node beside its own.
    fn led(&self, via: IpAddr) -> usize {
        let leads = |h: &&Host| match h.phase {
            Phase::Announcing { to, .. } => to == Some(via),
            _ => h.gateways.as_ref().is_some_and(|all| all.contains(&via)),
        };
        self.hosts.iter().filter(leads).count()
    }
}

/// Why a route is moved.
pub(super) enum Why {
    OwnIsDown { node: u32 },
    OwnIsWell { node: u32 },
}

impl Why {
    pub(super) fn en(&self) -> String {
        match self {
            Why::OwnIsDown { node } => {
                format!("node {node}, the host's own, has been silent for {} s", AWAY_AFTER_MS / 1_000)
            }
            Why::OwnIsWell { node } => format!("node {node}, the host's own, serves it"),
        }
    }
}
