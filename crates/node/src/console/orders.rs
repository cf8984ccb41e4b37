//! Changes that people make by forms: sessions, language, acknowledgements, silences, maintenance, rules, accounts.

use super::accounts::{Role, KEY_HOLDER};
use super::gate::{language_cookie, set_cookie, SESSION_COOKIE};
use super::{pages, App, Context, Peer};
use crate::audit::Order;
use axum::extract::{ConnectInfo, Form, Query, State};
use axum::http::{header, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::Router;
use serde::Deserialize;
use std::sync::Arc;
use trivet_observe::alerts::Acknowledgement;
use trivet_observe::catalogue::by_name;
use trivet_observe::settings::Changed;
use trivet_observe::silences::{Maintenance, Matcher, Silence};
use trivet_observe::view::{Happened, Occurrence};
use trivet_observe::watcher::Input;

type State_ = State<Arc<App>>;

pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/login", get(login_page).post(login))
        .route("/logout", post(logout))
        .route("/language", post(language))
        .route("/alerts/acknowledge", post(acknowledge))
        .route("/silences", post(silence))
        .route("/silences/end", post(end_silence))
        .route("/maintenance", post(maintain))
        .route("/maintenance/end", post(end_maintenance))
        .route("/rules", post(change_rule))
        .route("/accounts", post(account))
        .route("/accounts/remove", post(remove_account))
        .route("/notify/test", post(test_target))
}

/// Only to our own pages.
pub(super) fn back(to: &str) -> Redirect {
    // Browsers leave out tabs, and take a backslash for a slash.
    let plain = to.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    let own = to.starts_with('/') && !to.starts_with("//") && plain;
    Redirect::to(if own { to } else { "/" })
}

pub(super) fn refused(e: impl std::fmt::Display) -> Response {
    (StatusCode::UNPROCESSABLE_ENTITY, format!("{e}\n")).into_response()
}

#[derive(Deserialize)]
struct Link {
    code: Option<String>,
}

/// The page to sign in, or, with a link's code, the session at once.
async fn login_page(
    State(app): State_,
    ConnectInfo(peer): ConnectInfo<Peer>,
    c: Context,
    Query(q): Query<Link>,
) -> Response {
    if let Some(code) = q.code {
        if let Some(session) = app.accounts.use_link(crate::clock::wall_ms(), &code) {
            let cookie = set_cookie(SESSION_COOKIE, &session, 12 * 3_600, false, peer.is_tls());
            return ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response();
        }
    }
    pages::login(&c, false).into_response()
}

#[derive(Deserialize)]
struct Login {
    name: String,
    password: String,
}

async fn login(State(app): State_, ConnectInfo(peer): ConnectInfo<Peer>, c: Context, Form(f): Form<Login>) -> Response {
    let now = crate::clock::wall_ms();
    // All clients behind a proxy have one address: a stranger among them can make the others wait, for a minute at most.
    let from = peer.0.ip().to_string();
    match app.accounts.sign_in(now, &f.name, &f.password, &from).await {
        Some(session) => {
            audit(&app, &c, &f.name, "sign in", "done");
            let cookie = set_cookie(SESSION_COOKIE, &session, 12 * 3_600, false, peer.is_tls());
            ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response()
        }
        None => {
            let what = Happened::LoginFailed { address: from };
            app.monitor.happened(Occurrence { at_ms: now, what, detail: "a login failed".into() });
            audit(&app, &c, &f.name, "sign in", "refused");
            (StatusCode::FORBIDDEN, pages::login(&c, true)).into_response()
        }
    }
}

#[derive(Deserialize)]
struct Code {
    #[serde(default)]
    csrf: String,
}

async fn logout(State(app): State_, c: Context, Form(f): Form<Code>) -> Response {
    if let Err(no) = c.allow(&app, Role::Viewer, &f.csrf) {
        return no;
    }
    ([(header::SET_COOKIE, set_cookie(SESSION_COOKIE, "", 0, false, false))], Redirect::to("/login")).into_response()
}

#[derive(Deserialize)]
struct Chosen {
    language: String,
    #[serde(default)]
    back: String,
}

async fn language(Form(f): Form<Chosen>) -> Response {
    ([(header::SET_COOKIE, language_cookie(&f.language))], back(&f.back)).into_response()
}

/// Writes down what was ordered without the monitor.
pub(super) fn audit(app: &App, c: &Context, by: &str, what: &str, outcome: &str) {
    let order = Order { by: by.into(), from: c.from, what: what.into(), outcome: outcome.into() };
    app.monitor.audit(crate::clock::wall_ms(), &order);
}

/// Carries an order out and goes back to the page it came from.
fn order(
    app: &App,
    c: &Context,
    csrf: &str,
    what: &str,
    input: impl FnOnce(String) -> Input<'static>,
    to: &str,
) -> Response {
    let by = match c.allow(app, Role::Operator, csrf) {
        Ok(by) => by,
        Err(no) => return no,
    };
    match app.monitor.order(&by.clone(), c.from, what, input(by)) {
        Ok(()) => back(to).into_response(),
        Err(e) => refused(e),
    }
}

#[derive(Deserialize)]
struct Acknowledge {
    #[serde(default)]
    csrf: String,
    fingerprint: String,
    #[serde(default)]
    comment: String,
}

async fn acknowledge(State(app): State_, c: Context, Form(f): Form<Acknowledge>) -> Response {
    let at_ms = crate::clock::wall_ms();
    let what = format!("acknowledge alert {}", f.fingerprint);
    let comment: String = f.comment.chars().take(500).collect();
    order(
        &app,
        &c,
        &f.csrf,
        &what,
        |by| Input::Acknowledge(f.fingerprint, Acknowledgement { by, at_ms, comment }),
        "/alerts",
    )
}

#[derive(Deserialize)]
struct NewSilence {
    #[serde(default)]
    csrf: String,
    #[serde(default)]
    rule: String,
    #[serde(default)]
    node: String,
    #[serde(default)]
    subject: String,
    hours: f64,
    comment: String,
}

fn hours(h: f64) -> i64 {
    (h.clamp(0.0, 1_000.0) * 3_600_000.0) as i64
}

async fn silence(State(app): State_, c: Context, Form(f): Form<NewSilence>) -> Response {
    let now = crate::clock::wall_ms();
    let rule = match (f.rule.as_str(), by_name(&f.rule)) {
        ("", _) => None,
        (_, Some(r)) => Some(r.id),
        (name, None) => return refused(format!("{name} is no rule")),
    };
    let node = match (f.node.as_str(), f.node.parse()) {
        ("", _) => None,
        (_, Ok(n)) => Some(n),
        (text, Err(_)) => return refused(format!("{text} is no node's number")),
    };
    let subject = (!f.subject.is_empty()).then(|| f.subject.chars().take(200).collect());
    if rule.is_none() && node.is_none() && subject.is_none() {
        return refused("name a rule, a node or a part of the subject: a silence of everything would be forgotten");
    }
    let id = format!("{:x}", u64::from_be_bytes(crate::rpc::random::<8>()));
    let parts = [("rule", f.rule.as_str()), ("node", f.node.as_str()), ("subject", f.subject.as_str())];
    let named: Vec<_> = parts.iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| format!("{k} {v}")).collect();
    let what = format!("silence {} for {} h: {}", named.join(", "), f.hours, f.comment);
    let new = |by| {
        Input::Silence(Silence {
            id,
            matcher: Matcher { rule, node, subject },
            from_ms: now,
            until_ms: now + hours(f.hours),
            by,
            comment: f.comment,
            changed_ms: now,
        })
    };
    order(&app, &c, &f.csrf, &what, new, "/alerts")
}

#[derive(Deserialize)]
struct Id {
    #[serde(default)]
    csrf: String,
    id: String,
}

async fn end_silence(State(app): State_, c: Context, Form(f): Form<Id>) -> Response {
    let what = format!("end silence {}", f.id);
    order(&app, &c, &f.csrf, &what, |_| Input::EndSilence(f.id), "/alerts")
}

#[derive(Deserialize)]
struct NewMaintenance {
    #[serde(default)]
    csrf: String,
    node: u32,
    hours: f64,
    comment: String,
}

async fn maintain(State(app): State_, c: Context, Form(f): Form<NewMaintenance>) -> Response {
    if !app.monitor.sources.config.numbers().contains(&f.node) {
        return refused(format!("there is no node {}", f.node));
    }
    let now = crate::clock::wall_ms();
    let what = format!("maintenance of node {} for {} h: {}", f.node, f.hours, f.comment);
    let until_ms = now + hours(f.hours);
    let new = |by| {
        let (node, comment) = (f.node, f.comment);
        Input::Maintain(Maintenance { node, from_ms: now, until_ms, by, comment, changed_ms: now })
    };
    order(&app, &c, &f.csrf, &what, new, "/nodes")
}

#[derive(Deserialize)]
struct Node {
    #[serde(default)]
    csrf: String,
    node: u32,
}

async fn end_maintenance(State(app): State_, c: Context, Form(f): Form<Node>) -> Response {
    let what = format!("end maintenance of node {}", f.node);
    order(&app, &c, &f.csrf, &what, |_| Input::EndMaintenance(f.node), "/nodes")
}

#[derive(Deserialize)]
struct NewRule {
    #[serde(default)]
    csrf: String,
    rule: String,
    #[serde(default)]
    threshold: String,
    #[serde(default)]
    hold_s: String,
}

async fn change_rule(State(app): State_, c: Context, Form(f): Form<NewRule>) -> Response {
    let Some(r) = by_name(&f.rule) else { return refused(format!("{} is no rule", f.rule)) };
    let number = |text: &str| (!text.is_empty()).then(|| text.parse::<f64>()).transpose();
    let (Ok(threshold), Ok(hold)) = (number(&f.threshold), number(&f.hold_s)) else {
        return refused("a number is expected");
    };
    let before = app.monitor.with(|w| w.settings().changed(r.id));
    let to = Changed { threshold, hold_ms: hold.map(|s| (s.clamp(0.0, 1e9) * 1e3) as u64), ..before };
    let what = format!("rule {}: threshold {} hold {} s", r.name, f.threshold, f.hold_s);
    order(&app, &c, &f.csrf, &what, |_| Input::ChangeRule(r.id, to), "/alerts#rules")
}

#[derive(Deserialize)]
struct NewAccount {
    #[serde(default)]
    csrf: String,
    name: String,
    #[serde(default)]
    password: String,
    role: String,
    #[serde(default)]
    token: String,
}

async fn account(State(app): State_, c: Context, Form(f): Form<NewAccount>) -> Response {
    let by = match c.allow(&app, Role::Administrator, &f.csrf) {
        Ok(by) => by,
        Err(no) => return no,
    };
    let role: Role = match f.role.parse() {
        Ok(role) => role,
        Err(e) => return refused(e),
    };
    let now = crate::clock::wall_ms();
    if f.name == KEY_HOLDER {
        return refused("that name is taken");
    }
    let accounts = app.accounts.clone();
    let (name, token) = (f.name.clone(), !f.token.is_empty());
    let made = tokio::task::spawn_blocking(move || {
        if token {
            accounts.add_token(now, &name, role)
        } else {
            accounts.set_password(now, &name, &f.password, role).map(|()| String::new())
        }
    });
    let made = made.await.unwrap_or_else(|e| Err(anyhow::anyhow!("{e}")));
    let what = format!("account {} with the role {}", f.name, role.name());
    let outcome = made.as_ref().err().map_or("done".to_string(), |e| format!("refused: {e}"));
    audit(&app, &c, &by, &what, &outcome);
    match made {
        Ok(secret) if secret.is_empty() => back("/settings").into_response(),
        // The token is shown once, and kept as a hash only.
        Ok(secret) => (StatusCode::OK, format!("{secret}\n")).into_response(),
        Err(e) => refused(e),
    }
}

#[derive(Deserialize)]
struct Name {
    #[serde(default)]
    csrf: String,
    name: String,
}

async fn remove_account(State(app): State_, c: Context, Form(f): Form<Name>) -> Response {
    let by = match c.allow(&app, Role::Administrator, &f.csrf) {
        Ok(by) => by,
        Err(no) => return no,
    };
    let now = crate::clock::wall_ms();
    let done = app.accounts.remove(now, &f.name);
    let outcome = done.as_ref().err().map_or("done".to_string(), |e| format!("refused: {e}"));
    audit(&app, &c, &by, &format!("remove account {}", f.name), &outcome);
    match done {
        Ok(()) => back("/settings").into_response(),
        Err(e) => refused(e),
    }
}

async fn test_target(State(app): State_, c: Context, Form(f): Form<Name>) -> Response {
    let by = match c.allow(&app, Role::Operator, &f.csrf) {
        Ok(by) => by,
        Err(no) => return no,
    };
    let sent = app.notifier.test(&f.name).await;
    let outcome = sent.as_ref().err().map_or("sent".to_string(), ToString::to_string);
    audit(&app, &c, &by, &format!("test message to {}", f.name), &outcome);
    match sent {
        Ok(()) => back("/settings").into_response(),
        Err(e) => (StatusCode::BAD_GATEWAY, format!("{e}\n")).into_response(),
    }
}
