//! `trivet coordination zoo.cfg`: in the place of an Apache ZooKeeper server.

use anyhow::Context;
use std::path::PathBuf;
use trivet_coordination::Event;
use trivet_node::links::report_text;

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
    let (handle, thread) = trivet_node::coordination::start(cfg.settings, log_event)
        .with_context(|| format!("coordination of server {id} with data in {data}"))?;
    tracing::info!(server = id.0, %data, "coordination is running");
    std::thread::spawn(move || {
        // It ends only if something is badly wrong; the process must not stay then.
        let _ = thread.join();
        eprintln!("trivet: the coordination thread ended unexpectedly");
        std::process::exit(70);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! { _ = term.recv() => Ok(()), r = tokio::signal::ctrl_c() => r }
    })?;
    // What was acknowledged is on disk: there is nothing to save, but a lead to hand over.
    handle.step_down(trivet_node::node::STEP_DOWN_LIMIT);
    std::process::exit(0)
}

/// One line a change, in a form that does not change.
pub fn log_event(event: &Event) {
    match event {
        Event::Looking { reason } => tracing::info!(%reason, "role=looking"),
        Event::Following { leader, epoch, report } => {
            tracing::info!(leader = leader.0, epoch, report = report_text(report), "role=following")
        }
        Event::Leading { epoch, report } => tracing::info!(epoch, report = report_text(report), "role=leading"),
        Event::Transfer { to, why } => tracing::info!(to = to.0, %why, "hands the lead over"),
        Event::Refused { who, reason } => tracing::warn!(%who, %reason, "refused"),
    }
}
