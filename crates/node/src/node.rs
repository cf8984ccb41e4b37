//! A node: its roles, started in order, and the calls that reach them.

use crate::audit::Audit;
use crate::chunk::Chunk;
use crate::config::{NodeConfig, Role};
use crate::console::accounts::Accounts;
use crate::console::certificate::Certificates;
use crate::console::notify::Notifier;
use crate::console::App;
use crate::coordination::{Handle, Places, Settings as CoordinationSettings};
use crate::events::Events;
use crate::gateway::Gateway;
use crate::keys::Keys;
use crate::metad::Metad;
use crate::new_ensemble;
use crate::quorum_tls;
use crate::rpc::{Handler, Identity, Responder};
use crate::status::monitor::Monitor;
use crate::status::{Contents, Sources};
use crate::zk_credentials::Credentials;
use anyhow::Context;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use trivet_coordination::config::Member;
use trivet_coordination::{Config, ElectionReport, Event, RoleEnd as Ended};
use trivet_events::{Event as NodeEvent, RoleEnd};
use trivet_formats::ServerId;
use trivet_storage::codes::CallKind;
use trivet_storage::ids::{ConfigEpoch, ExtentId, NodeId};

/// Time between two searches for copies that no configuration names.
const SWEEP_PAUSE: Duration = Duration::from_secs(20);
/// Between two copies: file systems and disks take their time for freeing much at once, and others wait.
const FREE_PAUSE: Duration = Duration::from_millis(250);

/// Time that a node which was told to stop waits for its server to hand over leadership; then it stops all the same.
pub const STEP_DOWN_LIMIT: Duration = Duration::from_millis(trivet_coordination::STOP_LIMIT_MS);

/// Starts the roles and serves until `stop` is over; then a leader hands over before it returns.
pub async fn run(config: NodeConfig, roles: Vec<Role>, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let has = |r: Role| roles.contains(&r);
    let starting = crate::service_manager::starting();
    let limit = trivet_disk::open_files::raise_limit();
    tracing::info!(limit, "files that may be open");
    let _locks = crate::folder::claim(&config, &roles)?;
    let identity = Arc::new(config.identity()?);
    let control = has(Role::Coordination) || has(Role::Metad);
    let data = has(Role::Chunk) || has(Role::Gateway);
    let kind = if control { "control" } else { "data" };
    let events = Events::open(&config.data.join(if control && data { "events" } else { kind }), config.node)?;
    events.record(NodeEvent::NodeStarts { pid: std::process::id(), roles: format!("{roles:?}") });
    tracing::info!(keys = ?identity.keys, "the cluster's keys, by name");
    crate::memory::attend()?;
    let mut sources = Sources {
        config: config.clone(),
        roles: roles.clone(),
        events: events.clone(),
        coordination: None,
        metad: None,
        chunk: None,
        gateway: None,
        vcenter: None,
        certificates: None,
        contents: Contents::default(),
        last_stop: crate::last_stop::begin(&config.data),
        keys: identity.keys.clone(),
        started: std::time::Instant::now(),
    };
    // The other nodes may ask for a status before there is one; they ask again.
    let monitor: Arc<OnceLock<Arc<Monitor>>> = Arc::default();
    if has(Role::Coordination) && config.coordination.is_none() {
        let mut settings = coordination_settings(&config, &identity.keys);
        settings.security.peers = quorum_tls::speaks(config.quorum_tls, &identity.keys, &config.data)?;
        let cluster = settings.security.peers.cluster.clone();
        let (data, trusted) = (config.data.clone(), settings.config.trust_empty);
        let handle = start_coordination(settings, &events)?;
        if let Some(cluster) = cluster {
            tokio::spawn(quorum_tls::attend(config.quorum_tls, data.clone(), cluster, events.clone()));
        }
        tokio::spawn(new_ensemble::attend(data, trusted, handle.clone(), events.clone()));
        sources.coordination = Some(handle);
    }
    if has(Role::Metad) {
        let settings = crate::metad::Settings {
            node: NodeId(config.node),
            data_dir: config.data.join("metad"),
            coordination: config.coordination_addresses()?,
            metads: config.metads(),
            addresses: config.datastore_addresses.iter().map(|a| a.to_string()).collect(),
            rebuild_after: config.rebuild_after(),
            audit: audit_to(monitor.clone()),
        };
        let metad = Metad::start(settings, identity.clone(), events.clone(), sources.coordination.clone())?;
        tokio::spawn(quorum_tls::follow(config.data.clone(), metad.clone()));
        sources.metad = Some(metad);
    }
    if let (Some(settings), Some(metad)) = (&config.vcenter, &sources.metad) {
        let (settings, metad, nfs) = (settings.clone(), metad.clone(), config.ports.nfs);
        let local = config.gateway.local_address;
        sources.vcenter = Some(crate::vcenter::start(settings, metad, &identity, events.clone(), nfs, local)?);
    }
    if control {
        let handler = control_calls(&sources, monitor.clone());
        listen(config.address(config.node, config.ports.control), identity.clone(), handler)?;
    }
    if has(Role::Chunk) {
        sources.chunk = Some(Chunk::open_with(&config.data.join("chunk"), config.scrub).context("chunk server")?);
    }
    if has(Role::Gateway) {
        let settings = crate::gateway::Settings {
            node: NodeId(config.node),
            rpc: config.address(config.node, config.ports.data),
            metads: config.metads(),
            nfs: config.address(config.node, config.ports.nfs),
            nfs_port: config.ports.nfs,
            portmap_port: config.ports.portmap,
            data_dir: config.data.clone(),
            chunk: sources.chunk.clone(),
            local: config.gateway.local(),
        };
        sources.gateway = Some(Gateway::start(settings, identity.clone(), events.clone()).await?);
    }
    if let (Some(chunk), Some(gateway)) = (&sources.chunk, &sources.gateway) {
        tokio::spawn(sweep(chunk.clone(), gateway.clone(), events.clone()));
    }
    if data {
        let handler = data_calls(&sources, monitor.clone());
        listen(config.address(config.node, config.ports.data), identity, handler)?;
    }
    // If a node runs as two processes, the one with the data has the console's port, and the other the next port.
    let console_port = if data { config.ports.console } else { config.ports.console + 1 };
    let (coordination, gateway) = (sources.coordination.clone(), sources.gateway.clone());
    let (metad, chunk) = (sources.metad.clone(), sources.chunk.clone());
    start_console(sources, &monitor, console_port)?;
    tracing::info!(node = config.node, ?roles, "node is running");
    starting.serving(coordination.clone(), metad.clone(), chunk);
    stop.await;
    crate::service_manager::stopping();
    // While all of them still serve: what others take over does not wait for a silence.
    if let Some(gateway) = gateway {
        gateway.stop().await;
    }
    if let Some(metad) = metad {
        metad.stop().await;
    }
    tokio::task::spawn_blocking(move || {
        if let Some(c) = coordination {
            c.step_down(STEP_DOWN_LIMIT);
        }
        events.record(NodeEvent::NodeStops {});
        events.flush();
    })
    .await?;
    Ok(())
}

/// The audit log of the console, once there is one.
fn audit_to(monitor: Arc<OnceLock<Arc<Monitor>>>) -> Audit {
    Arc::new(move |order| match monitor.get() {
        Some(m) => m.audit(crate::clock::wall_ms(), &order),
        None => tracing::warn!(?order, "an order came before there was an audit log"),
    })
}

/// Handles calls of other processes to coordination and metad.
fn control_calls(sources: &Sources, watching: Arc<OnceLock<Arc<Monitor>>>) -> Handler {
    let metad = sources.metad.clone();
    let vcenter = sources.vcenter.clone();
    Arc::new(move |k: CallKind, body: Bytes, r: Responder| match (k, &metad, &vcenter) {
        (CallKind::Metad, Some(m), _) => m.handle(&body, r),
        (CallKind::Vcenter, _, Some(v)) => v.handle(&body, r),
        (CallKind::Status, ..) => {
            if let Some(m) = watching.get() {
                m.answer(&body, r);
            }
        }
        _ => {}
    })
}

/// Handles calls of other processes about copies and files.
fn data_calls(sources: &Sources, watching: Arc<OnceLock<Arc<Monitor>>>) -> Handler {
    let (chunk, gateway) = (sources.chunk.clone(), sources.gateway.clone());
    Arc::new(move |k: CallKind, body: Bytes, r: Responder| match k {
        CallKind::Chunk => {
            if let Some(c) = &chunk {
                c.handle(&body, r);
            }
        }
        CallKind::Verify => {
            if let Some(c) = &chunk {
                c.verify(&body, r);
            }
        }
        CallKind::Usage => {
            if let Some(c) = &chunk {
                c.usage(&body, r);
            }
        }
        CallKind::Gateway => {
            if let Some(g) = &gateway {
                g.handle(&body, r);
            }
        }
        CallKind::CloseClients => {
            if let Some(g) = &gateway {
                g.close_clients(&body, r);
            }
        }
        CallKind::Status => {
            if let Some(m) = watching.get() {
                m.answer(&body, r);
            }
        }
        _ => {}
    })
}

/// Watches the cluster, sends messages, and serves pages and API.
fn start_console(mut sources: Sources, monitor: &OnceLock<Arc<Monitor>>, port: u16) -> anyhow::Result<()> {
    let config = sources.config.clone();
    let address = config.address(config.node, port);
    let certificates = Certificates::of(&config.console, &config.data, address.ip(), &sources.keys)?;
    sources.certificates.clone_from(&certificates);
    let keys = sources.keys.clone();
    let sources = Arc::new(sources);
    tokio::spawn(Contents::keep(sources.clone()));
    let accounts = Arc::new(Accounts::open(keys, config.data.join("accounts.json"))?);
    let (watching, messages) = Monitor::start(sources, accounts.clone())?;
    let _ = monitor.set(watching.clone());
    let notifier = Notifier::start(watching.clone(), messages);
    let app = App { monitor: watching, accounts, notifier, local: false, certificates };
    crate::console::serve(address, app)?;
    Ok(())
}

fn start_coordination(settings: CoordinationSettings, events: &Events) -> anyhow::Result<Handle> {
    let events = events.clone();
    let (handle, _thread) = crate::coordination::start(settings, move |event| {
        let report = |r: &ElectionReport| (r.why.is_empty(), crate::links::report_text(r));
        let event = match event {
            Event::Looking { reason, end, silent_ms } => {
                let end = match end {
                    Ended::Silence => RoleEnd::Silence,
                    Ended::Closed => RoleEnd::Closed,
                    Ended::Decision => RoleEnd::Decision,
                    Ended::Other => RoleEnd::Other,
                };
                NodeEvent::Looking { end, silent_ms: *silent_ms, reason: reason.clone() }
            }
            Event::Following { leader, epoch, report: times } => {
                let (started, reason) = report(times);
                NodeEvent::FollowsLeader { leader: leader.0, epoch: *epoch, started, reason }
            }
            Event::Leading { epoch, report: times } => {
                let (started, reason) = report(times);
                NodeEvent::LeadsEpoch { epoch: *epoch, started, reason }
            }
            Event::Transfer { to, why } => NodeEvent::LeadHandedOver { to: to.0, reason: why.clone() },
            Event::Refused { who, reason } => NodeEvent::PeerRefused { peer: who.clone(), reason: reason.clone() },
        };
        tracing::info!(what = %event.what().en, why = %event.why().en, "coordination");
        events.record(event);
    })?;
    Ok(handle)
}

fn listen(address: SocketAddr, identity: Arc<Identity>, handler: Handler) -> anyhow::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into()).with_context(|| format!("calls between nodes: cannot listen on {address}"))?;
    socket.listen(1024)?;
    crate::rpc::serve(tokio::net::TcpListener::from_std(socket.into())?, identity, handler);
    Ok(())
}

/// Throws copies away that no configuration names any more: of removed files, and of extents that got
/// another copy in their place.
async fn sweep(chunk: Chunk, gateway: Gateway, events: Events) {
    // The configurations and copies in which there was nothing to be thrown away: while they are the same, nobody looks again.
    let mut swept = None;
    loop {
        tokio::time::sleep(SWEEP_PAUSE).await;
        for (what, reason) in chunk.news() {
            events.record(NodeEvent::BlocksChecked { what, reason });
        }
        for eid in chunk.remind_of_bad_blocks() {
            gateway.look_at_extent(eid).await;
        }
        let as_of = (gateway.copies_changed_at(), chunk.copies_made());
        if swept == Some(as_of) {
            continue;
        }
        let copies = chunk.copies();
        let orders: Vec<(ExtentId, ConfigEpoch)> =
            copies.iter().filter_map(|(eid, ..)| Some((*eid, gateway.free_up_to(chunk.replica_id(), *eid)?))).collect();
        swept = orders.is_empty().then_some(as_of);
        for (eid, epoch) in &orders {
            chunk.free(*eid, *epoch);
            tokio::time::sleep(FREE_PAUSE).await;
        }
        if let Some((first, _)) = orders.first() {
            events.record(NodeEvent::CopiesDropped { count: orders.len() as u64, extent: first.0 });
        }
    }
}

/// The four-letter words that a cluster's own coordination answers to anybody on the client port: those of monitors. Words
/// that name clients and their sessions, show the configuration or reset figures are refused; `lead` is answered to this
/// host only.
const FOUR_LETTER_WORDS: [&str; 4] = ["isro", "mntr", "ruok", "srvr"];

fn coordination_settings(config: &NodeConfig, keys: &Keys) -> CoordinationSettings {
    let numbers = config.numbers();
    let id = |n: u32| ServerId(i64::from(n));
    let mut config_text = String::new();
    for n in &numbers {
        let p = &config.ports;
        config_text += &format!(
            "server.{n}={}:{}:{}:participant;{}:{}\n",
            config.host(*n),
            p.quorum,
            p.election,
            config.host(*n),
            p.client
        );
    }
    config_text += "version=0";
    let peers: BTreeMap<_, _> = numbers
        .iter()
        .map(|n| {
            (id(*n), Places::one(config.address(*n, config.ports.quorum), config.address(*n, config.ports.election)))
        })
        .collect();
    CoordinationSettings {
        config: Config {
            config_text,
            tick_ms: 2_000,
            min_session_timeout_ms: 4_000,
            max_session_timeout_ms: 40_000,
            extended_types: true,
            four_letter_words: FOUR_LETTER_WORDS.map(String::from).to_vec(),
            // A process on the host could just as well stop this one.
            four_letter_words_of_host: vec!["lead".into()],
            // The cluster's user may do everything, so that a changed key does not lock metad out of its znodes.
            super_digests: Credentials::of_keys(keys).iter().map(Credentials::digest_id).collect(),
            trust_empty: new_ensemble::is_new(&config.data),
            ..Config::new(id(config.node), numbers.iter().map(|n| (id(*n), Member { observer: false })).collect())
        },
        data_dir: config.data.join("coordination"),
        log_dir: config.data.join("coordination"),
        client_addresses: vec![config.address(config.node, config.ports.client)],
        peers: if numbers.len() > 1 { peers } else { BTreeMap::new() },
        several_addresses: false,
        listens_everywhere: false,
        max_client_connections: 0,
        max_connections: 0,
        request_bytes_max: trivet_formats::client::MAX_REQUEST_BYTES,
        file: None,
        snapshots_kept: 3,
        snapshot_size_factor: crate::coordination::SNAPSHOT_SIZE_FACTOR,
        long_requests: None,
        throttle: None,
        purge_pause: None,
        backlog: -1,
        observer_port: None,
        snapshot_packing: Default::default(),
        security: crate::coordination::Security::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_told_what_monitors_need_and_no_more() {
        let text = "version = 1\ncluster = \"c\"\nnode = 1\n[nodes]\n1 = \"127.0.0.1\"\n";
        let config: NodeConfig = toml::from_str(text).unwrap();
        let words = coordination_settings(&config, &Keys::of(&[1; 32])).config.four_letter_words;
        for word in [
            "*", "stat", "cons", "dump", "wchs", "wchc", "wchp", "conf", "envi", "dirs", "srst", "crst", "hash", "lead",
        ] {
            assert!(!words.iter().any(|w| w == word), "{word} is answered");
        }
        assert!(["ruok", "srvr", "mntr", "isro"].iter().all(|word| words.iter().any(|w| w == word)));
    }
}
