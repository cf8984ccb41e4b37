//! Our own servers: lines of the process's log, and records of the journal `events.jsonl`.

use crate::facts::{Cause, Fact};
use crate::time::LogMillis;
use serde_json::Value;

/// What a process of ours says. (What else the journal has is not taken from there again.)
pub fn fact(message: &str) -> Option<Fact> {
    if let Some(rest) = message.strip_prefix("role=looking reason=") {
        return Some(left(rest));
    }
    if let Some(rest) = message.strip_prefix("role=following leader=") {
        let (leader, rest) = rest.split_once(" epoch=")?;
        let (epoch, report) = rest.split_once(" report=").unwrap_or((rest, ""));
        let (leader, epoch, report) = (leader.parse().ok()?, epoch.parse().ok()?, unquoted(report));
        return Some(Fact::FollowsLeader { leader, epoch, report });
    }
    if let Some(rest) = message.strip_prefix("role=leading epoch=") {
        let (epoch, report) = rest.split_once(" report=").unwrap_or((rest, ""));
        return Some(Fact::LeadsEpoch { epoch: epoch.parse().ok()?, report: unquoted(report) });
    }
    if let Some(rest) = message.strip_prefix("coordination what=") {
        let (what, why) = rest.split_once(" why=").unwrap_or((rest, ""));
        return of("coordination", what, why);
    }
    let named =
        message.strip_prefix("coordination is running server=").or(message.strip_prefix("node is running node="));
    if let Some(rest) = named {
        // It is said when the server may serve already.
        return Some(Fact::Is { id: rest.split(' ').next()?.parse().ok()? });
    }
    None
}

/// The first report behind a start of the process.
pub fn started(report: &str) -> bool {
    report.starts_with("this server started")
}

/// A record of the journal: who wrote it, when (by UTC), and what it says.
pub fn record(line: &str) -> Option<(u32, LogMillis, Option<Fact>)> {
    record_of(&serde_json::from_str(line).ok()?)
}

/// A later time, in milliseconds since 1970, is none (this is 2096).
const WALL_MS_MAX: i64 = 4_000_000_000_000;

pub fn record_of(record: &Value) -> Option<(u32, LogMillis, Option<Fact>)> {
    let text = |name: &str| record.get(name).and_then(Value::as_str);
    let node = u32::try_from(record.get("node")?.as_u64()?).ok()?;
    Some((
        node,
        record.get("wall_ms")?.as_i64().filter(|ms| (0..WALL_MS_MAX).contains(ms))?,
        of(text("subject")?, text("what")?, text("why")?),
    ))
}

fn of(subject: &str, what: &str, why: &str) -> Option<Fact> {
    match subject {
        "coordination" => {
            if what == "looking for a leader" {
                return Some(left(why));
            }
            if let Some(rest) = what.strip_prefix("follows node ") {
                let (leader, epoch) = rest.split_once(" in epoch ")?;
                let (leader, epoch) = (leader.parse().ok()?, epoch.parse().ok()?);
                return Some(Fact::FollowsLeader { leader, epoch, report: why.into() });
            }
            if let Some(epoch) = what.strip_prefix("leads epoch ") {
                return Some(Fact::LeadsEpoch { epoch: epoch.parse().ok()?, report: why.into() });
            }
            Some(Fact::Note { subject: subject.into(), what: what.into(), why: why.into() })
        }
        "metad" | "address" | "node" => {
            Some(Fact::Note { subject: subject.into(), what: what.into(), why: why.into() })
        }
        _ => None,
    }
}

fn unquoted(text: &str) -> String {
    text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text).to_string()
}

/// Why a role ended, and how long it had been silent when silence ended it.
fn left(reason: &str) -> Fact {
    let silent_ms = reason.split_once("silent for ").and_then(|(_, r)| r.split(' ').next()?.parse().ok());
    let is = |any: &[&str]| any.iter().any(|s| reason.contains(s));
    let cause = if silent_ms.is_some() || is(&["is silent"]) {
        Cause::Timeout
    } else if is(&["closed", "does not lead any more"]) {
        Cause::Closed
    } else if is(&["hands over", "the lead goes to", "members changed"]) {
        Cause::Own
    } else {
        Cause::Unknown
    };
    Fact::Left { reason: reason.to_string(), cause, silent_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_records_say_the_same() {
        let line = fact("role=following leader=3 epoch=7 report=\"it closed; links: no bad link\"");
        let json = r#"{"version":1,"node":2,"mono_ms":5,"wall_ms":1700000000123,"subject":"coordination","what":"follows node 3 in epoch 7","why":"it closed; links: no bad link"}"#;
        let (node, at, of_record) = record(json).unwrap();
        assert_eq!((node, at), (2, 1_700_000_000_123));
        assert_eq!(line, of_record);
        let Some(Fact::Left { cause, silent_ms, .. }) =
            fact("role=looking reason=ServerId(3), the leader, has been silent for 412 ms")
        else {
            panic!()
        };
        assert_eq!((cause, silent_ms), (Cause::Timeout, Some(412)));
        assert_eq!(record("{\"version\":1}"), None);
        assert_eq!(fact("role=following leader=x"), None);
    }
}
