//! Recorded nights: the logs of real servers under known faults, replayed to the watcher second by second.

use std::io::Read;
use std::path::PathBuf;
use trivet_forensics::{analyse, Analysis, Reader};
use trivet_observe::catalogue::RuleId;
use trivet_observe::cause::of_hypothesis;
use trivet_observe::incidents::{Incident, Message};
use trivet_observe::replay;
use trivet_observe::watcher::{Effect, Input, Watcher};

fn recorded(set: &str) -> Analysis {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../forensics/tests/logs").join(set);
    let mut reader = Reader::default();
    for n in 1..=3 {
        let path = folder.join(format!("node7{n}.log.gz"));
        let packed = std::fs::File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut text = String::new();
        flate2::read::MultiGzDecoder::new(packed).read_to_string(&mut text).unwrap();
        reader.file(&format!("node7{n}.log"));
        text.lines().for_each(|l| reader.line(l.as_bytes()));
    }
    let (facts, files) = reader.finish();
    analyse(facts, files)
}

fn watch(a: &Analysis) -> (Vec<Incident>, Vec<Message>, u64) {
    let mut w = Watcher::default();
    let (mut sent, mut fired) = (Vec::new(), 0);
    for now in replay::moments(a) {
        let mut out = Vec::new();
        // The analysis of the logs is at hand once they have been read.
        let verdict = (now >= a.story.last).then_some(&a.verdict);
        w.handle(now, Input::View(&replay::view(a, now), verdict), &mut out).unwrap();
        for effect in out {
            match effect {
                Effect::Send(m) => sent.push(m),
                Effect::Keep(a) => fired += u64::from(a.is_firing() && a.rule != RuleId::Watchdog),
            }
        }
    }
    (w.incidents().iter().cloned().collect(), sent, fired)
}

#[test]
fn the_night_of_29_january_is_one_incident_with_four_messages_at_most_and_its_cause() {
    let a = recorded("3.8.0-incident");
    let (incidents, sent, _) = watch(&a);
    assert_eq!(incidents.len(), 1, "{:?}", incidents.iter().map(|i| &i.headline.en).collect::<Vec<_>>());
    let i = &incidents[0];
    assert!(i.closed_ms.is_some());
    assert!(sent.len() <= 4, "{:?}", sent.iter().map(|m| m.occasion).collect::<Vec<_>>());
    let best = i.likely.best.as_ref().expect("a cause");
    assert_eq!(best.cause, of_hypothesis(a.verdict.best.unwrap().hypothesis));
    let lost = i.members.values().find(|m| m.rule == RuleId::CoordNoQuorum).expect("the quorum was lost");
    let outages: i64 = a.story.outages.iter().map(|o| o.to.unwrap_or(a.story.last) - o.from).sum();
    assert!(
        (lost.lasted_ms - outages).abs() < 1_500 * (1 + a.story.outages.len() as i64),
        "{} {outages}",
        lost.lasted_ms
    );
    assert!(i.headline.en.contains("quorum"), "{}", i.headline.en);
    println!("{}\n{}", i.headline.en, i.headline.zh);
}

#[test]
fn every_recorded_outage_is_in_one_incident_whose_cause_is_the_verdict() {
    for set in ["3.8.0-frozen", "3.8.0-oneway", "3.8.0-sigstop", "3.9.5-isolated", "3.9.5-outgoing", "3.9.5-sigstop"] {
        let a = recorded(set);
        let (incidents, sent, _) = watch(&a);
        let long = a.story.outages.iter().any(|o| o.to.unwrap_or(a.story.last) - o.from > 5_000);
        if !long {
            continue;
        }
        assert_eq!(incidents.len(), 1, "{set}");
        assert!(sent.len() <= 4, "{set}: {:?}", sent.iter().map(|m| m.occasion).collect::<Vec<_>>());
        if let (Some(told), Some(best)) = (a.verdict.best, &incidents[0].likely.best) {
            assert_eq!(best.cause, of_hypothesis(told.hypothesis), "{set}: {:?}", incidents[0].likely);
        }
    }
}

#[test]
fn a_night_in_which_nothing_happened_is_no_incident() {
    let (incidents, sent, fired) = watch(&recorded("3.9.5-nothing"));
    assert_eq!((incidents.len(), sent.len(), fired), (0, 0, 0));
}
