//! The headline: the cause, and the worst that came of it.

use super::{Incident, Member};
use crate::catalogue::{rule, Impact};
use crate::language::Said;

/// Consequences in a headline; the rest stands below it.
const NAMED_MAX: usize = 2;

pub(super) fn of(i: &Incident) -> Said {
    let cause = i.likely.best.as_ref().map(|b| b.cause.clone());
    let is_cause = |m: &Member| {
        // The cause's name already implies these alerts, so the headline does not repeat them.
        cause.as_ref().is_some_and(|c| {
            let own = c.nodes();
            !own.is_empty()
                && m.subject.nodes().iter().any(|n| own.contains(n))
                && rule(m.rule).impact != Impact::Unavailable
        })
    };
    let mut effects: Vec<&Member> = i.members.values().filter(|m| !is_cause(m)).collect();
    effects.sort_by_key(|m| std::cmp::Reverse((rule(m.rule).impact, m.severity, m.lasted_ms, m.count)));
    let named: Vec<(String, String)> = effects
        .iter()
        .take(NAMED_MAX)
        .map(|m| {
            let t = rule(m.rule).title;
            let s = m.lasted_ms as f64 / 1e3;
            let (times_en, times_zh) = match m.count {
                0 | 1 => (String::new(), String::new()),
                n => (format!("{n} times, "), format!("{n} 次，")),
            };
            (format!("{} ({times_en}{s:.0} s in all)", t.en), format!("{}（{times_zh}共 {s:.0} 秒）", t.zh))
        })
        .collect();
    let en: Vec<&str> = named.iter().map(|n| n.0.as_str()).collect();
    let zh: Vec<&str> = named.iter().map(|n| n.1.as_str()).collect();
    match (&cause, en.is_empty()) {
        (Some(c), true) => c.said(),
        (Some(c), false) => {
            Said::new(format!("{}: {}", c.said().en, en.join(", ")), format!("{}：{}", c.said().zh, zh.join("，")))
        }
        (None, _) => Said::new(format!("{}; cause undecided", en.join(", ")), format!("{}；原因未定", zh.join("，"))),
    }
}
