//! `trivet coordination zoo.cfg`: in the place of an Apache ZooKeeper server; `transfer`: another leader.

use anyhow::Context;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use trivet_coordination::Event;
use trivet_formats::ServerId;
use trivet_node::links::report_text;

/// The new leader has to serve within this, or the transfer failed.
const TRANSFER_LIMIT: Duration = Duration::from_secs(5);
/// A server has this long to answer a four-letter word, or it counts as unreachable.
const WORD_LIMIT: Duration = Duration::from_secs(1);
/// Bytes of an answer to a four-letter word; the rest is not read.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    /// The configuration file; `myid` is read from its dataDir
    #[arg(required = true)]
    config: Option<PathBuf>,
    /// A property as Java takes it, such as -Dzookeeper.snapCount=50000; also read from JVMFLAGS and
    /// SERVER_JVMFLAGS. The file takes precedence
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    defines: Vec<String>,
    /// Log to this file instead of standard error: it is set aside as FILE.1 at 16 MiB, and four older ones are kept
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

impl Args {
    /// Whether a server runs, and not a command about one.
    pub fn is_server(&self) -> bool {
        self.command.is_none()
    }
}

#[derive(clap::Subcommand)]
enum Command {
    /// Let another server lead: requests wait for a moment, clients see no error and stay connected.
    /// A server that was started from a zoo.cfg does so only if `lead` is in its 4lw.commands.whitelist
    Transfer {
        /// Number of the server that is to lead
        #[arg(long)]
        to: u32,
        /// Data folder of `trivet up`, or a node.toml
        #[arg(long, default_value = "trivet-data")]
        data: PathBuf,
        /// A zoo.cfg of the ensemble, instead of --data; all servers are taken to have its clientPort
        #[arg(long)]
        zoo_cfg: Option<PathBuf>,
    },
    /// Judge a data folder as a start would, and change nothing: snapshots, logs, gaps, damage, epochs
    Fsck {
        /// dataDir
        data: PathBuf,
        /// dataLogDir, where it is another folder
        #[arg(long)]
        log_dir: Option<PathBuf>,
        #[arg(long)]
        json: bool,
    },
    /// Write a log up to a transaction as a file of its own, beside the log, which stays as it is
    Truncate {
        /// A log file, such as version-2/log.100000001
        log: PathBuf,
        /// The last transaction to keep, which the log has to hold: a zxid as `dump` shows it, such as 0x10000002a
        #[arg(long, value_parser = zxid)]
        to: trivet_formats::Zxid,
        /// The new file; by default LOG.choppedZXID, as Apache's toolkit names it
        #[arg(long)]
        output: Option<PathBuf>,
    },
    /// Show what a log or snapshot file holds, a line each
    Dump {
        file: PathBuf,
        #[arg(long)]
        json: bool,
    },
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    match (&args.command, &args.config) {
        (Some(Command::Transfer { to, data, zoo_cfg }), _) => transfer(*to, data, zoo_cfg.as_deref()),
        (Some(Command::Fsck { data, log_dir, json }), _) => fsck(data, log_dir.as_deref().unwrap_or(data), *json),
        (Some(Command::Truncate { log, to, output }), _) => truncate(log, *to, output.as_deref()),
        (Some(Command::Dump { file, json }), _) => {
            let mut out = std::io::BufWriter::new(std::io::stdout().lock());
            let shown = trivet_node::coordination::inspect::dump(file, *json, &mut out);
            let written = out.flush();
            match shown.and(written) {
                // `| head` has seen enough.
                Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
                done => done.with_context(|| file.display().to_string()),
            }
        }
        (None, Some(config)) => {
            let mut defines = flags_of_java();
            defines.extend(args.defines.iter().cloned());
            serve(config, &defines)
        }
        (None, None) => unreachable!("clap wants one of the two"),
    }
}

/// In hexadecimal digits behind 0x, or in decimal ones.
fn zxid(text: &str) -> Result<trivet_formats::Zxid, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map(trivet_formats::Zxid).map_err(|_| format!("{text:?} is no zxid: 0x and hexadecimal digits are expected"))
}

fn truncate(log: &Path, to: trivet_formats::Zxid, output: Option<&Path>) -> anyhow::Result<()> {
    let done = trivet_node::coordination::chop::chop(log, to, output).with_context(|| log.display().to_string())?;
    println!(
        "{}: {} transactions up to {:#x}; {} behind it are left out",
        done.path.display(),
        done.transactions,
        to.0,
        done.left_out
    );
    println!("{} is as it was. A server that goes on from the new file forgets what is left out.", log.display());
    Ok(())
}

/// Properties in the variables that zkServer.sh hands to Java.
fn flags_of_java() -> Vec<String> {
    let flags = ["SERVER_JVMFLAGS", "JVMFLAGS"].into_iter().filter_map(|v| std::env::var(v).ok());
    let words: Vec<String> = flags.flat_map(|f| f.split_whitespace().map(str::to_string).collect::<Vec<_>>()).collect();
    let ours = |w: &String| Some(w.strip_prefix("-D")?.to_string());
    words
        .iter()
        .filter_map(ours)
        .filter(|d| {
            d.starts_with("zookeeper.")
                || d.starts_with("jute.")
                || d.starts_with("java.security.auth.login.config")
                || d.starts_with("readonlymode.")
                || d.starts_with("znode.")
        })
        .collect()
}

fn fsck(data: &Path, log_dir: &Path, json: bool) -> anyhow::Result<()> {
    let report = trivet_node::coordination::inspect::inspect(data, log_dir)?;
    if json {
        println!("{:#}", crate::schema::named("trivet.fsck/1", &report)?);
    } else {
        for s in &report.snapshots {
            let state = s.problem.as_ref().map_or_else(|| format!("{} nodes", s.nodes), |p| format!("NOT USABLE: {p}"));
            println!("{}: {state}", s.path.display());
        }
        for l in &report.logs {
            let range = l.first.iter().chain(&l.last).cloned().collect::<Vec<_>>().join(" to ");
            let state = l.problem.as_ref().map_or(String::new(), |p| format!(", NOT USABLE: {p}"));
            println!("{}: {} transactions {range}{state}", l.path.display(), l.transactions);
        }
        report.notes.iter().for_each(|n| println!("note: {n}"));
        report.problems.iter().for_each(|p| println!("problem: {p}"));
    }
    if report.problems.is_empty() {
        if !json {
            println!("a server starts on it, at transaction {}", report.last);
        }
        return Ok(());
    }
    anyhow::bail!("{}: a server would not start on it", data.display())
}

fn transfer(to: u32, data: &Path, zoo_cfg: Option<&Path>) -> anyhow::Result<()> {
    let begun = Instant::now();
    let (address, answer) = match zoo_cfg {
        None => {
            let config = crate::status::find_config(data)?;
            if !config.numbers().contains(&to) {
                anyhow::bail!("--to {to}: there is no such node");
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let answer = runtime.block_on(trivet_node::admin::ask_for_the_lead(&config, to))?;
            (config.address(to, config.ports.client), answer)
        }
        Some(path) => {
            let cfg = trivet_node::zoo_cfg::load(path, &[])?;
            let peer = cfg.settings.peers.get(&ServerId(to.into()));
            let peer = peer.with_context(|| format!("--to {to}: no server.{to} in {}", path.display()))?;
            let port = cfg.settings.client_addresses.first().context("no clientPort")?.port();
            let address = SocketAddr::new(peer.first().quorum.ip(), port);
            (address, word(address, "lead").with_context(|| format!("server {to} at {address}"))?)
        }
    };
    print!("server {to} at {address}: {answer}");
    while begun.elapsed() < TRANSFER_LIMIT {
        if word(address, "srvr").is_ok_and(|a| a.contains("Mode: leader")) {
            println!("server {to} leads, after {} ms", begun.elapsed().as_millis());
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    anyhow::bail!("server {to} does not lead after {} s; the log of the leader says why", TRANSFER_LIMIT.as_secs())
}

/// Sends a four-letter word and reads the answer to its end.
fn word(address: SocketAddr, word: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, WORD_LIMIT)?;
    stream.set_read_timeout(Some(WORD_LIMIT))?;
    stream.write_all(word.as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

fn serve(config: &Path, defines: &[String]) -> anyhow::Result<()> {
    let cfg = trivet_node::zoo_cfg::load(config, defines)?;
    for key in &cfg.unknown {
        tracing::warn!(%key, "this setting is not known here and has no effect");
    }
    let id = cfg.settings.config.id;
    let data = cfg.settings.data_dir.display().to_string();
    let audit_user = cfg.settings.config.audit_user.clone();
    let (handle, thread) = trivet_node::coordination::start(cfg.settings, log_event)
        .with_context(|| format!("coordination of server {id} with data in {data}"))?;
    tracing::info!(server = id.0, %data, "coordination is running");
    if let Some(user) = &audit_user {
        trivet_node::coordination::audit::of_server(user, "serverStart", "success");
    }
    std::thread::spawn(move || {
        // The role's thread ends only after a fault that it cannot survive; the process must not stay then.
        let _ = thread.join();
        trivet_node::log_lines::flush();
        eprintln!("trivet: the coordination thread ended unexpectedly");
        std::process::exit(70);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended: anyhow::Result<()> = runtime.block_on(async {
        if let Some(at) = cfg.metrics {
            trivet_node::console::serve_metrics(at, handle.clone())?;
            tracing::info!(address = %at, "metrics for Prometheus");
        }
        if let Some(admin) = cfg.admin {
            let address = admin.address;
            match trivet_node::coordination::admin::serve(admin, handle.clone()) {
                Ok(()) => tracing::info!(%address, "AdminServer"),
                // As Apache's: the server is of use without it.
                Err(error) => tracing::warn!(%address, %error, "no AdminServer; the server runs without it"),
            }
        }
        let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        Ok(tokio::select! { _ = term.recv() => Ok(()), r = tokio::signal::ctrl_c() => r }?)
    });
    ended?;
    if let Some(user) = &audit_user {
        trivet_node::coordination::audit::of_server(user, "serverStop", "invoked");
    }
    // Acknowledged requests are on disk: there is nothing to save, but leadership to transfer.
    handle.step_down(trivet_node::node::STEP_DOWN_LIMIT);
    trivet_node::log_lines::flush();
    std::process::exit(0)
}

/// Logs a line for each change, in a form that stays the same between versions.
pub fn log_event(event: &Event) {
    match event {
        Event::Looking { reason, .. } => tracing::info!(%reason, "role=looking"),
        Event::Following { leader, epoch, report } => {
            tracing::info!(leader = leader.0, epoch, report = report_text(report), "role=following")
        }
        Event::Leading { epoch, report } => tracing::info!(epoch, report = report_text(report), "role=leading"),
        Event::Transfer { to, why } => tracing::info!(to = to.0, %why, "hands the lead over"),
        Event::Refused { who, reason } => tracing::warn!(%who, %reason, "refused"),
    }
}
