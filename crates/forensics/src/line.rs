//! Lines of logs: what stands before the message, and before the line.

use crate::time::{self, LogMillis};

/// Bytes of a line that are looked at; what is beyond does not say anything new.
pub const LINE_BYTES_MAX: usize = 64 << 10;

const LEVELS: [&str; 6] = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];

/// The first line of an entry, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head<'a> {
    pub at: LogMillis,
    /// Of `[myid:N]`, if it is filled.
    pub myid: Option<u32>,
    /// May be empty (Strimzi's layout has the thread behind the message).
    pub thread: &'a str,
    /// The last part of the class's name.
    pub class: &'a str,
    pub source_line: Option<u32>,
    pub message: &'a str,
}

/// What a log viewer or a container runtime put before a line, and the line without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Prefixed<'a> {
    /// Names the file or the container, hence the server.
    pub prefix: &'a str,
    pub line: &'a str,
}

/// `[folder]/zookeeper.log│LINE    ┤` of lnav, `zoo1_1  | LINE` of compose; padding and ends of lines go.
pub fn unprefixed(text: &str) -> Prefixed<'_> {
    let text = text.trim_end_matches(['\r', '\n']);
    if let Some((prefix, line)) = text.split_once('│').filter(|(p, _)| p.len() < 256 && !starts_with_time(p)) {
        return Prefixed { prefix: prefix.trim(), line: line.trim_end_matches(['┤', '│', ' ', '\t']) };
    }
    if !starts_with_time(text) {
        for bar in [" | ", " ¦ ", "| "] {
            // A container's name stands before the lines of a stack, too.
            let named = |p: &str| {
                p.len() < 64 && !p.starts_with(char::is_whitespace) && !p.trim().contains(char::is_whitespace)
            };
            let found = text
                .split_once(bar)
                .filter(|(p, l)| p.len() < 128 && !p.contains('[') && (starts_with_time(l.trim_start()) || named(p)));
            if let Some((prefix, line)) = found {
                return Prefixed { prefix: prefix.trim(), line: line.trim_end() };
            }
        }
    }
    Prefixed { prefix: "", line: text }
}

fn starts_with_time(text: &str) -> bool {
    time::parse(text.as_bytes()).is_some()
}

fn last_part(class: &str) -> &str {
    class.rsplit('.').next().unwrap_or(class)
}

/// `None`: a continuation of the entry above, or no log line at all.
pub fn head(line: &str) -> Option<Head<'_>> {
    let (at, n) = time::parse(line.as_bytes())?;
    let rest = line.get(n..)?;
    if let Some(own) = own_head(at, rest) {
        return Some(own);
    }
    let rest = rest.trim_start();
    // `[myid:N] - LEVEL  [thread:class@line] - message`, with or without the first.
    let (myid, rest) = match rest.strip_prefix("[myid:") {
        Some(r) => {
            let (id, r) = r.split_once(']')?;
            (id.parse().ok(), r.trim_start())
        }
        None => (None, rest),
    };
    if let Some(rest) = rest.strip_prefix("- ") {
        let level_end = rest.find(' ')?;
        let rest = rest[level_end..].trim_start().strip_prefix('[')?;
        let (place, message) = rest.split_once("] - ").or_else(|| rest.strip_suffix("] -").map(|p| (p, "")))?;
        let (place, number) = place.rsplit_once('@').unwrap_or((place, ""));
        let (thread, class) = place.rsplit_once(':').unwrap_or((place, ""));
        let (class, source_line) = (last_part(class), number.parse().ok());
        return Some(Head { at, myid, thread, class, source_line, message });
    }
    // `LEVEL message (class) [thread]`
    let (level, rest) = rest.split_once(' ')?;
    if !LEVELS.contains(&level) {
        return None;
    }
    let rest = rest.trim_start();
    let (rest, thread) = match rest.strip_suffix(']').and_then(|r| r.rsplit_once(") [")) {
        // The parenthesis was cut off with the separator.
        Some((r, thread)) => (r, thread),
        None => (rest.strip_suffix(')')?, ""),
    };
    let (message, class) = rest.rsplit_once(" (")?;
    Some(Head { at, myid, thread, class: last_part(class), source_line: None, message })
}

/// `2026-11-23T09:58:00.991884Z  INFO trivet::coordination: message`, of our own processes; `rest` follows the
/// milliseconds.
fn own_head(at: LogMillis, rest: &str) -> Option<Head<'_>> {
    let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix('Z')?.trim_start();
    let (level, rest) = rest.split_once(' ')?;
    let (target, message) = rest.split_once(": ")?;
    let ours = LEVELS.contains(&level) && target.starts_with("trivet") && !target.contains(' ');
    ours.then_some(Head { at, myid: None, thread: "", class: target, source_line: None, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_layout() {
        let samples = [
            ("2015-07-29 17:41:44,747 - INFO  [QuorumPeer[myid=1]/0:0:0:0:0:0:0:0:2181:FastLeaderElection@774] - Notification time out: 3200",
             None, "QuorumPeer[myid=1]/0:0:0:0:0:0:0:0:2181", "FastLeaderElection", Some(774), "Notification time out: 3200"),
            ("2026-11-22 07:46:52,124 [myid:1] - INFO  [QuorumPeer[myid=1]/10.0.10.71:2181:QuorumPeer@909] - LOOKING",
             Some(1), "QuorumPeer[myid=1]/10.0.10.71:2181", "QuorumPeer", Some(909), "LOOKING"),
            ("2023-09-25 09:25:42,096 [myid:] - WARN  [QuorumConnectionThread-[myid=2]-8959:o.a.z.s.q.QuorumCnxManager@401] - Cannot open channel to 1",
             None, "QuorumConnectionThread-[myid=2]-8959", "QuorumCnxManager", Some(401), "Cannot open channel to 1"),
            ("2026-11-22T07:56:19,868 [myid:] - INFO  [QuorumPeer[myid=1](plain=10.0.10.71:2181)(secure=disabled):QuorumPeer@1470] - LOOKING",
             None, "QuorumPeer[myid=1](plain=10.0.10.71:2181)(secure=disabled)", "QuorumPeer", Some(1470), "LOOKING"),
            ("2019-08-06 20:48:42,658 INFO Have smaller server identifier, so dropping the connection: (2, 1) (org.apache.zookeeper.server.quorum.QuorumCnxManager) [WorkerSender[myid=1]]",
             None, "WorkerSender[myid=1]", "QuorumCnxManager", None, "Have smaller server identifier, so dropping the connection: (2, 1)"),
            ("2019-08-06 20:48:42,658 INFO LOOKING (org.apache.zookeeper.server.quorum.QuorumPeer)",
             None, "", "QuorumPeer", None, "LOOKING"),
            ("2026-11-23T09:58:00.991884Z  INFO trivet::coordination: role=leading epoch=2 report=\"a: b\"",
             None, "", "trivet::coordination", None, "role=leading epoch=2 report=\"a: b\""),
        ];
        for (line, myid, thread, class, source_line, message) in samples {
            let h = head(line).unwrap_or_else(|| panic!("{line}"));
            assert_eq!(
                (h.myid, h.thread, h.class, h.source_line, h.message),
                (myid, thread, class, source_line, message)
            );
        }
        for other in
            ["java.net.SocketTimeoutException: Read timed out", "\tat a.b.C(D.java:1)", "", "2026-11-22T07:56:19,868"]
        {
            assert_eq!(head(other), None, "{other}");
        }
    }

    #[test]
    fn prefixes_and_padding_go() {
        let p = unprefixed("[192_168_18_73_71ee]/zookeeper.log│2023-01-25T19:05:05,830 [myid:] - INFO  [a:QuorumPeer@1255] - LOOKING      │\r\n");
        assert_eq!(p.prefix, "[192_168_18_73_71ee]/zookeeper.log");
        assert_eq!(head(p.line).unwrap().message, "LOOKING");
        let p = unprefixed("zoo1_1  | 2017-05-28 13:22:13,411 [myid:1] - INFO  [a:QuorumPeer@1] - LOOKING");
        assert_eq!((p.prefix, head(p.line).unwrap().myid), ("zoo1_1", Some(1)));
        let p = unprefixed("2017-05-28 13:22:13,411 [myid:1] - INFO  [a:X@1] - one | 2017-05-28 13:22:13,411 two");
        assert_eq!(p.prefix, "");
        assert_eq!(
            unprefixed("[x]/z.log│java.net.SocketTimeoutException: Read timed out").line,
            "java.net.SocketTimeoutException: Read timed out"
        );
    }
}
