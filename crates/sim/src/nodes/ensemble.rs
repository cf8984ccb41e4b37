//! Coordination as metad sees it: one order of committed changes, servers that are behind by some of them, sessions.

use std::collections::BTreeMap;
use trivet_storage::metadata::leadership::{Answer, Ask, ELECTION, EPOCH};

#[derive(Debug, Clone)]
struct Znode {
    data: Vec<u8>,
    version: i32,
    /// The session of an ephemeral node; 0 otherwise.
    session: i64,
}

#[derive(Debug, Clone)]
enum Change {
    Put { path: String, data: Vec<u8>, version: i32, session: i64 },
    Delete(String),
}

#[derive(Debug, Default, Clone)]
struct Tree(BTreeMap<String, Znode>);

impl Tree {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Put { path, data, version, session } => {
                let node = Znode { data: data.clone(), version: *version, session: *session };
                self.0.insert(path.clone(), node);
            }
            Change::Delete(path) => drop(self.0.remove(path)),
        }
    }
}

pub(crate) struct Ensemble {
    log: Vec<Change>,
    latest: Tree,
    servers: Vec<(usize, Tree)>,
    /// When each session was heard last.
    sessions: BTreeMap<i64, u64>,
    next_session: i64,
    next_seat: u64,
}

impl Ensemble {
    pub(crate) fn new(servers: usize) -> Self {
        Ensemble {
            log: Vec::new(),
            latest: Tree::default(),
            servers: vec![(0, Tree::default()); servers],
            sessions: BTreeMap::new(),
            next_session: 1,
            next_seat: 1,
        }
    }

    pub(crate) fn committed(&self) -> usize {
        self.log.len()
    }
    pub(crate) fn applied(&self, server: usize) -> usize {
        self.servers[server].0
    }
    /// A server applies everything up to this change.
    pub(crate) fn advance(&mut self, server: usize, upto: usize) {
        let (applied, tree) = &mut self.servers[server];
        while *applied < upto.min(self.log.len()) {
            tree.apply(&self.log[*applied]);
            *applied += 1;
        }
    }

    pub(crate) fn new_session(&mut self, now: u64) -> i64 {
        self.next_session += 1;
        self.sessions.insert(self.next_session - 1, now);
        self.next_session - 1
    }
    pub(crate) fn is_open(&self, session: i64) -> bool {
        self.sessions.contains_key(&session)
    }
    pub(crate) fn hear(&mut self, session: i64, now: u64) {
        self.sessions.entry(session).and_modify(|at| *at = now);
    }
    /// Ends the sessions that were not heard since then, and their nodes.
    pub(crate) fn expire(&mut self, heard_before: u64) -> usize {
        let over: Vec<i64> = self.sessions.iter().filter(|(_, at)| **at < heard_before).map(|(s, _)| *s).collect();
        over.iter().for_each(|session| self.end(*session));
        over.len()
    }
    pub(crate) fn end(&mut self, session: i64) {
        self.sessions.remove(&session);
        let of_it = self.latest.0.iter().filter(|(_, n)| n.session == session);
        let gone: Vec<String> = of_it.map(|(path, _)| path.clone()).collect();
        gone.into_iter().for_each(|path| self.commit(Change::Delete(path)));
    }

    fn commit(&mut self, change: Change) {
        self.latest.apply(&change);
        self.log.push(change);
    }
    pub(crate) fn delete(&mut self, path: String) {
        self.commit(Change::Delete(path));
    }

    pub(crate) fn epoch(&self) -> i32 {
        self.latest.0.get(EPOCH).map_or(-1, |n| n.version)
    }
    /// Data of a node as of the newest change.
    pub(crate) fn data(&self, path: &str) -> Option<&[u8]> {
        self.latest.0.get(path).map(|n| &n.data[..])
    }
    pub(crate) fn create(&mut self, path: &str, data: Vec<u8>) {
        self.commit(Change::Put { path: path.into(), data, version: 0, session: 0 });
    }

    /// A write, decided on the newest state.
    pub(crate) fn write(&mut self, session: i64, ask: &Ask) -> Answer {
        let there = |path: &str| self.latest.0.get(path);
        match ask {
            Ask::Create { path, data } => {
                if there(path).is_some() {
                    return Answer::NodeExists;
                }
                self.create(path, data.clone());
                Answer::Created((*path).into())
            }
            Ask::Seat { data } => {
                let path = format!("{ELECTION}/candidate-{:010}", self.next_seat);
                self.next_seat += 1;
                self.commit(Change::Put { path: path.clone(), data: data.clone(), version: 0, session });
                Answer::Created(path)
            }
            Ask::CreateFenced { version, path, data } => {
                if *version != -1 && self.epoch() != *version {
                    return Answer::BadVersion;
                }
                if there(path).is_some() {
                    return Answer::NodeExists;
                }
                self.create(path, data.clone());
                Answer::Done
            }
            Ask::SetEpoch { version, data } => match there(EPOCH) {
                None => Answer::NoNode,
                Some(node) if node.version != *version => Answer::BadVersion,
                Some(node) => {
                    let version = node.version + 1;
                    self.commit(Change::Put { path: EPOCH.into(), data: data.clone(), version, session: 0 });
                    Answer::Data { data: Vec::new(), version }
                }
            },
            Ask::Sync => Answer::Done,
            Ask::Get { .. } | Ask::Children { .. } | Ask::Watch { .. } => unreachable!("reads are no writes"),
        }
    }

    /// A read, of what this server has applied.
    pub(crate) fn read(&self, server: usize, ask: &Ask) -> Answer {
        let tree = &self.servers[server].1 .0;
        match ask {
            Ask::Get { path } => match tree.get(path) {
                Some(node) => Answer::Data { data: node.data.clone(), version: node.version },
                None => Answer::NoNode,
            },
            Ask::Children { path } => {
                let prefix = format!("{path}/");
                let below = tree.range(prefix.clone()..).take_while(|(p, _)| p.starts_with(&prefix));
                Answer::Children(below.map(|(p, _)| p[prefix.len()..].to_string()).collect())
            }
            Ask::Watch { path } => Answer::Exists(tree.contains_key(path)),
            _ => unreachable!("writes are no reads"),
        }
    }
    pub(crate) fn exists(&self, server: usize, path: &str) -> bool {
        self.servers[server].1 .0.contains_key(path)
    }
}
