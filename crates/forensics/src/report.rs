//! The report: for people, in English or Chinese, as text, Markdown or a page, and as JSON.

mod blind;
mod json;
mod page;
mod words;

pub use blind::blind_spots;
pub use json::json;
pub use page::{html, svg};

use crate::nodes::Place;
use crate::story::Story;
use crate::time::{self, LogMillis};
use crate::Analysis;
use words::{cause, seconds, what};

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

/// One thing that happened.
pub struct Event {
    pub at: LogMillis,
    pub text: String,
    pub evidence: Vec<Place>,
}

/// Where a line stands, for people.
pub fn place(a: &Analysis, p: &Place) -> String {
    format!("{}:{}", a.files.get(p.file as usize).map_or("?", String::as_str), p.line)
}

/// Everything that is told with a time, in order.
pub fn events(a: &Analysis, lang: Lang) -> Vec<Event> {
    let names = names(&a.story);
    let name = |id: u32| names.get(&id).cloned().unwrap_or_else(|| id.to_string());
    let list = |ids: &mut dyn Iterator<Item = u32>| ids.map(name).collect::<Vec<_>>().join(",");
    let en = lang == Lang::English;
    let mut out = Vec::new();
    let mut add = |at, text, evidence: Vec<Place>| out.push(Event { at, text, evidence });
    for o in &a.story.outages {
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
        let gave_up = if o.gave_up.is_empty() { String::new() } else { format!("; {}: {}", name(o.leader), o.gave_up) };
        let comma = if en { "; " } else { "，" };
        let text = format!("leader={}{comma}{who}, {length}{since}; {}{gave_up}", name(o.leader), what(lang, o.what));
        add(o.seen, text, o.evidence());
    }
    for w in &a.story.quorum {
        let followers = list(&mut w.followers.iter().copied());
        let leader = name(w.leader);
        let text = match (en, w.resumed) {
            (true, false) => format!("leader={leader}, followers={followers}, epoch {}: works", w.epoch),
            (true, true) => {
                format!("leader={leader} goes on without an election, followers={followers}, epoch {}: works", w.epoch)
            }
            (false, false) => format!("leader={leader}，follower={followers}，epoch {}，正常工作", w.epoch),
            (false, true) => format!("leader={leader} 未经选举继续，follower={followers}，epoch {}，正常工作", w.epoch),
        };
        let text = if w.report.is_empty() { text } else { format!("{text} ({})", w.report) };
        add(w.from, text, vec![w.began]);
    }
    for d in &a.story.departures {
        let silent = match d.cause {
            Some(crate::facts::Cause::Timeout) if !a.story.own.contains(&d.node) => {
                let since = time::clock(d.at - a.story.timeout_ms as i64);
                if en {
                    format!(", silent since {since} at the latest")
                } else {
                    format!("，最晚自 {since} 起无响应")
                }
            }
            _ => String::new(),
        };
        let back = match d.back {
            Some(back) if en => format!(", back after {} s", seconds(back - d.at)),
            Some(back) => format!("，{} 秒后恢复", seconds(back - d.at)),
            None => String::new(),
        };
        add(d.at, words::departure(lang, d, &name) + &silent + &back, vec![d.place]);
    }
    for l in &a.late {
        add(l.since, words::late(lang, l, &name), l.evidence.clone());
    }
    for u in &a.unheard {
        add(u.from, words::unheard(lang, u, &name), u.evidence.clone());
    }
    for (node, until, ms, thing, at) in a.story.stalls.iter().filter(|s| s.2 >= 1_000) {
        add(*until, words::stall(lang, &name(*node), thing, *ms), vec![*at]);
    }
    for t in &a.story.stale {
        add(t.2, words::stale(lang, t, &name), vec![t.4]);
    }
    for (node, at, subject, what, why, place) in &a.story.notes {
        let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
        add(*at, format!("{} {subject}: {what}{why}", name(*node)), vec![*place]);
    }
    out.sort_by_key(|e| e.at);
    out
}

/// A clock that is nearer to the first server's is not worth a word.
const SHOWN_MS: i64 = 50;

/// Who is spoken of, and since which day.
fn heading(a: &Analysis, lang: Lang) -> String {
    let story = &a.story;
    let names = names(story);
    let en = lang == Lang::English;
    let server = |id: &u32| {
        let name = names.get(id).cloned().unwrap_or_default();
        let address = story.addresses.get(id).map_or(String::new(), |a| format!(" {a}"));
        let version = story.versions.get(id).map_or(String::new(), |v| format!(" {v}"));
        let clock = match a.offsets.get(id) {
            Some(o) if o.ms.abs() > o.error_ms + SHOWN_MS && en => {
                format!(" (clock {:+.3} s ± {:.3})", o.ms as f64 / 1e3, o.error_ms as f64 / 1e3)
            }
            Some(o) if o.ms.abs() > o.error_ms + SHOWN_MS => {
                format!("（时钟 {:+.3} 秒 ± {:.3}）", o.ms as f64 / 1e3, o.error_ms as f64 / 1e3)
            }
            _ => String::new(),
        };
        let missing = match (story.read.contains(id), en) {
            (true, _) => "",
            (false, true) => " (no log)",
            (false, false) => "（无日志）",
        };
        format!("{name}=myid {id}{address}{version}{clock}{missing}")
    };
    let servers: Vec<String> = story.servers.iter().map(server).collect();
    let known = match (story.timeout_known, en) {
        (true, _) => "",
        (false, true) => ", assumed",
        (false, false) => "，假定",
    };
    let limit = match (story.own == story.read && !story.own.is_empty(), en) {
        (true, _) => String::new(),
        (false, true) => format!("  (read time-out {} s{known})", seconds(story.timeout_ms as i64)),
        (false, false) => format!("  (读超时 {} s{known})", seconds(story.timeout_ms as i64)),
    };
    let zone = if a.zone.is_empty() { String::new() } else { format!(" {}", a.zone) };
    format!("{}{zone}  {}{limit}", time::day(story.first), servers.join("; "))
}

/// How much there was, and what these logs cannot tell.
fn sum(a: &Analysis, lang: Lang) -> String {
    let known_ms: i64 = a.story.outages.iter().filter_map(|o| Some(o.to? - o.from)).sum();
    let (count, all) = (a.story.outages.len(), seconds(known_ms));
    if lang == Lang::English {
        format!("{count} outage{}, {all} s in all.", if count == 1 { "" } else { "s" })
    } else {
        format!("共 {count} 次中断，合计 {all} 秒。")
    }
}

fn verdict(a: &Analysis, lang: Lang) -> String {
    let names = names(&a.story);
    let name = |id: u32| names.get(&id).cloned().unwrap_or_else(|| id.to_string());
    let head = if lang == Lang::English { "Most likely: " } else { "判断：" };
    format!("{head}{}", words::verdict(lang, &a.verdict, &name))
}

/// So many places stand behind a line; the rest is in the JSON.
const EVIDENCE_MAX: usize = 3;

fn evidence(a: &Analysis, e: &Event, max: usize) -> String {
    let more = if e.evidence.len() > max { ", ..." } else { "" };
    let shown: Vec<String> = e.evidence.iter().take(max).map(|p| place(a, p)).collect();
    format!("[{}{more}]", shown.join(", "))
}

/// The human timeline: a line for each change of the quorum, then what the logs cannot tell. `verbose`: with every line
/// that an event was read in.
pub fn text(a: &Analysis, lang: Lang, verbose: bool) -> String {
    let mut out = format!("# {}\n", heading(a, lang));
    let mut day = time::day(a.story.first);
    for e in events(a, lang) {
        if time::day(e.at) != day {
            day = time::day(e.at);
            out += &format!("# {day}\n");
        }
        let places = evidence(a, &e, if verbose { usize::MAX } else { EVIDENCE_MAX });
        out += &format!("{}  {}  {places}\n", time::clock(e.at), e.text);
    }
    out += &format!("# {}\n# {}\n", verdict(a, lang), sum(a, lang));
    notes(a, lang).iter().for_each(|b| out += &format!("# {b}\n"));
    out
}

/// What is wrong with the inputs, and what they cannot tell.
fn notes(a: &Analysis, lang: Lang) -> Vec<String> {
    let mut out: Vec<String> = a.complaints.iter().map(|c| c.text(lang)).collect();
    out.extend(blind_spots(a, lang));
    out
}

/// The same for a ticket.
pub fn markdown(a: &Analysis, lang: Lang) -> String {
    let escape = |s: &str| s.replace('|', "\\|").replace('<', "&lt;");
    let (time, what, where_) =
        if lang == Lang::English { ("time", "what", "evidence") } else { ("时间", "事件", "依据") };
    let mut out = format!("**{}**\n\n{}\n\n", escape(&verdict(a, lang)), escape(&heading(a, lang)));
    out += &format!("| {time} | {what} | {where_} |\n|---|---|---|\n");
    for e in events(a, lang) {
        let places = evidence(a, &e, EVIDENCE_MAX);
        let at = time::long(e.at).replace('T', " ");
        out += &format!("| {at} | {} | `{}` |\n", escape(&e.text), places.trim_matches(['[', ']']));
    }
    let spots: String = notes(a, lang).iter().map(|b| format!("- {}\n", escape(b))).collect();
    out + &format!("\n{}\n\n{spots}", escape(&sum(a, lang)))
}
