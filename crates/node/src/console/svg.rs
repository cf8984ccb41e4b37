//! The ribbon of the last hour: quorum, leaders and alerts, drawn from the moments that the monitor keeps.

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

/// A gap between two moments that is longer was a time in which nobody watched.
const GAP_MS: i64 = 20_000;

pub fn stretches<T: PartialEq + Copy>(moments: &[Moment], pick: impl Fn(&Moment) -> T) -> Vec<Stretch<T>> {
    let mut out: Vec<Stretch<T>> = Vec::new();
    for m in moments {
        let value = pick(m);
        match out.last_mut() {
            Some(s) if s.value == value && m.at_ms - s.to_ms < GAP_MS => s.to_ms = m.at_ms,
            Some(s) if m.at_ms - s.to_ms < GAP_MS => {
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

/// `now_ms` is the right edge; an hour fits.
pub fn ribbon(c: &Context, moments: &[Moment], now_ms: i64) -> String {
    let from = now_ms - 3_600_000;
    let x = |at: i64| LEFT + (at.clamp(from, now_ms) - from) as f64 / 3_600_000.0 * (RIGHT - LEFT);
    let mut s = format!(
        "<svg viewBox=\"0 0 1000 158\" role=\"img\" aria-labelledby=\"rt rd\"><title id=\"rt\">{}</title><desc id=\"rd\">{}</desc>",
        c.t(t::RIBBON),
        c.t(t::AS_TABLE)
    );
    for quarter in 0..=4 {
        let at = from + i64::from(quarter) * 900_000;
        let clock = trivet_observe::time_text(at);
        let (gx, anchor) = (x(at), if quarter == 4 { "end" } else { "middle" });
        let label = clock.get(11..16).unwrap_or_default();
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
    for q in stretches(moments, |m| m.leader.is_some()) {
        bar(0, q.from_ms, q.to_ms, if q.value { "f-ok" } else { "f-crit" }, "");
    }
    for (row, pick) in [(1, (|m: &Moment| m.leader) as fn(&Moment) -> Option<u32>), (2, |m| m.metad_leader)] {
        for l in stretches(moments, pick) {
            if let Some(n) = l.value {
                bar(row, l.from_ms, l.to_ms, &format!("f-n{}", (n - 1) % 5 + 1), &n.to_string());
            }
        }
    }
    for a in stretches(moments, |m| m.level) {
        match a.value {
            Level::Ok => {}
            Level::Degraded => bar(3, a.from_ms, a.to_ms, "f-warn", ""),
            Level::Unavailable => bar(3, a.from_ms, a.to_ms, "f-crit", ""),
        }
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
        let found: Vec<_> = stretches(&all, |m| m.leader).into_iter().map(|s| (s.from_ms, s.to_ms, s.value)).collect();
        assert_eq!(
            found,
            [(0, 10_000, Some(1)), (10_000, 15_000, None), (15_000, 15_000, Some(2)), (90_000, 90_000, Some(2))]
        );
    }
}
