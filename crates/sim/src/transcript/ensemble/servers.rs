//! Servers: their start and end, their inputs and effects, their disks and timers.

use super::network::Message;
use super::{wire, Ensemble, Node};
use crate::coordination::Disk;
use std::collections::{BTreeMap, VecDeque};
use trivet_coordination::config::Member;
use trivet_coordination::{ClientInput, Config, ConnId, DiskOp, Effect, Event, Input, Now, RoleName, Server};
use trivet_formats::election::LinkProbe;
use trivet_formats::{ServerId, Zxid};

/// The connection of the operator's four-letter words; clients' begin at 1.
const OPERATOR: ConnId = ConnId(u64::MAX);
/// A server's first moment: a monotonic clock does not begin at 0.
const START_MS: u64 = 1_000;

impl Ensemble {
    pub(super) fn servers(&mut self, count: usize, options: &[&str]) -> Result<(), String> {
        for option in options {
            match option.split_once('=') {
                Some(("ring", bytes)) => self.ring_bytes_max = Some(crate::transcript::script::number(bytes)?),
                _ => return Err(format!("no such option: {option}")),
            }
        }
        self.now = START_MS;
        for _ in 0..count {
            self.nodes.push(Node {
                server: None,
                disk: Disk::default(),
                pending: VecDeque::new(),
                listening: false,
                crashed: false,
                slow_disk: false,
                frozen: false,
                cut: false,
                connections: BTreeMap::new(),
                shown: None,
                applied: Zxid::ZERO,
            });
        }
        Ok(())
    }

    fn clock(&self) -> Now {
        Now { mono_ms: self.now, wall_ms: self.now as i64 }
    }

    fn config(&self, node: usize) -> Config {
        let id = |i: usize| ServerId(i as i64 + 1);
        let members = (0..self.nodes.len()).map(|i| (id(i), Member { observer: false })).collect();
        let usual = Config::new(id(node), members);
        Config {
            ring_bytes_max: self.ring_bytes_max.unwrap_or(usual.ring_bytes_max),
            four_letter_words: vec!["lead".into()],
            ..usual
        }
    }

    pub(super) fn start(&mut self, id: &str) -> Result<(), String> {
        let node = self.index(id)?;
        if self.nodes[node].server.is_some() {
            return Err(format!("server {id} runs already"));
        }
        let (cfg, now) = (self.config(node), self.clock());
        let recovered = self.nodes[node].disk.recover();
        let mut server = Server::new(cfg, recovered, now);
        self.nodes[node].applied = server.tree().last_zxid();
        let mut effects = Vec::new();
        for peer in 0..self.nodes.len() {
            server.handle(now, Input::PeerIsOurs(ServerId(peer as i64 + 1), true), &mut effects);
        }
        server.start(now, &mut effects);
        self.nodes[node].server = Some(server);
        (self.nodes[node].shown, self.nodes[node].crashed) = (None, false);
        self.after(node, effects);
        self.empty_inbox();
        Ok(())
    }

    pub(super) fn crash(&mut self, id: &str) -> Result<(), String> {
        self.live(id)?;
        let node = self.index(id)?;
        let links: Vec<_> = self.nodes[node].connections.keys().copied().collect();
        let n = &mut self.nodes[node];
        n.server = None;
        n.crashed = true;
        n.listening = false;
        n.frozen = false;
        n.disk.forget();
        let lost: Vec<_> = std::mem::take(&mut n.pending).into_iter().map(|(_, what)| what).collect();
        if !lost.is_empty() {
            self.say(format!("  {id} disk: lost {}", lost.join(", ")));
        }
        links.into_iter().for_each(|link| self.close(node, link));
        self.clients_lose(node);
        Ok(())
    }

    /// Hands an input to a server, and the heartbeats that follow from it.
    pub(super) fn feed(&mut self, node: usize, input: Input) {
        self.handle(node, input);
        self.empty_inbox();
    }

    fn empty_inbox(&mut self) {
        while let Some((node, input)) = self.inbox.pop_front() {
            self.handle(node, input);
        }
    }

    fn handle(&mut self, node: usize, input: Input) {
        let now = self.clock();
        let Some(server) = &mut self.nodes[node].server else { return };
        let mut effects = Vec::new();
        server.handle(now, input, &mut effects);
        self.after(node, effects);
    }

    fn after(&mut self, node: usize, effects: Vec<Effect>) {
        self.show_commits(node);
        for effect in effects {
            self.carry_out(node, effect);
        }
        self.show_role(node);
    }

    fn carry_out(&mut self, node: usize, effect: Effect) {
        let id = node + 1;
        match effect {
            Effect::Vote { to, notification } => self.send(node, to.0 as usize - 1, Message::Vote(notification)),
            Effect::Probe { to, bytes } => {
                let to = to.0 as usize - 1;
                let probe = LinkProbe::decode(&bytes).expect("a server sends probes that can be read");
                if self.is_reachable(to) && !self.nodes[node].cut {
                    self.inbox.push_back((to, Input::Probe(probe)));
                }
            }
            Effect::Listen(on) => self.nodes[node].listening = on,
            Effect::Dial { link, leader } => self.send(node, leader.0 as usize - 1, Message::Dial(link)),
            Effect::Send { link, bytes } => {
                if let Some((key, peer)) = self.peer(node, link) {
                    self.send_packets(node, peer, key, &bytes);
                }
            }
            Effect::SendPart { link, bytes, last } => {
                assert!(last, "what a script writes fits into one part");
                if let Some((key, peer)) = self.peer(node, link) {
                    self.send_part(node, peer, key, bytes);
                }
            }
            Effect::ReadLog { link, after, upto } => {
                self.say(format!("  {id} reads its log files: what follows {after:?}, up to {upto:?}"));
                let read = self.nodes[node].disk.read_log(after, upto, usize::MAX);
                self.inbox.push_back((node, Input::LogRead { link, read }));
            }
            Effect::CloseLink(link) | Effect::FinishLink(link) => self.close(node, link),
            Effect::Disk { seq, op, .. } => {
                let text = self.disk_op(&op);
                self.say(format!("  {id} disk <- {text}"));
                self.nodes[node].disk.submit(seq, op, false);
                self.nodes[node].pending.push_back((seq, text));
            }
            Effect::Client { conn, .. } if conn == OPERATOR => {}
            Effect::Client { conn, bytes } => self.client_hears(node, conn, &bytes),
            Effect::CloseClient(conn) => self.client_lost(conn),
            Effect::Event(event) => self.show_event(id, event),
            Effect::Members { .. } | Effect::Audit(_) => {}
            Effect::DialThrough { .. } | Effect::PassObservers(_) => {
                unreachable!("no script has observers behind followers, which pass bytes on as they are")
            }
        }
    }

    fn disk_op(&self, op: &DiskOp) -> String {
        match op {
            DiskOp::Append { bytes, .. } => format!("append {}", wire::logged(bytes, &self.names)),
            DiskOp::Truncate(zxid) => format!("cut the log after {zxid:?}"),
            DiskOp::AcceptedEpoch(epoch) => format!("acceptedEpoch {epoch}"),
            DiskOp::CurrentEpoch(epoch) => format!("currentEpoch {epoch}"),
            DiskOp::Install { zxid, .. } => format!("replace everything by the snapshot at {zxid:?}"),
            DiskOp::SnapshotBegin(zxid) => format!("begin a snapshot at {zxid:?}"),
            DiskOp::SnapshotPart(_) => "a part of the snapshot".into(),
            DiskOp::SnapshotEnd => "the end of the snapshot".into(),
            DiskOp::SnapshotAbort => "give the snapshot up".into(),
        }
    }

    /// The first operations of a disk become durable.
    pub(super) fn sync(&mut self, node: usize, operations: usize) {
        let n = &mut self.nodes[node];
        let count = operations.min(n.pending.len());
        let done: Vec<_> = n.pending.drain(..count).collect();
        let Some((upto, _)) = done.last() else { return };
        let upto = *upto;
        n.disk.end_sync(upto);
        let texts: Vec<_> = done.into_iter().map(|(_, text)| text).collect();
        self.say(format!("{} disk: durable: {}", node + 1, texts.join("; ")));
        self.feed(node, Input::Durable(upto));
    }

    pub(super) fn sync_next(&mut self) -> bool {
        let due = |n: &Node| !n.pending.is_empty() && !n.frozen && !n.slow_disk;
        let next = self.nodes.iter().position(due);
        next.is_some_and(|node| {
            self.sync(node, usize::MAX);
            true
        })
    }

    /// The timer that is due first, if it is due by `until`.
    pub(super) fn fire_next_timer(&mut self, until: u64) -> bool {
        let due = self.nodes.iter().enumerate().filter(|(_, n)| !n.frozen);
        let due = due.filter_map(|(at, n)| Some((n.server.as_ref()?.deadline()?, at)));
        let Some((at, node)) = due.min().filter(|(at, _)| *at <= until) else { return false };
        self.now = self.now.max(at);
        self.feed(node, Input::Timer);
        self.deliver_heartbeats();
        true
    }

    pub(super) fn ask_to_lead(&mut self, id: &str) -> Result<(), String> {
        let node = self.index(id)?;
        let word = Box::new((*b"lead", Default::default()));
        let connected = ClientInput::Connected { ip: "127.0.0.1".into(), port: 1 };
        self.feed(node, Input::Client { conn: OPERATOR, input: connected });
        self.feed(node, Input::Client { conn: OPERATOR, input: ClientInput::Word(word) });
        Ok(())
    }

    // ---- what a server has become ----

    fn show_event(&mut self, id: usize, event: Event) {
        match event {
            Event::Looking { reason, .. } => self.say(format!("  {id} looks for a leader: {reason}")),
            Event::Transfer { to, why } => self.say(format!("  {id} begins to hand over to {to}: {why}")),
            Event::Refused { who, reason } => self.say(format!("  {id} refuses {who}: {reason}")),
            // Seen by the role.
            Event::Following { .. } | Event::Leading { .. } => {}
        }
    }

    fn show_role(&mut self, node: usize) {
        let Some(s) = self.nodes[node].server.as_ref().map(Server::summary) else { return };
        let role = (s.role, s.leader.map(|l| l.0), s.serving);
        if self.nodes[node].shown == Some(role) {
            return;
        }
        let first = self.nodes[node].shown.replace(role).is_none();
        let id = node + 1;
        let leader = s.leader.map_or(0, |l| l.0);
        match (s.role, s.serving) {
            (RoleName::Looking, _) if first => self.say(format!("  {id} looks for a leader, log to {:?}", s.last_zxid)),
            (RoleName::Looking, _) => {}
            (RoleName::Leading, false) => self.say(format!("  {id} is elected")),
            (RoleName::Leading, true) => self.say(format!("  {id} LEADS epoch {}", s.epoch)),
            (RoleName::Following, false) => self.say(format!("  {id} decides for {leader}")),
            (RoleName::Following, true) => self.say(format!("  {id} FOLLOWS {leader} in epoch {}", s.epoch)),
            (other, _) => self.say(format!("  {id} is {other:?}")),
        }
    }

    fn show_commits(&mut self, node: usize) {
        let n = &self.nodes[node];
        let Some(server) = &n.server else { return };
        let (last, before) = (server.tree().last_zxid(), n.applied);
        if last == before {
            return;
        }
        let base = server.history().base();
        let mut lines = Vec::new();
        // After a snapshot, and where memory is small, the transactions themselves are not there to be named.
        if base > before {
            lines.push(format!("  {} has applied everything up to {base:?}", node + 1));
        }
        let applied = server.history().after(before, false);
        lines.extend(applied.map(|(_, bytes)| format!("  {} commits {}", node + 1, wire::logged(bytes, &self.names))));
        self.nodes[node].applied = last;
        self.said.extend(lines);
    }

    pub(super) fn show_status(&mut self) {
        for node in 0..self.nodes.len() {
            let id = node + 1;
            let Some(s) = self.nodes[node].server.as_ref().map(Server::summary) else {
                self.say(format!("{id} does not run"));
                continue;
            };
            let leader = s.leader.map_or(0, |l| l.0);
            let role = match (s.role, s.serving) {
                (RoleName::Leading, true) => format!("leads epoch {}", s.epoch),
                (RoleName::Leading, false) => "is elected, and has no quorum".into(),
                (RoleName::Following, true) => format!("follows {leader} in epoch {}", s.epoch),
                (RoleName::Following, false) => format!("decided for {leader}"),
                _ => "looks for a leader".into(),
            };
            self.say(format!("{id} {role}, log to {:?}, committed to {:?}", s.last_zxid, s.committed_zxid));
        }
    }

    pub(super) fn show_disk(&mut self, id: &str) -> Result<(), String> {
        let node = self.index(id)?;
        let (accepted, current, snapshot, log) = self.nodes[node].disk.contents();
        let log: Vec<_> = log.map(|(_, bytes)| wire::logged(bytes, &self.names)).collect();
        let snapshot = snapshot.map_or(String::new(), |zxid| format!(", snapshot at {zxid:?}"));
        self.say(format!("{id} disk: acceptedEpoch {accepted}, currentEpoch {current}{snapshot}"));
        self.said.extend(log.into_iter().map(|line| format!("  {line}")));
        Ok(())
    }
}
