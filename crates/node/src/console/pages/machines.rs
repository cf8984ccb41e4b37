//! The paths between nodes, and the nodes with their disks.

use super::Html;
use crate::console::accounts::Role;
use crate::console::layout::{bytes, duration, head, page, time};
use crate::console::{texts as t, App, Context};
use axum::extract::State;
use maud::{html, Markup};
use std::sync::Arc;
use trivet_observe::view::ClusterView;

/// From this loss on a path is shown as bad, and from this silence.
const LOSSY_PERCENT: f64 = 5.0;
const SILENT_MS: u64 = 1_000;
/// Rows of NFS calls on one page; `/metrics` has more.
const NFS_ROWS_MAX: usize = 200;

/// Directed paths, the sender in the row.
pub fn matrix(c: &Context, v: &ClusterView) -> Markup {
    let nodes: Vec<u32> = v.nodes.keys().copied().collect();
    html! {
        div.scroll tabindex="0" {
            table {
                thead { tr { th scope="col" { (c.t(t::FROM_TO)) } @for n in &nodes { th.c scope="col" { (n) } } } }
                tbody {
                    @for from in &nodes {
                        tr {
                            th scope="row" { (from) }
                            @for to in &nodes {
                                @match v.links.iter().find(|l| l.from == *from && l.to == *to) {
                                    _ if from == to => { td.c.s { "—" } }
                                    None => { td.c.s { (c.t(t::UNKNOWN)) } }
                                    Some(l) if l.silence_ms >= SILENT_MS => {
                                        td class="c bg-crit crit" { (c.t(t::SILENT)) br; span.s { (duration(l.silence_ms as i64)) } }
                                    }
                                    Some(l) if l.loss_percent >= LOSSY_PERCENT => {
                                        td class=(if l.loss_percent >= 30.0 { "c bg-crit crit" } else { "c bg-warn warn" }) {
                                            (format!("{:.0} %", l.loss_percent)) br; span.s { (c.t(t::LOSS)) }
                                        }
                                    }
                                    Some(l) => {
                                        td class="c bg-ok ok" {
                                            (c.t(t::GOOD)) br;
                                            span.s { @match l.round_trip_ms { Some(ms) => { (format!("{ms:.1} ms")) } None => { "·" } } }
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

pub async fn network(State(app): State<Arc<App>>, c: Context) -> Html {
    let v = app.monitor.view();
    let blind: Vec<String> = v.nodes.iter().filter(|(_, n)| n.silent_ms > 0).map(|(n, _)| n.to_string()).collect();
    let body = html! {
        h1 { (c.t(t::NETWORK)) }
        @if !blind.is_empty() { p.warn { (c.t(t::VIEW_LIMITED)) " " (blind.join(", ")) } }
        section.card { h2 { (c.t(t::PATHS_NOW)) } (matrix(&c, &v)) }
        section.card {
            h2 { (c.t(t::AS_TABLE)) }
            div.scroll tabindex="0" {
                table {
                    thead { tr { th scope="col" { (c.t(t::FROM_TO)) } th scope="col" { (c.t(t::STATE)) } th.n scope="col" { (c.t(t::LOSS)) } th.n scope="col" { (c.t(t::SILENT)) } th.n scope="col" { (c.t(t::ROUND_TRIP)) } } }
                    tbody {
                        @for l in &v.links {
                            @let bad = l.silence_ms >= SILENT_MS || l.loss_percent >= LOSSY_PERCENT;
                            tr {
                                td { (l.from) " → " (l.to) }
                                td class=(if bad { "crit" } else { "ok" }) { (c.t(if bad { t::BAD } else { t::GOOD })) }
                                td.n { (format!("{:.0} %", l.loss_percent)) }
                                td.n { (l.silence_ms) " ms" }
                                td.n { @match l.round_trip_ms { Some(ms) => { (format!("{ms:.1} ms")) } None => { "—" } } }
                            }
                        }
                    }
                }
            }
        }
    };
    Html(page(&c, c.t(t::NETWORK), true, &body))
}

/// Servers that are only watched, by what they answer.
fn watched(c: &Context, v: &ClusterView) -> Markup {
    let pair = |p: Option<(u64, u64)>| p.map_or("—".into(), |(used, limit)| format!("{used} / {limit}"));
    html! {
        section.card {
            div.scroll tabindex="0" {
                table {
                    thead { tr { @for h in [t::SERVER, t::STATE, t::VERSION, t::CONNECTIONS, t::OUTSTANDING, t::SYNC] { (head(c, h)) } } }
                    tbody {
                        @for (id, n) in &v.nodes {
                            @let leads = v.coordination.as_ref().is_some_and(|k| k.leader == Some(*id));
                            @let sync = n.disks.iter().filter_map(|d| d.sync_p99_ms).reduce(f64::max);
                            tr {
                                th scope="row" { (id) br; span.s { (n.name) } }
                                @if n.silent_ms > 0 { td.crit { (c.t(t::NO_ANSWER)) ", " (duration(n.silent_ms as i64)) } }
                                @else if let Some(why) = n.not_ready.as_ref().filter(|w| !w.is_empty()) { td.warn { (c.t(t::NOT_READY)) ": " (why) } }
                                @else { td.ok { (c.t(t::READY)) @if leads { " · " (c.t(t::LEADER)) } } }
                                td { (n.version.as_deref().unwrap_or("—")) }
                                td.n { (pair(n.connections)) } td.n { (pair(n.outstanding)) }
                                td.n { @match sync { Some(ms) => { (format!("{ms:.1} ms")) } None => { "—" } } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Calls by node and datastore; none where no gateway has had any.
fn nfs(c: &Context, known: &[crate::status::Known]) -> Markup {
    let rows: Vec<_> = known.iter().flat_map(|k| k.status.nfs.iter().map(move |n| (k.status.node, n))).collect();
    let ms = |v: Option<f64>| v.map_or("—".into(), |v| format!("{v:.1} ms"));
    html! {
        @if !rows.is_empty() {
            section.card {
                h2 { (c.t(t::NFS_CALLS)) }
                div.scroll tabindex="0" {
                    table {
                        thead { tr { @for h in [t::NODE, t::DATASTORES, t::CALLS_MINUTE, t::MEDIAN, t::P99, t::OLDEST, t::READS, t::WRITES] { (head(c, h)) } } }
                        tbody {
                            @for (node, n) in rows.iter().take(NFS_ROWS_MAX) {
                                tr {
                                    td { (node) } td { (n.datastore) } td.n { (n.calls_in_minute) }
                                    td.n { (ms(n.p50_ms)) } td.n { (ms(n.p99_ms)) }
                                    td { @if n.oldest.is_empty() { "—" } @else { (duration(n.oldest_ms as i64)) ": " (n.oldest) } }
                                    td.n { (bytes(n.read.bytes)) } td.n { (bytes(n.write.bytes)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

pub async fn nodes(State(app): State<Arc<App>>, c: Context) -> Html {
    let now = crate::clock::wall_ms();
    let (v, mut known) = (app.monitor.view(), app.monitor.known());
    known.sort_by_key(|k| (k.status.node, k.status.pid));
    let maintenance: Vec<_> = app.monitor.with(|w| w.controls().maintenances(now).cloned().collect());
    let never: Vec<u32> = v.nodes.keys().filter(|n| !known.iter().any(|k| k.status.node == **n)).copied().collect();
    let body = html! {
        h1 { (c.t(t::NODES)) }
        @if known.is_empty() { (watched(&c, &v)) }
        @if !known.is_empty() { section.card {
            div.scroll tabindex="0" {
                table {
                    thead {
                        tr {
                            @for h in [t::NODE, t::STATE, t::ROLES, t::COORDINATION, t::METAD_LEADER, t::VERSION, t::UPTIME, t::CLOCK] { (head(&c, h)) }
                        }
                    }
                    tbody {
                        @for k in &known {
                            @let s = &k.status;
                            @let gone = k.age_ms >= 3_000;
                            tr {
                                td { (s.node) }
                                td class=(if gone { "crit" } else if s.ready { "ok" } else { "warn" }) {
                                    @if gone { (c.t(t::NO_ANSWER)) ", " (duration(k.age_ms as i64)) }
                                    @else if s.ready { (c.t(t::READY)) }
                                    @else { (c.t(t::NOT_READY)) ": " (s.not_ready) }
                                    @if maintenance.iter().any(|m| m.node == s.node) { br; span.t { (c.t(t::IN_MAINTENANCE)) } }
                                }
                                td { (s.roles.iter().map(|r| format!("{r:?}").to_lowercase()).collect::<Vec<_>>().join(", ")) }
                                td { @if let Some(k) = &s.coordination { (k.role) ", " (c.t(t::EPOCH)) " " (k.epoch) } }
                                td { @if let Some(m) = &s.metad { @if m.leading { "LEADER" } @else { (m.leader) } ", " (c.t(t::EPOCH)) " " (m.epoch) } }
                                td { (s.version) }
                                td { (duration(s.uptime_ms as i64)) }
                                td { @if let Some((offset, error)) = k.clock { (format!("{offset:+.0} ± {error:.0} ms")) } @else { "—" } }
                            }
                        }
                        @for n in &never { tr { td { (n) } td.crit colspan="7" { (c.t(t::NO_ANSWER)) } } }
                    }
                }
            }
        } }
        @if !known.is_empty() { section.card {
            h2 { (c.t(t::DISKS)) }
            div.scroll tabindex="0" {
                table {
                    thead { tr { @for h in [t::NODE, t::DISK, t::SIZE, t::FREE, t::SYNC, t::BAD_BLOCKS] { (head(&c, h)) } } }
                    tbody {
                        @for k in &known {
                            @for d in &k.status.disks {
                                @let share = d.free_bytes * 100 / d.total_bytes.max(1);
                                tr {
                                    td { (k.status.node) } td { (d.path) } td.n { (bytes(d.total_bytes)) }
                                    td class=(if share < 5 { "n crit" } else if share < 20 { "n warn" } else { "n" }) { (bytes(d.free_bytes)) " (" (share) " %)" }
                                    @let sync = d.sync_p99_ms.into_iter().chain(d.sync_ms).reduce(f64::max);
                                    td.n { @if let Some(ms) = sync { (format!("{ms:.1} ms")) } @else { "—" } }
                                    td class=(if k.status.bad_blocks > 0 { "n crit" } else { "n" }) { (k.status.bad_blocks) }
                                }
                            }
                        }
                    }
                }
            }
        } }
        (nfs(&c, &known))
        section.card {
            h2 { (c.t(t::MAINTENANCE)) }
            @for m in &maintenance {
                form.row method="post" action="/maintenance/end" {
                    (c.csrf())
                    input type="hidden" name="node" value=(m.node);
                    span { (c.t(t::NODE)) " " (m.node) ": " (m.comment) " (" (m.by) ", " (c.t(t::UNTIL)) " " (time(m.until_ms)) ")" }
                    @if c.may(Role::Operator) { button { (c.t(t::END)) } }
                }
            }
            @if c.may(Role::Operator) {
                form.row method="post" action="/maintenance" {
                    (c.csrf())
                    label { (c.t(t::NODE)) select name="node" { @for n in v.nodes.keys() { option value=(n) { (n) } } } }
                    label { (c.t(t::HOURS)) input name="hours" type="number" min="0.1" max="720" step="any" value="2" required; }
                    label { (c.t(t::COMMENT)) input name="comment" required maxlength="500"; }
                    button { (c.t(t::BEGIN_MAINTENANCE)) }
                }
            } @else { p.s { (c.t(t::NEEDS_OPERATOR)) } }
        }
    };
    Html(page(&c, c.t(t::NODES), true, &body))
}
