//! From the statuses of all nodes, as far as they are known, to one view of the cluster.

use super::space::SpaceHistory;
use super::{ContentsStatus, NodeStatus};
use crate::config::{NodeConfig, Role};
use std::collections::{BTreeMap, BTreeSet};
use trivet_observe::view::*;
use trivet_storage::messages::reserve_bytes;

/// Milliseconds after which a status says nothing about roles, links and addresses any more.
const FRESH_MS: u64 = 3_000;
/// The copies on a node that is silent for longer do not count as living.
const LIVING_MS: u64 = 3_000;
/// NFS clients that are remembered; beyond it the one that left first is forgotten.
const CLIENTS_MAX: usize = 1_000;
/// A process that ended itself because of its disk is news for this long.
const STOP_TOLD_MS: i64 = 600_000;
/// A client that is gone for longer is not expected back.
const CLIENT_FORGOTTEN_MS: i64 = 3_600_000;

/// A process of a node, as last heard.
#[derive(Debug, Clone)]
pub struct Known {
    /// Its last status.
    pub status: NodeStatus,
    /// Age of that status in milliseconds.
    pub age_ms: u64,
    /// How far the process's clock is ahead of the asking one, and the error of that, in milliseconds.
    pub clock: Option<(f64, f64)>,
}

/// The view at one moment; what happened between two moments only a [`ViewBuilder`] can tell.
pub fn cluster_view(config: &NodeConfig, observer: u32, known: &[Known], never: &BTreeMap<u32, u64>) -> ClusterView {
    let mut view = ClusterView { observer, ..Default::default() };
    let processes = |n: u32| known.iter().filter(move |k| k.status.node == n);
    for n in config.numbers() {
        view.nodes.insert(n, node_view(n, &processes(n).collect::<Vec<_>>(), known, never));
    }
    let fresh: Vec<&NodeStatus> = known.iter().filter(|k| k.age_ms < FRESH_MS).map(|k| &k.status).collect();
    if config.coordination.is_none() {
        view.coordination = Some(coordination(config, &fresh));
    }
    view.metad = metad(&fresh);
    // The receiving end knows best.
    let incoming = known.iter().filter(|k| k.age_ms < FRESH_MS).flat_map(|k| {
        let links = k.status.coordination.iter().flat_map(|c| &c.links);
        links.filter(|l| l.to == i64::from(k.status.node)).map(|l| (l, k.age_ms))
    });
    view.links = incoming
        .filter(|(l, _)| {
            view.nodes.get(&(l.from as u32)).is_some_and(|n| n.silent_ms < FRESH_MS || l.silence_ms < FRESH_MS)
        })
        .map(|(l, age_ms)| LinkView {
            from: l.from as u32,
            to: l.to as u32,
            loss_percent: f64::from(l.loss_percent),
            silence_ms: l.silence_ms,
            round_trip_ms: l.round_trip_ms.map(|ms| ms as f64),
            age_ms,
        })
        .collect();
    addresses(&mut view, &fresh);
    // The agent works on one node; while another one takes over, two may think so.
    let agents = fresh.iter().filter_map(|s| s.vcenter.as_ref());
    view.vcenter = agents.min_by_key(|v| v.read_ms_ago).map(super::VcenterStatus::view);
    let newest = known.iter().filter_map(|k| k.status.contents.as_ref()).max_by_key(|c| c.applied);
    if let Some(c) = newest {
        copies(&mut view, c, known, &fresh);
    }
    view
}

fn node_view(n: u32, own: &[&Known], all: &[Known], never: &BTreeMap<u32, u64>) -> NodeView {
    let Some(latest) = own.iter().min_by_key(|k| k.age_ms) else {
        let silent_ms = never.get(&n).copied().unwrap_or(u64::MAX / 2);
        // Another node may hear this one.
        let elsewhere = heard_elsewhere(n, all);
        return NodeView { silent_ms: silent_ms.min(elsewhere), ..Default::default() };
    };
    let s = &latest.status;
    let silent_ms = if latest.age_ms < FRESH_MS { 0 } else { latest.age_ms.min(heard_elsewhere(n, all)) };
    // A new cluster has no datastore that a gateway could serve.
    let follows = |m: &super::MetadPart| m.trouble.is_empty() && m.entries > 0;
    let empty = own.iter().any(|k| k.status.metad.as_ref().is_some_and(follows) && k.status.datastores.is_empty());
    let counts = |r: &&str| !(r.is_empty() || empty && *r == super::NO_DATASTORE);
    let not_ready: Vec<&str> = own.iter().map(|k| k.status.not_ready.as_str()).filter(counts).collect();
    let metad = own.iter().find_map(|k| k.status.metad.as_ref());
    NodeView {
        name: String::new(),
        silent_ms,
        last_event: s.events.last().map(|e| format!("{} ({})", e.what, e.why)).unwrap_or_default(),
        version: Some(s.version.clone()),
        not_ready: Some(not_ready.join("; ")),
        clock_offset_ms: latest.clock,
        disks: s
            .disks
            .iter()
            .map(|d| DiskView {
                path: d.path.clone(),
                total_bytes: d.total_bytes,
                free_bytes: d.free_bytes,
                data_bytes: d.data_bytes,
                days_left: None,
                sync_p99_ms: d.sync_p99_ms.into_iter().chain(d.sync_ms).reduce(f64::max),
            })
            .collect(),
        nfs: own.iter().flat_map(|k| &k.status.nfs).map(nfs_view).collect(),
        outstanding: own.iter().map(|k| k.status.limits.outstanding).reduce(fuller),
        connections: own.iter().map(|k| k.status.limits.connections).reduce(fuller),
        descriptors: own.iter().map(|k| k.status.limits.descriptors).reduce(fuller),
        certificate_days_left: own.iter().filter_map(|k| k.status.certificate_days_left).reduce(f64::min),
        bad_blocks: own.iter().map(|k| k.status.bad_blocks as u64).sum(),
        metad: metad.map(|m| NodeMetadView {
            leading: m.leading,
            leader: (m.leader != 0).then_some(m.leader),
            leader_silent_ms: if m.leading { 0 } else { m.leader_silent_ms },
            applied: m.entries,
            trouble: m.trouble.clone(),
        }),
    }
}

/// The figures of the process that is nearer to its limit; a limit of 0 is none.
fn fuller(a: (u64, u64), b: (u64, u64)) -> (u64, u64) {
    let share = |(used, limit): (u64, u64)| if limit == 0 { 0.0 } else { used as f64 / limit as f64 };
    if share(b) > share(a) {
        b
    } else {
        a
    }
}

fn nfs_view(n: &crate::gateway::measured::NfsStatus) -> NfsView {
    NfsView {
        datastore: n.datastore.clone(),
        p99_ms: n.p99_ms.unwrap_or(0.0),
        oldest_ms: n.oldest_ms as f64,
        oldest: n.oldest.clone(),
    }
}

/// How long ago anybody else heard a node, by what is fresh.
fn heard_elsewhere(n: u32, all: &[Known]) -> u64 {
    let fresh = all.iter().filter(|k| k.age_ms < FRESH_MS && k.status.node != n);
    fresh.filter_map(|k| Some(k.status.heard.get(&n)? + k.age_ms)).min().unwrap_or(u64::MAX / 2)
}

fn coordination(config: &NodeConfig, fresh: &[&NodeStatus]) -> CoordinationView {
    let mut c = CoordinationView { voters: config.numbers().into_iter().collect(), ..Default::default() };
    let mut elections = Vec::new();
    for s in fresh {
        let Some(own) = &s.coordination else { continue };
        if own.serving {
            c.serving.insert(s.node);
            let leader = own.leader.map(|l| l as u32).or((own.role == "leader").then_some(s.node));
            if own.epoch >= c.epoch {
                c.epoch = own.epoch;
                c.leader = leader.or(c.leader);
            }
        } else {
            c.looking.insert(s.node);
            elections.push(format!("node {}: {}", s.node, own.report));
        }
    }
    // A follower serves only while its leader has a quorum: the leader serves although it does not answer here.
    if let Some(l) = c.leader {
        c.serving.insert(l);
        let led = fresh.iter().find(|s| s.node == l).and_then(|s| s.coordination.as_ref());
        c.serving.extend(led.into_iter().flat_map(|s| s.followers.iter().map(|f| *f as u32)));
        c.serving = c.serving.intersection(&c.voters).copied().collect();
    }
    c.election = elections.join("; ");
    c
}

fn metad(fresh: &[&NodeStatus]) -> Option<MetadView> {
    let parts: Vec<(u32, &super::MetadPart)> = fresh.iter().filter_map(|s| Some((s.node, s.metad.as_ref()?))).collect();
    if parts.is_empty() {
        return None;
    }
    let leading = parts.iter().filter(|(_, m)| m.leading).max_by_key(|(_, m)| m.epoch);
    let heard =
        parts.iter().filter(|(_, m)| m.leader != 0 && m.leader_silent_ms < FRESH_MS).max_by_key(|(_, m)| m.epoch);
    Some(MetadView {
        leader: leading.map(|(n, _)| *n).or(heard.map(|(_, m)| m.leader)),
        epoch: parts.iter().map(|(_, m)| m.epoch).max().unwrap_or(0),
        silent_ms: parts.iter().filter(|(_, m)| m.leader != 0).map(|(_, m)| m.leader_silent_ms).min(),
        entries: parts.iter().map(|(_, m)| m.entries).max().unwrap_or(0),
    })
}

fn addresses(view: &mut ClusterView, fresh: &[&NodeStatus]) {
    let newest = fresh.iter().filter(|s| s.metad.is_some()).max_by_key(|s| s.metad.as_ref().map_or(0, |m| m.entries));
    let Some(newest) = newest else { return };
    for a in &newest.addresses {
        let holder: Vec<_> = fresh.iter().filter(|s| s.node == a.node && s.roles.contains(&Role::Gateway)).collect();
        let served = holder.iter().flat_map(|s| &s.served).find(|s| s.address == a.address);
        let silent = view.nodes.get(&a.node).is_some_and(|n| n.silent_ms >= FRESH_MS);
        let (listening, error) = match served {
            Some(s) => (Some(s.listening), s.error.clone()),
            None if silent => (Some(false), "the node does not answer".into()),
            None if holder.is_empty() => (None, String::new()),
            None => (Some(false), "the node does not know yet that it has the address".into()),
        };
        let (address, node) = (a.address.clone(), a.node);
        let on_card = served.is_some_and(|s| s.on_card);
        view.addresses.push(AddressView { address, node, listening, error, on_card });
    }
}

fn copies(view: &mut ClusterView, c: &ContentsStatus, known: &[Known], fresh: &[&NodeStatus]) {
    // A node lives while a process of it with the chunk role answers.
    let living: BTreeSet<u32> = known
        .iter()
        .filter(|k| k.age_ms < LIVING_MS && k.status.roles.contains(&Role::Chunk))
        .map(|k| k.status.node)
        .collect();
    // Where nobody with data answers, nothing is known of copies.
    if living.is_empty() && !fresh.is_empty() && known.iter().all(|k| !k.status.roles.contains(&Role::Chunk)) {
        return;
    }
    let mut out = CopiesView { extents: c.extents, ..Default::default() };
    let mut named: Vec<(u64, &str)> = Vec::new();
    for g in &c.groups {
        let alive = g.nodes.iter().filter(|n| living.contains(n)).count() as u32;
        out.recovering += if g.joining.is_some() { g.extents } else { 0 };
        if alive >= g.wanted {
            continue;
        }
        out.missing += g.extents;
        let export = fresh.iter().flat_map(|n| &n.exports).find(|e| e.name == g.datastore);
        if export.is_some_and(|e| alive < e.minimum_copies) {
            out.writes_wait += g.extents;
        }
        let rank = match alive {
            0 => {
                out.none += g.extents;
                0
            }
            1 if g.wanted > 1 => {
                out.last += g.extents;
                1
            }
            _ => 2,
        };
        for n in g.nodes.iter().filter(|n| !living.contains(n)) {
            *out.by_node.entry(*n).or_default() += g.extents;
        }
        out.datastores.insert(g.datastore.clone());
        named.extend(g.files.iter().map(|f| (rank, f.as_str())));
    }
    named.sort_unstable();
    out.files = named.into_iter().take(10).map(|(_, f)| f.to_string()).collect();
    // Copies that became complete, and bytes of those under way: the sum changes with all that is copied.
    let complete: u64 = c.groups.iter().map(|g| g.nodes.len() as u64 * g.extents).sum();
    let under_way = fresh.iter().map(|s| s.resync_compared_bytes.wrapping_add(s.resync_sent_bytes));
    out.recovered_bytes = under_way.fold(complete, u64::wrapping_add);
    if out.missing > 0 && !could_take_a_copy(c, &living, fresh) {
        out.recovery_trouble = "no further node lives that has room for another copy".into();
    }
    view.copies = Some(out);
    let by_store = &c.by_datastore;
    view.datastores = by_store
        .iter()
        .map(|(name, (files, _))| DatastoreView {
            name: name.clone(),
            copies_wanted: c.groups.iter().find(|g| g.datastore == *name).map_or(0, |g| g.wanted),
            files: *files,
        })
        .collect();
}

/// Whether any extent that lacks a copy could have it on another node.
fn could_take_a_copy(c: &ContentsStatus, living: &BTreeSet<u32>, fresh: &[&NodeStatus]) -> bool {
    let has_room = |n: &u32| {
        let disks = fresh.iter().filter(|s| s.node == *n).flat_map(|s| &s.disks);
        // metad's own rule. A node whose disks are not known may have room.
        disks.clone().next().is_none() || disks.into_iter().any(|d| d.free_bytes > reserve_bytes(d.total_bytes))
    };
    let lacks = |g: &&super::PlacementGroup| (g.nodes.iter().filter(|n| living.contains(n)).count() as u32) < g.wanted;
    c.groups.iter().filter(lacks).any(|g| living.iter().any(|n| !g.nodes.contains(n) && has_room(n)))
}

/// Counts of a process that are compared with those of the moment before.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Counted {
    pid: u32,
    refused: u64,
    digest_mismatches: u64,
    bad_found: u64,
    events_lost: u64,
}

/// Builds one view after another and tells what happened between them.
#[derive(Debug, Default)]
pub struct ViewBuilder {
    last_ms: i64,
    led: Option<(u32, i64)>,
    /// Holder and version of each address.
    bound: BTreeMap<String, (u32, u64)>,
    /// By node and its roles.
    processes: BTreeMap<(u32, bool), Counted>,
    clients: BTreeMap<String, i64>,
    /// Claims counted so far, by node, address and foreign device.
    duplicates: BTreeMap<(u32, String, String), u64>,
    space: SpaceHistory,
}

impl ViewBuilder {
    /// The view at `now`, with the occurrences since the view before.
    pub fn build(
        &mut self,
        now_ms: i64,
        config: &NodeConfig,
        observer: u32,
        known: &[Known],
        never: &BTreeMap<u32, u64>,
    ) -> ClusterView {
        let mut view = cluster_view(config, observer, known, never);
        let mut happened = Vec::new();
        let mut add = |what, detail: String| happened.push(Occurrence { at_ms: now_ms, what, detail });
        if let Some((node, epoch)) = view.coordination.as_ref().and_then(|c| Some((c.leader?, c.epoch))) {
            if self.led.is_some_and(|l| l.1 < epoch) {
                add(Happened::Led { node, epoch }, format!("node {node} leads epoch {epoch}"));
            }
            self.led = Some((node, epoch));
        }
        let fresh = || known.iter().filter(|k| k.age_ms < FRESH_MS).map(|k| &k.status);
        for a in fresh().flat_map(|s| &s.addresses) {
            let before = self.bound.entry(a.address.clone()).or_insert((a.node, a.version));
            if a.version > before.1 {
                if a.node != before.0 && a.node != 0 {
                    let detail = format!("from node {} to node {}", before.0, a.node);
                    add(Happened::AddressMoved { address: a.address.clone(), to: a.node }, detail);
                }
                *before = (a.node, a.version);
            }
        }
        for s in fresh() {
            let c = s.coordination.as_ref();
            let now = Counted {
                pid: s.pid,
                refused: c.map_or(0, |c| c.refused),
                digest_mismatches: c.map_or(0, |c| c.digest_mismatches),
                bad_found: s.bad_found,
                events_lost: s.events_lost,
            };
            let disk = || s.disks.first().map_or(String::new(), |d| d.path.clone());
            let node = s.node;
            let before = self.processes.insert((node, s.roles.contains(&Role::Gateway)), now);
            let stop = s.last_stop.as_ref().filter(|l| now_ms - l.at_ms < STOP_TOLD_MS);
            if let Some(stop) = stop.filter(|_| before.is_none_or(|b| b.pid != now.pid)) {
                add(Happened::IoError { node, path: disk() }, format!("{}: {}", stop.path, stop.why));
            }
            if let Some(before) = before {
                if before.pid != now.pid {
                    add(Happened::Started { node }, format!("process {} of node {node} started", now.pid));
                } else {
                    // A flood of refusals is told by some of them.
                    for _ in 0..now.refused.saturating_sub(before.refused).min(20) {
                        let peer = format!("at node {node}");
                        add(Happened::PeerRefused { node, peer }, format!("{} refusals in all", now.refused));
                    }
                    if now.bad_found > before.bad_found {
                        let found = now.bad_found - before.bad_found;
                        let detail = format!("{found} damaged blocks were found");
                        add(Happened::ChecksumBad { node, path: disk() }, detail);
                    }
                    if now.events_lost > before.events_lost {
                        let lost = now.events_lost - before.events_lost;
                        add(Happened::EventsLost { node }, format!("{lost} events and log lines were not written"));
                    }
                    if now.digest_mismatches > before.digest_mismatches {
                        add(Happened::DigestMismatch { node }, format!("{} digests differed", now.digest_mismatches));
                    }
                }
            }
        }
        for (s, d) in fresh().flat_map(|s| s.duplicates.iter().map(move |d| (s, d))) {
            let key = (s.node, d.address.clone(), d.mac.clone());
            if self.duplicates.get(&key).is_some_and(|before| d.count > *before) {
                let detail = format!("MAC address {}, heard by node {}", d.mac, s.node);
                add(Happened::AddressDuplicate { address: d.address.clone() }, detail);
            }
        }
        let seen =
            fresh().flat_map(|s| s.duplicates.iter().map(|d| ((s.node, d.address.clone(), d.mac.clone()), d.count)));
        self.duplicates = seen.collect();
        self.space.watch(now_ms, &mut view);
        self.clients(now_ms, fresh(), &mut view);
        self.last_ms = now_ms;
        view.occurrences = happened;
        view
    }

    /// Clients by their hosts: a port is new with each connection.
    fn clients<'a>(&mut self, now_ms: i64, fresh: impl Iterator<Item = &'a NodeStatus>, view: &mut ClusterView) {
        let host = |c: &String| c.parse::<std::net::SocketAddr>().map_or(c.clone(), |a| a.ip().to_string());
        for c in fresh.flat_map(|s| s.clients.iter().map(host)) {
            self.clients.insert(c, now_ms);
        }
        self.clients.retain(|_, seen| now_ms - *seen < CLIENT_FORGOTTEN_MS);
        while self.clients.len() > CLIENTS_MAX {
            let oldest = self.clients.iter().min_by_key(|(_, seen)| **seen).map(|(c, _)| c.clone());
            oldest.and_then(|c| self.clients.remove(&c));
        }
        view.clients = self
            .clients
            .iter()
            .map(|(c, seen)| ClientView {
                client: c.clone(),
                connected: *seen == now_ms,
                gone_ms: (now_ms - seen).max(0) as u64,
            })
            .collect();
    }

    /// A pause of the watching process itself.
    pub fn paused(node: u32, now_ms: i64, ms: u64) -> Occurrence {
        Occurrence { at_ms: now_ms, what: Happened::Paused { node, ms }, detail: format!("{ms} ms") }
    }
}

#[cfg(test)]
pub(super) mod tests;
