//! The analysis of made-up logs in each form of the report.

use trivet_forensics::report::{self, Lang};
use trivet_forensics::{analyse, Analysis, Reader};

const NOTIFICATION: &str = "Notification: my state:LOOKING; n.sid:SID, n.state:LOOKING, n.leader:3, n.round:ROUND, \
    n.peerEpoch:0x1, n.zxid:0x100000001, message format version:0x2, n.config version:0x0";

/// Three servers; 71's clock is 2 s ahead. 73 leads, both lose it, 72 leads. Votes of 71 come late to 73, not back.
fn night() -> Analysis {
    let mut r = Reader::default();
    for id in 1..=3i64 {
        let ahead_ms = if id == 1 { 2_000 } else { 0 };
        let mut lines: Vec<(i64, &str, String)> = Vec::new();
        for round in 1..=5i64 {
            for from in 1..=3i64 {
                let late = if (from, id) == (1, 3) && round > 1 { 4_000 } else { 0 };
                let way = if from == id { 0 } else { 5 };
                let vote = NOTIFICATION.replace("SID", &from.to_string()).replace("ROUND", &format!("{round:#x}"));
                lines.push((round * 6_000 + from * 10 + way + late, "FastLeaderElection", vote));
            }
        }
        let quorum = |ids: &str, epoch: i64| {
            format!(
                "Have quorum of supporters, sids: [[{ids}]]; starting up and setting last processed zxid: {:#x}",
                epoch << 32
            )
        };
        match id {
            3 => lines.push((1_000, "Leader", quorum("1, 3", 1))),
            2 => lines.push((60_000, "Leader", quorum("1, 2", 2))),
            _ => {}
        }
        if id != 3 {
            lines.push((1_500, "QuorumPeer", "Peer state changed: following - broadcast".into()));
            lines.push((50_000 + id, "Follower", "Exception when following the leader".into()));
            lines.push((50_000 + id, "", "java.net.SocketTimeoutException: Read timed out".into()));
        }
        lines.sort_by_key(|l| l.0);
        r.file(&format!("node7{id}.log"));
        for (at, class, message) in lines {
            let at = at + ahead_ms;
            let time = format!("{:02}:{:02},{:03}", at / 60_000, at / 1_000 % 60, at % 1_000);
            let line = format!("2026-11-22T07:{time} [myid:] - INFO  [QuorumPeer[myid={id}](plain=10.0.0.7{id}:2181):{class}@1] - {message}");
            r.line(if class.is_empty() { message.as_bytes() } else { line.as_bytes() });
        }
    }
    let (facts, files) = r.finish();
    analyse(facts, files)
}

fn nothing() -> Analysis {
    let (facts, files) = Reader::default().finish();
    analyse(facts, files)
}

#[test]
fn the_json_keeps_to_its_schema() {
    let schema: serde_json::Value =
        serde_json::from_str(include_str!("../../../docs/schemas/timeline.schema.json")).unwrap();
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    compiler.add_resource("timeline.json", schema).unwrap();
    let schema = compiler.compile("timeline.json", &mut schemas).unwrap();
    for a in [night(), nothing()] {
        let json = report::json(&a);
        schemas.validate(&json, schema).unwrap_or_else(|e| panic!("{e}\n{json:#}"));
    }
    let mut wrong = report::json(&night());
    wrong["quorum"][0]["from"] = "yesterday".into();
    assert!(schemas.validate(&wrong, schema).is_err());
}

#[test]
fn the_clock_the_direction_and_the_outage_are_found() {
    let a = night();
    let json = report::json(&a);
    // Against the first server, whose clock is ahead.
    assert_eq!((a.offsets[&2].ms, a.offsets[&3].ms), (-2_000, -2_000));
    let [o] = &a.story.outages[..] else { panic!("{json:#}") };
    assert_eq!((o.leader, o.to.map(|to| (to - o.seen) / 1_000)), (3, Some(9)));
    let [l] = &a.late[..] else { panic!("{json:#}") };
    assert_eq!((l.from, l.to, l.votes, l.one_way), (1, 3, 4, true));
    let text = report::text(&a, Lang::English, false);
    for part in
        ["71→73 was broken", "clock -2.000 s", "no quorum for", "Most likely: the direction 71→73", "node73.log:"]
    {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
    let chinese = report::text(&a, Lang::Chinese, false);
    assert!(chinese.contains("71→73 方向的链路有问题") && chinese.contains("集群停止工作"), "{chinese}");
}

#[test]
fn page_and_drawing_need_nothing_else_and_markdown_is_a_table() {
    let a = night();
    let page = report::html(&a, Lang::English);
    assert!(!page.contains("src=") && !page.contains("href=") && !page.contains("url("), "{page}");
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    let drawing = report::svg(&a, Lang::English);
    // The quorum's lane, three servers', and the arrow of the late votes.
    assert!(
        drawing.contains("class=\"works\"")
            && drawing.contains("class=\"down\"")
            && drawing.contains("<line class=\"late\"")
    );
    let markdown = report::markdown(&a, Lang::English);
    let rows = markdown.lines().filter(|l| l.starts_with('|')).collect::<Vec<_>>();
    assert!(rows.len() >= 5 && rows.iter().all(|r| r.matches('|').count() == 4), "{markdown}");
}
