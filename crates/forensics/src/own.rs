//! Our own servers: lines of the process's log, and records of the journal `events.jsonl`.

mod legacy;

use crate::facts::{Cause, Fact, Said};
use crate::json_value::Json;
use crate::time::LogMillis;
use trivet_events::{Event, RoleEnd};

/// The fact that a line of a Trivet server states. Facts that the journal has too are taken from the journal only.
pub fn fact(message: &str) -> Option<Fact> {
    if let Some(rest) = message.strip_prefix("role=looking reason=") {
        return of_event(legacy::looking(rest));
    }
    if let Some(rest) = message.strip_prefix("role=following leader=") {
        let (leader, rest) = rest.split_once(" epoch=")?;
        let (epoch, report) = rest.split_once(" report=").unwrap_or((rest, ""));
        let (leader, epoch, report) = (leader.parse().ok()?, epoch.parse().ok()?, unquoted(report));
        return Some(Fact::FollowsLeader { leader, epoch, started: legacy::started(&report), report });
    }
    if let Some(rest) = message.strip_prefix("role=leading epoch=") {
        let (epoch, report) = rest.split_once(" report=").unwrap_or((rest, ""));
        let (epoch, report) = (epoch.parse().ok()?, unquoted(report));
        return Some(Fact::LeadsEpoch { epoch, started: legacy::started(&report), report });
    }
    if let Some(rest) = message.strip_prefix("coordination what=") {
        let (what, why) = rest.split_once(" why=").unwrap_or((rest, ""));
        return of("coordination", what, why);
    }
    if let Some(rest) = message.strip_prefix("vcenter what=") {
        let (what, why) = rest.split_once(" why=").unwrap_or((rest, ""));
        return of("vcenter", what, why);
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
        // The line with the name may come after the server began to serve.
        return Some(Fact::Is { id: rest.split(' ').next()?.parse().ok()? });
    }
    None
}

/// A layout of records that is newer is skipped.
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
    let owned = |name: &str| text(name).unwrap_or("").to_string();
    let (subject, what, why) = (text("subject")?, text("what")?, text("why")?);
    let said = Said {
        event: event_of(record).or_else(|| legacy::event(subject, what, why)),
        subject: subject.into(),
        what: what.into(),
        why: why.into(),
        what_zh: owned("what_zh"),
        why_zh: owned("why_zh"),
    };
    Some((Some(node), time(record, "wall_ms")?, fact_of(said).filter(|_| known(record))))
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
        why_zh: String::new(),
        event: None,
    })))
}

/// An order of an administrator.
fn order(record: &Json<'_>) -> Option<Fact> {
    let text = |name: &str| record.get(name).and_then(Json::as_str);
    let (by, what, outcome) = (text("by")?, text("what")?, text("outcome")?);
    Some(note("order", &format!("{by}: {what}"), outcome))
}

fn note(subject: &str, what: &str, why: &str) -> Fact {
    let event = legacy::event(subject, what, why);
    let (subject, what, why) = (subject.into(), what.into(), why.into());
    Fact::Note(Box::new(Said { subject, what, why, what_zh: String::new(), why_zh: String::new(), event }))
}

/// The event that a record has a code for, if this release knows it.
fn event_of(record: &Json<'_>) -> Option<Event> {
    let (code, fields) = (record.get("code")?, record.get("fields")?);
    serde_json::from_value(serde_json::json!({"code": value(code), "fields": value(fields)})).ok()
}

fn value(json: &Json<'_>) -> serde_json::Value {
    match json {
        Json::Null => serde_json::Value::Null,
        Json::Bool(b) => (*b).into(),
        Json::Integer(n) => (*n).into(),
        Json::Float(n) => (*n).into(),
        Json::Text(text) => text.as_ref().into(),
        Json::Array(all) => all.iter().map(value).collect(),
        Json::Object(all) => all.iter().map(|(k, v)| (k.to_string(), value(v))).collect(),
    }
}

/// The fact of a text as earlier releases wrote it, and as log lines have it.
fn of(subject: &str, what: &str, why: &str) -> Option<Fact> {
    let event = legacy::event(subject, what, why);
    let (subject, what, why) = (subject.into(), what.into(), why.into());
    fact_of(Said { subject, what, why, what_zh: String::new(), why_zh: String::new(), event })
}

fn fact_of(said: Said) -> Option<Fact> {
    if said.subject.is_empty() {
        return None;
    }
    match said.event {
        Some(Event::Looking { .. } | Event::FollowsLeader { .. } | Event::LeadsEpoch { .. }) => of_event(said.event?),
        _ => Some(Fact::Note(Box::new(said))),
    }
}

/// A change of a server's role; `None` for any other event.
fn of_event(event: Event) -> Option<Fact> {
    Some(match event {
        Event::Looking { end, silent_ms, reason } => {
            let cause = match end {
                RoleEnd::Silence => Cause::Timeout,
                RoleEnd::Closed => Cause::Closed,
                RoleEnd::Decision => Cause::Own,
                RoleEnd::Other => Cause::Unknown,
            };
            Fact::Left { reason, cause, silent_ms }
        }
        Event::FollowsLeader { leader, epoch, started, reason } => {
            Fact::FollowsLeader { leader: u32::try_from(leader).ok()?, epoch, started, report: reason }
        }
        Event::LeadsEpoch { epoch, started, reason } => Fact::LeadsEpoch { epoch, started, report: reason },
        _ => return None,
    })
}

fn unquoted(text: &str) -> String {
    text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text).to_string()
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

    #[test]
    fn a_code_counts_and_not_the_wording_beside_it() {
        let read = |event: Event| {
            let mut record = trivet_events::Record::of(event, 2, 5, 1_700_000_000_123);
            (record.what, record.why) = ("in other words".into(), "for another reason".into());
            let line = serde_json::to_string(&record).unwrap();
            record_of(&crate::json_value::parse(&line).unwrap()).unwrap().2.unwrap()
        };
        let reason = "the leader is silent".to_string();
        let looking = Event::Looking { end: RoleEnd::Silence, silent_ms: Some(412), reason: reason.clone() };
        assert_eq!(read(looking), Fact::Left { reason: reason.clone(), cause: Cause::Timeout, silent_ms: Some(412) });
        let leads = Event::LeadsEpoch { epoch: 7, started: true, reason: reason.clone() };
        assert_eq!(read(leads), Fact::LeadsEpoch { epoch: 7, started: true, report: reason });
        let bound = Event::AddressBound { address: "a".into(), node: 2, before: 3, reason: String::new() };
        let Fact::Note(said) = read(bound.clone()) else { panic!() };
        assert_eq!((said.event, said.what_zh.as_str()), (Some(bound), "a 转到节点 2"));
    }
}
