//! Drives the routes of local address mode (`trivet_vcenter::routes`): looks which nodes serve the address, and holds a
//! session of its own with vCenter, so that a long reading of the agent delays no move.

use super::api::{Api, ApiError};
use super::authority::Authority;
use super::link::{Link, Reading};
use super::settings::Settings;
use super::Done;
use crate::clock::wall_ms;
use crate::events::Events;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use trivet_vcenter::journal::Outcome;
use trivet_vcenter::routes::{self, Effect, Input, Journal, RouteStatus, Routes};
use trivet_vcenter::soap::routes::{HostRoutes, Route};
use trivet_vcenter::Now;

/// Pause between two looks at the nodes.
const LOOK: Duration = Duration::from_millis(500);
/// Time within which a node has to answer a NULL call, or it counts as silent.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);
/// Moves and readings that wait for the session; a further one is not taken, and the core issues it again.
const JOBS_MAX: usize = routes::HOSTS_MAX + 2;

pub(super) enum Job {
    Read,
    Move {
        host: String,
        number: u64,
        epoch: u64,
        to: Option<IpAddr>,
        start_by: Instant,
        end_by: Instant,
    },
    /// This node leads; an earlier LEADER's login may have been refused.
    Lead {
        refused_login: Option<String>,
    },
    Logout,
}

pub(super) enum Told {
    Nodes { quorum: bool, well: BTreeSet<u32> },
    Table { began_ms: u64, gateways: Option<BTreeMap<String, BTreeSet<IpAddr>>> },
    Journal { epoch: u64, number: u64, durable: bool },
    Ended { host: String, number: u64, outcome: Outcome },
}

/// The driver's part beside the agent.
pub(super) struct RouteDriver {
    core: Routes,
    authority: Authority,
    events: Events,
    started: Instant,
    nfs_port: u16,
    poll: Duration,
    epoch: Option<u64>,
    jobs: mpsc::Sender<Job>,
    done: mpsc::Sender<Done>,
    look_at: Instant,
    looking: bool,
    read_at: Instant,
    reading: bool,
}

/// The parts of the agent's driver that the routes share.
pub(super) struct Shared {
    pub authority: Authority,
    pub events: Events,
    pub done: mpsc::Sender<Done>,
    pub started: Instant,
    pub nfs_port: u16,
}

impl RouteDriver {
    pub(super) fn start(
        settings: &Settings,
        config: routes::Config,
        key: Vec<u8>,
        shared: Shared,
    ) -> anyhow::Result<RouteDriver> {
        let Shared { authority, events, done, started, nfs_port } = shared;
        let (jobs, queue) = mpsc::channel(JOBS_MAX);
        let worker = Worker {
            link: Link::new(settings.clone(), key, done.clone(), started)?,
            address: config.address,
            nodes: config.nodes().into_values().collect(),
            hosts: Hosts(config.hosts.iter().map(|h| h.host.clone()).collect()),
            unknown: None,
            authority: authority.clone(),
            done: done.clone(),
        };
        tokio::spawn(worker.run(queue));
        Ok(RouteDriver {
            core: Routes::new(config),
            authority,
            events,
            started,
            nfs_port,
            poll: Duration::from_secs(settings.poll_seconds),
            epoch: None,
            jobs,
            done,
            look_at: started,
            looking: false,
            read_at: started,
            reading: false,
        })
    }

    fn now(&self) -> Now {
        Now { mono_ms: self.started.elapsed().as_millis() as u64, wall_ms: wall_ms() }
    }

    /// Reads the journal as of this epoch. False: it cannot be read now, or is not for this version.
    pub(super) async fn lead(&mut self, epoch: u64, refused_login: Option<String>) -> bool {
        let Some(text) = self.authority.read_routes_journal().await else { return false };
        let journal = match text.as_deref().map(serde_json::from_slice::<Journal>) {
            None => Journal::default(),
            Some(Ok(journal)) if journal.version <= routes::VERSION => journal,
            Some(_) => {
                let why = "the journal of routes was written by a newer version of this program, or is damaged";
                tracing::error!(%why, "vcenter: no routes are moved by this node");
                return false;
            }
        };
        self.epoch = Some(epoch);
        let _ = self.jobs.try_send(Job::Lead { refused_login });
        self.feed(Input::Lead { epoch, journal });
        true
    }

    pub(super) fn leave(&mut self) {
        if self.epoch.take().is_some() {
            self.feed(Input::Follow);
            let _ = self.jobs.try_send(Job::Logout);
        }
    }

    pub(super) fn status(&self) -> Vec<RouteStatus> {
        self.core.status()
    }

    pub(super) fn tick(&mut self) {
        let Some(epoch) = self.epoch else { return };
        let now = Instant::now();
        if now >= self.look_at && !self.looking {
            self.looking = true;
            self.look_at = now + LOOK;
            let (authority, done, port) = (self.authority.clone(), self.done.clone(), self.nfs_port);
            let nodes = self.core.config().nodes();
            tokio::spawn(async move {
                let told = look(&authority, epoch, nodes, port).await;
                let _ = done.send(Done::Route(told)).await;
            });
        }
        if now >= self.read_at && !self.reading && self.jobs.try_send(Job::Read).is_ok() {
            self.reading = true;
            self.read_at = now + self.poll;
        }
    }

    pub(super) fn told(&mut self, told: Told) {
        match told {
            Told::Nodes { quorum, well } => {
                self.looking = false;
                self.feed(Input::Nodes { quorum, well });
            }
            Told::Table { began_ms, gateways } => {
                self.reading = false;
                if let Some(gateways) = gateways {
                    self.feed(Input::Table { began_ms, gateways });
                }
            }
            // An answer for an epoch that is over is nobody's.
            Told::Journal { epoch, .. } if self.epoch != Some(epoch) => {}
            Told::Journal { number, durable: true, .. } => self.feed(Input::Journaled { number }),
            Told::Journal { number, durable: false, .. } => self.feed(Input::JournalRefused { number }),
            Told::Ended { host, number, outcome } => self.feed(Input::Ended { host, number, outcome }),
        }
    }

    fn feed(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.core.handle(self.now(), input, &mut effects);
        effects.into_iter().for_each(|e| self.carry_out(e));
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Journal { journal } => {
                let epoch = self.epoch.unwrap_or_default();
                let (authority, done) = (self.authority.clone(), self.done.clone());
                tokio::spawn(async move {
                    let number = journal.number;
                    let bytes = serde_json::to_vec(&journal).expect("a journal is plain values");
                    let durable = authority.write_routes_journal(epoch, &bytes).await;
                    let _ = done.send(Done::Route(Told::Journal { epoch, number, durable })).await;
                });
            }
            Effect::Move { host, number, epoch, to, start_by_ms, end_by_ms } => {
                let at = |ms: u64| self.started + Duration::from_millis(ms);
                let job = Job::Move {
                    host: host.clone(),
                    number,
                    epoch,
                    to,
                    start_by: at(start_by_ms),
                    end_by: at(end_by_ms),
                };
                if self.jobs.try_send(job).is_err() {
                    let outcome = Outcome::NotStarted { why: "the agent is busy".into() };
                    let done = self.done.clone();
                    let told = Told::Ended { host, number, outcome };
                    tokio::spawn(async move { drop(done.send(Done::Route(told)).await) });
                }
            }
            Effect::Read => self.read_at = Instant::now(),
            Effect::Event { host, what, why } => {
                tracing::info!(what = %what.en, %why, "vcenter");
                let what = trivet_events::Text::new(what.en, what.zh);
                let step = trivet_events::AgentStep::Other;
                let (host, datastore) = (Some(host), None);
                self.events.record(trivet_events::Event::Agent { step, host, datastore, what, reason: why });
            }
        }
    }
}

/// A node serves the address if its heartbeats say so, or if it answers: only one that does neither is silent.
async fn look(authority: &Authority, epoch: u64, nodes: BTreeMap<u32, IpAddr>, port: u16) -> Told {
    let quorum = tokio::time::timeout(ANSWER_LIMIT, authority.leads_confirmed(epoch)).await.unwrap_or(false);
    let mut answers = tokio::task::JoinSet::new();
    for (node, ip) in nodes {
        let at = SocketAddr::new(ip, port);
        answers.spawn(async move {
            let answered = tokio::time::timeout(ANSWER_LIMIT, null_call(at)).await;
            matches!(answered, Ok(Ok(()))).then_some(node)
        });
    }
    let mut well = authority.alive();
    while let Some(answer) = answers.join_next().await {
        well.extend(answer.ok().flatten());
    }
    Told::Nodes { quorum, well }
}

/// NFSPROC3_NULL (RFC 1813, 3.3.0) over a connection of its own: answered by the process, not by its host's kernel alone.
async fn null_call(at: SocketAddr) -> std::io::Result<()> {
    let mut stream = tokio::net::TcpStream::connect(at).await?;
    let call: [u32; 10] = [1, 0, 2, 100_003, 3, 0, 0, 0, 0, 0];
    let mut record = (0x8000_0000 | (call.len() as u32 * 4)).to_be_bytes().to_vec();
    call.iter().for_each(|word| record.extend(word.to_be_bytes()));
    stream.write_all(&record).await?;
    // Any answer shows that the node is alive.
    let mut head = [0; 8];
    stream.read_exact(&mut head).await?;
    Ok(())
}

/// Holds the session.
struct Worker {
    link: Link,
    address: IpAddr,
    nodes: Vec<IpAddr>,
    hosts: Hosts,
    /// A declared host that vCenter did not show, so that it is logged once.
    unknown: Option<String>,
    authority: Authority,
    done: mpsc::Sender<Done>,
}

impl Worker {
    async fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        while let Some(job) = queue.recv().await {
            match job {
                Job::Read => {
                    let began_ms = self.link.started().elapsed().as_millis() as u64;
                    let read = self.read().await.map(|hosts| {
                        let address = self.address;
                        let gateways = |r: &HostRoutes| {
                            let all = r.routes.iter().filter(|g| **g == Route::to(address, g.gateway));
                            all.map(|g| g.gateway).collect()
                        };
                        hosts.iter().map(|(name, r)| (name.clone(), gateways(r))).collect()
                    });
                    match &read {
                        Ok(read) => self.tell_unknown(read),
                        Err(why) => tracing::warn!(%why, "vcenter: the hosts' routes were not read"),
                    }
                    let _ = self.done.send(Done::Route(Told::Table { began_ms, gateways: read.ok() })).await;
                }
                Job::Move { host, number, epoch, to, start_by, end_by } => {
                    let outcome = self.move_route(&host, epoch, to, start_by, end_by).await;
                    let _ = self.done.send(Done::Route(Told::Ended { host, number, outcome })).await;
                }
                Job::Lead { refused_login } => self.link.lead(refused_login),
                Job::Logout => self.link.logout().await,
            }
        }
        self.link.logout().await;
    }

    /// Logs the first declared host that vCenter does not show, when that changes.
    fn tell_unknown(&mut self, read: &BTreeMap<String, BTreeSet<IpAddr>>) {
        let unknown = self.hosts.0.iter().find(|host| !read.contains_key(*host));
        if unknown == self.unknown.as_ref() {
            return;
        }
        if let Some(host) = unknown {
            tracing::warn!(%host, "vcenter: vCenter shows no such host; correct its name under [[vcenter.routes]]");
        }
        self.unknown = unknown.cloned();
    }

    async fn move_route(
        &mut self,
        host: &str,
        epoch: u64,
        to: Option<IpAddr>,
        start_by: Instant,
        end_by: Instant,
    ) -> Outcome {
        let not = |why: String| Outcome::NotStarted { why };
        let hosts = match tokio::time::timeout_at(start_by.into(), self.read()).await {
            Ok(Ok(hosts)) => hosts,
            Ok(Err(why)) => return not(why),
            Err(_) => {
                self.link.reset();
                return not("it could not begin in time".into());
            }
        };
        let Some(routes) = hosts.get(host) else { return not(format!("vCenter has no host {host}")) };
        // The fence once more, as late as can be: after it the call goes out.
        match tokio::time::timeout_at(start_by.into(), self.authority.leads_confirmed(epoch)).await {
            Ok(true) if Instant::now() < start_by => {
                self.link.api.move_route(routes, self.address, to, &self.nodes, end_by).await
            }
            Ok(true) | Err(_) => not("it could not begin in time".into()),
            Ok(false) => not("another node leads".into()),
        }
    }

    async fn read(&mut self) -> Result<BTreeMap<String, HostRoutes>, String> {
        self.link.read(&self.hosts).await
    }
}

/// The declared hosts' names.
struct Hosts(BTreeSet<String>);

impl Reading for Hosts {
    type Read = BTreeMap<String, HostRoutes>;
    async fn read(&self, api: &mut Api) -> Result<Self::Read, ApiError> {
        api.read_routes(&self.0).await
    }
}
