//! The console: pages, API, metrics and health of one node, by any of which the whole cluster is seen.

pub mod accounts;
mod api;
pub mod certificate;
mod gate;
pub mod history;
mod layout;
mod live;
pub mod notify;
mod openapi;
mod orders;
mod pages;
pub mod samples;
mod snapshot_orders;
mod svg;
mod texts;

pub use gate::BY_HEADER;

use crate::console_listener::ConsoleListener;
use crate::coordination::Handle;
use crate::status::monitor::Monitor;
use accounts::{Accounts, Role, User};
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use certificate::Certificates;
use maud::{html, Markup};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;
use trivet_observe::language::Text;
use trivet_observe::Language;

/// Time for a connection to another node; a slower node is left out.
const FORWARD_LIMIT: Duration = Duration::from_millis(500);

/// Shared state of the console's pages.
pub struct App {
    /// The views, alerts and figures that the pages show.
    pub monitor: Arc<Monitor>,
    /// Users of the console, and its API tokens.
    pub accounts: Arc<Accounts>,
    /// Sends incidents to people.
    pub notifier: notify::Notifier,
    /// The console listens on loopback only, so callers are on this machine and may read.
    pub local: bool,
    /// Certificates of the console; without them it speaks plain HTTP only.
    pub certificates: Option<Arc<Certificates>>,
}

/// A request's user, language and path.
pub struct Context {
    /// The language of the page, by cookie or by the browser's preference.
    pub language: Language,
    /// The user, if the request is authenticated.
    pub user: Option<User>,
    /// The path that was asked for, without its query.
    pub path: String,
    /// Name of the cluster.
    pub cluster: String,
    /// Number of the node that answers.
    pub node: u32,
    /// Address that the request comes from.
    pub from: Option<IpAddr>,
    /// Whose request it is, as a program with the cluster's key says.
    by: Option<String>,
    cookie: String,
    form_code: String,
}

impl Context {
    /// The text in the user's language.
    pub fn t(&self, text: Text) -> &'static str {
        text.get(self.language)
    }
    /// Whether the user has this role, or one above it.
    pub fn may(&self, role: Role) -> bool {
        self.user.as_ref().is_some_and(|u| u.role >= role)
    }
    /// The hidden field of every form that changes something.
    pub fn csrf(&self) -> Markup {
        html! { input type="hidden" name="csrf" value=(self.form_code); }
    }
}

/// Serves pages, status, metrics and health of one node.
///
/// # Errors
/// The address cannot be listened on.
pub fn serve(address: SocketAddr, app: App) -> anyhow::Result<()> {
    let tls = app.certificates.as_ref().map(Certificates::acceptor).transpose()?;
    let listener =
        ConsoleListener::bind(address, tls).map_err(|e| anyhow::anyhow!("console cannot listen on {address}: {e}"))?;
    if let Some(certificates) = &app.certificates {
        if !certificates.is_of_site() {
            let sha256 = certificates.fingerprint();
            tracing::info!(%address, %sha256, "the console has a certificate of its own; browsers ask whether to trust it");
        }
        tokio::spawn(certificates.clone().keep_current());
    }
    let app = Arc::new(App { local: address.ip().is_loopback(), ..app });
    let routes = api::routes()
        .merge(pages::routes())
        .merge(orders::routes())
        .merge(snapshot_orders::routes())
        .route("/live", get(live::stream))
        .route(
            "/assets/console.css",
            get(|| async { asset("text/css; charset=utf-8", include_str!("../assets/console.css")) }),
        )
        .route(
            "/assets/console.js",
            get(|| async { asset("text/javascript; charset=utf-8", include_str!("../assets/console.js")) }),
        )
        .layer(axum::middleware::from_fn_with_state(app.clone(), gate::check))
        .with_state(app);
    let service = routes.into_make_service_with_connect_info::<Peer>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    Ok(())
}

/// Where a connection comes from, and whether it speaks TLS.
#[derive(Debug, Clone)]
pub struct Peer(pub SocketAddr, Arc<AtomicBool>);

impl Peer {
    /// Whether the request came over TLS.
    pub fn is_tls(&self) -> bool {
        self.1.load(Ordering::Relaxed)
    }
}

impl axum::extract::connect_info::Connected<axum::serve::IncomingStream<'_, ConsoleListener>> for Peer {
    fn connect_info(stream: axum::serve::IncomingStream<'_, ConsoleListener>) -> Self {
        Peer(*stream.remote_addr(), stream.io().is_tls())
    }
}

fn asset(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, kind)], text)
}

/// Hands connections on to the console of any node that answers, for a cluster on one machine.
///
/// # Errors
/// The address cannot be listened on.
pub fn forward(address: SocketAddr, nodes: Vec<(u32, Vec<SocketAddr>)>) -> anyhow::Result<()> {
    let mut listener =
        ConsoleListener::bind(address, None).map_err(|e| anyhow::anyhow!("console cannot listen on {address}: {e}"))?;
    tokio::spawn(async move {
        loop {
            let (mut from, _) = axum::serve::Listener::accept(&mut listener).await;
            let nodes = nodes.clone();
            tokio::spawn(async move {
                // The first address of a node is that of the process with the data.
                for to in nodes.iter().filter_map(|(_, addresses)| addresses.first()) {
                    let connected = tokio::time::timeout(FORWARD_LIMIT, tokio::net::TcpStream::connect(to)).await;
                    if let Ok(Ok(mut to)) = connected {
                        // Either side may end it.
                        let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                        return;
                    }
                }
            });
        }
    });
    Ok(())
}

/// Serves Apache's figures of a server alone, where its provider for Prometheus would.
///
/// # Errors
/// The address cannot be listened on.
pub fn serve_metrics(address: SocketAddr, handle: Handle) -> anyhow::Result<()> {
    let listener = ConsoleListener::bind(address, None)
        .map_err(|e| anyhow::anyhow!("metrics cannot be served on {address}: {e}"))?;
    let app = axum::Router::new().route("/metrics", get(move || async move { handle.metrics().await }));
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(())
}
