//! Members that change at run time (ZooKeeper's dynamic reconfiguration).
//!
//! A reconfig is a transaction on `/zookeeper/config`. While it is in a server's log and not known to be committed, a
//! majority means one of the old list *and* one of the new (`Config::next`), in elections as in commits: two majorities
//! always share a server that knows of it. Its commit puts the new list into effect, and servers whose role changed begin the
//! new one.

use crate::api::Effect;
use crate::config::{Bug, NextConfig};
use crate::context::Context;
use crate::ensemble::Ensemble;
use crate::paths::CONFIG_NODE;
use crate::Millis;
use trivet_formats::election::Notification;
use trivet_formats::txn::TxnBody;
use trivet_formats::{ServerId, Zxid};

/// Milliseconds for which a proposed list counts that other servers reported and that is not in this server's log.
const HEARSAY_MS: Millis = 2_000;

/// Whether one server at least is the same in both lists, by its number, and a host and its ports.
fn shares_a_server(ours: &str, theirs: &str) -> bool {
    let (Ok(ours), Ok(theirs)) = (Ensemble::parse(ours), Ensemble::parse(theirs)) else { return false };
    ours.servers.iter().any(|(id, s)| theirs.servers.get(id).is_some_and(|t| t.shares_an_address(s)))
}

impl Context {
    /// Looks for a reconfig in the part of the log that is not known to be committed.
    pub(crate) fn note_next_members(&mut self) {
        let newest = self.history.tail().iter().rev().map(|e| &e.logged).find(|l| l.is_reconfig());
        let text = newest.and_then(|l| match l.txn().body {
            TxnBody::SetData { reconfig: true, data, .. } => Some(data.unwrap_or_default()),
            _ => None,
        });
        let next = text.and_then(|t| Ensemble::parse(&String::from_utf8_lossy(&t)).ok());
        self.members.next_heard_until = None;
        self.set_next(next);
    }

    fn set_next(&mut self, next: Option<Ensemble>) {
        // A list that is committed or outdated is not the next one.
        let next = next.filter(|n| n.version > self.cfg.config_version && self.cfg.bug != Some(Bug::OldMajorityOnly));
        let next = next.map(|n| NextConfig { members: n.members(), groups: n.groups.clone(), text: n.to_string() });
        if next.as_ref().map(|n| &n.text) != self.cfg.next.as_ref().map(|n| &n.text) {
            self.cfg.next = next;
            self.members.to_tell = true;
        }
    }

    /// Runs once per input, so the driver never sees an intermediate membership and keeps connections to servers that remain
    /// members.
    pub(crate) fn tell_members(&mut self) {
        if std::mem::take(&mut self.members.to_tell) {
            let next = self.cfg.next.as_ref().map(|n| n.text.clone());
            self.out.push(Effect::Members { text: self.cfg.config_text.clone(), next });
        }
    }

    /// At the start, and with a snapshot from a leader: a list that a reconfig made is newer than the file's.
    pub(crate) fn take_members_from_tree(&mut self) {
        let text = self.tree.get(CONFIG_NODE).and_then(|n| n.data().map(<[u8]>::to_vec)).unwrap_or_default();
        self.take_members(&String::from_utf8_lossy(&text));
        if !self.cfg.standalone() {
            self.tree.set_members(&self.cfg.config_text);
        }
    }

    /// Takes over a committed list if it is newer than this server's.
    pub(crate) fn take_members(&mut self, text: &str) {
        if !self.cfg.reconfig {
            return;
        }
        let Ok(found) = Ensemble::parse(text) else { return };
        if found.version <= self.cfg.config_version || found.voters().next().is_none() {
            return;
        }
        self.members.went_over.clear();
        self.cfg.members = found.members();
        self.cfg.groups = found.groups.clone();
        self.cfg.config_version = found.version;
        self.cfg.config_text = found.to_string();
        self.tree.set_members(&self.cfg.config_text);
        self.members.to_tell = true;
        self.note_next_members();
        // A server that is no member is not probed, and may not take that for silence. What it is, is not forgotten: of two
        // that come back together, neither would begin.
        self.peers.trivet.clone().into_iter().for_each(|id| self.expect_probes(id));
        self.members.changed = true;
    }

    /// The list of an ensemble of one gets a number when its server first leads: one that joins it, and whose own list has
    /// both, would otherwise wait for a quorum of two.
    //= zookeeper 3.9 Leader.lead, "lastSeenQV.setVersion(zk.getZxid())"
    pub(crate) fn number_members_of_one(&mut self, zxid: Zxid) {
        let of_file = self.cfg.config_version == 0 && self.cfg.members.len() == 1 && self.cfg.next.is_none();
        if self.cfg.ensemble_of_one && of_file {
            let list = Ensemble::parse(&self.cfg.config_text).map(|list| Ensemble { version: zxid.0, ..list });
            self.take_members(&list.map(|list| list.to_string()).unwrap_or_default());
        }
    }

    /// A reconfig is committed here.
    pub(crate) fn members_committed(&mut self, text: &[u8]) {
        self.note_next_members();
        self.take_members(&String::from_utf8_lossy(text));
    }

    /// Handles the configuration in another server's notification; such a configuration is committed.
    pub(crate) fn hear_of_newer_members(&mut self, from: ServerId, n: &Notification) {
        let known = n.config.is_empty() || n.config == self.cfg.config_text.as_bytes();
        if !self.cfg.reconfig || known {
            return;
        }
        let text = String::from_utf8_lossy(&n.config);
        let next = self.cfg.next.as_ref().map_or("", |n| &n.text);
        let shared = shares_a_server(&self.cfg.config_text, &text) || shares_a_server(next, &text);
        if !shared && !self.a_quorum_went_over(from, &n.config) {
            // The sender may belong to another ensemble and have been reached by mistake.
            return;
        }
        self.take_members(&text);
        let in_log = self.cfg.next.is_some() && self.members.next_heard_until.is_none();
        let Some(next) = Ensemble::parse_next(&text).filter(|n| n.version > self.cfg.config_version) else { return };
        if !in_log {
            self.members.changed |= self.cfg.next.is_none();
            self.set_next(Some(next));
            self.members.next_heard_until = Some(self.now.mono_ms + HEARSAY_MS);
        }
    }

    /// Whether a quorum of this server's list goes by a list that has no server in common with it: all members were
    /// replaced while this server was away.
    fn a_quorum_went_over(&mut self, from: ServerId, list: &[u8]) -> bool {
        if !self.cfg.votes_now(from) {
            return false;
        }
        self.members.went_over.insert(from, list.to_vec());
        let same: Vec<_> = self.members.went_over.iter().filter(|(_, l)| *l == list).map(|(id, _)| *id).collect();
        self.cfg.is_quorum(&same)
    }

    /// A peer that said that another list may follow does not say so any more.
    pub(crate) fn forget_old_hearsay(&mut self) {
        if self.members.next_heard_until.is_some_and(|until| self.now.mono_ms >= until) {
            self.note_next_members();
        }
    }

    /// Whether a vote is for a server that votes no more, from one that has not heard of that.
    pub(crate) fn is_behind(&self, n: &Notification) -> bool {
        let older = |text| Ensemble::parse(text).is_ok_and(|e| e.version < self.cfg.config_version);
        let unknown = n.leader.0 != i64::MIN && !self.cfg.is_voter(n.leader);
        self.cfg.reconfig && unknown && older(&String::from_utf8_lossy(&n.config))
    }
}

#[cfg(test)]
mod tests {
    use super::shares_a_server;
    use crate::api::{Effect, Input, Recovered};
    use crate::config::Config;
    use crate::ensemble::Ensemble;
    use crate::server::Server;
    use crate::tree::Tree;
    use crate::Now;
    use trivet_formats::election::{Notification, ServerState};
    use trivet_formats::{ServerId, Zxid};

    /// Found by the simulator's seed 12 with members that change: the server looked for ever.
    #[test]
    fn a_list_of_others_holds_when_a_quorum_of_the_old_one_goes_by_it() {
        let server = |id: i64| format!("server.{id}=10.0.0.{id}:2888:3888:participant;10.0.0.{id}:2181\n");
        let old = Ensemble::parse(&format!("{}{}{}version=1", server(1), server(3), server(5))).unwrap();
        let new = format!("{}{}version=200000001", server(2), server(4));
        let cfg = Config {
            reconfig: true,
            config_text: old.to_string(),
            config_version: 1,
            ..Config::new(ServerId(3), old.members())
        };
        let recovered = Recovered { tree: Tree::new(), log: Vec::new(), accepted_epoch: 0, current_epoch: 0 };
        let mut looks = Server::new(cfg, recovered, Now::default());
        looks.start(Now::default(), &mut Vec::new());
        for (from, members) in [(1, [1, 3, 5].as_slice()), (1, &[1, 3, 5]), (9, &[1, 3, 5]), (5, &[2, 4])] {
            let (leader, config) = (ServerId(4), new.clone().into_bytes());
            let state = ServerState::Following;
            let notification =
                Notification { state, leader, zxid: Zxid::ZERO, round: 1, peer_epoch: 0, version: 2, config };
            looks.handle(Now::default(), Input::Vote { from: ServerId(from), notification }, &mut Vec::new());
            let now: Vec<_> = looks.config().members.keys().map(|id| id.0).collect();
            assert_eq!(now, members, "behind what server {from} said");
        }
    }

    #[test]
    fn the_list_of_an_ensemble_of_one_is_numbered_when_its_server_leads() {
        let list = Ensemble::parse("server.1=10.0.0.1:2888:3888:participant;2181").unwrap();
        let of_file = Config { config_text: list.to_string(), ..Config::new(ServerId(1), list.members()) };
        for (ensemble_of_one, reconfig, version) in [(true, true, 1 << 32), (true, false, 0), (false, true, 0)] {
            let recovered = Recovered { tree: Tree::new(), log: Vec::new(), accepted_epoch: 0, current_epoch: 0 };
            let cfg = Config { ensemble_of_one, reconfig, ..of_file.clone() };
            let mut server = Server::new(cfg, recovered, Now::default());
            let mut effects = Vec::new();
            server.start(Now::default(), &mut effects);
            for mono_ms in (0..2_000).step_by(100) {
                let now = Now { mono_ms, wall_ms: 0 };
                let written = effects.drain(..).filter_map(|e| match e {
                    Effect::Disk { seq, .. } => Some(seq),
                    _ => None,
                });
                let input = written.max().map_or(Input::Timer, Input::Durable);
                server.handle(now, input, &mut effects);
            }
            assert!(server.summary().serving, "{ensemble_of_one}");
            assert_eq!(server.config().standalone(), !ensemble_of_one);
            assert_eq!(server.config().config_version, version, "{ensemble_of_one} {reconfig}");
        }
    }

    #[test]
    fn a_list_from_hearsay_has_a_server_in_common() {
        let ours = "server.1=zk1:2888:3888:participant\nserver.2=zk2:2888:3888:participant\nversion=0";
        assert!(shares_a_server(ours, "server.2=zk2:2888:3888:observer;2181\nserver.9=zk9:2888:3888\nversion=5"));
        assert!(!shares_a_server(ours, "server.1=other1:2888:3888\nserver.2=other2:2888:3888\nversion=5"));
        assert!(!shares_a_server(ours, "rubbish"));
        assert!(shares_a_server(ours, "server.2=other:2888:3888|zk2:2888:3888\nversion=5"));
    }
}
