//! Clients: each writes growing values to a register of its own and reads everybody's.
//!
//! A client has one session, and one request open, or several where `Options::pipeline` says so. It moves to another
//! server when its connection ends, and makes a new session only when the old one is expired. An unanswered write has
//! an unknown outcome; the next write carries a greater value, so a register may never fall.
//!
//! Answers come in the order of the requests. A read in a pipeline sees the writes that the client sent before it, and
//! none that it sent after it.

use super::check::Checker;
use crate::Rng;
use bytes::Bytes;
use std::collections::VecDeque;
use trivet_formats::client::{
    err, op, open_acl, xid, ConnectRequest, ConnectResponse, CreateRequest, MultiHeader, PathWatch, ReplyHeader,
    RequestHeader, SetDataRequest, Stat,
};
use trivet_formats::{Jute, Reader};

/// A client without an answer gives its connection up after this at the latest.
pub const PATIENCE_MS: u64 = 2_500;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Doing {
    Create,
    Set {
        value: u64,
    },
    Sync {
        register: usize,
        floor: u64,
    },
    /// `ceiling`: the greatest value that the client itself had asked for when it sent this.
    Get {
        register: usize,
        floor: u64,
        ceiling: Option<u64>,
    },
    Sequential,
    /// A set of the client's register among other parts.
    Multi {
        value: u64,
    },
    Ping,
}

/// A simulated ZooKeeper client, with the register that it writes to.
pub struct Client {
    /// Its number, from 0, which is also the number of its register (`/r<index>`).
    pub index: usize,
    /// The server that it is connected to, or tries next.
    pub server: usize,
    /// The number of its connection, if it has one.
    pub conn: Option<u64>,
    connected: bool,
    session: i64,
    password: [u8; 16],
    last_zxid: i64,
    xid: i32,
    created: bool,
    next_value: u64,
    /// Sent and not answered, in order.
    open: VecDeque<(i32, Doing)>,
    /// Requests that it may have open.
    window: usize,
    /// Since when the oldest of them, or the connect request, waits.
    pub since: u64,
    /// How long it waits for an answer on this connection.
    pub patience_ms: u64,
    /// Greatest value seen of each register on this session.
    seen: Vec<u64>,
    /// Requests that were answered.
    pub answers: u64,
    /// Sessions of this client that expired.
    pub expired: u64,
}

fn path(register: usize) -> String {
    format!("/r{register}")
}

fn request(xid: i32, op: i32, body: &[u8]) -> Bytes {
    [&RequestHeader { xid, op }.to_vec(), body].concat().into()
}

impl Client {
    /// A client without a connection, with at most `window` requests open at a time.
    pub fn new(index: usize, registers: usize, window: usize) -> Self {
        Client {
            index,
            server: 0,
            conn: None,
            connected: false,
            session: 0,
            password: [0; 16],
            last_zxid: 0,
            xid: 0,
            created: false,
            next_value: 1,
            open: VecDeque::new(),
            window,
            since: 0,
            patience_ms: PATIENCE_MS,
            seen: vec![0; registers],
            answers: 0,
            expired: 0,
        }
    }

    /// The first packet of a connection. Some clients restart their request numbers on each connection (kazoo does).
    pub fn connect_request(&mut self) -> Bytes {
        if self.window > 1 {
            self.xid = 0;
        }
        ConnectRequest {
            last_zxid_seen: self.last_zxid,
            timeout_ms: 6_000,
            session: self.session,
            password: self.password.to_vec(),
            read_only: Some(false),
        }
        .to_vec()
        .into()
    }

    /// The connection ended: the outcome of every open request is unknown from here on.
    pub fn disconnected(&mut self) {
        self.conn = None;
        self.connected = false;
        self.open.clear();
    }

    /// Whether the server accepted the session on this connection.
    pub fn connected(&self) -> bool {
        self.connected
    }
    /// Whether no request waits for an answer.
    pub fn nothing_open(&self) -> bool {
        self.open.is_empty()
    }
    /// Number of requests that wait for an answer.
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// For the trace.
    pub fn waits_for(&self) -> String {
        match self.open.front() {
            None => "its connect request".into(),
            Some((_, doing)) => format!("{doing:?}"),
        }
    }

    /// Whether another request may be sent now.
    pub fn has_room(&self) -> bool {
        self.connected && self.open.len() < self.window
    }

    fn sends(&mut self, doing: Doing, op: i32, body: &[u8]) -> Bytes {
        let xid = match doing {
            Doing::Ping => xid::PING,
            _ => {
                self.xid += 1;
                self.xid
            }
        };
        self.open.push_back((xid, doing));
        request(xid, op, body)
    }

    /// A set of its own register to a value that is new.
    fn grows(&mut self, checker: &mut Checker) -> (u64, SetDataRequest) {
        let value = self.next_value;
        self.next_value += 1;
        checker.asked[self.index] = value;
        let data = Some(Bytes::copy_from_slice(&value.to_be_bytes()));
        (value, SetDataRequest { path: path(self.index), data, version: -1 })
    }

    fn gets(&mut self, register: usize, floor: u64, watch: bool) -> Bytes {
        let ceiling = (register == self.index).then(|| self.next_value - 1);
        self.sends(
            Doing::Get { register, floor, ceiling },
            op::GET_DATA,
            &PathWatch { path: path(register), watch }.to_vec(),
        )
    }

    fn creates_sequential(&mut self) -> Bytes {
        let data = Some(Bytes::from_static(b"s"));
        let create = CreateRequest { path: "/q".into(), data, acl: open_acl(), flags: 3 };
        self.sends(Doing::Sequential, op::CREATE, &create.to_vec())
    }

    /// The requests that the client sends at once when there is room.
    pub fn next(&mut self, rng: &mut Rng, checker: &mut Checker) -> Vec<Bytes> {
        if !self.created {
            if !self.open.is_empty() {
                return Vec::new();
            }
            let create = CreateRequest { path: path(self.index), data: Some(Bytes::new()), acl: open_acl(), flags: 0 };
            return vec![self.sends(Doing::Create, op::CREATE, &create.to_vec())];
        }
        if self.window == 1 {
            return vec![self.one(rng, checker)];
        }
        let mut out = Vec::new();
        for _ in 0..rng.range(1, 1 + (self.window - self.open.len()) as u64) {
            self.one_of_many(rng, checker, &mut out);
        }
        out
    }

    fn one(&mut self, rng: &mut Rng, checker: &mut Checker) -> Bytes {
        match rng.range(0, 10) {
            0..=4 => {
                let (value, set) = self.grows(checker);
                self.sends(Doing::Set { value }, op::SET_DATA, &set.to_vec())
            }
            5 => self.creates_sequential(),
            6 | 7 => {
                let register = rng.index(self.seen.len());
                let watch = rng.chance(20);
                self.gets(register, self.seen[register], watch)
            }
            _ => {
                let register = rng.index(self.seen.len());
                let floor = checker.acknowledged[register];
                self.sends(Doing::Sync { register, floor }, op::SYNC, &path(register).to_vec())
            }
        }
    }

    fn one_of_many(&mut self, rng: &mut Rng, checker: &mut Checker, out: &mut Vec<Bytes>) {
        let register = if rng.chance(50) { self.index } else { rng.index(self.seen.len()) };
        let floor = self.seen[register];
        let request = match rng.range(0, 12) {
            0..=2 => {
                let (value, set) = self.grows(checker);
                self.sends(Doing::Set { value }, op::SET_DATA, &set.to_vec())
            }
            3 => self.creates_sequential(),
            4 | 5 => {
                let (value, set) = self.grows(checker);
                self.sends(Doing::Multi { value }, op::MULTI, &multi(&set, rng.chance(30)))
            }
            6 => self.sends(Doing::Ping, op::PING, &[]),
            7 | 8 => {
                let floor = checker.acknowledged[register];
                let sync = self.sends(Doing::Sync { register, floor }, op::SYNC, &path(register).to_vec());
                out.push(sync);
                // Writes acknowledged before the sync was sent are visible after it.
                self.gets(register, floor, false)
            }
            _ => {
                let watch = rng.chance(20);
                self.gets(register, floor, watch)
            }
        };
        out.push(request);
    }

    /// A packet from the server. Returns a request that follows at once.
    pub fn heard(&mut self, bytes: &[u8], checker: &mut Checker) -> Option<Bytes> {
        if !self.connected {
            let response = ConnectResponse::parse(bytes).expect("the first packet is the answer to connect");
            if response.timeout_ms == 0 {
                self.expired += 1;
                self.session = 0;
                self.password = [0; 16];
                self.open.clear();
                return None;
            }
            self.session = response.session;
            self.password = response.password;
            self.connected = true;
            return None;
        }
        let mut r = Reader::new(bytes);
        let header = ReplyHeader::get(&mut r).expect("a reply has a header");
        if header.xid == xid::NOTIFICATION {
            return None;
        }
        let asked = self.open.pop_front();
        let oldest = asked.as_ref().map_or(0, |(xid, _)| *xid);
        if header.xid != oldest {
            let doing = asked.as_ref().map(|(_, doing)| doing);
            checker.violate(format!(
                "client {} was answered {} while {oldest}, {doing:?}, was its oldest request",
                self.index, header.xid
            ));
            return None;
        }
        if header.zxid < self.last_zxid {
            checker.violate(format!("client {} saw zxid {:x} after {:x}", self.index, header.zxid, self.last_zxid));
        }
        self.last_zxid = self.last_zxid.max(header.zxid);
        let (_, doing) = asked?;
        if header.err == err::SESSION_EXPIRED {
            self.session = 0;
            return None;
        }
        self.answers += 1;
        match doing {
            Doing::Create => self.created = header.err == err::OK || header.err == err::NODE_EXISTS,
            Doing::Set { value } | Doing::Multi { value } if header.err == err::OK => {
                checker.acknowledged[self.index] = checker.acknowledged[self.index].max(value);
                self.seen[self.index] = self.seen[self.index].max(value);
            }
            Doing::Sync { register, floor } if header.err == err::OK && self.window == 1 => {
                return Some(self.gets(register, floor, false));
            }
            Doing::Get { register, floor, ceiling } => {
                let value = value_of(header.err, &mut r);
                let floor = floor.max(self.seen[register]);
                if value < floor || value > ceiling.unwrap_or(checker.asked[register]) {
                    checker.violate(format!(
                        "client {} read {value} from register {register}, which had been {floor} (zxid {:x}), and \
                         could be {} at most",
                        self.index,
                        header.zxid,
                        ceiling.unwrap_or(checker.asked[register])
                    ));
                }
                self.seen[register] = value;
            }
            _ => {}
        }
        None
    }
}

/// A multi with this set, and perhaps a sequential create before it.
fn multi(set: &SetDataRequest, creates: bool) -> Vec<u8> {
    let mut out = Vec::new();
    if creates {
        MultiHeader { op: op::CREATE, done: false, err: -1 }.put(&mut out);
        let data = Some(Bytes::from_static(b"m"));
        CreateRequest { path: "/q".into(), data, acl: open_acl(), flags: 3 }.put(&mut out);
    }
    MultiHeader { op: op::SET_DATA, done: false, err: -1 }.put(&mut out);
    set.put(&mut out);
    MultiHeader { op: -1, done: true, err: -1 }.put(&mut out);
    out
}

/// The register's value; one that does not exist yet is 0.
fn value_of(code: i32, r: &mut Reader<'_>) -> u64 {
    if code != err::OK {
        return 0;
    }
    let data = Option::<Bytes>::get(r).expect("getData answers with data").unwrap_or_default();
    Stat::get(r).expect("and a stat");
    data[..].try_into().map_or(0, u64::from_be_bytes)
}
