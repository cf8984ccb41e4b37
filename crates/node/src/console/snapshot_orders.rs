//! Forms of the datastores' page: snapshots are taken and deleted, files are cloned and restored. Each waits until it is done, as
//! the commands do (`admin::snapshots`), and is written down with who ordered it.

use super::accounts::Role;
use super::orders::{audit, back, refused};
use super::{App, Context};
use crate::admin::snapshots;
use axum::extract::{Form, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::Router;
use serde::Deserialize;
use std::future::Future;
use std::sync::Arc;

type State_ = State<Arc<App>>;

pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/datastores/snapshot", post(take))
        .route("/datastores/snapshot/delete", post(delete))
        .route("/datastores/clone", post(clone))
        .route("/datastores/restore", post(restore))
}

#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    csrf: String,
    datastore: String,
    /// The name of a snapshot.
    #[serde(default)]
    name: String,
    #[serde(default)]
    from: String,
    #[serde(default)]
    to: String,
}

/// Carries an operator's order out, and goes back to the datastore's page.
async fn order<F>(app: &App, c: &Context, w: &Wanted, what: String, done: F) -> Response
where
    F: Future<Output = anyhow::Result<()>>,
{
    let by = match c.allow(app, Role::Operator, &w.csrf) {
        Ok(by) => by,
        Err(no) => return no,
    };
    let done = done.await;
    let outcome = done.as_ref().err().map_or("done".to_string(), |e| format!("refused: {e}"));
    audit(app, c, &by, &what, &outcome);
    match done {
        Ok(()) => back(&format!("/datastores?path=/{}", w.datastore)).into_response(),
        Err(e) => refused(e),
    }
}

async fn take(State(app): State_, c: Context, Form(w): Form<Wanted>) -> Response {
    let what = format!("snapshot {} of {}", w.name, w.datastore);
    let config = &app.monitor.sources.config;
    order(&app, &c, &w, what, async { snapshots::take_snapshot(config, &w.datastore, &w.name).await.map(drop) }).await
}

async fn delete(State(app): State_, c: Context, Form(w): Form<Wanted>) -> Response {
    let what = format!("delete snapshot {} of {}", w.name, w.datastore);
    let config = &app.monitor.sources.config;
    order(&app, &c, &w, what, snapshots::delete_snapshot(config, &w.datastore, &w.name)).await
}

async fn clone(State(app): State_, c: Context, Form(w): Form<Wanted>) -> Response {
    let what = format!("clone {} of {} as {}", w.from, w.datastore, w.to);
    let config = &app.monitor.sources.config;
    order(&app, &c, &w, what, snapshots::clone_file(config, &w.datastore, &w.from, &w.to)).await
}

async fn restore(State(app): State_, c: Context, Form(w): Form<Wanted>) -> Response {
    let what = format!("restore {} of {} from snapshot {}", w.from, w.datastore, w.name);
    let config = &app.monitor.sources.config;
    let restored = async { snapshots::restore(config, &w.datastore, &w.name, &w.from).await.map(drop) };
    order(&app, &c, &w, what, restored).await
}
