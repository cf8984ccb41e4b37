//! The report: for people, in English or Chinese, and as JSON.

use crate::facts::Cause;
use crate::nodes::Place;
use crate::story::{Role, Story, What};
use crate::time::{self, LogMillis};
use serde_json::{json, Value};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lang {
    English,
    Chinese,
}

/// A server's name: the last part of its address if all addresses are known and these differ, else its id.
pub fn names(story: &Story) -> std::collections::BTreeMap<u32, String> {
    let last = |id: &u32| {
        let host = story.addresses.get(id)?.rsplit_once(':')?.0;
        let octet = host.rsplit('.').next()?;
        (host.contains('.') && octet.parse::<u8>().is_ok()).then(|| octet.to_string())
    };
    let octets: Option<Vec<String>> = story.servers.iter().map(last).collect();
    let distinct =
        octets.as_ref().is_some_and(|o| o.iter().collect::<std::collections::BTreeSet<_>>().len() == o.len());
    let names = octets.filter(|_| distinct).unwrap_or_else(|| story.servers.iter().map(u32::to_string).collect());
    story.servers.iter().copied().zip(names).collect()
}

fn seconds(ms: i64) -> String {
    format!("{:.1}", ms as f64 / 1_000.0)
}

fn cause(lang: Lang, cause: Option<Cause>) -> &'static str {
    match (lang, cause) {
        (Lang::English, Some(Cause::Timeout)) => "read timed out",
        (Lang::English, Some(Cause::Closed)) => "connection closed by the other side",
        (Lang::English, Some(Cause::Refused)) => "connection refused",
        (Lang::English, Some(Cause::Own)) => "closed by itself",
        (Lang::English, _) => "no reason in the log",
        (Lang::Chinese, Some(Cause::Timeout)) => "读超时",
        (Lang::Chinese, Some(Cause::Closed)) => "对端关闭连接",
        (Lang::Chinese, Some(Cause::Refused)) => "连接被拒绝",
        (Lang::Chinese, Some(Cause::Own)) => "自行关闭",
        (Lang::Chinese, _) => "日志中没有原因",
    }
}

fn what(lang: Lang, what: What) -> &'static str {
    match (lang, what) {
        (Lang::English, What::Ended) => "its process ended or closed its connections",
        (Lang::English, What::Cut) => "it missed them, too: the links between were cut",
        (Lang::English, What::Frozen) => "it noticed nothing: it stood still",
        (Lang::English, What::Undecided) => "the logs do not say why",
        (Lang::Chinese, What::Ended) => "其进程结束或关闭了连接",
        (Lang::Chinese, What::Cut) => "其也失去对方：之间的链路中断",
        (Lang::Chinese, What::Frozen) => "其毫无察觉：进程停顿",
        (Lang::Chinese, What::Undecided) => "日志未说明原因",
    }
}

/// The human timeline: a line for each change of the quorum, then what the logs cannot tell.
pub fn text(story: &Story, files: &[String], lang: Lang) -> String {
    let names = names(story);
    let name = |id: &u32| names.get(id).cloned().unwrap_or_else(|| id.to_string());
    let list = |ids: &mut dyn Iterator<Item = u32>| ids.map(|id| name(&id)).collect::<Vec<_>>().join(",");
    let at = |p: &Place| format!("{}:{}", files.get(p.file as usize).map_or("?", String::as_str), p.line);
    let en = lang == Lang::English;
    let mut lines: Vec<(LogMillis, String)> = Vec::new();
    for w in &story.quorum {
        let followers = list(&mut w.followers.iter().copied());
        let what = match (en, w.resumed) {
            (true, false) => format!("leader={}, followers={followers}, epoch {}: works", name(&w.leader), w.epoch),
            (true, true) => format!(
                "leader={} goes on without an election, followers={followers}, epoch {}: works",
                name(&w.leader),
                w.epoch
            ),
            (false, false) => format!("leader={}，follower={followers}，epoch {}，正常工作", name(&w.leader), w.epoch),
            (false, true) => {
                format!("leader={} 未经选举继续，follower={followers}，epoch {}，正常工作", name(&w.leader), w.epoch)
            }
        };
        lines.push((w.from, format!("{what}  [{}]", at(&w.began))));
    }
    for o in &story.outages {
        let lost = list(&mut o.lost.iter().map(|l| l.0));
        let why = o.lost.last().map(|l| cause(lang, l.1)).unwrap_or("");
        let length = match o.to {
            Some(to) if en => format!("no quorum for {} s", seconds(to - o.from)),
            Some(to) => format!("集群停止工作 {} 秒", seconds(to - o.from)),
            None if en => "no quorum until the end of the logs".into(),
            None => "集群停止工作，直到日志结束".into(),
        };
        let since = match o.seen - o.from {
            0 => String::new(),
            _ if en => format!(", begun between {} and {}", time::clock(o.from), time::clock(o.seen)),
            _ => format!("，实际开始于 {} 至 {} 之间", time::clock(o.from), time::clock(o.seen)),
        };
        let who = match (lost.is_empty(), en) {
            (false, true) => format!("{lost} lost it ({why})"),
            (false, false) => format!("{lost} 与其断开（{why}）"),
            (true, true) => "it stopped leading".into(),
            (true, false) => "其停止领导".into(),
        };
        let gave_up =
            if o.gave_up.is_empty() { String::new() } else { format!("; {}: {}", name(&o.leader), o.gave_up) };
        let evidence: Vec<String> = o.lost.iter().map(|l| at(&l.3)).collect();
        let comma = if en { "; " } else { "，" };
        lines.push((
            o.seen,
            format!(
                "leader={}{comma}{who}, {length}{since}; {}{gave_up}  [{}]",
                name(&o.leader),
                what(lang, o.what),
                evidence.join(", ")
            ),
        ));
    }
    for d in &story.departures {
        let why = cause(lang, d.cause);
        let back = match d.back {
            Some(back) if en => format!(", back after {} s", seconds(back - d.at)),
            Some(back) => format!("，{} 秒后恢复", seconds(back - d.at)),
            None => String::new(),
        };
        let line = match (d.leader, en) {
            (Some(l), true) => format!("{} lost leader {} ({why}), the others kept it{back}", name(&d.node), name(&l)),
            (Some(l), false) => format!("{} 与 leader {} 断开（{why}），其余节点正常{back}", name(&d.node), name(&l)),
            (None, true) => {
                format!("{} lost its leader ({why}); no log says what became of the others{back}", name(&d.node))
            }
            (None, false) => format!("{} 与 leader 断开（{why}），其他节点无日志{back}", name(&d.node)),
        };
        lines.push((d.at, format!("{line}  [{}]", at(&d.place))));
    }
    lines.sort_by_key(|l| l.0);
    let mut out = String::new();
    let servers: Vec<String> = story
        .servers
        .iter()
        .map(|id| {
            let address = story.addresses.get(id).map_or(String::new(), |a| format!(" {a}"));
            let version = story.versions.get(id).map_or(String::new(), |v| format!(" {v}"));
            let missing = if story.read.contains(id) {
                ""
            } else if en {
                " (no log)"
            } else {
                "（无日志）"
            };
            format!("{}=myid {id}{address}{version}{missing}", name(id))
        })
        .collect();
    let known = if story.timeout_known {
        ""
    } else if en {
        ", assumed"
    } else {
        "，假定"
    };
    out += &format!(
        "# {}  {}  ({} {} s{known})\n",
        time::day(story.first),
        servers.join("; "),
        if en { "read time-out" } else { "读超时" },
        seconds(story.timeout_ms as i64)
    );
    for (t, line) in &lines {
        out += &format!("{}  {line}\n", time::clock(*t));
    }
    for (node, until, ms, what, place) in story.stalls.iter().filter(|s| s.2 >= 1_000) {
        out += &format!(
            "{}  {} {what} stood still for {} s  [{}]\n",
            time::clock(*until),
            name(node),
            seconds(*ms as i64),
            at(place)
        );
    }
    let known_ms: i64 = story.outages.iter().filter_map(|o| Some(o.to? - o.from)).sum();
    out +=
        &if en {
            format!(
            "# {} outages, {} s in all. Outages shorter than the read time-out of {} s leave no trace in these logs.\n",
            story.outages.len(), seconds(known_ms), seconds(story.timeout_ms as i64)
        )
        } else {
            format!(
                "# 共 {} 次中断，合计 {} 秒。短于读超时 {} 秒的中断在日志中没有痕迹。\n",
                story.outages.len(),
                seconds(known_ms),
                seconds(story.timeout_ms as i64)
            )
        };
    out
}

/// `trivet.timeline/1`, as far as it is found out yet.
pub fn json(story: &Story, files: &[String]) -> Value {
    let place = |p: &Place| json!({"file": files.get(p.file as usize), "line": p.line});
    let roles = story.roles.iter().map(|r| {
        let role = match r.role {
            Role::None => "none",
            Role::Follower => "follower",
            Role::Leader => "leader",
        };
        json!({"node": r.node, "from": time::long(r.from), "to": r.to.map(time::long), "role": role, "epoch": r.epoch})
    });
    let quorum = story.quorum.iter().map(|w| {
        json!({"from": time::long(w.from), "to": w.to.map(time::long), "leader": w.leader, "epoch": w.epoch,
               "resumed": w.resumed, "evidence": [place(&w.began)]})
    });
    let outages = story.outages.iter().map(|o| {
        let evidence: Vec<Value> = o.lost.iter().map(|l| place(&l.3)).collect();
        let cause = o.lost.last().map(|l| cause(Lang::English, l.1));
        json!({"from": time::long(o.seen), "from_earliest": time::long(o.from), "to": o.to.map(time::long),
               "leader": o.leader, "cause": cause, "what": what(Lang::English, o.what), "lost_by": o.lost.iter().map(|l| l.0).collect::<Vec<_>>(), "evidence": evidence})
    });
    let nodes = story.servers.iter().map(|id| {
        json!({"id": id, "address": story.addresses.get(id), "version": story.versions.get(id), "log": story.read.contains(id)})
    });
    json!({
        "schema": "trivet.timeline/1",
        "nodes": nodes.collect::<Vec<_>>(),
        "roles": roles.collect::<Vec<_>>(),
        "quorum": quorum.collect::<Vec<_>>(),
        "outages": outages.collect::<Vec<_>>(),
        "blind_spots": [format!("outages shorter than {} s", seconds(story.timeout_ms as i64))],
    })
}
