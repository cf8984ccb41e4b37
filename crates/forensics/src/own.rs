//! Our own servers: lines of the process's log, and records of the journal `events.jsonl`.

use crate::facts::{Cause, Fact, Said};
use crate::json_value::Json;
use crate::time::LogMillis;

/// The fact that a line of a Trivet server states. Facts that the journal has too are taken from the journal only.
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
        return of("coordination", what, why, "");
    }
    if let Some(rest) = message.strip_prefix("vcenter what=") {
        let (what, why) = rest.split_once(" why=").unwrap_or((rest, ""));
        return of("vcenter", what, why, "");
    }
    if let Some(rest) = message.strip_prefix("metad=leader epoch=") {
        let (epoch, why) = rest.split_once(" why=")?;
        return Some(note("metad", &format!("LEADER of epoch {epoch}"), why));
    }
    if let Some(rest) = message.strip_prefix("metad=follower epoch=") {
        let (epoch, why) = rest.split_once(" reason=")?;
        return Some(note("metad", &format!("no longer LEADER of epoch {epoch}"), why));
    }
    if let Some(rest) = message.strip_prefix("alert alert=\"") {
        let (rule, rest) = rest.split_once("\" subject=")?;
        let (_, rest) = rest.split_once(" state=")?;
        let (state, why) = rest.split_once(" why=")?;
        let state = state.to_ascii_lowercase();
        return (state != "pending").then(|| note("alert", &format!("{rule} {state}: {why}"), ""));
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

/// Newest version of the journal's records that is read; newer records are skipped.
const VERSION_MAX: u64 = 1;
/// Latest time in milliseconds since 1970 that counts as a time (in 2096).
const WALL_MS_MAX: i64 = 4_000_000_000_000;

/// A record of a journal: the node that wrote it, if it says so, when (by UTC), and what it says. The journals are
/// `events.jsonl` and, of alerts and of administrators' orders, `history.jsonl`.
pub fn record_of(record: &Json<'_>) -> Option<(Option<u32>, LogMillis, Option<Fact>)> {
    let text = |name: &str| record.get(name).and_then(Json::as_str);
    let time = |record: &Json<'_>, name: &str| record.get(name)?.as_i64().filter(|ms| (0..WALL_MS_MAX).contains(ms));
    let known = |record: &Json<'_>| record.get("version").and_then(Json::as_u64).is_none_or(|v| v <= VERSION_MAX);
    for (kind, fact) in [("alert", alert as fn(&Json<'_>) -> Option<Fact>), ("audit", order)] {
        if let Some(inner) = record.get(kind).filter(|r| r.get("at_ms").is_some()) {
            return Some((None, time(inner, "at_ms")?, fact(inner).filter(|_| known(inner))));
        }
    }
    let node = u32::try_from(record.get("node")?.as_u64()?).ok()?;
    let fact = of(text("subject")?, text("what")?, text("why")?, text("what_zh").unwrap_or(""));
    Some((Some(node), time(record, "wall_ms")?, fact.filter(|_| known(record))))
}

/// An alert that began to fire or ended.
fn alert(record: &Json<'_>) -> Option<Fact> {
    let alert = record.get("alert")?;
    let text = |name: &str| alert.get(name).and_then(Json::as_str);
    let (rule, state) = (text("rule")?, text("state")?);
    let zh = match state {
        "firing" => "触发",
        "resolved" => "已恢复",
        _ => return None,
    };
    let reason = |lang: &str| alert.get("reason").and_then(|r| r.get(lang)).and_then(Json::as_str).unwrap_or("");
    Some(Fact::Note(Box::new(Said {
        subject: "alert".into(),
        what: format!("{rule} {state}: {}", reason("en")),
        why: String::new(),
        what_zh: format!("{rule} {zh}：{}", reason("zh")),
    })))
}

/// An order of an administrator.
fn order(record: &Json<'_>) -> Option<Fact> {
    let text = |name: &str| record.get(name).and_then(Json::as_str);
    let (by, what, outcome) = (text("by")?, text("what")?, text("outcome")?);
    Some(note("order", &format!("{by}: {what}"), outcome))
}

fn note(subject: &str, what: &str, why: &str) -> Fact {
    said(subject, what, why, "")
}

fn said(subject: &str, what: &str, why: &str, what_zh: &str) -> Fact {
    Fact::Note(Box::new(Said { subject: subject.into(), what: what.into(), why: why.into(), what_zh: what_zh.into() }))
}

fn of(subject: &str, what: &str, why: &str, what_zh: &str) -> Option<Fact> {
    match subject {
        "" => None,
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
            Some(note(subject, what, why))
        }
        _ => Some(said(subject, what, why, what_zh)),
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
        let record = |line: &str| record_of(&crate::json_value::parse(line).unwrap());
        let (node, at, of_record) = record(json).unwrap();
        assert_eq!((node, at), (Some(2), 1_700_000_000_123));
        assert_eq!(line, of_record);
        let Some(Fact::Left { cause, silent_ms, .. }) =
            fact("role=looking reason=ServerId(3), the leader, has been silent for 412 ms")
        else {
            panic!()
        };
        assert_eq!((cause, silent_ms), (Cause::Timeout, Some(412)));
        assert_eq!(record("{\"version\":1}"), None);
        let alert = r#"{"alert":{"version":1,"at_ms":1700000000123,"alert":{"rule":"COORD_NO_QUORUM","subject":"cluster","state":"firing","reason":{"en":"two of three","zh":"三个中的两个"}}}}"#;
        let (node, _, of_record) = record(alert).unwrap();
        let Some(Fact::Note(said)) = of_record else { panic!() };
        let Said { subject, what, what_zh, .. } = *said;
        assert_eq!((node, subject.as_str(), what.as_str()), (None, "alert", "COORD_NO_QUORUM firing: two of three"));
        assert_eq!(what_zh, "COORD_NO_QUORUM 触发：三个中的两个");
        let line = fact(r#"alert alert="COORD_NO_QUORUM" subject=the cluster state=Firing why=two of three"#);
        assert!(matches!(line, Some(Fact::Note(said)) if said.what == what));
        assert_eq!(fact("metad=leader epoch=7 why=nobody"), Some(note("metad", "LEADER of epoch 7", "nobody")));
        // A record of a later release has a time and says nothing that is understood.
        let later = json.replace("\"version\":1", "\"version\":2");
        assert_eq!(record(&later), Some((Some(2), 1_700_000_000_123, None)));
        assert_eq!(fact("role=following leader=x"), None);
    }
}
