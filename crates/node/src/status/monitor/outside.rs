//! A monitor of what is not ours: the program that watches makes the views, and history, alerts and pages are the same.

use super::{load, Monitor, Parts};
use crate::config::NodeConfig;
use crate::console::accounts::Accounts;
use crate::console::notify::News;
use crate::events::Events;
use crate::keys::Keys;
use crate::status::{Contents, Sources};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc;
use trivet_observe::view::ClusterView;
use trivet_observe::watcher::Effect;

/// A configuration that says what the pages need of one: the name, and which servers there are.
fn config(name: &str, servers: &[u32], folder: &Path) -> NodeConfig {
    NodeConfig {
        version: 1,
        cluster: name.into(),
        incarnation: 1,
        node: 0,
        key_file: folder.join("console.key"),
        data: folder.into(),
        datastore_addresses: Vec::new(),
        coordination: None,
        quorum_tls: Default::default(),
        rebuild_after_s: None,
        scrub: Default::default(),
        gateway: Default::default(),
        console: Default::default(),
        ports: crate::config::Ports::with_offset(0),
        nodes: servers.iter().map(|n| (n.to_string(), IpAddr::V4(Ipv4Addr::UNSPECIFIED))).collect(),
        vcenter: None,
    }
}

impl Monitor {
    /// Makes a monitor that asks no nodes: views come by [`Monitor::take`].
    ///
    /// # Errors
    /// The folder cannot be used.
    pub fn outside(
        name: &str,
        servers: &[u32],
        folder: &Path,
        accounts: Arc<Accounts>,
        events: Events,
        vcenter: Option<crate::vcenter::Handle>,
    ) -> anyhow::Result<(Arc<Monitor>, mpsc::Receiver<News>)> {
        let sources = Sources {
            config: config(name, servers, folder),
            roles: Vec::new(),
            events,
            coordination: None,
            metad: None,
            chunk: None,
            gateway: None,
            vcenter,
            certificates: None,
            contents: Contents::default(),
            last_stop: None,
            // No cluster's: this program is no node.
            keys: Keys::of(&[]),
            started: std::time::Instant::now(),
        };
        let saved = load(&folder.join("state.json"));
        Monitor::of(Parts { sources: Arc::new(sources), accounts, folder: folder.into(), saved, peers: Vec::new() })
    }

    /// Judges a view, stores and sends the alerts and incidents that follow, and returns them as effects.
    pub async fn take(&self, view: ClusterView) -> Vec<Effect> {
        let effects = self.judge(crate::clock::wall_ms(), view);
        self.carry_out(effects.clone());
        self.looks.send_modify(|n| *n += 1);
        self.keep_sample().await;
        self.save().await;
        effects
    }

    fn judge(&self, now: i64, mut view: ClusterView) -> Vec<Effect> {
        let mut inner = self.inner();
        let mut effects = Vec::new();
        view.occurrences.append(&mut inner.extra);
        inner.judge(now, view, &[], &mut effects);
        effects
    }
}
