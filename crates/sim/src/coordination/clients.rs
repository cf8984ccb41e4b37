//! Clients: each writes growing values to a register of its own and reads everybody's.
//!
//! A client has one session and one request open. It moves to another server when its connection
//! ends, and makes a new session only when the old one is expired. An unanswered write has an
//! unknown outcome; the next write carries a greater value, so a register may never fall.

use super::check::Checker;
use crate::Rng;
use bytes::Bytes;
use trivet_formats::client::{
    err, op, open_acl, ConnectRequest, ConnectResponse, CreateRequest, PathWatch, ReplyHeader, RequestHeader,
    SetDataRequest, Stat,
};
use trivet_formats::{Jute, Reader};

/// A client without an answer gives its connection up after this at the latest.
pub const PATIENCE_MS: u64 = 2_500;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Doing {
    Create,
    Set { value: u64 },
    Sync { register: usize, floor: u64 },
    Get { register: usize, floor: u64 },
    Sequential,
}

pub struct Client {
    pub index: usize,
    pub server: usize,
    pub conn: Option<u64>,
    connected: bool,
    session: i64,
    password: [u8; 16],
    last_zxid: i64,
    xid: i32,
    created: bool,
    next_value: u64,
    doing: Option<Doing>,
    pub since: u64,
    /// How long it waits for an answer on this connection.
    pub patience_ms: u64,
    /// Greatest value seen of each register on this session.
    seen: Vec<u64>,
    pub answers: u64,
    pub expired: u64,
}

fn path(register: usize) -> String {
    format!("/r{register}")
}

fn request<T: Jute>(xid: i32, op: i32, body: &T) -> Bytes {
    let mut out = Vec::new();
    RequestHeader { xid, op }.put(&mut out);
    body.put(&mut out);
    out.into()
}

impl Client {
    pub fn new(index: usize, registers: usize) -> Self {
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
            doing: None,
            since: 0,
            patience_ms: PATIENCE_MS,
            seen: vec![0; registers],
            answers: 0,
            expired: 0,
        }
    }

    pub fn connect_request(&self) -> Bytes {
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

    pub fn disconnected(&mut self) {
        self.conn = None;
        self.connected = false;
        self.doing = None;
    }

    /// For the trace.
    pub fn waits_for(&self) -> String {
        match &self.doing {
            None => "its connect request".into(),
            Some(doing) => format!("{doing:?}"),
        }
    }

    pub fn idle(&self) -> bool {
        self.connected && self.doing.is_none()
    }

    /// The next request, when nothing is open.
    pub fn next(&mut self, rng: &mut Rng, checker: &mut Checker) -> Bytes {
        self.xid += 1;
        let xid = self.xid;
        if !self.created {
            self.doing = Some(Doing::Create);
            return request(
                xid,
                op::CREATE,
                &CreateRequest { path: path(self.index), data: Some(Bytes::new()), acl: open_acl(), flags: 0 },
            );
        }
        match rng.range(0, 10) {
            0..=4 => {
                let value = self.next_value;
                self.next_value += 1;
                checker.asked[self.index] = value;
                self.doing = Some(Doing::Set { value });
                let data = Some(Bytes::copy_from_slice(&value.to_be_bytes()));
                request(xid, op::SET_DATA, &SetDataRequest { path: path(self.index), data, version: -1 })
            }
            5 => {
                self.doing = Some(Doing::Sequential);
                let data = Some(Bytes::from_static(b"s"));
                request(xid, op::CREATE, &CreateRequest { path: "/q".into(), data, acl: open_acl(), flags: 3 })
            }
            6 | 7 => {
                let register = rng.index(self.seen.len());
                self.doing = Some(Doing::Get { register, floor: self.seen[register] });
                request(xid, op::GET_DATA, &PathWatch { path: path(register), watch: rng.chance(20) })
            }
            _ => {
                let register = rng.index(self.seen.len());
                self.doing = Some(Doing::Sync { register, floor: checker.acknowledged[register] });
                request(xid, op::SYNC, &path(register))
            }
        }
    }

    /// A packet from the server. Returns a request that follows at once.
    pub fn heard(&mut self, bytes: &[u8], checker: &mut Checker) -> Option<Bytes> {
        if !self.connected {
            let response = ConnectResponse::parse(bytes).expect("the first packet is the answer to connect");
            if response.timeout_ms == 0 {
                self.expired += 1;
                self.session = 0;
                self.password = [0; 16];
                return None;
            }
            self.session = response.session;
            self.password = response.password;
            self.connected = true;
            return None;
        }
        let mut r = Reader::new(bytes);
        let header = ReplyHeader::get(&mut r).expect("a reply has a header");
        if header.xid == -1 {
            return None;
        }
        if header.xid != self.xid {
            checker.violate(format!("client {} was answered {} after asking {}", self.index, header.xid, self.xid));
        }
        if header.zxid < self.last_zxid {
            checker.violate(format!("client {} saw zxid {:x} after {:x}", self.index, header.zxid, self.last_zxid));
        }
        self.last_zxid = self.last_zxid.max(header.zxid);
        let doing = self.doing.take()?;
        if header.err == err::SESSION_EXPIRED {
            self.session = 0;
            return None;
        }
        self.answers += 1;
        match doing {
            Doing::Create => self.created = header.err == err::OK || header.err == err::NODE_EXISTS,
            Doing::Set { value } if header.err == err::OK => {
                checker.acknowledged[self.index] = checker.acknowledged[self.index].max(value);
            }
            Doing::Sync { register, floor } if header.err == err::OK => {
                self.xid += 1;
                self.doing = Some(Doing::Get { register, floor });
                return Some(request(self.xid, op::GET_DATA, &PathWatch { path: path(register), watch: false }));
            }
            Doing::Get { register, floor } => {
                let value = value_of(header.err, &mut r);
                let floor = floor.max(self.seen[register]);
                if value < floor || value > checker.asked[register] {
                    checker.violate(format!(
                        "client {} read {value} from register {register}, which had been {floor} (zxid {:x})",
                        self.index, header.zxid
                    ));
                }
                self.seen[register] = value;
            }
            _ => {}
        }
        None
    }
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
