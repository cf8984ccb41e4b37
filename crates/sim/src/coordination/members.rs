//! Members change now and then: servers join, leave, get a vote and lose it.

use super::world::{Event, World};
use crate::Rng;
use bytes::Bytes;
use trivet_coordination::ensemble::{Address, Ensemble, ServerSpec};
use trivet_coordination::groups::Groups;
use trivet_coordination::{Bug, ClientInput, Input};
use trivet_formats::client::{op, xid, AuthPacket, ConnectRequest, ReconfigRequest, RequestHeader};
use trivet_formats::{Jute, ServerId};

/// The digest of the credentials "super:test".
pub(super) const SUPER_DIGEST: &str = "super:D/InIHSb7yEEbrWz8b9l71RjZJU=";
/// Fewer voters than this are never left.
const VOTERS_MIN: usize = 2;

fn spec(server: usize, observer: bool) -> ServerSpec {
    let host = format!("10.0.0.{}", server + 1);
    let client = Some((host.clone(), 2181));
    ServerSpec { client, addresses: vec![Address { host, quorum: 2888, election: 3888 }], observer }
}

/// All servers, with a vote each.
pub(super) fn all(servers: usize) -> Ensemble {
    let servers = (0..servers).map(|i| (ServerId(i as i64 + 1), spec(i, false))).collect();
    Ensemble { servers, ..Ensemble::default() }
}

/// All servers, in groups and with weights that the seed chooses.
pub(super) fn grouped(servers: usize, seed: u64) -> Ensemble {
    let mut list = all(servers);
    list.groups = groups(&list, &mut Rng::new(seed ^ 0x6772_6f75_7073));
    list
}

/// Up to three groups, and weights of 0 to 3: as many as it takes for lines with which an ensemble can live.
fn groups(list: &Ensemble, rng: &mut Rng) -> Groups {
    loop {
        let mut groups = Groups::default();
        let mut of = vec![Vec::new(); rng.range(1, 4) as usize];
        for id in list.servers.iter().filter(|(_, s)| !s.observer).map(|(id, _)| *id) {
            let group = rng.index(of.len());
            of[group].push(id.to_string());
            groups.add(&format!("weight.{id}"), &rng.range(0, 4).to_string()).expect("a line as it is written");
        }
        for (number, ids) in of.iter().enumerate().filter(|(_, ids)| !ids.is_empty()) {
            groups.add(&format!("group.{number}"), &ids.join(":")).expect("a line as it is written");
        }
        if groups.complete(&list.voters().collect()).is_ok() {
            return groups;
        }
    }
}

impl World {
    pub(super) fn reconfigures(&self) -> bool {
        self.options.reconfig
    }
    /// Whether the server has a vote as far as it knows.
    pub(super) fn votes(&self, node: usize) -> bool {
        self.server(node).is_some_and(|s| s.config().is_voter(s.config().id))
    }

    /// A client of the leader asks for one server to be a voter, an observer or nobody.
    pub(super) fn change_members(&mut self) {
        if self.now >= self.faults_end {
            return;
        }
        // Two majorities decide apart from each other seldom: the more often for the test that wants to see it.
        let planted = self.options.bug == Some(Bug::OldMajorityOnly);
        let next = self.now + self.rng.range(100, if planted { 800 } else { 8_000 });
        self.at(next, Event::Reconfig);
        let Some(leader) = self.leader() else { return };
        let server = self.rng.index(self.nodes.len());
        let (part, whole) = (self.rng.range(0, 3), self.rng.chance(if planted { 90 } else { 50 }));
        // Each server falls into one of three parts, so that old and new majorities may have no member in common.
        let parts: Vec<u64> = (0..self.nodes.len()).map(|_| self.rng.range(0, 3)).collect();
        let Some(s) = self.server(leader) else { return };
        let Ok(mut list) = Ensemble::parse(&s.config().config_text) else { return };
        let id = ServerId(server as i64 + 1);
        let mut request =
            ReconfigRequest { joining: String::new(), leaving: String::new(), members: String::new(), current: -1 };
        match part {
            0 => {
                list.servers.remove(&id);
                request.leaving = id.0.to_string();
            }
            part => {
                let spec = spec(server, part == 1);
                request.joining = format!("server.{id}={spec}");
                list.servers.insert(id, spec);
            }
        }
        if whole {
            let listed = parts.iter().enumerate().filter(|(_, part)| **part > 0);
            list.servers = listed.map(|(i, part)| (ServerId(i as i64 + 1), spec(i, *part == 1))).collect();
        }
        if list.voters().count() < VOTERS_MIN {
            return;
        }
        // Where there are groups, a reconfig says the whole list; now and then groups come, and go.
        let whole = whole || self.options.groups;
        if self.options.groups {
            list.groups = if self.rng.chance(80) { groups(&list, &mut self.rng) } else { Groups::default() };
        }
        if whole {
            let lines = list.to_string();
            let members = lines.lines().filter(|l| !l.starts_with("version=")).collect::<Vec<_>>().join(",");
            request = ReconfigRequest { joining: String::new(), leaving: String::new(), members, current: -1 };
        }
        self.trace(|| format!("reconfig {request:?}"));
        let conn = self.new_conn();
        let connect = ConnectRequest {
            last_zxid_seen: 0,
            timeout_ms: 4_000,
            session: 0,
            password: vec![0; 16],
            read_only: Some(false),
        };
        let auth = AuthPacket { kind: 0, scheme: "digest".into(), auth: Some(Bytes::from_static(b"super:test")) };
        let frame = |xid, op, body: Vec<u8>| [RequestHeader { xid, op }.to_vec(), body].concat();
        let frames =
            [connect.to_vec(), frame(xid::AUTH, op::AUTH, auth.to_vec()), frame(1, op::RECONFIG, request.to_vec())];
        self.feed(leader, Input::Client { conn, input: ClientInput::Connected { ip: "10.0.0.8".into(), port: 1 } });
        for frame in frames {
            self.feed(leader, Input::Client { conn, input: ClientInput::Frame(frame.into()) });
        }
    }
}
