//! Pictures of the last hour, day or month: the ribbon of quorum, leaders and alerts, and lines of figures.

use super::texts as t;
use super::Context;
use crate::status::monitor::Moment;
use std::fmt::Write;
use trivet_observe::health::Level;

/// A stretch of time in which one value held.
#[derive(Debug, Clone, PartialEq)]
pub struct Stretch<T> {
    pub from_ms: i64,
    pub to_ms: i64,
    pub value: T,
}

/// The time that is drawn: how long it is, and how long a gap between two moments was a time in which nobody watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub name: &'static str,
    pub ms: i64,
    pub gap_ms: i64,
}

pub const HOUR: Span = Span { name: "hour", ms: 3_600_000, gap_ms: 20_000 };
pub const DAY: Span = Span { name: "day", ms: 86_400_000, gap_ms: 45_000 };
pub const MONTH: Span = Span { name: "month", ms: 30 * 86_400_000, gap_ms: 700_000 };

pub fn stretches<T: PartialEq + Copy>(moments: &[Moment], gap_ms: i64, pick: impl Fn(&Moment) -> T) -> Vec<Stretch<T>> {
    let mut out: Vec<Stretch<T>> = Vec::new();
    for m in moments {
        let value = pick(m);
        match out.last_mut() {
            Some(s) if s.value == value && m.at_ms - s.to_ms < gap_ms => s.to_ms = m.at_ms,
            Some(s) if m.at_ms - s.to_ms < gap_ms => {
                s.to_ms = m.at_ms;
                out.push(Stretch { from_ms: m.at_ms, to_ms: m.at_ms, value });
            }
            _ => out.push(Stretch { from_ms: m.at_ms, to_ms: m.at_ms, value }),
        }
    }
    out
}

const LEFT: f64 = 140.0;
const RIGHT: f64 = 990.0;

/// A quarter's label: the time of the day, or of a month the day.
fn tick(at_ms: i64, span: Span) -> String {
    let text = trivet_observe::time_text(at_ms);
    let label = if span == MONTH { text.get(5..10) } else { text.get(11..16) };
    label.unwrap_or_default().to_string()
}

/// `now_ms` is the right edge.
pub fn ribbon(c: &Context, moments: &[Moment], now_ms: i64, span: Span) -> String {
    let from = now_ms - span.ms;
    let x = |at: i64| LEFT + (at.clamp(from, now_ms) - from) as f64 / span.ms as f64 * (RIGHT - LEFT);
    let mut s = format!(
        "<svg class=\"ribbon\" viewBox=\"0 0 1000 158\" role=\"img\" aria-labelledby=\"rt rd\"><title id=\"rt\">{}</title><desc id=\"rd\">{}</desc>",
        c.t(t::RIBBON),
        c.t(t::AS_TABLE)
    );
    for quarter in 0..=4 {
        let at = from + i64::from(quarter) * span.ms / 4;
        let label = tick(at, span);
        let (gx, anchor) = (x(at), if quarter == 4 { "end" } else { "middle" });
        let _ = write!(
            s,
            "<line class=\"grid\" x1=\"{gx:.1}\" x2=\"{gx:.1}\" y1=\"6\" y2=\"134\"/>\
             <text x=\"{gx:.1}\" y=\"150\" text-anchor=\"{anchor}\">{label} UTC</text>"
        );
    }
    let rows = [t::QUORUM, t::COORD_LEADER, t::METAD_LEADER, t::ALERTS];
    for (i, name) in rows.into_iter().enumerate() {
        let _ = write!(s, "<text x=\"0\" y=\"{}\">{}</text>", 28 + 32 * i, c.t(name));
    }
    let mut bar = |row: usize, from: i64, to: i64, class: &str, label: &str| {
        let (a, b) = (x(from), x(to));
        let width = (b - a).max(1.5);
        let y = 14 + 32 * row;
        let _ =
            write!(s, "<rect class=\"{class}\" x=\"{a:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"20\" rx=\"3\"/>");
        if !label.is_empty() && width > 14.0 {
            let _ = write!(s, "<text class=\"lab\" x=\"{:.1}\" y=\"{}\">{label}</text>", a + 5.0, y + 14);
        }
    };
    for q in stretches(moments, span.gap_ms, |m| m.leader.is_some()) {
        bar(0, q.from_ms, q.to_ms, if q.value { "f-ok" } else { "f-crit" }, "");
    }
    for (row, pick) in [(1, (|m: &Moment| m.leader) as fn(&Moment) -> Option<u32>), (2, |m| m.metad_leader)] {
        for l in stretches(moments, span.gap_ms, pick) {
            if let Some(n) = l.value {
                bar(row, l.from_ms, l.to_ms, &format!("f-n{}", (n - 1) % 5 + 1), &n.to_string());
            }
        }
    }
    for a in stretches(moments, span.gap_ms, |m| m.level) {
        match a.value {
            Level::Ok => {}
            Level::Degraded => bar(3, a.from_ms, a.to_ms, "f-warn", ""),
            Level::Unavailable => bar(3, a.from_ms, a.to_ms, "f-crit", ""),
        }
    }
    s + "</svg>"
}

/// Points of one line; more are drawn as the worst of each bin.
const POINTS_MAX: usize = 300;

/// The worst of each bin, so that a peak of a second shows in a month.
pub fn thinned(points: &[(i64, f32)], from_ms: i64, span: Span, count: usize) -> Vec<(i64, f32)> {
    let mut bins: Vec<Option<(i64, f32)>> = vec![None; count];
    for (at, v) in points {
        let bin = ((at - from_ms).max(0) as i128 * count as i128 / i128::from(span.ms)) as usize;
        let bin = &mut bins[bin.min(count - 1)];
        if bin.is_none_or(|(_, have)| *v > have) {
            *bin = Some((*at, *v));
        }
    }
    bins.into_iter().flatten().collect()
}

/// A line over time; where nobody watched it is broken. `id` is of this page, `title` and `values` are texts of ours.
pub fn chart(
    id: &str,
    title: &str,
    points: &[(i64, f32)],
    now_ms: i64,
    span: Span,
    text: &dyn Fn(f32) -> String,
) -> String {
    let from = now_ms - span.ms;
    let points = thinned(points, from, span, POINTS_MAX);
    let top = points.iter().map(|p| p.1).fold(0.0f32, f32::max);
    let scale = if top > 0.0 { top } else { 1.0 };
    let x = |at: i64| 4.0 + (at.clamp(from, now_ms) - from) as f64 / span.ms as f64 * 392.0;
    let y = |v: f32| 84.0 - f64::from(v / scale) * 64.0;
    let mut s = format!(
        "<svg viewBox=\"0 0 400 104\" role=\"img\" aria-labelledby=\"{id}\"><title id=\"{id}\">{title}</title>\
         <line class=\"grid\" x1=\"4\" x2=\"396\" y1=\"84\" y2=\"84\"/><line class=\"grid\" x1=\"4\" x2=\"396\" y1=\"20\" y2=\"20\"/>"
    );
    for (i, anchor) in [(0, "start"), (2, "middle"), (4, "end")] {
        let at = from + i * span.ms / 4;
        let _ = write!(s, "<text x=\"{:.1}\" y=\"100\" text-anchor=\"{anchor}\">{}</text>", x(at), tick(at, span));
    }
    let gap = span.gap_ms.max(3 * span.ms / POINTS_MAX as i64);
    let mut path = String::new();
    let mut last: Option<i64> = None;
    for (at, v) in &points {
        let pen = if last.is_some_and(|l| at - l <= gap) { 'L' } else { 'M' };
        let _ = write!(path, "{pen}{:.1} {:.1}", x(*at), y(*v));
        // A moment that stands alone is a dot.
        if pen == 'M' {
            path.push_str("h0.5");
        }
        last = Some(*at);
    }
    if !points.is_empty() {
        let _ = write!(s, "<path class=\"line\" d=\"{path}\"/><text x=\"4\" y=\"14\">{}</text>", text(top));
    }
    s + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_with_one_value_are_one_stretch_and_a_gap_is_no_value() {
        let m = |at_ms, leader| Moment { at_ms, leader, metad_leader: None, firing: 0, level: Level::Ok };
        let all = [m(0, Some(1)), m(5_000, Some(1)), m(10_000, None), m(15_000, Some(2)), m(90_000, Some(2))];
        let found: Vec<_> =
            stretches(&all, 20_000, |m| m.leader).into_iter().map(|s| (s.from_ms, s.to_ms, s.value)).collect();
        assert_eq!(
            found,
            [(0, 10_000, Some(1)), (10_000, 15_000, None), (15_000, 15_000, Some(2)), (90_000, 90_000, Some(2))]
        );
    }

    #[test]
    fn a_peak_of_ten_seconds_shows_in_a_day_and_gaps_break_the_line() {
        let now = 10 * DAY.ms;
        let mut points: Vec<(i64, f32)> = (0..8_640).map(|i| (now - DAY.ms + i * 10_000, 1.0)).collect();
        points[4_000].1 = 77.0;
        points.drain(6_000..7_000);
        let thin = thinned(&points, now - DAY.ms, DAY, 300);
        assert!(thin.len() <= 300 && thin.iter().any(|p| p.1 == 77.0));
        let svg = chart("a", "title", &points, now, DAY, &|v| format!("{v} ms"));
        assert!(svg.contains(">77 ms</text>"), "{svg}");
        assert_eq!(svg.matches('M').count(), 2, "one gap: {svg}");
        assert!(chart("a", "title", &[], now, DAY, &|v| v.to_string()).ends_with("</svg>"));
    }
}
