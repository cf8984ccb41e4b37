//! Alerts, active and past; silences; the rules.

use super::{download, Html};
use crate::console::accounts::Role;
use crate::console::history::Line;
use crate::console::layout::{duration, head, page, severity, time};
use crate::console::{texts as t, App, Context};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::{html, Markup};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use trivet_observe::alerts::{Alert, Muted, State as AlertState};
use trivet_observe::catalogue::{rule, Severity, RULES};
use trivet_observe::export;
use trivet_observe::RuleId;

/// Alerts on one page.
const PAGE: usize = 100;
/// Past alerts that are read from the history.
const PAST_MAX: usize = 5_000;

#[derive(Debug, Default, Deserialize)]
pub struct Wanted {
    #[serde(default)]
    show: String,
    #[serde(default)]
    severity: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    from: usize,
}

/// Active alerts, or with `past` those of the last days, too.
async fn wanted(app: &Arc<App>, c: &Context, w: &Wanted) -> Vec<Alert> {
    let mut found: BTreeMap<String, Alert> = BTreeMap::new();
    if w.show == "past" || w.show == "all" {
        let (monitor, now) = (app.monitor.clone(), crate::clock::wall_ms());
        let past = tokio::task::spawn_blocking(move || {
            monitor.history().read(now, PAST_MAX, |l| match l {
                Line::Alert { at_ms, alert, .. } => Some((at_ms, *alert)),
                _ => None,
            })
        });
        for a in past.await.unwrap_or_default() {
            found.entry(format!("{}-{}", a.fingerprint, a.since_ms)).or_insert(a);
        }
    }
    app.monitor.with(|m| {
        found.extend(m.alerts().iter().map(|a| (format!("{}-{}", a.fingerprint, a.since_ms), a.clone())));
    });
    let text = w.text.to_lowercase();
    let mut list: Vec<Alert> = found
        .into_values()
        .filter(|a| match w.show.as_str() {
            "past" => a.state == AlertState::Resolved,
            "all" => true,
            _ => a.state != AlertState::Resolved,
        })
        .filter(|a| a.rule != RuleId::Watchdog || w.show == "all")
        .filter(|a| w.severity.is_empty() || a.severity.name() == w.severity)
        .filter(|a| {
            text.is_empty()
                || format!("{} {} {}", a.name(), a.subject.get(c.language), a.reason.get(c.language))
                    .to_lowercase()
                    .contains(&text)
        })
        .collect();
    list.sort_by_key(|a| {
        let order = match a.state {
            AlertState::Firing => 0,
            AlertState::Pending => 1,
            AlertState::Resolved => 2,
        };
        (order, std::cmp::Reverse(a.severity), std::cmp::Reverse(a.last_seen_ms))
    });
    list
}

fn state(c: &Context, a: &Alert) -> Markup {
    html! {
        (c.t(match a.state { AlertState::Firing => t::FIRING, AlertState::Pending => t::PENDING, AlertState::Resolved => t::RESOLVED }))
        @if a.flapping { " " span.t { (c.t(t::FLAPPING)) } }
        @match &a.muted {
            Some(Muted::Silence(_)) => { " " span.t { (c.t(t::SILENCED)) } }
            Some(Muted::Maintenance(_)) => { " " span.t { (c.t(t::IN_MAINTENANCE)) } }
            Some(Muted::Inhibited(by)) => { " " a.s href=(format!("/alerts/{by}")) { (c.t(t::INHIBITED)) } }
            None => {}
        }
        @if let Some(k) = &a.acknowledged { br; span.s { (c.t(t::ACKNOWLEDGED)) " " (k.by) " " (k.comment) } }
    }
}

pub async fn list(State(app): State<Arc<App>>, c: Context, Query(w): Query<Wanted>) -> Html {
    let (all, now, l) = (wanted(&app, &c, &w).await, crate::clock::wall_ms(), c.language);
    let shown: Vec<&Alert> = all.iter().skip(w.from).take(PAGE).collect();
    // The other nodes with the same alert are evidence for paths that are cut in one direction.
    let seen = app.monitor.seen_by_all().await;
    let seers = |a: &Alert| -> String {
        let nodes = seen.iter().filter(|s| s.firing.contains(&a.fingerprint));
        nodes.map(|s| s.node.to_string()).collect::<Vec<_>>().join(", ")
    };
    let query =
        |from: usize| format!("/alerts?show={}&severity={}&text={}&from={from}", w.show, w.severity, encoded(&w.text));
    let option = |value: &str, now: &str, text: &str| html! { option value=(value) selected[value == now] { (text) } };
    let body = html! {
        h1 { (c.t(t::ALERTS)) }
        form.row method="get" action="/alerts" {
            label { (c.t(t::SHOW)) select name="show" { (option("", &w.show, c.t(t::ACTIVE))) (option("past", &w.show, c.t(t::PAST))) (option("all", &w.show, c.t(t::ALL))) } }
            label { (c.t(t::SEVERITY)) select name="severity" { (option("", &w.severity, c.t(t::ALL))) @for s in [Severity::Critical, Severity::Warning, Severity::Info] { (option(s.name(), &w.severity, c.t(s.text()))) } } }
            label { (c.t(t::SUBJECT)) input name="text" value=(w.text) maxlength="200"; }
            button { (c.t(t::SHOW)) }
            a.btn href=(format!("/alerts.csv?show={}&severity={}&text={}", w.show, w.severity, encoded(&w.text))) { "CSV" }
            a.btn href=(format!("/alerts.ndjson?show={}&severity={}&text={}", w.show, w.severity, encoded(&w.text))) { "NDJSON" }
            a.btn href="/api/v1/alerts" { "JSON" }
        }
        section.card {
            @if shown.is_empty() { p { (c.t(t::NO_ALERT)) } } @else {
                div.scroll tabindex="0" {
                    table {
                        thead { tr { @for h in [t::SEVERITY, t::ALERT, t::SUBJECT, t::REASON, t::SINCE, t::TIMES, t::STATE, t::SEEN_BY] { (head(&c, h)) } } }
                        tbody {
                            @for a in &shown {
                                tr {
                                    td { (severity(&c, a.severity)) }
                                    td { a href=(format!("/alerts/{}", a.fingerprint)) { (rule(a.rule).title.get(l)) } br; span.s { (a.name()) } }
                                    td { (a.subject.get(l)) }
                                    td { (a.reason.get(l)) }
                                    td { (time(a.since_ms)) }
                                    td.n { (a.count) }
                                    td { (state(&c, a)) }
                                    td { (seers(a)) }
                                }
                            }
                        }
                    }
                }
                div.pager {
                    @if w.from > 0 { a href=(query(0)) { (c.t(t::FIRST)) } }
                    @if w.from + PAGE < all.len() { a href=(query(w.from + PAGE)) { (c.t(t::NEXT)) } }
                }
            }
        }
        (silences(&app, &c, now))
        (rules(&app, &c))
    };
    Html(page(&c, c.t(t::ALERTS), true, &body))
}

/// For a query: everything that is not plainly harmless as its bytes.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

fn silences(app: &App, c: &Context, now: i64) -> Markup {
    let all: Vec<_> = app.monitor.with(|w| w.controls().silences(now).cloned().collect());
    html! {
        section.card {
            h2 { (c.t(t::SILENCES)) }
            @for s in &all {
                form.row method="post" action="/silences/end" {
                    (c.csrf())
                    input type="hidden" name="id" value=(s.id);
                    span {
                        @if let Some(r) = s.matcher.rule { (rule(r).name) " " }
                        @if let Some(n) = s.matcher.node { (c.t(t::NODE)) " " (n) " " }
                        @if let Some(x) = &s.matcher.subject { "\"" (x) "\" " }
                        ": " (s.comment) " (" (s.by) ", " (c.t(t::UNTIL)) " " (time(s.until_ms)) ")"
                    }
                    @if c.may(Role::Operator) { button { (c.t(t::END)) } }
                }
            }
            @if c.may(Role::Operator) {
                form.row method="post" action="/silences" {
                    (c.csrf())
                    label { (c.t(t::RULE)) select name="rule" { option value="" { (c.t(t::ALL)) } @for r in RULES { option value=(r.name) { (r.name) } } } }
                    label { (c.t(t::NODE)) input name="node" inputmode="numeric" size="4"; }
                    label { (c.t(t::SUBJECT)) input name="subject" maxlength="200"; }
                    label { (c.t(t::HOURS)) input name="hours" type="number" min="0.1" max="720" step="any" value="2" required; }
                    label { (c.t(t::COMMENT)) input name="comment" required maxlength="500"; }
                    button { (c.t(t::SILENCE)) }
                }
            } @else { p.s { (c.t(t::NEEDS_OPERATOR)) } }
        }
    }
}

fn rules(app: &App, c: &Context) -> Markup {
    let settings = app.monitor.with(|w| w.settings().clone());
    html! {
        section.card #rules {
            details #rules-table {
                summary { (c.t(t::RULES)) " (" (RULES.len()) ")" }
                div.scroll tabindex="0" {
                    table {
                        thead { tr { @for h in [t::SEVERITY, t::RULE, t::CONDITION, t::THRESHOLD, t::HOLD] { (head(c, h)) } @if c.may(Role::Operator) { th scope="col" { (c.t(t::CHANGE)) } } } }
                        tbody {
                            @for r in RULES {
                                @let form = format!("rule-{}", r.name);
                                tr {
                                    td { (severity(c, r.severity)) }
                                    td { (c.t(r.title)) br; span.s { (r.name) } }
                                    td { (c.t(r.condition)) }
                                    td {
                                        @if let Some(x) = r.threshold {
                                            (settings.threshold(r.id)) " " (x.unit)
                                            @if let Some(k) = settings.critical(r.id) { br; span.s { (c.t(Severity::Critical.text())) ": " (k) } }
                                            br; span.s { (x.min) " – " (x.max) }
                                        }
                                    }
                                    td.n { (settings.hold_ms(r.id) / 1000) }
                                    @if c.may(Role::Operator) {
                                        td {
                                            form.row id=(form) method="post" action="/rules" {
                                                (c.csrf())
                                                input type="hidden" name="rule" value=(r.name);
                                                @if r.threshold.is_some() { input name="threshold" size="5" aria-label=(format!("{} {}", r.name, c.t(t::THRESHOLD))); }
                                                input name="hold_s" size="5" aria-label=(format!("{} {}", r.name, c.t(t::HOLD)));
                                                button { (c.t(t::CHANGE)) }
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
}

pub async fn show(State(app): State<Arc<App>>, c: Context, Path(fingerprint): Path<String>) -> Response {
    let all = wanted(&app, &c, &Wanted { show: "all".into(), ..Default::default() }).await;
    let Some(a) = all.into_iter().find(|a| a.fingerprint == fingerprint) else {
        let body = html! { h1 { (c.t(t::NOT_FOUND)) } p { a href="/alerts" { (c.t(t::ALERTS)) } } };
        return (StatusCode::NOT_FOUND, Html(page(&c, c.t(t::NOT_FOUND), false, &body))).into_response();
    };
    let (l, r) = (c.language, rule(a.rule));
    let incident = app.monitor.with(|w| {
        let mut all = w.incidents().iter();
        all.find(|i| i.members.contains_key(&fingerprint)).map(|i| (i.id.clone(), i.headline.get(l).to_string()))
    });
    let body = html! {
        h1 { (r.title.get(l)) }
        section.card {
            dl {
                dt { (c.t(t::SEVERITY)) } dd { (severity(&c, a.severity)) " " span.s { (r.name) } }
                dt { (c.t(t::STATE)) } dd { (state(&c, &a)) }
                dt { (c.t(t::SUBJECT)) } dd { (a.subject.get(l)) }
                dt { (c.t(t::REASON)) } dd { (a.reason.get(l)) }
                dt { (c.t(t::SINCE)) } dd { (time(a.since_ms)) }
                dt { (c.t(t::DURATION)) } dd { (duration(a.lasted_ms)) ", " (a.count) " " (c.t(t::TIMES)) }
                dt { (c.t(t::CONDITION)) } dd { (r.condition.get(l)) }
                @for (name, value) in &a.evidence { @if !value.is_empty() { dt { (name) } dd { (value) } } }
                @if let Some((id, headline)) = incident { dt { (c.t(t::INCIDENTS)) } dd { a href=(format!("/incidents/{id}")) { (headline) } } }
            }
        }
        section.card { h2 { (c.t(t::WHAT_TO_DO)) } p { (r.action.get(l)) } }
        @if a.is_firing() && c.may(Role::Operator) {
            section.card {
                form.row method="post" action="/alerts/acknowledge" {
                    (c.csrf())
                    input type="hidden" name="fingerprint" value=(a.fingerprint);
                    label { (c.t(t::COMMENT)) input name="comment" maxlength="500"; }
                    button { (c.t(t::ACKNOWLEDGE)) }
                }
            }
        }
    };
    Html(page(&c, r.title.get(l), true, &body)).into_response()
}

pub async fn csv(State(app): State<Arc<App>>, c: Context, Query(w): Query<Wanted>) -> Response {
    let all = wanted(&app, &c, &w).await;
    download("text/csv; charset=utf-8", "alerts.csv", export::csv(&all, c.language))
}

pub async fn ndjson(State(app): State<Arc<App>>, c: Context, Query(w): Query<Wanted>) -> Response {
    let lines: String = wanted(&app, &c, &w)
        .await
        .iter()
        .filter_map(|a| serde_json::to_string(a).ok())
        .map(|line| line + "\n")
        .collect();
    download("application/x-ndjson", "alerts.ndjson", lines)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_query_cannot_end_its_own_parameter() {
        assert_eq!(super::encoded("a&b=节\""), "a%26b%3D%E8%8A%82%22");
    }
}
