//! Clients: a session each, requests that may be pipelined, and what they hear.

use super::{wire, Ensemble};
use bytes::Bytes;
use std::collections::VecDeque;
use trivet_coordination::{ClientInput, ConnId, Input};
use trivet_formats::client::{
    op, open_acl, ConnectRequest, ConnectResponse, CreateRequest, PathOnly, PathWatch, ReplyHeader, RequestHeader,
    SetDataRequest,
};
use trivet_formats::jute::{Jute, Reader};
use trivet_formats::{ServerId, SessionId, Zxid};

/// Session time-out that clients ask for: no transcript lasts as long.
const TIMEOUT_MS: i32 = 60_000;

#[derive(Default)]
pub(super) struct Client {
    conn: Option<ConnId>,
    server: usize,
    session: i64,
    password: [u8; 16],
    last_zxid: i64,
    /// The answer to the connect request came.
    connected: bool,
    xid: i32,
    open: VecDeque<(i32, String)>,
}

impl Ensemble {
    pub(super) fn connect(&mut self, name: &str, id: &str) -> Result<(), String> {
        self.live(id)?;
        let node = self.index(id)?;
        self.next_conn += 1;
        let conn = ConnId(self.next_conn);
        let client = self.clients.entry(name.to_string()).or_default();
        *client = Client {
            conn: Some(conn),
            server: node,
            connected: false,
            open: VecDeque::new(),
            ..std::mem::take(client)
        };
        let connect = ConnectRequest {
            last_zxid_seen: client.last_zxid,
            timeout_ms: TIMEOUT_MS,
            session: client.session,
            password: client.password.to_vec(),
            read_only: None,
        };
        if client.session == 0 {
            self.names.connecting.insert(ServerId(node as i64 + 1), name.to_string());
        }
        let connected = ClientInput::Connected { ip: "10.0.0.9".into(), port: 1 };
        self.feed(node, Input::Client { conn, input: connected });
        self.feed(node, Input::Client { conn, input: ClientInput::Frame(connect.to_vec().into()) });
        Ok(())
    }

    /// The client's connection ends, and its server hears of that.
    pub(super) fn leave(&mut self, name: &str) -> Result<(), String> {
        let client = self.clients.get_mut(name).ok_or("there is no such client")?;
        let conn = client.conn.take().ok_or("it is not connected")?;
        client.open.clear();
        let node = client.server;
        self.feed(node, Input::Client { conn, input: ClientInput::Closed });
        Ok(())
    }

    pub(super) fn request(&mut self, what: &str, name: &str, path: &str, rest: &[&str]) -> Result<(), String> {
        let data = rest.first().map(|d| Bytes::copy_from_slice(d.as_bytes()));
        let path = path.to_string();
        let (op, body, text) = match what {
            "create" => {
                let create = CreateRequest { path: path.clone(), data, acl: open_acl(), flags: 0 };
                (op::CREATE, create.to_vec(), format!("create {path}"))
            }
            "set" => {
                let text = format!("set {path}");
                (op::SET_DATA, SetDataRequest { path, data, version: -1 }.to_vec(), text)
            }
            "get" => (op::GET_DATA, PathWatch { path: path.clone(), watch: false }.to_vec(), format!("get {path}")),
            "sync-read" => (op::SYNC, PathOnly { path: path.clone() }.to_vec(), format!("sync {path}")),
            _ => return Err("no such command".into()),
        };
        let client = self.clients.get_mut(name).ok_or("there is no such client")?;
        let conn = client.conn.ok_or("it is not connected")?;
        client.xid += 1;
        client.open.push_back((client.xid, text));
        let frame = [&RequestHeader { xid: client.xid, op }.to_vec()[..], &body].concat();
        let node = client.server;
        self.feed(node, Input::Client { conn, input: ClientInput::Frame(frame.into()) });
        Ok(())
    }

    pub(super) fn client_hears(&mut self, node: usize, conn: ConnId, bytes: &[u8]) {
        let Some((name, client)) = self.clients.iter_mut().find(|(_, c)| c.conn == Some(conn)) else { return };
        let name = name.clone();
        let mut frames = bytes;
        let mut lines = Vec::new();
        while frames.len() >= 4 {
            let (length, rest) = frames.split_at(4);
            let length = u32::from_be_bytes(length.try_into().expect("4")) as usize;
            let (frame, rest) = rest.split_at(length.min(rest.len()));
            frames = rest;
            lines.push(client.hears(frame));
        }
        if client.session != 0 {
            self.names.sessions.insert(SessionId(client.session), name.clone());
        }
        lines.into_iter().for_each(|line| self.say(format!("  {} to client {name}: {line}", node + 1)));
    }

    /// The server ends a client's connection.
    pub(super) fn client_lost(&mut self, conn: ConnId) {
        let Some((name, client)) = self.clients.iter_mut().find(|(_, c)| c.conn == Some(conn)) else { return };
        let (name, node) = (name.clone(), client.server);
        let open = std::mem::take(&mut client.open).len();
        client.conn = None;
        let lost = match open {
            0 => String::new(),
            1 => ", its request is not answered".into(),
            n => format!(", its {n} requests are not answered"),
        };
        self.say(format!("  {} to client {name}: connection closed{lost}", node + 1));
    }

    /// A server was killed.
    pub(super) fn clients_lose(&mut self, node: usize) {
        let conns: Vec<_> = self.clients.values().filter(|c| c.server == node).filter_map(|c| c.conn).collect();
        conns.into_iter().for_each(|conn| self.client_lost(conn));
    }
}

impl Client {
    fn hears(&mut self, frame: &[u8]) -> String {
        if !self.connected {
            let r = ConnectResponse::parse(frame).expect("the first answer is one to the connect request");
            if r.session == 0 || r.timeout_ms == 0 {
                return "your session is expired".into();
            }
            let known = self.session == r.session;
            (self.connected, self.session, self.password) = (true, r.session, r.password);
            return if known { "your session continues here".into() } else { "your session is open".into() };
        }
        let mut r = Reader::new(frame);
        let header = ReplyHeader::get(&mut r).expect("an answer has a header");
        self.last_zxid = self.last_zxid.max(header.zxid);
        let asked = self.open.pop_front().filter(|(xid, _)| *xid == header.xid);
        let (_, text) = asked.expect("answers come in the order of requests");
        if header.err != 0 {
            return format!("{text}: {}", wire::error(header.err));
        }
        let data = text.starts_with("get").then(|| r.buffer().ok().flatten().unwrap_or_default().to_vec());
        let data = data.map_or(String::new(), |d| format!(" is {:?}", String::from_utf8_lossy(&d)));
        format!("{text}{data}: ok at {:?}", Zxid(header.zxid))
    }
}
