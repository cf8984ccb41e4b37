//! Answers for programs: status, metrics, health, alerts and incidents.

use super::samples::{Sample, NAMES};
use super::App;
use crate::status::{collect, metrics, of_coordination, serves, Files};
use axum::extract::{Query, State};
use axum::http::{header, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{json, Value};
use std::sync::Arc;
use trivet_observe::alerts::{Alert, Muted};
use trivet_observe::catalogue::{rule, RULES};

type State_ = State<Arc<App>>;

pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/status.json", get(status))
        .route("/metrics", get(prometheus))
        .route("/vcenter.json", get(vcenter))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/api/v1/health", get(health))
        .route("/api/v1/alerts", get(alerts))
        .route("/api/v1/incidents", get(incidents))
        .route("/api/v2/alerts", get(alertmanager))
        .route("/api/v1/samples", get(samples))
        .route("/api/v1/openapi.json", get(|| async { Json(super::openapi::document()) }))
        .route("/api/v1/rules", get(rules))
        .route("/api/v1/silences", get(silences))
        .route("/api/v1/audit", get(audit))
}

#[derive(Deserialize)]
struct After {
    #[serde(default)]
    after: u64,
}

async fn status(State(app): State_, Query(q): Query<After>) -> Response {
    let monitor = app.monitor.clone();
    // A page of files is decoded under a lock: not on a thread that others wait for.
    let made = tokio::task::spawn_blocking(move || {
        let mut s = collect(&monitor.sources, Files::After(q.after));
        s.health = Some(monitor.health());
        s
    });
    match made.await {
        Ok(s) => Json(s).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// State of the vCenter agent on this node; null where it does not run.
async fn vcenter(State(app): State_) -> Response {
    Json(app.monitor.sources.vcenter.as_ref().and_then(|h| h.snapshot())).into_response()
}

async fn prometheus(State(app): State_) -> Response {
    let s = collect(&app.monitor.sources, Files::None);
    let mut text = app.monitor.with(|w| metrics(&s, w));
    text += &of_coordination(&app.monitor.sources).await;
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn ready(State(app): State_) -> Response {
    let s = collect(&app.monitor.sources, Files::None);
    if serves(&s) {
        (StatusCode::OK, "ready\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", s.not_ready)).into_response()
    }
}

async fn health(State(app): State_) -> Response {
    Json(app.monitor.health()).into_response()
}

async fn alerts(State(app): State_) -> Response {
    let all: Vec<Alert> = app.monitor.with(|w| w.alerts().iter().cloned().collect());
    Json(json!({ "schema": "trivet.alerts/1", "alerts": all })).into_response()
}

async fn incidents(State(app): State_) -> Response {
    let all: Vec<_> = app.monitor.with(|w| w.incidents().iter().cloned().collect());
    Json(json!({ "schema": "trivet.incidents/1", "incidents": all })).into_response()
}

/// Figures of the last hour, day or month.
async fn samples(State(app): State_, Query(w): Query<super::pages::Wanted>) -> Response {
    let Some(span) = w.known_span() else {
        return (StatusCode::BAD_REQUEST, "span is hour, day or month\n").into_response();
    };
    let now = crate::clock::wall_ms();
    let samples = super::pages::read_samples(&app.monitor, now, span).await;
    let row = |s: &Sample| {
        let known = NAMES.iter().zip(s.values).filter(|(_, v)| !v.is_nan());
        let mut row: serde_json::Map<String, Value> = known.map(|(name, v)| ((*name).into(), json!(v))).collect();
        row.insert("at_ms".into(), json!(s.at_ms));
        Value::Object(row)
    };
    let rows: Vec<Value> = samples.iter().map(row).collect();
    Json(json!({ "schema": "trivet.samples/1", "span": span.name, "samples": rows })).into_response()
}

async fn silences(State(app): State_) -> Response {
    let now = crate::clock::wall_ms();
    let (silences, maintenance): (Vec<_>, Vec<_>) = app
        .monitor
        .with(|w| (w.controls().silences(now).cloned().collect(), w.controls().maintenances(now).cloned().collect()));
    Json(json!({ "schema": "trivet.silences/1", "silences": silences, "maintenance": maintenance })).into_response()
}

/// Orders of administrators, of all nodes that answer.
async fn audit(State(app): State_) -> Response {
    let log = app.monitor.orders_of_all().await;
    Json(json!({ "schema": "trivet.audit/1", "orders": log.orders, "silent": log.silent })).into_response()
}

async fn rules(State(app): State_) -> Response {
    let settings = app.monitor.with(|w| w.settings().clone());
    let all: Vec<Value> = RULES
        .iter()
        .map(|r| {
            json!({
                "id": r.name, "severity": r.severity.name(), "hold_ms": settings.hold_ms(r.id),
                "threshold": r.threshold.map(|t| json!({
                    "value": settings.threshold(r.id), "min": t.min, "max": t.max, "unit": t.unit,
                })),
                "critical": settings.critical(r.id), "title": r.title, "condition": r.condition, "action": r.action,
            })
        })
        .collect();
    Json(json!({ "schema": "trivet.rules/1", "rules": all })).into_response()
}

/// Firing alerts as clients of Alertmanager expect them.
async fn alertmanager(State(app): State_) -> Response {
    let node = app.monitor.sources.config.node;
    Json(app.monitor.with(|w| w.alerts().firing().map(|a| gettable(a, node)).collect::<Vec<_>>())).into_response()
}

/// `2026-11-29T09:30:00.000Z`.
pub(crate) fn rfc3339(at_ms: i64) -> String {
    format!("{}Z", trivet_observe::time_text(at_ms))
}

fn gettable(a: &Alert, node: u32) -> Value {
    let r = rule(a.rule);
    let mut labels = serde_json::Map::new();
    labels.insert("alertname".into(), r.name.into());
    labels.insert("severity".into(), a.severity.name().into());
    for (k, v) in a.subject.labels() {
        labels.insert(k.into(), v.into());
    }
    let (silenced, inhibited) = match &a.muted {
        Some(Muted::Silence(id)) => (vec![id.clone()], Vec::new()),
        Some(Muted::Maintenance(n)) => (vec![format!("maintenance-of-node-{n}")], Vec::new()),
        Some(Muted::Inhibited(by)) => (Vec::new(), vec![by.clone()]),
        None => (Vec::new(), Vec::new()),
    };
    let state = if a.muted.is_some() { "suppressed" } else { "active" };
    json!({
        "annotations": {
            "summary": r.title.en,
            "summary_zh": r.title.zh,
            "description": a.reason.en,
            "description_zh": a.reason.zh,
            "action": r.action.en,
            "action_zh": r.action.zh,
        },
        "endsAt": rfc3339(a.last_seen_ms + 300_000),
        "fingerprint": a.fingerprint,
        "receivers": [{ "name": "trivet" }],
        "startsAt": rfc3339(a.since_ms),
        "status": { "inhibitedBy": inhibited, "silencedBy": silenced, "state": state },
        "updatedAt": rfc3339(a.last_seen_ms),
        "generatorURL": format!("/alerts/{}?node={node}", a.fingerprint),
        "labels": labels,
    })
}
