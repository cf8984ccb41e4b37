//! Apache's AdminServer: what the four-letter words tell, as JSON over HTTP, on a port of its own.
//!
//! `GET /commands/NAME` answers `{"command": NAME, "error": null, ...}` with Apache's names and shapes, for programs parse them. It
//! asks the core for the words' texts and takes them apart: one source, so that the two cannot differ.
//= zookeeper 3.9 server/admin/Commands.java

use super::Handle;
use crate::console_listener::ConsoleListener;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use serde_json::{json, Map, Value};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use trivet_coordination::RoleName;

/// Name, another name, and the word that tells it; none for what is known without one.
const COMMANDS: [(&str, &str, Option<&'static [u8; 4]>); 20] = [
    ("configuration", "conf", Some(b"conf")),
    ("connections", "cons", Some(b"cons")),
    ("connection_stat_reset", "crst", Some(b"crst")),
    ("dirs", "dirs", Some(b"dirs")),
    ("environment", "envi", Some(b"envi")),
    ("get_trace_mask", "gtmk", Some(b"gtmk")),
    ("initial_configuration", "icfg", None),
    ("is_read_only", "isro", Some(b"isro")),
    ("last_snapshot", "lsnp", None),
    ("leader", "lead", None),
    ("monitor", "mntr", Some(b"mntr")),
    ("ruok", "ruok", Some(b"ruok")),
    ("server_stats", "srvr", Some(b"mntr")),
    ("stat_reset", "srst", Some(b"srst")),
    ("stats", "stat", Some(b"mntr")),
    ("voting_view", "voting_view", Some(b"conf")),
    ("watch_summary", "wchs", Some(b"wchs")),
    ("watches", "wchc", Some(b"wchc")),
    ("watches_by_path", "wchp", Some(b"wchp")),
    ("zabstate", "zabstate", None),
];

/// The address, and files that commands read.
#[derive(Debug, Clone)]
pub struct AdminSettings {
    pub address: SocketAddr,
    /// `/commands` unless another is configured.
    pub url: String,
    pub file: Option<PathBuf>,
    pub data_dir: PathBuf,
}

struct Server {
    handle: Handle,
    settings: AdminSettings,
}

/// Serves until the runtime ends.
///
/// # Errors
/// If the address cannot be listened on.
pub fn serve(settings: AdminSettings, handle: Handle) -> io::Result<()> {
    let listener = ConsoleListener::bind(settings.address)?;
    let url = settings.url.trim_end_matches('/').to_string();
    let app = axum::Router::new()
        .route(&url, get(list))
        .route(&format!("{url}/"), get(list))
        .route(&format!("{url}/{{name}}"), get(command))
        .with_state(Arc::new(Server { handle, settings }));
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(())
}

async fn list(State(server): State<Arc<Server>>) -> Html<String> {
    let url = server.settings.url.trim_end_matches('/');
    let line = |(name, ..): &(&str, &str, _)| format!("<a href=\"{url}/{name}\">{name}</a><br/>\n");
    Html(COMMANDS.iter().map(line).collect())
}

async fn command(State(server): State<Arc<Server>>, Path(name): Path<String>) -> Response {
    let Some((name, _, word)) = COMMANDS.iter().find(|(long, short, _)| name == *long || name == *short) else {
        return (StatusCode::NOT_FOUND, axum::Json(json!({ "command": name, "error": "Unknown command" }))).into_response();
    };
    let text = match word {
        None => String::new(),
        Some(word) => match server.handle.word(word).await {
            Some(text) if text.starts_with("This ZooKeeper instance is not") => {
                let error = "This ZooKeeper instance is not currently serving requests";
                return axum::Json(json!({ "command": name, "error": error })).into_response();
            }
            Some(text) => text,
            None => {
                let busy = json!({ "command": name, "error": "the server does not answer" });
                return (StatusCode::SERVICE_UNAVAILABLE, axum::Json(busy)).into_response();
            }
        },
    };
    let mut answer = Map::from_iter([("command".to_string(), json!(name)), ("error".to_string(), Value::Null)]);
    answer.extend(server.tell(name, &text));
    axum::Json(Value::Object(answer)).into_response()
}

impl Server {
    fn tell(&self, name: &str, text: &str) -> Map<String, Value> {
        let summary = self.handle.summary();
        match name {
            "monitor" => figures(text),
            "server_stats" | "stats" => {
                let mut out = stats(&figures(text));
                out.insert("read_only".into(), json!(summary.role == RoleName::ReadOnly));
                out["server_stats"]["last_processed_zxid"] = json!(summary.last_zxid.0);
                out
            }
            "configuration" => configuration(text),
            "connections" => {
                let list: Vec<Value> = text.lines().filter_map(connection).collect();
                object(json!({ "connections": list, "secure_connections": [] }))
            }
            "dirs" => pairs(text, ": "),
            "environment" => pairs(text.trim_start_matches("Environment:\n"), "="),
            "get_trace_mask" => object(json!({ "tracemask": number(text.trim()) })),
            "initial_configuration" => {
                let text = self.settings.file.as_ref().and_then(|f| std::fs::read_to_string(f).ok());
                object(json!({ "initial_configuration": text.unwrap_or_default() }))
            }
            "is_read_only" => object(json!({ "read_only": text == "ro" })),
            "last_snapshot" => self.last_snapshot(),
            "leader" => {
                let leads = matches!(summary.role, RoleName::Leading | RoleName::Standalone);
                object(json!({ "is_leader": leads, "leader_id": summary.leader.map_or(-1, |l| l.0) }))
            }
            "voting_view" => object(json!({ "current_config": members(text) })),
            "watch_summary" => watch_summary(text),
            "watches" => object(json!({ "session_id_to_watched_paths": indented(text) })),
            "watches_by_path" => object(json!({ "path_to_session_ids": indented(text) })),
            "zabstate" => {
                let state = match summary.role {
                    _ if summary.serving => "broadcast",
                    RoleName::Looking | RoleName::ReadOnly => "election",
                    _ => "synchronization",
                };
                let voting = !matches!(summary.role, RoleName::Observing);
                let zxid = format!("{:#x}", summary.last_zxid.0);
                object(json!({ "voting": voting, "last_zxid": zxid, "zabstate": state }))
            }
            _ => Map::new(),
        }
    }

    fn last_snapshot(&self) -> Map<String, Value> {
        let found = super::store::numbered(&self.settings.data_dir.join("version-2"), "snapshot.");
        let newest = found.ok().and_then(|mut all| all.pop());
        let (zxid, seconds) = newest.map_or((0, 0), |(zxid, path)| {
            let time = std::fs::metadata(path).and_then(|m| m.modified()).ok();
            let since = time.and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
            (zxid.0, since.map_or(0, |s| s.as_secs()))
        });
        object(json!({ "zxid": format!("{zxid:#x}"), "timestamp": seconds }))
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Numbers as numbers, all else as text.
fn number(text: &str) -> Value {
    if let Ok(n) = text.parse::<i64>() {
        return n.into();
    }
    match text.parse::<f64>() {
        Ok(n) if n.is_finite() => n.into(),
        _ => text.into(),
    }
}

fn pairs(text: &str, between: &str) -> Map<String, Value> {
    text.lines().filter_map(|l| l.split_once(between)).map(|(k, v)| (k.trim().to_string(), number(v))).collect()
}

/// `zk_name<TAB>value`.
fn figures(text: &str) -> Map<String, Value> {
    let line = |l: &str| {
        let (name, value) = l.split_once('\t')?;
        Some((name.strip_prefix("zk_").unwrap_or(name).to_string(), number(value)))
    };
    text.lines().filter_map(line).collect()
}

fn stats(figures: &Map<String, Value>) -> Map<String, Value> {
    let get = |name: &str| figures.get(name).cloned().unwrap_or(json!(0));
    object(json!({
        "version": get("version"),
        "server_stats": {
            "packets_sent": get("packets_sent"),
            "packets_received": get("packets_received"),
            "outstanding_requests": get("outstanding_requests"),
            "server_state": get("server_state"),
            "avg_latency": get("avg_latency"),
            "max_latency": get("max_latency"),
            "min_latency": get("min_latency"),
            "num_alive_client_connections": get("num_alive_connections"),
            "uptime": get("uptime"),
        },
        "node_count": get("znode_count"),
    }))
}

/// `clientPort=2181` as `client_port`, with Apache's few exceptions.
fn configuration(text: &str) -> Map<String, Value> {
    let plain = text.split("membership:").next().unwrap_or_default();
    let line = |l: &str| {
        let (key, value) = l.split_once('=')?;
        let key = match key {
            "maxClientCnxns" => "max_client_cnxns".to_string(),
            key => {
                key.chars().flat_map(|c| if c.is_uppercase() { vec!['_', c.to_ascii_lowercase()] } else { vec![c] }).collect()
            }
        };
        Some((key, number(value)))
    };
    plain.lines().filter_map(line).collect()
}

/// ` /127.0.0.1:4711[1](queued=0,recved=1,...)`
fn connection(line: &str) -> Option<Value> {
    let (address, rest) = line.trim().strip_prefix('/')?.split_once('[')?;
    let (interest, rest) = rest.split_once("](")?;
    let mut out = object(json!({ "remote_socket_address": address, "interest_ops": number(interest) }));
    for (key, value) in rest.trim_end_matches(')').split(',').filter_map(|p| p.split_once('=')) {
        let key = match key {
            "queued" => "outstanding_requests",
            "recved" => "packets_received",
            "sent" => "packets_sent",
            "sid" => "session_id",
            "lop" => "last_operation",
            "est" => "established",
            "to" => "session_timeout",
            "lcxid" => "last_cxid",
            "lzxid" => "last_zxid",
            "lresp" => "last_response_time",
            "llat" => "last_latency",
            "minlat" => "min_latency",
            "avglat" => "avg_latency",
            "maxlat" => "max_latency",
            other => other,
        };
        out.insert(key.into(), number(value));
    }
    Some(Value::Object(out))
}

/// `server.1=host:2888:3888:participant;host:2181`
fn members(text: &str) -> Map<String, Value> {
    let line = |l: &str| {
        let (id, value) = l.trim().strip_prefix("server.")?.split_once('=')?;
        let (peer, client) = value.split_once(';').unwrap_or((value, ""));
        let learner = if peer.ends_with(":observer") { "observer" } else { "participant" };
        let peer = peer.trim_end_matches(":observer").trim_end_matches(":participant");
        let (rest, election) = peer.rsplit_once(':')?;
        let (host, quorum) = rest.rsplit_once(':')?;
        let one = json!({
            "server_addresses": [format!("{host}:{quorum}")], "election_addresses": [format!("{host}:{election}")],
            "client_address": client, "learner_type": learner,
        });
        (learner == "participant").then(|| (id.to_string(), one))
    };
    text.lines().filter_map(line).collect()
}

fn watch_summary(text: &str) -> Map<String, Value> {
    let numbers: Vec<i64> =
        text.split(|c: char| !c.is_ascii_digit()).filter(|d| !d.is_empty()).filter_map(|d| d.parse().ok()).collect();
    let get = |i: usize| numbers.get(i).copied().unwrap_or(0);
    object(json!({ "num_connections": get(0), "num_paths": get(1), "num_total_watches": get(2) }))
}

/// A heading, and what belongs to it behind tabs.
fn indented(text: &str) -> Map<String, Value> {
    let mut out: Map<String, Value> = Map::new();
    let mut heading = String::new();
    for line in text.lines().filter(|l| !l.is_empty()) {
        match line.strip_prefix('\t') {
            Some(item) => {
                if let Some(Value::Array(list)) = out.get_mut(&heading) {
                    list.push(item.into());
                }
            }
            None => {
                heading = line.to_string();
                out.entry(heading.clone()).or_insert_with(|| json!([]));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_words_become_apaches_json() {
        let f = figures("zk_version\t3.9.5-x, built on y\nzk_avg_latency\t0.25\nzk_znode_count\t5\n");
        assert_eq!((&f["avg_latency"], &f["znode_count"], f["version"].is_string()), (&json!(0.25), &json!(5), true));
        assert_eq!(stats(&f)["node_count"], json!(5));
        let conf = "clientPort=2181\ndataDir=/d\nmaxClientCnxns=60\nclientPortListenBacklog=-1\nmembership: \n\
                    server.1=h:2888:3888:participant;0.0.0.0:2181\nserver.2=[::1]:1:2:observer\nversion=0";
        let c = configuration(conf);
        assert_eq!((&c["client_port"], &c["data_dir"], &c["max_client_cnxns"]), (&json!(2181), &json!("/d"), &json!(60)));
        assert!(c.contains_key("client_port_listen_backlog") && !c.contains_key("version"));
        let m = members(conf);
        assert_eq!((m.len(), &m["1"]["server_addresses"]), (1, &json!(["h:2888"])));
        let one = connection(" /127.0.0.1:47[1](queued=0,recved=2,sent=1,sid=0x1f,lop=PING,to=4000)").unwrap();
        assert_eq!((&one["remote_socket_address"], &one["packets_received"]), (&json!("127.0.0.1:47"), &json!(2)));
        assert_eq!((&one["session_id"], &one["last_operation"]), (&json!("0x1f"), &json!("PING")));
        assert_eq!(watch_summary("1 connections watching 2 paths\nTotal watches:3\n")["num_total_watches"], json!(3));
        assert_eq!(indented("0x1\n\t/a\n\t/b\n0x2\n\t/a\n\n")["0x1"], json!(["/a", "/b"]));
    }
}
