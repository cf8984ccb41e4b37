//! Notifications to systemd: starting, ready, alive, stopping.
//!
//! Without `NOTIFY_SOCKET`, as under `trivet up`, all of this does nothing. A ping of the watchdog proves that the
//! runtime takes up work and that the locks of metad and the chunk server are free: both are taken on a thread of the
//! blocking pool before each ping, so a node that hangs in one of them is restarted.

use crate::chunk::Chunk;
use crate::coordination::Handle;
use crate::metad::Metad;
use sd_notify::NotifyState;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

/// While a node recovers its log, it asks for this much more time to start, again and again.
const START_EXTENSION: Duration = Duration::from_secs(60);
/// Between two such requests, and between two states told to `systemctl status`.
const PAUSE: Duration = Duration::from_secs(5);

/// Asks for more time until `serving` is called: a node with a long log to replay is not killed for it.
pub struct Starting(Arc<AtomicBool>);

pub fn starting() -> Starting {
    let done = Arc::new(AtomicBool::new(false));
    if std::env::var_os("NOTIFY_SOCKET").is_some() {
        let done = done.clone();
        std::thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                let more = u32::try_from(START_EXTENSION.as_micros()).unwrap_or(u32::MAX);
                tell(&[NotifyState::ExtendTimeoutUsec(more), NotifyState::Status("recovering")]);
                std::thread::sleep(PAUSE);
            }
        });
    }
    Starting(done)
}

impl Starting {
    /// Reports to systemd that the roles run. From here on, a thread feeds the watchdog and updates the line in `systemctl
    /// status`.
    pub fn serving(self, coordination: Option<Handle>, metad: Option<Metad>, chunk: Option<Chunk>) {
        self.0.store(true, Ordering::Relaxed);
        tell(&[NotifyState::Ready]);
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return;
        }
        // Half of what systemd allows, as its documentation advises; without a watchdog only the state is told.
        let pause = sd_notify::watchdog_enabled().map_or(PAUSE, |limit| (limit / 2).min(PAUSE));
        tokio::spawn(async move {
            loop {
                let (c, m, s) = (coordination.clone(), metad.clone(), chunk.clone());
                let state = tokio::task::spawn_blocking(move || state(c.as_ref(), m.as_ref(), s.as_ref())).await;
                if let Ok(text) = state {
                    tell(&[NotifyState::Watchdog, NotifyState::Status(&text)]);
                }
                tokio::time::sleep(pause).await;
            }
        });
    }
}

impl Drop for Starting {
    /// A start that failed asks for no more time.
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState]) {
    if let Err(e) = sd_notify::notify(states) {
        tracing::debug!("systemd was not told {states:?}: {e}");
    }
}

/// The status line for `systemctl status`.
fn state(coordination: Option<&Handle>, metad: Option<&Metad>, chunk: Option<&Chunk>) -> String {
    let mut parts = Vec::new();
    if let Some(c) = coordination {
        let s = c.summary();
        let serving = if s.serving { "" } else { ", not serving" };
        parts.push(format!("coordination: {} of epoch {}{serving}", s.role.mode(), s.epoch));
    }
    if let Some(m) = metad {
        let s = m.status();
        parts.push(if s.leading { format!("metad LEADER of epoch {}", s.epoch) } else { "metad follower".into() });
    }
    if let Some(c) = chunk {
        parts.push(format!("{} copies", c.copies_count()));
    }
    parts.join("; ")
}
