//! `trivet up`: a whole cluster on this machine, each node a process of its own.

mod death;
mod folder;
mod restart;

use crate::status::consoles;
use anyhow::{bail, Context};
use restart::Restart;
use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use trivet_node::admin;
use trivet_node::config::{NodeConfig, Ports};
use trivet_node::console::accounts::link_code;
use trivet_node::gateway::portmap::Portmapper;
use trivet_node::keys::Keys;
use trivet_node::last_stop;
use trivet_node::status::{fetch_all, NodeStatus};

/// Time within which the cluster has to serve, or the start fails and says what is missing.
const READY_LIMIT: Duration = Duration::from_secs(60);
const DATASTORES: [&str; 2] = ["ds1", "ds2"];
/// Bytes of a log's end in which the last words of a node are looked for.
const LAST_WORDS_BYTES_MAX: u64 = 16 << 10;
/// A node that ends itself sooner than this after its start failed at the start.
const RAN_WELL: Duration = Duration::from_secs(60);
/// A start that fails doubles the pause before the next one, this often at most: 3 s become 96 s.
const DOUBLINGS_MAX: u32 = 5;

#[derive(clap::Args)]
pub struct Args {
    /// Folder for everything
    #[arg(long, default_value = "trivet-data")]
    data: PathBuf,
    /// How many nodes: 1, 3 or 5
    #[arg(long, default_value_t = 3)]
    nodes: u8,
    /// Datastore address; the nodes get the addresses that follow it
    #[arg(long, default_value = "127.0.0.70")]
    base_address: Ipv4Addr,
    /// Added to every port, where something else uses them
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=i64::from(Ports::OFFSET_MAX)))]
    port_offset: u16,
    /// Restart a node this many seconds after it died, or `never`; after starts that fail it waits longer, up to 32 times as long
    #[arg(long, default_value = "3", value_parser = restart::parse)]
    restart: Restart,
    /// Run this command when the cluster is ready, then stop everything and return its status
    #[arg(long, value_name = "CMD")]
    exec: Option<String>,
    /// Run each node as two processes: control (coordination, metad) and data (chunk, gateway)
    #[arg(long)]
    split: bool,
    /// Use this ensemble (zookeeper://host:port,...) for coordination instead of our own
    #[arg(long, value_name = "URL")]
    coordination: Option<String>,
    /// Rebuild the copies of a node on other nodes after it was away this many seconds [default: 300]
    #[arg(long, value_name = "SECONDS")]
    rebuild_after: Option<u64>,
}

static STOP: AtomicBool = AtomicBool::new(false);

pub fn run(args: &Args) -> anyhow::Result<()> {
    let restart = args.restart.0;
    if ![1, 3, 5].contains(&args.nodes) {
        bail!("--nodes: 1, 3 or 5");
    }
    let begun = Instant::now();
    // Conditions that would keep the cluster from starting are found before anything is written.
    let folder = folder::Folder::claim(&args.data)?;
    let plan = folder.plan(args)?;
    let configs = &plan.configs;
    check_ports(&configs[0])?;
    configs[0].coordination_addresses()?;
    folder.write(&plan)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.spawn(async {
        let term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
        if let Ok(mut term) = term {
            tokio::select! { _ = term.recv() => {}, _ = tokio::signal::ctrl_c() => {} }
            STOP.store(true, Ordering::Relaxed);
        }
    });
    let mut nodes = Vec::new();
    for config in configs {
        let parts: &[Option<&str>] =
            if args.split { &[Some("coordination,metad"), Some("chunk,gateway")] } else { &[None] };
        for part in parts {
            nodes.push(Node::new(config, *part)?);
        }
    }
    let outcome = attend(args, configs, &mut nodes, restart, &runtime, begun);
    for node in &mut nodes {
        node.stop();
    }
    match outcome? {
        Some(status) => std::process::exit(status.code().unwrap_or(1)),
        None => {
            println!("stopped");
            Ok(())
        }
    }
}

/// Waits for the cluster, tells about it, keeps its processes running until it is to end.
fn attend(
    args: &Args,
    configs: &[NodeConfig],
    nodes: &mut [Node],
    restart: Option<Duration>,
    runtime: &tokio::runtime::Runtime,
    begun: Instant,
) -> anyhow::Result<Option<ExitStatus>> {
    println!("starting {} nodes in {}", configs.len(), args.data.display());
    wait_ready(&configs[0], nodes, restart, runtime)?;
    if STOP.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let console = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), configs[0].ports.console);
    let served = {
        let _guard = runtime.enter();
        trivet_node::console::forward(console, consoles(&configs[0]))
    };
    overview(&configs[0], console, served.is_ok(), begun);
    let mut command = match &args.exec {
        None => None,
        Some(cmd) => Some(start_command(cmd, &configs[0], console)?),
    };
    while !STOP.load(Ordering::Relaxed) {
        for node in nodes.iter_mut() {
            node.attend(restart)?;
        }
        if let Some(child) = &mut command {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    if let Some(mut child) = command {
        let _ = child.kill();
        let _ = child.wait();
    }
    Ok(None)
}

fn start_command(cmd: &str, config: &NodeConfig, console: SocketAddr) -> anyhow::Result<Child> {
    let ensemble: Vec<String> = config.coordination_addresses()?.iter().map(|a| a.to_string()).collect();
    let address = config.datastore_addresses[0];
    Command::new("sh")
        .args(["-c", cmd])
        .env("TRIVET_ZOOKEEPER", ensemble.join(","))
        .env("TRIVET_NFS", format!("{address}:/{}", DATASTORES[0]))
        .env("TRIVET_CONSOLE", format!("http://{console}"))
        .spawn()
        .context("--exec")
}

struct Node {
    config_path: PathBuf,
    log_path: PathBuf,
    name: String,
    roles: Option<String>,
    child: Option<Child>,
    /// The start of the newest process, in milliseconds since 1970.
    started_ms: i64,
    /// Bytes of the log when it was started.
    log_began: u64,
    start_at: Option<Instant>,
    /// Starts in a row that failed.
    failures: u32,
}

/// Whether somebody ended the process, as opposed to a panic, which ends it by SIGABRT.
fn was_killed(status: ExitStatus) -> bool {
    status.signal().is_some_and(|s| s != rustix::process::Signal::ABORT.as_raw())
}

/// The last of a log file's text behind a place, up to [`LAST_WORDS_BYTES_MAX`].
fn end_of(path: &Path, from: u64) -> std::io::Result<String> {
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    // A file that is shorter was begun since.
    let from = if length < from { 0 } else { from };
    file.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS_BYTES_MAX).max(from)))?;
    let mut bytes = Vec::new();
    file.take(LAST_WORDS_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl Node {
    fn new(config: &NodeConfig, roles: Option<&str>) -> anyhow::Result<Node> {
        let suffix =
            roles.map_or(String::new(), |r| if r.contains("metad") { "-control".into() } else { "-data".into() });
        let mut node = Node {
            config_path: config.data.join("node.toml"),
            log_path: config.data.join(format!("node{suffix}.log")),
            name: format!("node {}{suffix}", config.node),
            roles: roles.map(str::to_string),
            child: None,
            started_ms: 0,
            log_began: 0,
            start_at: None,
            failures: 0,
        };
        node.start()?;
        Ok(node)
    }

    fn start(&mut self) -> anyhow::Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log_path)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", "--with-parent", "--config"]).arg(&self.config_path);
        command.arg("--log-file").arg(&self.log_path);
        if let Some(roles) = &self.roles {
            command.args(["--roles", roles]);
        }
        // A terminal's Ctrl-C is for the parent, which stops its nodes itself.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        self.started_ms = trivet_node::clock::wall_ms();
        self.log_began = log.metadata()?.len();
        self.child = Some(command.stdout(log.try_clone()?).stderr(log).spawn()?);
        self.start_at = None;
        Ok(())
    }

    /// Notices a death and starts the node again when its time has come.
    fn attend(&mut self, restart: Option<Duration>) -> anyhow::Result<()> {
        if let Some(child) = &mut self.child {
            if let Some(status) = child.try_wait()? {
                self.child = None;
                let why = self.reason_of_death(status);
                let ran_ms = trivet_node::clock::wall_ms() - self.started_ms;
                let failed = !was_killed(status) && ran_ms < RAN_WELL.as_millis() as i64;
                self.failures = if failed { self.failures + 1 } else { 0 };
                match restart {
                    Some(pause) => {
                        let pause = pause * 2_u32.pow(self.failures.saturating_sub(1).min(DOUBLINGS_MAX));
                        println!(
                            "{} died ({status}{why}); it is started again in {:.0} s",
                            self.name,
                            pause.as_secs_f64()
                        );
                        self.start_at = Some(Instant::now() + pause);
                    }
                    None => println!("{} died ({status}{why})", self.name),
                }
            }
        } else if self.start_at.is_some_and(|at| Instant::now() >= at) {
            self.start()?;
        }
        Ok(())
    }

    /// `: ` and the reason that the process noted or logged; empty where it had no part in its end.
    fn reason_of_death(&self, status: ExitStatus) -> String {
        let data = self.log_path.parent();
        let noted = data.and_then(last_stop::read).filter(|l| l.at_ms >= self.started_ms);
        if let Some(noted) = noted {
            return format!(": {}: {}", noted.path, noted.why);
        }
        let log = end_of(&self.log_path, self.log_began).unwrap_or_default();
        let logged = death::reason_in(&log).filter(|_| !was_killed(status) && !status.success());
        logged.map_or(String::new(), |reason| format!(": {reason}"))
    }

    fn last_words(&self) -> String {
        let text = end_of(&self.log_path, 0).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(4).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            if let Some(pid) = rustix::process::Pid::from_raw(child.id() as i32) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
            let limit = Instant::now() + Duration::from_secs(5);
            while Instant::now() < limit {
                if matches!(child.try_wait(), Ok(Some(_))) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A port that is taken is named before anything is started.
fn check_ports(config: &NodeConfig) -> anyhow::Result<()> {
    let p = &config.ports;
    for n in config.numbers() {
        for (port, what) in [
            (p.client, "ZooKeeper clients"),
            (p.quorum, "the quorum"),
            (p.election, "elections"),
            (p.nfs, "NFS"),
            (p.console, "the console"),
            (p.control, "calls between nodes"),
            (p.data, "calls between nodes"),
        ] {
            if config.coordination.is_some() && [p.client, p.quorum, p.election].contains(&port) {
                continue;
            }
            let address = config.address(n, port);
            TcpListener::bind(address).with_context(|| {
                format!("{address}, for {what}, cannot be used; --port-offset N moves all ports, --base-address the addresses")
            })?;
        }
    }
    for a in &config.datastore_addresses {
        let address = SocketAddr::new(*a, p.nfs);
        match TcpListener::bind(address) {
            // The node that serves it puts it on this host.
            Err(e) if e.kind() == std::io::ErrorKind::AddrNotAvailable => {}
            bound => drop(
                bound
                    .with_context(|| format!("{address}, for NFS, cannot be used; --port-offset N moves all ports"))?,
            ),
        }
    }
    Ok(())
}

fn wait_ready(
    config: &NodeConfig,
    nodes: &mut [Node],
    restart: Option<Duration>,
    runtime: &tokio::runtime::Runtime,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut told = String::new();
    let mut made = false;
    let (consoles, keys) = (consoles(config), config.keys()?);
    while !STOP.load(Ordering::Relaxed) {
        for node in nodes.iter_mut() {
            node.attend(restart)?;
            if node.child.is_none() {
                bail!("{} does not start:\n{}", node.name, node.last_words());
            }
        }
        let (found, _) = fetch_all(&keys, &consoles);
        if let Some(missing) = what_is_missing(config, &found) {
            if missing.contains("datastore") && !made {
                for name in DATASTORES {
                    let created = runtime.block_on(admin::create_datastore(
                        config,
                        name,
                        2.min(config.nodes.len() as u32),
                        Vec::new(),
                        false,
                        admin::Permissions::Trusted,
                        // metad may lose its first LEADER on a machine that is slow to start.
                        READY_LIMIT.saturating_sub(begun.elapsed()),
                    ));
                    if let Err(e) = created {
                        if !e.to_string().contains("already") {
                            return Err(e);
                        }
                    }
                }
                made = true;
                continue;
            }
            if missing != told && begun.elapsed() > Duration::from_millis(700) {
                println!("waiting for {missing}");
                told = missing;
            }
        } else {
            return Ok(());
        }
        if begun.elapsed() > READY_LIMIT {
            bail!(
                "the cluster is not ready after {} s: still waiting for {told}; logs are in {}",
                READY_LIMIT.as_secs(),
                config.data.parent().unwrap_or(&config.data).display()
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn what_is_missing(config: &NodeConfig, found: &[NodeStatus]) -> Option<String> {
    let silent: Vec<String> =
        config.numbers().into_iter().filter(|n| !found.iter().any(|f| f.node == *n)).map(|n| n.to_string()).collect();
    if !silent.is_empty() {
        return Some(format!("node {}", silent.join(", ")));
    }
    let coordination = found.iter().filter_map(|n| n.coordination.as_ref());
    if config.coordination.is_none() && coordination.filter(|c| c.serving).count() < config.nodes.len() {
        return Some("coordination to elect a leader".into());
    }
    let Some(leader) = found.iter().find(|n| n.metad.as_ref().is_some_and(|m| m.leading)) else {
        let trouble = found.iter().filter_map(|n| n.metad.as_ref()).map(|m| m.trouble.as_str()).find(|t| !t.is_empty());
        return Some(trouble.map_or("metad to elect its LEADER".into(), |t| format!("metad: {t}")));
    };
    if leader.datastores.is_empty() {
        return Some("the first datastores".into());
    }
    let ready = found.iter().filter(|n| n.roles.contains(&trivet_node::config::Role::Gateway) && n.ready).count();
    if ready < config.nodes.len() {
        return Some("the gateways to know the datastores".into());
    }
    let address = SocketAddr::new(config.datastore_addresses[0], config.ports.nfs);
    if std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_err() {
        return Some(format!("a gateway to serve {address}"));
    }
    if portmapper(config, found).is_none() {
        return Some(format!("the portmapper of {}", address.ip()));
    }
    None
}

/// How clients find the datastore address, as the node says that has it.
fn portmapper<'a>(config: &NodeConfig, found: &'a [NodeStatus]) -> Option<&'a Portmapper> {
    found.iter().flat_map(|n| &n.portmappers).find(|p| p.address == config.datastore_addresses[0])
}

fn overview(config: &NodeConfig, console: SocketAddr, console_here: bool, begun: Instant) {
    let keys = config.keys().unwrap_or_else(|_| Keys::of(&[]));
    let (found, _) = fetch_all(&keys, &consoles(config));
    let ensemble: Vec<String> =
        config.coordination_addresses().unwrap_or_default().iter().map(|a| a.to_string()).collect();
    let address = config.datastore_addresses[0];
    println!("ready after {:.1} s", begun.elapsed().as_secs_f64());
    println!("  ZooKeeper   {}", ensemble.join(","));
    let portmapper = portmapper(config, &found);
    let options = portmapper.map_or_else(String::new, Portmapper::mount_options);
    for name in DATASTORES {
        println!("  /{name}        mount -t nfs -o vers=3,tcp,nolock{options} {address}:/{name} /mnt");
    }
    if let Some(p) = portmapper {
        println!("  portmapper  {}", p.text());
    }
    if console_here {
        println!("  console     http://{console}");
        let code = link_code(keys.in_use(), trivet_node::clock::wall_ms());
        println!("              http://{console}/login?code={code} signs in, once, within 10 minutes");
    }
    let own = config.address(1, config.ports.console);
    println!("              {}://{own}", if config.console.speaks_tls(own.ip()) { "https" } else { "http" });
    let data = config.data.parent().unwrap_or(&config.data).display().to_string();
    println!("  data, logs  {data}, {data}/node*/node*.log");
    for line in
        crate::status::text(&found, &[], false).lines().filter(|l| l.starts_with("node") || l.starts_with("address"))
    {
        println!("  {line}");
    }
    println!("Ctrl-C stops everything; the next `trivet up` goes on with the same data.");
}
