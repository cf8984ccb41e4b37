//! Questions of the AdminServer to the core beyond the four-letter words: whether a caller may, and a snapshot now.

use crate::acl;
use crate::api::{DiskOp, Image, RoleName};
use crate::digests::Digests;
use crate::ensemble::Ensemble;
use crate::history::History;
use crate::paths::CONFIG_NODE;
use crate::requests::Upstream;
use crate::role::Role;
use crate::server::Server;
use crate::transition::Leave;
use crate::tree::Tree;
use std::net::IpAddr;
use trivet_formats::client::{perms, Id};
use trivet_formats::{SessionId, Zxid};

/// Why a caller of the AdminServer is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminRefusal {
    /// The scheme is none that counts here, or nothing is shown in it.
    NotAuthenticated,
    /// The access list of the root does not give the caller every permission.
    NotAuthorised,
}

impl Server {
    /// Whether a caller at this address, who shows this in a scheme (the subject of a certificate in `x509`), has every
    /// permission on the root.
    ///
    /// # Errors
    /// The scheme is none that counts here, nothing is shown in it, or the root's access list does not allow it.
    //= zookeeper 3.9 Commands.runCommand, handleAuthentication, handleAuthorization
    pub fn judge_admin(&self, scheme: &str, shown: Option<&str>, from: IpAddr) -> Result<(), AdminRefusal> {
        let known = self.cx.cfg.auth_schemes.iter().any(|s| s == scheme);
        let id = |scheme: &str, id: String| Id { scheme: scheme.into(), id };
        let ids = match (scheme, shown) {
            ("digest", Some(text)) if known => {
                let digest = self.cx.cfg.auth.digest_hash.id(text);
                let is_super = self.cx.cfg.super_digests.contains(&digest);
                let mut ids = vec![id("digest", digest)];
                ids.extend(is_super.then(|| id("super", String::new())));
                ids
            }
            ("x509", Some(subject)) if known => {
                let is_super = self.cx.cfg.auth.x509_super_user.as_deref() == Some(subject);
                let mut ids = vec![id("x509", subject.to_string())];
                ids.extend(is_super.then(|| id("super", subject.to_string())));
                ids
            }
            ("ip", _) => vec![id("ip", from.to_string())],
            _ => return Err(AdminRefusal::NotAuthenticated),
        };
        if self.cx.cfg.skip_acl {
            return Ok(());
        }
        let root = self.cx.tree.get("/").expect("the root is always there");
        let every = [perms::READ, perms::WRITE, perms::CREATE, perms::DELETE, perms::ADMIN];
        let may = every.iter().all(|perm| acl::allows(root.acl(), *perm, &ids));
        may.then_some(()).ok_or(AdminRefusal::NotAuthorised)
    }

    /// When sessions end unless their clients are heard, in milliseconds since 1970, by their leader; other servers do not
    /// know.
    //= zookeeper 3.9 Commands.DumpCommand
    pub fn session_ends(&self) -> Vec<(i64, Vec<SessionId>)> {
        let Role::Leading(l) = &self.role else { return Vec::new() };
        let wall_ms = |at: u64| self.cx.now.wall_ms + at.saturating_sub(self.cx.now.mono_ms) as i64;
        l.tracker.buckets().into_iter().map(|(at, ids)| (wall_ms(at), ids)).collect()
    }

    /// The snapshot that is being written: the transaction that it begins with.
    pub fn open_snapshot(&self) -> Option<Zxid> {
        self.cx.snapshots.cursor.as_ref().map(crate::tree::Walk::zxid)
    }

    /// Begins a snapshot, unless one is being written or this server serves nobody.
    pub(crate) fn take_snapshot(&mut self) {
        let role = self.summary().role;
        let serves = self.role.serves() && !matches!(role, RoleName::Looking | RoleName::ReadOnly);
        if serves && self.cx.snapshots.cursor.is_none() {
            self.cx.begin_snapshot();
        }
    }

    /// Takes a snapshot in place of the tree, the log and the snapshots of this server, which is standalone and serves. Does
    /// nothing if the snapshot's last transaction is not above all of this server's, or if the snapshot would make this
    /// server a member of an ensemble.
    ///
    /// Clients are disconnected, because their watches would miss what lies between the two trees; a client whose session
    /// the snapshot has continues it.
    //= zookeeper 3.9 ZooKeeperServer.restoreFromSnapshot
    pub(crate) fn restore(&mut self, tree: Tree, image: Image) {
        let zxid = tree.last_zxid();
        let serves_alone = self.role.serves() && self.summary().role == RoleName::Standalone;
        if !serves_alone || zxid <= self.cx.history.last() || self.would_join(&tree) {
            return;
        }
        self.cx.abort_snapshot();
        let epoch = zxid.epoch();
        if epoch > self.cx.disk.accepted_epoch {
            self.cx.write_only(DiskOp::AcceptedEpoch(epoch));
        }
        if epoch > self.cx.disk.current_epoch {
            self.cx.write_only(DiskOp::CurrentEpoch(epoch));
        }
        self.cx.history = History::new(zxid, self.cx.cfg.ring_bytes_max);
        self.cx.tree = tree;
        self.cx.digests = Digests::default();
        self.cx.snapshots.txns_since = 0;
        self.cx.write_only(DiskOp::Install { zxid, image });
        self.requests().drop_clients();
        self.look(Leave::decided("an administrator restored a snapshot"));
    }

    /// Whether this server would take over a list of members that the tree has.
    fn would_join(&self, tree: &Tree) -> bool {
        let text = tree.get(CONFIG_NODE).and_then(|n| n.data().map(<[u8]>::to_vec)).unwrap_or_default();
        let list = Ensemble::parse(&String::from_utf8_lossy(&text)).unwrap_or_default();
        self.cx.cfg.reconfig && list.version > self.cx.cfg.config_version && list.voters().next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Effect, Input, Now, Recovered};
    use crate::config::Config;
    use std::collections::BTreeMap;
    use trivet_formats::client::{op, open_acl, Acl};
    use trivet_formats::txn::{CreateMode, Txn, TxnBody};
    use trivet_formats::ServerId;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn server(cfg: Config, acl: Vec<Acl>) -> Server {
        let mut tree = Tree::new();
        let body = TxnBody::SetAcl { path: "/".into(), acl, version: 1 };
        tree.apply(&Txn { session: SessionId(1), cxid: 0, zxid: Zxid::new(0, 1), time_ms: 0, body }, &mut Vec::new());
        let recovered = Recovered { tree, log: Vec::new(), accepted_epoch: 0, current_epoch: 0 };
        let mut server = Server::new(cfg, recovered, Now::default());
        server.start(Now::default(), &mut Vec::new());
        server
    }

    fn of(scheme: &str, id: &str, perms: i32) -> Acl {
        Acl { perms, id: Id { scheme: scheme.into(), id: id.into() } }
    }

    #[test]
    fn only_who_may_do_everything_with_the_root_is_admitted() {
        let cfg = || Config::new(ServerId(1), BTreeMap::new());
        let bob = cfg().auth.digest_hash.id("bob:secret");
        let s = server(cfg(), vec![of("digest", &bob, 31), of("world", "anyone", perms::READ)]);
        assert_eq!(s.judge_admin("digest", Some("bob:secret"), HERE), Ok(()));
        assert_eq!(s.judge_admin("digest", Some("bob:wrong"), HERE), Err(AdminRefusal::NotAuthorised));
        assert_eq!(s.judge_admin("ip", None, HERE), Err(AdminRefusal::NotAuthorised));
        for (scheme, shown) in
            [("digest", None), ("x509", None), ("world", Some("anyone")), ("", None), ("super", None)]
        {
            assert_eq!(s.judge_admin(scheme, shown, HERE), Err(AdminRefusal::NotAuthenticated), "{scheme}");
        }
        let x509 = Config { auth_schemes: vec!["x509".into()], ..cfg() };
        let s509 = server(x509, vec![of("x509", "CN=ann", 31)]);
        assert_eq!(s509.judge_admin("x509", Some("CN=ann"), HERE), Ok(()));
        assert_eq!(s509.judge_admin("x509", Some("CN=eve"), HERE), Err(AdminRefusal::NotAuthorised));
        assert_eq!(s509.judge_admin("x509", None, HERE), Err(AdminRefusal::NotAuthenticated));
        // The super user may everything, and skipACL skips this, too.
        let all = Config { super_digests: vec![cfg().auth.digest_hash.id("super:x")], ..cfg() };
        let s = server(all, vec![of("digest", &bob, 31)]);
        assert_eq!(s.judge_admin("digest", Some("super:x"), HERE), Ok(()));
        let s = server(Config { skip_acl: true, ..cfg() }, vec![of("digest", &bob, 31)]);
        assert_eq!(s.judge_admin("ip", None, HERE), Ok(()));
        // An address that the list names, and one that it does not.
        let s = server(cfg(), vec![of("ip", "127.0.0.0/8", 31)]);
        assert_eq!(s.judge_admin("ip", None, HERE), Ok(()));
        let elsewhere = "10.0.0.1".parse().unwrap();
        assert_eq!(s.judge_admin("ip", None, elsewhere), Err(AdminRefusal::NotAuthorised));
    }

    /// A tree with this znode.
    fn tree_with(path: &str, data: &str, zxid: Zxid) -> Box<Tree> {
        let mut tree = Tree::new();
        let (data, mode) = (Some(data.to_string().into()), CreateMode::Plain { op: op::CREATE, ephemeral: false });
        let body = match path {
            CONFIG_NODE => TxnBody::SetData { path: path.into(), data, version: 1, reconfig: true },
            _ => TxnBody::Create { path: path.into(), data, acl: open_acl(), mode, parent_cversion: -1 },
        };
        tree.apply(&Txn { session: SessionId(1), cxid: 0, zxid: Zxid::new(1, 1), time_ms: 0, body }, &mut Vec::new());
        tree.set_last_zxid(zxid);
        Box::new(tree)
    }

    #[test]
    fn a_snapshot_is_restored_by_a_server_that_is_alone_and_by_no_other() {
        let restore = |s: &mut Server, tree: Box<Tree>| {
            let mut effects = Vec::new();
            let image = Image::Bytes(Default::default());
            s.handle(Now::default(), Input::Restore { tree, image }, &mut effects);
            effects
        };
        let installs =
            |effects: &[Effect]| effects.iter().any(|e| matches!(e, Effect::Disk { op: DiskOp::Install { .. }, .. }));
        let mut s = server(Config::new(ServerId(1), BTreeMap::new()), Vec::new());
        assert!(s.summary().serving);
        for old in [Zxid::ZERO, s.cx.history.last()] {
            assert!(!installs(&restore(&mut s, tree_with("/old", "", old))), "{old} is not above what it has");
        }
        let zxid = Zxid::new(3, 0);
        let effects = restore(&mut s, tree_with("/restored", "", zxid));
        assert!(installs(&effects) && !s.summary().serving, "it serves when the snapshot is on disk");
        let last =
            effects.iter().filter_map(|e| if let Effect::Disk { seq, .. } = e { Some(*seq) } else { None }).max();
        s.handle(Now::default(), Input::Durable(last.unwrap()), &mut Vec::new());
        assert!(s.summary().serving && s.tree().get("/restored").is_some());
        assert_eq!((s.history().last(), s.cx.disk.accepted_epoch, s.cx.disk.current_epoch), (zxid, 3, 3));

        // The list of an ensemble, to a server that would take it over.
        let list = "server.1=a:1:2:participant\nserver.2=b:1:2:participant\nversion=100000001";
        for (reconfig, taken) in [(true, false), (false, true)] {
            let mut s = server(Config { reconfig, ..Config::new(ServerId(1), BTreeMap::new()) }, Vec::new());
            let effects = restore(&mut s, tree_with(CONFIG_NODE, list, zxid));
            assert_eq!(installs(&effects), taken, "reconfig {reconfig}");
        }
        let mut of_three = Server::of_three(1);
        assert!(!installs(&restore(&mut of_three, tree_with("/x", "", zxid))));
    }

    #[test]
    fn a_snapshot_is_begun_once() {
        let mut s = server(Config::new(ServerId(1), BTreeMap::new()), vec![of("world", "anyone", 31)]);
        let mut effects = Vec::new();
        s.handle(Now::default(), Input::TakeSnapshot, &mut effects);
        s.handle(Now::default(), Input::TakeSnapshot, &mut effects);
        let begins = |e: &&Effect| matches!(e, Effect::Disk { op: DiskOp::SnapshotBegin(_), .. });
        assert_eq!(effects.iter().filter(begins).count(), 1);
        assert_eq!(s.open_snapshot(), Some(Zxid::new(0, 1)));
    }
}
