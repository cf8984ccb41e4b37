//! Phrases, in English and Chinese.

use super::Lang;
use crate::facts::Cause;
use crate::nodes::Place;
use crate::paths::{Late, Lost, Unheard};
use crate::story::{Departure, Restart, StatedCause, What};
use crate::time::LogMillis;
use crate::verdict::{Hypothesis, Scored, Verdict};

pub(super) fn seconds(ms: i64) -> String {
    format!("{:.1}", ms as f64 / 1_000.0)
}

pub(super) fn cause(lang: Lang, cause: Option<Cause>) -> &'static str {
    match (lang, cause) {
        (Lang::English, Some(Cause::Timeout)) => "read timed out",
        (Lang::English, Some(Cause::Closed)) => "connection closed by the other side",
        (Lang::English, Some(Cause::Refused)) => "connection refused",
        (Lang::English, Some(Cause::Own)) => "closed by itself",
        (lang, Some(Cause::Stated(stated))) => stated.name(lang),
        (Lang::English, Some(Cause::Restarted)) => "it restarted",
        (Lang::English, _) => "no reason in the log",
        (Lang::Chinese, Some(Cause::Timeout)) => "读超时",
        (Lang::Chinese, Some(Cause::Closed)) => "对端关闭连接",
        (Lang::Chinese, Some(Cause::Refused)) => "连接被拒绝",
        (Lang::Chinese, Some(Cause::Own)) => "自行关闭",
        (Lang::Chinese, Some(Cause::Restarted)) => "进程重新启动",
        (Lang::Chinese, _) => "日志中没有原因",
    }
}

pub(super) fn what(lang: Lang, what: What) -> &'static str {
    match (lang, what) {
        (lang, What::Failed(cause)) => cause.name(lang),
        (Lang::English, What::Ended) => "its process ended or closed its connections",
        (Lang::English, What::Cut) => "it stopped hearing from them too: the links were down",
        (Lang::English, What::Frozen) => "it noticed nothing: it stood still",
        (Lang::English, What::SteppedDown) => "it gave its leadership up by itself",
        (Lang::English, What::AllStopped) => "all servers' logs end and begin again with a start: they had stopped",
        (Lang::English, What::NeverElected) => "no leader was elected",
        (Lang::English, What::Undecided) => "the logs do not say why",
        (Lang::Chinese, What::Ended) => "leader 进程退出或关闭了连接",
        (Lang::Chinese, What::Cut) => "leader 同样收不到对方消息，节点间链路中断",
        (Lang::Chinese, What::Frozen) => "leader 自身无异常记录，期间进程停顿",
        (Lang::Chinese, What::SteppedDown) => "leader 主动退出该角色",
        (Lang::Chinese, What::AllStopped) => "所有节点的日志同时中断，之后均从启动开始：曾全部停止",
        (Lang::Chinese, What::NeverElected) => "未选出 leader",
        (Lang::Chinese, What::Undecided) => "日志未说明原因",
    }
}

/// A follower's loss of its leader while the others kept theirs, without the time of its return.
pub(super) fn departure(lang: Lang, d: &Departure, name: &dyn Fn(u32) -> String) -> String {
    let (node, why) = (name(d.node), cause(lang, d.cause));
    if let (Some(Cause::Restarted), Some(leader)) = (d.cause, d.leader.map(name)) {
        return match lang {
            Lang::English => format!("{node} restarted and left leader {leader}, the others kept it"),
            Lang::Chinese => format!("{node} 重新启动，离开 leader {leader}，其余节点正常"),
        };
    }
    match (d.leader.map(name), lang) {
        (Some(l), Lang::English) => format!("{node} lost leader {l} ({why}), the others kept it"),
        (Some(l), Lang::Chinese) => format!("{node} 与 leader {l} 断开（{why}），其余节点正常"),
        (None, Lang::English) => format!("{node} lost its leader ({why}); no log says what became of the others"),
        (None, Lang::Chinese) => format!("{node} 与 leader 断开（{why}）"),
    }
}

/// A process that was started again; it ended at some time behind its last line.
pub(super) fn restart(lang: Lang, r: &Restart, node: &str) -> String {
    let pause = seconds(r.at - r.since());
    match lang {
        Lang::English if r.gone.is_some() => {
            format!("{node} restarted, {pause} s after the connections to the process before had ended")
        }
        Lang::Chinese if r.gone.is_some() => format!("{node} 重新启动，距上一进程的连接断开 {pause} 秒"),
        Lang::English => format!("{node} restarted, {pause} s after the last line of the process before"),
        Lang::Chinese => format!("{node} 重新启动，距上一进程最后一行日志 {pause} 秒"),
    }
}

/// Restarts of one server in the order of their times.
pub(super) fn again_and_again(lang: Lang, row: &[&Restart], node: &str) -> String {
    let (first, last) = (row[0].at, row[row.len() - 1].at);
    let apart = seconds((last - first) / (row.len() as i64 - 1).max(1));
    let (count, until) = (row.len(), crate::time::clock(last));
    match lang {
        Lang::English => {
            format!("{node} restarted {count} times until {until}, every {apart} s on average: it does not stay up")
        }
        Lang::Chinese => format!("{node} 反复重启 {count} 次，至 {until}，平均每 {apart} 秒一次：进程无法持续运行"),
    }
}

pub(super) fn rolling(lang: Lang, all: &[(String, String)]) -> String {
    let list: Vec<String> = all
        .iter()
        .map(
            |(node, pause)| {
                if lang == Lang::English {
                    format!("{node} ({pause} s)")
                } else {
                    format!("{node}（{pause} 秒）")
                }
            },
        )
        .collect();
    match lang {
        Lang::English => format!("rolling restart: {}, one after the other", list.join(", ")),
        Lang::Chinese => format!("滚动重启：依次为 {}", list.join("、")),
    }
}

pub(super) fn expired(lang: Lang, node: &str, count: usize) -> String {
    match lang {
        Lang::English => format!(
            "{node} ended {count} sessions within a second: their clients had not been heard for their time-outs"
        ),
        Lang::Chinese => format!("{node} 在一秒内使 {count} 个会话过期：客户端在会话超时内无响应"),
    }
}

/// `name` gives a server's name.
pub(super) fn stated(lang: Lang, c: &StatedCause, name: &dyn Fn(u32) -> String) -> String {
    let node = name(c.node);
    let (what, lines) = (c.cause.name(lang), c.evidence.len());
    let more = match (lines, c.to - c.from, lang) {
        (1, ..) => String::new(),
        (n, _, Lang::English) => format!(" ({n} lines until {})", crate::time::clock(c.to)),
        (n, ..) => format!("（{n} 行，至 {}）", crate::time::clock(c.to)),
    };
    if lang == Lang::English {
        let peers = c.peers.iter().map(|p| name(*p)).collect::<Vec<_>>().join(",");
        let peers = if peers.is_empty() { peers } else { format!(" ({peers})") };
        format!("{node} states: {what}{peers}{more}")
    } else {
        let peers = c.peers.iter().map(|p| name(*p)).collect::<Vec<_>>().join("、");
        let peers = if peers.is_empty() { peers } else { format!("（{peers}）") };
        format!("{node} 的日志表明：{what}{peers}{more}")
    }
}

pub(super) fn stall(lang: Lang, node: &str, thing: &str, ms: u64) -> String {
    let length = seconds(ms as i64);
    match (lang, thing) {
        (Lang::English, "disk") => format!("disk of {node} stalled: fsync took {length} s"),
        (Lang::English, thing) => format!("{node} {thing} stood still for {length} s"),
        (Lang::Chinese, "disk") => format!("{node} 的磁盘停顿：fsync 耗时 {length} 秒"),
        (Lang::Chinese, _) => format!("{node} 的进程停顿 {length} 秒"),
    }
}

/// A leader that did not know yet of the next one, as `Story::stale` has it.
pub(super) fn stale(lang: Lang, t: &(u32, i64, LogMillis, LogMillis, Place), name: &dyn Fn(u32) -> String) -> String {
    let (node, length) = (name(t.0), seconds(t.3 - t.2));
    match lang {
        Lang::English => {
            format!("{node} still takes itself for the leader of epoch {} for {length} s: a stale leader that nobody follows, no split brain", t.1)
        }
        Lang::Chinese => {
            format!("{node} 仍自认为是 epoch {} 的 leader，持续 {length} 秒：过期的 leader，无节点跟随，不是脑裂", t.1)
        }
    }
}

/// `name` gives a server's name.
pub(super) fn late(lang: Lang, l: &Late, name: &dyn Fn(u32) -> String) -> String {
    let (from, to, all, worst) = (name(l.from), name(l.to), l.votes + l.prompt, seconds(l.worst_ms));
    let votes = l.votes;
    match (lang, l.one_way) {
        (Lang::English, true) => format!(
            "{votes} of {all} votes from {from} came to {to} up to {worst} s late, those from {to} to {from} did not: \
             the direction {from}→{to} was broken"
        ),
        (Lang::English, false) => format!("{votes} of {all} votes from {from} came to {to} up to {worst} s late"),
        (Lang::Chinese, true) => format!(
            "{from} 发给 {to} 的 {all} 条选举通知中有 {votes} 条延迟到达，最长 {worst} 秒，反方向正常：{from}→{to} 方向的链路有问题"
        ),
        (Lang::Chinese, false) => format!("{from} 发给 {to} 的 {all} 条选举通知中有 {votes} 条延迟到达，最长 {worst} 秒"),
    }
}

pub(super) fn lost(lang: Lang, l: &Lost, name: &dyn Fn(u32) -> String) -> String {
    let (from, to, until) = (name(l.from), name(l.to), crate::time::clock(l.until));
    let (votes, outages) = (l.votes, l.outages);
    match lang {
        Lang::English => {
            let s = if outages == 1 { "" } else { "s" };
            format!("no vote from {from} came to {to} while nobody led ({votes} votes in {outages} outage{s} until {until})")
        }
        Lang::Chinese => {
            format!("{from} 的选举通知在无 leader 期间均未到达 {to}（{outages} 次中断中共 {votes} 条，至 {until}）")
        }
    }
}

pub(super) fn unheard(lang: Lang, u: &Unheard, name: &dyn Fn(u32) -> String) -> String {
    let (me, leader, by) = (name(u.looking), name(u.leader), name(u.told_by));
    match lang {
        Lang::English => format!(
            "{by} tells {me} that {leader} leads, but no notification of {leader} reaches {me}, so {me} cannot decide \
             ({} s)",
            seconds(u.to - u.from)
        ),
        Lang::Chinese => format!(
            "{by} 告诉 {me}：leader 是 {leader}，但 {me} 收不到 {leader} 的选举通知，{me} 无法确定 leader（{} 秒）",
            seconds(u.to - u.from)
        ),
    }
}

pub(super) fn hypothesis(lang: Lang, h: &Hypothesis, name: &dyn Fn(u32) -> String) -> String {
    match (lang, *h) {
        (Lang::English, Hypothesis::Ended(n)) => format!("the process of {} ended", name(n)),
        (Lang::English, Hypothesis::Frozen(n)) => format!("{} stood still (process, machine or disk)", name(n)),
        (Lang::English, Hypothesis::Network(n)) => format!("the network of {} was bad", name(n)),
        (Lang::English, Hypothesis::Outgoing(n)) => {
            format!("what {} sends did not arrive at the others: its network, one way", name(n))
        }
        (Lang::English, Hypothesis::Incoming(n)) => {
            format!("what the others send did not arrive at {}: its network, one way", name(n))
        }
        (Lang::Chinese, Hypothesis::Outgoing(n)) => format!("{} 发出的消息到不了其他节点（单向故障）", name(n)),
        (Lang::Chinese, Hypothesis::Incoming(n)) => format!("其他节点的消息到不了 {}（单向故障）", name(n)),
        (Lang::English, Hypothesis::OneWay(a, b)) => format!("the direction {}→{} was broken", name(a), name(b)),
        (Lang::English, Hypothesis::Link(a, b)) => format!("the link between {} and {} was bad", name(a), name(b)),
        (Lang::Chinese, Hypothesis::Ended(n)) => format!("{} 的进程退出", name(n)),
        (Lang::Chinese, Hypothesis::Frozen(n)) => format!("{} 停顿（进程、机器或磁盘）", name(n)),
        (Lang::Chinese, Hypothesis::Network(n)) => format!("{} 的网络有问题", name(n)),
        (Lang::Chinese, Hypothesis::OneWay(a, b)) => format!("{}→{} 方向的链路有问题", name(a), name(b)),
        (Lang::Chinese, Hypothesis::Link(a, b)) => format!("{} 与 {} 之间的链路有问题", name(a), name(b)),
    }
}

pub(super) fn verdict(lang: Lang, v: &Verdict, name: &dyn Fn(u32) -> String) -> String {
    let en = lang == Lang::English;
    let scored = |s: &Scored| {
        let what = hypothesis(lang, &s.hypothesis, name);
        if en {
            format!("{what} ({} for, {} against)", s.support, s.contradicted)
        } else {
            format!("{what}（佐证 {}，矛盾 {}）", s.support, s.contradicted)
        }
    };
    let second =
        |s: &Scored| if en { format!("; runner-up: {}", scored(s)) } else { format!("；其次：{}", scored(s)) };
    match (&v.best, &v.runner_up) {
        (Some(best), next) => scored(best) + &next.as_ref().map_or(String::new(), second),
        (None, Some(one)) if en => format!("undecided; among others {}", scored(one)),
        (None, Some(one)) => format!("现有日志不足以判断原因；可能之一：{}", scored(one)),
        (None, None) if en => "undecided".into(),
        (None, None) => "现有日志不足以判断原因".into(),
    }
}
