//! A metad against a hand-written coordination: what it asks, in which order, and what it makes of the answers.

use super::*;
use crate::messages::{Command, CommandOp, Empty};
use prost::Message;

struct World {
    metad: Metad,
    now_ms: u64,
    session: i64,
    /// Everything that the core wanted since the last look, a line each.
    lines: Vec<String>,
    effects: Vec<Effect>,
    call: u64,
    version: u32,
}

fn line(effect: &Effect) -> String {
    match effect {
        Effect::Ask { ask, .. } => match ask {
            Ask::Create { path, .. } => format!("create {path}"),
            Ask::Seat { .. } => "create a seat".into(),
            Ask::CreateFenced { version, path, .. } => format!("create {} if epoch {version}", short(path)),
            Ask::SetEpoch { version, .. } => format!("take the epoch after {version}"),
            Ask::Get { path } => format!("get {}", short(path)),
            Ask::Children { path } => format!("children {path}"),
            Ask::Sync => "sync".into(),
            Ask::Watch { path } => format!("watch {}", short(path)),
        },
        Effect::Ping(p) => format!("ping epoch {}{}", p.epoch, if p.leaving { ", leaving" } else { "" }),
        Effect::AskStatus { .. } => "ask the others".into(),
        Effect::Fetch { from, .. } => format!("fetch from {from}"),
        Effect::TakeState { have, .. } => format!("take a state newer than {have}"),
        Effect::Apply { number, tokens, .. } => format!("apply {number} for {tokens:?}"),
        Effect::Presume => "look for gateways".into(),
        Effect::Refuse { token, .. } => format!("refuse {token}"),
        Effect::Unknown { token } => format!("unknown {token}"),
        Effect::Confirmed { token, leads } => format!("confirmed {token}: {leads}"),
        Effect::Leads { epoch, .. } => format!("LEADER of {epoch}"),
        Effect::Deposed { epoch, reason } => format!("no longer LEADER of {epoch}: {reason}"),
        Effect::Overtaken { epoch, reason } => format!("never LEADER of {epoch}: {reason}"),
        Effect::Trouble(text) => format!("trouble: {text}"),
        Effect::Waits(text) => format!("waits: {text}"),
        Effect::NobodyHasTheJournal => "nobody has the journal".into(),
    }
}

fn short(path: &str) -> String {
    path.strip_prefix("/metad/log/").map_or(path.to_string(), |n| format!("entry {}", n.trim_start_matches('0')))
}

fn entry(of: &str) -> Entry {
    Entry { version: 1, cluster: of.into(), ..Default::default() }
}

fn command() -> Command {
    Command { op: Some(CommandOp::TagAllHandles(Empty {})), ..Default::default() }
}

impl World {
    fn new(applied: u64) -> World {
        let settings = Settings {
            node: NodeId(2),
            peers: [NodeId(1), NodeId(3)].into(),
            cluster: "c".into(),
            folder: "/data/metad".into(),
        };
        let metad = Metad::new(settings, applied, 0);
        let mut w = World { metad, now_ms: 0, session: 7, lines: Vec::new(), effects: Vec::new(), call: 0, version: 2 };
        w.feed(Input::Timer);
        w
    }
    fn feed(&mut self, input: Input) {
        let context = Context { wall_ns: 5, session: self.session, version_to_write: self.version };
        let mut out = Vec::new();
        self.metad.handle(self.now_ms, context, input, &mut out);
        self.lines.extend(out.iter().map(line));
        self.call = out.iter().fold(self.call, |call, e| match e {
            Effect::Ask { call, .. } | Effect::Fetch { call, .. } => *call,
            Effect::AskStatus { round } => *round,
            _ => call,
        });
        self.effects.extend(out);
    }
    /// Coordination answers the newest request.
    fn answer(&mut self, answer: Answer) {
        let call = self.call;
        self.feed(Input::Coordination { call, answer });
    }
    fn data(&mut self, data: &[u8], version: i32) {
        self.answer(Answer::Data { data: data.to_vec(), version });
    }
    fn at(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.feed(Input::Timer);
    }
    #[track_caller]
    fn expect(&mut self, lines: &[&str]) {
        assert_eq!(std::mem::take(&mut self.lines), lines);
    }
    /// Up to the end of an empty journal.
    fn registered(applied: u64) -> World {
        let mut w = World::new(applied);
        (0..5).for_each(|_| w.answer(Answer::NodeExists));
        w.answer(Answer::Created("/metad/election/candidate-05".into()));
        w.lines.clear();
        w
    }
    fn nothing_newer(&mut self) {
        let newest = self.metad.applied().to_string();
        self.answer(Answer::NoNode);
        self.answer(Answer::Children(vec![newest]));
    }
    fn leader() -> World {
        let mut w = World::registered(3);
        w.now_ms = 1_000;
        w.nothing_newer();
        w.answer(Answer::Children(vec![]));
        for node in [1, 3].map(NodeId) {
            w.feed(Input::Status { round: w.call, node, status: None });
        }
        w.data(b"1", 4);
        w.data(b"2", 5);
        w.answer(Answer::Done);
        w.nothing_newer();
        w.feed(Input::Presumed);
        w.lines.clear();
        w
    }
    fn sent(&self) -> Vec<u8> {
        let sent = self.effects.iter().rev().find_map(|e| match e {
            Effect::Ask { ask: Ask::CreateFenced { data, .. }, .. } => Some(data.clone()),
            _ => None,
        });
        sent.expect("an entry was sent")
    }
}

#[test]
fn from_the_start_to_the_epoch_to_the_end_of_leadership() {
    let mut w = World::new(0);
    w.expect(&["create /metad"]);
    (0..5).for_each(|_| w.answer(Answer::Created(String::new())));
    w.expect(&[
        "create /metad/election",
        "create /metad/log",
        "create /metad/applied",
        "create /metad/epoch",
        "create a seat",
    ]);
    w.answer(Answer::Created("/metad/election/candidate-05".into()));
    w.expect(&["get entry 1"]);
    w.data(&entry("c").encode_to_vec(), 0);
    w.expect(&["apply 1 for []", "get entry 2"]);
    w.nothing_newer();
    w.expect(&["children /metad/log", "watch entry 2"]);
    w.answer(Answer::Exists(false));
    w.expect(&[]);

    // No metad was heard: the others are asked, and another candidate stands before.
    w.now_ms = 500;
    w.feed(Input::Changed);
    w.nothing_newer();
    w.answer(Answer::Children(vec!["candidate-05".into(), "candidate-04".into()]));
    w.data(b"3", 0);
    w.data(b"2", 0);
    w.expect(&[
        "get entry 2",
        "children /metad/log",
        "children /metad/election",
        "get /metad/election/candidate-04",
        "get /metad/election/candidate-05",
        "watch entry 2",
    ]);
    // The candidate before this one does not take the epoch in its time.
    w.answer(Answer::Exists(false));
    w.at(800);
    w.nothing_newer();
    w.answer(Answer::Children(vec!["candidate-05".into(), "candidate-04".into()]));
    w.data(b"3", 0);
    w.data(b"2", 0);
    w.lines.clear();
    for node in [1, 3].map(NodeId) {
        w.feed(Input::Status { round: w.call, node, status: None });
    }
    w.expect(&["get /metad/epoch"]);
    w.data(b"0", 0);
    w.data(b"2", 1);
    w.expect(&["take the epoch after 0", "ping epoch 1", "sync"]);
    w.answer(Answer::Done);
    w.data(&entry("c").encode_to_vec(), 0);
    w.nothing_newer();
    w.expect(&["get entry 2", "apply 2 for []", "get entry 3", "children /metad/log", "look for gateways"]);
    assert_eq!(w.metad.leads(), None, "no command is taken before the gateways were looked for");
    w.feed(Input::Presumed);
    w.expect(&["LEADER of 1"]);

    w.feed(Input::Commands(vec![(11, command()), (12, command())]));
    w.feed(Input::Commands(vec![(13, command())]));
    w.expect(&["create entry 3 if epoch 1"]);
    w.answer(Answer::Done);
    w.expect(&["apply 3 for [11, 12]", "create entry 4 if epoch 1"]);
    w.at(1_000);
    w.expect(&["ping epoch 1"]);
    w.answer(Answer::BadVersion);
    w.expect(&["unknown 13", "no longer LEADER of 1: another metad took the epoch", "get entry 4"]);
}

#[test]
fn a_lost_append_is_sent_again_and_recognised_and_that_of_another_ends_the_leadership() {
    let mut w = World::leader();
    w.feed(Input::Commands(vec![(1, command())]));
    w.answer(Answer::Lost);
    w.at(1_019);
    w.expect(&["create entry 4 if epoch 5"]);
    w.at(1_020);
    w.answer(Answer::NodeExists);
    let sent = w.sent();
    w.data(&sent, 0);
    w.expect(&["create entry 4 if epoch 5", "get entry 4", "apply 4 for [1]"]);

    w.feed(Input::Commands(vec![(2, command())]));
    w.answer(Answer::NodeExists);
    w.data(&entry("c").encode_to_vec(), 0);
    w.expect(&[
        "create entry 5 if epoch 5",
        "get entry 5",
        "unknown 2",
        "no longer LEADER of 5: another LEADER wrote entry 5",
        "get entry 5",
    ]);
    w.feed(Input::Commands(vec![(3, command())]));
    w.feed(Input::Confirm(4));
    w.expect(&["unknown 3", "confirmed 4: false"]);
}

#[test]
fn a_read_is_confirmed_by_a_look_that_began_after_it() {
    let mut w = World::leader();
    w.feed(Input::Confirm(1));
    w.feed(Input::Confirm(2));
    w.expect(&["sync"]);
    w.answer(Answer::Done);
    w.data(b"2", 5);
    w.expect(&["get /metad/epoch", "confirmed 1: true", "sync"]);
    w.answer(Answer::Lost);
    w.at(1_020);
    w.answer(Answer::Done);
    w.data(b"3", 6);
    w.expect(&[
        "sync",
        "get /metad/epoch",
        "confirmed 2: false",
        "no longer LEADER of 5: another metad took the epoch",
        "get entry 4",
    ]);
}

#[test]
fn a_leader_of_a_newer_epoch_ends_the_leadership_and_one_of_an_older_is_not_heard() {
    let mut w = World::leader();
    w.feed(Input::Ping(LeaderPing { node: NodeId(1), epoch: 4, leaving: false }));
    assert_eq!((w.metad.leads(), w.metad.heard().node), (Some(5), NodeId(2)));
    w.feed(Input::Ping(LeaderPing { node: NodeId(1), epoch: 6, leaving: false }));
    w.expect(&["no longer LEADER of 5: a LEADER of a newer epoch was heard", "get entry 4"]);
    assert_eq!(w.metad.heard(), Heard { node: NodeId(1), epoch: 6, at_ms: 1_000 });
}

#[test]
fn the_epoch_is_left_alone_while_others_hear_the_leader_and_by_one_that_leaves() {
    let mut w = World::registered(3);
    w.feed(Input::Ping(LeaderPing { node: NodeId(3), epoch: 4, leaving: false }));
    w.now_ms = 1_500;
    w.nothing_newer();
    w.answer(Answer::Children(vec![]));
    let status =
        MetadStatus { node: NodeId(1), leader: NodeId(3), epoch: 4, leader_silent_ms: 50, ..Default::default() };
    w.feed(Input::Status { round: w.call, node: NodeId(1), status: Some(status) });
    w.expect(&["children /metad/log", "children /metad/election", "ask the others"]);
    // The other one does not answer within its time.
    w.at(1_800);
    w.expect(&["watch entry 4"]);
    w.answer(Answer::Exists(false));
    w.feed(Input::Leaving);
    w.at(9_000);
    w.nothing_newer();
    w.expect(&["get entry 4", "children /metad/log", "watch entry 4"]);
}

#[test]
fn a_node_that_is_set_aside_hands_leadership_over_and_takes_it_only_when_no_other_metad_does() {
    let mut w = World::leader();
    w.feed(Input::SetAside(true));
    w.at(1_200);
    w.expect(&["ping epoch 5, leaving"]);
    w.feed(Input::SetAside(false));
    w.at(1_400);
    w.expect(&["ping epoch 5"]);

    let mut w = World::registered(3);
    w.feed(Input::SetAside(true));
    // The LEADER is about to stop: other candidates are there.
    w.now_ms = 100;
    w.feed(Input::Ping(LeaderPing { node: NodeId(3), epoch: 4, leaving: true }));
    w.now_ms = 5_099;
    w.nothing_newer();
    w.expect(&["children /metad/log", "watch entry 4"]);
    w.answer(Answer::Exists(false));
    w.at(5_199);
    w.nothing_newer();
    w.expect(&["get entry 4", "children /metad/log", "children /metad/election"]);
}

#[test]
fn a_watch_that_fires_before_the_answer_that_it_is_set_is_not_lost() {
    let mut w = World::registered(3);
    w.nothing_newer();
    w.expect(&["children /metad/log", "watch entry 4"]);
    w.feed(Input::Changed);
    w.expect(&[]);
    w.answer(Answer::Exists(false));
    w.expect(&["get entry 4"]);
}

#[test]
fn a_metad_that_nobody_helps_to_catch_up_says_so_until_it_has() {
    let mut w = World::registered(3);
    w.answer(Answer::NoNode);
    w.answer(Answer::Children(vec!["8".into(), "9".into()]));
    let mut said = Vec::new();
    for turn in 1..=5 {
        w.feed(Input::Journal { call: w.call, journal: None });
        w.at(turn * 500);
        said.extend(std::mem::take(&mut w.lines));
    }
    let waits = |s: &&String| s.starts_with("waits: the journal no longer has what this metad lacks from entry 4 on");
    assert_eq!(said.iter().filter(waits).count(), 1, "{said:?}");
    w.feed(Input::Journal {
        call: w.call,
        journal: Some(Journal { from: 4, entries: vec![entry("c"); 6], state: Vec::new() }),
    });
    w.answer(Answer::NoNode);
    w.answer(Answer::Children(vec!["9".into()]));
    said = std::mem::take(&mut w.lines);
    assert!(said.contains(&"trouble: ".to_string()), "{said:?}");
}

#[test]
fn what_the_journal_no_longer_has_comes_from_another_metad() {
    let mut w = World::registered(3);
    w.answer(Answer::NoNode);
    w.answer(Answer::Children(vec!["8".into(), "9".into()]));
    w.expect(&["children /metad/log", "fetch from 4"]);
    w.feed(Input::Journal { call: w.call, journal: None });
    w.at(500);
    w.expect(&["nobody has the journal", "fetch from 4"]);
    // A journal that begins elsewhere is not applied.
    let entries = |from, n| Journal { from, entries: vec![entry("c"); n], state: Vec::new() };
    w.feed(Input::Journal { call: w.call, journal: Some(entries(3, 9)) });
    w.at(1_000);
    w.feed(Input::Journal { call: w.call, journal: Some(entries(4, 2)) });
    w.expect(&["fetch from 4", "apply 4 for []", "apply 5 for []", "get entry 6"]);
    w.answer(Answer::NoNode);
    w.answer(Answer::Children(vec!["8".into(), "9".into()]));
    let state = vec![Pair::default()];
    w.feed(Input::Journal { call: w.call, journal: Some(Journal { from: 6, entries: Vec::new(), state }) });
    w.feed(Input::StateTaken { applied: Some(8) });
    w.expect(&["children /metad/log", "fetch from 6", "take a state newer than 5", "get entry 9"]);
}

#[test]
fn entries_of_a_newer_program_or_another_cluster_and_a_journal_that_went_back_are_refused() {
    let refusal = |e: Entry| {
        let mut w = World::registered(0);
        w.data(&e.encode_to_vec(), 0);
        w.lines.join("\n")
    };
    assert!(refusal(Entry { version: JOURNAL_VERSION + 1, ..entry("c") }).contains("upgrade it"));
    assert!(refusal(entry("other")).contains("belongs to cluster other"));
    let mut w = World::registered(3);
    w.answer(Answer::NoNode);
    w.answer(Answer::Children(vec!["1".into()]));
    // The server may only be behind the others.
    w.expect(&["children /metad/log", "sync"]);
    w.answer(Answer::Done);
    w.answer(Answer::Children(vec!["1".into()]));
    assert!(w.lines[1].contains("the ensemble only 1") && w.lines[1].contains("remove /data/metad"), "{:?}", w.lines);
    // The metad checks again, and serves when the reason is gone.
    w.lines.clear();
    w.at(2_000);
    w.nothing_newer();
    w.expect(&["get entry 4", "children /metad/log", "trouble: ", "children /metad/election"]);
}

#[test]
fn a_new_session_takes_a_new_seat_and_a_pause_of_this_process_is_no_silence() {
    let mut w = World::registered(3);
    w.now_ms = 400;
    w.answer(Answer::Lost);
    w.session = 8;
    w.at(450);
    w.expect(&["create /metad"]);
    w.feed(Input::Ping(LeaderPing { node: NodeId(3), epoch: 4, leaving: false }));
    w.now_ms = 9_000;
    w.feed(Input::Paused(8_000));
    assert_eq!(w.metad.status(9_000).leader_silent_ms, 550);
    w.feed(Input::Ping(LeaderPing { node: NodeId(3), epoch: 4, leaving: true }));
    assert_eq!(w.metad.status(9_000).leader_silent_ms, 5_000);
}

#[test]
fn what_the_version_cannot_hold_is_refused_and_the_rest_goes_on() {
    let mut w = World::leader();
    w.version = 1;
    let remove = |name: &[u8]| {
        let at = Place { dir: FileId(64), name: name.into() };
        Command { op: Some(CommandOp::Remove(Remove { at, folder: false })), ..Default::default() }
    };
    w.feed(Input::Commands(vec![(1, remove(b"\xd0\xe9")), (2, remove("机".as_bytes()))]));
    w.expect(&["refuse 1", "create entry 4 if epoch 5"]);
    w.answer(Answer::Done);
    w.version = 2;
    w.feed(Input::Commands(vec![(3, remove(b"\xd0\xe9"))]));
    w.expect(&["apply 4 for [2]", "create entry 5 if epoch 5"]);
}
