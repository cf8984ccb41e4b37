//! A data folder, judged and shown without touching it: what a start would find, file by file.
//!
//! Apache's TxnLogToolkit and SnapshotFormatter show single files; whether a server would start on a folder they do not say.

use super::store::numbered;
use super::{loading, packed};
use bytes::Bytes;
use serde::Serialize;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use trivet_formats::client::{Acl, StatPersisted};
use trivet_formats::snapshot::Trailing;
use trivet_formats::txn::{CreateMode, Logged, TxnBody};
use trivet_formats::{snapshot, txnlog, Zxid};

/// A snapshot file.
#[derive(Debug, Serialize)]
pub struct SnapshotFile {
    /// Its path.
    pub path: PathBuf,
    /// The zxid that its name ends with, in hexadecimal with `0x`.
    pub zxid: String,
    /// Znodes in it; 0 if it cannot be read.
    pub nodes: usize,
    /// Its size on disk.
    pub bytes: u64,
    /// Why it cannot be read.
    pub problem: Option<String>,
}

/// A log file.
#[derive(Debug, Serialize)]
pub struct LogFile {
    /// Its path.
    pub path: PathBuf,
    /// Whole transactions in it.
    pub transactions: u64,
    /// zxid of the first transaction, in hexadecimal with `0x`.
    pub first: Option<String>,
    /// zxid of the last whole transaction.
    pub last: Option<String>,
    /// Its size on disk, with what is preallocated.
    pub bytes: u64,
    /// A crash left the last record unfinished; it was never acknowledged.
    pub torn: bool,
    /// Damage that is more than a torn end.
    pub problem: Option<String>,
}

/// The state of a server's folders.
#[derive(Debug, Serialize, Default)]
pub struct Report {
    /// Snapshots, the oldest first.
    pub snapshots: Vec<SnapshotFile>,
    /// Log files, the oldest first.
    pub logs: Vec<LogFile>,
    /// The newest epoch that this server promised to follow (`acceptedEpoch`).
    pub accepted_epoch: Option<i64>,
    /// The epoch of the leader that it followed last (`currentEpoch`).
    pub current_epoch: Option<i64>,
    /// The last transaction that a start would have.
    pub last: String,
    /// Why a server would not start, each with what it concerns.
    pub problems: Vec<String>,
    /// Findings that do not stop a start.
    pub notes: Vec<String>,
}

fn hex(zxid: Zxid) -> String {
    format!("{:#x}", zxid.0)
}

/// Reads a data folder as a start does: `data` and `log` are dataDir and dataLogDir.
///
/// # Errors
/// If a folder cannot be listed.
pub fn inspect(data: &Path, log: &Path) -> io::Result<Report> {
    let of =
        |folder: &Path| if folder.join("version-2").is_dir() { folder.join("version-2") } else { folder.to_path_buf() };
    let (data, log) = (of(data), of(log));
    let mut report = Report::default();
    let mut base = None;
    for (zxid, path) in numbered(&data, "snapshot.").map_err(io::Error::other)? {
        let bytes = std::fs::metadata(&path)?.len();
        let read = loading::read_snapshot(&path);
        let (nodes, problem) = match read {
            Ok((tree, _)) => {
                base = Some(zxid);
                (tree.node_count(), None)
            }
            Err(e) => (0, Some(e.to_string())),
        };
        report.snapshots.push(SnapshotFile { path, zxid: hex(zxid), nodes, bytes, problem });
    }
    let files = numbered(&log, "log.").map_err(io::Error::other)?;
    let newest = report.snapshots.last().map(|s| (s.path.clone(), s.zxid.clone(), s.problem.is_some()));
    if base.is_none() && (!report.snapshots.is_empty() || !files.is_empty()) {
        report.problems.push(format!("{}: no snapshot is whole; copy the folder of another server", data.display()));
    }
    let from = base.unwrap_or(Zxid::ZERO);
    let needed = files.iter().rposition(|(start, _)| *start <= from.next()).unwrap_or(0);
    let mut last = from;
    for (at, (_, path)) in files.iter().enumerate() {
        let file = read_log(path, at >= needed, from, &mut last, &mut report)?;
        report.logs.push(file);
    }
    if let Some((path, zxid, true)) = newest {
        let at = Zxid(i64::from_str_radix(zxid.trim_start_matches("0x"), 16).unwrap_or(i64::MAX));
        if last < at {
            report.problems.push(format!(
                "{}: it is damaged, and the log ends before it at {}",
                path.display(),
                hex(last)
            ));
        } else {
            report.notes.push(format!("{}: it is damaged; an older one and the log hold the same", path.display()));
        }
    }
    epochs(&data, last, &mut report);
    report.last = hex(last);
    Ok(report)
}

/// `counts`: a start reads it. `last` advances with the transactions that follow each other.
fn read_log(path: &Path, counts: bool, from: Zxid, last: &mut Zxid, report: &mut Report) -> io::Result<LogFile> {
    let bytes = Bytes::from(std::fs::read(path)?);
    let mut file = LogFile {
        path: path.into(),
        transactions: 0,
        first: None,
        last: None,
        bytes: bytes.len() as u64,
        torn: false,
        problem: None,
    };
    let mut gap = None;
    let end = txnlog::scan_each(&bytes, |e| {
        let zxid = e.txn.zxid;
        file.transactions += 1;
        file.first.get_or_insert_with(|| hex(zxid));
        file.last = Some(hex(zxid));
        if counts && gap.is_none() && zxid > (*last).max(from) {
            if zxid.follows(*last) {
                *last = zxid;
            } else {
                gap = Some(format!("transactions between {} and {} are missing", hex(*last), hex(zxid)));
            }
        }
    });
    match end {
        Ok(end) if end.torn => {
            file.torn = true;
            report
                .notes
                .push(format!("{}: a crash left the last record unfinished; a start cuts it off", path.display()));
        }
        Ok(_) => {}
        Err(e) => file.problem = Some(e.to_string()),
    }
    let problem = file.problem.clone().or(gap);
    if let (Some(reason), true) = (&problem, counts) {
        report.problems.push(format!("{}: {reason}; copy the folder of another server", path.display()));
    }
    file.problem = problem;
    Ok(file)
}

fn epochs(data: &Path, last: Zxid, report: &mut Report) {
    for (name, accepted) in [("acceptedEpoch", true), ("currentEpoch", false)] {
        let path = data.join(name);
        match std::fs::read_to_string(&path).map(|t| t.trim().parse::<i64>()) {
            Ok(Ok(n)) if accepted => report.accepted_epoch = Some(n),
            Ok(Ok(n)) => report.current_epoch = Some(n),
            Ok(Err(_)) => report.problems.push(format!("{}: it is not a number", path.display())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => report.problems.push(format!("{}: {e}", path.display())),
        }
    }
    match (report.accepted_epoch, report.current_epoch) {
        (None, Some(_)) => {
            report.problems.push(format!("{}: acceptedEpoch is missing; put the file back", data.display()))
        }
        (Some(a), Some(c)) if a < c => {
            report.problems.push(format!("acceptedEpoch {a} is older than currentEpoch {c}"))
        }
        (_, Some(c)) if c < last.epoch() => {
            report.problems.push(format!("currentEpoch {c} is older than the log's {}", last.epoch()))
        }
        _ => {}
    }
}

/// Writes what a log or snapshot file holds, a line (text or JSON) each. A damaged file is shown up to the damage.
///
/// # Errors
/// If the file cannot be read, is neither, or is damaged.
pub fn dump(path: &Path, json: bool, out: &mut dyn Write) -> io::Result<()> {
    let mut head = [0; 4];
    io::Read::read_exact(&mut std::fs::File::open(path)?, &mut head)?;
    if head == txnlog::MAGIC {
        let file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        let mut entries = txnlog::Entries::of(file)?.ok_or_else(|| io::Error::other("a log of another version"))?;
        while let Some(entry) = entries.next_entry()? {
            transaction(&entry, json, out)?;
        }
        let rest = length.saturating_sub(entries.offset());
        if rest > 0 {
            // Zeros are what a log is filled up with.
            writeln!(out, "{}", note(json, &format!("{rest} bytes follow the last whole record")))?;
        }
        return Ok(());
    }
    let behind = snapshot::read_file(packed::open(path)?, &mut Lines { json, out, failed: None })?;
    trailing(behind, json, out)
}

/// The records behind a snapshot's seal.
fn trailing(found: Trailing, json: bool, out: &mut dyn Write) -> io::Result<()> {
    if let Some((zxid, digest)) = found.digest {
        if json {
            writeln!(out, "{}", serde_json::json!({ "digest": digest, "zxid": hex(zxid) }))?;
        } else {
            writeln!(out, "digest {digest} after {}", hex(zxid))?;
        }
    }
    if let Some(zxid) = found.last_zxid {
        if json {
            writeln!(out, "{}", serde_json::json!({ "last_zxid": hex(zxid) }))?;
        } else {
            writeln!(out, "last zxid {}", hex(zxid))?;
        }
    }
    Ok(())
}

fn note(json: bool, text: &str) -> String {
    if json {
        serde_json::json!({ "note": text }).to_string()
    } else {
        format!("# {text}")
    }
}

fn transaction(entry: &Logged, json: bool, out: &mut dyn Write) -> io::Result<()> {
    let txn = entry.txn();
    let what = parts(&txn.body);
    let (zxid, session) = (hex(txn.zxid), format!("{:#x}", txn.session.0));
    if json {
        let line = serde_json::json!({
            "zxid": zxid, "session": session, "cxid": txn.cxid, "time_ms": txn.time_ms, "operations": what,
        });
        return writeln!(out, "{line}");
    }
    let what: Vec<String> = what.iter().map(|w| w.as_str().map_or_else(|| w.to_string(), str::to_string)).collect();
    writeln!(out, "{} session {session} cxid {} zxid {zxid} {}", txn.time_ms, txn.cxid, what.join("; "))
}

fn parts(body: &TxnBody) -> Vec<serde_json::Value> {
    let bytes = |data: &Option<Bytes>| data.as_ref().map_or(0, Bytes::len);
    let text = match body {
        TxnBody::CreateSession { timeout_ms } => format!("createSession {timeout_ms} ms"),
        TxnBody::CloseSession { paths } => format!("closeSession {}", paths.join(" ")).trim_end().to_string(),
        TxnBody::Create { path, data, mode, .. } => {
            let kind = match mode {
                CreateMode::Plain { ephemeral: true, .. } => " ephemeral".to_string(),
                CreateMode::Plain { .. } => String::new(),
                CreateMode::Container => " container".into(),
                CreateMode::Ttl { ttl_ms } => format!(" ttl {ttl_ms} ms"),
            };
            format!("create{kind} {path} {} bytes", bytes(data))
        }
        TxnBody::Delete { path, .. } => format!("delete {path}"),
        TxnBody::SetData { path, data, version, reconfig } => {
            format!("{} {path} version {version} {} bytes", if *reconfig { "reconfig" } else { "setData" }, bytes(data))
        }
        TxnBody::SetAcl { path, version, .. } => format!("setACL {path} version {version}"),
        TxnBody::Check { path, version } => format!("check {path} version {version}"),
        TxnBody::Error(code) => format!("error {code}"),
        TxnBody::Multi(all) => return all.iter().flat_map(parts).collect(),
    };
    vec![text.into()]
}

/// A snapshot as lines.
struct Lines<'a> {
    json: bool,
    out: &'a mut dyn Write,
    failed: Option<io::Error>,
}

impl Lines<'_> {
    fn line(&mut self, json: serde_json::Value, text: String) {
        if self.failed.is_none() {
            let text = if self.json { json.to_string() } else { text };
            self.failed = writeln!(self.out, "{text}").err();
        }
    }
}

impl snapshot::Sink for Lines<'_> {
    fn session(&mut self, id: i64, timeout_ms: i32) {
        let id = format!("{id:#x}");
        let text = format!("session {id} {timeout_ms} ms");
        self.line(serde_json::json!({ "session": id, "timeout_ms": timeout_ms }), text);
    }
    fn acl(&mut self, id: i64, acl: Vec<Acl>) {
        let list: Vec<String> = acl.iter().map(|a| format!("{}:{}:{}", a.id.scheme, a.id.id, a.perms)).collect();
        let text = format!("acl {id} {}", list.join(","));
        self.line(serde_json::json!({ "acl": id, "entries": list }), text);
    }
    fn node(&mut self, path: &str, data: Option<&[u8]>, acl: i64, stat: StatPersisted) -> Result<(), &'static str> {
        let bytes = data.map_or(0, <[u8]>::len);
        let path = if path.is_empty() { "/" } else { path };
        let json = serde_json::json!({
            "path": path, "bytes": bytes, "acl": acl, "czxid": hex(Zxid(stat.czxid)), "mzxid": hex(Zxid(stat.mzxid)),
            "version": stat.version, "ephemeral_owner": format!("{:#x}", stat.ephemeral_owner),
        });
        let text =
            format!("node {path} {bytes} bytes acl {acl} mzxid {} version {}", hex(Zxid(stat.mzxid)), stat.version);
        self.line(json, text);
        if self.failed.is_some() {
            Err("the output cannot be written")
        } else {
            Ok(())
        }
    }
    fn end(&mut self) -> Result<(), &'static str> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trivet_formats::txn::Txn;

    /// A folder with a snapshot at 0 and one log, as a server writes them. (The root counts twice, as at Apache.)
    fn folder(zxids: &[i64]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("version-2");
        std::fs::create_dir(&inner).unwrap();
        let mut w = snapshot::Writer::file(Default::default());
        w.tables(std::iter::empty(), std::iter::empty());
        let stat = StatPersisted::default();
        for path in ["", "/zookeeper", "/zookeeper/config", "/zookeeper/quota"] {
            w.node(path, Some(b""), -1, &stat);
        }
        std::fs::write(inner.join("snapshot.0"), w.finish(Zxid(0), 0)).unwrap();
        let mut log = txnlog::header().to_vec();
        for zxid in zxids {
            let body = TxnBody::SetData {
                path: "/a".into(),
                data: Some(Bytes::from_static(b"xy")),
                version: 1,
                reconfig: false,
            };
            let txn = Txn { session: trivet_formats::SessionId(0x1f), cxid: 3, zxid: Zxid(*zxid), time_ms: 7, body };
            txnlog::put_entry(&mut log, &txn.encode());
        }
        let path = inner.join("log.100000001");
        std::fs::write(&path, log).unwrap();
        for name in ["acceptedEpoch", "currentEpoch"] {
            std::fs::write(inner.join(name), "1").unwrap();
        }
        (dir, path)
    }

    fn judged(dir: &tempfile::TempDir) -> Report {
        inspect(dir.path(), dir.path()).unwrap()
    }

    #[test]
    fn a_folder_that_a_server_would_start_on_has_no_problems() {
        let (dir, path) = folder(&[0x1_0000_0001, 0x1_0000_0002]);
        let report = judged(&dir);
        assert_eq!((&report.problems[..], report.last.as_str()), (&[][..], "0x100000002"));
        assert_eq!((report.snapshots[0].nodes, report.logs[0].transactions), (5, 2));
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        let report = judged(&dir);
        assert!(report.problems.is_empty() && report.logs[0].torn && report.last == "0x100000001", "{report:?}");
        assert_eq!(std::fs::read(&path).unwrap().len(), bytes.len() - 3, "nothing is touched");
    }

    #[test]
    fn what_would_stop_a_start_is_said() {
        let (dir, _) = folder(&[0x1_0000_0001, 0x1_0000_0003]);
        assert!(judged(&dir).problems[0].contains("between 0x100000001 and 0x100000003 are missing"));
        let (dir, path) = folder(&[0x1_0000_0001, 0x1_0000_0002, 0x1_0000_0003]);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[40] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(judged(&dir).logs[0].problem.is_some() && judged(&dir).problems.len() == 1);
        let (dir, _) = folder(&[0x1_0000_0001]);
        std::fs::write(dir.path().join("version-2/snapshot.0"), b"ZKSNxxxx").unwrap();
        assert!(judged(&dir).problems[0].contains("no snapshot is whole"));
        let (dir, _) = folder(&[0x1_0000_0001]);
        std::fs::remove_file(dir.path().join("version-2/acceptedEpoch")).unwrap();
        assert!(judged(&dir).problems[0].contains("acceptedEpoch is missing"));
    }

    #[test]
    fn logs_and_snapshots_are_shown_line_by_line() {
        let (dir, path) = folder(&[0x1_0000_0001]);
        let shown = |path: &Path, json| {
            let mut out = Vec::new();
            dump(path, json, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(shown(&path, false), "7 session 0x1f cxid 3 zxid 0x100000001 setData /a version 1 2 bytes\n");
        let json: serde_json::Value = serde_json::from_str(&shown(&path, true)).unwrap();
        assert_eq!(json["operations"][0], "setData /a version 1 2 bytes");
        let snapshot = shown(&dir.path().join("version-2/snapshot.0"), false);
        assert!(
            snapshot.starts_with("node / 0 bytes") && snapshot.ends_with("version 0\nlast zxid 0x0\n"),
            "{snapshot}"
        );
        assert_eq!(snapshot.lines().count(), 5);
        std::fs::write(&path, b"something else").unwrap();
        assert!(dump(&path, false, &mut Vec::new()).is_err());
    }
}
