//! A page that needs nothing else: lanes of the servers, the quorum above them, what happened below, with its lines.

use super::{events, heading, names, opening, place, Lang};
use crate::story::Role;
use crate::time::{self, LogMillis};
use crate::Analysis;
use std::fmt::Write;

const WIDTH: f64 = 1_000.0;
const LANE: f64 = 26.0;
const LEFT: f64 = 70.0;
/// Approximate number of time marks below the lanes.
const TICKS: i64 = 8;

fn escape(s: &str) -> String {
    s.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The drawing alone. Colours are classes, so that a page may choose them; it brings its own.
pub fn svg(a: &Analysis, lang: Lang) -> String {
    let story = &a.story;
    let names = names(story);
    let (first, last) = (story.first, story.last.max(story.first + 1));
    let x =
        |at: LogMillis| LEFT + (at.clamp(first, last) - first) as f64 / (last - first) as f64 * (WIDTH - LEFT - 10.0);
    let lanes: Vec<u32> = story.servers.iter().copied().collect();
    let y = |lane: usize| 6.0 + LANE * lane as f64;
    let height = y(lanes.len() + 1) + 24.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\
         <title>{}</title><style>{STYLE}</style>",
        escape(&heading(a, lang))
    );
    let mut bar = |class: &str, lane: usize, from: LogMillis, to: LogMillis, title: &str| {
        let _ = write!(
            out,
            "<rect class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{}\"><title>{}</title></rect>",
            x(from),
            y(lane) + 3.0,
            (x(to) - x(from)).max(0.8),
            LANE - 6.0,
            escape(title)
        );
    };
    for w in &story.quorum {
        let title = format!("leader={} epoch {}", names.get(&w.leader).map_or("?", String::as_str), w.epoch);
        bar("works", 0, w.from, w.to.unwrap_or(last), &title);
    }
    for o in &story.outages {
        bar("unsure", 0, o.from, o.seen, &time::clock(o.from));
        bar("down", 0, o.seen, o.to.unwrap_or(last), &time::clock(o.seen));
    }
    for r in &story.roles {
        let Some(lane) = lanes.iter().position(|n| *n == r.node) else { continue };
        let (class, what) = match r.role {
            Role::Leader => ("leader", "leader"),
            Role::Follower => ("follower", "follower"),
            Role::None => ("looking", "looking"),
        };
        bar(class, lane + 1, r.from, r.to.unwrap_or(last), &format!("{what} {}", time::clock(r.from)));
    }
    let text = |out: &mut String, x: f64, y: f64, anchor: &str, text: &str| {
        let _ = write!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escape(text));
    };
    text(&mut out, LEFT - 6.0, y(0) + 17.0, "end", if lang == Lang::English { "quorum" } else { "集群" });
    for (i, node) in lanes.iter().enumerate() {
        text(&mut out, LEFT - 6.0, y(i + 1) + 17.0, "end", names.get(node).map_or("?", String::as_str));
    }
    let mut arrow = |class: &str, (from, to): (u32, u32), (since, until): (LogMillis, LogMillis)| {
        let lane = |n: u32| lanes.iter().position(|m| *m == n).map(|i| y(i + 1) + LANE / 2.0);
        let (Some(begin), Some(end)) = (lane(from), lane(to)) else { return };
        let _ = write!(
            out,
            "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{begin:.1}\" x2=\"{:.1}\" y2=\"{end:.1}\"><title>{} {}</title></line>\
             <circle class=\"{class}\" cx=\"{:.1}\" cy=\"{end:.1}\" r=\"2.5\"/>",
            x(since),
            x(until),
            time::clock(since),
            time::clock(until),
            x(until)
        );
    };
    a.silent.iter().for_each(|l| arrow("silent", (l.from, l.to), (l.since, l.until)));
    // The arrow is as long as the slowest vote took, not as long as all of them together.
    a.late.iter().for_each(|l| arrow("late", (l.from, l.to), (l.since, l.until.min(l.since + l.worst_ms))));
    for r in &story.restarts {
        let Some(lane) = lanes.iter().position(|n| *n == r.node) else { continue };
        let _ = write!(
            out,
            "<path class=\"restart\" d=\"M{:.1} {:.1}v{}\"><title>{}</title></path>",
            x(r.at),
            y(lane + 1) + 1.0,
            LANE - 2.0,
            escape(&super::words::restart(lang, r, names.get(&r.node).map_or("?", String::as_str)))
        );
    }
    let (step, days) = (step(last - first), time::day(first) != time::day(last));
    let mut at = first.div_euclid(step) * step;
    let mut free = LEFT - 30.0;
    while at <= last {
        let label = match (step % 1_000, step >= DAY_MS, days) {
            (_, true, _) => time::day(at),
            (0, _, true) => format!("{} {}", &time::day(at)[5..], &time::clock(at)[..8]),
            (0, ..) => time::clock(at)[..8].to_string(),
            _ => time::clock(at),
        };
        let half = label.len() as f64 * LETTER / 2.0;
        // Labels keep clear of each other and of the edges.
        let center = x(at).max(half).min(WIDTH - half);
        if at >= first && center - half > free {
            text(&mut out, center, height - 6.0, "middle", &label);
            free = center + half + LETTER;
        }
        at += step;
    }
    out + "</svg>\n"
}

/// Between marks of time lies a round time: about `TICKS` fit.
fn step(span_ms: i64) -> i64 {
    const ROUND: [i64; 24] = [
        10,
        50,
        100,
        500,
        1_000,
        2_000,
        5_000,
        10_000,
        15_000,
        30_000,
        60_000,
        120_000,
        300_000,
        600_000,
        900_000,
        1_800_000,
        3_600_000,
        7_200_000,
        10_800_000,
        21_600_000,
        43_200_000,
        DAY_MS,
        2 * DAY_MS,
        7 * DAY_MS,
    ];
    let wanted = span_ms / TICKS;
    let more = wanted.div_euclid(7 * DAY_MS) * 7 * DAY_MS;
    ROUND.into_iter().find(|s| *s >= wanted).unwrap_or(more.max(7 * DAY_MS))
}

const DAY_MS: i64 = 86_400_000;
/// Width of a letter of a label.
const LETTER: f64 = 6.0;

const STYLE: &str = "text{font:11px sans-serif;fill:#555}.works{fill:#4a9d5b}.down{fill:#c8372d}.unsure{fill:#e8a39e}\
    .leader{fill:#2f6fb2}.follower{fill:#9cc3e6}.looking{fill:#e0b040}.silent{stroke:#333;stroke-width:1;stroke-dasharray:3 2;fill:#333}\
    .restart{stroke:#000;stroke-width:2}.late{stroke:#8a2be2;stroke-width:1.5;fill:#8a2be2}\
    @media(prefers-color-scheme:dark){text{fill:#bbb}.restart{stroke:#fff}.follower{fill:#456d92}.silent{stroke:#eee;fill:#eee}.unsure{fill:#7a3a36}}";

/// The report as a self-contained HTML page.
pub fn html(a: &Analysis, lang: Lang) -> String {
    let en = lang == Lang::English;
    let mut rows = String::new();
    let days = time::day(a.story.first) != time::day(a.story.last);
    for e in events(a, lang) {
        let at = if days { time::long(e.at).replace('T', " ") } else { time::clock(e.at) };
        let lines: Vec<String> = e.evidence.iter().map(|p| format!("<li>{}</li>", escape(&place(a, p)))).collect();
        let _ = write!(
            rows,
            "<tr><td>{}</td><td><details><summary>{}</summary><ul>{}</ul></details></td></tr>",
            at,
            escape(&e.text),
            lines.concat()
        );
    }
    let legend = if en {
        [
            ("works", "quorum works"),
            ("unsure", "may have begun"),
            ("down", "no quorum"),
            ("leader", "leader"),
            ("follower", "follower"),
            ("looking", "looking"),
            ("late", "late votes"),
            ("silent", "leader and follower do not hear each other"),
        ]
    } else {
        [
            ("works", "正常工作"),
            ("unsure", "可能已中断"),
            ("down", "服务中断"),
            ("leader", "leader"),
            ("follower", "follower"),
            ("looking", "选举中"),
            ("late", "延迟的选举通知"),
            ("silent", "leader 与 follower 之间无响应"),
        ]
    };
    let legend: String = legend
        .iter()
        .map(|(class, text)| {
            format!("<svg width=\"12\" height=\"12\"><rect class=\"{class}\" width=\"12\" height=\"12\"/></svg> {text} &nbsp; ")
        })
        .collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"{}\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{}</title><style>:root{{color-scheme:light dark}}h1{{font-size:clamp(1.1em,4vw,1.5em)}}body{{font:15px/1.45 sans-serif;margin:1.5em;max-width:76em;color:#222;background:#fff}}\
         table{{border-collapse:collapse;width:100%}}td{{padding:.2em .6em;vertical-align:top;border-top:1px solid #8884}}\
         td{{overflow-wrap:anywhere}}td:first-child{{white-space:nowrap;font-variant-numeric:tabular-nums}}ul{{margin:.3em 0;font:13px monospace}}\
         #zoom{{overflow-x:auto}}#zoom>svg{{width:calc(100% * var(--zoom,1));min-width:48em}}\
         @media(prefers-color-scheme:dark){{body{{color:#ddd;background:#181818}}}}</style></head>\
         <body><h1>{}</h1><p><b>{}</b></p><p><label>{} <input type=\"range\" min=\"1\" max=\"30\" value=\"1\" \
         oninput=\"document.getElementById('zoom').style.setProperty('--zoom',this.value)\"></label></p>\
         <div id=\"zoom\" tabindex=\"0\">{}</div><p>{legend}</p><table>{rows}</table><ul>{}</ul></body></html>\n",
        if en { "en" } else { "zh" },
        escape(&heading(a, lang)),
        escape(&opening(a, lang)),
        escape(&heading(a, lang)),
        if en { "zoom" } else { "缩放" },
        svg(a, lang),
        super::chains(a, lang).iter().chain(&super::notes(a, lang)).map(|b| format!("<li>{}</li>", escape(b))).collect::<String>()
    )
}
