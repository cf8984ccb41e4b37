//! Records of our own nodes in the language of the report: as they say it themselves, or, of earlier releases, by a table.

use super::Lang;
use crate::story::Note;
use trivet_events::{in_chinese, Subject};

impl Note {
    /// The record as a line for people; `name` is that of its node.
    pub fn told(&self, lang: Lang, name: &str) -> String {
        if lang == Lang::English {
            let why = if self.why.is_empty() { String::new() } else { format!(" ({})", self.why) };
            let more = self.last.as_ref().map_or(String::new(), |(count, at, last)| {
                format!("; {count} such changes in {:.1} s, the last: {last}", (at - self.at) as f64 / 1e3)
            });
            return format!("{name} {}: {}{why}{more}", self.subject, self.what);
        }
        let why = if self.why_zh.is_empty() { in_chinese(&self.why) } else { self.why_zh.clone() };
        let why = if why.is_empty() { why } else { format!("（{why}）") };
        let more = self.last.as_ref().map_or(String::new(), |(count, at, last)| {
            format!("；{:.1} 秒内共 {count} 次此类变化，最后：{}", (at - self.at) as f64 / 1e3, in_chinese(last))
        });
        format!("{name} {}：{}{why}{more}", subject(&self.subject), self.what(lang))
    }

    /// The event alone, without its subject and reason.
    pub fn what(&self, lang: Lang) -> String {
        match lang {
            Lang::English => self.what.clone(),
            Lang::Chinese if !self.what_zh.is_empty() => self.what_zh.clone(),
            Lang::Chinese => in_chinese(&self.what),
        }
    }
}

/// In Chinese. Alerts and orders come from other journals than events.
fn subject(name: &str) -> &str {
    match name {
        "alert" => "告警",
        "order" => "操作",
        _ => Subject::by_name(name).map_or(name, |s| s.in_chinese()),
    }
}
