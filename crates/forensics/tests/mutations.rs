//! Lines of every row, with bytes changed, cut, doubled and mixed: whatever comes out, nothing panics.

use trivet_forensics::json_lines::{ENTRIES, ENVELOPES};
use trivet_forensics::layouts::LAYOUTS;
use trivet_forensics::prefixes::PREFIXES;
use trivet_forensics::report::{self, Lang};
use trivet_forensics::{analyse, Reader};

#[test]
fn mangled_lines_of_every_row() {
    let line = "2023-01-25T19:05:05,818 [myid:] - WARN  [QuorumPeer[myid=1](plain=a:2181)(secure=disabled):Follower@100] - Exception when following the leader";
    let mut seeds: Vec<Vec<u8>> = LAYOUTS.iter().map(|l| l.example.into()).collect();
    seeds.extend(PREFIXES.iter().map(|p| p.example.replace("LINE", line).into_bytes()));
    seeds.extend(ENTRIES.iter().map(|e| e.example.into()));
    seeds.extend(ENVELOPES.iter().map(|e| e.example.replace("LINE", line).into_bytes()));
    seeds.push("[esx.problem.vmfs.nfs.server.disconnect] 192.168.33.2 /ds1 8f3c-12 ds1".into());
    seeds.push("# 2023-01-29T05:10:15，leader=71，72、73 断开连接".into());
    seeds.push("2023年1月25日 下午7:05:05 x".into());
    seeds.push("9999999999999999999 x".into());
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below.max(1)
    };
    let odd = [
        "é",
        "，",
        "\u{1b}[",
        "\"",
        "{",
        "}",
        "[",
        "]",
        ": ",
        " | ",
        "99999999999999999999",
        "\t",
        "│",
        "server.1=",
        "-",
        "+08:00",
    ];
    for _ in 0..60 {
        let mut reader = Reader::default();
        reader.file("a");
        for _ in 0..60 {
            let mut bytes = seeds[random(seeds.len())].clone();
            for _ in 0..random(4) {
                let at = random(bytes.len());
                match random(4) {
                    0 if !bytes.is_empty() => bytes[at] = random(256) as u8,
                    1 => bytes.truncate(at),
                    2 => drop(bytes.splice(at..at, odd[random(odd.len())].bytes())),
                    _ => {
                        let other = &seeds[random(seeds.len())];
                        drop(bytes.splice(at.., other[random(other.len())..].iter().copied()));
                    }
                }
            }
            reader.line(&bytes);
        }
        let (facts, files) = reader.finish();
        let a = analyse(facts, files);
        assert!(report::json(&a).is_object());
        for lang in [Lang::English, Lang::Chinese] {
            assert!(!report::text(&a, lang, true).is_empty() && !report::html(&a, lang).is_empty());
        }
    }
}
