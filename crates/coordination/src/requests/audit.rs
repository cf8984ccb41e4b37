//! Changes by clients, as lines of Apache's audit log: who, from where, which operation, on what, and whether it was done. A
//! server writes down what its own clients asked for, and the ephemeral znodes that it deletes with their sessions.
//= zookeeper 3.9 audit/AuditHelper.java, audit/AuditEvent.java

use super::Requests;
use crate::api::Effect;
use crate::audit::{AuditLine, FAILURE, SUCCESS};
use crate::tree::{Change, ChangeKind, Outcome};
use crate::ConnId;
use bytes::Bytes;
use trivet_formats::client::{
    op, parse_multi, perms, Acl, CreateRequest, CreateTtlRequest, DeleteRequest, Id, MultiOp, SetAclRequest,
    SetDataRequest,
};
use trivet_formats::txn::TxnBody;
use trivet_formats::{Jute, Reader};

/// The request behind its number and kind.
const HEADER_BYTES: usize = 8;
/// Where a change of the members shows.
const CONFIG_ZNODE: &str = "/zookeeper/config";

/// The change that a request asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    operation: &'static str,
    znode: Option<String>,
    znode_type: Option<&'static str>,
    acl: Option<String>,
}

impl Asked {
    fn new(operation: &'static str, znode: String) -> Asked {
        Asked { operation, znode: Some(znode), ..Asked::default() }
    }
    fn create(op: i32, flags: i32, znode: String) -> Asked {
        let znode_type = match (op, flags) {
            (op::CREATE_CONTAINER, _) | (_, 4) => "container",
            (_, 0) => "persistent",
            (_, 1) => "ephemeral",
            (_, 2) => "persistent_sequential",
            (_, 3) => "ephemeral_sequential",
            (_, 5) => "persistent_with_ttl",
            (_, 6) => "persistent_sequential_with_ttl",
            _ => return Asked::new("create", znode),
        };
        Asked { znode_type: Some(znode_type), ..Asked::new("create", znode) }
    }
}

/// `world:anyone:cdrwa`, one behind the other.
fn listed(acl: &[Acl]) -> String {
    let letters =
        [(perms::CREATE, 'c'), (perms::DELETE, 'd'), (perms::READ, 'r'), (perms::WRITE, 'w'), (perms::ADMIN, 'a')];
    let one = |a: &Acl| {
        let granted: String = letters.iter().filter(|(bit, _)| a.perms & bit != 0).map(|(_, letter)| letter).collect();
        format!("{}:{}:{granted}", a.id.scheme, a.id.id)
    };
    acl.iter().map(one).collect()
}

/// The operations of an answered write, and whether each was done. Of a multi that failed nothing was.
fn operations(op: i32, body: &[u8], outcome: &Outcome) -> Vec<(Asked, bool)> {
    let done = !matches!(outcome, Outcome::Error(_));
    let asked = match op {
        op::CREATE | op::CREATE2 | op::CREATE_CONTAINER => {
            CreateRequest::get(&mut Reader::new(body)).map(|r| Asked::create(op, r.flags, r.path)).ok()
        }
        op::CREATE_TTL => {
            CreateTtlRequest::get(&mut Reader::new(body)).map(|r| Asked::create(op, r.flags, r.path)).ok()
        }
        op::DELETE => DeleteRequest::get(&mut Reader::new(body)).map(|r| Asked::new("delete", r.path)).ok(),
        op::SET_DATA => SetDataRequest::get(&mut Reader::new(body)).map(|r| Asked::new("setData", r.path)).ok(),
        op::SET_ACL => SetAclRequest::get(&mut Reader::new(body))
            .map(|r| Asked { acl: Some(listed(&r.acl)), ..Asked::new("setAcl", r.path) })
            .ok(),
        op::RECONFIG => {
            Some(Asked { operation: "reconfig", znode: done.then(|| CONFIG_ZNODE.into()), ..Asked::default() })
        }
        op::MULTI => return multi(body, outcome),
        _ => None,
    };
    let asked = asked.map(|asked| match outcome {
        // A sequential znode has another name than the one that was asked for.
        Outcome::Created(path, _) => Asked { znode: Some(path.clone()), ..asked },
        _ => asked,
    });
    asked.map(|asked| (asked, done)).into_iter().collect()
}

fn multi(body: &[u8], outcome: &Outcome) -> Vec<(Asked, bool)> {
    let failed = || vec![(Asked { operation: "multiOperation", ..Asked::default() }, false)];
    let (Outcome::Multi(parts), Ok(ops)) = (outcome, parse_multi(&mut Reader::new(body))) else { return failed() };
    if parts.iter().any(|part| matches!(part, Outcome::Error(_))) {
        return failed();
    }
    let one = |(asked, part): (MultiOp, &Outcome)| {
        let asked = match (asked, part) {
            (MultiOp::Create { op, request, .. }, Outcome::Created(path, _)) => {
                Asked::create(op, request.flags, path.clone())
            }
            (MultiOp::Delete(r), _) => Asked::new("delete", r.path),
            (MultiOp::SetData(r), _) => Asked::new("setData", r.path),
            _ => return None,
        };
        Some((asked, true))
    };
    ops.into_iter().zip(parts).filter_map(one).collect()
}

/// The names of a client, as Apache's providers tell them. What makes it a super user is no name.
fn users(ids: &[Id]) -> String {
    let name = |id: &Id| match id.scheme.as_str() {
        "digest" => Some(id.id.split(':').next().unwrap_or_default().to_string()),
        "ip" | "x509" | "sasl" => Some(id.id.clone()),
        _ => None,
    };
    ids.iter().filter_map(name).collect::<Vec<_>>().join(",")
}

impl Requests<'_> {
    /// A write of this connection was answered.
    pub(super) fn audit(&mut self, id: ConnId, op: i32, request: &Bytes, outcome: &Outcome) {
        let Some(conn) = self.cx.clients.conns.get(&id) else { return };
        let (session, user, ip) = (format!("{:#x}", conn.session.0), users(&conn.ids), conn.ip.clone());
        let body = request.get(HEADER_BYTES..).unwrap_or_default();
        for (asked, done) in operations(op, body, outcome) {
            let fields = [
                ("session", Some(session.as_str())),
                ("user", Some(user.as_str())),
                ("ip", Some(ip.as_str())),
                ("operation", Some(asked.operation)),
                ("znode", asked.znode.as_deref()),
                ("znode_type", asked.znode_type),
                ("acl", asked.acl.as_deref()),
            ];
            self.cx.out.push(Effect::Audit(AuditLine::new(&fields, if done { SUCCESS } else { FAILURE })));
        }
    }

    /// The ephemeral znodes that went with a session.
    pub(super) fn audit_session_end(&mut self, body: &TxnBody, changes: &[Change]) {
        let Some(user) = self.cx.cfg.audit_user.clone().filter(|_| matches!(body, TxnBody::CloseSession { .. })) else {
            return;
        };
        for change in changes.iter().filter(|c| c.kind == ChangeKind::Deleted) {
            let operation = "ephemeralZNodeDeletionOnSessionCloseOrExpire";
            let fields =
                [("user", Some(user.as_str())), ("operation", Some(operation)), ("znode", Some(change.path.as_str()))];
            self.cx.out.push(Effect::Audit(AuditLine::new(&fields, SUCCESS)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trivet_formats::client::{err, Stat};

    fn create(path: &str, flags: i32) -> Vec<u8> {
        CreateRequest { path: path.into(), data: None, acl: Vec::new(), flags }.to_vec()
    }

    fn told(op: i32, body: &[u8], outcome: &Outcome) -> Vec<String> {
        let line = |(a, done): (Asked, bool)| {
            let fields = [
                ("operation", Some(a.operation)),
                ("znode", a.znode.as_deref()),
                ("znode_type", a.znode_type),
                ("acl", a.acl.as_deref()),
            ];
            AuditLine::new(&fields, if done { SUCCESS } else { FAILURE }).text
        };
        operations(op, body, outcome).into_iter().map(line).collect()
    }

    /// The lines are those of Apache 3.8.0 for the same requests.
    #[test]
    fn lines_as_apache_writes_them() {
        let made = |path: &str| Outcome::Created(path.into(), Stat::default());
        let refused = Outcome::Error(err::NO_NODE);
        for (op, flags, outcome, line) in [
            (op::CREATE, 0, made("/a"), "operation=create\tznode=/a\tznode_type=persistent\tresult=success"),
            (op::CREATE, 0, refused.clone(), "operation=create\tznode=/a\tznode_type=persistent\tresult=failure"),
            (
                op::CREATE2,
                3,
                made("/a01"),
                "operation=create\tznode=/a01\tznode_type=ephemeral_sequential\tresult=success",
            ),
        ] {
            assert_eq!(told(op, &create("/a", flags), &outcome), [line]);
        }
        let delete = DeleteRequest { path: "/nix".into(), version: -1 }.to_vec();
        assert_eq!(told(op::DELETE, &delete, &refused), ["operation=delete\tznode=/nix\tresult=failure"]);
        let of = |perms, scheme: &str, id: &str| Acl { perms, id: Id { scheme: scheme.into(), id: id.into() } };
        let acl = vec![of(31, "world", "anyone"), of(perms::READ, "digest", "bob:ttt")];
        let set_acl = SetAclRequest { path: "/a".into(), acl, version: -1 }.to_vec();
        assert_eq!(
            told(op::SET_ACL, &set_acl, &Outcome::Stat(Stat::default())),
            ["operation=setAcl\tznode=/a\tacl=world:anyone:cdrwadigest:bob:ttt:r\tresult=success"]
        );
        assert_eq!(told(op::RECONFIG, &[], &refused), ["operation=reconfig\tresult=failure"]);
        for nothing in [op::CLOSE_SESSION, op::GET_DATA] {
            assert!(told(nothing, &[], &Outcome::Nothing).is_empty());
        }
        // A request that cannot be read was refused, and says nothing of what it wanted.
        assert!(told(op::CREATE, &[1], &refused).is_empty());
        assert_eq!(told(op::MULTI, &[1], &refused), ["operation=multiOperation\tresult=failure"]);
    }

    #[test]
    fn names_that_clients_chose_do_not_break_lines() {
        let ids = [("ip", "10.0.0.9"), ("digest", "eve\nresult=success:x"), ("super", ""), ("sasl", "bob")]
            .map(|(scheme, id)| Id { scheme: scheme.into(), id: id.into() });
        let user = users(&ids);
        assert_eq!(
            AuditLine::new(&[("user", Some(&user)), ("ip", None)], FAILURE).text,
            "user=10.0.0.9,eve?result=success,bob\tresult=failure"
        );
    }
}
