//! The messages in flight between servers: votes, connections and their packets, in the order of sending.

use super::{wire, Ensemble};
use crate::coordination::each_packet;
use bytes::Bytes;
use trivet_coordination::tree::Tree;
use trivet_coordination::{Image, Input, LinkId};
use trivet_formats::election::Notification;
use trivet_formats::quorum::{kind, QuorumPacket};
use trivet_formats::{snapshot, ServerId};

pub(super) struct InFlight {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) what: Message,
}

pub(super) enum Message {
    Vote(Notification),
    /// The dialler's number of the connection.
    Dial(LinkId),
    Packet(u64, QuorumPacket),
    /// The stream after a SNAP packet.
    Snapshot(u64, Bytes),
    Closed(u64),
}

/// A connection of the quorum port: the dialler, then the server that accepted it.
pub(super) struct Connection {
    ends: [(usize, LinkId); 2],
}

impl Ensemble {
    pub(super) fn send(&mut self, from: usize, to: usize, what: Message) {
        if matches!(what, Message::Vote(_)) && self.nodes[to].crashed {
            // There is no connection that could carry it.
            return;
        }
        let message = InFlight { from, to, what };
        if !self.hides_sends && !is_heartbeat(&message) {
            let line = format!("  {}", self.line(&message));
            self.say(line);
        }
        self.in_flight.push(message);
    }

    pub(super) fn send_packets(&mut self, from: usize, to: usize, key: u64, bytes: &[u8]) {
        let packets: Vec<_> = each_packet(bytes).map(|(p, _)| p).collect();
        packets.into_iter().for_each(|p| self.send(from, to, Message::Packet(key, p)));
    }

    /// After SNAP a part is of the snapshot, otherwise of the log.
    pub(super) fn send_part(&mut self, from: usize, to: usize, key: u64, bytes: Bytes) {
        let before = self.in_flight.iter().rev().find_map(|m| match &m.what {
            Message::Packet(k, p) if (*k, m.from) == (key, from) => Some(p.kind),
            _ => None,
        });
        match before {
            Some(kind::SNAP) => self.send(from, to, Message::Snapshot(key, bytes)),
            _ => self.send_packets(from, to, key, &bytes),
        }
    }

    pub(super) fn line(&self, m: &InFlight) -> String {
        let to_leader = |key: &u64| self.connections.get(key).is_some_and(|c| c.ends[0].0 == m.from);
        let what = match &m.what {
            Message::Vote(n) => wire::vote(n),
            Message::Dial(_) => "connects to the quorum port".into(),
            Message::Packet(key, p) => wire::packet(p, to_leader(key), &self.names),
            Message::Snapshot(..) => "the snapshot itself".into(),
            Message::Closed(_) => "closes the connection".into(),
        };
        format!("{}->{} {what}", m.from + 1, m.to + 1)
    }

    /// The other end of a server's connection, and its key.
    pub(super) fn peer(&self, node: usize, link: LinkId) -> Option<(u64, usize)> {
        let key = *self.nodes[node].connections.get(&link)?;
        let ends = &self.connections.get(&key)?.ends;
        Some((key, ends[usize::from(ends[0].0 == node)].0))
    }

    pub(super) fn close(&mut self, node: usize, link: LinkId) {
        if let Some((key, peer)) = self.peer(node, link) {
            self.send(node, peer, Message::Closed(key));
        }
        self.nodes[node].connections.remove(&link);
    }

    pub(super) fn show_in_flight(&mut self) {
        let shown = self.in_flight.iter().filter(|m| !is_heartbeat(m)).map(|m| self.line(m)).collect::<Vec<_>>();
        self.said.extend(shown);
    }

    pub(super) fn deliver_command(&mut self, pair: &str, count: usize) -> Result<(), String> {
        let (from, to) = pair.split_once("->").ok_or("deliver FROM->TO")?;
        let (from, to) = (self.index(from)?, self.index(to)?);
        if let Some(node) = [from, to].into_iter().find(|n| self.nodes[*n].cut) {
            return Err(format!("server {} is cut off", node + 1));
        }
        if self.nodes[to].frozen {
            return Err(format!("server {} is frozen", to + 1));
        }
        // An answer that is sent meanwhile is for a later command.
        let there = self.in_flight.iter().filter(|m| (m.from, m.to) == (from, to) && !is_heartbeat(m)).count();
        if there == 0 {
            return Err("nothing is in flight".into());
        }
        let mut left = there.min(count);
        while left > 0 {
            let at = self.in_flight.iter().position(|m| (m.from, m.to) == (from, to)).expect("counted");
            left -= usize::from(!is_heartbeat(&self.in_flight[at]));
            self.arrive(at);
        }
        Ok(())
    }

    /// Votes and packets of a server that is down are lost.
    pub(super) fn lose(&mut self, pair: &str) -> Result<(), String> {
        let (from, to) = pair.split_once("->").ok_or("lose FROM->TO")?;
        let (from, to) = (self.index(from)?, self.index(to)?);
        if self.nodes[from].server.is_some() {
            return Err("a connection loses nothing while its sender runs".into());
        }
        let (lost, kept) = std::mem::take(&mut self.in_flight)
            .into_iter()
            .partition(|m| (m.from, m.to) == (from, to) && !matches!(m.what, Message::Closed(_)));
        self.in_flight = kept;
        let lost: Vec<InFlight> = lost;
        let lines: Vec<_> =
            lost.iter().filter(|m| !is_heartbeat(m)).map(|m| format!("{}: lost", self.line(m))).collect();
        self.said.extend(lines);
        Ok(())
    }

    /// The oldest message that can be delivered.
    pub(super) fn next_to_arrive(&self) -> Option<usize> {
        self.in_flight.iter().position(|m| !self.is_held(m))
    }

    pub(super) fn deliver_next(&mut self) -> bool {
        self.next_to_arrive().is_some_and(|at| {
            self.arrive(at);
            true
        })
    }

    /// Heartbeats before which nothing else is in flight between the same servers.
    pub(super) fn deliver_heartbeats(&mut self) {
        let next = |e: &Ensemble| {
            let first = |at: usize, m: &InFlight| {
                !e.in_flight[..at].iter().any(|older| (older.from, older.to) == (m.from, m.to))
            };
            e.in_flight.iter().enumerate().position(|(at, m)| is_heartbeat(m) && !e.is_held(m) && first(at, m))
        };
        // Each heartbeat has one answer, which has none.
        while let Some(at) = next(self) {
            self.arrive(at);
        }
    }

    fn is_held(&self, m: &InFlight) -> bool {
        self.nodes[m.from].cut || self.nodes[m.to].cut || self.nodes[m.to].frozen
    }

    fn arrive(&mut self, at: usize) {
        let message = self.in_flight.remove(at);
        let line = self.line(&message);
        let heartbeat = is_heartbeat(&message);
        let InFlight { from, to, what } = message;
        let say = |e: &mut Ensemble, text: &str| {
            if !heartbeat {
                e.say(format!("{line}{text}"));
            }
        };
        if self.nodes[to].server.is_none() {
            let refused =
                if matches!(what, Message::Dial(_)) { ": refused, it does not run" } else { ": lost, it does not run" };
            say(self, refused);
            if let Message::Dial(link) = what {
                self.dial_refused(from, link);
            }
            return;
        }
        let key = match &what {
            Message::Packet(key, _) | Message::Snapshot(key, _) | Message::Closed(key) => Some(*key),
            Message::Vote(_) | Message::Dial(_) => None,
        };
        let link = key.and_then(|key| self.link_of(to, key));
        match (what, link) {
            (Message::Vote(notification), _) => {
                say(self, "");
                self.feed(to, Input::Vote { from: ServerId(from as i64 + 1), notification });
            }
            (Message::Dial(link), _) if !self.nodes[to].listening => {
                say(self, ": refused, it does not lead");
                self.dial_refused(from, link);
            }
            (Message::Dial(link), _) => {
                say(self, "");
                self.accept(from, to, link);
            }
            (Message::Closed(_), None) => {}
            (_, None) => say(self, ": dropped, the connection is closed"),
            (Message::Packet(_, p), Some(link)) => {
                say(self, "");
                self.feed(to, Input::Packets { link, packets: vec![p] });
            }
            (Message::Snapshot(_, bytes), Some(link)) => {
                say(self, "");
                let mut tree = Tree::bare();
                snapshot::read_stream(&mut &bytes[..], &mut tree).expect("a leader sends a whole snapshot");
                let image = Image::Bytes(tree.write(snapshot::Writer::file(Default::default())).into());
                self.feed(to, Input::Snapshot { link, tree: Box::new(tree), image });
            }
            (Message::Closed(_), Some(link)) => {
                say(self, "");
                self.nodes[to].connections.remove(&link);
                self.feed(to, Input::LinkDown(link));
            }
        }
    }

    fn link_of(&self, node: usize, key: u64) -> Option<LinkId> {
        self.nodes[node].connections.iter().find(|(_, k)| **k == key).map(|(link, _)| *link)
    }

    fn dial_refused(&mut self, from: usize, link: LinkId) {
        self.feed(from, Input::LinkDown(link));
    }

    fn accept(&mut self, from: usize, to: usize, link: LinkId) {
        if self.nodes[from].server.is_none() {
            return;
        }
        self.next_connection += 1;
        let (key, accepted) = (self.next_connection, LinkId(self.next_connection));
        self.connections.insert(key, Connection { ends: [(from, link), (to, accepted)] });
        self.nodes[from].connections.insert(link, key);
        self.nodes[to].connections.insert(accepted, key);
        self.feed(to, Input::LinkUp(accepted, None));
        self.feed(from, Input::LinkUp(link, None));
    }
}

pub(super) fn is_heartbeat(m: &InFlight) -> bool {
    matches!(&m.what, Message::Packet(_, p) if wire::is_heartbeat(p))
}
