//! The datastores of vCenter's hosts: what is mounted where, heartbeats, and what the agent did and would do.

use crate::console::layout::{duration, time};
use crate::console::{texts as t, App, Context};
use crate::vcenter::{ask_leader, Ask};
use maud::{html, Markup};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use trivet_observe::Language;
use trivet_vcenter::snapshot::CellStatus;
use trivet_vcenter::state::State;
use trivet_vcenter::Snapshot;

/// Hosts and datastores of one page; those with a fault come first, and the rest is counted.
const HOSTS_SHOWN: usize = 100;
const DATASTORES_SHOWN: usize = 20;
/// Time for an answer of the node where the agent works.
const ASK_LIMIT: Duration = Duration::from_millis(1_500);

/// The agent's knowledge, from the node where it works. `None`: there is no agent. An error: it does not answer.
pub async fn snapshot(app: &App) -> Option<Result<Snapshot, String>> {
    let sources = &app.monitor.sources;
    if let Some(own) = sources.vcenter.as_ref().and_then(|v| v.snapshot()) {
        return Some(Ok(own));
    }
    let known = app.monitor.known();
    let agent = known.iter().filter(|k| k.status.vcenter.is_some()).min_by_key(|k| k.age_ms)?.status.node;
    let identity = match sources.config.identity() {
        Ok(identity) => identity.into(),
        Err(e) => return Some(Err(e.to_string())),
    };
    let at = sources.config.address(agent, sources.config.ports.control);
    Some(ask_leader(vec![at], identity, &Ask::Status, ASK_LIMIT).await.map_err(|e| e.to_string()))
}

fn class(s: &State) -> &'static str {
    match s {
        State::Ok => "c bg-ok ok",
        State::Unknown { .. } => "c s",
        State::Renamed { .. } | State::Readonly => "c bg-warn warn",
        _ => "c bg-crit crit",
    }
}

/// `STALE-VIEW`, as the documents name the state.
fn name(s: &State) -> String {
    let value = serde_json::to_value(s).unwrap_or_default();
    value["state"].as_str().unwrap_or("?").to_string()
}

fn is_fault(s: &State) -> bool {
    !matches!(s, State::Ok | State::Unknown { .. })
}

pub fn card(c: &Context, found: &Result<Snapshot, String>) -> Markup {
    match found {
        Err(why) => html! { section.card #vcenter { h2 { "vCenter" } p.crit { (why) } } },
        Ok(s) => html! {
            section.card #vcenter {
                h2 { (c.t(t::VCENTER_MATRIX)) }
                p.s {
                    (s.cluster) " · " (c.t(t::MODE)) " " (format!("{:?}", s.mode).to_lowercase())
                    @if let Some(ms) = s.read_ms_ago { " · " (c.t(t::READ_AGO)) " " (duration(ms as i64)) }
                }
                @if let Some(why) = &s.trouble { p.crit { (why) } }
                @if s.heartbeat_warning_hidden { p.warn { (c.t(t::WARNING_HIDDEN)) } }
                (matrix(c, s))
            }
            @if !s.routes.is_empty() { (routes(c, s)) }
            @if !s.plans.is_empty() { (plans(c, s)) }
            @if !s.steps.is_empty() { (steps(c, s)) }
        },
    }
}

fn matrix(c: &Context, s: &Snapshot) -> Markup {
    let cells: BTreeMap<(&str, &str), &CellStatus> =
        s.matrix.iter().map(|m| ((m.host.0.as_str(), m.datastore.as_str()), m)).collect();
    let worst_first = |mut all: Vec<(bool, String)>| {
        all.sort();
        all
    };
    let faults = || s.matrix.iter().filter(|m| is_fault(&m.state));
    let faulty_hosts: BTreeSet<&str> = faults().map(|m| m.host.0.as_str()).collect();
    let faulty_stores: BTreeSet<&str> = faults().map(|m| m.datastore.as_str()).collect();
    let stores: BTreeSet<&str> = s.matrix.iter().map(|m| m.datastore.as_str()).collect();
    let stores = worst_first(stores.iter().map(|d| (!faulty_stores.contains(d), d.to_string())).collect());
    let hosts: Vec<(bool, String)> = s
        .hosts
        .iter()
        .map(|h| (!(h.heartbeat_few || faulty_hosts.contains(h.host.0.as_str())), h.host.0.clone()))
        .collect();
    let hosts = worst_first(hosts);
    html! {
        div.scroll tabindex="0" {
            table {
                thead {
                    tr {
                        th scope="col" { (c.t(t::HOST)) }
                        @for (_, d) in stores.iter().take(DATASTORES_SHOWN) { th.c scope="col" { (d) } }
                        th.c scope="col" { (c.t(t::HEARTBEATS)) }
                    }
                }
                tbody {
                    @for (_, host) in hosts.iter().take(HOSTS_SHOWN) {
                        @if let Some(h) = s.hosts.iter().find(|h| h.host.0 == *host) {
                            tr {
                                th scope="row" { (h.name) br; span.s { (h.connection) } }
                                @for (_, d) in stores.iter().take(DATASTORES_SHOWN) {
                                    @match cells.get(&(host.as_str(), d.as_str())) {
                                        None => { td.c.s { "—" } }
                                        Some(m) => { (cell(c, m)) }
                                    }
                                }
                                td class=(if h.heartbeat_few { "c bg-crit crit" } else { "c" }) {
                                    @match h.heartbeat_chosen { Some(n) => { (n) } None => { "?" } }
                                    " " (c.t(t::OF)) " " (h.heartbeat_required)
                                }
                            }
                        }
                    }
                }
            }
        }
        @let more = hosts.len().saturating_sub(HOSTS_SHOWN) + stores.len().saturating_sub(DATASTORES_SHOWN);
        @if more > 0 { p.s { "+" (more) } }
    }
}

fn cell(c: &Context, m: &CellStatus) -> Markup {
    let text = if c.language == Language::Zh { &m.text.zh } else { &m.text.en };
    html! {
        td class=(class(&m.state)) title=(text) {
            @if m.state == State::Ok { (c.t(t::MOUNTED)) } @else { (name(&m.state)) br; span.s { (duration(m.lasts_ms as i64)) } }
            @if m.heartbeat { br; span.s { "♥ " (c.t(t::HEARTBEAT)) } }
        }
    }
}

fn routes(c: &Context, s: &Snapshot) -> Markup {
    let at_home = |r: &trivet_vcenter::routes::RouteStatus| r.known && r.node_well && r.at_node.is_none();
    html! {
        section.card {
            h2 { (c.t(t::ROUTES)) }
            ul {
                @for r in &s.routes {
                    li class=(if at_home(r) { "ok" } else { "warn" }) {
                        @if c.language == Language::Zh { (r.text.zh) } @else { (r.text.en) }
                    }
                }
            }
        }
    }
}

fn plans(c: &Context, s: &Snapshot) -> Markup {
    let get = |x: &trivet_vcenter::texts::Text| if c.language == Language::Zh { x.zh.clone() } else { x.en.clone() };
    html! {
        section.card {
            h2 { (c.t(t::PLANS)) }
            ul {
                @for p in s.plans.iter().take(HOSTS_SHOWN) {
                    li { (get(&p.text)) @for r in &p.reasons { br; span.s { (get(r)) } } }
                }
            }
        }
    }
}

fn steps(c: &Context, s: &Snapshot) -> Markup {
    html! {
        section.card {
            h2 { (c.t(t::STEPS)) }
            div.scroll tabindex="0" {
                table {
                    thead { tr { th scope="col" { (c.t(t::TIME)) } th scope="col" { (c.t(t::WHAT)) } } }
                    tbody {
                        @for x in s.steps.iter().rev() {
                            tr {
                                td { (time(x.step.wall_ms)) }
                                td { @if c.language == Language::Zh { (x.text.zh) } @else { (x.text.en) } }
                            }
                        }
                    }
                }
            }
        }
    }
}
