//! Logs of three Apache servers each, under faults that are known: `logs/SET/truth.json` has what was done, and when
//! clients' writes stalled. The same logs moved, cut, mixed and prefixed must come to the same verdict.

use serde_json::Value;
use std::io::Read;
use std::path::PathBuf;
use trivet_forensics::report;
use trivet_forensics::{analyse, Analysis, Reader};

const SETS: [&str; 13] = [
    "3.4.13-mix",
    "3.5.10-mix",
    "3.8.0-follower-killed",
    "3.8.0-frozen",
    "3.8.0-incident",
    "3.8.0-oneway",
    "3.8.0-sigstop",
    "3.9.5-flap",
    "3.9.5-isolated",
    "3.9.5-killed",
    "3.9.5-nothing",
    "3.9.5-outgoing",
    "3.9.5-sigstop",
];

/// Names and texts of files.
type Files = Vec<(String, String)>;

fn folder(set: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/logs").join(set)
}

fn load(set: &str) -> (Files, Value) {
    let file = |n: u32| {
        let path = folder(set).join(format!("node7{n}.log.gz"));
        let mut text = String::new();
        let packed = std::fs::File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        flate2::read::MultiGzDecoder::new(packed).read_to_string(&mut text).unwrap();
        (format!("{set}/node7{n}.log"), text)
    };
    let truth = std::fs::read_to_string(folder(set).join("truth.json")).unwrap();
    ((1..=3).map(file).collect(), serde_json::from_str(&truth).unwrap())
}

fn found(files: &Files) -> Value {
    report::json(&analysed(files))
}

fn analysed(files: &Files) -> Analysis {
    let mut reader = Reader::default();
    for (name, text) in files {
        reader.file(name);
        text.lines().for_each(|l| reader.line(l.as_bytes()));
    }
    let (facts, names) = reader.finish();
    analyse(facts, names)
}

/// Milliseconds of `2026-11-22T07:46:50.306`.
fn at(v: &Value) -> i64 {
    trivet_forensics::time::parse(v.as_str().unwrap().as_bytes()).unwrap().0
}

fn verdict_is_right(set: &str, json: &Value, truth: &Value) {
    let verdict = &json["verdict"];
    let said = (&verdict["hypothesis"], &verdict["nodes"]);
    assert_eq!(said, (&truth["hypothesis"], &truth["nodes"]), "{set}: {}", verdict["text"]["en"]);
}

/// Each outage over the read time-out is there, with its end within half a second and its start within what is said;
/// and none is there that was not, but for the restarts that the lab made.
fn outages_are_right(set: &str, json: &Value, truth: &Value) {
    outages_are_right_by(set, json, truth, 0);
}

/// `unsure_ms`: what the clocks that were compared may be wrong by.
fn outages_are_right_by(set: &str, json: &Value, truth: &Value, unsure_ms: i64) {
    let timeout_ms = truth["read_timeout_s"].as_i64().unwrap() * 1_000;
    let all = json["outages"].as_array().unwrap();
    let truths = truth["outages"].as_array().unwrap();
    for t in truths.iter().filter(|t| at(&t[1]) - at(&t[0]) >= timeout_ms) {
        let (from, to) = (at(&t[0]), at(&t[1]));
        let of = |o: &&Value| !o["to"].is_null() && (at(&o["to"]) - to).abs() <= 500 + unsure_ms;
        let o = all.iter().find(of).unwrap_or_else(|| panic!("{set}: {t} is missing in {all:#?}"));
        let said = at(&o["from_earliest"]) - 150 - unsure_ms..=at(&o["from"]) + 150 + unsure_ms;
        assert!(said.contains(&from), "{set}: {t} begins elsewhere in {o:#}");
    }
    for o in all {
        let (from, to) = (at(&o["from_earliest"]), if o["to"].is_null() { i64::MAX } else { at(&o["to"]) });
        let known = truths.iter().any(|t| at(&t[0]) < to + 500 && from - 500 < at(&t[1]));
        assert!(known || o["cause"] == "it restarted", "{set}: invented {o:#}");
    }
}

#[test]
fn the_documents_show_what_the_command_prints() {
    let files: Files =
        load("3.8.0-incident").0.into_iter().map(|(name, text)| (name.replace("3.8.0-", ""), text)).collect();
    let analysis = analysed(&files);
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    for (path, lang) in [("timeline.md", report::Lang::English), ("zh/timeline.md", report::Lang::Chinese)] {
        let document = std::fs::read_to_string(root.join(path)).unwrap();
        let begin = document.find("\n\n    # ").expect("an example") + 2;
        let example = document[begin..].split("\n\n").next().unwrap();
        let text = report::text(&analysis, lang, false);
        assert!(example.lines().count() > 6, "{path}: {example}");
        for line in example.lines().map(|l| l.strip_prefix("    ").unwrap_or(l)) {
            assert!(text.lines().any(|l| l == line), "{path}: {line:?} is not in\n{text}");
        }
    }
}

#[test]
fn every_set_as_it_is() {
    for set in SETS {
        let (files, truth) = load(set);
        let json = found(&files);
        verdict_is_right(set, &json, &truth);
        outages_are_right(set, &json, &truth);
        // Every sentence names its lines.
        for told in ["outages", "links", "findings", "quorum"].iter().flat_map(|k| json[*k].as_array().unwrap()) {
            assert!(!told["evidence"].as_array().unwrap().is_empty(), "{set}: {told:#}");
        }
        let version = set.split('-').next().unwrap();
        for node in json["nodes"].as_array().unwrap() {
            assert_eq!(node["version"], version, "{set}");
        }
    }
}

/// Moves the times of a log.
fn shifted(text: &str, ms: i64) -> String {
    let line = |l: &str| match trivet_forensics::time::parse(l.as_bytes()) {
        Some((at, n)) => {
            let moved = trivet_forensics::time::long(at + ms);
            format!("{}{}{},{}{}\n", &moved[..10], &l[10..11], &moved[11..19], &moved[20..], &l[n..])
        }
        None => format!("{l}\n"),
    };
    text.lines().map(line).collect()
}

#[test]
fn with_clocks_that_differ() {
    for set in SETS {
        let (mut files, truth) = load(set);
        let before = found(&files);
        files[1].1 = shifted(&files[1].1, 3_700);
        files[2].1 = shifted(&files[2].1, -1_200);
        let json = found(&files);
        verdict_is_right(set, &json, &truth);
        let errors = json["nodes"].as_array().unwrap().iter().filter_map(|n| n["clock_error_s"].as_f64());
        outages_are_right_by(set, &json, &truth, (errors.fold(0.0, f64::max) * 1_000.0) as i64);
        for (node, ms) in [(0, 0.0), (1, 3.7), (2, -1.2)] {
            let (offset, error) = (&json["nodes"][node]["clock_offset_s"], &json["nodes"][node]["clock_error_s"]);
            let (offset, error) = (offset.as_f64().unwrap(), error.as_f64().unwrap());
            assert!((offset - ms).abs() <= error.max(0.2), "{set}: node {node} is {offset} ± {error} s, {ms} wanted");
        }
        assert_eq!(json["outages"].as_array().map(Vec::len), before["outages"].as_array().map(Vec::len), "{set}");
    }
}

#[test]
fn rotated_and_out_of_order() {
    for set in SETS {
        let (files, truth) = load(set);
        let mut parts = Files::new();
        for (name, text) in &files {
            let lines: Vec<&str> = text.lines().collect();
            let third = lines.len() / 3 + 1;
            for (n, part) in lines.chunks(third).enumerate() {
                parts.push((format!("{name}.{}", 3 - n), part.join("\n")));
            }
        }
        // As a folder lists them: the newest part first.
        parts.sort();
        let json = found(&parts);
        verdict_is_right(set, &json, &truth);
        outages_are_right(set, &json, &truth);
    }
}

#[test]
fn behind_prefixes_and_in_one_file() {
    for set in SETS {
        let (files, truth) = load(set);
        let viewer: Files = files
            .iter()
            .enumerate()
            .map(|(n, (name, text))| {
                let line = |l: &str| format!("[192_168_18_7{}_ab12]/zookeeper.log│{l:<300}┤\r\n", n + 1);
                (name.replace("node7", "x"), text.lines().map(line).collect())
            })
            .collect();
        verdict_is_right(set, &found(&viewer), &truth);
        // As compose shows them, one behind the other.
        let mut mixed = String::new();
        for (n, (_, text)) in files.iter().enumerate() {
            text.lines().for_each(|l| mixed += &format!("zoo{}_1  | {l}\n", n + 1));
        }
        let json = found(&vec![("compose.txt".into(), mixed)]);
        verdict_is_right(set, &json, &truth);
        outages_are_right(set, &json, &truth);
    }
}

#[test]
fn cut_off_somewhere() {
    let mut kept = 0;
    for set in SETS {
        let (files, truth) = load(set);
        for seed in 0..12u64 {
            // Any bytes may be gone at the end of one log, a tenth of it at most.
            let mut cut = files.clone();
            let text = &mut cut[(seed % 3) as usize].1;
            let share = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            let mut at = text.len() - (text.len() / 10) * (share as usize % 1_000) / 1_000;
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            text.truncate(at);
            let said = &found(&cut)["verdict"];
            kept += usize::from((&said["hypothesis"], &said["nodes"]) == (&truth["hypothesis"], &truth["nodes"]));
        }
    }
    // The cut-off part may have held the evidence.
    assert!(kept >= SETS.len() * 12 * 95 / 100, "{kept} verdicts of {} were kept", SETS.len() * 12);
}

/// In the night of the incident two servers had no link all the time, beside the one that was to blame.
#[test]
fn a_link_that_was_cut_all_the_time_is_the_runner_up() {
    let json = found(&load("3.8.0-incident").0);
    let next = &json["verdict"]["runner_up"];
    assert_eq!((&next["hypothesis"], &next["nodes"]), (&"link".into(), &serde_json::json!([2, 3])), "{next:#}");
    let lost = json["findings"].as_array().unwrap().iter().filter(|f| f["kind"] == "lost votes");
    let ways: Vec<&Value> = lost.map(|f| &f["nodes"]).collect();
    assert!(ways.contains(&&serde_json::json!([2, 3])) && ways.contains(&&serde_json::json!([3, 2])), "{ways:?}");
}

/// Outages that are told with one log missing: each is one that was, and while all three logs show a quorum that clients
/// could use, none is told for longer than clocks and read time-outs explain.
fn none_is_invented(set: &str, missing: u32, json: &Value, truth: &Value, whole: &Value) {
    let timeout_ms = truth["read_timeout_s"].as_i64().unwrap() * 1_000;
    let truths = truth["outages"].as_array().unwrap();
    for o in json["outages"].as_array().unwrap() {
        let (from, seen) = (at(&o["from_earliest"]), at(&o["from"]));
        let to = if o["to"].is_null() { i64::MAX } else { at(&o["to"]) };
        let known = truths.iter().any(|t| at(&t[0]) < to + 500 && from - 500 < at(&t[1]));
        // The lab restarts servers before its probe runs, as all three logs say.
        let restart = |w: &Value| {
            let end = if w["to"].is_null() { i64::MAX } else { at(&w["to"]) };
            w["cause"] == "it restarted" && at(&w["from_earliest"]) < to + 500 && from - 500 < end
        };
        let restarted = o["cause"] == "it restarted" || whole["outages"].as_array().unwrap().iter().any(restart);
        assert!(known || restarted, "{set} without {missing}: invented {o:#}");
        if to == i64::MAX {
            continue;
        }
        for w in whole["quorum"].as_array().unwrap() {
            let end = if w["to"].is_null() { i64::MAX } else { at(&w["to"]) };
            let worked_ms = end.min(to) - at(&w["from"]).max(seen);
            assert!(worked_ms <= timeout_ms, "{set} without {missing}: {o:#} lies over {w:#}");
        }
    }
}

/// Without one log the verdict is the same, or it is left open: it is never another one. No outage is invented, and none is
/// told that the others' logs contradict.
#[test]
fn with_one_log_missing() {
    let mut same = 0;
    for set in SETS {
        let (files, truth) = load(set);
        let whole = found(&files);
        for missing in 0..3 {
            let mut rest = files.clone();
            rest.remove(missing);
            let json = found(&rest);
            none_is_invented(set, missing as u32 + 1, &json, &truth, &whole);
            let said = &json["verdict"];
            let right = (&said["hypothesis"], &said["nodes"]) == (&truth["hypothesis"], &truth["nodes"]);
            let open = said["hypothesis"] == "undecided";
            // Only one of the two directions has the logs of both its ends.
            let part = set == "3.9.5-outgoing" && said["hypothesis"] == "link, one way" && said["nodes"][0] == 3;
            assert!(right || open || part, "{set} without {}: {}", missing + 1, said["text"]["en"]);
            same += usize::from(right);
        }
    }
    // (The others: nobody else can tell, or one of a set's other faults stands out.)
    assert!(same >= 20, "{same} verdicts of {} are the same", SETS.len() * 3);
}
