//! Incidents: the list, each one, and its exports.

use super::{download, Html};
use crate::console::history::Line;
use crate::console::layout::{duration, head, page, severity, time};
use crate::console::{texts as t, App, Context};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::html;
use std::collections::BTreeMap;
use std::sync::Arc;
use trivet_observe::catalogue::rule;
use trivet_observe::export::{self, actions, cause};
use trivet_observe::incidents::Incident;

/// Incidents of the history that are listed.
const LISTED_MAX: usize = 200;

/// The incidents that this node knows, newest first: open and recent ones from memory, older ones from the history.
pub async fn all(app: &Arc<App>) -> Vec<Incident> {
    let mut found: BTreeMap<String, Incident> = BTreeMap::new();
    let (app, now) = (app.clone(), crate::clock::wall_ms());
    let monitor = app.monitor.clone();
    let kept = tokio::task::spawn_blocking(move || {
        monitor.history().read(now, 10 * LISTED_MAX, |l| match l {
            Line::Incident { incident, .. } => Some((incident.opened_ms, *incident)),
            _ => None,
        })
    });
    for i in kept.await.unwrap_or_default() {
        // The newest line of an incident comes first.
        found.entry(i.id.clone()).or_insert(i);
    }
    app.monitor.with(|w| found.extend(w.incidents().iter().map(|i| (i.id.clone(), i.clone()))));
    let mut list: Vec<Incident> = found.into_values().collect();
    list.sort_by_key(|i| std::cmp::Reverse((i.is_open(), i.opened_ms)));
    list.truncate(LISTED_MAX);
    list
}

pub async fn list(State(app): State<Arc<App>>, c: Context) -> Html {
    let (all, now) = (all(&app).await, crate::clock::wall_ms());
    let body = html! {
        h1 { (c.t(t::INCIDENTS)) }
        section.card {
            @if all.is_empty() { p { (c.t(t::NO_INCIDENT)) } } @else {
                div.scroll tabindex="0" {
                    table {
                        thead { tr { @for h in [t::STATE, t::SEVERITY, t::WHAT, t::CAUSE, t::SINCE, t::DURATION, t::FOLDED] { (head(&c, h)) } } }
                        tbody {
                            @for i in &all {
                                tr {
                                    td { @if i.is_open() { strong.crit { (c.t(t::OPEN)) } } @else { (c.t(t::CLOSED)) } }
                                    td { (severity(&c, i.severity)) }
                                    td { a href=(format!("/incidents/{}", i.id)) { (i.headline.get(c.language)) } }
                                    td { (cause(i, c.language).0) }
                                    td { (time(i.opened_ms)) }
                                    td { (duration(i.closed_ms.unwrap_or(now) - i.opened_ms)) }
                                    td.n { (i.members.len()) " " (c.t(t::ALARMS)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    };
    Html(page(&c, c.t(t::INCIDENTS), true, &body))
}

async fn find(app: &Arc<App>, id: &str) -> Option<Incident> {
    all(app).await.into_iter().find(|i| i.id == id)
}

fn gone(c: &Context) -> Response {
    let body = html! { h1 { (c.t(t::NOT_FOUND)) } p { a href="/incidents" { (c.t(t::INCIDENTS)) } } };
    (StatusCode::NOT_FOUND, Html(page(c, c.t(t::NOT_FOUND), false, &body))).into_response()
}

pub async fn show(State(app): State<Arc<App>>, c: Context, Path(id): Path<String>) -> Response {
    let Some(i) = find(&app, &id).await else { return gone(&c) };
    let (l, now) = (c.language, crate::clock::wall_ms());
    let (best, next) = cause(&i, l);
    let nodes: Vec<String> = i.nodes().iter().map(u32::to_string).collect();
    let body = html! {
        h1 { (i.headline.get(l)) }
        section.card {
            dl {
                dt { (c.t(t::STATE)) } dd { @if i.is_open() { strong.crit { (c.t(t::OPEN)) } } @else { (c.t(t::CLOSED)) } " " (severity(&c, i.severity)) }
                dt { (c.t(t::SINCE)) } dd { (time(i.opened_ms)) }
                @if let Some(at) = i.closed_ms { dt { (c.t(t::UNTIL)) } dd { (time(at)) } }
                dt { (c.t(t::DURATION)) } dd { (duration(i.closed_ms.unwrap_or(now) - i.opened_ms)) }
                dt { (c.t(t::CAUSE)) } dd { (best) }
                @if let Some(next) = next { dt { (c.t(t::RUNNER_UP)) } dd { (next) } }
                dt { (c.t(t::NODES)) } dd { (nodes.join(", ")) }
                @if !i.affected.is_empty() {
                    dt { (c.t(t::AFFECTED)) } dd { (i.affected.iter().map(|a| a.get(l)).collect::<Vec<_>>().join(", ")) }
                }
                dt { (c.t(t::FOLDED)) } dd { (i.members.len()) " " (c.t(t::ALARMS)) ", " (i.occurrences()) " " (c.t(t::TIMES)) }
                dt { (c.t(t::MESSAGES)) } dd { (i.messages.len()) }
                dt { (c.t(t::EXPORT)) }
                dd {
                    a href=(format!("/incidents/{id}/export/html")) { "HTML" } " · "
                    a href=(format!("/incidents/{id}/export/md")) { "Markdown" } " · "
                    a href=(format!("/incidents/{id}/export/json")) { "JSON" }
                }
            }
            p.s { (c.t(t::BUNDLE)) }
        }
        section.card { h2 { (c.t(t::WHAT_TO_DO)) } ul { @for a in actions(&i, l) { li { (a) } } } }
        section.card {
            h2 { (c.t(t::ALERTS)) }
            div.scroll tabindex="0" {
                table {
                    thead { tr { @for h in [t::SEVERITY, t::ALERT, t::SUBJECT, t::REASON, t::SINCE, t::DURATION, t::TIMES, t::STATE] { (head(&c, h)) } } }
                    tbody {
                        @for (fingerprint, m) in &i.members {
                            tr {
                                td { (severity(&c, m.severity)) }
                                td { a href=(format!("/alerts/{fingerprint}")) { (rule(m.rule).title.get(l)) } }
                                td { (m.subject.get(l)) }
                                td { (m.reason.get(l)) }
                                td { (time(m.first_ms)) }
                                td.n { (duration(m.lasted_ms)) }
                                td.n { (m.count) }
                                td {
                                    (c.t(if m.resolved_ms.is_some() { t::RESOLVED } else { t::FIRING }))
                                    @if m.flapping { " " span.t { (c.t(t::FLAPPING)) } }
                                }
                            }
                        }
                    }
                }
            }
        }
        section.card {
            h2 { (c.t(t::TIMELINE)) }
            ol.tl { @for (at, what) in i.log.iter().rev() { li { (time(*at)) span { (what.get(l)) } } } }
        }
    };
    Html(page(&c, i.headline.get(l), i.is_open(), &body)).into_response()
}

pub async fn export(State(app): State<Arc<App>>, c: Context, Path((id, form)): Path<(String, String)>) -> Response {
    let Some(i) = find(&app, &id).await else { return gone(&c) };
    match form.as_str() {
        "html" => {
            download("text/html; charset=utf-8", &format!("incident-{}.html", i.id), export::html(&i, c.language))
        }
        "md" => {
            download("text/markdown; charset=utf-8", &format!("incident-{}.md", i.id), export::markdown(&i, c.language))
        }
        "json" => match serde_json::to_string_pretty(&i) {
            Ok(text) => download("application/json", &format!("incident-{}.json", i.id), text),
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        },
        _ => gone(&c),
    }
}
