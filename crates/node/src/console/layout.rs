//! The frame of every page, and the small things that all pages use.

use super::texts as t;
use super::Context;
use maud::{html, Markup, PreEscaped, DOCTYPE};
pub use trivet_observe::bytes_text as bytes;
use trivet_observe::catalogue::Severity;
use trivet_observe::health::Level;
use trivet_observe::language::Text;

/// The pages with their paths, in the order of the navigation.
pub const PAGES: [(&str, Text); 8] = [
    ("/", t::OVERVIEW),
    ("/incidents", t::INCIDENTS),
    ("/alerts", t::ALERTS),
    ("/network", t::NETWORK),
    ("/nodes", t::NODES),
    ("/datastores", t::DATASTORES),
    ("/activity", t::ACTIVITY),
    ("/settings", t::SETTINGS),
];

/// `live`: the page renews itself where scripts run.
pub fn page(c: &Context, title: &str, live: bool, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang=(c.language.tag()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width,initial-scale=1";
                title { (title) " · Trivet" }
                link rel="stylesheet" href="/assets/console.css";
                link rel="icon" href="data:,";
                script src="/assets/console.js" defer {}
            }
            body {
                a.skip href="#main" { (c.t(t::SKIP)) }
                header {
                    b { "Trivet" }
                    span.s { (c.t(t::CLUSTER)) " " (c.cluster) " · " (c.t(t::SEEN_FROM)) " " (c.node) }
                    nav aria-label=(c.t(t::PAGES)) {
                        ul {
                            @for (path, text) in PAGES {
                                @let here = c.path == path || (path != "/" && c.path.starts_with(path));
                                li {
                                    a href=(path) aria-current=[here.then_some("page")] { (c.t(text)) }
                                }
                            }
                        }
                    }
                    div.r {
                        span #zone { "UTC" }
                        form method="post" action="/language" {
                            input type="hidden" name="back" value=(c.path);
                            input type="hidden" name="language" value=(if c.t(t::OVERVIEW) == t::OVERVIEW.en { "zh" } else { "en" });
                            button lang=(if c.t(t::OVERVIEW) == t::OVERVIEW.en { "zh-CN" } else { "en" }) { (c.t(t::OTHER_LANGUAGE)) }
                        }
                        @if let Some(user) = &c.user {
                            span { (user.name) }
                            @if user.signed_in {
                                form method="post" action="/logout" { (c.csrf()) button { (c.t(t::SIGN_OUT)) } }
                            } @else {
                                a href="/login" { (c.t(t::SIGN_IN)) }
                            }
                        } @else {
                            a href="/login" { (c.t(t::SIGN_IN)) }
                        }
                    }
                }
                main #main data-live=[live.then_some("1")] { (body) }
            }
        }
    }
}

/// Columns of figures: their heads stand to the right, as the figures do.
const FIGURES: [Text; 20] = [
    t::FILES,
    t::SIZE,
    t::WANTED,
    t::EXTENTS,
    t::OWNER,
    t::IN_SYNC,
    t::MISSING,
    t::FREE,
    t::SYNC,
    t::BAD_BLOCKS,
    t::CALLS_MINUTE,
    t::MEDIAN,
    t::P99,
    t::READS,
    t::WRITES,
    t::TIMES,
    t::HOLD,
    t::LATENCY,
    t::CONNECTIONS,
    t::OUTSTANDING,
];

/// The head of a column.
pub fn head(c: &Context, text: Text) -> Markup {
    let figures = FIGURES.contains(&text);
    html! { th.n[figures] scope="col" { (c.t(text)) } }
}

/// A moment, in UTC; scripts show it in the browser's zone.
pub fn time(at_ms: i64) -> Markup {
    let text = trivet_observe::time_text(at_ms);
    let day = text.get(..19).unwrap_or(&text).replace('T', " ");
    html! { time datetime=(format!("{text}Z")) { (day) " UTC" } }
}

/// `4 min 12 s`.
pub fn duration(ms: i64) -> String {
    let s = ms.max(0) / 1000;
    match s {
        0..=119 => format!("{s} s"),
        120..=7_199 => format!("{} min {} s", s / 60, s % 60),
        7_200..=172_799 => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3_600),
    }
}

pub fn severity_class(s: Severity) -> &'static str {
    match s {
        Severity::Critical => "crit",
        Severity::Warning => "warn",
        Severity::Info => "s",
    }
}

pub fn level_class(l: Level) -> &'static str {
    match l {
        Level::Ok => "ok",
        Level::Degraded => "warn",
        Level::Unavailable => "crit",
    }
}

/// A severity, by its word as well as by its colour.
pub fn severity(c: &Context, s: Severity) -> Markup {
    html! { span class=(format!("t {}", severity_class(s))) { (c.t(s.text())) } }
}

/// Text that was made here and needs no escaping: SVG.
pub fn raw(svg: String) -> Markup {
    PreEscaped(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_read_well() {
        assert_eq!((duration(90_000), duration(3_700_000)), ("90 s".into(), "61 min 40 s".into()));
    }
}
