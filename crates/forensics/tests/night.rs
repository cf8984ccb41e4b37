//! A night with all sources: three servers, ESXi, vCenter, the kernel, a clock daemon, a site's own console and a person's
//! notes, combined into one incident.

use trivet_forensics::report::{self, Lang};
use trivet_forensics::site::Patterns;
use trivet_forensics::{analyse, Analysis, Reader};

/// The servers' clocks are 8 h ahead of UTC; ESXi's are UTC.
fn night(zone_min: Option<i32>) -> Analysis {
    let mut r = Reader::default();
    r.zone_min = zone_min;
    r.patterns = Patterns::parse("metadata without LEADER = 无法连接到 * LEADER\n").unwrap();
    let line = |id: u32, at: &str, class: &str, message: &str| {
        format!("2023-01-29T05:{at} [myid:] - WARN  [QuorumPeer[myid={id}](plain=10.0.10.7{id}:2181)(secure=disabled):{class}@1] - {message}\n")
    };
    let quorum = "Have quorum of supporters, sids: [[1, 3]]; starting up and setting last processed zxid: 0x100000000";
    for id in 1..=3u32 {
        let mut text = String::new();
        if id == 1 {
            text += &line(id, "00:00,000", "Leader", quorum);
            text += "# 05:10 the console is red\n# 2023-01-29T05:10:15，leader=71，72、73 断开连接\n";
            text += &line(id, "10:42,000", "Leader", quorum);
        } else {
            text += &line(id, "00:01,000", "QuorumPeer", "Peer state changed: following - broadcast");
            text += &line(id, "10:15,526", "Follower", "Exception when following the leader");
            text += "java.io.EOFException\n";
            text += &line(id, "10:42,500", "QuorumPeer", "Peer state changed: following - broadcast");
        }
        feed(&mut r, &format!("node{id}/zookeeper.log"), &text);
    }
    feed(&mut r, "esx2/vobd.log", concat!(
        "2023-01-28T21:10:27.123Z: [vmfsCorrelator] 4466us: [esx.problem.vmfs.nfs.server.disconnect] 192.168.33.2 /ds1 8f3c-12 ds1\n",
        "2023-01-28T21:10:30.123Z: [APDCorrelator] 1us: [esx.problem.storage.apd.start] Device or filesystem with identifier [8f3c-12] has entered the All Paths Down state.\n",
        "2023-01-28T23:00:00.000Z: [vmfsCorrelator] 4466us: [esx.problem.vmfs.nfs.server.disconnect] 192.168.33.2 /ds2 8f3c-13 ds2\n",
    ));
    feed(&mut r, "esx2/vmkernel.log", "2023-01-28T21:10:27.124Z cpu3:2097661)WARNING: NFS: 337: Lost connection to the server 192.168.33.2 mount point /ds1, mounted as 8f3c-12 (\"ds1\")\n");
    feed(&mut r, "vcenter.csv", concat!(
        "\"Date Time\",\"Description\",\"Type\",\"Host\"\n",
        "\"2023-01-29 05:12:01\",\"The number of vSphere HA heartbeat datastores for this host is 1, which is less than required: 2\",\"warning\",\"esx2\"\n",
    ));
    feed(
        &mut r,
        "messages",
        concat!(
            "Jan 29 05:10:11 zk1 kernel: [9000.1] ixgbe 0000:01:00.0 eth0: NIC Link is Down\n",
            "Jan 29 05:20:11 zk1 chronyd[99]: System clock was stepped by 3.700123 seconds\n",
            "Jan 29 05:20:12 zk1 systemd[1]: Started something.\n",
        ),
    );
    // Events that our nodes beside these servers recorded, by UTC.
    let own = |node: u32, at: &str, subject: &str, what: &str, why: &str, zh: &str| {
        let wall_ms = trivet_forensics::time::moment(&format!("2023-01-28T21:{at}"), 0).unwrap();
        let zh = if zh.is_empty() { String::new() } else { format!(r#","what_zh":"{zh}""#) };
        format!(
            r#"{{"version":1,"node":{node},"mono_ms":5,"wall_ms":{wall_ms},"subject":"{subject}","what":"{what}","why":"{why}"{zh}}}"#
        ) + "\n"
    };
    let lost = "the last one, on node 1, was silent for 812 ms";
    let repair = (
        "repaired, proved by a later reading: mount datastore ds1 on host esx2",
        "已修复，并经复查证实：在主机 esx2 上挂载数据存储 ds1",
    );
    let mut journal = own(1, "10:16", "metad", "no longer LEADER of epoch 7", "session lost", "")
        + &own(2, "10:44", "metad", "LEADER of epoch 8", lost, "")
        + &own(2, "10:45", "address", "192.168.33.2 goes to node 2", "node 1 is gone", "")
        + &own(2, "10:46", "address", "192.168.33.9 goes to node 2", "node 3 cannot serve it: no interface", "")
        + &own(2, "10:47", "lease", "owner of file 7, lease 9", "an operation came in", "")
        + &own(2, "12:30", "vcenter", repair.0, "step 3", repair.1);
    for extent in 0..30 {
        journal += &own(2, "10:48", "copies", &format!("extent {extent}: copies on [2, 3]"), "epoch 2 of lease 9", "");
    }
    feed(&mut r, "node2/events.jsonl", &journal);
    let alert = |state: &str, at: i64| {
        format!(
            r#"{{"alert":{{"version":1,"at_ms":{at},"alert":{{"rule":"COORD_NO_QUORUM","subject":"cluster","state":"{state}","reason":{{"en":"one of three","zh":"三个中的一个"}}}}}}}}"#
        ) + "\n"
    };
    let at = trivet_forensics::time::moment("2023-01-28T21:10:18", 0).unwrap();
    for node in [1, 2, 3] {
        let name = format!("node{node}/alerts/history.jsonl");
        feed(&mut r, &name, &(alert("firing", at + node * 300) + &alert("resolved", at + 30_000)));
    }
    feed(&mut r, "console.log", "2023-01-29 05:10:20 主节点 SCVM03 无法连接到 zbs-metad 服务的 LEADER 角色节点\n");
    let (facts, files) = r.finish();
    analyse(facts, files)
}

fn feed(r: &mut Reader, name: &str, text: &str) {
    r.file(name);
    text.lines().for_each(|l| r.line(l.as_bytes()));
}

#[test]
fn one_story_in_both_languages() {
    let a = night(Some(480));
    let text = report::text(&a, Lang::English, false).replace("\n#   ", " ").replace("\n              ", " ");
    for part in [
        "no quorum 05:10:15-05:10:42 -> node 71: no longer LEADER of epoch 7 at 05:10:16 -> esx2 lost NFS datastore ds1 at 05:10:27 -> esx2: all paths down (APD) begins for 8f3c-12 at 05:10:30 -> node 72: LEADER of epoch 8 at 05:10:44 -> 192.168.33.2 goes to node 2 at 05:10:45 -> esx2: too few vSphere HA heartbeat datastores",
        "at 05:12:01 -> node 72: repaired, proved by a later reading: mount datastore ds1 on host esx2 at 05:12:30",
        "05:10:47.000  72 lease: owner of file 7, lease 9 (an operation came in)",
        "72 copies: extent 0: copies on [2, 3] (epoch 2 of lease 9); 30 such changes in 0.0 s, the last: extent 29",
        "alert: COORD_NO_QUORUM firing: one of three",
        "05:10:11.000  zk1: link of eth0 down",
        "05:20:11.000  zk1: the clock was set",
        "metadata without LEADER: 主节点 SCVM03",
        "05:10:00.000  noted by hand: the console is red",
        "05:10:15.000  noted by hand: leader=71，72、73 断开连接",
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
    // An event of hours later is told, and follows from nothing.
    assert!(text.contains("esx2 lost NFS datastore ds2") && !text.contains("ds2 at"), "{text}");
    // The same event in vobd's and vmkernel's logs counts once.
    assert_eq!(a.site.iter().filter(|e| e.object == "ds1").count(), 1);
    let chinese = report::text(&a, Lang::Chinese, false).replace("\n#   ", "");
    assert!(
        chinese.contains("集群停止工作 05:10:15-05:10:42") && chinese.contains("失去 NFS 数据存储 ds1"),
        "{chinese}"
    );
    for part in [
        "不再是 epoch 7 的 LEADER",
        "192.168.33.2 转到节点 2",
        "已修复，并经复查证实",
        "三个中的一个",
        "副本：extent 0",
    ] {
        assert!(chinese.replace(['\n', ' '], "").contains(&part.replace(' ', "")), "{part} is missing in {chinese}");
    }
    // Three nodes judged the same alert, and it is told once each time it changed.
    assert_eq!(text.matches("COORD_NO_QUORUM").count(), 2, "{text}");
    assert!(!text.split("# no quorum").nth(1).unwrap_or_default().contains("192.168.33.9"), "{text}");
    let json = report::json(&a);
    assert_eq!(json["own"].as_array().map(Vec::len), Some(9), "{}", json["own"]);
    assert!(
        json["own"]
            .as_array()
            .unwrap()
            .iter()
            .all(|n| n["text"]["zh"].as_str().unwrap().contains(|c: char| c as u32 >= 0x4e00)),
        "{}",
        json["own"]
    );
    for text in [report::text(&a, Lang::English, true), report::text(&a, Lang::Chinese, true)] {
        let width = |l: &str| l.chars().map(|c| 1 + usize::from(c as u32 >= 0x2e80)).sum::<usize>();
        assert!(text.lines().all(|l| width(l) <= 120), "{text}");
        assert!(text.lines().next().unwrap().starts_with("# 1 outage") || text.starts_with("# 共 1 次"), "{text}");
    }
    let page = report::html(&a, Lang::English);
    assert!(page.contains("-&gt; esx2 lost NFS datastore ds1"), "{page}");
    if let Some(folder) = std::env::var_os("TRIVET_KEEP_NIGHT") {
        let folder = std::path::PathBuf::from(folder);
        std::fs::write(folder.join("night-en.html"), &page).unwrap();
        std::fs::write(folder.join("night-zh.html"), report::html(&a, Lang::Chinese)).unwrap();
    }
}

#[test]
fn without_a_zone_nothing_is_connected_and_the_report_asks() {
    let a = night(None);
    let text = report::text(&a, Lang::English, false).replace("\n#   ", " ");
    assert!(text.contains("give --zone +08:00") && !text.contains(" -> "), "{text}");
}

/// A night of a cluster of ours that `tests/lab/timeline_night.py` recorded.
#[test]
fn a_recorded_night_of_our_nodes_is_one_story() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/night");
    let read = |name: &str| {
        let bytes = std::fs::read(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut text = String::new();
        if name.ends_with(".gz") {
            std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut text).unwrap();
        } else {
            text = String::from_utf8(bytes).unwrap();
        }
        text
    };
    let mut r = Reader::default();
    r.patterns = Patterns::parse(&read("patterns.txt")).unwrap();
    for name in [
        "DC0_C0_H1/vmkernel.log.gz",
        "DC0_C0_H1/vobd.log.gz",
        "console.log.gz",
        "messages",
        "notes.txt",
        "vcenter.json",
    ] {
        feed(&mut r, name.trim_end_matches(".gz"), &read(name));
    }
    for node in 1..=3 {
        for name in ["node.log.gz", "events/events.jsonl.gz", "alerts/history.jsonl.gz"] {
            let name = format!("node{node}/{name}");
            feed(&mut r, name.trim_end_matches(".gz"), &read(&name));
        }
    }
    let (facts, files) = r.finish();
    let a = analyse(facts, files);
    let json = report::json(&a);
    let truth: serde_json::Value = serde_json::from_str(&read("truth.json")).unwrap();
    let at = |v: &serde_json::Value| {
        trivet_forensics::time::moment(v.as_str().unwrap().trim_end_matches('Z').split('.').next().unwrap(), 0).unwrap()
    };
    // Node 3 led and was killed; node 2 was paused, and could not log anything.
    let outages = json["outages"].as_array().unwrap();
    let during = at(&truth["begun"])..=at(&truth["thawed"]);
    let told: Vec<_> = outages.iter().filter(|o| during.contains(&at(&o["from"]))).collect();
    assert_eq!(told.len(), 1, "{outages:?}");
    // The outage began when node 3 was killed, and not when node 3 was back.
    let late_ms = at(&told[0]["from_earliest"]) - at(&truth["begun"]);
    assert!((0..2_000).contains(&late_ms), "{late_ms} ms late: {}", told[0]);
    let chain = json["chains"].as_array().unwrap().iter().find(|c| c["en"].as_str().unwrap().contains("datastore ds2"));
    let chain = chain.unwrap_or_else(|| panic!("{}", json["chains"]));
    for (lang, parts) in [
        (
            "en",
            [
                "lost NFS datastore ds1",
                "all paths down",
                "heartbeat",
                "repair begins: mount datastore ds2",
                "repaired, proved",
                "has NFS datastore ds2 again",
            ],
        ),
        ("zh", ["失去 NFS 数据存储 ds1", "APD", "检测信号", "开始修复：在主机", "已修复", "恢复 NFS 数据存储 ds2"]),
    ] {
        let text = chain[lang].as_str().unwrap();
        assert!(parts.iter().all(|p| text.contains(p)), "{text}");
    }
    let own = json["own"].as_array().unwrap();
    for subject in ["metad", "address", "lease", "gateway", "vcenter", "alert", "node"] {
        assert!(own.iter().any(|n| n["subject"] == subject), "{subject}");
    }
    for n in own {
        let zh = n["text"]["zh"].as_str().unwrap();
        assert!(zh.contains(|c: char| c as u32 >= 0x4e00), "{zh}");
    }
    assert_eq!(
        (json["site"].as_array().map(Vec::len), json["remarks"].as_array().map(Vec::len)),
        (Some(10), Some(2)),
        "{}",
        json["site"]
    );
    assert!(!a.complaints.iter().any(|c| c.text(Lang::English).contains("zone")), "{:?}", a.complaints);
    if let Some(folder) = std::env::var_os("TRIVET_KEEP_NIGHT") {
        let folder = std::path::PathBuf::from(folder);
        std::fs::write(folder.join("recorded-en.html"), report::html(&a, Lang::English)).unwrap();
        std::fs::write(folder.join("recorded-zh.html"), report::html(&a, Lang::Chinese)).unwrap();
    }
}
