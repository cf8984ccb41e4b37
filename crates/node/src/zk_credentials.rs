//! The cluster's own user of coordination. Only this user may read or change metad's znodes: any other client of the
//! ensemble could otherwise depose the LEADER, or change its journal, with one request.

use crate::keys::Keys;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use trivet_formats::client::{op, open_acl, xid, Acl, AuthPacket, Id, RequestHeader};
use trivet_formats::Jute;
use trivet_security::PasswordHash;

const USER: &str = "trivet";
/// Input of the derivation of the password, which keeps it apart from all else that is derived from the cluster's key.
const PURPOSE: &[u8] = b"trivet coordination user 1";
/// All five permissions of a znode.
const ALL: i32 = 31;

/// Name and password, `user:password`.
#[derive(Clone)]
pub struct Credentials(String);

impl Credentials {
    /// The credentials by every accepted key, the one in use first: while the key is changed, znodes and servers know either.
    pub fn of_keys(keys: &Keys) -> Vec<Credentials> {
        keys.accepted().map(Credentials::of_cluster).collect()
    }

    /// Derives the credentials of the cluster with this key; they are the same on each of its nodes.
    pub fn of_cluster(key: &[u8]) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length of key will do");
        mac.update(PURPOSE);
        let password: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
        Credentials(format!("{USER}:{password}"))
    }

    /// Returns `user:password`. A secret: with it, everything in the cluster's coordination can be changed.
    pub fn user_and_password(&self) -> &str {
        &self.0
    }

    /// As access lists of the scheme `digest` name this user: `user:base64(sha1(user:password))`.
    pub fn digest_id(&self) -> String {
        PasswordHash::default().id(&self.0)
    }

    fn acl(&self) -> Vec<Acl> {
        vec![Acl { perms: ALL, id: Id { scheme: "digest".into(), id: self.digest_id() } }]
    }

    /// The frame that authenticates a connection, first thing after its session has begun.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let auth = Some(Bytes::copy_from_slice(self.0.as_bytes()));
        let packet = AuthPacket { kind: 0, scheme: "digest".into(), auth };
        let mut body = Vec::new();
        RequestHeader { xid: xid::AUTH, op: op::AUTH }.put(&mut body);
        packet.put(&mut body);
        [&(body.len() as i32).to_be_bytes()[..], &body].concat()
    }
}

/// Whom new znodes belong to. Open to everybody until every node can prove that it belongs to the cluster: a node of an
/// older version could not write any more.
#[derive(Clone)]
pub(crate) struct Ownership {
    /// The one in use first.
    credentials: Vec<Credentials>,
    closed: Arc<AtomicBool>,
}

impl Ownership {
    pub(crate) fn new(credentials: Vec<Credentials>) -> Self {
        Ownership { credentials, closed: Arc::default() }
    }
    /// From now on new znodes are the cluster's alone.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }
    /// Access list of the cluster's own znodes; `None` without credentials.
    pub(crate) fn own(&self) -> Option<Vec<Acl>> {
        self.credentials.first().map(Credentials::acl)
    }
    /// Whether this is the access list of znodes that are the cluster's alone, by any accepted key.
    pub(crate) fn is_closed(&self, acl: &[Acl]) -> bool {
        self.credentials.iter().any(|c| c.acl() == acl)
    }
    /// Access list of the next znode.
    pub(crate) fn acl(&self) -> Vec<Acl> {
        self.own().filter(|_| self.closed.load(Ordering::Relaxed)).unwrap_or_else(open_acl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_of_a_cluster_has_the_same_user_and_no_other_cluster_has_it() {
        let (a, b) = (Credentials::of_cluster(b"key"), Credentials::of_cluster(b"another key"));
        assert_eq!(a.digest_id(), Credentials::of_cluster(b"key").digest_id());
        assert_ne!(a.digest_id(), b.digest_id());
        assert!(a.digest_id().starts_with("trivet:") && !a.digest_id().contains(&a.0[7..]), "{}", a.digest_id());
    }

    #[test]
    fn znodes_are_open_until_all_nodes_can_authenticate() {
        let ownership = Ownership::new(vec![Credentials::of_cluster(b"key")]);
        assert_eq!(ownership.acl(), open_acl());
        ownership.clone().close();
        assert_eq!(ownership.acl(), ownership.own().unwrap());
        let none = Ownership::new(Vec::new());
        none.close();
        assert_eq!(none.acl(), open_acl());
    }

    #[test]
    fn while_the_key_is_changed_znodes_of_either_key_count_as_closed() {
        let keys = Keys::of(&[1; 32]).add([2; 32]).unwrap();
        let (before, after) = (Credentials::of_keys(&keys), Credentials::of_keys(&keys.switch().unwrap()));
        let ownership = Ownership::new(after.clone());
        assert!(ownership.is_closed(&before[0].acl()) && ownership.is_closed(&after[0].acl()));
        assert_ne!(ownership.own().unwrap(), before[0].acl(), "new znodes belong to the key in use");
        assert!(!ownership.is_closed(&open_acl()));
    }
}
