//! Questions of the AdminServer to the core beyond the four-letter words: whether a caller may, and a snapshot now.

use crate::acl;
use crate::api::RoleName;
use crate::requests::Upstream;
use crate::role::Role;
use crate::server::Server;
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{DiskOp, Effect, Input, Now, Recovered};
    use crate::config::Config;
    use crate::tree::Tree;
    use std::collections::BTreeMap;
    use trivet_formats::client::Acl;
    use trivet_formats::txn::{Txn, TxnBody};
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
