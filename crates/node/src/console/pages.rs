//! The pages.

mod alerts;
mod charts;
mod data;
mod incidents;
mod machines;
mod overview;
mod settings;
mod snapshots;
mod vcenter;

pub use charts::{read as read_samples, Wanted};

use super::layout::page;
use super::texts as t;
use super::{App, Context};
use axum::http::{header, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::Router;
use maud::{html, Markup};
use std::sync::Arc;

pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(overview::show))
        .route("/incidents", get(incidents::list))
        .route("/incidents/{id}", get(incidents::show))
        .route("/incidents/{id}/export/{form}", get(incidents::export))
        .route("/alerts", get(alerts::list))
        .route("/alerts/{fingerprint}", get(alerts::show))
        .route("/alerts.csv", get(alerts::csv))
        .route("/alerts.ndjson", get(alerts::ndjson))
        .route("/network", get(machines::network))
        .route("/nodes", get(machines::nodes))
        .route("/datastores", get(data::show))
        .route("/activity", get(settings::activity))
        .route("/settings", get(settings::show))
        .fallback(missing)
}

/// A page as an answer. maud escapes everything that is put into it.
pub struct Html(pub Markup);

impl IntoResponse for Html {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], self.0.into_string()).into_response()
    }
}

async fn missing(c: Context) -> Response {
    let body = html! { h1 { (c.t(t::NOT_FOUND)) } p { a href="/" { (c.t(t::OVERVIEW)) } } };
    (StatusCode::NOT_FOUND, Html(page(&c, c.t(t::NOT_FOUND), false, &body))).into_response()
}

/// An answer that browsers save as a file.
pub fn download(kind: &'static str, name: &str, text: String) -> Response {
    let how = format!("attachment; filename=\"{name}\"");
    ([(header::CONTENT_TYPE, kind.to_string()), (header::CONTENT_DISPOSITION, how)], text).into_response()
}

pub fn login(c: &Context, failed: bool) -> Html {
    let body = html! {
        h1 { (c.t(t::SIGN_IN)) }
        @if failed { p.crit role="alert" { (c.t(t::SIGN_IN_FAILED)) } }
        form.row method="post" action="/login" {
            label { (c.t(t::NAME)) input name="name" autocomplete="username" required; }
            label { (c.t(t::PASSWORD)) input name="password" type="password" autocomplete="current-password" required; }
            button { (c.t(t::SIGN_IN)) }
        }
    };
    Html(page(c, c.t(t::SIGN_IN), false, &body))
}
