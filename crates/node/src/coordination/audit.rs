//! The audit log: lines of the process's log with the target `trivet::audit`, each with Apache's text. They are written by a
//! thread of their own, for a log that cannot be written must not delay a heartbeat.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{sync_channel, SyncSender};
use std::sync::Arc;
use trivet_coordination::AuditLine;

/// Lines that wait to be written. Further ones are lost, and the log says how many.
const LINES_MAX: usize = 65_536;

pub(super) struct AuditLog {
    lines: SyncSender<AuditLine>,
    lost: Arc<AtomicU64>,
}

impl AuditLog {
    pub(super) fn start() -> AuditLog {
        let (lines, written) = sync_channel::<AuditLine>(LINES_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let count = lost.clone();
        std::thread::spawn(move || {
            for line in written {
                let lines = count.swap(0, Ordering::Relaxed);
                if lines > 0 {
                    tracing::warn!(target: "trivet::audit", lines, "lines of the audit log are lost: the log was not written fast enough");
                }
                write(&line);
            }
        });
        AuditLog { lines, lost }
    }

    pub(super) fn put(&self, line: AuditLine) {
        if self.lines.try_send(line).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn write(line: &AuditLine) {
    match line.done {
        true => tracing::info!(target: "trivet::audit", "{}", line.text),
        false => tracing::error!(target: "trivet::audit", "{}", line.text),
    }
}

/// The server starts or stops.
//= zookeeper 3.9 ZKAuditProvider.addZKStartStopAuditLog
pub fn of_server(user: &str, operation: &str, result: &str) {
    write(&AuditLine::new(&[("user", Some(user)), ("operation", Some(operation))], result));
}

/// The name of the user that this process runs as; its number where the machine does not know a name.
pub(crate) fn user_name() -> String {
    let id = rustix::process::getuid().as_raw().to_string();
    let known = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let of = |line: &str| {
        let mut fields = line.split(':');
        let (name, user) = (fields.next()?, fields.nth(1)?);
        (user == id).then(|| name.to_string())
    };
    known.lines().find_map(of).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_user_has_a_name_or_a_number() {
        let name = super::user_name();
        assert!(!name.is_empty() && !name.contains(':'), "{name}");
    }
}
