//! The MOUNT program: which path is a datastore, and who may have it.
//!
//! A datastore has one path, `/NAME`, and no other spelling of it mounts. ESXi makes the string that was typed part of
//! the datastore's identity: one host with `/ds1` and another with `/ds1/` have two datastores, between which no VM
//! moves. So the refusal says, in the log and the events, how the path is written.

use super::admission::may_mount;
use super::Inner;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use trivet_storage::messages::Datastore;
use trivet_storage::nfs::rpc::{self, BadCall, CallHeader, PROGRAM_MOUNT};
use trivet_storage::nfs::status;
use trivet_storage::nfs::xdr::XdrReader;

/// Longest path of a MNT, in bytes (MNTPATHLEN of RFC 1813); a longer one gets GARBAGE_ARGS.
const PATH_BYTES_MAX: u32 = 1_024;
/// A refusal is logged at most this often; those in between are counted in the next line.
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);
/// At the very start a call waits this many times 100 ms for the first datastore, then there is none.
const START_LOOKS: u32 = 100;
/// A path that this gateway does not know is looked for in the LEADER's journal, for at most this long.
const NEWEST_LIMIT: Duration = Duration::from_secs(2);

/// Refused mounts, told one by one but not faster than anybody can read.
#[derive(Default)]
pub(super) struct Refusals {
    told: Mutex<(Option<Instant>, u64)>,
}

impl Refusals {
    /// How many were not told since the last one, if this one may be.
    fn next(&self) -> Option<u64> {
        let mut told = self.told.lock().expect("nobody panics with it");
        if told.0.is_some_and(|at| at.elapsed() < REFUSAL_PAUSE) {
            told.1 += 1;
            return None;
        }
        told.0 = Some(Instant::now());
        Some(std::mem::take(&mut told.1))
    }
}

/// What a path names.
#[derive(Debug, PartialEq)]
enum Named<'a> {
    Datastore(&'a Datastore),
    /// Nothing, but it would be this path if it were written so.
    Meant(String),
    Nothing,
}

fn named<'a>(path: &str, datastores: &'a [Datastore]) -> Named<'a> {
    let found = path.strip_prefix('/').and_then(|name| datastores.iter().find(|d| d.name == name));
    if let Some(d) = found {
        return Named::Datastore(d);
    }
    let plain = path.trim().trim_matches('/');
    match datastores.iter().find(|d| d.name.eq_ignore_ascii_case(plain)) {
        Some(d) => Named::Meant(format!("/{}", d.name)),
        None => Named::Nothing,
    }
}

impl Inner {
    /// A call to MOUNT that came as a datagram; the reply has a record mark before it.
    pub(super) async fn mount_datagram(&self, from: IpAddr, record: &[u8]) -> Option<Vec<u8>> {
        let header = match rpc::parse_call(record) {
            Ok(h) => h,
            Err(BadCall::RpcMismatch { xid }) => return Some(rpc::rpc_mismatch(xid)),
            Err(BadCall::NotRpc) => return None,
        };
        Some(match (header.program, header.version) {
            (PROGRAM_MOUNT, 3) => self.mount_call(from, &header, &record[header.body_at..]).await,
            (PROGRAM_MOUNT, _) => rpc::not_accepted(header.xid, 2),
            // NFS is there over TCP only.
            _ => rpc::not_accepted(header.xid, 1),
        })
    }

    pub(super) async fn mount_call(&self, from: IpAddr, header: &CallHeader, body: &[u8]) -> Vec<u8> {
        let mut w = rpc::accepted(header.xid);
        match header.procedure {
            0 => {}
            1 => {
                let Ok(path) = XdrReader::new(body).opaque(PATH_BYTES_MAX) else {
                    return rpc::not_accepted(header.xid, 4);
                };
                match self.mount(from, &String::from_utf8_lossy(path)).await {
                    Err(code) => drop(w.u32(code)),
                    Ok(h) => drop(w.u32(0).opaque(&h).u32(2).u32(1).u32(0)),
                }
            }
            2 => drop(w.bool(false)),
            3 | 4 => {}
            5 => {
                for d in self.datastores().await {
                    w.bool(true).opaque(format!("/{}", d.name).as_bytes());
                    for c in &d.clients {
                        w.bool(true).opaque(c.as_bytes());
                    }
                    w.bool(false);
                }
                w.bool(false);
            }
            _ => return rpc::not_accepted(header.xid, 3),
        }
        rpc::finish(w)
    }

    async fn mount(&self, from: IpAddr, path: &str) -> Result<[u8; 32], u32> {
        let mut datastores = self.datastores().await;
        if named(path, &datastores) == Named::Nothing {
            // It may have been made a moment ago.
            let leader = self.leader.load(std::sync::atomic::Ordering::Relaxed);
            let _ = tokio::time::timeout(NEWEST_LIMIT, self.follow(leader)).await;
            datastores = self.known_datastores();
        }
        match named(path, &datastores) {
            Named::Datastore(d) if may_mount(d, from) => Ok(self.exports.give_out(d.id, d.root)),
            Named::Datastore(d) => {
                let networks = d.clients.join(", ");
                self.refused(from, path, &format!("the networks that may mount it are {networks}"));
                Err(status::ACCES)
            }
            Named::Meant(right) => {
                let why = format!("the path of this datastore is {right}, and is written so on every host");
                self.refused(from, path, &why);
                Err(status::NOENT)
            }
            Named::Nothing => {
                self.refused(from, path, "there is no such datastore; `trivet datastore list` names them");
                Err(status::NOENT)
            }
        }
    }

    fn refused(&self, from: IpAddr, path: &str, why: &str) {
        let Some(untold) = self.refusals.next() else { return };
        let before = if untold > 0 { format!(" ({untold} more before that)") } else { String::new() };
        let what = format!("{from} asked to mount {path:?} and was refused{before}");
        tracing::warn!("{what}: {why}");
        self.events.record("mount", what, why);
    }

    fn known_datastores(&self) -> Vec<Datastore> {
        self.replica.read().expect("nobody panics with it").datastores()
    }

    /// Mounting works from the copy here; at the very start it waits for it.
    async fn datastores(&self) -> Vec<Datastore> {
        for _ in 0..START_LOOKS {
            let found = self.known_datastores();
            if !found.is_empty() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datastore_has_one_path_and_others_are_told_it() {
        let store = |name: &str| Datastore { name: name.into(), ..Default::default() };
        let all = [store("ds1"), store("backup")];
        assert_eq!(named("/ds1", &all), Named::Datastore(&all[0]));
        for path in ["/ds1/", "//ds1", "ds1", "/ds1//", "/DS1", " /ds1 "] {
            assert_eq!(named(path, &all), Named::Meant("/ds1".into()), "{path:?}");
        }
        for path in ["", "/", "//", "/ds", "/ds11", "/ds1/x", "/ds1/.", "/../ds1"] {
            assert_eq!(named(path, &all), Named::Nothing, "{path:?}");
        }
    }

    #[test]
    fn many_refusals_are_one_line() {
        let refusals = Refusals::default();
        assert_eq!(refusals.next(), Some(0));
        assert!((0..1_000).all(|_| refusals.next().is_none()));
        refusals.told.lock().unwrap().0 = Some(Instant::now() - REFUSAL_PAUSE);
        assert_eq!(refusals.next(), Some(1_000));
    }
}
