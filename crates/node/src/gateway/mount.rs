//! The MOUNT program: which path is a datastore, and who may have it.
//!
//! A datastore has one path, `/NAME`, its folders one below that, and no other spelling of them mounts. ESXi makes the string that was typed part of
//! the datastore's identity: one host with `/ds1` and another with `/ds1/` have two datastores, between which no VM
//! moves. So the refusal says, in the log and the events, how the path is written.

mod paths;

use super::admission::may_mount;
use super::Inner;
use parking_lot::Mutex;
use paths::{named, Named};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use trivet_events::Event;
use trivet_storage::ids::{FileId, NodeId};
use trivet_storage::messages::{Datastore, FileKind, Inode, LookupAsk, MetaAnswer, MetaAsk, MountStatus, NfsStatus};
use trivet_storage::nfs::names::printable;
use trivet_storage::nfs::rpc::{self, AcceptStat, CallHeader, PROGRAM_MOUNT};
use trivet_storage::nfs::status;
use trivet_storage::nfs::xdr::XdrReader;

/// Longest path of a MNT, in bytes (MNTPATHLEN of RFC 1813); a longer one gets GARBAGE_ARGS.
const PATH_BYTES_MAX: u32 = 1_024;
/// A refusal is logged at most this often; those in between are counted in the next line.
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);
/// Time for the LEADER to answer a lookup; then the gateway's copy of the metadata answers.
const LOOKUP_LIMIT: Duration = Duration::from_millis(500);
/// At the very start a call waits this many times 100 ms for the first datastore, then there is none.
const START_LOOKS: u32 = 100;
/// Time for which an unknown path is looked for in the LEADER's newer journal.
const NEWEST_LIMIT: Duration = Duration::from_secs(2);

/// Refused mounts. Each is an event of its own, at most one in [`REFUSAL_PAUSE`]; the others are counted.
#[derive(Default)]
pub(super) struct Refusals {
    told: Mutex<(Option<Instant>, u64)>,
}

impl Refusals {
    /// Refusals that were not reported since the last one, if this one may be.
    fn next(&self) -> Option<u64> {
        let mut told = self.told.lock();
        if told.0.is_some_and(|at| at.elapsed() < REFUSAL_PAUSE) {
            told.1 += 1;
            return None;
        }
        told.0 = Some(Instant::now());
        Some(std::mem::take(&mut told.1))
    }
}

impl Inner {
    /// A call to MOUNT that came as a datagram; the reply has a record mark before it.
    pub(super) async fn mount_datagram(&self, from: IpAddr, record: &[u8]) -> Option<Vec<u8>> {
        let header = match rpc::parse_call(record) {
            Ok(h) => h,
            Err(bad) => return bad.reply(),
        };
        Some(match (header.program, header.version) {
            (PROGRAM_MOUNT, 3) => self.mount_call(from, &header, &record[header.body_at..]).await,
            (PROGRAM_MOUNT, _) => rpc::not_accepted(header.xid, AcceptStat::ProgMismatch),
            // NFS is there over TCP only.
            _ => rpc::not_accepted(header.xid, AcceptStat::ProgUnavail),
        })
    }

    pub(super) async fn mount_call(&self, from: IpAddr, header: &CallHeader, body: &[u8]) -> Vec<u8> {
        let mut w = rpc::accepted(header.xid);
        match header.procedure {
            0 => {}
            1 => {
                let Ok(path) = XdrReader::new(body).opaque(PATH_BYTES_MAX) else {
                    return rpc::not_accepted(header.xid, AcceptStat::GarbageArgs);
                };
                match self.mount(from, path).await {
                    Err(code) => drop(w.u32(code.code())),
                    // AUTH_SYS and AUTH_NONE.
                    Ok(h) => drop(w.u32(MountStatus::OK.code()).opaque(&h).u32(2).u32(1).u32(0)),
                }
            }
            2 => {
                for (client, path) in self.mount_list() {
                    w.bool(true).opaque(client.to_string().as_bytes()).opaque(path.as_bytes());
                }
                w.bool(false);
            }
            3 => {
                let Ok(path) = XdrReader::new(body).opaque(PATH_BYTES_MAX) else {
                    return rpc::not_accepted(header.xid, AcceptStat::GarbageArgs);
                };
                self.mounted.unmount(from, &printable(path));
            }
            4 => self.mounted.unmount_all(from),
            5 => {
                self.hear_newest().await;
                for d in self.datastores().await {
                    w.bool(true).opaque(format!("/{}", d.name).as_bytes());
                    for c in &d.clients {
                        w.bool(true).opaque(c.as_bytes());
                    }
                    w.bool(false);
                }
                w.bool(false);
            }
            _ => return rpc::not_accepted(header.xid, AcceptStat::ProcUnavail),
        }
        rpc::finish(w)
    }

    async fn mount(&self, from: IpAddr, path: &[u8]) -> Result<[u8; 32], MountStatus> {
        let mut datastores = self.datastores().await;
        if !matches!(named(path, &datastores), Named::Folder(..)) {
            // The folder may have been made, or renamed, a moment ago.
            self.hear_newest().await;
            datastores = self.known_datastores();
        }
        let shown = printable(path);
        let refuse = |code: NfsStatus, why: String| {
            self.refused(from, &shown, &why);
            Err(code.into())
        };
        match named(path, &datastores) {
            Named::Folder(d, _) if !may_mount(d, from) => {
                refuse(status::ACCES, format!("the networks that may mount it are {}", d.clients.join(", ")))
            }
            Named::Folder(d, below) => match self.folder(d.root, below).await {
                Ok(fileid) => {
                    self.mounted.mount(from, shown.clone(), d.id);
                    Ok(self.exports.give_out(d.id, fileid))
                }
                Err(code) => refuse(code, format!("the datastore /{} has no such folder", d.name)),
            },
            Named::Meant(right) => {
                refuse(status::NOENT, format!("its path is {right}, and is written so on every host"))
            }
            Named::Nothing => {
                refuse(status::NOENT, "there is no such datastore; `trivet datastore list` names them".into())
            }
        }
    }

    /// Takes over what the LEADER's journal has and this gateway's copy has not, if it answers soon.
    async fn hear_newest(&self) {
        let leader = NodeId(self.leader.load(std::sync::atomic::Ordering::Relaxed));
        let _ = tokio::time::timeout(NEWEST_LIMIT, self.follow(leader)).await;
    }

    /// The folder that these names lead to.
    async fn folder(&self, root: FileId, below: Vec<Vec<u8>>) -> Result<FileId, NfsStatus> {
        let mut dir = root;
        for name in below {
            let found = self.lookup_soon(dir, name).await?;
            if found.attr.kind != FileKind::Folder {
                return Err(status::NOTDIR);
            }
            dir = found.attr.fileid;
        }
        Ok(dir)
    }

    async fn lookup_soon(&self, dir: FileId, name: Vec<u8>) -> Result<Inode, NfsStatus> {
        let asked = self.metad(MetaAsk::Lookup(LookupAsk { dir, name: name.clone() }));
        match tokio::time::timeout(LOOKUP_LIMIT, asked).await {
            Ok(MetaAnswer::Reply(r)) if r.status == status::OK => r.inode.ok_or(status::IO),
            Ok(MetaAnswer::Reply(r)) => Err(r.status),
            Ok(_) => Err(status::IO),
            Err(_) => self.replica.read().lookup(dir, &name),
        }
    }

    /// Clients and what they have mounted.
    pub(super) fn mount_list(&self) -> BTreeSet<(IpAddr, String)> {
        self.mounted.list(|id| self.exports.get(id).map(|e| format!("/{}", e.name)))
    }

    fn refused(&self, from: IpAddr, path: &str, why: &str) {
        let Some(untold) = self.refusals.next() else { return };
        let (client, path, reason) = (from.to_string(), path.to_string(), why.to_string());
        let event = Event::MountRefused { client, path, untold, reason };
        tracing::warn!("{}: {why}", event.what().en);
        self.events.record(event);
    }

    fn known_datastores(&self) -> Vec<Datastore> {
        self.replica.read().datastores()
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
    use super::super::tests::gateway;
    use super::*;
    use trivet_storage::messages::*;
    use trivet_storage::nfs::xdr::XdrWriter;

    /// The results of a call to MOUNT.
    async fn call(inner: &Inner, from: &str, procedure: u32, path: &[u8]) -> Vec<u8> {
        let mut w = XdrWriter::default();
        w.u32(9).u32(0).u32(2).u32(PROGRAM_MOUNT).u32(3).u32(procedure).u32(0).u32(0).u32(0).u32(0).opaque(path);
        inner.mount_datagram(from.parse().unwrap(), &w.buf).await.unwrap()[28..].to_vec()
    }

    async fn dump(inner: &Inner) -> Vec<(String, String)> {
        let reply = call(inner, "10.1.0.9", 2, b"").await;
        let (mut r, mut list) = (XdrReader::new(&reply), Vec::new());
        let text = |r: &mut XdrReader<'_>| String::from_utf8(r.bytes(1_024).unwrap()).unwrap();
        while r.bool().unwrap() {
            list.push((text(&mut r), text(&mut r)));
        }
        list
    }

    #[tokio::test]
    async fn folders_are_mounted_by_one_path_and_dump_tells_by_whom() {
        let inner = gateway();
        {
            let mut s = inner.replica.write();
            let mut apply = |op| {
                let number = s.applied() + 1;
                let commands = vec![Command { op: Some(op), ..Default::default() }];
                s.apply(number, &Entry { version: 2, time_ns: number, commands, cluster: "c".into() }).remove(0)
            };
            let clients = vec!["10.1.0.0/16".into(), "fd00::/64".into()];
            let d = Datastore { name: "ds1".into(), copies: 2, clients, ..Default::default() };
            assert_eq!(apply(CommandOp::CreateDatastore(d)).status, status::OK);
            let mut make = |dir, name: &[u8], kind| {
                let at = Place { dir, name: name.to_vec() };
                apply(CommandOp::Make(Make { at, kind, how: CreateMode::Guarded, ..Default::default() }))
                    .attr
                    .unwrap()
                    .fileid
            };
            let sub = make(FileId(64), b"sr", FileKind::Folder);
            make(sub, b"\xd0\xe9", FileKind::Folder);
            make(sub, b"disk", FileKind::File);
            inner.exports.refresh(&s);
        }
        let mut handles = BTreeSet::new();
        for path in [&b"/ds1"[..], b"/ds1/sr", b"/ds1/sr/\xd0\xe9"] {
            for from in ["10.1.0.9", "fd00::9"] {
                let reply = call(&inner, from, 1, path).await;
                assert_eq!(reply[..8], [0, 0, 0, 0, 0, 0, 0, 32], "{path:?}");
                handles.insert(reply[8..40].to_vec());
            }
        }
        assert_eq!(handles.len(), 3);
        let code = |reply: Vec<u8>| NfsStatus::of(u32::from_be_bytes(reply[..4].try_into().unwrap()));
        for (path, expected) in [
            ("/ds1/", status::NOENT),
            ("/ds1/sr/", status::NOENT),
            ("/ds1/none", status::NOENT),
            ("/ds1/sr/disk", status::NOTDIR),
            ("/ds1/sr/disk/x", status::NOTDIR),
            ("/ds2", status::NOENT),
        ] {
            assert_eq!(code(call(&inner, "10.1.0.9", 1, path.as_bytes()).await), expected, "{path}");
        }
        assert_eq!(code(call(&inner, "10.2.0.9", 1, b"/ds1/sr").await), status::ACCES);
        let said = |all: &[(&str, &str)]| all.iter().map(|(c, p)| (c.to_string(), p.to_string())).collect::<Vec<_>>();
        let raw = "/ds1/sr/\\xd0\\xe9";
        let all = [("10.1.0.9", "/ds1"), ("10.1.0.9", "/ds1/sr"), ("10.1.0.9", raw)];
        let v6 = [("fd00::9", "/ds1"), ("fd00::9", "/ds1/sr"), ("fd00::9", raw)];
        assert_eq!(dump(&inner).await, said(&[all, v6].concat()));
        call(&inner, "fd00::9", 4, b"").await;
        call(&inner, "10.1.0.9", 3, b"/ds1/sr").await;
        assert_eq!(dump(&inner).await, said(&[all[0], all[2]]));
        // Its networks are in the list of exports.
        let exports = call(&inner, "10.2.0.9", 5, b"").await;
        assert!(exports.windows(11).any(|w| w == b"10.1.0.0/16") && exports.windows(9).any(|w| w == b"fd00::/64"));
    }

    #[test]
    fn many_refusals_are_one_line() {
        let refusals = Refusals::default();
        assert_eq!(refusals.next(), Some(0));
        assert!((0..1_000).all(|_| refusals.next().is_none()));
        refusals.told.lock().0 = Some(Instant::now() - REFUSAL_PAUSE);
        assert_eq!(refusals.next(), Some(1_000));
    }
}
