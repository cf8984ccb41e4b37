//! Alerts and incidents for people and programs outside: Markdown, a page that needs nothing else, CSV.

use crate::alerts::Alert;
use crate::catalogue::rule;
use crate::incidents::Incident;
use crate::language::{Language, Text};
use std::collections::BTreeSet;
use std::fmt::Write;

const ALERT: Text = Text { en: "Alert", zh: "告警" };
const SUBJECT: Text = Text { en: "About", zh: "对象" };
const SEVERITY: Text = Text { en: "Severity", zh: "级别" };
const FIRST: Text = Text { en: "First seen (UTC)", zh: "首次出现（UTC）" };
const LAST: Text = Text { en: "Last seen (UTC)", zh: "最后出现（UTC）" };
const TIMES: Text = Text { en: "Times", zh: "次数" };
const LASTED: Text = Text { en: "Lasted, s", zh: "累计（秒）" };
const REASON: Text = Text { en: "Reason", zh: "原因" };
const CAUSE: Text = Text { en: "Likely cause", zh: "可能原因" };
const RUNNER_UP: Text = Text { en: "Next likely", zh: "次可能原因" };
const UNDECIDED: Text = Text { en: "undecided", zh: "未定" };
const AFFECTED: Text = Text { en: "Affected", zh: "受影响" };
const FROM: Text = Text { en: "Began", zh: "开始" };
const UNTIL: Text = Text { en: "Ended", zh: "结束" };
const LASTS: Text = Text { en: "it lasts", zh: "进行中" };
const HAPPENED: Text = Text { en: "What happened", zh: "经过" };
const FOLDED: Text = Text { en: "Alerts in this incident", zh: "本事件包含的告警" };
const TO_DO: Text = Text { en: "What to do", zh: "处理建议" };
const INCIDENT: Text = Text { en: "Incident", zh: "事件" };
const STATE: Text = Text { en: "State", zh: "状态" };

/// Seconds are enough in a report.
fn utc(at_ms: i64) -> String {
    crate::time_text(at_ms).get(..19).unwrap_or_default().replace('T', " ")
}

/// The cause with what speaks for it and against it.
pub fn cause(i: &Incident, l: Language) -> (String, Option<String>) {
    let said = |e: &crate::cause::Explanation| match l {
        Language::En => format!("{} ({} for, {} against)", e.cause.said().en, e.support, e.contradicted),
        Language::Zh => format!("{}（支持 {}，反对 {}）", e.cause.said().zh, e.support, e.contradicted),
    };
    let best = i.likely.best.as_ref().map_or(UNDECIDED.get(l).to_string(), said);
    (best, i.likely.runner_up.as_ref().map(said))
}

/// The advice for an incident: each text once, the worst alert's first.
pub fn actions(i: &Incident, l: Language) -> Vec<&'static str> {
    let mut members: Vec<_> = i.members.values().collect();
    members.sort_by_key(|m| (std::cmp::Reverse(m.severity), m.rule));
    let mut seen = BTreeSet::new();
    members.into_iter().map(|m| m.rule).filter(|r| seen.insert(*r)).map(|r| rule(r).action.get(l)).collect()
}

/// Names come from outside, and Markdown has characters that mean something.
fn md(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' => out.push(' '),
            '|' | '*' | '_' | '`' | '<' | '>' | '[' | ']' | '\\' | '#' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// The incident as a report in Markdown.
pub fn markdown(i: &Incident, l: Language) -> String {
    let mut s = format!("# {} {}: {}\n\n", INCIDENT.get(l), i.id, md(i.headline.get(l)));
    let until = i.closed_ms.map_or(LASTS.get(l).to_string(), utc);
    let (best, next) = cause(i, l);
    let _ = writeln!(s, "- {}: {} UTC", FROM.get(l), utc(i.opened_ms));
    let _ = writeln!(s, "- {}: {until}", UNTIL.get(l));
    let _ = writeln!(s, "- {}: {}", SEVERITY.get(l), i.severity.text().get(l));
    let _ = writeln!(s, "- {}: {}", CAUSE.get(l), md(&best));
    if let Some(next) = next {
        let _ = writeln!(s, "- {}: {}", RUNNER_UP.get(l), md(&next));
    }
    if !i.affected.is_empty() {
        let all: Vec<String> = i.affected.iter().map(|a| md(&a.get(l))).collect();
        let _ = writeln!(s, "- {}: {}", AFFECTED.get(l), all.join(", "));
    }
    let _ = writeln!(s, "\n## {}\n", TO_DO.get(l));
    for a in actions(i, l) {
        let _ = writeln!(s, "- {a}");
    }
    let _ = writeln!(s, "\n## {}\n", FOLDED.get(l));
    let heads = [ALERT, SUBJECT, SEVERITY, FIRST, LAST, TIMES, LASTED, REASON].map(|t| t.get(l));
    let _ = writeln!(s, "| {} |\n|{}", heads.join(" | "), "---|".repeat(heads.len()));
    for m in i.members.values() {
        let _ = writeln!(
            s,
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            rule(m.rule).name.replace('_', "\\_"),
            md(&m.subject.get(l)),
            m.severity.text().get(l),
            utc(m.first_ms),
            utc(m.last_ms),
            m.count,
            m.lasted_ms / 1000,
            md(m.reason.get(l))
        );
    }
    let _ = writeln!(s, "\n## {}\n", HAPPENED.get(l));
    for (at, what) in &i.log {
        let _ = writeln!(s, "- {} {}", utc(*at), md(what.get(l)));
    }
    s
}

fn esc(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

/// A page without scripts, fonts or pictures from elsewhere.
pub fn html(i: &Incident, l: Language) -> String {
    let mut s = format!(
        "<!doctype html><html lang=\"{}\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>{} {}</title>\
         <style>:root{{color-scheme:light dark}}body{{font:15px/1.5 system-ui,\"Noto Sans CJK SC\",sans-serif;max-width:70em;\
         margin:2em auto;padding:0 1em}}table{{border-collapse:collapse;width:100%}}th,td{{text-align:left;vertical-align:top;\
         padding:.3em .6em;border-bottom:1px solid #8886}}.x{{overflow-x:auto}}</style>",
        l.tag(),
        INCIDENT.get(l),
        esc(&i.id)
    );
    let until = i.closed_ms.map_or(LASTS.get(l).to_string(), |at| format!("{} UTC", utc(at)));
    let (best, next) = cause(i, l);
    let _ = write!(s, "<h1>{} {}: {}</h1><ul>", INCIDENT.get(l), esc(&i.id), esc(i.headline.get(l)));
    let mut item = |name: Text, value: &str| {
        let _ = write!(s, "<li>{}: {}</li>", name.get(l), esc(value));
    };
    item(FROM, &format!("{} UTC", utc(i.opened_ms)));
    item(UNTIL, &until);
    item(SEVERITY, i.severity.text().get(l));
    item(CAUSE, &best);
    if let Some(next) = next {
        item(RUNNER_UP, &next);
    }
    if !i.affected.is_empty() {
        let all: Vec<String> = i.affected.iter().map(|a| a.get(l)).collect();
        item(AFFECTED, &all.join(", "));
    }
    let _ = write!(s, "</ul><h2>{}</h2><ul>", TO_DO.get(l));
    for a in actions(i, l) {
        let _ = write!(s, "<li>{}</li>", esc(a));
    }
    let _ = write!(s, "</ul><h2>{}</h2><div class=\"x\" tabindex=\"0\"><table><tr>", FOLDED.get(l));
    for h in [ALERT, SUBJECT, SEVERITY, FIRST, LAST, TIMES, LASTED, REASON] {
        let _ = write!(s, "<th scope=\"col\">{}</th>", h.get(l));
    }
    for m in i.members.values() {
        let cells = [
            rule(m.rule).title.get(l).to_string(),
            m.subject.get(l),
            m.severity.text().get(l).to_string(),
            utc(m.first_ms),
            utc(m.last_ms),
            m.count.to_string(),
            (m.lasted_ms / 1000).to_string(),
            m.reason.get(l).to_string(),
        ];
        s += "</tr><tr>";
        for c in cells {
            let _ = write!(s, "<td>{}</td>", esc(&c));
        }
    }
    let _ = write!(s, "</tr></table></div><h2>{}</h2><ol>", HAPPENED.get(l));
    for (at, what) in &i.log {
        let _ = write!(s, "<li>{} UTC: {}</li>", utc(*at), esc(what.get(l)));
    }
    s + "</ol></html>"
}

/// A cell of a spreadsheet: quoted, and no formula. A text that begins like one gets an apostrophe before it.
fn cell(text: &str) -> String {
    let harmless = match text.trim_start().chars().next() {
        Some('=' | '+' | '-' | '@') => format!("'{text}"),
        _ if text.starts_with(['\t', '\r']) => format!("'{text}"),
        _ => text.to_string(),
    };
    format!("\"{}\"", harmless.replace('"', "\"\""))
}

/// UTF-8 with the mark by which spreadsheets know it.
pub fn csv(alerts: &[Alert], l: Language) -> String {
    let heads = [ALERT, SUBJECT, SEVERITY, STATE, FIRST, LAST, TIMES, LASTED, REASON];
    let mut s = String::from("\u{feff}");
    s += &heads.map(|h| cell(h.get(l))).join(",");
    s += "\r\n";
    for a in alerts {
        let state = format!("{:?}", a.state).to_lowercase();
        let row = [
            a.name().to_string(),
            a.subject.get(l),
            a.severity.text().get(l).to_string(),
            state,
            utc(a.since_ms),
            utc(a.last_seen_ms),
            a.count.to_string(),
            (a.lasted_ms / 1000).to_string(),
            a.reason.get(l).to_string(),
        ];
        s += &row.map(|c| cell(&c)).join(",");
        s += "\r\n";
    }
    s
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_formula_in_a_cell_is_text() {
        assert_eq!(cell("=1+1"), "\"'=1+1\"");
        assert_eq!(cell(" @x"), "\"' @x\"");
        assert_eq!(cell("a\"b"), "\"a\"\"b\"");
        assert_eq!(cell("节点 1"), "\"节点 1\"");
        assert!(csv(&[], Language::Zh).starts_with("\u{feff}\"告警\","));
    }

    #[test]
    fn hostile_names_are_only_text() {
        assert_eq!(md("a|b\n<script>"), "a\\|b \\<script\\>");
        assert_eq!(esc("<img src=x onerror='a'>"), "&lt;img src=x onerror=&#39;a&#39;&gt;");
    }
}
