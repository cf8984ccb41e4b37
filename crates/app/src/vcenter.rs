//! `trivet vcenter thumbprint|check|status|plan|repair|confirm`.

use crate::status::find_config;
use clap::Subcommand;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use trivet_node::vcenter::{ask_leader, check, thumbprint, Ask};
use trivet_vcenter::texts::Text;
use trivet_vcenter::Snapshot;

#[derive(clap::Args)]
pub struct Args {
    /// Data folder of `trivet up`, or a node.toml
    #[arg(long, default_value = "trivet-data", global = true)]
    data: PathBuf,
    /// Explain in Chinese
    #[arg(long, global = true)]
    zh: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the SHA-256 thumbprint of a vCenter's or host's certificate; compare it with the one on its own screen
    Thumbprint {
        /// HOST or HOST:PORT
        host: String,
    },
    /// Log in and read once with the settings of a node.toml; say what is seen and what the user may do
    Check,
    /// Show hosts, datastores, heartbeat datastores, alerts and what was repaired
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the next steps, and why each is not taken now
    Plan,
    /// Confirm a plan: it is carried out once all its other conditions hold
    Repair {
        /// Id that `trivet vcenter plan` shows
        #[arg(long)]
        plan: String,
    },
    /// Confirm that a learned datastore is wanted on every host of the cluster
    Confirm { datastore: String },
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let Command::Thumbprint { host } = &args.command {
        println!("{}", runtime.block_on(thumbprint(host))?);
        return Ok(());
    }
    let config = find_config(&args.data)?;
    let said = |t: &Text| if args.zh { t.zh.clone() } else { t.en.clone() };
    if let Command::Check = &args.command {
        let missing =
            || anyhow::anyhow!("there is no [vcenter] in the node.toml; docs/vcenter.md says what belongs there");
        let (told, snapshot) = runtime.block_on(check(config.vcenter.as_ref().ok_or_else(missing)?))?;
        print!("{told}\n{}", status(&snapshot, &said));
        return Ok(());
    }
    let who = || std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).unwrap_or_else(|_| "a person".into());
    let ask = match &args.command {
        Command::Repair { plan } => Ask::Repair { plan: plan.clone(), who: who() },
        Command::Confirm { datastore } => Ask::Confirm { datastore: datastore.clone(), who: who() },
        _ => Ask::Status,
    };
    let metads = config.metads().into_values().collect();
    let identity = Arc::new(config.identity()?);
    let snapshot = runtime.block_on(ask_leader(metads, identity, &ask, Duration::from_secs(10)))?;
    match &args.command {
        Command::Status { json: true } => println!("{}", serde_json::to_string_pretty(&snapshot)?),
        Command::Status { json: false } => print!("{}", status(&snapshot, &said)),
        Command::Plan => print!("{}", plans(&snapshot, &said)),
        Command::Repair { plan } => println!("plan {plan} is confirmed; `trivet vcenter status` shows what came of it"),
        Command::Confirm { datastore } => println!("{datastore} is wanted on every host from now on"),
        Command::Thumbprint { .. } | Command::Check => {}
    }
    Ok(())
}

fn status(s: &Snapshot, said: &impl Fn(&Text) -> String) -> String {
    let age = s.read_ms_ago.map_or("not read yet".into(), |ms| format!("read {} s ago", ms / 1_000));
    let mut out = format!("cluster {}  mode {:?}  {age}\n", s.cluster, s.mode);
    if let Some(trouble) = &s.trouble {
        out += &format!("vCenter is not read: {trouble}\n");
    }
    if s.heartbeat_warning_hidden {
        out += "das.ignoreInsufficientHbDatastore hides the warning of too few heartbeat datastores\n";
    }
    for w in &s.wanted {
        let mark = if w.heartbeat { ", heartbeat" } else { "" };
        out += &format!("wanted {}  {}  {:?}{mark}\n", w.wanted.name, w.wanted.identity(), w.origin);
    }
    for h in &s.hosts {
        let chosen = h.heartbeat_chosen.map_or("?".into(), |n| n.to_string());
        let few = if h.heartbeat_few { "  TOO FEW" } else { "" };
        out += &format!(
            "host {}  {}{}  heartbeat datastores {chosen} of {}{few}\n",
            h.name,
            h.connection,
            if h.maintenance { ", in maintenance mode" } else { "" },
            h.heartbeat_required
        );
    }
    for c in &s.matrix {
        out += &format!("  {}{}\n", if c.state.is_fault() { "! " } else { "  " }, said(&c.text));
    }
    for r in &s.routes {
        let mark = if r.node_well && r.at_node.is_none() && r.known { " " } else { "!" };
        out += &format!("  {mark} {}\n", said(&r.text));
    }
    for a in &s.alerts {
        out += &format!("alert {}  {:?}  {} s  {}\n", a.id.name(), a.cause, a.lasts_ms / 1_000, said(&a.text));
    }
    for step in &s.steps {
        out += &format!("step {}  {}\n", step.step.number, said(&step.text));
    }
    out
}

fn plans(s: &Snapshot, said: &impl Fn(&Text) -> String) -> String {
    let mut out = String::new();
    for p in &s.plans {
        out += &format!("{}  {}\n", p.plan.id, said(&p.text));
        for reason in &p.reasons {
            out += &format!("          - {}\n", said(reason));
        }
    }
    if out.is_empty() {
        out = "nothing to do\n".into();
    }
    out
}
