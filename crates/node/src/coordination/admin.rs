//! Apache's AdminServer: what the four-letter words tell, as JSON over HTTP, and a snapshot, on a port of its own.
//!
//! `GET /commands/NAME` answers `{"command": NAME, "error": null, ...}` with Apache's names and shapes, for programs parse
//! them. It asks the core for the words' texts and takes them apart: one source, so that the two cannot differ.
//= zookeeper 3.9 server/admin/Commands.java, JettyAdminServer.java

mod listener;
mod restore;
mod shapes;
mod snapshot;

use super::stream::Speaks;
use super::Handle;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::{header, HeaderMap, Method, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use listener::{Caller, Listener};
use serde_json::{json, Value};
use shapes::{object, Object};
use snapshot::RateLimit;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use trivet_coordination::{AdminRefusal, RoleName};
use trivet_formats::SessionId;

const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests";

/// The name, other names, the word that tells it, and whether it is answered by a server that serves nobody.
type Command = (&'static str, &'static [&'static str], Option<&'static [u8; 4]>, bool);
const COMMANDS: [Command; 26] = [
    ("configuration", &["conf", "config"], Some(b"conf"), false),
    ("connection_stat_reset", &["crst"], Some(b"crst"), false),
    ("connections", &["cons"], Some(b"cons"), false),
    ("dirs", &[], Some(b"dirs"), false),
    ("dump", &[], Some(b"dump"), false),
    ("environment", &["env", "envi"], Some(b"envi"), true),
    ("get_trace_mask", &["gtmk"], Some(b"gtmk"), true),
    ("hash", &[], Some(b"hash"), false),
    ("initial_configuration", &["icfg"], None, false),
    ("is_read_only", &["isro"], None, false),
    ("last_snapshot", &["lsnp"], None, false),
    ("leader", &["lead"], Some(b"conf"), false),
    ("monitor", &["mntr"], Some(b"mntr"), true),
    ("restore", &["rest"], None, false),
    ("ruok", &[], None, false),
    ("server_stats", &["srvr"], Some(b"mntr"), false),
    ("set_trace_mask", &["stmk"], None, true),
    ("snapshot", &["snap"], None, false),
    ("stat_reset", &["srst"], Some(b"srst"), false),
    ("stats", &["stat"], Some(b"mntr"), false),
    ("system_properties", &["sysp"], None, true),
    ("voting_view", &[], Some(b"conf"), false),
    ("watch_summary", &["wchs"], Some(b"wchs"), false),
    ("watches", &["wchc"], Some(b"wchc"), false),
    ("watches_by_path", &["wchp"], Some(b"wchp"), false),
    ("zabstate", &[], Some(b"conf"), true),
];

/// The address, and what commands need beside the core.
#[derive(Debug, Clone)]
pub struct AdminSettings {
    /// Address that the AdminServer listens on.
    pub address: SocketAddr,
    /// Plain, TLS, or both.
    pub speaks: Speaks,
    /// `/commands` unless another is configured.
    pub url: String,
    /// The configuration file.
    pub file: PathBuf,
    /// Folder of the snapshots (`dataDir`).
    pub data_dir: PathBuf,
    /// How the server packs its snapshots.
    pub packing: crate::coordination::Packing,
    /// Records behind the seal of snapshots' files.
    pub trailer: trivet_formats::snapshot::Trailer,
    /// `admin.snapshot.enabled`
    pub snapshot: bool,
    /// `admin.restore.enabled`
    pub restore: bool,
    /// A snapshot is taken this often at most, and one is restored.
    pub snapshot_pause: Duration,
}

struct Server {
    handle: Handle,
    settings: AdminSettings,
    snapshots: RateLimit,
    restores: RateLimit,
}

/// An answer that is no object of figures.
struct Failure(StatusCode, Option<&'static str>);

/// Serves until the runtime ends.
///
/// # Errors
/// The address cannot be listened on.
pub fn serve(settings: AdminSettings, handle: Handle) -> io::Result<()> {
    settings.speaks.tls.iter().try_for_each(super::tls::keep_current)?;
    let listener = Listener::bind(settings.address, settings.speaks.clone())?;
    let url = settings.url.trim_end_matches('/').to_string();
    let pause = settings.snapshot_pause;
    let (snapshots, restores) = (RateLimit::new(pause), RateLimit::new(pause));
    let server = Arc::new(Server { handle, settings, snapshots, restores });
    let app = axum::Router::new()
        .route(&format!("{url}/"), get(list))
        .route(&format!("{url}/{{name}}"), get(command).post(command));
    let app = if url.is_empty() { app } else { app.route(&url, get(list)) };
    let service = app.with_state(server).into_make_service_with_connect_info::<Caller>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    Ok(())
}

async fn list(State(server): State<Arc<Server>>) -> Html<String> {
    let url = server.settings.url.trim_end_matches('/');
    let line = |(name, ..): &Command| format!("<a href=\"{url}/{name}\">{name}</a>\n<br/>\n");
    Html(COMMANDS.iter().map(line).collect())
}

/// Apache's answers are indented, and people read them.
fn answer(status: StatusCode, name: &str, error: Option<&str>, more: Object) -> Response {
    let mut out = object(json!({ "command": name, "error": error }));
    out.extend(more);
    let text = serde_json::to_string_pretty(&Value::Object(out)).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

async fn command(
    State(server): State<Arc<Server>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    method: Method,
    Path(name): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let found = COMMANDS.iter().find(|(long, short, ..)| name == *long || short.contains(&name.as_str()));
    let Some((long, _, word, always)) = found.copied() else {
        // Apache's status is 200 as well.
        return answer(StatusCode::OK, &name, Some(&format!("Unknown command: {name}")), Object::new());
    };
    let summary = server.handle.summary();
    if !always && !summary.serving && summary.role != RoleName::ReadOnly {
        return answer(StatusCode::OK, &name, Some(NOT_SERVING), Object::new());
    }
    if matches!(long, "snapshot" | "restore") {
        let shown = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        if let Err(Failure(status, error)) = server.admit(shown, &caller).await {
            return answer(status, long, error, Object::new());
        }
    }
    match (long, method == Method::POST) {
        ("restore", true) => server.restore(body).await,
        ("restore", false) | (_, true) => answer(StatusCode::METHOD_NOT_ALLOWED, long, None, Object::new()),
        ("snapshot", false) => server.snapshot(&query).await,
        _ => {
            let Some(text) = server.text(long, word).await else {
                let error = "the server does not answer; try again, and look at its log";
                return answer(StatusCode::SERVICE_UNAVAILABLE, long, Some(error), Object::new());
            };
            if text.trim_end() == NOT_SERVING {
                return answer(StatusCode::OK, &name, Some(NOT_SERVING), Object::new());
            }
            let mut told = server.tell(long, &text, &query);
            if long == "dump" {
                let ends = server.handle.session_ends().await.unwrap_or_default();
                let one = |(at, ids): (i64, Vec<SessionId>)| (at.to_string(), ids.iter().map(|id| id.0).collect());
                told.insert("expiry_time_to_session_ids".into(), Value::Object(ends.into_iter().map(one).collect()));
            }
            let error = told.remove("error");
            answer(StatusCode::OK, long, error.as_ref().and_then(Value::as_str), told)
        }
    }
}

/// Part the words that tell `server_stats` and `stats`.
const DIRS: &str = "\ndirs:\n";
const CONNECTIONS: &str = "\nconnections:\n";

impl Server {
    /// The core's answer; `None` if there is none in time.
    async fn text(&self, name: &str, word: Option<&'static [u8; 4]>) -> Option<String> {
        let Some(word) = word else { return Some(String::new()) };
        let text = self.handle.word(word).await?;
        let sizes = match name {
            "server_stats" | "stats" => self.handle.word(b"dirs").await?,
            _ => return Some(text),
        };
        let connections = if name == "stats" { self.handle.word(b"cons").await? } else { String::new() };
        Some(text + DIRS + &sizes + CONNECTIONS + &connections)
    }

    /// Whether the caller may do everything with the root.
    //= zookeeper 3.9 Commands.runCommand
    async fn admit(&self, shown: Option<&str>, caller: &Caller) -> Result<(), Failure> {
        let shown = shown.ok_or(Failure(StatusCode::UNAUTHORIZED, Some("Auth info is missing for the command")))?;
        let mut words = shown.split(' ');
        let (scheme, auth, more) = (words.next().unwrap_or_default(), words.next(), words.next());
        let judged = match more {
            Some(_) => Some(Err(AdminRefusal::NotAuthenticated)),
            None => {
                let shown = if scheme == "x509" { caller.subject() } else { auth };
                self.handle.judge_admin(scheme, shown, caller.ip).await
            }
        };
        match judged {
            Some(Ok(())) => Ok(()),
            Some(Err(AdminRefusal::NotAuthenticated)) => {
                Err(Failure(StatusCode::UNAUTHORIZED, Some("Not authenticated")))
            }
            Some(Err(AdminRefusal::NotAuthorised)) => Err(Failure(StatusCode::FORBIDDEN, Some("Not authorized"))),
            None => Err(Failure(StatusCode::INTERNAL_SERVER_ERROR, Some("Error occurred during auth"))),
        }
    }

    fn tell(&self, name: &str, text: &str, query: &BTreeMap<String, String>) -> Object {
        let summary = self.handle.summary();
        let read_only = summary.role == RoleName::ReadOnly;
        let standalone = summary.role == RoleName::Standalone;
        match name {
            "monitor" => shapes::figures(text),
            "server_stats" | "stats" => {
                let (text, connections) = text.split_once(CONNECTIONS).unwrap_or((text, ""));
                let (figures, sizes) = text.split_once(DIRS).unwrap_or((text, ""));
                let (figures, sizes) = (shapes::figures(figures), shapes::pairs(sizes, ": "));
                let mut out = shapes::stats(&figures, &sizes, summary.committed_zxid.0, read_only);
                if name == "stats" {
                    let brief = shapes::connections(connections, true);
                    out.extend(object(json!({ "connections": brief, "secure_connections": [] })));
                }
                out
            }
            "configuration" => shapes::configuration(text),
            "connections" => {
                object(json!({ "connections": shapes::connections(text, false), "secure_connections": [] }))
            }
            "dirs" => shapes::pairs(text, ": "),
            "dump" => shapes::ephemerals(text),
            "environment" => shapes::pairs(text.trim_start_matches("Environment:\n"), "="),
            "get_trace_mask" => object(json!({ "tracemask": shapes::number(text.trim()) })),
            "set_trace_mask" => match query.get("traceMask").map(|m| m.parse::<i64>()) {
                None => object(json!({ "error": "setTraceMask requires long traceMask argument" })),
                Some(Err(_)) => {
                    let got = &query["traceMask"];
                    object(json!({ "error": format!("setTraceMask requires long traceMask argument, got {got}") }))
                }
                Some(Ok(_)) => {
                    object(json!({ "error": "this server has no trace to mask; RUST_LOG sets what it logs" }))
                }
            },
            "hash" => shapes::digests(text),
            "initial_configuration" => {
                let text = std::fs::read_to_string(&self.settings.file).unwrap_or_default();
                object(json!({ "initial_configuration": without_secrets(&text) }))
            }
            "is_read_only" => object(json!({ "read_only": read_only })),
            "last_snapshot" => self.last_snapshot(),
            "leader" if standalone => object(json!({ "error": "server is not initialized" })),
            "leader" => {
                let id = summary.leader.map_or(-1, |l| l.0);
                let at = shapes::addresses(text, id).unwrap_or_default().0;
                let at = at.iter().map(|a| host(a)).collect::<Vec<_>>().join("|");
                let leads = summary.role == RoleName::Leading;
                object(json!({ "is_leader": leads, "leader_id": id, "leader_ip": at }))
            }
            // Java's properties are none of this program's.
            "system_properties" => Object::new(),
            "voting_view" => object(json!({ "current_config": shapes::voters(text) })),
            "watch_summary" => shapes::watch_summary(text),
            "watches" => object(json!({ "session_id_to_watched_paths": shapes::indented(text) })),
            "watches_by_path" => object(json!({ "path_to_session_ids": shapes::indented(text) })),
            "zabstate" if standalone => object(json!({ "voting": false, "zabstate": "" })),
            "zabstate" => self.zab_state(text),
            // `ruok`, and what only resets figures.
            _ => Object::new(),
        }
    }

    fn zab_state(&self, text: &str) -> Object {
        let summary = self.handle.summary();
        let state = match summary.role {
            _ if summary.serving => "broadcast",
            RoleName::Looking | RoleName::ReadOnly => "election",
            _ => "synchronization",
        };
        let voting = summary.role != RoleName::Observing;
        let zxid = summary.committed_zxid;
        let id = text.lines().find_map(|l| l.strip_prefix("serverId=")?.parse::<i64>().ok()).unwrap_or(-1);
        let (quorum, election, client) = shapes::addresses(text, id).unwrap_or_default();
        let client = Some(client).filter(|c| !c.is_empty());
        object(json!({
            "myid": id, "is_leader": summary.role == RoleName::Leading, "quorum_address": shapes::own_addresses(&quorum),
            "election_address": shapes::own_addresses(&election), "client_address": client, "voting": voting, "last_zxid": format!("{zxid}"),
            "zab_epoch": zxid.0 >> 32, "zab_counter": zxid.0 & 0xffff_ffff, "zabstate": state,
        }))
    }

    /// As Apache: hexadecimal without a prefix, and seconds.
    fn last_snapshot(&self) -> Object {
        let (zxid, seconds) = snapshot::newest(&self.settings.data_dir).unwrap_or((-1, -1));
        object(json!({ "zxid": format!("{zxid:x}"), "timestamp": seconds }))
    }
}

/// `h:2888`, `[::1]:2888`: without the port.
fn host(address: &str) -> String {
    address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']).to_string()
}

/// Passwords that stand in a configuration are nobody's business: this command asks for no authorisation.
fn without_secrets(text: &str) -> String {
    let line = |l: &str| match l.split_once('=') {
        Some((key, _)) if key.to_ascii_lowercase().ends_with("password") || key.ends_with("superDigest") => {
            format!("{key}=***\n")
        }
        _ => format!("{l}\n"),
    };
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_secrets_stay() {
        let names: Vec<&str> = COMMANDS.iter().flat_map(|c| c.1.iter().copied().chain([c.0])).collect();
        let once: std::collections::BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(once.len(), names.len());
        let text = without_secrets(
            "tickTime=2000\nssl.keyStore.password=geheim\nDigestAuthenticationProvider.superDigest=a:b\n",
        );
        assert_eq!(text, "tickTime=2000\nssl.keyStore.password=***\nDigestAuthenticationProvider.superDigest=***\n");
        assert_eq!((host("h:2888"), host("[::1]:2888")), ("h".into(), "::1".into()));
    }
}
