//! Watches the cluster from this node: asks the other nodes each second, judges what it knows, keeps alerts and
//! incidents over restarts.
//!
//! The monitor needs neither coordination nor metad. An order that an operator gives one node reaches the others with the
//! statuses.

mod orders;
mod outside;

use super::peers::{Answer, Ask, Exchange, Seen, What, ANSWER_BYTES_MAX, VERSION};
use super::sampling::Sampler;
use super::{collect, Files, Known, NodeStatus, Sources, ViewBuilder};
use crate::audit::Order;
use crate::config::Role;
use crate::console::accounts::Accounts;
use crate::console::history::History;
use crate::console::notify::News;
use crate::console::samples::{Sample, Samples};
use crate::rpc::{Client, Responder};
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use prost::Message;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use trivet_observe::health::Health;
use trivet_observe::view::ClusterView;
use trivet_observe::watcher::{Effect, Failed, Input, Saved, Watcher};
use trivet_storage::codes::CallKind;

/// Between two looks at the cluster.
const PERIOD: Duration = Duration::from_secs(1);
/// Time within which a node has to answer, or it is judged by its last answer.
const ASK_LIMIT: Duration = Duration::from_millis(700);
/// The state is written this long after a change at the latest.
const SAVE_EVERY: Duration = Duration::from_secs(10);
/// Moments of the last hour that are drawn, one each [`DRAWN_EVERY_MS`].
const DRAWN_MAX: usize = 720;
const DRAWN_EVERY_MS: i64 = 5_000;
/// Messages that wait for the sender; a further one is dropped and counted, and the next one tells of all.
const MESSAGES_WAITING_MAX: usize = 100;

/// Health at a moment of the last hour, for the ribbon of the overview.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// The time, in milliseconds since 1970.
    pub at_ms: i64,
    /// The leader of the ensemble, if there was one.
    pub leader: Option<u32>,
    /// Node of metad's LEADER, if there was one.
    pub metad_leader: Option<u32>,
    /// Alerts that fired.
    pub firing: u32,
    /// The cluster's health.
    pub level: trivet_observe::health::Level,
}

struct Inner {
    watcher: Watcher,
    builder: ViewBuilder,
    view: ClusterView,
    /// By node and whether the process has the data roles.
    known: BTreeMap<(u32, bool), Remembered>,
    moments: VecDeque<Moment>,
    sampler: Sampler,
    /// A sample that is not written yet.
    sample: Option<Sample>,
    extra: Vec<trivet_observe::view::Occurrence>,
    changed: bool,
}

impl Inner {
    /// From a view to what follows; `known` are the statuses that it was made of.
    fn judge(&mut self, now: i64, view: ClusterView, known: &[Known], effects: &mut Vec<Effect>) {
        let _ = self.watcher.handle(now, Input::View(&view, None), effects);
        let due = self.moments.back().is_none_or(|m| now - m.at_ms >= DRAWN_EVERY_MS || now < m.at_ms);
        if due {
            self.moments.push_back(Moment {
                at_ms: now,
                leader: view.coordination.as_ref().and_then(|c| c.leader),
                metad_leader: view.metad.as_ref().and_then(|m| m.leader),
                firing: self.watcher.alerts().firing().filter(|a| a.rule != trivet_observe::RuleId::Watchdog).count()
                    as u32,
                level: self.watcher.health().level,
            });
            while self.moments.len() > DRAWN_MAX {
                self.moments.pop_front();
            }
        }
        let level = self.watcher.health().level.code();
        let firing = self.watcher.alerts().firing().filter(|a| a.rule != trivet_observe::RuleId::Watchdog).count();
        self.sample = self.sampler.sample(now, &view, known, level, firing).or(self.sample.take());
        self.changed |= !effects.is_empty();
        self.view = view;
    }
}

struct Remembered {
    status: NodeStatus,
    at: Instant,
    clock: Option<(f64, f64)>,
}

/// The watcher of a process: it collects the nodes' statuses, judges them and keeps the history.
pub struct Monitor {
    /// The sources of this node's own status.
    pub sources: Arc<Sources>,
    started: Instant,
    inner: Mutex<Inner>,
    own: Mutex<(Instant, Bytes)>,
    peers: Vec<(u32, Arc<Client>)>,
    folder: PathBuf,
    /// The history on disk.
    history: History,
    /// The samples of figures.
    samples: Arc<Samples>,
    /// Counts looks: pages that are open renew themselves with it.
    looks: watch::Sender<u64>,
    messages: mpsc::Sender<News>,
    accounts: Arc<Accounts>,
}

/// The parts of a monitor.
struct Parts {
    sources: Arc<Sources>,
    accounts: Arc<Accounts>,
    folder: PathBuf,
    saved: Saved,
    peers: Vec<(u32, Arc<Client>)>,
}

impl Monitor {
    /// Loads what was known before the restart and begins to watch. The messages that are due come out of the second
    /// value.
    ///
    /// # Errors
    /// The folder of the history cannot be made.
    pub fn start(
        sources: Arc<Sources>,
        accounts: Arc<Accounts>,
    ) -> anyhow::Result<(Arc<Monitor>, mpsc::Receiver<News>)> {
        let config = &sources.config;
        let identity = Arc::new(config.identity()?);
        let data = sources.roles.iter().any(|r| matches!(r, Role::Chunk | Role::Gateway));
        let folder = config.data.join(if data { "alerts" } else { "alerts-control" });
        trivet_disk::make_dir(&folder)?;
        let saved = load(&folder.join("state.json"));
        let mut peers = Vec::new();
        for n in config.numbers() {
            for port in [config.ports.control, config.ports.data] {
                let mine = n == config.node;
                let own_port = if data { config.ports.data } else { config.ports.control };
                if !mine || port != own_port {
                    peers.push((n, Client::new(config.address(n, port), identity.clone())));
                }
            }
        }
        let (monitor, due) = Monitor::of(Parts { sources, accounts, folder, saved, peers })?;
        tokio::spawn(monitor.clone().watch());
        Ok((monitor, due))
    }

    fn of(parts: Parts) -> anyhow::Result<(Arc<Monitor>, mpsc::Receiver<News>)> {
        let Parts { sources, accounts, folder, saved, peers } = parts;
        let (messages, due) = mpsc::channel(MESSAGES_WAITING_MAX);
        let monitor = Arc::new(Monitor {
            history: History::open(&folder)?,
            samples: Arc::new(Samples::open(&folder)?),
            started: Instant::now(),
            inner: Mutex::new(Inner {
                watcher: Watcher::restore(saved),
                builder: ViewBuilder::default(),
                view: ClusterView::default(),
                known: BTreeMap::new(),
                moments: VecDeque::new(),
                sampler: Sampler::default(),
                sample: None,
                extra: Vec::new(),
                changed: false,
            }),
            own: Mutex::new((Instant::now(), Bytes::new())),
            peers,
            folder,
            looks: watch::Sender::new(0),
            messages,
            accounts,
            sources,
        });
        Ok((monitor, due))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// The cluster's health at the last look.
    pub fn health(&self) -> Health {
        self.inner().watcher.health()
    }
    /// The view of the last look.
    pub fn view(&self) -> ClusterView {
        self.inner().view.clone()
    }
    /// Reads alerts, incidents and settings.
    pub fn with<T>(&self, f: impl FnOnce(&Watcher) -> T) -> T {
        f(&self.inner().watcher)
    }
    /// The moments of the last hour, oldest first.
    pub fn moments(&self) -> Vec<Moment> {
        self.inner().moments.iter().copied().collect()
    }
    /// The alerts, incidents and orders on disk.
    pub fn history(&self) -> &History {
        &self.history
    }
    /// The figures of the last month.
    pub fn samples(&self) -> Arc<Samples> {
        self.samples.clone()
    }
    /// Changes with each look.
    pub fn looks(&self) -> watch::Receiver<u64> {
        self.looks.subscribe()
    }
    /// Something that this process noticed by itself: a login that failed, say.
    pub fn happened(&self, o: trivet_observe::view::Occurrence) {
        let mut inner = self.inner();
        if inner.extra.len() < 100 {
            inner.extra.push(o);
        }
    }

    /// A request of an operator.
    ///
    /// # Errors
    /// The order is not allowed; nothing was changed.
    pub fn order(&self, by: &str, from: Option<IpAddr>, what: &str, input: Input<'_>) -> Result<(), Failed> {
        let now = crate::clock::wall_ms();
        let mut effects = Vec::new();
        let done = {
            let mut inner = self.inner();
            let done = inner.watcher.handle(now, input, &mut effects);
            inner.changed |= done.is_ok();
            done
        };
        self.carry_out(effects);
        let outcome = done.as_ref().err().map_or("done".to_string(), |e| format!("refused: {e}"));
        self.audit(now, &Order { by: by.into(), from, what: what.into(), outcome });
        done
    }

    /// Records an operator's action on this node in the history, and sends it to syslog targets.
    pub fn audit(&self, now: i64, order: &Order) {
        self.history.audit(now, order);
        if self.messages.try_send(News::Audit(order.clone())).is_err() {
            tracing::warn!("a message about an operator's order was dropped: too many wait to be sent");
        }
    }

    /// Every process of every node, with the age of what it said.
    pub fn known(&self) -> Vec<Known> {
        let inner = self.inner();
        let age = |r: &Remembered| r.at.elapsed().as_millis() as u64;
        inner.known.values().map(|r| Known { status: r.status.clone(), age_ms: age(r), clock: r.clock }).collect()
    }

    /// Answers another node.
    pub fn answer(&self, body: &Bytes, responder: Responder) {
        let Ok(ask) = Ask::decode(body.clone()) else { return };
        let wall_ms = crate::clock::wall_ms();
        if ask.version > VERSION {
            return;
        }
        if ask.what == What::Orders as u32 {
            return self.answer_with_orders(wall_ms, responder);
        }
        let (age_ms, json) = if ask.what == What::Alerts as u32 {
            (0, Bytes::from(serde_json::to_vec(&self.seen()).unwrap_or_default()))
        } else {
            let own = self.own.lock();
            (own.0.elapsed().as_millis() as u64, own.1.clone())
        };
        responder.answer(&Answer { version: VERSION, wall_ms, age_ms, json });
    }

    fn seen(&self) -> Seen {
        let inner = self.inner();
        Seen {
            node: self.sources.config.node,
            firing: inner.watcher.alerts().firing().map(|a| a.fingerprint.clone()).collect(),
        }
    }

    /// Which alerts fire on this node, and on all that answer.
    pub async fn seen_by_all(&self) -> Vec<Seen> {
        let asked = self.peers.iter().map(|(_, client)| ask::<Seen>(client, What::Alerts));
        let mut all = vec![self.seen()];
        for (seen, ..) in futures_util::future::join_all(asked).await.into_iter().flatten() {
            if !all.iter().any(|s| s.node == seen.node) {
                all.push(seen);
            }
        }
        all
    }

    async fn watch(self: Arc<Self>) {
        let mut saved_at = Instant::now();
        let mut last = Instant::now();
        loop {
            let status = self.own_status();
            let answers = futures_util::future::join_all(
                self.peers.iter().map(|(_, client)| ask::<Exchange>(client, What::Status)),
            );
            let answers = answers.await;
            let late = last.elapsed().saturating_sub(PERIOD + ASK_LIMIT);
            last = Instant::now();
            let effects = self.look(status, answers, late);
            let urgent = !effects.is_empty();
            self.carry_out(effects);
            self.looks.send_modify(|n| *n += 1);
            self.keep_sample().await;
            if urgent || saved_at.elapsed() >= SAVE_EVERY {
                saved_at = Instant::now();
                self.save().await;
            }
            tokio::time::sleep(PERIOD.saturating_sub(last.elapsed())).await;
        }
    }

    /// This node's status, which the others get until the next one.
    fn own_status(&self) -> NodeStatus {
        let mut status = collect(&self.sources, Files::None);
        let (controls, acknowledged) = {
            let inner = self.inner();
            status.health = Some(inner.watcher.health());
            for ((node, _), r) in &inner.known {
                let ms = r.at.elapsed().as_millis() as u64;
                let heard = status.heard.entry(*node).or_insert(ms);
                *heard = ms.min(*heard);
            }
            (inner.watcher.controls().clone(), inner.watcher.acknowledged())
        };
        let exchange = Exchange { status, controls, acknowledged, accounts: self.accounts.table() };
        let json = serde_json::to_vec(&exchange).unwrap_or_default();
        *self.own.lock() = (Instant::now(), Bytes::from(json));
        exchange.status
    }

    fn look(&self, own: NodeStatus, answers: Vec<Option<(Exchange, Answer, Duration)>>, late: Duration) -> Vec<Effect> {
        let (now, node) = (crate::clock::wall_ms(), self.sources.config.node);
        let mut inner = self.inner();
        let inner = &mut *inner;
        let mut effects = Vec::new();
        let part = |s: &NodeStatus| (s.node, s.roles.contains(&Role::Gateway));
        for (exchange, answer, took) in answers.into_iter().flatten() {
            let rtt = took.as_secs_f64() * 1e3;
            let middle = now as f64 - rtt / 2.0;
            let at = Instant::now().checked_sub(Duration::from_millis(answer.age_ms)).unwrap_or_else(Instant::now);
            let clock = Some((answer.wall_ms as f64 - middle, rtt / 2.0 + 1.0));
            inner.known.insert(part(&exchange.status), Remembered { status: exchange.status, at, clock });
            self.accounts.merge(&exchange.accounts);
            let merge = Input::Merge(&exchange.controls, &exchange.acknowledged);
            let _ = inner.watcher.handle(now, merge, &mut effects);
        }
        inner.known.insert(part(&own), Remembered { status: own, at: Instant::now(), clock: None });
        // A node that became one process, or two, is known as that.
        inner.known.retain(|_, r| r.at.elapsed() < Duration::from_secs(86_400));
        let known: Vec<Known> = inner
            .known
            .values()
            .map(|r| Known { status: r.status.clone(), age_ms: r.at.elapsed().as_millis() as u64, clock: r.clock })
            .collect();
        let waited = self.started.elapsed().as_millis() as u64;
        let never = self.sources.config.numbers().into_iter().map(|n| (n, waited)).collect();
        let mut view = inner.builder.build(now, &self.sources.config, node, &known, &never);
        view.occurrences.append(&mut inner.extra);
        if late >= Duration::from_secs(1) {
            view.occurrences.push(ViewBuilder::paused(node, now, late.as_millis() as u64));
        }
        inner.judge(now, view, &known, &mut effects);
        effects
    }

    fn carry_out(&self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Keep(alert) => {
                    tracing::info!(alert = alert.name(), subject = %alert.subject, state = ?alert.state, why = %alert.reason.en, "alert");
                    self.history.alert(crate::clock::wall_ms(), &alert);
                }
                Effect::Send(message) => {
                    self.history.incident(&message.incident);
                    if self.messages.try_send(News::Incident(Box::new(message))).is_err() {
                        tracing::warn!("a message about an incident was dropped: too many wait to be sent");
                    }
                }
            }
        }
    }

    async fn keep_sample(&self) {
        let Some(sample) = self.inner().sample.take() else { return };
        let samples = self.samples.clone();
        let written = tokio::task::spawn_blocking(move || samples.put(&sample)).await;
        if let Ok(Err(e)) = written {
            tracing::warn!(error = %e, "a sample of the figures could not be written");
        }
    }

    async fn save(&self) {
        let saved = {
            let mut inner = self.inner();
            std::mem::take(&mut inner.changed).then(|| inner.watcher.save())
        };
        let Some(saved) = saved else { return };
        let path = self.folder.join("state.json");
        let written = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
            let text = serde_json::to_vec(&Kept { version: VERSION, saved }).map_err(std::io::Error::other)?;
            trivet_disk::write_atomically(&path, &text)
        });
        let written = written.await.unwrap_or_else(|e| Err(std::io::Error::other(e)));
        if let Err(e) = written {
            // Alerting does not depend on it.
            tracing::warn!(error = %e, "the state of the alerts could not be written");
        }
    }

    /// Whether this node sends the messages: that of metad's LEADER, and without one the lowest living node.
    pub fn is_sender(&self) -> bool {
        let inner = self.inner();
        let living = inner.view.nodes.iter().filter(|(_, n)| n.silent_ms == 0).map(|(n, _)| *n).min();
        let leader = inner.view.metad.as_ref().and_then(|m| m.leader);
        let alive = leader.filter(|l| inner.view.nodes.get(l).is_some_and(|n| n.silent_ms == 0));
        alive.or(living).is_none_or(|n| n == self.sources.config.node)
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Kept {
    version: u32,
    saved: Saved,
}

/// Loads the saved alerts. A file that cannot be read is set aside; alerts whose condition still holds fire again.
fn load(path: &std::path::Path) -> Saved {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Saved::default(),
        Err(e) => {
            tracing::warn!(path = %path.display(), error = %e, "the state of the alerts cannot be read");
            return Saved::default();
        }
    };
    match serde_json::from_slice::<Kept>(&text) {
        Ok(kept) if kept.version <= VERSION => kept.saved,
        _ => {
            tracing::warn!(path = %path.display(), "the state of the alerts is of another version or damaged; set aside");
            let _ = std::fs::rename(path, path.with_extension("json.unread"));
            Saved::default()
        }
    }
}

async fn ask<T: serde::de::DeserializeOwned>(client: &Client, what: What) -> Option<(T, Answer, Duration)> {
    let body = Ask { version: VERSION, what: what as u32 }.encode_to_vec();
    let begun = Instant::now();
    let bytes = client.ask(CallKind::Status, &body, ASK_LIMIT).await.ok()?;
    let took = begun.elapsed();
    let answer = Answer::decode(bytes).ok().filter(|a| a.json.len() <= ANSWER_BYTES_MAX)?;
    let document = serde_json::from_slice(&answer.json).ok()?;
    Some((document, answer, took))
}
