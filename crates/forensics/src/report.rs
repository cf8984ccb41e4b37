//! The report: for people, in English or Chinese, as text, Markdown or a page, and as JSON.

mod blind;
mod chain;
mod json;
mod own_notes;
mod page;
mod reasons;
mod restarts;
mod words;

pub use blind::blind_spots;
pub use json::json;
pub use page::{html, svg};
pub use restarts::rolling;

use crate::causes::Stated;
use crate::nodes::Place;
use crate::story::{Story, What, NOBODY};
use crate::time::{self, LogMillis};
use crate::Analysis;
use words::{cause, seconds, what};

/// The language of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lang {
    /// English.
    English,
    /// Simplified Chinese.
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

/// An event of the report.
pub struct Event {
    /// When it happened, on the clock of the story.
    pub at: LogMillis,
    /// The event, as text.
    pub text: String,
    /// The lines in which it was read.
    pub evidence: Vec<Place>,
}

/// Where a line stands, as text.
pub fn place(a: &Analysis, p: &Place) -> String {
    format!("{}:{}", a.files.get(p.file as usize).map_or("?", String::as_str), p.line)
}

/// Everything that is told with a time, in order.
pub fn events(a: &Analysis, lang: Lang) -> Vec<Event> {
    let names = names(&a.story);
    let name = |id: u32| names.get(&id).cloned().unwrap_or_else(|| id.to_string());
    let en = lang == Lang::English;
    let list =
        |ids: &mut dyn Iterator<Item = u32>| ids.map(name).collect::<Vec<_>>().join(if en { "," } else { "、" });
    let mut out = Vec::new();
    let mut add = |at, text, evidence: Vec<Place>| out.push(Event { at, text, evidence });
    for o in &a.story.outages {
        let lost = list(&mut o.lost.iter().map(|l| l.0));
        let why = o.lost.last().map(|l| cause(lang, l.1)).unwrap_or("");
        let open = seconds(o.known_until.unwrap_or(a.story.last).max(o.from) - o.from);
        let length = match (o.to, o.known_until) {
            (Some(to), _) if en => format!("no quorum for {} s", seconds(to - o.from)),
            (Some(to), _) => format!("集群停止工作 {} 秒", seconds(to - o.from)),
            (None, None) if en => format!("no quorum until the end of the logs ({open} s)"),
            (None, None) => format!("集群停止工作，直到日志结束（{open} 秒）"),
            (None, Some(until)) if en => {
                format!("no quorum until {} at least ({open} s), for too few logs go on", time::clock(until))
            }
            (None, Some(until)) => format!("集群停止工作，至少到 {}（{open} 秒），之后日志不足", time::clock(until)),
        };
        if o.leader == NOBODY {
            add(
                o.seen,
                format!("{}{}{length}", what(lang, What::NeverElected), if en { ": " } else { "：" }),
                vec![o.ended],
            );
            continue;
        }
        let since = match o.seen - o.from {
            0 => String::new(),
            _ if en => format!(", begun between {} and {}", time::clock(o.from), time::clock(o.seen)),
            _ => format!("，实际开始于 {} 至 {} 之间", time::clock(o.from), time::clock(o.seen)),
        };
        let who = match (lost.is_empty(), en) {
            (false, true) => format!("{lost} lost it ({why})"),
            (false, false) => format!("{lost} 与其断开（{why}）"),
            (true, true) => "it stopped leading".into(),
            (true, false) => "其退出 leader 角色".into(),
        };
        let gave_up = match (o.gave_up.is_empty(), en) {
            (true, _) => String::new(),
            (false, true) => format!("; {}: {}", name(o.leader), o.gave_up),
            (false, false) => format!("；{}：{}", name(o.leader), reasons::reason(lang, &o.gave_up)),
        };
        let (comma, semicolon) = if en { (", ", "; ") } else { ("，", "；") };
        let first = if en { semicolon } else { comma };
        let text = format!(
            "leader={}{first}{who}{comma}{length}{since}{semicolon}{}{gave_up}",
            name(o.leader),
            what(lang, o.what)
        );
        let text = match o.what {
            What::AllStopped => format!("leader={}{first}{}{comma}{length}{since}", name(o.leader), what(lang, o.what)),
            _ => text,
        };
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
        let report = reasons::reason(lang, &w.report);
        let text = match (report.is_empty(), en) {
            (true, _) => text,
            (false, true) => format!("{text} ({report})"),
            (false, false) => format!("{text}（{report}）"),
        };
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
    for l in &a.lost {
        add(l.since, words::lost(lang, l, &name), l.evidence.clone());
    }
    for u in &a.unheard {
        add(u.from, words::unheard(lang, u, &name), u.evidence.clone());
    }
    for (node, until, ms, thing, at) in a.story.stalls.iter().filter(|s| s.2 >= 1_000) {
        add(*until, words::stall(lang, &name(*node), thing, *ms), vec![*at]);
    }
    let rolling = rolling(&a.story);
    if !rolling.is_empty() {
        let all: Vec<_> = rolling.iter().map(|r| (name(r.node), seconds(r.at - r.since()))).collect();
        add(rolling[0].after, words::rolling(lang, &all), rolling.iter().map(|r| r.place).collect());
    }
    let again = restarts::again_and_again(&a.story);
    for row in &again {
        add(row[0].at, words::again_and_again(lang, row, &name(row[0].node)), row.iter().map(|r| r.place).collect());
    }
    let told = |r: &crate::story::Restart| again.iter().flatten().any(|t| (t.node, t.at) == (r.node, r.at));
    for r in a.story.restarts.iter().filter(|r| !told(r)) {
        add(r.at, words::restart(lang, r, &name(r.node)), vec![r.place]);
    }
    for c in &a.story.causes {
        add(c.from, words::stated(lang, c, &name), c.evidence.clone());
    }
    for (node, at, count, place) in &a.story.expired {
        add(*at, words::expired(lang, &name(*node), *count), vec![*place]);
    }
    for t in &a.story.stale {
        add(t.2, words::stale(lang, t, &name), vec![t.4]);
    }
    for n in &a.story.notes {
        add(n.at, n.told(lang, &name(n.node)), n.evidence.clone());
    }
    for e in &a.site {
        add(e.at, e.told(lang), vec![e.place]);
    }
    for (at, words, place) in &a.remarks {
        add(*at, if en { format!("noted by hand: {words}") } else { format!("手工备注：{words}") }, vec![*place]);
    }
    out.sort_by_key(|e| e.at);
    out
}

/// The consequences of each outage at hypervisors.
pub fn chains(a: &Analysis, lang: Lang) -> Vec<String> {
    a.story.outages.iter().filter_map(|o| chain::text(o, a, lang)).collect()
}

/// The advice for each cause that lines state, once per cause.
pub fn advice(a: &Analysis, lang: Lang) -> Vec<String> {
    let mut seen = std::collections::BTreeSet::new();
    let once = a.story.causes.iter().filter(|c| seen.insert(c.cause));
    let colon = if lang == Lang::English { ": " } else { "：" };
    once.map(|c| format!("{}{colon}{}", c.cause.name(lang), c.cause.advice(lang))).collect()
}

/// A clock that is nearer to the first server's is not worth a word.
const SHOWN_MS: i64 = 50;

/// The servers of the report, and its first day.
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
    let between = if en { "; " } else { "；" };
    let known = match (story.timeout_known, en) {
        (true, _) => "",
        (false, true) => ", assumed",
        (false, false) => "，假定",
    };
    let limit = match (story.own == story.read && !story.own.is_empty(), en) {
        (true, _) => String::new(),
        (false, true) => format!("  (read time-out {} s{known})", seconds(story.timeout_ms as i64)),
        (false, false) => format!("（读超时 {} 秒{known}）", seconds(story.timeout_ms as i64)),
    };
    let zone = if a.zone.is_empty() { String::new() } else { format!(" {}", a.zone) };
    format!("{}{zone}  {}{limit}", time::day(story.first), servers.join(between))
}

/// How much there was, and what these logs cannot tell.
fn sum(a: &Analysis, lang: Lang) -> String {
    // An open outage lasts at least until the end of the logs.
    let length = |o: &crate::story::Outage| o.to.or(o.known_until).unwrap_or(a.story.last).max(o.from) - o.from;
    let known_ms: i64 = a.story.outages.iter().map(length).sum();
    let open = a.story.outages.iter().any(|o| o.to.is_none());
    let (count, all) = (a.story.outages.len(), seconds(known_ms));
    match (lang, open) {
        (Lang::English, open) => {
            let least = if open { "at least " } else { "" };
            format!("{count} outage{}, {least}{all} s in all.", if count == 1 { "" } else { "s" })
        }
        (Lang::Chinese, true) => format!("共 {count} 次中断，合计至少 {all} 秒，最后一次至日志结束仍未恢复。"),
        (Lang::Chinese, false) => format!("共 {count} 次中断，合计 {all} 秒。"),
    }
}

/// The first line of every form: how much there was, and the most likely cause. Chinese sentences stand without a space.
fn opening(a: &Analysis, lang: Lang) -> String {
    let space = if lang == Lang::English { " " } else { "" };
    format!("{}{space}{}", sum(a, lang), verdict(a, lang))
}

fn verdict(a: &Analysis, lang: Lang) -> String {
    let names = names(&a.story);
    let name = |id: u32| names.get(&id).cloned().unwrap_or_else(|| id.to_string());
    let head = if lang == Lang::English { "Most likely: " } else { "结论：" };
    format!("{head}{}{}", words::verdict(lang, &a.verdict, &name), stated_in(&a.story, lang, &name))
}

/// Causes that lines state about an outage or a follower's absence, or about a server that did not come up, each with its
/// servers.
pub fn stated_causes(story: &Story) -> Vec<(Stated, Vec<u32>)> {
    let mut out: Vec<(Stated, Vec<u32>)> = Vec::new();
    for c in story.causes.iter().filter(|c| c.cause.matters()) {
        match out.iter_mut().find(|o| o.0 == c.cause) {
            Some(known) if known.1.contains(&c.node) => {}
            Some(known) => known.1.push(c.node),
            None => out.push((c.cause, vec![c.node])),
        }
    }
    out.iter_mut().for_each(|o| o.1.sort_unstable());
    out
}

/// Stated causes that the verdict names; the others have lines of their own.
const STATED_TOLD_MAX: usize = 3;

fn stated_in(story: &Story, lang: Lang, name: &dyn Fn(u32) -> String) -> String {
    let en = lang == Lang::English;
    let one = |(cause, nodes): &(Stated, Vec<u32>)| {
        let nodes = nodes.iter().map(|n| name(*n)).collect::<Vec<_>>().join(if en { "," } else { "、" });
        if en {
            format!("{} ({nodes})", cause.name(lang))
        } else {
            format!("{}（{nodes}）", cause.name(lang))
        }
    };
    let all: Vec<String> = stated_causes(story).iter().take(STATED_TOLD_MAX).map(one).collect();
    match (all.is_empty(), en) {
        (true, _) => String::new(),
        (_, true) => format!("; the logs state: {}", all.join("; ")),
        (_, false) => format!("；日志表明：{}", all.join("；")),
    }
}

/// Places that follow a line of the report; the JSON has all of them.
const EVIDENCE_MAX: usize = 3;

fn evidence(a: &Analysis, e: &Event, max: usize) -> String {
    let more = if e.evidence.len() > max { ", ..." } else { "" };
    let shown: Vec<String> = e.evidence.iter().take(max).map(|p| place(a, p)).collect();
    format!("[{}{more}]", shown.join(", "))
}

/// The human timeline: a line for each change of the quorum, then what the logs cannot tell. `verbose`: with every line
/// that an event was read in.
pub fn text(a: &Analysis, lang: Lang, verbose: bool) -> String {
    let mut out = String::new();
    wrap(&format!("# {}", opening(a, lang)), "#   ", &mut out);
    wrap(&format!("# {}", heading(a, lang)), "#   ", &mut out);
    let mut day = time::day(a.story.first);
    for e in events(a, lang) {
        if time::day(e.at) != day {
            day = time::day(e.at);
            out += &format!("# {day}\n");
        }
        let places = evidence(a, &e, if verbose { usize::MAX } else { EVIDENCE_MAX });
        wrap(&format!("{}  {}", time::clock(e.at), e.text), INDENT, &mut out);
        wrap(&format!("{INDENT}{places}"), INDENT, &mut out);
    }
    chains(a, lang).iter().for_each(|c| wrap(&format!("# {c}"), "#   ", &mut out));
    notes(a, lang).iter().for_each(|b| wrap(&format!("# {b}"), "#   ", &mut out));
    out
}

/// Columns of a line for people. A Chinese character takes two.
const COLUMNS: usize = 120;
/// Indentation below a time. A line that begins with it and a bracket is evidence.
pub const INDENT: &str = "              ";

fn columns(c: char) -> usize {
    1 + usize::from(
        matches!(c as u32, 0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f | 0xff00..=0xff60 | 0xffe0..=0xffe6),
    )
}

/// Adds a line, broken at blanks or between Chinese characters where it is longer than `COLUMNS`.
fn wrap(text: &str, indent: &str, out: &mut String) {
    let (mut line, mut width, mut brk) = (String::new(), 0, None);
    for c in text.chars() {
        if width + columns(c) > COLUMNS {
            // A word that is as long as the line is broken anywhere.
            let at: usize = brk.unwrap_or(line.len());
            let rest = line.split_off(at);
            out.push_str(line.trim_end());
            out.push('\n');
            line = format!("{indent}{}", rest.trim_start());
            width = line.chars().map(columns).sum();
            brk = None;
        }
        let blank = c == ' ' && !line.trim().is_empty() && line.trim() != "#";
        if blank || columns(c) == 2 && !"，。；：、）".contains(c) && line.len() > indent.len() {
            brk = Some(line.len());
        }
        line.push(c);
        width += columns(c);
    }
    out.push_str(line.trim_end());
    out.push('\n');
}

/// The advice, the complaints about the inputs and the gaps in their evidence.
fn notes(a: &Analysis, lang: Lang) -> Vec<String> {
    let to_do = if lang == Lang::English { "To do: " } else { "处理：" };
    let mut out: Vec<String> = advice(a, lang).into_iter().map(|t| format!("{to_do}{t}")).collect();
    out.extend(a.complaints.iter().map(|c| c.text(lang)));
    out.extend(blind_spots(a, lang));
    out
}

/// The same for a ticket.
pub fn markdown(a: &Analysis, lang: Lang) -> String {
    let escape = |s: &str| s.replace('|', "\\|").replace('<', "&lt;");
    let (time, what, where_) =
        if lang == Lang::English { ("time", "what", "evidence") } else { ("时间", "事件", "依据") };
    let mut out = format!("**{}**\n\n{}\n\n", escape(&opening(a, lang)), escape(&heading(a, lang)));
    out += &format!("| {time} | {what} | {where_} |\n|---|---|---|\n");
    for e in events(a, lang) {
        let places = evidence(a, &e, EVIDENCE_MAX);
        let at = time::long(e.at).replace('T', " ");
        out += &format!("| {at} | {} | `{}` |\n", escape(&e.text), places.trim_matches(['[', ']']));
    }
    let spots: String = notes(a, lang).iter().map(|b| format!("- {}\n", escape(b))).collect();
    let chains: String = chains(a, lang).iter().map(|c| format!("- {}\n", escape(c))).collect();
    out + &format!("\n{chains}{spots}")
}
