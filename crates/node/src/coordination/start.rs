//! Starts the role: the data folder is opened and the ports are taken first, so that a start that cannot succeed fails
//! at once; then the core gets a thread of its own.

use super::driver::{self, Driver};
use super::handle::{Handle, Status};
use super::inbox::Message;
use super::listen::{self, BindError};
use super::machine::HostInfo;
use super::settings::Settings;
use super::store::{Store, StoreError};
use super::{disk_queue, member_lookup};
use crate::clock::{wall_ms, Clock};
use parking_lot::Mutex;
use std::sync::mpsc as std_mpsc;
use std::sync::Arc;
use tokio::sync::mpsc;
use trivet_coordination::{Event, Input, Now, Server};

/// Messages from other threads that may wait for the core; senders block beyond it.
const INBOX_MAX: usize = 8_192;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A port cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system refuses a thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// Opens the data folder and starts the role; `on_event` is called on the role's thread.
///
/// # Errors
/// If the folder or a port is not usable, or a thread cannot be started.
pub fn start(
    settings: Settings,
    on_event: impl Fn(&Event) + Send + 'static,
) -> Result<(Handle, std::thread::JoinHandle<()>), StartError> {
    let (mut store, recovered) = Store::open(&settings.data_dir, &settings.log_dir)?;
    store.keep_snapshots(settings.snapshots_kept);
    store.pack_snapshots(settings.snapshot_packing);
    let host = HostInfo::new(&settings, store.times());
    purge_now_and_then(&settings)?;
    let clock = Clock::default();
    let now = Now { mono_ms: clock.mono_ms(), wall_ms: wall_ms() };
    let server = Server::new(settings.config.clone(), recovered, now);
    let status: Status = Arc::new(Mutex::new((server.summary(), server.counters())));
    let (inbox, messages) = mpsc::channel(INBOX_MAX);
    let handle =
        Handle { status: status.clone(), inbox: inbox.clone(), cluster: settings.security.peers.cluster.clone() };
    let durable = inbox.clone();
    let part_written = inbox.clone();
    store.tell_of_parts(move || drop(part_written.blocking_send(Message::Input(Input::SnapshotPartWritten))));
    let done = move |seq| drop(durable.blocking_send(Message::Input(Input::Durable(seq))));
    let disk = disk_queue::serve_on_a_thread("coord-wal", move |queue| store.serve(&queue, done));
    let disk = disk.map_err(StartError::Thread)?;
    let members = member_lookup::start(&settings, inbox.clone()).map_err(StartError::Thread)?;
    let mut client_listeners = Vec::new();
    for address in &settings.client_addresses {
        client_listeners.push((listen::bind_in_time(*address, settings.backlog)?, settings.security.client.clone()));
    }
    if let Some((address, speaks)) = &settings.security.secure_client {
        client_listeners.push((listen::bind_in_time(*address, settings.backlog)?, speaks.clone()));
    }
    keep_certificates_current(&settings).map_err(StartError::Thread)?;
    let election = settings.own().map(|own| settings.listens_at(&own.election()));
    let election_listeners = election.map(|at| listen::bind_some_in_time(&at)).transpose()?;
    let (ready, is_ready) = std_mpsc::channel();
    let thread = std::thread::Builder::new()
        .name("coordination".into())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = match runtime {
                Ok(r) => r,
                Err(e) => return drop(ready.send(Err(StartError::Thread(e)))),
            };
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async move {
                let parts = driver::Parts { server, clock, host, disk, members, on_event: Box::new(on_event) };
                let driver = Driver::new(parts, &settings, inbox, election_listeners);
                driver.accept_clients(client_listeners);
                let _ = ready.send(Ok(()));
                driver.run(messages, status).await;
            });
        })
        .map_err(StartError::Thread)?;
    is_ready.recv().map_err(|_| StartError::Thread(std::io::Error::other("the role's thread ended")))??;
    Ok((handle, thread))
}

fn keep_certificates_current(settings: &Settings) -> std::io::Result<()> {
    let security = &settings.security;
    let clients =
        security.secure_client.iter().map(|(_, speaks)| speaks).chain([&security.client]).find_map(|s| s.tls.as_ref());
    clients.into_iter().chain(&security.peers.accept.tls).try_for_each(super::tls::keep_current)
}

/// Beside the times when a snapshot is written, if that is asked for.
fn purge_now_and_then(settings: &Settings) -> Result<(), StartError> {
    let Some(pause) = settings.purge_pause else { return Ok(()) };
    let (dir, log_dir) = (settings.data_dir.join("version-2"), settings.log_dir.join("version-2"));
    let kept = settings.snapshots_kept;
    let work = move || loop {
        std::thread::sleep(pause);
        if let Err(e) = super::store::purge(&dir, &log_dir, kept) {
            tracing::warn!(error = %e, "cannot remove old snapshots and logs");
        }
    };
    std::thread::Builder::new().name("purge".into()).spawn(work).map_err(StartError::Thread)?;
    Ok(())
}

#[cfg(test)]
mod tests;
