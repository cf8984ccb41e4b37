//! The line of a journal.

use super::Event;
use serde::{Deserialize, Serialize};

/// Layout of a record; a reader skips records of a newer one.
pub const VERSION: u32 = 1;

/// An event as it stands in a journal, `events.jsonl`: a line of JSON. Programs read `code` and `fields`, which records of earlier
/// releases lack; the texts are for people, and for those releases.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Record {
    /// Layout, [`VERSION`].
    pub version: u32,
    /// The node that wrote it.
    pub node: u32,
    /// Milliseconds since its process started.
    pub mono_ms: u64,
    /// Milliseconds since 1970.
    pub wall_ms: i64,
    /// Name of the [`Subject`](super::Subject).
    pub subject: String,
    /// The change, in English.
    pub what: String,
    /// The reason, in English.
    pub why: String,
    /// `what` in Chinese.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what_zh: Option<String>,
    /// `why` in Chinese.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why_zh: Option<String>,
    /// The event; none in a record of an earlier release, or of a later one that has events which this one does not know.
    #[serde(flatten)]
    pub event: Option<Event>,
}

impl Record {
    /// The record of an event with its texts.
    pub fn of(event: Event, node: u32, mono_ms: u64, wall_ms: i64) -> Record {
        let (what, why) = (event.what(), event.why());
        Record {
            version: VERSION,
            node,
            mono_ms,
            wall_ms,
            subject: event.subject().name().into(),
            what: what.en,
            why: why.en,
            what_zh: Some(what.zh),
            why_zh: Some(why.zh),
            event: Some(event),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_a_code_with_fields_and_texts_in_both_languages() {
        let bound =
            Event::AddressBound { address: "10.0.0.9".into(), node: 2, before: 3, reason: "node 3 is gone".into() };
        let record = Record::of(bound, 1, 5, 1_700_000_000_123);
        let line = serde_json::to_string(&record).unwrap();
        assert_eq!(
            line,
            r#"{"version":1,"node":1,"mono_ms":5,"wall_ms":1700000000123,"subject":"address","what":"10.0.0.9 goes to node 2","why":"node 3 is gone","what_zh":"10.0.0.9 转到节点 2","why_zh":"节点 3 已失联","code":"address-bound","fields":{"address":"10.0.0.9","node":2,"before":3,"reason":"node 3 is gone"}}"#
        );
        assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record);
    }

    #[test]
    fn records_of_earlier_and_of_later_releases_are_read_as_texts() {
        let head =
            r#"{"version":1,"node":2,"mono_ms":5,"wall_ms":7,"subject":"metad","what":"LEADER of epoch 3","why":"x""#;
        for rest in ["}", r#","code":"of-a-later-release","fields":{"a":1}}"#, r#","code":"metad-leads","fields":{}}"#]
        {
            let record: Record = serde_json::from_str(&format!("{head}{rest}")).unwrap();
            assert_eq!((record.event, record.what.as_str()), (None, "LEADER of epoch 3"), "{rest}");
        }
    }
}
