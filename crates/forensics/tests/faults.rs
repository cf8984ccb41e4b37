//! Faults that the timeline once told wrongly, each with lines made for it.

use serde_json::Value;
use trivet_forensics::report::{self, Lang};
use trivet_forensics::{analyse, time, Analysis, Reader};

fn line(id: u32, at: f64, class: &str, message: &str) -> String {
    let at = time::parse(b"2026-11-22T07:00:00,000").unwrap().0 + (at * 1_000.0).round() as i64;
    let (message, next) = message.split_once('|').unwrap_or((message, ""));
    let thread = if class == "LearnerHandler" {
        // The thread names the follower, its message ours.
        let (ip, _) = message.split_once(' ').unwrap();
        format!("LearnerHandler-/{ip}:4711")
    } else {
        format!("QuorumPeer[myid={id}](plain=10.0.0.{id}:2181)(secure=disabled)")
    };
    let message = if class == "LearnerHandler" { message.split_once(' ').unwrap().1 } else { message };
    let head = format!("{} [myid:] - WARN  [{thread}:{class}@1] - {message}\n", time::long(at).replace('.', ","));
    if next.is_empty() {
        head
    } else {
        format!("{head}{next}\n")
    }
}

fn log(id: u32, lines: &[(f64, &str, &str)]) -> (String, String) {
    let mut lines: Vec<_> = lines.to_vec();
    lines.sort_by(|a, b| a.0.total_cmp(&b.0));
    (format!("node{id}.log"), lines.iter().map(|(at, class, message)| line(id, *at, class, message)).collect())
}

fn tell(files: &[(String, String)]) -> Analysis {
    let mut reader = Reader::default();
    for (name, text) in files {
        reader.file(name);
        text.lines().for_each(|l| reader.line(l.as_bytes()));
    }
    let (facts, names) = reader.finish();
    analyse(facts, names)
}

/// Seconds: earliest beginning, seen, end.
fn outages(a: &Analysis) -> Vec<(f64, f64, Option<f64>)> {
    let zero = time::parse(b"2026-11-22T07:00:00,000").unwrap().0;
    let s = |at: i64| (at - zero) as f64 / 1e3;
    a.story.outages.iter().map(|o| (s(o.from), s(o.seen), o.to.map(s))).collect()
}

fn has(a: &Analysis, parts: &[&str]) {
    let text = report::text(a, Lang::English, false).replace("\n              ", " ").replace("\n#   ", " ");
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
}

const QUORUM: &str =
    "Have quorum of supporters, sids: [[1, 3]]; starting up and setting last processed zxid: 0x100000000";
const SERVES: &str = "Peer state changed: following - broadcast";
const LOST: &str = "Exception when following the leader|java.net.SocketTimeoutException: Read timed out";
const EOF: &str = "Exception when following the leader|java.io.EOFException";

/// 3 leads 1 and 2 from the second 1 on; the read time-out is 4 s.
fn begin(id: u32) -> Vec<(f64, &'static str, &'static str)> {
    let mut out = vec![(0.0, "QuorumPeer", "tickTime set to 2000"), (0.0, "QuorumPeer", "syncLimit set to 2")];
    out.push(if id == 3 { (1.0, "Leader", QUORUM) } else { (1.2, "QuorumPeer", SERVES) });
    out
}

fn with<'a>(id: u32, more: &[(f64, &'a str, &'a str)]) -> (String, String) {
    let mut lines: Vec<(f64, &'a str, &'a str)> = begin(id);
    lines.extend(more);
    log(id, &lines)
}

#[test]
fn never_elected_is_an_outage_with_its_length() {
    let looking = |id| {
        log(
            id,
            &[
                (0.0, "QuorumPeer", "LOOKING"),
                (0.1, "FastLeaderElection", "New election. My id =  1, proposed zxid=0x0"),
                (60.0, "FastLeaderElection", "Notification time out: 60000 ms"),
                (300.0, "FastLeaderElection", "Notification time out: 60000 ms"),
            ],
        )
    };
    let a = tell(&[looking(1)]);
    assert_eq!(outages(&a), [(0.0, 0.0, None)]);
    has(&a, &["no leader was elected", "(300.0 s)", "1 outage, at least 300.0 s in all"]);
    // Elections that fail for six minutes, and then one that does not.
    let mut lines = vec![(0.0, "QuorumPeer", "LOOKING")];
    for n in 1..18 {
        lines.push((f64::from(n) * 20.0, "QuorumPeer", "LEADING"));
        lines.push((
            f64::from(n) * 20.0 + 19.0,
            "Leader",
            "Shutdown called. For the reason Waiting for a quorum of followers, only synced with sids: [ [3] ]",
        ));
        lines.push((f64::from(n) * 20.0 + 19.1, "QuorumPeer", "LOOKING"));
    }
    lines.push((365.0, "Leader", QUORUM));
    let a = tell(&[log(3, &lines)]);
    assert_eq!(outages(&a), [(0.0, 0.0, Some(365.0))]);
    has(&a, &["did not join it within initLimit", "To do: "]);
    // A quorum elsewhere: another server's vote proves it.
    let vote = "Notification: my state:LOOKING; n.sid:2, n.state:FOLLOWING, n.leader:3, n.round:0x2, n.peerEpoch:0x1, n.zxid:0x100000001, message format version:0x2, n.config version:0x0";
    let a = tell(&[log(
        1,
        &[
            (0.0, "QuorumPeer", "LOOKING"),
            (2.0, "FastLeaderElection", vote),
            (300.0, "FastLeaderElection", "Notification time out: 60000 ms"),
        ],
    )]);
    assert_eq!(outages(&a), []);
}

#[test]
fn an_outage_that_is_open_counts_in_the_sum() {
    let a = tell(&[
        with(1, &[(50.0, "Follower", EOF), (80.0, "FastLeaderElection", "Notification time out: 60000 ms")]),
        with(2, &[(50.0, "Follower", EOF)]),
        with(3, &[]),
    ]);
    assert_eq!(outages(&a), [(50.0, 50.0, None)]);
    has(&a, &["at least 30.0 s in all"]);
}

#[test]
fn all_logs_end_at_once_and_begin_again_two_hours_or_three_months_later() {
    for starts in [7_300.0, 90.0 * 86_400.0] {
        all_stopped_until(starts);
    }
}

fn all_stopped_until(starts: f64) {
    let files: Vec<_> = (1..=3)
        .map(|id| {
            let again = starts + f64::from(id) / 10.0;
            let mut more = vec![
                (90.0 + f64::from(id), "NIOServerCnxn", "a line of the day"),
                (again, "QuorumPeerConfig", "Reading configuration from: zoo.cfg"),
                (again + 0.2, "QuorumPeerMain", "Starting quorum peer, myid=1"),
            ];
            more.push(if id == 3 { (starts + 3.0, "Leader", QUORUM) } else { (starts + 3.3, "QuorumPeer", SERVES) });
            with(id, &more)
        })
        .collect();
    // Each server logs its own number.
    let files: Vec<_> = files
        .into_iter()
        .enumerate()
        .map(|(n, (name, text))| (name, text.replace("myid=1\n", &format!("myid={}\n", n + 1))))
        .collect();
    let a = tell(&files);
    let all = outages(&a);
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!((all[0].0, all[0].2.map(f64::round)), (93.0, Some(starts + 3.0)), "{all:?}");
    assert!((starts..starts + 1.0).contains(&all[0].1), "{all:?}");
    let window = &a.story.quorum[0];
    assert_eq!(window.to, Some(a.story.outages[0].from), "it is not drawn as if it had worked");
    has(&a, &["all servers' logs end and begin again"]);
}

/// The leader is paused from 40 to 44.6 s. Without clients, only the ends of its followers' connections show that.
#[test]
fn a_leader_that_stood_still_finds_its_followers_connections_closed() {
    let night = |cause: &str, apart: f64| {
        let lost = [
            format!("10.0.0.1 Unexpected exception in LearnerHandler: |{cause}"),
            format!("10.0.0.2 Unexpected exception in LearnerHandler: |{cause}"),
        ];
        let leader = with(
            3,
            &[
                (44.6, "LearnerHandler", &lost[0]),
                (44.6 + apart, "LearnerHandler", &lost[1]),
                (
                    44.7 + apart,
                    "Leader",
                    "Shutdown called. For the reason Not sufficient followers synced, only synced with sids: [ [3] ]",
                ),
            ],
        );
        tell(&[with(1, &[(44.0, "Follower", LOST)]), with(2, &[(44.01, "Follower", LOST)]), leader])
    };
    let kind = |a: &Analysis| report::json(a)["verdict"]["hypothesis"].clone();
    let a = night("java.io.EOFException", 0.003);
    assert_eq!(kind(&a), "stood still");
    let a = night("java.net.SocketTimeoutException: Read timed out", 0.003);
    assert_eq!(kind(&a), "network of a node");
}

#[test]
fn a_stall_that_the_log_reports_is_the_disk_and_not_the_network() {
    let lost = [
        "10.0.0.1 Unexpected exception in LearnerHandler: |java.net.SocketTimeoutException: Read timed out",
        "10.0.0.2 Unexpected exception in LearnerHandler: |java.net.SocketTimeoutException: Read timed out",
    ];
    let leader = with(3, &[(44.2, "LearnerHandler", lost[0]), (44.3, "LearnerHandler", lost[1]), (53.0, "FileTxnLog", "fsync-ing the write ahead log in SyncThread:3 took 13000ms which will adversely effect operation latency. See the ZooKeeper troubleshooting guide")]);
    let a = tell(&[with(1, &[(44.0, "Follower", LOST)]), with(2, &[(44.01, "Follower", LOST)]), leader]);
    assert_eq!(report::json(&a)["verdict"]["hypothesis"], "stood still");
    has(&a, &["disk of 3 stalled: fsync took 13.0 s"]);
}

/// 2's log is missing: 1 alone leaves, and the leader's lines prove that 2 stayed.
#[test]
fn a_follower_whose_log_is_missing_is_known_by_its_leader() {
    let leader = with(
        3,
        &[
            (1.5, "LearnerHandler", "10.0.0.2 Follower sid: 2 : info : 10.0.0.2:2888:3888:participant"),
            (90.0, "NIOServerCnxn", "a line"),
        ],
    );
    let a = tell(&[with(1, &[(50.0, "Follower", EOF), (60.0, "QuorumPeer", SERVES)]), leader.clone()]);
    assert_eq!(outages(&a), [], "{:?}", a.story.outages);
    // The leader loses the follower as well: that is reported.
    let lost = "10.0.0.2 Unexpected exception in LearnerHandler: |java.io.EOFException";
    let both = with(
        3,
        &[
            (1.5, "LearnerHandler", "10.0.0.2 Follower sid: 2 : info : 10.0.0.2:2888:3888:participant"),
            (51.0, "LearnerHandler", lost),
        ],
    );
    let a = tell(&[with(1, &[(50.0, "Follower", EOF), (60.0, "QuorumPeer", SERVES)]), both]);
    assert_eq!(outages(&a).len(), 1, "{:?}", a.story.outages);
}

#[test]
fn the_next_line_is_the_reason() {
    for (exception, reason) in [
        (
            "java.io.IOException: Leaders epoch, 3 is less than accepted epoch, 5",
            "the epoch of its history does not fit",
        ),
        ("java.lang.OutOfMemoryError: Java heap space", "ran out of memory"),
        ("javax.net.ssl.SSLHandshakeException: no cipher suites in common", "TLS between the servers"),
        ("java.net.UnknownHostException: zk3.site", "server names do not resolve"),
        ("java.io.IOException: No space left on device", "the disk is full"),
        ("java.io.IOException: Unreasonable length = 1195725856", "no server of this ensemble"),
        ("java.net.ConnectException: Network is unreachable", "network to a peer is unreachable"),
        ("java.net.SocketException: Connection timed out (Read failed)", "the kernel gave a connection up"),
    ] {
        let text = format!("Exception when following the leader|{exception}");
        let a = tell(&[with(1, &[(50.0, "Follower", &text)]), with(2, &[]), with(3, &[])]);
        has(&a, &[reason, "To do: "]);
        let chinese = report::text(&a, Lang::Chinese, false);
        assert!(chinese.contains("处理："), "{chinese}");
        // The line itself is the evidence.
        let json = report::json(&a);
        let finding = json["findings"].as_array().unwrap().iter().find(|f| !f["to_do"].is_null()).unwrap();
        assert_eq!(finding["evidence"][0]["line"], 5, "{finding:#}");
    }
}

fn two_outages() -> Vec<(String, String)> {
    let flap = [
        (250.0, "Follower", EOF),
        (255.0, "QuorumPeer", SERVES),
        (270.0, "Follower", EOF),
        (275.0, "QuorumPeer", SERVES),
        (7_300.0, "NIOServerCnxn", "a line"),
    ];
    // A step of a clock is known up to the time between two lines.
    let leader = with(
        3,
        &[
            (259.9, "NIOServerCnxn", "a line"),
            (260.1, "NIOServerCnxn", "a line"),
            (250.0, "Leader", "Shutdown called. For the reason Not sufficient followers synced"),
            (255.0, "Leader", QUORUM),
            (270.0, "Leader", "Shutdown called. For the reason Not sufficient followers synced"),
            (275.0, "Leader", QUORUM),
            (7_300.0, "NIOServerCnxn", "a line"),
        ],
    );
    vec![with(1, &flap), with(2, &flap), leader]
}

#[test]
fn the_same_file_twice_and_a_log_with_its_rotated_copy() {
    let files = two_outages();
    let want = outages(&tell(&files));
    assert_eq!(want.len(), 2);
    let mut twice = files.clone();
    twice.extend(files.iter().map(|(name, text)| (format!("{name}.1"), text.clone())));
    let a = tell(&twice);
    assert_eq!(outages(&a), want);
    assert!(a.complaints.iter().any(|c| c.text(Lang::English).contains("count once")), "{:?}", a.complaints);
    let within: Vec<_> = files.iter().map(|(name, text)| (name.clone(), format!("{text}{text}"))).collect();
    assert_eq!(outages(&tell(&within)), want);
}

#[test]
fn a_clock_that_is_set_back_by_90_seconds_or_an_hour() {
    for step in [90.0, 3_600.0] {
        // After the first outage the clock of 3 goes back.
        let mut files = two_outages();
        let zero = time::parse(b"2026-11-22T07:00:00,000").unwrap().0;
        let line = |l: &str| match time::parse(l.as_bytes()) {
            Some((at, n)) if at - zero > 260_000 => {
                format!("{}{}\n", time::long(at - (step * 1e3) as i64).replace('.', ","), &l[n..])
            }
            _ => format!("{l}\n"),
        };
        files[2].1 = files[2].1.lines().map(line).collect();
        let a = tell(&files);
        let all = outages(&a);
        assert_eq!(all.len(), 2, "{step}: {all:?}");
        assert!(all.iter().all(|o| o.2.is_some_and(|to| to - o.1 < 25.0)), "{step}: {all:?}");
        assert!(
            a.complaints.iter().any(|c| c.text(Lang::English).contains("the time goes back by")),
            "{:?}",
            a.complaints
        );
    }
}

/// NTP after a boot, or summer time: 3's clock goes forward between two outages, in which everybody votes.
#[test]
fn a_clock_that_is_set_forward_by_90_seconds_or_an_hour() {
    let zero = time::parse(b"2026-11-22T07:00:00,000").unwrap().0;
    let vote = |from: u32, round: u32| {
        format!("Notification: my state:LOOKING; n.sid:{from}, n.state:LOOKING, n.leader:{from}, n.round:{round:#x}, n.peerEpoch:0x1, n.zxid:0x100000001, message format version:0x2, n.config version:0x0")
    };
    let with_votes = |name: &String, text: &String| {
        let id: u32 = name.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
        for (round, begins) in [(2, 250.0), (3, 270.0)] {
            lines.push(line(id, begins + 1.0, "FastLeaderElection", "New election. My id = 1").trim_end().into());
            for from in 1..=3 {
                let late = if from == id { 0.0 } else { 0.01 };
                lines.push(line(id, begins + 1.0 + late, "FastLeaderElection", &vote(from, round)).trim_end().into());
            }
        }
        // The lines of an exception stay behind their own.
        lines.retain(|l| time::parse(l.as_bytes()).is_some());
        lines.sort();
        (name.clone(), lines.join("\n").replace("My id = 1", &format!("My id = {id}")))
    };
    for step in [90.0, 3_600.0] {
        let mut files: Vec<_> = two_outages().iter().map(|(name, text)| with_votes(name, text)).collect();
        let right = outages(&tell(&files));
        assert_eq!(right.len(), 2, "{right:?}");
        let moved = |l: &str| match time::parse(l.as_bytes()) {
            Some((at, n)) if at - zero > 260_000 => {
                format!("{}{}\n", time::long(at + (step * 1e3) as i64).replace('.', ","), &l[n..])
            }
            _ => format!("{l}\n"),
        };
        files[2].1 = files[2].1.lines().map(moved).collect();
        let a = tell(&files);
        let found = outages(&a);
        assert_eq!(found.len(), 2, "{step}: {found:?}");
        for (want, got) in right.iter().zip(&found) {
            let near = |a: f64, b: f64| (a - b).abs() < 0.5;
            assert!(
                near(want.1, got.1) && near(want.2.unwrap(), got.2.unwrap()),
                "{step}: {found:?}, {right:?} wanted"
            );
        }
        let told = a.complaints.iter().any(|c| c.text(Lang::English).contains("the clock was set forward by about"));
        assert!(told, "{step}: {:?}", a.complaints);
        assert!(a.offsets.values().all(|o| o.ms.abs() <= o.error_ms + 50), "{step}: {:?}", a.offsets);
    }
}

#[test]
fn where_the_rest_of_a_log_is_missing_the_end_is_not_known() {
    let mut reader = Reader::default();
    for (id, (name, text)) in two_outages().into_iter().enumerate() {
        reader.file(&name);
        for l in text.lines() {
            // Two logs break off within the second outage.
            if id > 0 && l.contains("07:04:35") {
                reader.not_read(&name, "corrupt deflate stream");
                break;
            }
            if id == 0 && l.contains("07:04:35") {
                continue;
            }
            reader.line(l.as_bytes());
        }
    }
    let (facts, names) = reader.finish();
    let a = analyse(facts, names);
    has(&a, &["no quorum until 07:04:30.000 at least", "not read past line"]);
}

#[test]
fn observers_have_no_vote() {
    let observer = log(
        4,
        &[
            (1.0, "QuorumPeer", "OBSERVING"),
            (1.5, "QuorumPeer", "Peer state changed: observing - broadcast"),
            (50.0, "Observer", "Exception when observing the leader|java.io.EOFException"),
            (90.0, "NIOServerCnxn", "a line"),
        ],
    );
    let other =
        log(5, &[(1.0, "QuorumPeer", "OBSERVING"), (1.5, "QuorumPeer", "Peer state changed: observing - broadcast")]);
    // With one of three voters gone, two are a quorum; if the observers counted as voters, two of five would be none.
    let a = tell(&[with(1, &[(50.0, "Follower", EOF)]), with(2, &[]), with(3, &[]), observer, other]);
    assert_eq!(outages(&a), [], "{:?}", a.story.outages);
}

#[test]
fn a_leader_that_steps_down_by_itself_is_no_dead_process() {
    let reason = "Shutdown called. For the reason zxid lower 32 bits have rolled over, forcing re-election, and therefore new epoch start";
    let a = tell(&[
        with(1, &[(50.02, "Follower", EOF)]),
        with(2, &[(50.02, "Follower", EOF)]),
        with(3, &[(50.0, "Leader", reason), (51.0, "Leader", QUORUM)]),
    ]);
    assert_eq!(outages(&a).iter().map(|o| (o.0, o.1)).collect::<Vec<_>>(), [(50.0, 50.0)]);
    has(&a, &["gave its leadership up by itself", "counter of transactions", "nothing is broken"]);
    // The same of a release before 3.6, which throws the reason at itself.
    let old = "Shutdown called|java.lang.Exception: shutdown Leader! reason: zxid lower 32 bits have rolled over, forcing re-election, and therefore new epoch start";
    let a = tell(&[
        with(1, &[(50.02, "Follower", EOF)]),
        with(2, &[(50.02, "Follower", EOF)]),
        with(3, &[(50.0, "Leader", old), (51.0, "Leader", QUORUM)]),
    ]);
    has(&a, &["gave its leadership up by itself"]);
}

#[test]
fn restarts_inside_an_outage_are_told_and_a_rolling_one_as_such() {
    let start = |at: f64| {
        [
            (at, "QuorumPeerConfig", "Reading configuration from: zoo.cfg"),
            (at + 0.1, "QuorumPeerMain", "Starting quorum peer, myid=9"),
        ]
    };
    let mut files = Vec::new();
    for id in 1..=3u32 {
        let at = 100.0 * f64::from(id);
        let mut more = vec![(at, "NIOServerCnxn", "the last line")];
        more.extend(start(at + 5.0));
        more.push((at + 8.0, "QuorumPeer", SERVES));
        let (name, text) = with(id, &more);
        files.push((name, text.replace("myid=9\n", &format!("myid={id}\n"))));
    }
    let a = tell(&files);
    has(&a, &["rolling restart: 1 (5.1 s), 2 (5.1 s), 3 (5.1 s)", "2 restarted, 5.1 s after"]);
    let json = report::json(&a);
    let kinds: Vec<&Value> = json["findings"].as_array().unwrap().iter().map(|f| &f["kind"]).collect();
    assert!(
        kinds.iter().any(|k| **k == "rolling restart") && kinds.iter().filter(|k| **k == "restart").count() == 3,
        "{kinds:?}"
    );
}

#[test]
fn complaints_are_in_every_form_in_the_chosen_language() {
    let mut files = two_outages();
    files.push(("nginx.log".into(), "127.0.0.1 - - [22/Nov/2026:07:00:00 +0000] \"GET / HTTP/1.1\" 200 0\n".into()));
    let a = tell(&files);
    let (en, zh) = ("no line looks like a ZooKeeper or Trivet log", "均不像 ZooKeeper 或 Trivet 日志");
    for text in
        [report::text(&a, Lang::English, false), report::markdown(&a, Lang::English), report::html(&a, Lang::English)]
    {
        assert!(text.contains(en), "{text}");
    }
    for text in
        [report::text(&a, Lang::Chinese, false), report::markdown(&a, Lang::Chinese), report::html(&a, Lang::Chinese)]
    {
        assert!(text.contains(zh) && !text.contains(en), "{text}");
    }
    let json = report::json(&a);
    assert!(
        json["complaints"][0]["en"].as_str().unwrap().contains(en)
            && json["complaints"][0]["zh"].as_str().unwrap().contains(zh)
    );
}

#[test]
fn late_votes_of_a_start_do_not_outweigh_outages() {
    let vote = |from: u32, round: u32| {
        format!("Notification: my state:LOOKING; n.sid:{from}, n.state:LOOKING, n.leader:3, n.round:{round:#x}, n.peerEpoch:0x1, n.zxid:0x100000001, message format version:0x2, n.config version:0x0")
    };
    let flaps = |id: u32| {
        let mut lines: Vec<(f64, &str, String)> =
            begin(id).into_iter().map(|(a, c, m)| (a + 20.0, c, m.to_string())).collect();
        for round in 1..=3u32 {
            for from in 1..=3u32 {
                // Votes of 1 arrive late at 2 while the servers start; later none is late.
                let late = if (from, id) == (1, 2) && round < 3 { 5.0 } else { 0.0 };
                lines.push((6.0 * f64::from(round) + late - 5.0, "FastLeaderElection", vote(from, round)));
            }
        }
        for n in 1..=3 {
            let at = 100.0 * f64::from(n);
            if id == 3 {
                lines.push((
                    at,
                    "LearnerHandler",
                    "10.0.0.1 Unexpected exception in LearnerHandler: |java.net.SocketTimeoutException: Read timed out"
                        .into(),
                ));
                lines.push((
                    at + 0.1,
                    "Leader",
                    "Shutdown called. For the reason Not sufficient followers synced".into(),
                ));
                lines.push((at + 9.0, "Leader", QUORUM.into()));
            } else {
                lines.push((at, "Follower", LOST.into()));
                lines.push((at + 9.2, "QuorumPeer", SERVES.into()));
            }
        }
        let lines: Vec<(f64, &str, &str)> = lines.iter().map(|(a, c, m)| (*a, *c, m.as_str())).collect();
        log(id, &lines)
    };
    let a = tell(&[flaps(1), flaps(2), flaps(3)]);
    assert_eq!(outages(&a).len(), 3, "{:?}", a.story.outages);
    let best = a.verdict.best.unwrap();
    assert_eq!((best.hypothesis.kind(), best.hypothesis.servers()), ("network of a node", vec![3]), "{:?}", a.verdict);
}

#[test]
fn many_sessions_that_end_at_once_and_a_pause_of_the_process() {
    let sessions: Vec<String> =
        (0..12).map(|n| format!("Expiring session 0x10000000000{n:02x}, timeout of 6000ms exceeded")).collect();
    let mut more: Vec<(f64, &str, &str)> =
        sessions.iter().enumerate().map(|(n, s)| (50.0 + n as f64 / 100.0, "ZooKeeperServer", s.as_str())).collect();
    let pause =
        "Detected pause in JVM or host machine (e.g. GC): pause of approximately 5200ms, total pause: info level: 1";
    more.push((60.0, "JvmPauseMonitor", pause));
    let a = tell(&[with(1, &[]), with(2, &[]), with(3, &more)]);
    has(&a, &["3 ended 12 sessions within a second", "3 process stood still for 5.2 s"]);
    let chinese = report::text(&a, Lang::Chinese, false);
    assert!(chinese.contains("使 12 个会话过期") && chinese.contains("进程停顿 5.2 秒"), "{chinese}");
}

#[test]
fn a_server_that_does_not_stay_up_is_told_once_with_its_cause() {
    let mut more: Vec<(f64, &str, &str)> = Vec::new();
    for n in 0..25 {
        let at = 100.0 + 12.0 * f64::from(n);
        more.push((at, "QuorumPeerMain", "Starting quorum peer, myid=1"));
        more.push((at + 1.0, "QuorumPeer", "Unable to load database on disk|java.io.IOException: CRC check failed"));
    }
    let a = tell(&[with(1, &more), with(2, &[]), with(3, &[])]);
    has(
        &a,
        &[
            "1 restarted 25 times until 07:06:28.000, every 12.0 s on average",
            "its snapshot or log is damaged",
            "To do: ",
        ],
    );
    assert!(!report::text(&a, Lang::English, false).contains("after the last line of the process"));
    let finding = report::json(&a)["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|f| f["kind"] == "restarts again and again")
        .count();
    assert_eq!(finding, 1);
    assert!(report::text(&a, Lang::Chinese, false).contains("反复重启 25 次"));
}

/// 3 is a copy of 2's machine, and no line of anybody says whose address 10.0.0.3 is.
#[test]
fn a_copied_id_is_told_by_the_names_of_the_files_where_no_line_tells_it() {
    let of = |address: &str, message: &str| {
        format!("2026-11-22T07:00:01,000 [myid:] - WARN  [QuorumPeer[myid=2](plain={address}:2181)(secure=disabled):QuorumPeer@1] - LOOKING\n\
                 2026-11-22T07:00:02,000 [myid:] - WARN  [ListenerHandler-/{address}:3888:QuorumCnxManager@1] - {message}\n")
    };
    let twice = "We got a connection request from a server with our own ID. This should be either a configuration error, or a bug.";
    let files =
        |second: &str| [("node2.log".to_string(), of("10.0.0.2", "x")), (second.to_string(), of("10.0.0.3", twice))];
    let states = |a: &Analysis| a.story.causes.iter().map(|c| c.node).collect::<Vec<_>>();
    assert_eq!(states(&tell(&files("node3.log"))), [3]);
    // Without a number in its name it stays what it says.
    assert_eq!(states(&tell(&files("copy.log"))), [2]);
}
