//! Pages about maintenance, the audit log, accounts and targets of messages.

use super::Html;
use crate::console::accounts::Role;
use crate::console::layout::{head, page, time};
use crate::console::{texts as t, App, Context};
use crate::status::Known;
use axum::extract::State;
use maud::{html, Markup};
use std::sync::Arc;
use trivet_events::Subject;
use trivet_observe::Language;

const EVENTS_SHOWN: usize = 100;
const AUDIT_SHOWN: usize = 200;

/// The text in the reader's language, where the record has it; those of earlier releases are translated by a table.
fn in_language(c: &Context, en: &str, zh: Option<&String>) -> String {
    match c.language {
        Language::En => en.to_string(),
        Language::Zh => zh.cloned().unwrap_or_else(|| trivet_events::in_chinese(en)),
    }
}

fn subject<'a>(c: &Context, name: &'a str) -> &'a str {
    match c.language {
        Language::En => name,
        Language::Zh => Subject::by_name(name).map_or(name, |s| s.in_chinese()),
    }
}

/// The nodes' latest events, newest first.
pub fn events(c: &Context, known: &[Known], count_max: usize) -> Markup {
    let mut all: Vec<_> = known.iter().flat_map(|k| &k.status.events).collect();
    all.sort_by_key(|e| std::cmp::Reverse((e.wall_ms, e.node)));
    html! {
        div.scroll tabindex="0" {
            table {
                thead { tr { @for h in [t::TIME, t::NODE, t::SUBJECT, t::WHAT, t::WHY] { (head(c, h)) } } }
                tbody {
                    @for e in all.iter().take(count_max) {
                        tr {
                            td { (time(e.wall_ms)) } td { (e.node) } td { (subject(c, &e.subject)) }
                            td { (in_language(c, &e.what, e.what_zh.as_ref())) } td { (in_language(c, &e.why, e.why_zh.as_ref())) }
                        }
                    }
                }
            }
        }
    }
}

pub async fn activity(State(app): State<Arc<App>>, c: Context) -> Html {
    let (v, known) = (app.monitor.view(), app.monitor.known());
    let log = app.monitor.orders_of_all().await;
    let body = html! {
        h1 { (c.t(t::ACTIVITY)) }
        section.card {
            h2 { (c.t(t::RECOVERY)) }
            @match v.copies.as_ref().filter(|k| k.missing + k.recovering > 0) {
                Some(k) => {
                    p { (k.recovering) " " (c.t(t::RECOVERING)) ", " (k.missing) " " (c.t(t::MISSING)) " " (c.t(t::OF)) " " (k.extents) " " (c.t(t::EXTENTS)) }
                    ul { @for f in &k.files { li { (f) } } }
                }
                None => { p.s { (c.t(t::NOTHING_TO_RECOVER)) } }
            }
        }
        section.card { h2 { (c.t(t::EVENTS)) } (events(&c, &known, EVENTS_SHOWN)) }
        section.card {
            h2 { (c.t(t::AUDIT)) }
            @if !log.silent.is_empty() {
                p.s { (c.t(t::AUDIT_SILENT)) " " (log.silent.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")) }
            }
            div.scroll tabindex="0" {
                table {
                    thead { tr { @for h in [t::TIME, t::NODE, t::WHO, t::ORIGIN, t::WHAT, t::OUTCOME] { (head(&c, h)) } } }
                    tbody {
                        @for l in log.orders.iter().take(AUDIT_SHOWN) {
                            tr {
                                td { (time(l.at_ms)) }
                                td { (l.node) }
                                td { (l.order.by) }
                                td { (l.order.from.map_or_else(|| "—".to_string(), |a| a.to_string())) }
                                td { (l.order.what) }
                                td { (l.order.outcome) }
                            }
                        }
                    }
                }
            }
        }
    };
    Html(page(&c, c.t(t::ACTIVITY), true, &body))
}

pub async fn show(State(app): State<Arc<App>>, c: Context) -> Html {
    let administrator = c.may(Role::Administrator);
    let body = html! {
        h1 { (c.t(t::SETTINGS)) }
        section.card {
            h2 { (c.t(t::LANGUAGE)) }
            form.row method="post" action="/language" {
                input type="hidden" name="back" value="/settings";
                label { (c.t(t::LANGUAGE)) select name="language" { option value="en" selected[c.language.tag() == "en"] { "English" } option value="zh" selected[c.language.tag() != "en"] { "中文" } } }
                button { (c.t(t::CHANGE)) }
            }
        }
        @if let Some(certificate) = &app.certificates {
            section.card {
                h2 { (c.t(t::CERTIFICATE)) }
                p { (c.t(if certificate.is_of_site() { t::CERTIFICATE_OF_SITE } else { t::CERTIFICATE_OWN })) " · " (format!("{:.0}", certificate.days_left())) " " (c.t(t::DAYS_LEFT)) }
                p.s { "SHA-256 " code { (certificate.fingerprint()) } }
            }
        }
        section.card {
            h2 { (c.t(t::TARGETS)) }
            @let targets = app.notifier.targets();
            @if targets.is_empty() { p.s { (c.t(t::NO_TARGET)) } }
            @for x in &targets {
                form.row method="post" action="/notify/test" {
                    (c.csrf())
                    input type="hidden" name="name" value=(x.name);
                    span { strong { (x.name) } " " (x.kind) " · " (x.sent) " " (c.t(t::SENT)) ", " (x.failed) " " (c.t(t::FAILED)) " " span.warn { (x.last_error) } }
                    @if c.may(Role::Operator) { button { (c.t(t::TEST)) } }
                }
            }
        }
        @if administrator {
            section.card {
                h2 { (c.t(t::ACCOUNTS)) }
                @for (name, role, token) in app.accounts.list() {
                    form.row method="post" action="/accounts/remove" {
                        (c.csrf())
                        input type="hidden" name="name" value=(name);
                        span { strong { (name) } " " (role.name()) @if token { " (token)" } }
                        button { (c.t(t::END)) }
                    }
                }
                form.row method="post" action="/accounts" {
                    (c.csrf())
                    label { (c.t(t::NAME)) input name="name" required maxlength="64" autocomplete="off"; }
                    label { (c.t(t::PASSWORD)) input name="password" type="password" autocomplete="new-password"; }
                    label { (c.t(t::ROLE)) select name="role" { @for r in [Role::Viewer, Role::Operator, Role::Administrator] { option value=(r.name()) { (r.name()) } } } }
                    label { "API token" input name="token" type="checkbox" value="1"; }
                    button { (c.t(t::CHANGE)) }
                }
            }
        }
    };
    Html(page(&c, c.t(t::SETTINGS), false, &body))
}
