//! New lists of members: written to the zoo.cfg, and their names resolved, on a thread that may block.

use super::inbox::Message;
use super::places::Members;
use super::settings::Settings;
use std::sync::mpsc as std_mpsc;
use std::time::Duration;
use tokio::sync::mpsc;

/// The texts of `Effect::Members`: the list that holds, and the one that may follow it.
pub(super) type Lists = std_mpsc::Sender<(String, Option<String>)>;

/// Time between two lookups of members' names, and while one of them has no address yet.
const LOOK_UP: Duration = Duration::from_secs(10);
const LOOK_UP_MISSING: Duration = Duration::from_secs(1);

/// Starts the thread. Names are looked up again and again: they may be there later than this server, and change their
/// addresses.
pub(super) fn start(settings: &Settings, inbox: mpsc::Sender<Message>) -> std::io::Result<Lists> {
    let (sender, lists) = std_mpsc::channel::<(String, Option<String>)>();
    let (file, mut known): (_, Members) = (settings.file.clone(), settings.peers.clone());
    // A server that is alone asks for nobody.
    let mut texts = if known.is_empty() { Vec::new() } else { vec![settings.config.config_text.clone()] };
    let work = move || loop {
        let names = texts.iter().map(|t| crate::zoo_cfg::names_of(t, &known));
        let (complete, named) = names.fold((true, false), |(a, b), (c, d)| (a && c, b || d));
        let pause = if complete { LOOK_UP } else { LOOK_UP_MISSING };
        let new = match lists.recv_timeout(pause) {
            Ok((text, next)) => {
                if let Some(Err(e)) = file.as_ref().map(|f| crate::zoo_cfg::write_members(f, &text)) {
                    tracing::error!(error = %e, "cannot write the new members; after a restart this server learns them from the others");
                }
                texts = [Some(text), next].into_iter().flatten().collect();
                true
            }
            Err(std_mpsc::RecvTimeoutError::Timeout) if named => false,
            Err(std_mpsc::RecvTimeoutError::Timeout) => continue,
            Err(std_mpsc::RecvTimeoutError::Disconnected) => return,
        };
        let found = crate::zoo_cfg::addresses(texts.iter().cloned(), &known, new);
        if new || found != known {
            known = found;
            if inbox.blocking_send(Message::Members(known.clone())).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("members".into()).spawn(work)?;
    Ok(sender)
}
