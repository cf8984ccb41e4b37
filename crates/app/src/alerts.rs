//! `trivet alerts`, `trivet incident`, `trivet silence` and `trivet account`: from a shell what the console's pages do.

use crate::console::{form, shown, Consoles};
use anyhow::Context;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use trivet_observe::alerts::{Alert, State};
use trivet_observe::incidents::Incident;
use trivet_observe::silences::Silence;
use trivet_observe::{export, Language, RuleId};

#[derive(clap::Args)]
pub struct Where {
    /// Data folder of `trivet up`, or a node.toml
    #[arg(long, default_value = "trivet-data")]
    data: PathBuf,
    /// Language: en or zh [default: as the environment says]
    #[arg(long)]
    lang: Option<String>,
}

impl Where {
    fn language(&self) -> Language {
        self.lang.as_deref().map_or_else(crate::language::from_environment, Language::of_tag)
    }
}

#[derive(clap::Args)]
pub struct AlertsArgs {
    #[command(flatten)]
    at: Where,
    /// Only alerts that fire
    #[arg(long)]
    active: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV for a spreadsheet
    #[arg(long)]
    csv: bool,
}

#[derive(Deserialize)]
struct Alerts {
    alerts: Vec<Alert>,
}

#[derive(Deserialize)]
struct Incidents {
    incidents: Vec<Incident>,
}

/// The alerts of all nodes by their fingerprints: the earliest start, and whether any node still sees it.
fn merged(all: Vec<(u32, Alerts)>) -> Vec<(Alert, Vec<u32>)> {
    let mut found: BTreeMap<String, (Alert, Vec<u32>)> = BTreeMap::new();
    for (node, alerts) in all {
        for a in alerts.alerts.into_iter().filter(|a| a.rule != RuleId::Watchdog) {
            match found.get_mut(&a.fingerprint) {
                Some((known, nodes)) => {
                    nodes.push(node);
                    let since = known.since_ms.min(a.since_ms);
                    if a.is_firing() && !known.is_firing() || a.last_seen_ms > known.last_seen_ms {
                        *known = a;
                    }
                    known.since_ms = since;
                }
                None => drop(found.insert(a.fingerprint.clone(), (a, vec![node]))),
            }
        }
    }
    let mut list: Vec<_> = found.into_values().collect();
    list.sort_by_key(|(a, _)| (!a.is_firing(), std::cmp::Reverse(a.severity), a.rule, a.subject.clone()));
    list
}

pub fn alerts(args: &AlertsArgs) -> anyhow::Result<()> {
    let consoles = Consoles::of(&args.at.data)?;
    let all: Vec<(u32, Alerts)> = consoles.ask_all("/api/v1/alerts");
    if all.is_empty() {
        anyhow::bail!("no node's console answers; `trivet up` starts a cluster");
    }
    let mut list = merged(all);
    if args.active {
        list.retain(|(a, _)| a.state == State::Firing);
    }
    let l = args.at.language();
    if args.json {
        let all: Vec<_> = list
            .iter()
            .map(|(a, nodes)| {
                let mut v = serde_json::to_value(a).unwrap_or_default();
                v["seen_by"] = serde_json::json!(nodes);
                v
            })
            .collect();
        println!("{}", serde_json::json!({ "schema": "trivet.alerts/1", "alerts": all }));
    } else if args.csv {
        print!("{}", export::csv(&list.into_iter().map(|(a, _)| a).collect::<Vec<_>>(), l));
    } else {
        for (a, nodes) in &list {
            let state = format!("{:?}", a.state).to_lowercase();
            let seen: Vec<String> = nodes.iter().map(u32::to_string).collect();
            println!(
                "{:<8} {:<8} {:<24} {}  (seen by nodes {}, {}x, {})",
                state,
                a.severity.name(),
                a.name(),
                shown(a.reason.get(l)),
                seen.join(","),
                a.count,
                a.fingerprint
            );
        }
    }
    Ok(())
}

#[derive(clap::Subcommand)]
pub enum IncidentCommand {
    /// List incidents, open ones first
    List {
        #[command(flatten)]
        at: Where,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print one incident
    Show {
        id: String,
        #[command(flatten)]
        at: Where,
    },
    /// Write one incident for somebody else
    Export {
        id: String,
        #[command(flatten)]
        at: Where,
        /// html, md or json
        #[arg(long, default_value = "md", value_parser = ["html", "md", "json"])]
        format: String,
        /// The file to write [default: standard output]
        #[arg(long, short)]
        output: Option<PathBuf>,
    },
}

/// The incidents of all nodes. Several nodes may report the same one, by its alerts and time; the one that began first counts.
pub fn all_incidents(consoles: &Consoles) -> Vec<Incident> {
    let mut list: Vec<Incident> = Vec::new();
    let all: Vec<(u32, Incidents)> = consoles.ask_all("/api/v1/incidents");
    for i in all.into_iter().flat_map(|(_, i)| i.incidents) {
        match list.iter_mut().find(|o| o.is_that_of(&i)) {
            Some(o)
                if (i.opened_ms, std::cmp::Reverse(i.members.len()))
                    < (o.opened_ms, std::cmp::Reverse(o.members.len())) =>
            {
                *o = i
            }
            Some(_) => {}
            None => list.push(i),
        }
    }
    list.sort_by_key(|i| std::cmp::Reverse((i.is_open(), i.opened_ms)));
    list
}

fn find(consoles: &Consoles, id: &str) -> anyhow::Result<Incident> {
    let all: Vec<(u32, Incidents)> = consoles.ask_all("/api/v1/incidents");
    let found = all.into_iter().flat_map(|(_, i)| i.incidents).find(|i| i.id == id);
    found.with_context(|| format!("no node knows an incident {id}; `trivet incident list` tells which there are"))
}

pub fn incident(command: &IncidentCommand) -> anyhow::Result<()> {
    match command {
        IncidentCommand::List { at, json } => {
            let (consoles, l) = (Consoles::of(&at.data)?, at.language());
            let all = all_incidents(&consoles);
            if *json {
                println!("{}", serde_json::json!({ "schema": "trivet.incidents/1", "incidents": all }));
                return Ok(());
            }
            for i in &all {
                let state = if i.is_open() { "open" } else { "over" };
                let began = trivet_observe::time_text(i.opened_ms);
                println!("{:<12} {state} {:<8} {began}Z  {}", i.id, i.severity.name(), shown(i.headline.get(l)));
            }
        }
        IncidentCommand::Show { id, at } => {
            print!("{}", export::markdown(&find(&Consoles::of(&at.data)?, id)?, at.language()));
        }
        IncidentCommand::Export { id, at, format, output } => {
            let i = find(&Consoles::of(&at.data)?, id)?;
            let text = match format.as_str() {
                "html" => export::html(&i, at.language()),
                "json" => serde_json::to_string_pretty(&i)?,
                _ => export::markdown(&i, at.language()),
            };
            match output {
                Some(path) => std::fs::write(path, text).with_context(|| path.display().to_string())?,
                None => println!("{text}"),
            }
        }
    }
    Ok(())
}

#[derive(clap::Subcommand)]
pub enum SilenceCommand {
    /// Mute alerts for a while
    Add {
        #[command(flatten)]
        at: Where,
        /// The rule, such as NODE_DOWN [default: all]
        #[arg(long, default_value = "")]
        rule: String,
        /// Alerts about this node only
        #[arg(long, default_value = "")]
        node: String,
        /// Alerts whose subject contains this
        #[arg(long, default_value = "")]
        subject: String,
        /// How long
        #[arg(long)]
        hours: f64,
        /// Why
        #[arg(long)]
        comment: String,
    },
    /// List silences and maintenances
    List {
        #[command(flatten)]
        at: Where,
    },
    /// End a silence before its time
    End {
        id: String,
        #[command(flatten)]
        at: Where,
    },
    /// Put a node into maintenance, which mutes what that causes, or end it with --hours 0
    Maintenance {
        node: u32,
        #[command(flatten)]
        at: Where,
        #[arg(long)]
        hours: f64,
        #[arg(long, default_value = "maintenance")]
        comment: String,
    },
}

#[derive(Deserialize)]
struct Silences {
    silences: Vec<Silence>,
    maintenance: Vec<trivet_observe::silences::Maintenance>,
}

pub fn silence(command: &SilenceCommand) -> anyhow::Result<()> {
    match command {
        SilenceCommand::Add { at, rule, node, subject, hours, comment } => {
            let hours = hours.to_string();
            let fields = [
                ("rule", rule.as_str()),
                ("node", node.as_str()),
                ("subject", subject.as_str()),
                ("hours", hours.as_str()),
                ("comment", comment.as_str()),
            ];
            Consoles::of(&at.data)?.ask("POST", "/silences", &form(&fields))?;
        }
        SilenceCommand::List { at } => {
            let body = Consoles::of(&at.data)?.ask("GET", "/api/v1/silences", "")?;
            let all: Silences = serde_json::from_slice(&body)?;
            for s in all.silences {
                let rule = s.matcher.rule.map_or("-", |r| trivet_observe::catalogue::rule(r).name);
                let node = s.matcher.node.map_or("-".into(), |n| n.to_string());
                let subject = s.matcher.subject.unwrap_or_else(|| "-".into());
                let until = trivet_observe::time_text(s.until_ms);
                println!(
                    "{}  rule {rule}  node {node}  subject {}  until {until}Z  {}: {}",
                    s.id,
                    shown(&subject),
                    shown(&s.by),
                    shown(&s.comment)
                );
            }
            for m in all.maintenance {
                let until = trivet_observe::time_text(m.until_ms);
                println!("maintenance of node {}  until {until}Z  {}: {}", m.node, shown(&m.by), shown(&m.comment));
            }
        }
        SilenceCommand::End { id, at } => {
            Consoles::of(&at.data)?.ask("POST", "/silences/end", &form(&[("id", id)]))?;
        }
        SilenceCommand::Maintenance { node, at, hours, comment } => {
            let (node, consoles) = (node.to_string(), Consoles::of(&at.data)?);
            if *hours > 0.0 {
                let hours = hours.to_string();
                consoles.ask(
                    "POST",
                    "/maintenance",
                    &form(&[("node", &node), ("hours", &hours), ("comment", comment)]),
                )?;
            } else {
                consoles.ask("POST", "/maintenance/end", &form(&[("node", &node)]))?;
            }
        }
    }
    Ok(())
}

#[derive(clap::Subcommand)]
pub enum AccountCommand {
    /// Make an account of the console, or change its password, which is read from standard input
    Set {
        name: String,
        /// viewer, operator or administrator
        #[arg(long, default_value = "viewer")]
        role: String,
        #[command(flatten)]
        at: Where,
    },
    /// Make a token for a program, and print it
    Token {
        name: String,
        #[arg(long, default_value = "viewer")]
        role: String,
        #[command(flatten)]
        at: Where,
    },
    /// Remove an account or a token
    Remove {
        name: String,
        #[command(flatten)]
        at: Where,
    },
    /// Print a link that signs in once
    Link {
        #[command(flatten)]
        at: Where,
    },
}

pub fn account(command: &AccountCommand) -> anyhow::Result<()> {
    match command {
        AccountCommand::Set { name, role, at } => {
            let mut password = String::new();
            std::io::stdin().take(2_048).read_to_string(&mut password)?;
            let password = password.trim_end_matches(['\n', '\r']);
            let fields = [("name", name.as_str()), ("role", role.as_str()), ("password", password)];
            Consoles::of(&at.data)?.ask("POST", "/accounts", &form(&fields))?;
        }
        AccountCommand::Token { name, role, at } => {
            let fields = [("name", name.as_str()), ("role", role.as_str()), ("token", "1")];
            let body = Consoles::of(&at.data)?.ask("POST", "/accounts", &form(&fields))?;
            print!("{}", String::from_utf8_lossy(&body));
        }
        AccountCommand::Remove { name, at } => {
            Consoles::of(&at.data)?.ask("POST", "/accounts/remove", &form(&[("name", name)]))?;
        }
        AccountCommand::Link { at } => {
            println!("{}", Consoles::of(&at.data)?.link().context("the cluster has no node")?);
        }
    }
    Ok(())
}
