//! `trivet coordination truncate`: a log file up to a transaction, as a file of its own. The file itself is not touched.
//!
//! A server whose log is cut forgets transactions that it acknowledged. Only an operator can know that nobody counts on
//! them, and puts the new file into the old one's place, while the server is stopped.
//= zookeeper 3.9 server/util/LogChopper.java, persistence/TxnLogToolkit.java

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use trivet_formats::{txnlog, Zxid};

/// A log that was chopped.
#[derive(Debug)]
pub struct Chopped {
    /// The new file.
    pub path: PathBuf,
    /// Transactions that it holds.
    pub transactions: u64,
    /// Transactions behind `to` that the new file lacks.
    pub left_out: u64,
}

/// Copies the transactions of a log up to `to`, which the log has to hold, into `out`; by default a file beside it, named
/// after the transaction as Apache's toolkit names it.
///
/// # Errors
/// If the file is no log, is damaged before `to`, does not hold it, or the new file cannot be written or is there already.
pub fn chop(log: &Path, to: Zxid, out: Option<&Path>) -> io::Result<Chopped> {
    let bad = |reason: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {reason}", log.display()));
    let file = File::open(log)?;
    let entries = txnlog::Entries::of(file)?;
    let mut entries = entries.ok_or_else(|| bad("it is no log, or one of another version".into()))?;
    let beside = || PathBuf::from(format!("{}.chopped{:x}", log.display(), to.0));
    let path = out.map_or_else(beside, Path::to_path_buf);
    let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    let copied = copy(log, &mut entries, to, file);
    if copied.is_err() {
        // A part of a log would look like a whole one.
        std::fs::remove_file(&path)?;
    }
    let (transactions, left_out) = copied?;
    Ok(Chopped { path, transactions, left_out })
}

/// Copies entry by entry, as a log may be larger than memory. Returns how many were copied, and how many left out.
fn copy(log: &Path, entries: &mut txnlog::Entries<File>, to: Zxid, file: File) -> io::Result<(u64, u64)> {
    let bad = |reason: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {reason}", log.display()));
    // The server's user has to read it where it reads the log.
    file.set_permissions(std::fs::metadata(log)?.permissions())?;
    let mut file = BufWriter::new(file);
    file.write_all(&txnlog::header())?;
    let (mut transactions, mut left_out, mut last, mut bytes) = (0, 0, None, Vec::new());
    loop {
        match entries.next_entry() {
            Ok(Some(entry)) if entry.zxid() > to => left_out += 1,
            Ok(Some(entry)) => {
                (transactions, last) = (transactions + 1, Some(entry.zxid()));
                bytes.clear();
                txnlog::put_entry(&mut bytes, entry.bytes());
                file.write_all(&bytes)?;
            }
            Ok(None) => break,
            // The damage is in the part that goes.
            Err(e) if last == Some(to) => {
                tracing::warn!(path = %log.display(), error = %e, "the log is damaged behind the transaction");
                break;
            }
            Err(e) => return Err(bad(e.to_string())),
        }
    }
    if last != Some(to) {
        return Err(bad(format!("it does not hold transaction {:#x}; `trivet coordination dump` lists it", to.0)));
    }
    file.into_inner()?.sync_all()?;
    Ok((transactions, left_out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use trivet_formats::txn::{Txn, TxnBody};
    use trivet_formats::SessionId;

    #[test]
    fn a_log_is_chopped_at_a_transaction_that_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.100000001");
        let mut log = txnlog::header().to_vec();
        for counter in 1..=5 {
            let zxid = Zxid::new(1, counter);
            let txn = Txn { session: SessionId(7), cxid: 1, zxid, time_ms: 0, body: TxnBody::Error(-101) };
            txnlog::put_entry(&mut log, &txn.encode());
        }
        // Zeros, as Apache fills its logs up.
        log.extend([0; 100]);
        std::fs::write(&path, &log).unwrap();
        let zxids = |path: &Path| {
            let mut entries = txnlog::Entries::of(File::open(path).unwrap()).unwrap().unwrap();
            let mut out = Vec::new();
            while let Some(entry) = entries.next_entry().unwrap() {
                out.push(entry.zxid().counter());
            }
            out
        };
        let done = chop(&path, Zxid::new(1, 3), None).unwrap();
        assert_eq!(done.path, dir.path().join("log.100000001.chopped100000003"));
        assert_eq!((zxids(&done.path), done.transactions, done.left_out), (vec![1, 2, 3], 3, 2));
        assert_eq!(std::fs::read(&path).unwrap(), log, "the log itself is not touched");
        assert!(chop(&path, Zxid::new(1, 3), None).is_err(), "the new file is there");
        assert!(chop(&path, Zxid::new(1, 9), None).is_err() && chop(&path, Zxid::new(0, 9), None).is_err());
        // Damage behind the transaction goes with the rest; before it, nothing is written.
        let entry_bytes = (log.len() - 100 - txnlog::HEADER_BYTES) / 5;
        log[txnlog::HEADER_BYTES + 3 * entry_bytes + 20] ^= 1;
        std::fs::write(&path, &log).unwrap();
        let out = dir.path().join("out");
        assert_eq!(chop(&path, Zxid::new(1, 3), Some(&out)).unwrap().transactions, 3);
        std::fs::remove_file(&out).unwrap();
        assert!(chop(&path, Zxid::new(1, 5), Some(&out)).is_err() && !out.exists());
        std::fs::write(&path, b"something else").unwrap();
        assert!(chop(&path, Zxid::new(1, 1), Some(&out)).is_err());
    }
}
