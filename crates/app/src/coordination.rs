//! `trivet coordination zoo.cfg`: in the place of an Apache ZooKeeper server.

use anyhow::Context;
use std::path::PathBuf;
use trivet_coordination::Event;

#[derive(clap::Args)]
pub struct Args {
    /// The configuration file; `myid` is read from its dataDir
    config: PathBuf,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let cfg = trivet_node::zoo_cfg::load(&args.config)?;
    for key in &cfg.unknown {
        tracing::warn!(%key, "this setting is not known here and has no effect");
    }
    let id = cfg.settings.config.id;
    let data = cfg.settings.data_dir.display().to_string();
    let (_handle, thread) = trivet_node::coordination::start(cfg.settings, log_event)
        .with_context(|| format!("coordination of server {id} with data in {data}"))?;
    tracing::info!(server = id.0, %data, "coordination is running");
    if thread.join().is_err() {
        anyhow::bail!("the coordination thread ended unexpectedly");
    }
    Ok(())
}

/// One line a change, in a form that does not change.
pub fn log_event(event: &Event) {
    match event {
        Event::Looking { reason } => tracing::info!(%reason, "role=looking"),
        Event::Following { leader, epoch, took_ms } => {
            tracing::info!(leader = leader.0, epoch, took_ms, "role=following")
        }
        Event::Leading { epoch, took_ms } => tracing::info!(epoch, took_ms, "role=leading"),
        Event::Refused { who, reason } => tracing::warn!(%who, %reason, "refused"),
    }
}
