//! Facts stated by log messages, by the wordings of Apache ZooKeeper 3.4.3 to 3.9.5.

use crate::causes::{self, Stated};
use crate::line::Head;
use crate::own;
use crate::time::LogMillis;
use trivet_events::Event;

/// Why a connection to the leader, or to a follower, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Silence for the read time-out: what cut them off was that much earlier.
    Timeout,
    /// The other process ended, or closed the connection.
    Closed,
    /// The connection was refused: no process listens on the port.
    Refused,
    /// This process closed it itself.
    Own,
    /// This process restarted.
    Restarted,
    /// The line behind states it.
    Stated(Stated),
    /// No line says it.
    Unknown,
}

/// The state of a server in the election, as votes name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The server looks for a leader.
    Looking,
    /// The server follows a leader.
    Following,
    /// The server leads.
    Leading,
    /// The server follows without a vote.
    Observing,
}

/// A vote that was received; a server receives its own as well, when it sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vote {
    /// The server that sent the vote.
    pub from: u32,
    /// The state of that server.
    pub state: State,
    /// The server that the vote is for.
    pub leader: i64,
    /// The newest transaction of that server.
    pub zxid: i64,
    /// The round of election of the sender.
    pub round: i64,
    /// The epoch of that server's history.
    pub peer_epoch: i64,
    /// State of the server that received the vote.
    pub mine: State,
}

/// A statement of one log entry that matters to the story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// A server's process begins to start.
    Starts {
        /// The number of the server, where the line says it.
        id: Option<u32>,
        /// The last line before the process began to start.
        after: Option<LogMillis>,
    },
    /// The setting `tickTime`, in milliseconds.
    TickMs(u64),
    /// The setting `syncLimit`, in ticks.
    SyncLimit(u64),
    /// The version of ZooKeeper that the log names.
    Version(String),
    /// The server has no leader, and looks for one.
    Looks,
    /// The round of votes begins: what it sends comes after this.
    NewElection,
    /// The server joins as an observer, which has no vote.
    WillObserve,
    /// A cause that a line states.
    States(Stated),
    /// Elected, or joins; it does not work yet.
    WillFollow,
    /// Elected as leader, and not serving yet.
    WillLead,
    /// The server has its leader's history.
    Follows,
    /// The server accepts requests of clients.
    Serves,
    /// The server leads, and accepts requests of clients.
    Leads,
    /// A leader has a quorum of followers.
    HasQuorum {
        /// The epoch that begins.
        epoch: i64,
        /// The servers that the line names, the leader included where it names itself.
        with: Vec<u32>,
    },
    /// A leader ends its own leadership.
    GaveUpLead {
        /// The reason that the line gives; empty where it gives none.
        reason: String,
    },
    /// A follower lost its leader.
    LostLeader(Cause),
    /// The leader's view of a follower.
    LearnerConnected {
        /// Number of the learner.
        id: u32,
        /// The learner has no vote.
        observer: bool,
    },
    /// A leader lost the connection to a learner.
    LearnerLost {
        /// The learner's address, without its port.
        ip: String,
        /// The reason, as far as lines say it.
        cause: Cause,
    },
    /// A vote that was received.
    Vote(Vote),
    /// A server could not connect to another one's election port.
    CannotReach {
        /// Number of the other server.
        id: u32,
        /// The reason, as far as lines say it.
        cause: Cause,
    },
    /// A sync took this long.
    SlowSyncMs(u64),
    /// The process was paused for this many milliseconds, by the JVM's own monitor.
    PauseMs(u64),
    /// A leader ends sessions whose clients were silent: their count, and how long after the first the last one ended,
    /// at most [`EXPIRES_MS`]. A leader of thousands of clients writes a line for each.
    Expires {
        /// Sessions that ended.
        count: u32,
        /// Milliseconds from the first end to the last.
        span_ms: u16,
    },
    /// A follower passes a client's session on to its leader, to be confirmed.
    Revalidates {
        /// Id of the session.
        session: u64,
    },
    /// A Trivet server's role ended; with the time of silence before, where silence ended it.
    Left {
        /// The reason, as the line has it.
        reason: String,
        /// The same as a cause.
        cause: Cause,
        /// Milliseconds of silence before, where silence ended the role.
        silent_ms: Option<u64>,
    },
    /// A server of ours follows a leader, and serves its clients.
    FollowsLeader {
        /// Number of the leader.
        leader: u32,
        /// The leader's epoch.
        epoch: i64,
        /// The role is the first since the process started.
        started: bool,
        /// The times of the change, as the line has them.
        report: String,
    },
    /// A server of ours leads, and serves its clients.
    LeadsEpoch {
        /// Its epoch.
        epoch: i64,
        /// The role is the first since the process started.
        started: bool,
        /// The times of the change, as the line has them.
        report: String,
    },
    /// Which server this log is of.
    Is {
        /// Number of the server.
        id: u32,
    },
    /// Something else that one of our own nodes wrote down. Rare, and long beside the others: a log has millions of facts.
    Note(Box<Said>),
}

/// A record of one of our own nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The subject, such as `alert`; its words are those of the journal of events.
    pub subject: String,
    /// The change, as text, in English.
    pub what: String,
    /// The reason, as text; empty where there is none.
    pub why: String,
    /// `what` in Chinese, where the record has it.
    pub what_zh: String,
    /// `why` in Chinese, where the record has it.
    pub why_zh: String,
    /// The event, where the record has its code, or where an earlier release had one wording for it.
    pub event: Option<Event>,
}

/// Sessions that end in one log within this many milliseconds count as one fact.
pub const EXPIRES_MS: i64 = 1_000;

impl Fact {
    /// Whether the line behind the message says the cause.
    pub fn wants_cause(&self) -> bool {
        matches!(self, Fact::LostLeader(_) | Fact::LearnerLost { .. } | Fact::CannotReach { .. })
            || matches!(self, Fact::GaveUpLead { reason } if reason.is_empty())
    }

    /// Sets the cause of a fact that has one, once a later line has said it.
    pub fn set_cause(&mut self, to: Cause) {
        if let Fact::LostLeader(cause) | Fact::LearnerLost { cause, .. } | Fact::CannotReach { cause, .. } = self {
            *cause = to;
        }
    }
}

/// The cause in an exception's first line.
pub fn cause(line: &str) -> Option<Cause> {
    let is = |any: &[&str]| any.iter().any(|s| line.contains(s));
    if let Some(stated) = causes::stated(line).filter(|_| causes::may_state(line)) {
        // A route that is missing is a silence like others.
        if !is(&["NoRouteToHost", "No route to host"]) {
            return Some(Cause::Stated(stated));
        }
    }
    if is(&["Read timed out", "connect timed out", "Connect timed out", "NoRouteToHost", "No route to host"]) {
        Some(Cause::Timeout)
    } else if is(&["Connection refused"]) {
        Some(Cause::Refused)
    } else if is(&["Socket closed", "socket is closed", "Socket is closed"]) {
        Some(Cause::Own)
    } else if is(&["EOFException", "Connection reset", "Broken pipe"]) {
        Some(Cause::Closed)
    } else {
        (line.contains("Exception") || line.contains("Error")).then_some(Cause::Unknown)
    }
}

fn number_behind(message: &str, what: &str) -> Option<u64> {
    let rest = &message[message.find(what)? + what.len()..];
    let rest = rest.trim_start();
    rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())].parse().ok()
}

/// `None`: the message says nothing that matters here.
pub fn fact(head: &Head<'_>) -> Option<Fact> {
    let found = of_class(head);
    if found.is_some() || !head.serious {
        return found;
    }
    causes::stated(head.message).map(Fact::States)
}

fn of_class(head: &Head<'_>) -> Option<Fact> {
    let m = head.message;
    // Since 3.8 some layouts name the class within the class, too.
    match head.class.split('$').next().unwrap_or_default() {
        "QuorumPeer" => match m {
            "LOOKING" => Some(Fact::Looks),
            "FOLLOWING" => Some(Fact::WillFollow),
            "OBSERVING" => Some(Fact::WillObserve),
            "LEADING" => Some(Fact::WillLead),
            "Peer state changed: following - broadcast" | "Peer state changed: observing - broadcast" => {
                Some(Fact::Serves)
            }
            "Peer state changed: leading - broadcast" => Some(Fact::Leads),
            _ if m.starts_with("tickTime set to") => number_behind(m, "set to").map(Fact::TickMs),
            _ if m.starts_with("syncLimit set to") => number_behind(m, "set to").map(Fact::SyncLimit),
            _ => None,
        },
        "QuorumPeerMain" if m.starts_with("Starting quorum peer") => {
            Some(Fact::Starts { id: number_behind(m, "myid=").map(|n| n as u32), after: None })
        }
        "FastLeaderElection" if m.starts_with("New election.") => Some(Fact::NewElection),
        "FastLeaderElection" if m.starts_with("Notification: ") => vote(&m[14..]).map(Fact::Vote),
        "Follower" | "Observer" if m.starts_with("Exception when ") => Some(Fact::LostLeader(Cause::Unknown)),
        "Leader" if m.starts_with("Have quorum of supporters") => has_quorum(m),
        "Leader" if m.starts_with("Shutdown called") => {
            let reason = m.split_once("For the reason ").map_or("", |(_, r)| r.trim());
            Some(Fact::GaveUpLead { reason: reason.into() })
        }
        "Learner" if m.contains("UPTODATE") => Some(Fact::Follows),
        // Before 3.5 this is the last that a follower says before it serves.
        "Learner" if m.starts_with("Getting a ") || m.starts_with("Truncating log to get in sync") => {
            Some(Fact::Follows)
        }
        "Learner" if m.starts_with("Revalidating client: 0x") => {
            u64::from_str_radix(m[23..].trim(), 16).ok().map(|session| Fact::Revalidates { session })
        }
        "LearnerHandler" => learner_handler(head),
        "QuorumCnxManager" if m.starts_with("Cannot open channel to ") => {
            let id = number_behind(m, "Cannot open channel to")? as u32;
            Some(Fact::CannotReach { id, cause: Cause::Unknown })
        }
        "FileTxnLog" if m.starts_with("fsync-ing the write ahead log") => {
            number_behind(m, " took ").map(Fact::SlowSyncMs)
        }
        "JvmPauseMonitor" if m.contains("pause of approximately") => {
            number_behind(m, "pause of approximately").map(Fact::PauseMs)
        }
        "ZooKeeperServer" if m.starts_with("Expiring session 0x") => Some(Fact::Expires { count: 1, span_ms: 0 }),
        "Environment" | "ZooKeeperServer" => {
            let version = m.split_once("environment:zookeeper.version=")?.1;
            let end = version.find([',', '-', ' ']).unwrap_or(version.len());
            Some(Fact::Version(version[..end].into()))
        }
        ours if ours.starts_with("trivet") => own::fact(m),
        _ => None,
    }
}

/// `Have quorum of supporters, sids: [[1, 3]]; starting up and setting last processed zxid: 0x100000000`
fn has_quorum(m: &str) -> Option<Fact> {
    let zxid = m.rsplit_once("zxid: 0x")?.1.trim();
    let epoch = i64::from_str_radix(zxid, 16).ok()? >> 32;
    let sids = m.split_once("sids: ").map_or("", |(_, s)| s.split_once(';').map_or(s, |(s, _)| s));
    let with = sids.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
    Some(Fact::HasQuorum { epoch, with })
}

fn learner_handler(head: &Head<'_>) -> Option<Fact> {
    let m = head.message;
    if m.starts_with("Follower sid: ") {
        let observer = m.ends_with(":observer");
        return Some(Fact::LearnerConnected { id: number_behind(m, "Follower sid:")? as u32, observer });
    }
    if m.starts_with("Unexpected exception") {
        let ip = head.thread.strip_prefix("LearnerHandler-/")?.rsplit_once(':')?.0;
        return Some(Fact::LearnerLost { ip: ip.into(), cause: Cause::Unknown });
    }
    None
}

fn state(text: &str) -> Option<State> {
    Some(match text {
        "LOOKING" => State::Looking,
        "FOLLOWING" => State::Following,
        "LEADING" => State::Leading,
        "OBSERVING" => State::Observing,
        _ => return None,
    })
}

fn hex(text: &str) -> Option<i64> {
    let digits = text.strip_prefix("0x")?;
    u64::from_str_radix(digits, 16).ok().map(|n| n as i64)
}

fn vote(text: &str) -> Option<Vote> {
    let mut found = [""; VOTE_FIELDS.len()];
    let mut put = |name: &str, value| match VOTE_FIELDS.iter().position(|f| f.eq_ignore_ascii_case(name)) {
        Some(at) if found[at].is_empty() => found[at] = value,
        _ => {}
    };
    // 3.6 and later name each field first; before, the name follows in parentheses.
    if text.starts_with("my state:") {
        for (name, value) in text.split([';', ',']).filter_map(|part| part.split_once(':')) {
            put(name.trim(), value.trim());
        }
    } else {
        for (at, _) in text.match_indices('(') {
            let name = text[at + 1..].split(')').next().unwrap_or_default();
            let value = text[..at].strip_suffix(' ').and_then(|before| before.rsplit([' ', ',', ')']).next());
            put(name, value.unwrap_or_default());
        }
    }
    let [from, theirs, leader, zxid, round, peer_epoch, mine] = found;
    Some(Vote {
        from: from.parse().ok()?,
        state: state(theirs)?,
        leader: leader.parse().ok()?,
        zxid: hex(zxid)?,
        round: hex(round)?,
        peer_epoch: hex(peer_epoch)?,
        mine: state(mine)?,
    })
}

/// Fields of a vote by their names; releases differ in the case of letters.
const VOTE_FIELDS: [&str; 7] = ["n.sid", "n.state", "n.leader", "n.zxid", "n.round", "n.peerEpoch", "my state"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::head;

    fn of(class: &str, message: &str) -> Option<Fact> {
        let line =
            format!("2026-11-22T07:56:19,868 [myid:1] - INFO  [LearnerHandler-/10.0.10.72:4711:{class}@1] - {message}");
        fact(&head(&line).unwrap())
    }

    #[test]
    fn every_wording_of_a_vote() {
        let want = Vote {
            from: 2,
            state: State::Looking,
            leader: 3,
            zxid: 0x2000001a6,
            round: 1,
            peer_epoch: 2,
            mine: State::Following,
        };
        for text in [
            "3 (n.leader), 0x2000001a6 (n.zxid), 0x1 (n.round), LOOKING (n.state), 2 (n.sid), 0x2 (n.peerEPoch), FOLLOWING (my state)",
            "1 (message format version), 3 (n.leader), 0x2000001a6 (n.zxid), 0x1 (n.round), LOOKING (n.state), 2 (n.sid), 0x2 (n.peerEpoch) FOLLOWING (my state)",
            "2 (message format version), 3 (n.leader), 0x2000001a6 (n.zxid), 0x1 (n.round), LOOKING (n.state), 2 (n.sid), 0x2 (n.peerEPoch), FOLLOWING (my state)0 (n.config version)",
            "my state:FOLLOWING; n.sid:2, n.state:LOOKING, n.leader:3, n.round:0x1, n.peerEpoch:0x2, n.zxid:0x2000001a6, message format version:0x2, n.config version:0x0",
        ] {
            for class in ["FastLeaderElection", "FastLeaderElection$Messenger$WorkerReceiver"] {
                assert_eq!(of(class, &format!("Notification: {text}")), Some(Fact::Vote(want)), "{class} {text}");
            }
        }
    }

    #[test]
    fn messages_that_matter() {
        let quorum = |text: &str| of("Leader", text);
        assert_eq!(
            quorum(
                "Have quorum of supporters, sids: [[1, 3]]; starting up and setting last processed zxid: 0x500000000"
            ),
            Some(Fact::HasQuorum { epoch: 5, with: vec![1, 3] })
        );
        assert_eq!(
            quorum(
                "Have quorum of supporters, sids: [ 1,2 ]; starting up and setting last processed zxid: 0x100000000"
            ),
            Some(Fact::HasQuorum { epoch: 1, with: vec![1, 2] })
        );
        assert_eq!(
            of("FileTxnLog", "fsync-ing the write ahead log in SyncThread:1 took 1234ms which will"),
            Some(Fact::SlowSyncMs(1234))
        );
        assert_eq!(
            of("LearnerHandler", "Unexpected exception in LearnerHandler: "),
            Some(Fact::LearnerLost { ip: "10.0.10.72".into(), cause: Cause::Unknown })
        );
        assert_eq!(
            of("QuorumCnxManager", "Cannot open channel to 3 at election address /10.0.10.73:3888"),
            Some(Fact::CannotReach { id: 3, cause: Cause::Unknown })
        );
        assert_eq!(of("QuorumPeer", "something else"), None);
        assert_eq!(cause("java.net.SocketTimeoutException: Read timed out"), Some(Cause::Timeout));
        assert_eq!(cause("java.io.EOFException"), Some(Cause::Closed));
        assert_eq!(cause("\tat java.lang.Thread.run"), None);
    }
}
