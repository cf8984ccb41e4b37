//! The layouts of log lines, a row each: adding one is adding a row. The row's example is its test, and
//! `docs/timeline.md` lists what stands here.
//!
//! A pattern consists of fields in braces and what stands between them. A blank stands for one or more. Fields before
//! `{message}` are taken from the left, those behind it from the right, so that the message may contain anything.

use crate::line::Head;
use crate::stamp::{self, Stamp};
use std::sync::LazyLock;

/// A layout of log lines.
pub struct Layout {
    /// The programs that write it.
    pub name: &'static str,
    /// Fields in braces, and what stands between them.
    pub pattern: &'static str,
    /// Every example says the same: server 1 looks for a leader.
    pub example: &'static str,
    /// Seen in real logs, and not only described in a program's documentation or configuration.
    pub seen: bool,
}

const fn row(name: &'static str, pattern: &'static str, example: &'static str, seen: bool) -> Layout {
    Layout { name, pattern, example, seen }
}

/// In this order they are tried; the row that took the line before is tried first.
pub const LAYOUTS: &[Layout] = &[
    row("Apache ZooKeeper 3.4 to 3.9 (log4j, logback, log4j 2), Bitnami, the Docker official image", "{time} [myid:{myid}] - {level} [{place}] - {message}",
        "2023-01-25T19:05:05,818 [myid:1] - INFO  [QuorumPeer[myid=1](plain=10.0.10.71:2181)(secure=disabled):QuorumPeer@1255] - LOOKING", true),
    row("Debian's package, Ambari, ZooKeeper up to 3.3", "{time} - {level} [{place}] - {message}",
        "2023-01-25 19:05:05,818 - INFO  [QuorumPeer[myid=1]/10.0.10.71:2181:QuorumPeer@909] - LOOKING", true),
    row("Apache's layout without the dash", "{time} [myid:{myid}] {level} [{place}] - {message}",
        "2023-01-25 19:05:05,818 [myid:1] INFO  [QuorumPeer[myid=1]/10.0.10.71:2181:QuorumPeer@909] - LOOKING", false),
    row("Apache's layout without myid and dash", "{time} {level} [{place}] - {message}",
        "2023-01-25 19:05:05,818 INFO  [QuorumPeer[myid=1]/10.0.10.71:2181:QuorumPeer@909] - LOOKING", false),
    row("Trivet", "{time} {level} {ours}: {message}",
        "2023-01-25T11:05:05.818123Z  INFO trivet::coordination: role=looking reason=the leader is silent", true),
    row("Strimzi", "{time} {level} {message} ({class}) [{thread}]",
        "2023-01-25 19:05:05,818 INFO LOOKING (org.apache.zookeeper.server.quorum.QuorumPeer) [QuorumPeer[myid=1](plain=[0:0:0:0:0:0:0:0]:12181)(secure=disabled)]", true),
    row("Kafka, Confluent (the time in brackets or not)", "{time} {level} {message} ({class})",
        "[2023-01-25 19:05:05,818] INFO LOOKING (org.apache.zookeeper.server.quorum.QuorumPeer)", true),
    row("Huawei MRS", "{time} | {level} | {thread} | {message} | {location}",
        "2023-01-25 19:05:05,818 | INFO  | QuorumPeer[myid=1](plain=10.0.10.71:24002)(secure=disabled) | LOOKING | org.apache.zookeeper.server.quorum.QuorumPeer.run(QuorumPeer.java:1255)", false),
    row("Huawei MRS without blanks", "{time}|{level}|{thread}|{message}|{location}",
        "2023-01-25 19:05:05,818|INFO|QuorumPeer[myid=1](plain=10.0.10.71:24002)(secure=disabled)|LOOKING|org.apache.zookeeper.server.quorum.QuorumPeer.run(QuorumPeer.java:1255)", false),
    row("Karaf", "{time} | {level} | {thread} | {class} | {message}",
        "2023-01-25 19:05:05,818 | INFO  | QuorumPeer[myid=1]/10.0.10.71:2181 | org.apache.zookeeper.server.quorum.QuorumPeer | LOOKING", false),
    row("HBase", "{time} {level} [{thread}] {class}: {message}",
        "2023-01-25 19:05:05,818 INFO  [QuorumPeer[myid=1]/10.0.10.71:2181] quorum.QuorumPeer: LOOKING", true),
    row("Cloudera, Hadoop", "{time} {level} {class}: {message}",
        "2023-01-25 19:05:05,818 INFO org.apache.zookeeper.server.quorum.QuorumPeer: LOOKING", true),
    row("Hadoop with file and method", "{time} {level} {class} ({location}) - {message}",
        "2023-01-25 19:05:05,818 INFO  quorum.QuorumPeer (QuorumPeer.java:run(909)) - LOOKING", false),
    row("Pulsar, logback's default", "{time} [{thread}] {level} {class} - {message}",
        "2023-01-25T19:05:05,818+0800 [QuorumPeer[myid=1](plain=10.0.10.71:2181)(secure=disabled)] INFO  org.apache.zookeeper.server.quorum.QuorumPeer - LOOKING", true),
    row("logback 1.3 and later by default", "{time} [{thread}] {level} {class} -- {message}",
        "19:05:05.818 [QuorumPeer[myid=1](plain=10.0.10.71:2181)(secure=disabled)] INFO org.apache.zookeeper.server.quorum.QuorumPeer -- LOOKING", false),
    row("log4j's thread, level, class", "{time} [{thread}] {level} {class}: {message}",
        "2023-01-25 19:05:05,818 [QuorumPeer[myid=1]/10.0.10.71:2181] INFO  org.apache.zookeeper.server.quorum.QuorumPeer: LOOKING", false),
    row("log4j's thread, level, class, place in brackets", "{time} [{thread}] {level} {class} [{word}] - {message}",
        "2023-01-25 19:05:05,818 [QuorumPeer[myid=1]/10.0.10.71:2181] INFO  org.apache.zookeeper.server.quorum.QuorumPeer [QuorumPeer.java:909] - LOOKING", false),
    row("Solr", "{time} {level} ({thread}) [{mdc}] {class} {message}",
        "2023-01-25 19:05:05.818 INFO  (QuorumPeer[myid=1](plain=10.0.10.71:9983)(secure=disabled)) [   ] o.a.z.s.q.QuorumPeer LOOKING", true),
    row("Solr without a context", "{time} {level} ({thread}) {class} {message}",
        "2023-01-25 19:05:05.818 INFO  (QuorumPeer[myid=1](plain=10.0.10.71:9983)(secure=disabled)) o.a.z.s.q.QuorumPeer LOOKING", false),
    row("Spring Boot", "{time} {level} {word} --- [{thread}] {class} : {message}",
        "2023-01-25 19:05:05.818  INFO 1 --- [QuorumPeer[myid=1](plain=10.0.10.71:2181)(secure=disabled)] o.a.z.server.quorum.QuorumPeer           : LOOKING", false),
    row("log4j 2 by default", "{time} [{thread}] {level} {class} {message}",
        "2023-01-25 19:05:05,818 [QuorumPeer[myid=1]/10.0.10.71:2181] INFO  org.apache.zookeeper.server.quorum.QuorumPeer LOOKING", false),
    row("JBoss, WildFly", "{time} {level} [{class}] ({thread}) {message}",
        "2023-01-25 19:05:05,818 INFO  [org.apache.zookeeper.server.quorum.QuorumPeer] (QuorumPeer[myid=1]/10.0.10.71:2181) LOOKING", false),
    row("level, thread, class with a dash", "{time} {level} [{thread}] {class} - {message}",
        "2023-01-25 19:05:05,818 INFO  [QuorumPeer[myid=1]/10.0.10.71:2181] org.apache.zookeeper.server.quorum.QuorumPeer - LOOKING", false),
    row("level and thread in brackets", "{time} [{level}] [{thread}] {class} - {message}",
        "2023-01-25 19:05:05,818 [INFO] [QuorumPeer[myid=1]/10.0.10.71:2181] org.apache.zookeeper.server.quorum.QuorumPeer - LOOKING", false),
    row("level in brackets", "{time} [{level}] {class} - {message}",
        "2023-01-25 19:05:05,818 [INFO] org.apache.zookeeper.server.quorum.QuorumPeer - LOOKING", false),
    row("level, class, thread", "{time} {level} {class} [{thread}] {message}",
        "2023-01-25 19:05:05,818 INFO org.apache.zookeeper.server.quorum.QuorumPeer [QuorumPeer[myid=1]/10.0.10.71:2181] LOOKING", false),
    row("level, class with a dash", "{time} {level} {class} - {message}",
        "2023-01-25 19:05:05,818 INFO org.apache.zookeeper.server.quorum.QuorumPeer - LOOKING", false),
    row("level, class", "{time} {level} {class} {message}",
        "2023-01-25 19:05:05,818 INFO org.apache.zookeeper.server.quorum.QuorumPeer LOOKING", false),
];

const LEVELS: [&str; 9] = ["TRACE", "DEBUG", "INFO", "WARNING", "WARN", "ERROR", "FATAL", "SEVERE", "CONFIG"];

/// Classes whose name alone says that a line is ZooKeeper's.
const CLASSES: [&str; 22] = [
    "QuorumPeer",
    "QuorumPeerMain",
    "QuorumPeerConfig",
    "FastLeaderElection",
    "Follower",
    "Observer",
    "Leader",
    "Learner",
    "LearnerHandler",
    "LearnerCnxAcceptor",
    "QuorumCnxManager",
    "FileTxnLog",
    "FileTxnSnapLog",
    "JvmPauseMonitor",
    "ZooKeeperServer",
    "Environment",
    "NIOServerCnxn",
    "NIOServerCnxnFactory",
    "NettyServerCnxnFactory",
    "FollowerZooKeeperServer",
    "LeaderZooKeeperServer",
    "PrepRequestProcessor",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Myid,
    Level,
    /// `thread:class@line`
    Place,
    Thread,
    Class,
    /// A target of ours: `trivet::coordination`.
    Ours,
    /// `class.method(File.java:line)`, `File.java:method(line)`, or a class.
    Location,
    /// Anything without a blank.
    Word,
    /// Anything, empty as well.
    Mdc,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Text(String),
    Field(Field),
}

/// The parts of a pattern between the time and the message, and behind the message.
struct Compiled {
    before: Vec<Token>,
    after: Vec<Token>,
}

static COMPILED: LazyLock<Vec<Compiled>> = LazyLock::new(|| LAYOUTS.iter().map(|l| compile(l.pattern)).collect());

fn compile(pattern: &str) -> Compiled {
    let mut rest = pattern.strip_prefix("{time}").expect("a layout begins with its time");
    let (mut before, mut after, mut behind) = (Vec::new(), Vec::new(), false);
    while !rest.is_empty() {
        let token = if let Some(r) = rest.strip_prefix('{') {
            let (name, r) = r.split_once('}').expect("a field ends");
            rest = r;
            let field = match name {
                "myid" => Field::Myid,
                "level" => Field::Level,
                "place" => Field::Place,
                "thread" => Field::Thread,
                "class" => Field::Class,
                "ours" => Field::Ours,
                "location" => Field::Location,
                "word" => Field::Word,
                "mdc" => Field::Mdc,
                "message" => {
                    behind = true;
                    continue;
                }
                _ => panic!("no such field: {name}"),
            };
            Token::Field(field)
        } else {
            let end = rest.find('{').unwrap_or(rest.len());
            let text = rest[..end].to_string();
            rest = &rest[end..];
            Token::Text(text)
        };
        if behind { &mut after } else { &mut before }.push(token);
    }
    // The blank behind the time is gone where a log collector's time stands for it.
    if let Some(Token::Text(first)) = before.first_mut() {
        *first = first.trim_start().to_string();
    }
    Compiled { before, after }
}

/// Fields of a line, as far as its layout has them.
#[derive(Default)]
struct Found<'a> {
    myid: Option<u32>,
    thread: &'a str,
    class: &'a str,
    source_line: Option<u32>,
    /// The line's level is below a warning.
    idle: bool,
}

impl<'a> Found<'a> {
    fn set(&mut self, field: Field, text: &'a str) -> Option<()> {
        match field {
            Field::Myid => self.myid = text.parse().ok(),
            Field::Level => {
                let level = text.trim();
                self.idle = matches!(level, "TRACE" | "DEBUG" | "INFO" | "CONFIG");
                return LEVELS.contains(&level).then_some(());
            }
            Field::Place => {
                let (place, number) = text.rsplit_once('@').unwrap_or((text, ""));
                let (thread, class) = place.rsplit_once(':').unwrap_or((place, ""));
                (self.thread, self.class, self.source_line) = (thread, last_part(class), number.parse().ok());
            }
            Field::Thread => self.thread = text.trim(),
            Field::Class => {
                // Some name the line behind the class.
                let (class, number) = text.trim().rsplit_once([':', '@']).unwrap_or((text.trim(), ""));
                is_class(class).then_some(())?;
                (self.class, self.source_line) = (last_part(class), number.parse().ok());
            }
            Field::Ours => {
                (text.starts_with("trivet") && !text.contains(' ')).then_some(())?;
                self.class = text;
            }
            Field::Location => self.location(text.trim())?,
            Field::Word => return (!text.trim().is_empty() && !text.trim().contains(' ')).then_some(()),
            Field::Mdc => {}
        }
        Some(())
    }

    fn location(&mut self, text: &'a str) -> Option<()> {
        if is_class(text) {
            self.class = last_part(text);
            return Some(());
        }
        // `...(QuorumPeer.java:909)` or `QuorumPeer.java:run(909)`
        let at = text.find(".java")?;
        let class = &text[..at];
        self.class = class.rsplit(['(', '.']).next().unwrap_or(class);
        let numbers = text[at + 5..].trim_matches(|c: char| !c.is_ascii_digit());
        self.source_line = numbers.parse().ok();
        (!self.class.is_empty()).then_some(())
    }
}

fn last_part(class: &str) -> &str {
    class.rsplit('.').next().unwrap_or(class)
}

fn is_class(text: &str) -> bool {
    let last = last_part(text);
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._$-".contains(&b))
        && (text.contains('.') && last.starts_with(|c: char| c.is_ascii_uppercase()) || CLASSES.contains(&last))
}

/// A blank of the pattern stands for one or more.
fn skip<'a>(mut text: &'a str, pattern: &str) -> Option<&'a str> {
    for c in pattern.chars() {
        if c == ' ' {
            // Padding at the end of a line may be gone.
            let more = text.trim_start_matches([' ', '\t']);
            if more.len() == text.len() && !text.is_empty() {
                return None;
            }
            text = more;
        } else {
            text = text.strip_prefix(c)?;
        }
    }
    Some(text)
}

/// The text before and after the pattern's first occurrence.
fn until<'a>(text: &'a str, pattern: &str) -> Option<(&'a str, &'a str)> {
    let mut from = 0;
    // A pattern may begin with a blank that stands for several.
    loop {
        let first = pattern.chars().next()?;
        let at = from + text[from..].find(first)?;
        if let Some(rest) = skip(&text[at..], pattern) {
            return Some((&text[..at], rest));
        }
        from = at + first.len_utf8();
    }
}

fn take<'a>(rest: &'a str, by: &Compiled) -> Option<(Found<'a>, &'a str)> {
    let mut found = Found::default();
    let mut rest = rest;
    let mut at = 0;
    while let Some(token) = by.before.get(at) {
        match token {
            Token::Text(text) => rest = skip(rest, text)?,
            Token::Field(field) => {
                let (value, behind) = match by.before.get(at + 1) {
                    Some(Token::Text(text)) => until(rest, text)?,
                    _ => return None,
                };
                if *field == Field::Level && value.len() > 8 {
                    return None;
                }
                found.set(*field, value)?;
                rest = behind;
                at += 1;
            }
        }
        at += 1;
    }
    for (at, token) in by.after.iter().enumerate().rev() {
        match token {
            // Between fields: the field took it.
            Token::Text(text) if at + 1 == by.after.len() => rest = rest.strip_suffix(text.as_str())?,
            Token::Text(_) => {}
            Token::Field(field) => {
                let Some(Token::Text(text)) = at.checked_sub(1).and_then(|i| by.after.get(i)) else { return None };
                let (before, value) = rest.rsplit_once(text.as_str())?;
                found.set(*field, value)?;
                rest = before;
            }
        }
    }
    Some((found, rest))
}

/// The line's time, in brackets or not, and what stands behind it.
pub fn leading_time(line: &str) -> Option<(Stamp, &str)> {
    let (inside, close) = match line.as_bytes().first()? {
        b'[' => (&line[1..], Some(']')),
        b'(' => (&line[1..], Some(')')),
        _ => (line, None),
    };
    let (stamp, n) = stamp::stamp(inside.as_bytes())?;
    let rest = inside.get(n..)?;
    Some((stamp, close.map_or(Some(rest), |c| rest.strip_prefix(c))?))
}

/// `hint`: the row that took the line before.
pub fn head<'a>(line: &'a str, hint: &mut usize) -> Option<(Head<'a>, Stamp)> {
    let (stamp, rest) = leading_time(line)?;
    head_after(stamp, rest, hint).map(|head| (head, stamp))
}

/// The time stood somewhere before: by a log collector, say.
pub fn head_after<'a>(stamp: Stamp, rest: &'a str, hint: &mut usize) -> Option<Head<'a>> {
    let of = |found: Found<'a>, message: &'a str| Head {
        at: stamp.at,
        myid: found.myid,
        thread: found.thread,
        class: found.class,
        source_line: found.source_line,
        message: message.trim(),
        serious: !found.idle,
    };
    let rest = rest.trim();
    let try_row = |row: usize| COMPILED.get(row).and_then(|by| take(rest, by));
    if let Some((found, message)) = try_row(*hint) {
        return Some(of(found, message));
    }
    // In every layout a level, a bar, a dash, a bracket or a parenthesis follows the time.
    let begins = rest.as_bytes().first().is_some_and(|b| b"[(|-".contains(b) || b.is_ascii_uppercase());
    if !begins {
        return None;
    }
    let row = (0..COMPILED.len()).filter(|row| row != hint).find(|row| try_row(*row).is_some())?;
    *hint = row;
    try_row(row).map(|(found, message)| of(found, message))
}

/// The lists of `docs/timeline.md`.
pub fn documentation() -> String {
    let code = |text: &str| if text.contains('`') { text.to_string() } else { format!("`{text}`") };
    let mut out = String::from("| layout | pattern | known from |\n|---|---|---|\n");
    for l in LAYOUTS {
        let from = if l.seen { "real logs" } else { "documents" };
        out += &format!("| {} | `{}` | {from} |\n", l.name, l.pattern.replace('|', "\\|"));
    }
    out += "\nJSON entries: ";
    out += &crate::json_lines::ENTRIES.iter().map(|e| e.name).collect::<Vec<_>>().join("; ");
    out += ".\n\nEnvelopes of JSON around a line: ";
    out += &crate::json_lines::ENVELOPES.iter().map(|e| e.name).collect::<Vec<_>>().join("; ");
    out += ".\n\n| prefix, in any depth | example |\n|---|---|\n";
    for p in crate::prefixes::PREFIXES {
        out += &format!("| {} | {} |\n", p.name, code(&p.example.replace('|', "\\|")));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_takes_its_example() {
        for (row, layout) in LAYOUTS.iter().enumerate() {
            let mut hint = usize::MAX;
            let (h, _) = head(layout.example, &mut hint).unwrap_or_else(|| panic!("{}", layout.name));
            assert_eq!(LAYOUTS[hint].name, LAYOUTS[row].name, "another row took it");
            if layout.name == "Trivet" {
                continue;
            }
            assert_eq!((h.class, h.message), ("QuorumPeer", "LOOKING"), "{}", layout.name);
            let named = layout.pattern.contains("{thread}") || layout.pattern.contains("{place}");
            assert_eq!(h.thread.starts_with("QuorumPeer[myid=1]"), named, "{}: {:?}", layout.name, h.thread);
        }
    }

    #[test]
    fn what_a_message_contains_does_not_matter() {
        let of = |line: &'static str| head(line, &mut 0).map(|(h, _)| (h.class, h.thread, h.source_line, h.message));
        assert_eq!(
            of("2019-08-06 20:48:42,658 INFO Have smaller server identifier, so dropping the connection: (2, 1) (org.apache.zookeeper.server.quorum.QuorumCnxManager) [WorkerSender[myid=1]]"),
            Some(("QuorumCnxManager", "WorkerSender[myid=1]", None, "Have smaller server identifier, so dropping the connection: (2, 1)"))
        );
        assert_eq!(
            of("2023-09-25 09:25:42,096 [myid:] - WARN  [QuorumConnectionThread-[myid=2]-8959:o.a.z.s.q.QuorumCnxManager@401] - Cannot open channel to 1"),
            Some(("QuorumCnxManager", "QuorumConnectionThread-[myid=2]-8959", Some(401), "Cannot open channel to 1"))
        );
        // A vote of a release before 3.6 looks as if it began with a class.
        assert_eq!(
            of("[2023-01-25 19:05:05,818] INFO Notification: 1 (message format version), LOOKING (my state) (org.apache.zookeeper.server.quorum.FastLeaderElection)").map(|h| (h.0, h.3)),
            Some(("FastLeaderElection", "Notification: 1 (message format version), LOOKING (my state)"))
        );
        assert_eq!(of("2026-11-22 07:46:52,124 [myid:1] - INFO  [main:X@1] -").map(|h| h.3), Some(""));
        for other in [
            "java.net.SocketTimeoutException: Read timed out",
            "\tat a.b.C(D.java:1)",
            "",
            "2026-11-22T07:56:19,868",
            "2023-01-25 19:05:05,818 the quick brown fox",
            "2023-01-25 19:05:05,818 INFO the quick brown: fox",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
