//! Reads: answered from the tree as it is here, and the watches that come with them.

use super::Requests;
use crate::acl;
use crate::tree::Node;
use crate::watches::{Mode, Modes};
use crate::ConnId;
use bytes::Bytes;
use trivet_formats::client::{
    begins_with_null, err, event, op, parse_multi, perms, xid, MultiHeader, MultiOp, PathInt, PathOnly, PathWatch,
    RequestHeader, SetWatches,
};
use trivet_formats::jute::put_buffer;
use trivet_formats::{Jute, Reader};

/// A body, or the code of an error.
type Answer = Result<Vec<u8>, i32>;

impl Requests<'_> {
    pub(super) fn read(&mut self, id: ConnId, header: RequestHeader, body: &Bytes) {
        let RequestHeader { mut xid, op } = header;
        if op == op::PING {
            // Whatever its number was.
            //= zookeeper 3.9 FinalRequestProcessor, OpCode.ping
            xid = xid::PING;
        }
        let answer = match op {
            op::EXISTS
            | op::GET_DATA
            | op::GET_CHILDREN
            | op::GET_CHILDREN2
            | op::GET_ACL
            | op::GET_ALL_CHILDREN_NUMBER
                if begins_with_null(body) =>
            {
                Err(err::MARSHALLING)
            }
            op::PING => Ok(Vec::new()),
            op::EXISTS => self.exists(id, body),
            op::GET_DATA => self.get_data(id, body),
            op::GET_CHILDREN | op::GET_CHILDREN2 => self.get_children(id, body, op == op::GET_CHILDREN2),
            op::GET_ACL => self.get_acl(id, body),
            op::GET_EPHEMERALS => self.get_ephemerals(id, body),
            op::GET_ALL_CHILDREN_NUMBER => self.all_children(id, body),
            op::MULTI_READ => self.multi_read(id, body),
            op::SET_WATCHES | op::SET_WATCHES2 => self.set_watches(id, body, op == op::SET_WATCHES2),
            op::ADD_WATCH => self.add_watch(id, body),
            op::CHECK_WATCHES | op::REMOVE_WATCHES => self.remove_watches(id, body, op == op::REMOVE_WATCHES),
            op::WHO_AM_I => self.who_am_i(id),
            // deleteContainer is for servers among themselves; so is a check outside of a multi.
            _ => Err(err::UNIMPLEMENTED),
        };
        let code = answer.as_ref().err().copied().unwrap_or(err::OK);
        self.answer(id, xid, code, &answer.unwrap_or_default());
        self.note_answer(id, xid, op, self.cx.now.mono_ms);
        if code == err::UNIMPLEMENTED {
            self.close(id);
        }
    }

    fn may_read(&self, id: ConnId, node: Node<'_>) -> Result<(), i32> {
        let conn = self.cx.clients.conns.get(&id).ok_or(err::CONNECTION_LOSS)?;
        (self.cx.cfg.skip_acl || acl::allows(node.acl(), perms::READ, &conn.ids)).then_some(()).ok_or(err::NO_AUTH)
    }

    /// The root has two names, as in Apache's table of nodes.
    fn node(&self, path: &str) -> Option<Node<'_>> {
        self.cx.tree.get(if path.is_empty() { "/" } else { path })
    }

    fn readable(&self, id: ConnId, path: &str) -> Result<Node<'_>, i32> {
        let node = self.node(path).ok_or(err::NO_NODE)?;
        self.may_read(id, node)?;
        Ok(node)
    }

    fn exists(&mut self, id: ConnId, body: &[u8]) -> Answer {
        let PathWatch { path, watch } = PathWatch::parse(body).map_err(|_| err::MARSHALLING)?;
        if path.contains('\0') {
            return Err(err::BAD_ARGUMENTS);
        }
        let stat = match self.node(&path) {
            Some(node) => {
                self.may_read(id, node)?;
                Some(node.client_stat())
            }
            None => None,
        };
        if watch {
            self.cx.watches.data.add(&path, id, Mode::Standard);
        }
        stat.map(|s| s.to_vec()).ok_or(err::NO_NODE)
    }

    fn get_data(&mut self, id: ConnId, body: &[u8]) -> Answer {
        let PathWatch { path, watch } = PathWatch::parse(body).map_err(|_| err::MARSHALLING)?;
        let node = self.readable(id, &path)?;
        let mut out = Vec::with_capacity(80 + node.data().map_or(0, <[u8]>::len));
        put_buffer(&mut out, node.data());
        node.client_stat().put(&mut out);
        if watch {
            self.cx.watches.data.add(&path, id, Mode::Standard);
        }
        Ok(out)
    }

    fn get_children(&mut self, id: ConnId, body: &[u8], with_stat: bool) -> Answer {
        let PathWatch { path, watch } = PathWatch::parse(body).map_err(|_| err::MARSHALLING)?;
        let node = self.readable(id, &path)?;
        let mut out = Vec::new();
        put_children(&mut out, node);
        if with_stat {
            node.client_stat().put(&mut out);
        }
        if watch {
            self.cx.watches.child.add(&path, id, Mode::Standard);
        }
        Ok(out)
    }

    fn get_acl(&mut self, id: ConnId, body: &[u8]) -> Answer {
        let PathOnly { path } = PathOnly::parse(body).map_err(|_| err::MARSHALLING)?;
        let node = self.node(&path).ok_or(err::NO_NODE)?;
        let ids = &self.cx.clients.conns.get(&id).ok_or(err::CONNECTION_LOSS)?.ids;
        if !self.cx.cfg.skip_acl && !acl::allows(node.acl(), perms::READ | perms::ADMIN, ids) {
            return Err(err::NO_AUTH);
        }
        let list =
            if acl::allows(node.acl(), perms::ADMIN, ids) { node.acl().to_vec() } else { acl::masked(node.acl()) };
        let mut out = Jute::to_vec(&list);
        node.client_stat().put(&mut out);
        Ok(out)
    }

    fn get_ephemerals(&mut self, id: ConnId, body: &[u8]) -> Answer {
        let PathOnly { path } = PathOnly::parse(body).map_err(|_| err::MARSHALLING)?;
        let session = self.cx.clients.conns.get(&id).ok_or(err::CONNECTION_LOSS)?.session;
        let paths: Vec<String> =
            self.cx.tree.ephemerals(session).filter(|p| p.starts_with(&path)).map(str::to_string).collect();
        Ok(Jute::to_vec(&paths))
    }

    fn all_children(&mut self, id: ConnId, body: &[u8]) -> Answer {
        let PathOnly { path } = PathOnly::parse(body).map_err(|_| err::MARSHALLING)?;
        self.readable(id, &path)?;
        Ok((self.cx.tree.descendant_count(&path) as i32).to_vec())
    }

    fn multi_read(&mut self, id: ConnId, body: &[u8]) -> Answer {
        let ops = parse_multi(&mut Reader::new(body)).map_err(|_| err::MARSHALLING)?;
        let mut out = Vec::new();
        for one in ops {
            let (op, path) = match one {
                MultiOp::GetData(r) => (op::GET_DATA, r.path),
                MultiOp::GetChildren(r) => (op::GET_CHILDREN, r.path),
                _ => return Err(err::MARSHALLING),
            };
            match self.readable(id, &path) {
                Ok(node) => {
                    MultiHeader { op, done: false, err: 0 }.put(&mut out);
                    if op == op::GET_DATA {
                        put_buffer(&mut out, node.data());
                        node.client_stat().put(&mut out);
                    } else {
                        put_children(&mut out, node);
                    }
                }
                Err(code) => {
                    MultiHeader { op: -1, done: false, err: code }.put(&mut out);
                    code.put(&mut out);
                }
            }
        }
        MultiHeader { op: -1, done: true, err: -1 }.put(&mut out);
        Ok(out)
    }

    fn who_am_i(&mut self, id: ConnId) -> Answer {
        let ids = &self.cx.clients.conns.get(&id).ok_or(err::CONNECTION_LOSS)?.ids;
        let mut out = Vec::new();
        (ids.len() as i32).put(&mut out);
        for i in ids {
            let user = if i.scheme == "digest" { i.id.split(':').next().unwrap_or_default() } else { &i.id };
            i.scheme.put(&mut out);
            user.to_string().put(&mut out);
        }
        Ok(out)
    }

    // ---- watches ----

    /// The watches that a client had before it lost its connection: an event that it missed is sent at once, the others are
    /// registered.
    fn set_watches(&mut self, id: ConnId, body: &[u8], second: bool) -> Answer {
        let mut r = Reader::new(body);
        let w = SetWatches::get(&mut r).map_err(|_| err::MARSHALLING)?;
        let (persistent, recursive) = if second {
            let persistent = Vec::<String>::get(&mut r).map_err(|_| err::MARSHALLING)?;
            (persistent, Vec::<String>::get(&mut r).map_err(|_| err::MARSHALLING)?)
        } else {
            Default::default()
        };
        for path in w.data {
            match self.cx.tree.get(&path).map(|n| n.stat().mzxid) {
                None => self.event(id, event::NODE_DELETED, &path, -1),
                Some(z) if z > w.relative_zxid => self.event(id, event::NODE_DATA_CHANGED, &path, -1),
                Some(_) => self.cx.watches.data.add(&path, id, Mode::Standard),
            }
        }
        for path in w.exist {
            match self.cx.tree.get(&path) {
                Some(_) => self.event(id, event::NODE_CREATED, &path, -1),
                None => self.cx.watches.data.add(&path, id, Mode::Standard),
            }
        }
        for path in w.child {
            match self.cx.tree.get(&path).map(|n| n.stat().pzxid) {
                None => self.event(id, event::NODE_DELETED, &path, -1),
                Some(z) if z > w.relative_zxid => self.event(id, event::NODE_CHILDREN_CHANGED, &path, -1),
                Some(_) => self.cx.watches.child.add(&path, id, Mode::Standard),
            }
        }
        for path in persistent {
            self.cx.watches.data.add(&path, id, Mode::Persistent);
            self.cx.watches.child.add(&path, id, Mode::Persistent);
        }
        for path in recursive {
            self.cx.watches.data.add(&path, id, Mode::Recursive);
        }
        Ok(Vec::new())
    }

    fn add_watch(&mut self, id: ConnId, body: &[u8]) -> Answer {
        let PathInt { path, value: mode } = PathInt::parse(body).map_err(|_| err::MARSHALLING)?;
        match mode {
            0 => {
                self.cx.watches.data.add(&path, id, Mode::Persistent);
                self.cx.watches.child.add(&path, id, Mode::Persistent);
            }
            1 => self.cx.watches.data.add(&path, id, Mode::Recursive),
            _ => return Err(err::MARSHALLING),
        }
        Ok(0i32.to_vec())
    }

    fn remove_watches(&mut self, id: ConnId, body: &[u8], remove: bool) -> Answer {
        const STANDARD: Modes = Modes { standard: true, persistent: false, recursive: false };
        const PERSISTENT: Modes = Modes { standard: false, persistent: true, recursive: false };
        const RECURSIVE: Modes = Modes { standard: false, persistent: false, recursive: true };
        const ALL: Modes = Modes { standard: true, persistent: true, recursive: true };
        const NONE: Modes = Modes { standard: false, persistent: false, recursive: false };
        let PathInt { path, value: kind } = PathInt::parse(body).map_err(|_| err::MARSHALLING)?;
        let (data, child) = match kind {
            1 => (NONE, STANDARD),
            2 => (STANDARD, NONE),
            3 => (ALL, ALL),
            4 => (PERSISTENT, PERSISTENT),
            5 => (RECURSIVE, NONE),
            _ => return Err(err::BAD_ARGUMENTS),
        };
        let found = if remove {
            // Both, always: no short cut.
            self.cx.watches.data.remove(&path, id, data) | self.cx.watches.child.remove(&path, id, child)
        } else {
            let overlaps = |have: Modes, want: Modes| {
                have.standard && want.standard || have.persistent && want.persistent || have.recursive && want.recursive
            };
            overlaps(self.cx.watches.data.contains(&path, id), data)
                || overlaps(self.cx.watches.child.contains(&path, id), child)
        };
        found.then(Vec::new).ok_or(err::NO_WATCHER)
    }
}

fn put_children(out: &mut Vec<u8>, node: Node<'_>) {
    (node.child_count() as i32).put(out);
    for child in node.children() {
        trivet_formats::jute::put_str(out, child);
    }
}
