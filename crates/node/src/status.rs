//! Status: one value with what a node knows, for `trivet status`, the console's page and Prometheus.

use crate::chunk::Chunk;
use crate::config::{NodeConfig, Role};
use crate::console_listener::ConsoleListener;
use crate::coordination::Handle;
use crate::events::{Events, Record};
use crate::gateway::portmap::Portmapper;
use crate::gateway::Gateway;
use crate::links::{self, report_text, LinkStatus};
use crate::metad::Metad;
use axum::http::{header, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;

pub struct Sources {
    pub config: NodeConfig,
    pub roles: Vec<Role>,
    pub events: Events,
    pub coordination: Option<Handle>,
    pub metad: Option<Metad>,
    pub chunk: Option<Chunk>,
    pub gateway: Option<Gateway>,
    pub vcenter: Option<crate::vcenter::Handle>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CoordinationStatus {
    pub role: String,
    pub serving: bool,
    pub leader: Option<i64>,
    pub epoch: i64,
    pub zxid: String,
    pub followers: Vec<i64>,
    pub sessions: usize,
    pub connections: usize,
    pub znodes: usize,
    pub watches: usize,
    pub elections: u64,
    pub commits: u64,
    pub refused: u64,
    /// How the last election went.
    pub report: String,
    pub links: Vec<LinkStatus>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MetadPart {
    pub leading: bool,
    pub epoch: u64,
    pub entries: u64,
    pub trouble: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FileStatus {
    pub file: u64,
    pub datastore: String,
    pub size_bytes: u64,
    pub owner: u32,
    pub lease: u64,
    pub extents: usize,
    /// Copies that have every acknowledged write, over all extents.
    pub in_sync: usize,
    pub recovering: usize,
    pub missing: usize,
    /// Each extent's id and the nodes of its copies in sync.
    pub placement: Vec<(u64, Vec<u32>)>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AddressStatus {
    pub address: String,
    pub node: u32,
    pub version: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExportStatus {
    pub name: String,
    pub copies: u32,
    /// Networks that may mount; none: everybody.
    pub clients: Vec<String>,
    pub read_only: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MountStatus {
    pub client: std::net::IpAddr,
    pub path: String,
}

/// Version of this document.
pub const SCHEMA: &str = "trivet.status/1";

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeStatus {
    pub schema: String,
    pub cluster: String,
    pub node: u32,
    pub pid: u32,
    pub roles: Vec<Role>,
    pub coordination: Option<CoordinationStatus>,
    pub metad: Option<MetadPart>,
    /// What this metad knows; empty where the role does not run.
    pub datastores: Vec<String>,
    pub addresses: Vec<AddressStatus>,
    pub files: Vec<FileStatus>,
    /// Copies on this node's disk.
    pub copies: usize,
    /// Blocks of them that are damaged and not repaired; extents that are being checked whole because of such a block.
    pub bad_blocks: usize,
    pub suspect_copies: usize,
    pub owned_files: usize,
    /// How the datastore addresses that are on this node are found by clients without port options.
    #[serde(default)]
    pub portmappers: Vec<Portmapper>,
    /// Who may mount what; as `datastores`, of the node's metad.
    #[serde(default)]
    pub exports: Vec<ExportStatus>,
    /// Who has what mounted, by an address that is on this node.
    #[serde(default)]
    pub mounts: Vec<MountStatus>,
    /// Datastore addresses that this node cannot serve, each with the reason.
    #[serde(default)]
    pub unserved: Vec<(String, String)>,
    pub ready: bool,
    pub events: Vec<Record>,
}

pub fn collect(s: &Sources) -> NodeStatus {
    let coordination = s.coordination.as_ref().map(|h| {
        let (x, c) = (h.summary(), h.counters());
        CoordinationStatus {
            role: x.role.mode().into(),
            serving: x.serving,
            leader: x.leader.map(|l| l.0),
            epoch: x.epoch,
            zxid: x.last_zxid.to_string(),
            followers: x.followers.iter().map(|f| f.0).collect(),
            sessions: x.sessions,
            connections: x.connections,
            znodes: x.znodes,
            watches: x.watches,
            elections: c.elections,
            commits: c.commits,
            refused: c.refused,
            report: report_text(&x.report),
            links: x.links.iter().map(LinkStatus::from).collect(),
        }
    });
    let metad = s.metad.as_ref().map(|m| {
        let x = m.status();
        MetadPart { leading: x.leading, epoch: x.epoch, entries: x.applied, trouble: x.trouble }
    });
    let (mut files, mut datastores, mut addresses) = (Vec::new(), Vec::new(), Vec::new());
    let mut exports = Vec::new();
    if let Some(m) = &s.metad {
        let (inodes, extents, stores, bindings) = m.contents();
        datastores = stores.iter().map(|d| d.name.clone()).collect();
        // In sync is a copy that its configuration names, and whose process was heard with this identity.
        let here = s.gateway.as_ref().map(|g| g.membership().gateways);
        let heard = |r: &trivet_storage::messages::ReplicaRef| {
            let ids = here.iter().flatten().filter_map(|g| g.replica.as_ref());
            here.as_ref().is_none_or(Vec::is_empty) || ids.into_iter().any(|x| x.id == r.id)
        };
        let living = |e: &trivet_storage::messages::ExtentConfig| e.replicas.iter().filter(|r| heard(r)).count();
        let export = |d: &trivet_storage::messages::Datastore| ExportStatus {
            name: d.name.clone(),
            copies: d.copies,
            clients: d.clients.clone(),
            read_only: d.read_only,
        };
        exports = stores.iter().map(export).collect();
        addresses = bindings
            .into_iter()
            .map(|b| AddressStatus { address: b.address, node: b.gateway, version: b.version })
            .collect();
        for i in inodes {
            let store = stores.iter().find(|d| d.id == i.attr.datastore);
            let mine: Vec<_> = extents.iter().filter(|e| e.file == i.attr.fileid).collect();
            let wanted = store.map_or(2, |d| d.copies as usize);
            files.push(FileStatus {
                file: i.attr.fileid,
                datastore: store.map(|d| d.name.clone()).unwrap_or_default(),
                size_bytes: i.attr.size,
                owner: i.lease.gateway,
                lease: i.lease.number,
                extents: mine.len(),
                in_sync: mine.iter().map(|e| living(e)).sum(),
                recovering: mine.iter().filter(|e| e.joining.is_some()).count(),
                placement: mine.iter().map(|e| (e.eid, e.replicas.iter().map(|r| r.node).collect())).collect(),
                missing: mine.iter().map(|e| wanted.saturating_sub(living(e) + usize::from(e.joining.is_some()))).sum(),
            });
        }
    }
    let coordination_ready = coordination.as_ref().is_none_or(|c| c.serving);
    let gateway_ready = s.gateway.as_ref().is_none_or(|g| g.ready());
    NodeStatus {
        schema: SCHEMA.into(),
        cluster: s.config.cluster.clone(),
        node: s.config.node,
        pid: std::process::id(),
        roles: s.roles.clone(),
        ready: coordination_ready && gateway_ready && metad.as_ref().is_none_or(|m| m.trouble.is_empty()),
        coordination,
        metad,
        datastores,
        addresses,
        files,
        copies: s.chunk.as_ref().map_or(0, |c| c.copies().len()),
        bad_blocks: s.chunk.as_ref().map_or(0, |c| c.bad_blocks()),
        suspect_copies: s.chunk.as_ref().map_or(0, |c| c.suspects()),
        owned_files: s.gateway.as_ref().map_or(0, |g| g.owned().len()),
        portmappers: s.gateway.as_ref().map_or(Vec::new(), |g| g.portmappers()),
        exports,
        mounts: s.gateway.iter().flat_map(|g| g.mounts()).map(|(client, path)| MountStatus { client, path }).collect(),
        unserved: s.gateway.iter().flat_map(|g| g.unserved()).map(|u| (u.address, u.why)).collect(),
        events: s.events.recent(),
    }
}

/// What `/readyz` answers. A new cluster has no datastore that a gateway could serve; its nodes are ready all the same, or
/// nothing that waits for them would ever go on to make one.
fn serves(s: &NodeStatus) -> bool {
    let coordination = s.coordination.as_ref().is_none_or(|c| c.serving);
    let follows = s.metad.as_ref().is_some_and(|m| m.trouble.is_empty() && m.entries > 0);
    s.ready || (coordination && follows && s.datastores.is_empty() && s.unserved.is_empty())
}

/// Prometheus' text format.
pub fn metrics(s: &NodeStatus) -> String {
    let mut out = String::new();
    let mut gauge = |name: &str, help: &str, value: u64| {
        out += &format!(
            "# HELP trivet_{name} {help}\n# TYPE trivet_{name} gauge\ntrivet_{name}{{node=\"{}\"}} {value}\n",
            s.node
        );
    };
    gauge("ready", "1 if every role of the node serves", s.ready.into());
    if let Some(c) = &s.coordination {
        gauge("coordination_serving", "1 if clients are served", c.serving.into());
        gauge("coordination_leading", "1 on the leader", (c.role == "leader").into());
        gauge("coordination_epoch", "epoch", c.epoch as u64);
        gauge("coordination_elections_total", "elections since the start", c.elections);
        gauge("coordination_commits_total", "transactions committed by this leader", c.commits);
        gauge("coordination_sessions", "sessions of the ensemble", c.sessions as u64);
        gauge("coordination_znodes", "znodes", c.znodes as u64);
        gauge("coordination_refused_total", "peers and clients that broke the protocol", c.refused);
    }
    if let Some(m) = &s.metad {
        gauge("metad_leading", "1 on the LEADER", m.leading.into());
        gauge("metad_epoch", "epoch", m.epoch);
        gauge("metad_entries", "entries of the journal applied", m.entries);
        gauge("files", "files", s.files.len() as u64);
        gauge("copies_missing", "copies that are missing", s.files.iter().map(|f| f.missing as u64).sum());
        gauge("copies_recovering", "copies that are being rebuilt", s.files.iter().map(|f| f.recovering as u64).sum());
    }
    gauge("copies", "copies on this node", s.copies as u64);
    gauge("owned_files", "files whose owner this node is", s.owned_files as u64);
    if let Some(c) = &s.coordination {
        out += &links::metrics(s.node, &c.links);
    }
    out
}

fn escape(s: &str) -> String {
    s.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// One page that renews itself; readable without scripts.
pub fn page(nodes: &[NodeStatus], unreachable: &[u32]) -> String {
    let mut rows = String::new();
    for n in nodes {
        let c = n.coordination.as_ref().map_or("-".into(), |c| format!("{} (epoch {})", c.role, c.epoch));
        let m = n.metad.as_ref().map_or("-".into(), |m| {
            format!(
                "{} (epoch {}, {} entries) {}",
                if m.leading { "LEADER" } else { "follower" },
                m.epoch,
                m.entries,
                escape(&m.trouble)
            )
        });
        rows += &format!(
            "<tr><td>{}</td><td>{}</td><td>{c}</td><td>{m}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            n.node,
            n.pid,
            n.owned_files,
            n.copies,
            if n.ready { "ready" } else { "not ready" }
        );
    }
    for n in unreachable {
        rows += &format!("<tr class=bad><td>{n}</td><td colspan=6>does not answer</td></tr>");
    }
    let newest = nodes.iter().filter(|n| n.metad.is_some()).max_by_key(|n| n.metad.as_ref().map_or(0, |m| m.entries));
    let (mut files, mut addresses) = (String::new(), String::new());
    if let Some(n) = newest {
        for f in &n.files {
            files += &format!(
                "<tr><td>{}</td><td>{}</td><td>{:.1} MiB</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                f.file, escape(&f.datastore), f.size_bytes as f64 / 1048576.0, f.owner, f.extents, f.in_sync, f.recovering, f.missing
            );
        }
        for a in &n.addresses {
            addresses += &format!("<tr><td>{}</td><td>{}</td></tr>", escape(&a.address), a.node);
        }
    }
    // Each node knows best what comes in at itself.
    let incoming = |n: &NodeStatus| -> Vec<LinkStatus> {
        n.coordination.iter().flat_map(|c| &c.links).filter(|l| l.to == i64::from(n.node)).cloned().collect()
    };
    let links: String = nodes.iter().flat_map(incoming).map(|l| l.row()).collect();
    let mut events: Vec<&Record> = nodes.iter().flat_map(|n| &n.events).collect();
    events.sort_by_key(|e| std::cmp::Reverse((e.wall_ms, e.node)));
    let events: String = events
        .iter()
        .take(60)
        .map(|e| {
            let (s, ms) = (e.wall_ms / 1000, e.wall_ms % 1000);
            let clock = format!("{:02}:{:02}:{:02}.{ms:03}", s / 3600 % 24, s / 60 % 60, s % 60);
            format!(
                "<tr><td>{clock} UTC</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                e.node,
                escape(&e.subject),
                escape(&e.what),
                escape(&e.why)
            )
        })
        .collect();
    format!(
        "<!doctype html><meta charset=utf-8><meta http-equiv=refresh content=2><title>Trivet</title>\
         <style>body{{font:14px system-ui;margin:2em;color-scheme:light dark}}table{{border-collapse:collapse;margin:0 0 2em}}\
         td,th{{padding:.25em .8em;border-bottom:1px solid #8886;text-align:left}}.bad{{color:#c33}}</style>\
         <h1>Trivet</h1>\
         <h2>Nodes</h2><table><tr><th>node<th>pid<th>coordination<th>metad<th>owns files<th>copies<th>state</tr>{rows}</table>\
         <h2>Datastore addresses</h2><table><tr><th>address<th>served by node</tr>{addresses}</table>\
         <h2>Links</h2><table><tr><th>from, to<th>state<th>loss<th>silent<th>round trip<th>since</tr>{links}</table>\
         <h2>Files</h2><table><tr><th>file<th>datastore<th>size<th>owner<th>extents<th>copies in sync<th>recovering<th>missing</tr>{files}</table>\
         <h2>Latest events</h2><table><tr><th>time<th>node<th>what about<th>what<th>why</tr>{events}</table>"
    )
}

/// Serves page, status, metrics and health of one node.
pub fn serve(address: SocketAddr, sources: Arc<Sources>) -> anyhow::Result<()> {
    let listener =
        ConsoleListener::bind(address).map_err(|e| anyhow::anyhow!("console cannot listen on {address}: {e}"))?;
    let html = |text: String| ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], text);
    let (a, b, c, d, v) = (sources.clone(), sources.clone(), sources.clone(), sources.clone(), sources);
    let app = axum::Router::new()
        .route("/", get(move || async move { html(page(&[collect(&a)], &[])) }))
        .route("/vcenter.json", get(move || async move { axum::Json(v.vcenter.as_ref().and_then(|h| h.snapshot())) }))
        .route("/status.json", get(move || async move { axum::Json(collect(&b)) }))
        .route("/metrics", get(move || async move { metrics(&collect(&c)) + &of_coordination(&c).await }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route(
            "/readyz",
            get(move || async move {
                let ready = serves(&collect(&d));
                let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                (code, if ready { "ready\n" } else { "not ready\n" }).into_response()
            }),
        );
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(())
}

/// The same figures as Apache's, beside our own.
async fn of_coordination(sources: &Sources) -> String {
    match &sources.coordination {
        Some(handle) => handle.metrics().await,
        None => String::new(),
    }
}

/// Serves Apache's figures of a server alone, where its provider for Prometheus would.
pub fn serve_metrics(address: SocketAddr, handle: Handle) -> anyhow::Result<()> {
    let listener =
        ConsoleListener::bind(address).map_err(|e| anyhow::anyhow!("metrics cannot be served on {address}: {e}"))?;
    let app = axum::Router::new().route("/metrics", get(move || async move { handle.metrics().await }));
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(())
}

/// Serves one page for several nodes, which are asked each time.
pub fn serve_all(address: SocketAddr, nodes: Vec<(u32, Vec<SocketAddr>)>) -> anyhow::Result<()> {
    let listener =
        ConsoleListener::bind(address).map_err(|e| anyhow::anyhow!("console cannot listen on {address}: {e}"))?;
    let app = axum::Router::new().route(
        "/",
        get(move || {
            let nodes = nodes.clone();
            async move {
                let asked = tokio::task::spawn_blocking(move || fetch_all(&nodes)).await.unwrap_or_default();
                ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page(&asked.0, &asked.1))
            }
        }),
    );
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(())
}

/// Status of each node that answers, and the numbers of those that do not.
pub fn fetch_all(nodes: &[(u32, Vec<SocketAddr>)]) -> (Vec<NodeStatus>, Vec<u32>) {
    let (mut found, mut silent) = (Vec::new(), Vec::new());
    for (node, addresses) in nodes {
        let answers: Vec<NodeStatus> = addresses.iter().filter_map(|a| fetch(*a)).collect();
        if answers.is_empty() {
            silent.push(*node);
        }
        found.extend(answers);
    }
    (found, silent)
}

/// Asks one console. `None` if it does not answer within a second.
pub fn fetch(address: SocketAddr) -> Option<NodeStatus> {
    use std::io::{Read, Write};
    let limit = std::time::Duration::from_secs(1);
    let mut stream = std::net::TcpStream::connect_timeout(&address, limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    write!(stream, "GET /status.json HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    stream.take(16 << 20).read_to_end(&mut answer).ok()?;
    let at = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    serde_json::from_slice(&answer[at + 4..]).ok()
}
