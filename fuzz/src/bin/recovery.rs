//! A data folder with two snapshots and two logs in which bytes are flipped, files cut, holes made: what is read is
//! what was written, up to some transaction, or nothing, with a reason.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::collections::HashMap;
use std::path::Path;
use std::sync::OnceLock;
use trivet_coordination::tree::Tree;
use trivet_formats::client::{op, open_acl};
use trivet_formats::snapshot::Writer;
use trivet_formats::txn::{CreateMode, Txn, TxnBody};
use trivet_formats::{txnlog, SessionId, Zxid};
use trivet_fuzz as _;
use trivet_node::coordination::store::Store;

const TXNS: u32 = 24;
const NAMES: [&str; 6] = ["snapshot.0", "log.100000001", "snapshot.10000000c", "log.10000000d", "acceptedEpoch", "currentEpoch"];

struct Good {
    files: Vec<Vec<u8>>,
    /// Digest of the tree after each transaction.
    digests: HashMap<Zxid, i64>,
}

fn good() -> &'static Good {
    static GOOD: OnceLock<Good> = OnceLock::new();
    GOOD.get_or_init(|| {
        let mut tree = Tree::new();
        let mut digests = HashMap::from([(Zxid::ZERO, tree.digest())]);
        let mut files = vec![tree.write(Writer::file(Default::default())), txnlog::header().to_vec(), Vec::new(), txnlog::header().to_vec()];
        for n in 1..=TXNS {
            let path = format!("/node-{n}");
            let mode = CreateMode::Plain { op: op::CREATE, ephemeral: false };
            let data = Some(bytes::Bytes::from(vec![n as u8; 20]));
            let body = match n % 3 {
                0 => TxnBody::SetData { path: format!("/node-{}", n - 1), data, version: 1, reconfig: false },
                _ => TxnBody::Create { path, data, acl: open_acl(), mode, parent_cversion: n as i32 },
            };
            let txn = Txn { session: SessionId(7), cxid: n as i32, zxid: Zxid::new(1, n), time_ms: 5, body };
            tree.apply(&txn, &mut Vec::new());
            digests.insert(txn.zxid, tree.digest());
            txnlog::put_entry(&mut files[if n <= TXNS / 2 { 1 } else { 3 }], &txn.encode());
            if n == TXNS / 2 {
                files[2] = tree.write(Writer::file(Default::default()));
            }
        }
        files.extend([b"1".to_vec(), b"1".to_vec()]);
        files.iter_mut().skip(1).step_by(2).take(2).for_each(|log| log.resize(log.len() + 300, 0));
        Good { files, digests }
    })
}

fn spoil(file: &mut Vec<u8>, what: u8, at: usize, value: u8) {
    let at = at % (file.len() + 1);
    let length = usize::from(value).min(file.len() - at);
    match what % 5 {
        0 => file.truncate(at),
        1 if at < file.len() => file[at] ^= value,
        2 => file[at..at + length].fill(0),
        3 => drop(file.drain(at..at + length)),
        _ => file.extend(std::iter::repeat_n(value, length)),
    }
}

fn put(dir: &Path, files: &[Vec<u8>], removed: u8) {
    std::fs::create_dir(dir.join("version-2")).expect("a new folder");
    for (i, (name, bytes)) in NAMES.iter().zip(files).enumerate() {
        if removed != i as u8 {
            std::fs::write(dir.join("version-2").join(name), bytes).expect("there is room");
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((removed, bytes)) = bytes.split_first() else { return };
    let good = good();
    let mut files = good.files.clone();
    for step in bytes.chunks_exact(5).take(8) {
        let file = &mut files[usize::from(step[0]) % NAMES.len()];
        spoil(file, step[1], usize::from(step[2]) << 8 | usize::from(step[3]), step[4]);
    }
    let dir = tempfile::tempdir_in("/dev/shm").expect("memory");
    put(dir.path(), &files, *removed);
    match Store::open(dir.path(), dir.path()) {
        Err(e) => assert!(e.to_string().len() > 10),
        Ok((_, found)) => {
            let mut tree = found.tree;
            let mut last = tree.last_zxid();
            for logged in &found.log {
                assert!(logged.zxid() > last);
                tree.apply(&logged.txn(), &mut Vec::new());
                last = logged.zxid();
            }
            assert_eq!(Some(&tree.digest()), good.digests.get(&last), "at {last}");
        }
    }
});
