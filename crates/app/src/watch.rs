//! `trivet watch`: the same alerts, incidents and messages over an Apache ensemble and over exports of any NFS server,
//! with nothing installed on them.

mod nfs;

use anyhow::Context;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use trivet_node::console::accounts::{link_code, Accounts};
use trivet_node::console::certificate::{Certificates, ConsoleSettings};
use trivet_node::console::notify::Notifier;
use trivet_node::console::App;
use trivet_node::events::Events;
use trivet_node::keys::Keys;
use trivet_node::status::monitor::Monitor;
use trivet_node::status::VcenterStatus;
use trivet_node::vcenter;
use trivet_observe::apache::{self, Answers, Server};
use trivet_observe::health::Level;
use trivet_observe::view::{ExportView, Happened, Occurrence};
use trivet_observe::watcher::Effect;
use trivet_observe::RuleId;

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// Time within which a server has to answer, or it counts as silent.
const ASK_LIMIT: Duration = Duration::from_millis(900);
/// Bytes of an answer to a four-letter word; the rest is not read.
const ANSWER_BYTES_MAX: u64 = 256 << 10;
/// Servers and exports of one file; a longer list is refused.
const WATCHED_MAX: usize = 100;

#[derive(clap::Args)]
pub struct Args {
    /// Configuration file: the servers to watch (docs/alerts.md)
    #[arg(long)]
    config: PathBuf,
    /// Look for this many seconds, then end with the status of `trivet status`: 0 OK, 1 degraded, 2 unavailable
    #[arg(long, value_name = "SECONDS")]
    once: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The name that people give it.
    #[serde(default)]
    name: String,
    /// Where alerts are kept over restarts, and where notifications.toml lies.
    data: PathBuf,
    /// Address and port of pages and API; without it there are none.
    console: Option<SocketAddr>,
    /// PEM files of the console's certificate and its private key; without them it makes a certificate for itself.
    console_certificate: Option<PathBuf>,
    console_key: Option<PathBuf>,
    #[serde(default)]
    server: Vec<ServerConfig>,
    #[serde(default)]
    export: Vec<nfs::Export>,
    /// The agent that watches which of vCenter's hosts have the exports mounted; off without it.
    vcenter: Option<vcenter::Settings>,
    #[serde(default = "outstanding")]
    outstanding_max: u64,
    #[serde(default)]
    connections_max: u64,
}

fn outstanding() -> u64 {
    1_000
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerConfig {
    id: u32,
    /// Host and port of its clients.
    address: String,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(&args.config).with_context(|| args.config.display().to_string())?;
    let mut config: Config = toml::from_str(&text).with_context(|| args.config.display().to_string())?;
    if let Some(vcenter) = &mut config.vcenter {
        vcenter.check().map_err(|e| anyhow::anyhow!("{}: {e}", args.config.display()))?;
        vcenter.declared_wall_ms = changed_wall_ms(&args.config);
    }
    if config.server.len() + config.export.len() > WATCHED_MAX {
        anyhow::bail!("{}: at most {WATCHED_MAX} servers and exports are watched", args.config.display());
    }
    if config.server.is_empty() && config.export.is_empty() {
        anyhow::bail!("{}: name a [[server]] or an [[export]]", args.config.display());
    }
    trivet_disk::make_dir(&config.data)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let level = runtime.block_on(watch(&config, args.once.map(Duration::from_secs)))?;
    std::process::exit(level.code().into());
}

async fn watch(config: &Config, once: Option<Duration>) -> anyhow::Result<Level> {
    let language = crate::language::from_environment();
    let key = console_key(&config.data.join("console.key"))?;
    let accounts = Arc::new(Accounts::open(Keys::of(&key), config.data.join("accounts.json"))?);
    let ids: Vec<u32> = config.server.iter().map(|s| s.id).collect();
    let events = Events::open(&config.data, 0)?;
    let agent = config.vcenter.as_ref().map(|v| start_agent(config, v, &key, &events)).transpose()?;
    let handle = agent.as_ref().map(|(_, handle)| handle.clone());
    let (monitor, due) = Monitor::outside(&config.name, &ids, &config.data, accounts.clone(), events, handle)?;
    // This program alone watches: it sends.
    let notifier = Notifier::start_for(config.name.clone(), config.data.join("notifications.toml"), due, || true);
    if let Some(at) = config.console {
        let settings =
            ConsoleSettings { certificate: config.console_certificate.clone(), key: config.console_key.clone() };
        if let Some(fault) = settings.fault() {
            anyhow::bail!("{fault}");
        }
        let certificates = Certificates::of(&settings, &config.data, at.ip(), &Keys::of(&key))?;
        let scheme = if certificates.is_some() { "https" } else { "http" };
        let app = App { monitor: monitor.clone(), accounts, notifier, local: false, certificates };
        trivet_node::console::serve(at, app)?;
        let code = link_code(&key, trivet_node::clock::wall_ms());
        println!("console: {scheme}://{at}/login?code={code}");
    }
    let begun = Instant::now();
    let mut servers: BTreeMap<u32, (Server, Instant)> = config
        .server
        .iter()
        .map(|s| (s.id, (Server { name: s.address.clone(), ..Default::default() }, begun)))
        .collect();
    let (mut epoch, mut said) = (None, String::new());
    loop {
        let looked = Instant::now();
        let (answers, exports) = tokio::join!(ask_servers(config), ask_exports(config));
        for (id, answer) in answers {
            let Some((server, heard)) = servers.get_mut(&id) else { continue };
            match answer {
                Some(a) => {
                    server.syncs_before = server.last.as_ref().and_then(apache::syncs);
                    (server.last, server.silent_ms, *heard) = (Some(a), 0, Instant::now());
                }
                None => server.silent_ms = (heard.elapsed().as_millis() as u64).max(1),
            }
        }
        let all = servers.iter().map(|(id, (s, _))| (*id, s.clone())).collect();
        let mut view = apache::view(&all, config.outstanding_max, config.connections_max);
        if config.server.is_empty() {
            view.coordination = None;
        }
        if let Some((alone, handle)) = &agent {
            alone.saw(exports.iter().map(|e| (e.server.clone(), e.path.clone(), e.error.is_none())));
            view.vcenter = handle.snapshot().map(|s| VcenterStatus::of(&s).view());
        }
        view.exports = exports;
        let now = trivet_node::clock::wall_ms();
        if let Some((node, new)) = view.coordination.as_ref().and_then(|c| Some((c.leader?, c.epoch))) {
            if epoch.is_some_and(|old| old < new) {
                let detail = format!("server {node} leads epoch {new}");
                view.occurrences.push(Occurrence { at_ms: now, what: Happened::Led { node, epoch: new }, detail });
            }
            epoch = Some(new);
        }
        for effect in monitor.take(view).await {
            match effect {
                Effect::Keep(a) if a.rule != RuleId::Watchdog => {
                    let (time, state) = (trivet_observe::time_text(now), format!("{:?}", a.state).to_lowercase());
                    println!(
                        "{time}Z  {state:<8} {:<8} {:<24} {}",
                        a.severity.name(),
                        a.name(),
                        crate::console::shown(a.reason.get(language))
                    );
                }
                Effect::Keep(_) => {}
                Effect::Send(m) => {
                    let time = trivet_observe::time_text(now);
                    println!(
                        "{time}Z  incident {} {:?}: {}",
                        m.incident.id,
                        m.occasion,
                        crate::console::shown(m.incident.headline.get(language))
                    );
                }
            }
        }
        let health = monitor.health();
        let line = health.line(language);
        let word = health.level.text().get(language).to_string();
        if word != said {
            println!("{}Z  {}", trivet_observe::time_text(now), crate::console::shown(&line));
            said = word;
        }
        if once.is_some_and(|limit| begun.elapsed() >= limit) {
            return Ok(health.level);
        }
        tokio::time::sleep(PERIOD.saturating_sub(looked.elapsed())).await;
    }
}

/// When the file was written, in milliseconds since 1970: what it declares holds from then on.
fn changed_wall_ms(path: &Path) -> i64 {
    let changed = std::fs::metadata(path).and_then(|m| m.modified()).ok();
    let since = changed.and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
    since.map_or(0, |d| d.as_millis() as i64)
}

/// The agent for vCenter's hosts. Each datastore that is declared is one of the exports, whose answers say whether it is the
/// storage's outage or a host's.
fn start_agent(
    config: &Config,
    settings: &vcenter::Settings,
    key: &[u8],
    events: &Events,
) -> anyhow::Result<(Arc<vcenter::Alone>, vcenter::Handle)> {
    for d in &settings.datastores {
        let known = config.export.iter().any(|e| e.server == d.server && e.path == d.path);
        anyhow::ensure!(known, "vcenter: datastore {}: name {} {} as an [[export]], too", d.name, d.server, d.path);
    }
    let alone = vcenter::Alone::open(&config.data)?;
    let handle = vcenter::start_alone(settings.clone(), alone.clone(), key, events.clone())?;
    Ok((alone, handle))
}

/// The key that sessions and the link are signed with: made once, and kept from other users.
fn console_key(path: &Path) -> anyhow::Result<Vec<u8>> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    match std::fs::read(path) {
        Ok(key) if key.len() == 32 => Ok(key),
        Ok(_) => anyhow::bail!("{}: it is damaged; delete it, and everybody signs in anew", path.display()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let key = trivet_node::rpc::random::<32>().to_vec();
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(&key)?;
            file.sync_all()?;
            Ok(key)
        }
        Err(e) => Err(e).with_context(|| path.display().to_string()),
    }
}

async fn ask_servers(config: &Config) -> Vec<(u32, Option<Answers>)> {
    let asked: Vec<_> = config
        .server
        .iter()
        .cloned()
        .map(|s| {
            tokio::spawn(async move {
                let srvr = word(&s.address, "srvr").await?;
                // Not every server allows these four-letter words.
                let mntr = word(&s.address, "mntr").await.unwrap_or_default();
                Some(Answers { srvr, mntr })
            })
        })
        .collect();
    let mut out = Vec::new();
    for (s, task) in config.server.iter().zip(asked) {
        out.push((s.id, task.await.ok().flatten()));
    }
    out
}

/// The answer to a four-letter word; `None`: there was none in time.
async fn word(address: &str, word: &str) -> Option<String> {
    let asked = async {
        let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
        stream.write_all(word.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await.ok()?;
        Some(String::from_utf8_lossy(&answer).into_owned())
    };
    tokio::time::timeout(ASK_LIMIT, asked).await.ok().flatten().filter(|a| !a.is_empty())
}

async fn ask_exports(config: &Config) -> Vec<ExportView> {
    let asked: Vec<_> = config.export.iter().cloned().map(|e| tokio::spawn(nfs::probe(e))).collect();
    let mut out = Vec::new();
    for (e, task) in config.export.iter().zip(asked) {
        let failed = |error: String| ExportView {
            server: e.server.clone(),
            path: e.path.clone(),
            error: Some(error),
            ..Default::default()
        };
        out.push(task.await.unwrap_or_else(|e| failed(e.to_string())));
    }
    out
}
