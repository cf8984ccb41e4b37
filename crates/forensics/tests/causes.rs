//! Logs that Apache ZooKeeper 3.8.0 wrote while something was wrong with it (`tests/lab/timeline_causes.py` records them): each
//! must be told with its cause, and with the outages that a client met.

use serde_json::Value;
use std::io::Read;
use std::path::PathBuf;
use trivet_forensics::report::{self, Lang};
use trivet_forensics::{analyse, time, Analysis, Reader};

/// Each case's folder.
const CASES: [&str; 13] = [
    "names",
    "refused",
    "disk-full",
    "port-in-use",
    "election-port-in-use",
    "out-of-memory",
    "id-twice",
    "not-in-the-list",
    "rolling-restart",
    "frozen-below",
    "frozen-above",
    "slow-syncs",
    "follower-disk-frozen",
];

/// Milliseconds by which a client's clock and the logs may differ.
const SLACK_MS: i64 = 500;

fn load(case: &str) -> (Analysis, Value) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/causes").join(case);
    let mut reader = Reader::default();
    for id in 1..=3 {
        let Ok(packed) = std::fs::File::open(folder.join(format!("node{id}.log.gz"))) else { continue };
        let mut text = String::new();
        flate2::read::GzDecoder::new(packed).read_to_string(&mut text).unwrap();
        reader.file(&format!("node{id}.log"));
        text.lines().for_each(|l| reader.line(l.as_bytes()));
    }
    let truth = std::fs::read_to_string(folder.join("truth.json")).unwrap_or_else(|e| panic!("{case}: {e}"));
    let (facts, names) = reader.finish();
    (analyse(facts, names), serde_json::from_str(&truth).unwrap())
}

fn at(v: &Value) -> i64 {
    time::parse(v.as_str().unwrap().as_bytes()).unwrap().0
}

#[test]
fn every_cause_is_named() {
    for case in CASES {
        let (a, truth) = load(case);
        let json = report::json(&a);
        let text = report::text(&a, Lang::English, false);
        for cause in truth["causes"].as_array().unwrap() {
            let named = |f: &&Value| f["kind"] == cause[0] && f["nodes"].as_array().unwrap().contains(&cause[1]);
            let found = json["findings"].as_array().unwrap().iter().find(named);
            let found = found.unwrap_or_else(|| panic!("{case}: {cause} is not named in\n{text}"));
            assert!(!found["evidence"].as_array().unwrap().is_empty(), "{case}: {found:#}");
        }
        if let Some(want) = truth["hypothesis"].as_array() {
            let said = (&json["verdict"]["hypothesis"], &json["verdict"]["nodes"]);
            assert_eq!(said, (&want[0], &want[1]), "{case}: {text}");
        }
        // Each start of 3.8.0 warns that maxCnxns is not configured; no client did anything wrong.
        assert!(!text.contains("too many connections"), "{case}: {text}");
    }
}

#[test]
fn outages_are_those_that_a_client_met() {
    for case in CASES {
        let (a, truth) = load(case);
        let json = report::json(&a);
        let told = json["outages"].as_array().unwrap();
        if truth["never"] == true {
            assert_eq!(told.len(), 1, "{case}: {told:#?}");
            assert_eq!((&told[0]["what"], told[0]["to"].is_null()), (&"no leader was elected".into(), true), "{case}");
            continue;
        }
        let gaps: Vec<(i64, Option<i64>)> = truth["outages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|g| (at(&g[0]), (!g[1].is_null()).then(|| at(&g[1]))))
            .collect();
        for gap in gaps.iter().filter(|_| truth["below"] != true) {
            let begins = |o: &&Value| (at(&o["from_earliest"]) - SLACK_MS..=at(&o["from"]) + SLACK_MS).contains(&gap.0);
            let o = told.iter().find(begins).unwrap_or_else(|| panic!("{case}: {gap:?} is missing in {told:#?}"));
            if let Some(end) = gap.1 {
                assert!((at(&o["to"]) - end).abs() <= SLACK_MS, "{case}: {gap:?} ends elsewhere in {o:#}");
            }
        }
        for o in told {
            let (from, to) = (at(&o["from_earliest"]), if o["to"].is_null() { i64::MAX } else { at(&o["to"]) });
            let known = gaps.iter().any(|g| g.0 < to + SLACK_MS && from - SLACK_MS < g.1.unwrap_or(i64::MAX));
            // The probe does not count outages below a second, such as the planned restart of a leader.
            assert!(known || to - at(&o["from"]) < 1_000, "{case}: invented {o:#}");
        }
    }
}

/// A rolling restart is told with each server's pause, though a quiet log ended long before its process did.
#[test]
fn the_pauses_of_a_rolling_restart_are_those_of_the_processes() {
    let (a, truth) = load("rolling-restart");
    for r in truth["restarted"].as_array().unwrap() {
        let told = a.story.restarts.iter().find(|s| u64::from(s.node) == r[0].as_u64().unwrap()).unwrap();
        let pause = (told.at - told.since()) as f64 / 1e3;
        // The lab measures until all three servers serve again.
        assert!(pause > 0.1 && pause <= r[1].as_f64().unwrap(), "{r}: {pause} s");
    }
}

/// The copied machine's log is told as of the server whose address it has, and takes nothing from the server whose id it
/// claims.
#[test]
fn a_copied_id_does_not_mix_two_logs() {
    let (a, _) = load("id-twice");
    assert_eq!(a.story.addresses[&2], "10.0.10.72:2181");
    assert_eq!(a.story.addresses[&3], "10.0.10.73:2181");
    assert!(a.story.restarts.is_empty(), "{:?}", a.story.restarts);
    assert_eq!(a.story.quorum[0].leader, 2);
}

/// A leader whose pause is shorter than the read time-out leaves no trace, and the report says so.
#[test]
fn what_leaves_no_trace_is_said() {
    let (a, _) = load("frozen-below");
    let text = report::text(&a, Lang::English, false);
    assert!(text.contains("0 outages") && text.contains("shorter than the read time-out of 4.0 s"), "{text}");
}
