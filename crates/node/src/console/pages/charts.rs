//! Figures over the last hour, day or month: four pictures, each with a table behind it.

use crate::console::layout::{bytes, raw, time};
use crate::console::samples::{Figure, Sample};
use crate::console::svg::{chart, thinned, Span, DAY, HOUR, MONTH};
use crate::console::{texts as t, Context};
use crate::status::monitor::{Moment, Monitor};
use maud::{html, Markup};
use serde::Deserialize;
use std::sync::Arc;
use trivet_observe::health::Level;
use trivet_observe::language::Text;

/// Rows of a picture's table.
const ROWS: usize = 24;

#[derive(Debug, Default, Deserialize)]
pub struct Wanted {
    #[serde(default)]
    pub span: String,
}

impl Wanted {
    /// The span that was asked for; none if there is no such one. Nothing asked for is the last hour.
    pub fn known_span(&self) -> Option<Span> {
        let all = [HOUR, DAY, MONTH];
        all.into_iter().find(|s| s.name == self.span || (self.span.is_empty() && s.name == HOUR.name))
    }
    pub fn span(&self) -> Span {
        self.known_span().unwrap_or(HOUR)
    }
}

pub async fn read(monitor: &Arc<Monitor>, now_ms: i64, span: Span) -> Vec<Sample> {
    let samples = monitor.samples();
    let read = tokio::task::spawn_blocking(move || samples.read(now_ms - span.ms, now_ms));
    read.await.ok().and_then(Result::ok).unwrap_or_default()
}

/// The ribbon's moments from the stored samples, which reach back beyond a restart.
pub fn moments(samples: &[Sample]) -> Vec<Moment> {
    let node = |s: &Sample, f| s.get(f).map(|n| n as u32);
    let level = |s: &Sample| match s.get(Figure::Level) {
        Some(l) if l >= 2.0 => Level::Unavailable,
        Some(l) if l >= 1.0 => Level::Degraded,
        _ => Level::Ok,
    };
    let moment = |s: &Sample| Moment {
        at_ms: s.at_ms,
        leader: node(s, Figure::CoordinationLeader),
        metad_leader: node(s, Figure::MetadLeader),
        firing: s.get(Figure::Firing).unwrap_or(0.0) as u32,
        level: level(s),
    };
    samples.iter().map(moment).collect()
}

pub fn choice(c: &Context, now: Span) -> Markup {
    html! {
        p.spans {
            @for (span, text) in [(HOUR, t::LAST_HOUR), (DAY, t::LAST_DAY), (MONTH, t::LAST_MONTH)] {
                a href=(format!("/?span={}", span.name)) aria-current=[(span == now).then_some("true")] { (c.t(text)) } " "
            }
        }
    }
}

type Show = fn(f32) -> String;

fn ms(v: f32) -> String {
    format!("{v:.1} ms")
}
fn rate(v: f32) -> String {
    format!("{}/s", bytes(v as u64))
}

pub fn cards(c: &Context, samples: &[Sample], now_ms: i64, span: Span) -> Markup {
    let all: [(&str, Text, Figure, Show); 6] = [
        ("calls", t::CHART_CALLS, Figure::CallsPerSecond, |v| format!("{v:.1}/s")),
        ("p99", t::CHART_P99, Figure::P99Ms, ms),
        ("read", t::CHART_READ, Figure::ReadBytesPerSecond, rate),
        ("write", t::CHART_WRITE, Figure::WriteBytesPerSecond, rate),
        ("loss", t::CHART_LOSS, Figure::LossPercent, |v| format!("{v:.0} %")),
        ("sync", t::CHART_SYNC, Figure::SyncMs, ms),
    ];
    html! {
        div.charts {
            @for (id, title, figure, show) in all {
                @let points: Vec<(i64, f32)> = samples.iter().filter_map(|s| Some((s.at_ms, s.get(figure)?))).collect();
                section.card {
                    h2 { (c.t(title)) }
                    (raw(chart(&format!("chart-{id}"), c.t(title), &points, now_ms, span, &show)))
                    @if points.is_empty() { p.s { (c.t(t::NO_FIGURES)) } } @else {
                        details id=(format!("table-{id}")) {
                            summary { (c.t(t::AS_TABLE)) }
                            table {
                                thead { tr { th scope="col" { (c.t(t::TIME)) } th.n scope="col" { (c.t(t::WORST)) } } }
                                tbody { @for (at, v) in thinned(&points, now_ms - span.ms, span, ROWS).iter().rev() { tr { td { (time(*at)) } td.n { (show(*v)) } } } }
                            }
                        }
                    }
                }
            }
        }
    }
}
