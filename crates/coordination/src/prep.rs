//! Preparation: a request becomes a transaction that cannot fail when it is applied.
//!
//! Checks run against the tree as it will be when everything proposed so far is applied: the tree
//! with the changes that are still open laid over it. A request that fails becomes an error
//! transaction. A multi is staged as a whole and kept only if every part passes.

use crate::acl;
use crate::api::Now;
use crate::ensemble::Ensemble;
use crate::paths::{self, CONFIG_NODE};
use crate::sessions::{Owner, Tracker};
use crate::tree::{is_session, split, Tree, CONTAINER_OWNER};
use crate::{Config, Map};
use bytes::Bytes;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use trivet_formats::client::{
    begins_with_null, err, op, parse_multi, perms, Acl, CheckVersionRequest, CreateRequest, CreateTtlRequest,
    DeleteRequest, Id, MultiOp, PathOnly, ReconfigRequest, SetAclRequest, SetDataRequest, StatPersisted,
};
use trivet_formats::txn::{CreateMode, TxnBody};
use trivet_formats::{Jute, Reader, ServerId, SessionId, Zxid};

/// Longest time to live of a TTL node (40 bits of milliseconds).
const TTL_MS_MAX: i64 = 0xff_ffff_ffff;

/// A request as the leader gets it, from a client of its own or forwarded.
pub(crate) struct Request<'a> {
    pub session: SessionId,
    pub owner: Owner,
    pub op: i32,
    pub body: &'a Bytes,
    pub ids: &'a [Id],
    pub zxid: Zxid,
    pub now: Now,
    /// The session may be one that only the learner knows which began it.
    pub may_be_local: bool,
    /// For a reconfig: who follows, with the leader.
    pub synced: &'a [ServerId],
}

/// A node as open changes leave it.
#[derive(Clone)]
struct Record {
    stat: StatPersisted,
    child_count: usize,
    acl: Arc<[Acl]>,
}

#[derive(Clone)]
struct Change {
    zxid: Zxid,
    /// `None`: deleted.
    record: Option<Record>,
}

/// Changes that are proposed and not applied yet.
#[derive(Default)]
pub(crate) struct Prep {
    changes: Map<String, Change>,
    order: VecDeque<(Zxid, String)>,
}

/// The changes of a single request, kept apart until all of it is valid.
struct Stage<'a> {
    prep: &'a Prep,
    tree: &'a Tree,
    staged: Map<String, Option<Record>>,
    /// The ensemble knows the session.
    is_global: bool,
}

impl Stage<'_> {
    fn get(&self, path: &str) -> Option<Record> {
        if let Some(staged) = self.staged.get(path) {
            return staged.clone();
        }
        if let Some(change) = self.prep.changes.get(path) {
            return change.record.clone();
        }
        let node = self.tree.get(path)?;
        Some(Record { stat: *node.stat(), child_count: node.child_count(), acl: node.acl().clone() })
    }
    fn need(&self, path: &str) -> Result<Record, i32> {
        self.get(path).ok_or(err::NO_NODE)
    }
    fn set(&mut self, path: &str, record: Option<Record>) {
        self.staged.insert(path.to_string(), record);
    }
}

type Prepared = Result<TxnBody, i32>;

impl Prep {
    /// Forgets the changes of a transaction that the tree contains.
    pub(crate) fn applied(&mut self, zxid: Zxid) {
        while self.order.front().is_some_and(|(z, _)| *z <= zxid) {
            let (_, path) = self.order.pop_front().expect("looked");
            if self.changes.get(&path).is_some_and(|c| c.zxid <= zxid) {
                self.changes.remove(&path);
            }
        }
    }

    pub(crate) fn prepare(&mut self, tree: &Tree, cfg: &Config, tracker: &mut Tracker, r: &Request<'_>) -> TxnBody {
        let mut stage = Stage { prep: self, tree, staged: Map::default(), is_global: true };
        let prepared = prepare_one(&mut stage, cfg, tracker, r);
        let staged = stage.staged;
        match prepared {
            Ok(body) => {
                for (path, record) in staged {
                    self.order.push_back((r.zxid, path.clone()));
                    self.changes.insert(path, Change { zxid: r.zxid, record });
                }
                body
            }
            Err(code) => TxnBody::Error(code),
        }
    }

    /// The session's ephemeral nodes when everything open is applied.
    fn ephemerals(&self, tree: &Tree, session: SessionId) -> BTreeSet<String> {
        let mut paths: BTreeSet<String> = tree.ephemerals(session).map(str::to_string).collect();
        for (path, change) in &self.changes {
            match &change.record {
                Some(r) if r.stat.ephemeral_owner == session.0 => {
                    paths.insert(path.clone());
                }
                _ => {
                    paths.remove(path);
                }
            }
        }
        paths
    }
}

fn prepare_one(stage: &mut Stage<'_>, cfg: &Config, tracker: &mut Tracker, r: &Request<'_>) -> Prepared {
    let mut body = Reader::sharing(r.body);
    let bad = |_| err::MARSHALLING;
    match r.op {
        op::CREATE_SESSION => {
            let timeout_ms = body.i32().map_err(bad)?;
            tracker.track(r.now.mono_ms, r.session, timeout_ms, Some(r.owner));
            return Ok(TxnBody::CreateSession { timeout_ms });
        }
        op::CLOSE_SESSION => {
            let paths: Vec<_> = stage.prep.ephemerals(stage.tree, r.session).into_iter().collect();
            for path in &paths {
                remove_from_parent(stage, path);
                stage.set(path, None);
            }
            tracker.set_closing(r.session);
            return Ok(TxnBody::CloseSession { paths });
        }
        op::DELETE_CONTAINER => return delete_container(stage, &PathOnly::get(&mut body).map_err(bad)?.path, r),
        _ => {}
    }
    check_session(tracker, r)?;
    let makes_or_deletes =
        matches!(r.op, op::CREATE | op::CREATE2 | op::CREATE_CONTAINER | op::CREATE_TTL | op::DELETE);
    if makes_or_deletes && begins_with_null(r.body) {
        // Apache's processor fails on it before it looks at the path.
        return Err(err::MARSHALLING);
    }
    // A local session has no ephemeral nodes: its server makes it the ensemble's first.
    stage.is_global = tracker.knows(r.session);
    match r.op {
        op::CREATE | op::CREATE2 | op::CREATE_CONTAINER => {
            create(stage, cfg, r, r.op, CreateRequest::get(&mut body).map_err(bad)?, -1)
        }
        op::CREATE_TTL => {
            let t = CreateTtlRequest::get(&mut body).map_err(bad)?;
            let request = CreateRequest { path: t.path, data: t.data, acl: t.acl, flags: t.flags };
            create(stage, cfg, r, r.op, request, t.ttl)
        }
        op::DELETE => delete(stage, cfg, r, DeleteRequest::get(&mut body).map_err(bad)?),
        op::SET_DATA => set_data(stage, cfg, r, SetDataRequest::get(&mut body).map_err(bad)?),
        op::SET_ACL => set_acl(stage, cfg, r, SetAclRequest::get(&mut body).map_err(bad)?),
        op::CHECK => check(stage, cfg, r, CheckVersionRequest::get(&mut body).map_err(bad)?),
        op::MULTI => multi(stage, cfg, r, parse_multi(&mut body).map_err(bad)?),
        op::RECONFIG => reconfig(stage, cfg, r, &ReconfigRequest::get(&mut body).map_err(bad)?),
        _ => Err(err::UNIMPLEMENTED),
    }
}

/// Whether the owner may speak for the session.
//= zookeeper 3.9 LeaderSessionTracker.checkSession
fn check_session(tracker: &mut Tracker, r: &Request<'_>) -> Result<(), i32> {
    if r.may_be_local && !tracker.knows(r.session) {
        return Ok(());
    }
    tracker.check(r.session, r.owner)
}

fn allowed(cfg: &Config, record: &Record, perm: i32, r: &Request<'_>) -> Result<(), i32> {
    (cfg.skip_acl || acl::allows(&record.acl, perm, r.ids)).then_some(()).ok_or(err::NO_AUTH)
}

fn create(stage: &mut Stage<'_>, cfg: &Config, r: &Request<'_>, op: i32, request: CreateRequest, ttl: i64) -> Prepared {
    let CreateRequest { mut path, data, acl, flags } = request;
    let (ephemeral, sequential, with_ttl) = match flags {
        0 | 4 => (false, false, false),
        1 => (true, false, false),
        2 => (false, true, false),
        3 => (true, true, false),
        5 => (false, false, true),
        6 => (false, true, true),
        _ => return Err(err::BAD_ARGUMENTS),
    };
    if ephemeral && !stage.is_global {
        return Err(err::SESSION_EXPIRED);
    }
    if with_ttl && !cfg.extended_types {
        return Err(err::UNIMPLEMENTED);
    }
    if with_ttl && !(1..=TTL_MS_MAX).contains(&ttl) || !with_ttl && ttl != -1 {
        return Err(err::BAD_ARGUMENTS);
    }
    let (parent_path, _) = split(&path).filter(|_| !path.contains('\0')).ok_or(err::BAD_ARGUMENTS)?;
    let parent_path = parent_path.to_string();
    let acl = acl::fix_up(&acl, r.ids, &cfg.auth_schemes)?;
    let mut parent = stage.need(&parent_path)?;
    allowed(cfg, &parent, perms::CREATE, r)?;
    if sequential {
        path.push_str(&format!("{:010}", parent.stat.cversion));
    }
    if !paths::is_valid(&path) {
        return Err(err::BAD_ARGUMENTS);
    }
    if stage.get(&path).is_some() {
        return Err(err::NODE_EXISTS);
    }
    if is_session(parent.stat.ephemeral_owner) {
        return Err(err::NO_CHILDREN_FOR_EPHEMERALS);
    }
    if cfg.enforce_quota {
        stage.tree.check_quota(&path, 1, data.as_ref().map_or(0, |d| d.len() as i64))?;
    }
    let mode = match op {
        op::CREATE_CONTAINER => CreateMode::Container,
        op::CREATE_TTL if with_ttl => CreateMode::Ttl { ttl_ms: ttl },
        op::CREATE_TTL => CreateMode::Plain { op: op::CREATE2, ephemeral },
        op => CreateMode::Plain { op, ephemeral },
    };
    parent.stat.cversion = parent.stat.cversion.wrapping_add(1);
    parent.stat.pzxid = r.zxid.0;
    parent.child_count += 1;
    let parent_cversion = parent.stat.cversion;
    stage.set(&parent_path, Some(parent));
    let owner = match mode {
        CreateMode::Plain { ephemeral: true, .. } => r.session.0,
        CreateMode::Container => CONTAINER_OWNER,
        _ => 0,
    };
    let stat = StatPersisted { czxid: r.zxid.0, ephemeral_owner: owner, ..Default::default() };
    stage.set(&path, Some(Record { stat, child_count: 0, acl: acl.clone().into() }));
    Ok(TxnBody::Create { path, data, acl, mode, parent_cversion })
}

fn remove_from_parent(stage: &mut Stage<'_>, path: &str) {
    let Some((parent_path, _)) = split(path) else { return };
    let parent_path = parent_path.to_string();
    if let Some(mut parent) = stage.get(&parent_path) {
        parent.child_count = parent.child_count.saturating_sub(1);
        stage.set(&parent_path, Some(parent));
    }
}

fn delete(stage: &mut Stage<'_>, cfg: &Config, r: &Request<'_>, request: DeleteRequest) -> Prepared {
    let path = request.path;
    if !path.contains('/') || path.contains('\0') || paths::SPECIAL.contains(&path.as_str()) {
        return Err(err::BAD_ARGUMENTS);
    }
    let (parent_path, _) = split(&path).ok_or(err::BAD_ARGUMENTS)?;
    let parent = stage.need(parent_path)?;
    allowed(cfg, &parent, perms::DELETE, r)?;
    let node = stage.need(&path)?;
    if request.version != -1 && request.version != node.stat.version {
        return Err(err::BAD_VERSION);
    }
    if node.child_count > 0 {
        return Err(err::NOT_EMPTY);
    }
    remove_from_parent(stage, &path);
    stage.set(&path, None);
    Ok(TxnBody::Delete { path, container: false })
}

/// Only the leader itself asks for this (a client that does is refused before it comes here).
fn delete_container(stage: &mut Stage<'_>, path: &str, r: &Request<'_>) -> Prepared {
    let node = stage.need(path)?;
    if r.owner != Owner::Local || r.session != SessionId::NONE || is_session(node.stat.ephemeral_owner) {
        return Err(err::BAD_VERSION);
    }
    if node.child_count > 0 {
        return Err(err::NOT_EMPTY);
    }
    remove_from_parent(stage, path);
    stage.set(path, None);
    Ok(TxnBody::Delete { path: path.to_string(), container: true })
}

fn set_data(stage: &mut Stage<'_>, cfg: &Config, r: &Request<'_>, request: SetDataRequest) -> Prepared {
    if !paths::is_valid(&request.path) {
        return Err(err::BAD_ARGUMENTS);
    }
    let mut node = stage.need(&request.path)?;
    allowed(cfg, &node, perms::WRITE, r)?;
    if cfg.enforce_quota {
        let before = stage.tree.get(&request.path).and_then(|n| n.data()).map_or(0, |d| d.len() as i64);
        stage.tree.check_quota(&request.path, 0, request.data.as_ref().map_or(0, |d| d.len() as i64) - before)?;
    }
    node.stat.version = next_version(request.version, node.stat.version)?;
    let version = node.stat.version;
    stage.set(&request.path, Some(node));
    Ok(TxnBody::SetData { path: request.path, data: request.data, version, reconfig: false })
}

/// -1 means "any version" in a request, so that a counter never takes it.
fn next_version(wanted: i32, current: i32) -> Result<i32, i32> {
    if wanted != -1 && wanted != current {
        return Err(err::BAD_VERSION);
    }
    Ok(match current.wrapping_add(1) {
        -1 => 0,
        next => next,
    })
}

fn set_acl(stage: &mut Stage<'_>, cfg: &Config, r: &Request<'_>, request: SetAclRequest) -> Prepared {
    if !paths::is_valid(&request.path) {
        return Err(err::BAD_ARGUMENTS);
    }
    let acl = acl::fix_up(&request.acl, r.ids, &cfg.auth_schemes)?;
    let mut node = stage.need(&request.path)?;
    allowed(cfg, &node, perms::ADMIN, r)?;
    node.stat.aversion = next_version(request.version, node.stat.aversion)?;
    node.acl = acl.clone().into();
    let version = node.stat.aversion;
    stage.set(&request.path, Some(node));
    Ok(TxnBody::SetAcl { path: request.path, acl, version })
}

/// Other members. The list that it makes is checked here, for what is in the log must be readable by everybody.
//= zookeeper 3.9 PrepRequestProcessor, case reconfig
fn reconfig(stage: &mut Stage<'_>, cfg: &Config, r: &Request<'_>, request: &ReconfigRequest) -> Prepared {
    if !cfg.reconfig {
        return Err(err::RECONFIG_DISABLED);
    }
    if cfg.standalone() {
        return Err(err::UNIMPLEMENTED);
    }
    if cfg.next.is_some() {
        return Err(err::RECONFIG_IN_PROGRESS);
    }
    if request.current != -1 && request.current != cfg.config_version {
        return Err(err::BAD_VERSION);
    }
    let active = Ensemble::parse(&cfg.config_text).map_err(|_| err::BAD_ARGUMENTS)?;
    let changed = active.changed(&request.joining, &request.leaving, &request.members);
    let next = Ensemble { version: r.zxid.0, ..changed.map_err(|_| err::BAD_ARGUMENTS)? };
    //= zookeeper 3.9 QuorumServer.initializeWithAddressString: "Multiple address feature is disabled"
    if !cfg.several_addresses && next.servers.values().any(|s| s.addresses.len() > 1) {
        return Err(err::BAD_ARGUMENTS);
    }
    if next.servers.len() < 2 && !cfg.ensemble_of_one {
        // A standalone server runs without the quorum's protocols and would have to restart.
        return Err(err::BAD_ARGUMENTS);
    }
    if !crate::config::is_quorum_of(&next.members(), &next.groups, r.synced) {
        return Err(err::NEW_CONFIG_NO_QUORUM);
    }
    let node = stage.need(CONFIG_NODE)?;
    allowed(cfg, &node, perms::WRITE, r)?;
    Ok(TxnBody::SetData { path: CONFIG_NODE.into(), data: Some(next.to_string().into()), version: -1, reconfig: true })
}

fn check(stage: &mut Stage<'_>, cfg: &Config, r: &Request<'_>, request: CheckVersionRequest) -> Prepared {
    if !paths::is_valid(&request.path) {
        return Err(err::BAD_ARGUMENTS);
    }
    let node = stage.need(&request.path)?;
    allowed(cfg, &node, perms::READ, r)?;
    let version = next_version(request.version, node.stat.version)?;
    Ok(TxnBody::Check { path: request.path, version })
}

/// All parts, or an error transaction for each: 0 in front of the culprit's type kept, its own code,
/// -2 behind it.
fn multi(stage: &mut Stage<'_>, cfg: &Config, r: &Request<'_>, ops: Vec<MultiOp>) -> Prepared {
    let mut parts = Vec::with_capacity(ops.len());
    let mut failed = false;
    for one in ops {
        if failed {
            parts.push(TxnBody::Error(err::RUNTIME_INCONSISTENCY));
            continue;
        }
        let part = match one {
            MultiOp::Create { op, request, ttl } => create(stage, cfg, r, op, request, ttl),
            MultiOp::Delete(request) => delete(stage, cfg, r, request),
            MultiOp::SetData(request) => set_data(stage, cfg, r, request),
            MultiOp::Check(request) => check(stage, cfg, r, request),
            MultiOp::GetData(_) | MultiOp::GetChildren(_) => return Err(err::MARSHALLING),
        };
        parts.push(part.unwrap_or_else(|code| {
            failed = true;
            TxnBody::Error(code)
        }));
    }
    if failed {
        stage.staged.clear();
    }
    Ok(TxnBody::Multi(parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_leave_out_minus_one() {
        for (wanted, current, next) in [
            (-1, 0, Ok(1)),
            (7, 7, Ok(8)),
            (7, 8, Err(err::BAD_VERSION)),
            (-1, i32::MAX, Ok(i32::MIN)),
            (-1, -2, Ok(0)),
            (-2, -2, Ok(0)),
        ] {
            assert_eq!(next_version(wanted, current), next, "{wanted} wanted, {current} there");
        }
    }
}
