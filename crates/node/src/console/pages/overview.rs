//! The overview: the cluster's health and its reasons, leadership, and the alerts and figures of the last hour, day or month.

use super::machines::matrix;
use super::Html;
use crate::console::layout::{bytes, duration, level_class, page, raw, severity, time};
use crate::console::svg::{ribbon, stretches, HOUR};
use crate::console::{texts as t, App, Context};
use axum::extract::{Query, State};
use maud::{html, Markup};
use std::sync::Arc;
use trivet_observe::export::cause;
use trivet_observe::health::Health;
use trivet_observe::incidents::Incident;
use trivet_observe::view::ClusterView;

/// Checks that are named below the first line; the rest is on the page of alerts.
const CHECKS_SHOWN: usize = 12;

pub async fn show(State(app): State<Arc<App>>, c: Context, Query(w): Query<super::charts::Wanted>) -> Html {
    let span = w.span();
    let now = crate::clock::wall_ms();
    let (health, view, moments) = (app.monitor.health(), app.monitor.view(), app.monitor.moments());
    let open: Vec<Incident> = app.monitor.with(|w| w.incidents().open.clone());
    let known = app.monitor.known();
    let samples = super::charts::read(&app.monitor, now, span).await;
    let longer = if span == HOUR { moments.clone() } else { super::charts::moments(&samples) };
    let drawn = ribbon(&c, &longer, now, span);
    let events = super::settings::events(&c, &known, 8);
    let body = html! {
        h1 { (c.t(t::OVERVIEW)) }
        (banner(&c, &health, open.first()))
        (tiles(&c, &view, now, &moments, &known))
        section.card {
            h2 { (c.t(t::RIBBON)) }
            (super::charts::choice(&c, span))
            div.scroll tabindex="0" { (raw(drawn)) }
            details #ribbon-table {
                summary { (c.t(t::AS_TABLE)) }
                div.scroll tabindex="0" {
                    table {
                        thead { tr { th scope="col" { (c.t(t::FROM)) } th scope="col" { (c.t(t::UNTIL)) } th scope="col" { (c.t(t::COORD_LEADER)) } th scope="col" { (c.t(t::METAD_LEADER)) } } }
                        tbody {
                            @for s in stretches(&longer, span.gap_ms, |m| (m.leader, m.metad_leader)).iter().rev().take(100) {
                                tr {
                                    td { (time(s.from_ms)) } td { (time(s.to_ms)) }
                                    td { (node(&c, s.value.0)) } td { (node(&c, s.value.1)) }
                                }
                            }
                        }
                    }
                }
            }
        }
        (super::charts::cards(&c, &samples, now, span))
        div.two {
            section.card { h2 { (c.t(t::OPEN_INCIDENTS)) } (incidents(&c, &open)) }
            section.card { h2 { (c.t(t::PATHS_NOW)) } (matrix(&c, &view)) }
        }
        section.card { h2 { (c.t(t::EVENTS)) } (events) }
    };
    Html(page(&c, c.t(t::OVERVIEW), true, &body))
}

fn node(c: &Context, n: Option<u32>) -> String {
    n.map_or(c.t(t::NO_LEADER).to_string(), |n| format!("{} {n}", c.t(t::NODE)))
}

fn banner(c: &Context, h: &Health, incident: Option<&Incident>) -> Markup {
    html! {
        div class=(format!("banner {}", level_class(h.level))) role="status" {
            strong { (c.t(h.level.text())) }
            @if let Some(i) = incident {
                span { (i.headline.get(c.language)) }
                a.btn href=(format!("/incidents/{}", i.id)) { (c.t(t::INCIDENTS)) " " (i.id) }
            } @else if let Some(first) = h.checks.first() {
                span { (first.reason.get(c.language)) }
            }
        }
        @if !h.checks.is_empty() {
            section.card {
                div.scroll tabindex="0" {
                    table {
                        thead { tr { th scope="col" { (c.t(t::SEVERITY)) } th scope="col" { (c.t(t::REASON)) } th scope="col" { (c.t(t::SINCE)) } th scope="col" { (c.t(t::STATE)) } } }
                        tbody {
                            @for k in h.checks.iter().take(CHECKS_SHOWN) {
                                tr {
                                    td { (severity(c, k.severity)) }
                                    td { (k.reason.get(c.language)) }
                                    td { (time(k.since_ms)) }
                                    td { (c.t(if k.firing { t::FIRING } else { t::PENDING })) }
                                }
                            }
                        }
                    }
                }
                @if h.checks.len() > CHECKS_SHOWN { p { a href="/alerts" { "+" (h.checks.len() - CHECKS_SHOWN) " " (c.t(t::ALERTS)) } } }
            }
        }
    }
}

fn tiles(
    c: &Context,
    v: &ClusterView,
    now: i64,
    moments: &[crate::status::monitor::Moment],
    known: &[crate::status::Known],
) -> Markup {
    let since = |held: Option<i64>| held.map_or(String::new(), |at| duration(now - at));
    let led = stretches(moments, HOUR.gap_ms, |m| m.leader).last().map(|s| s.from_ms);
    let metad_led = stretches(moments, HOUR.gap_ms, |m| m.metad_leader).last().map(|s| s.from_ms);
    let served = v.addresses.iter().filter(|a| a.listening == Some(true)).count();
    let free = known.iter().flat_map(|k| &k.status.disks).map(|d| (d.free_bytes, d.total_bytes));
    let smallest = free.min_by(|a, b| {
        let share = |d: &(u64, u64)| d.0 as f64 / d.1.max(1) as f64;
        share(a).total_cmp(&share(b))
    });
    html! {
        div.tiles {
            @if let Some(k) = &v.coordination {
                div.card {
                    h2 { (c.t(t::COORDINATION)) }
                    div class=(if k.leader.is_some() { "big" } else { "big crit" }) {
                        @match k.leader { Some(n) => { (c.t(t::LEADER)) " " (n) } None => { (c.t(t::NO_LEADER)) } }
                    }
                    div.s { (c.t(t::EPOCH)) " " (k.epoch) " · " (since(led)) " · " (k.serving.len()) " " (c.t(t::OF)) " " (k.voters.len()) " " (c.t(t::VOTERS_SERVE)) }
                }
            }
            @if let Some(m) = &v.metad {
                div.card {
                    h2 { "metad" }
                    div class=(if m.leader.is_some() { "big" } else { "big crit" }) {
                        @match m.leader { Some(n) => { "LEADER " (n) } None => { (c.t(t::NO_LEADER)) } }
                    }
                    div.s { (c.t(t::EPOCH)) " " (m.epoch) " · " (since(metad_led)) }
                }
            }
            @if !v.addresses.is_empty() { div.card {
                h2 { (c.t(t::ADDRESSES)) }
                div class=(if served == v.addresses.len() { "big" } else { "big crit" }) { (served) " " (c.t(t::OF)) " " (v.addresses.len()) " " (c.t(t::SERVED)) }
                div.s { @for a in v.addresses.iter().take(4) { (a.address) " → " (c.t(t::NODE)) " " (a.node) " " } }
            } }
            @if !v.exports.is_empty() {
                @let well = v.exports.iter().filter(|e| e.error.is_none()).count();
                div.card {
                    h2 { (c.t(t::EXPORTS)) }
                    div class=(if well == v.exports.len() { "big" } else { "big crit" }) { (well) " " (c.t(t::OF)) " " (v.exports.len()) " " (c.t(t::SERVED)) }
                }
            }
            @if let Some(k) = &v.copies {
                div.card {
                    h2 { (c.t(t::COPIES)) }
                    @if k.missing > 0 { div.big.warn { (k.missing) " " (c.t(t::MISSING)) } } @else { div.big { (c.t(t::COPIES_WHOLE)) } }
                    div.s { (k.last) " " (c.t(t::LAST_COPY)) " · " (k.recovering) " " (c.t(t::RECOVERING)) }
                }
            }
            @if let Some((free, total)) = smallest {
                div.card {
                    h2 { (c.t(t::CAPACITY)) }
                    div.big { (free * 100 / total.max(1)) " %" }
                    div.s { (bytes(free)) " " (c.t(t::OF)) " " (bytes(total)) }
                }
            }
            @let calls: u64 = known.iter().flat_map(|k| &k.status.nfs).map(|n| n.calls_in_minute).sum();
            @let slowest = known.iter().flat_map(|k| &k.status.nfs).filter_map(|n| n.p99_ms).reduce(f64::max);
            // The calls of servers that are only watched are not counted.
            @if !known.is_empty() { div.card {
                h2 { (c.t(t::NFS_CALLS)) }
                div.big { (format!("{:.1}", calls as f64 / 60.0)) " " span.s { (c.t(t::PER_SECOND)) } }
                div.s { (c.t(t::P99)) " " @match slowest { Some(ms) => { (format!("{ms:.1} ms")) } None => { "—" } } }
            }
            div.card {
                h2 { (c.t(t::CLIENTS)) }
                div.big { (v.clients.iter().filter(|k| k.connected).count()) }
                div.s { (c.t(t::CONNECTED)) }
            } }
        }
    }
}

fn incidents(c: &Context, open: &[Incident]) -> Markup {
    html! {
        @if open.is_empty() { p.s { (c.t(t::NO_OPEN_INCIDENT)) } } @else {
            div.scroll tabindex="0" {
                table {
                    thead { tr { th scope="col" { (c.t(t::SINCE)) } th scope="col" { (c.t(t::WHAT)) } th scope="col" { (c.t(t::CAUSE)) } th scope="col" { (c.t(t::FOLDED)) } } }
                    tbody {
                        @for i in open {
                            tr {
                                td { (time(i.opened_ms)) }
                                td { a href=(format!("/incidents/{}", i.id)) { (i.headline.get(c.language)) } }
                                td { (cause(i, c.language).0) }
                                td.n { (i.members.len()) " " (c.t(t::ALARMS)) ", " (i.occurrences()) " " (c.t(t::TIMES)) }
                            }
                        }
                    }
                }
            }
        }
    }
}
