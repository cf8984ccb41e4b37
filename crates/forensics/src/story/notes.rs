//! Records of our own nodes beside the roles of their servers: metad's LEADER, leases, addresses, copies, the vCenter agent,
//! alerts, orders of administrators. A record that several logs have is told once, and a crowd of records about copies or
//! leases in one line, with all of its places as evidence.

use crate::nodes::Place;
use crate::time::LogMillis;
use trivet_events::Event;

/// A record of one of our own nodes, or a crowd of like ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Number of the node.
    pub node: u32,
    /// When it was written first.
    pub at: LogMillis,
    /// The subject, as in [`Said`](crate::facts::Said).
    pub subject: String,
    /// The change, as text, in English.
    pub what: String,
    /// The reason, as text; empty where there is none.
    pub why: String,
    /// `what` in Chinese, where the record has it itself.
    pub what_zh: String,
    /// `why` in Chinese, where the record has it itself.
    pub why_zh: String,
    /// The event, where it is known.
    pub event: Option<Event>,
    /// The last of a crowd: how many records it stands for, when the last one was, and what that says.
    pub last: Option<(usize, LogMillis, String)>,
    /// The lines.
    pub evidence: Vec<Place>,
}

/// A node's log and its journal write the same within this, in milliseconds.
const SAID_TWICE_MS: i64 = 1_000;
/// Every node judges alerts; the same change of one alert within this, in milliseconds, is told once.
const SAME_ALERT_MS: i64 = 10_000;
/// Records of one node about one subject that follow each other within this, in milliseconds, belong to one crowd.
const CROWD_GAP_MS: i64 = 10_000;
/// A crowd of fewer records is told record by record.
const CROWD_MIN: usize = 4;
/// Newest records that a new one is compared with; an equal older one is reported again.
const COMPARED_MAX: usize = 64;
/// Subjects of which a single fault may change hundreds at once.
const CROWDED: [&str; 3] = ["copies", "lease", "mount"];

/// The records in the order of their times, each told once.
pub fn fold(mut notes: Vec<Note>) -> Vec<Note> {
    notes.sort_by_key(|n| n.at);
    let mut once: Vec<Note> = Vec::new();
    for note in notes {
        let same = |known: &&mut Note| {
            let alert = note.subject == "alert";
            let within_ms = if alert { SAME_ALERT_MS } else { SAID_TWICE_MS };
            let file = |n: &Note| n.evidence.first().map(|p| p.file);
            known.subject == note.subject
                && known.what == note.what
                && (alert || known.node == note.node && known.why == note.why && file(known) != file(&note))
                && note.at - known.at <= within_ms
        };
        match once.iter_mut().rev().take(COMPARED_MAX).find(same) {
            Some(known) => {
                if known.what_zh.is_empty() {
                    (known.what_zh, known.why_zh) = (note.what_zh, note.why_zh);
                }
                known.evidence.extend(note.evidence);
            }
            None => once.push(note),
        }
    }
    crowds(once)
}

fn crowds(notes: Vec<Note>) -> Vec<Note> {
    let mut out: Vec<Note> = Vec::new();
    // The open crowd of a node and subject: where its records are.
    let mut open: std::collections::BTreeMap<(u32, String), (LogMillis, Vec<Note>)> = std::collections::BTreeMap::new();
    let close = |crowd: Vec<Note>, out: &mut Vec<Note>| {
        if crowd.len() < CROWD_MIN {
            return out.extend(crowd);
        }
        let mut crowd = crowd.into_iter();
        let Some(mut first) = crowd.next() else { return };
        let mut count = 1;
        for note in crowd {
            count += 1;
            first.last = Some((count, note.at, note.what));
            first.evidence.extend(note.evidence);
        }
        out.push(first);
    };
    for note in notes {
        if !CROWDED.contains(&note.subject.as_str()) {
            out.push(note);
            continue;
        }
        let key = (note.node, note.subject.clone());
        let (newest, crowd) = open.entry(key).or_insert_with(|| (note.at, Vec::new()));
        if note.at - *newest > CROWD_GAP_MS {
            close(std::mem::take(crowd), &mut out);
        }
        *newest = note.at;
        crowd.push(note);
    }
    open.into_values().for_each(|(_, crowd)| close(crowd, &mut out));
    out.sort_by_key(|n| n.at);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(node: u32, at: LogMillis, subject: &str, what: &str, file: u32) -> Note {
        let evidence = vec![Place { file, line: at as u32 }];
        let (subject, what) = (subject.to_string(), what.to_string());
        Note {
            node,
            at,
            subject,
            what,
            why: String::new(),
            what_zh: String::new(),
            why_zh: String::new(),
            event: None,
            last: None,
            evidence,
        }
    }

    #[test]
    fn a_record_is_told_once_and_a_crowd_in_one_line() {
        let mut notes = vec![
            note(1, 0, "alert", "COORD_NO_QUORUM firing", 0),
            note(2, 900, "alert", "COORD_NO_QUORUM firing", 1),
            note(1, 100, "metad", "LEADER of epoch 7", 0),
            note(1, 101, "metad", "LEADER of epoch 7", 2),
            note(2, 102, "metad", "LEADER of epoch 8", 2),
        ];
        notes.extend((0..20).map(|i| note(3, 1_000 + i * 500, "copies", &format!("extent {i}: copies on [1, 2]"), 3)));
        notes.push(note(3, 60_000, "copies", "extent 1: copies on [1, 2, 3], all complete", 3));
        let told: Vec<String> =
            fold(notes).iter().map(|n| n.told(crate::report::Lang::English, &n.node.to_string())).collect();
        assert_eq!(
            told,
            [
                "1 alert: COORD_NO_QUORUM firing",
                "1 metad: LEADER of epoch 7",
                "2 metad: LEADER of epoch 8",
                "3 copies: extent 0: copies on [1, 2]; 20 such changes in 9.5 s, the last: extent 19: copies on [1, 2]",
                "3 copies: extent 1: copies on [1, 2, 3], all complete",
            ]
        );
    }
}
