//! The vCenter agent's driver: one task on every metad, which works on the LEADER only and under its epoch fence, or one in
//! `trivet watch`, for storage that is not ours.
//!
//! The core (`trivet_vcenter::Agent`) decides. Three helpers feed it: the worker holds the session with vCenter and does
//! one thing at a time; the journal is a znode written under the fence of `/metad/epoch`; the storage's own side comes
//! from metad and from a connection to each datastore address.

mod api;
mod authority;
mod http;
mod link;
mod our_side;
mod routes;
mod settings;
mod tls;
mod worker;

pub use authority::Alone;
pub use http::Target;
pub use settings::Settings;
pub(crate) use tls::connector;
pub use tls::{Thumbprint, Trust};

use crate::clock::wall_ms;
use crate::events::Events;
use crate::metad::Metad;
use crate::rpc::{Identity, Responder};
use authority::Authority;
use bytes::Bytes;
use our_side::OurSideWatch;
use parking_lot::Mutex;
use prost::Message;
use routes::{RouteDriver, Shared};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use trivet_events::{AgentStep, Event as NodeEvent};
use trivet_vcenter::event::{Event, EventCode};
use trivet_vcenter::journal::{self, Journal};
use trivet_vcenter::{Agent, Config, Effect, Input, Mode, Now, Snapshot};
use worker::{Done, Job};

/// Time between two checks of leadership and timers.
const TICK: Duration = Duration::from_millis(250);
/// Time between two readings of the storage's own side, and so the delay at most until a failover is seen.
const OUR_SIDE: Duration = Duration::from_secs(2);
/// Time for reading the journal, after which the next look reads it again.
const READ_JOURNAL_LIMIT: Duration = Duration::from_secs(5);
/// Questions of people that wait; a further one is refused.
const ASKS_MAX: usize = 32;
/// Results of helpers that wait for the driver; a helper waits when there are more.
const DONE_MAX: usize = 64;

/// Shows a server's certificate without trusting it.
///
/// # Errors
/// The address is wrong, or nobody answers there.
pub async fn thumbprint(url: &str) -> anyhow::Result<Thumbprint> {
    let target: Target = url.parse()?;
    Ok(http::Http::new(target, &Trust::LookOnly)?.look().await?)
}

/// Logs in once, reads once, logs out: what the settings lead to, before a node is started with them.
///
/// # Errors
/// The settings are wrong, vCenter is not reached, or it refuses.
pub async fn check(settings: &Settings) -> anyhow::Result<(String, Snapshot)> {
    settings.check()?;
    let password = settings.password()?;
    let mut api = api::Api::new(settings)?;
    let product = api.login(&settings.user, &password).await?;
    let wall_ms = wall_ms();
    let read = api.read(0, settings.declared_wall_ms, wall_ms).await;
    let told = format!("{product} as {}: {}", settings.user, api.rights());
    api.logout().await;
    let mut agent = Agent::new(settings.config());
    let now = Now { mono_ms: 0, wall_ms };
    agent.handle(now, Input::Observed(read?), &mut Vec::new());
    Ok((format!("{told}\n{}", policy(settings)), agent.snapshot(now)))
}

/// A question or order of a person.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// The state of every datastore on every host.
    Status,
    /// Take the step of this plan, by the person `who`.
    Repair {
        /// The id of the plan, from `trivet vcenter plan`.
        plan: String,
        /// The user who confirms, for the journal.
        who: String,
    },
    /// The learned datastore is wanted, says the person `who`.
    Confirm {
        /// Name of the datastore.
        datastore: String,
        /// The user who confirms, for the journal.
        who: String,
    },
}

/// The answer to an [`Ask`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Answer {
    /// Whether this node's agent is the one that works.
    pub leads: bool,
    /// Why an order was refused.
    pub error: Option<String>,
    /// The state as of the last reading; `None` before the first.
    pub snapshot: Option<Snapshot>,
}

/// The JSON of a question or an answer, between nodes.
#[derive(Clone, PartialEq, Message)]
pub struct Json {
    /// The document.
    #[prost(string, tag = "1")]
    pub text: String,
}

/// A view of the agent for the node's other parts.
#[derive(Clone)]
pub struct Handle {
    state: Arc<Mutex<Option<Snapshot>>>,
    asks: mpsc::Sender<(Ask, oneshot::Sender<Answer>)>,
}

impl Handle {
    /// The latest state; `None` where another node's agent works.
    pub fn snapshot(&self) -> Option<Snapshot> {
        self.state.lock().clone()
    }

    /// Puts a question or an order to the agent. It is refused at once if too many wait.
    pub async fn ask(&self, ask: Ask) -> Answer {
        let (done, answer) = oneshot::channel();
        let busy = || Answer { error: Some("too many questions at once; try again".into()), ..Answer::default() };
        match self.asks.try_send((ask, done)) {
            Ok(()) => answer.await.unwrap_or_else(|_| busy()),
            Err(_) => busy(),
        }
    }

    /// Takes an [`Ask`] of another node, as [`Json`]. One that cannot be read gets no answer.
    pub fn handle(&self, body: &Bytes, responder: Responder) {
        let Ok(Json { text }) = Json::decode(body.clone()) else { return };
        let Ok(ask) = serde_json::from_str::<Ask>(&text) else { return };
        let handle = self.clone();
        tokio::spawn(async move {
            let answer = handle.ask(ask).await;
            let text = serde_json::to_string(&answer).unwrap_or_default();
            responder.answer(&Json { text });
        });
    }
}

/// Starts the agent beside a metad. `local`: the private address that every node serves to its own host.
///
/// # Errors
/// The settings are wrong, or a file of certificates cannot be read.
pub fn start(
    settings: Settings,
    metad: Metad,
    identity: &Identity,
    events: Events,
    nfs_port: u16,
    local: Option<IpAddr>,
) -> anyhow::Result<Handle> {
    let routes = settings.routes(local)?;
    begin(settings, Authority::Metad(metad), identity.keys.in_use(), events, nfs_port, routes)
}

/// Starts the agent of a program that watches storage which is not ours. `key`: names logins without telling them.
///
/// # Errors
/// As for [`start`], and if the settings ask for what needs a cluster of ours.
pub fn start_alone(settings: Settings, alone: Arc<Alone>, key: &[u8], events: Events) -> anyhow::Result<Handle> {
    anyhow::ensure!(
        settings.mode != Mode::Propose,
        "vcenter: mode = \"propose\" needs a metad to confirm plans at; use \"watch\" or \"repair\""
    );
    anyhow::ensure!(settings.routes.is_empty(), "vcenter: routes lead to nodes of a cluster; a watch has none");
    begin(settings, Authority::Alone(alone), key, events, 0, None)
}

fn begin(
    settings: Settings,
    authority: Authority,
    key: &[u8],
    events: Events,
    nfs_port: u16,
    routes: Option<trivet_vcenter::routes::Config>,
) -> anyhow::Result<Handle> {
    settings.check()?;
    let (asks, asked) = mpsc::channel(ASKS_MAX);
    let (done, results) = mpsc::channel(DONE_MAX);
    let started = Instant::now();
    let jobs = worker::start(settings.clone(), authority.clone(), key.to_vec(), done.clone(), started)?;
    let start_routes = |config| {
        let (authority, events, done) = (authority.clone(), events.clone(), done.clone());
        RouteDriver::start(&settings, config, key.to_vec(), Shared { authority, events, done, started, nfs_port })
    };
    let routes = routes.map(start_routes).transpose()?;
    let state = Arc::new(Mutex::new(None));
    let driver = Driver {
        agent: Agent::new(Config { can_reset_clients: authority.can_close_clients(), ..settings.config() }),
        poll: Duration::from_secs(settings.poll_seconds),
        ours: OurSideWatch::new(),
        nfs_port,
        settings,
        authority,
        events,
        started,
        epoch: None,
        jobs,
        done,
        reading: false,
        read_at: started,
        look_at: started,
        looking: false,
        state: state.clone(),
        routes,
    };
    tokio::spawn(driver.run(asked, results));
    Ok(Handle { state, asks })
}

struct Driver {
    agent: Agent,
    settings: Settings,
    poll: Duration,
    ours: OurSideWatch,
    nfs_port: u16,
    authority: Authority,
    events: Events,
    started: Instant,
    /// Under which this agent works.
    epoch: Option<u64>,
    jobs: mpsc::Sender<Job>,
    done: mpsc::Sender<Done>,
    reading: bool,
    read_at: Instant,
    look_at: Instant,
    looking: bool,
    state: Arc<Mutex<Option<Snapshot>>>,
    routes: Option<RouteDriver>,
}

impl Driver {
    async fn run(
        mut self,
        mut asked: mpsc::Receiver<(Ask, oneshot::Sender<Answer>)>,
        mut results: mpsc::Receiver<Done>,
    ) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => self.tick().await,
                Some(done) = results.recv() => self.done(done),
                ask = asked.recv() => match ask {
                    Some((ask, answer)) => drop(answer.send(self.answer(ask))),
                    // The last handle is dropped: the node stops.
                    None => return,
                },
            }
        }
    }

    /// `None` where another node's agent works.
    fn snapshot(&self, now: Now) -> Option<Snapshot> {
        self.epoch?;
        let routes = self.routes.as_ref().map(RouteDriver::status).unwrap_or_default();
        Some(Snapshot { routes, ..self.agent.snapshot(now) })
    }

    fn publish(&self) {
        let snapshot = self.snapshot(self.now());
        *self.state.lock() = snapshot;
    }

    fn now(&self) -> Now {
        Now { mono_ms: self.started.elapsed().as_millis() as u64, wall_ms: wall_ms() }
    }

    fn feed(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.agent.handle(self.now(), input, &mut effects);
        effects.into_iter().for_each(|e| self.carry_out(e));
        self.publish();
    }

    async fn tick(&mut self) {
        self.ours.heard(self.authority.epoch_heard());
        let leads = self.authority.leads();
        if leads != self.epoch {
            self.leave();
            if let Some(epoch) = leads {
                self.lead(epoch).await;
            }
        }
        if self.epoch.is_none() {
            return;
        }
        if let Some(routes) = &mut self.routes {
            routes.tick();
        }
        let now = Instant::now();
        if now >= self.look_at && !self.looking {
            self.looking = true;
            self.look_at = now + OUR_SIDE;
            let look = self.authority.clone().look(self.nfs_port);
            let done = self.done.clone();
            tokio::spawn(async move { drop(done.send(Done::OurSide(look.await)).await) });
        }
        if now >= self.read_at && !self.reading && self.jobs.try_send(Job::Read).is_ok() {
            self.reading = true;
            self.read_at = now + self.poll;
        }
    }

    fn leave(&mut self) {
        if self.epoch.take().is_some() {
            if let Some(routes) = &mut self.routes {
                routes.leave();
            }
            self.feed(Input::Follow);
            let _ = self.jobs.try_send(Job::Logout);
        }
    }

    /// Reads the journal as of this epoch; without it nothing is done.
    async fn lead(&mut self, epoch: u64) {
        let read = async {
            let text = self.authority.read_journal().await?;
            self.authority.leads_confirmed(epoch).await.then_some(text)
        };
        let Ok(Some(text)) = tokio::time::timeout(READ_JOURNAL_LIMIT, read).await else { return };
        let journal = match text.as_deref().map(serde_json::from_slice::<Journal>) {
            None => Journal::default(),
            Some(Ok(journal)) if journal.version <= journal::VERSION => journal,
            Some(_) => {
                let place = self.authority.journal_place();
                let why = format!("{place} was written by a newer version of this program, or is damaged");
                tracing::error!(%why, "vcenter: the agent does not work on this node");
                return;
            }
        };
        if let Some(routes) = &mut self.routes {
            let read = routes.lead(epoch, journal.refused_login.clone());
            if !tokio::time::timeout(READ_JOURNAL_LIMIT, read).await.unwrap_or(false) {
                return;
            }
        }
        self.epoch = Some(epoch);
        self.ours.new_epoch();
        let _ = self.jobs.try_send(Job::Lead { refused_login: journal.refused_login.clone() });
        self.feed(Input::Lead { epoch, journal });
        self.read_at = Instant::now();
        let mode = format!("{:?}", self.settings.mode).to_lowercase();
        self.events.record(NodeEvent::AgentWorks { epoch, mode, reason: policy(&self.settings) });
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Journal { journal } => {
                let epoch = self.epoch.unwrap_or_default();
                let (authority, done) = (self.authority.clone(), self.done.clone());
                tokio::spawn(async move {
                    let number = journal.number;
                    let bytes = serde_json::to_vec(&journal).expect("a journal is plain values");
                    let durable = authority.write_journal(epoch, &bytes).await;
                    let _ = done.send(Done::Journal { epoch, number, durable }).await;
                });
            }
            Effect::Act { number, epoch, action, start_by_ms, end_by_ms } => {
                let at = |ms: u64| self.started + Duration::from_millis(ms);
                let (start_by, end_by) = (at(start_by_ms), at(end_by_ms));
                let job = Job::Act { number, epoch, action, start_by, end_by };
                if let Err(e) = self.jobs.try_send(job) {
                    tracing::warn!(error = %e, "vcenter: a step was not started");
                    let outcome = journal::Outcome::NotStarted { why: "the agent is busy".into() };
                    let done = self.done.clone();
                    tokio::spawn(async move { drop(done.send(Done::Ended { number, outcome }).await) });
                }
            }
            Effect::Read => self.read_at = Instant::now(),
            Effect::Event(event) => self.tell(event),
        }
    }

    fn tell(&mut self, event: Event) {
        tracing::info!(what = %event.what.en, why = %event.why, "vcenter");
        let steps = [EventCode::StepStarted, EventCode::Repaired, EventCode::NotProved];
        if let Some(host) = event.host.as_ref().filter(|_| steps.contains(&event.code)) {
            let message = format!("Trivet: {} / {} ({})", event.what.en, event.what.zh, event.why);
            let _ = self.jobs.try_send(Job::Log { host: host.clone(), message });
        }
        let step = match event.code {
            EventCode::StepStarted => AgentStep::Begins,
            EventCode::Repaired => AgentStep::Repaired,
            EventCode::NotProved => AgentStep::NotProved,
            _ => AgentStep::Other,
        };
        let what = trivet_events::Text::new(event.what.en, event.what.zh);
        let (host, datastore) = (event.host_name, event.datastore);
        self.events.record(NodeEvent::Agent { step, host, datastore, what, reason: event.why });
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Read(result) => {
                self.reading = false;
                match result {
                    Ok(observed) => self.feed(Input::Observed(observed)),
                    Err(why) => {
                        tracing::warn!(%why, "vcenter: no reading");
                        self.feed(Input::Unreachable { why });
                    }
                }
            }
            Done::OurSide(seen) => {
                self.looking = false;
                let ours = self.ours.take(seen);
                self.feed(Input::OurSide(ours));
            }
            // An answer for an epoch that is over is nobody's.
            Done::Journal { epoch, .. } if self.epoch != Some(epoch) => {}
            Done::Journal { number, durable: true, .. } => self.feed(Input::Journaled { number }),
            Done::Journal { number, durable: false, .. } => self.feed(Input::JournalRefused { number }),
            Done::Ended { number, outcome } => self.feed(Input::Ended { number, outcome }),
            Done::LoggedIn { told } => self.events.record(NodeEvent::AgentLoggedIn { reason: told }),
            Done::LoginRefused { digest } => self.feed(Input::LoginRefused { digest }),
            Done::Route(told) => {
                if let Some(routes) = &mut self.routes {
                    routes.told(told);
                }
                self.publish();
            }
        }
    }

    fn answer(&mut self, ask: Ask) -> Answer {
        let now = self.now();
        let mut effects = Vec::new();
        let result = match ask {
            Ask::Status => Ok(()),
            Ask::Repair { plan, who } => self.agent.confirm(now, &plan, &shorten(&who), &mut effects),
            Ask::Confirm { datastore, who } => self.agent.confirm_wanted(&datastore, &shorten(&who), &mut effects),
        };
        effects.into_iter().for_each(|e| self.carry_out(e));
        let snapshot = self.snapshot(now);
        Answer { leads: self.epoch.is_some(), error: result.err().map(|e| e.to_string()), snapshot }
    }
}

fn shorten(who: &str) -> String {
    who.chars().filter(|c| !c.is_control()).take(80).collect()
}

/// The steps that the configuration permits the agent, for the log at the start.
fn policy(s: &Settings) -> String {
    let opt = |allowed: bool, what: &str| format!("{} {what}", if allowed { "may" } else { "may not" });
    let steps = match s.mode {
        Mode::Watch => "writes nothing".to_string(),
        Mode::Propose => "refreshes and mounts after a person's confirmation".into(),
        Mode::Repair => format!("refreshes and mounts, at most {} steps an hour", s.repairs_per_hour),
    };
    let reconfigure = opt(s.allow_ha_reconfigure && s.mode != Mode::Watch, "reconfigure hosts for HA");
    let reconnect = opt(s.allow_host_reconnect && s.mode != Mode::Watch, "reconnect hosts");
    let routes = match (s.routes.is_empty(), s.mode) {
        (true, _) => "may not move hosts' routes".to_string(),
        (_, Mode::Repair) => format!("moves the routes of {} hosts to the local address", s.routes.len()),
        _ => "says when a host's route to the local address should move".into(),
    };
    format!("{steps}, {reconfigure}, {reconnect}, {routes}; never unmounts, never destroys, never sets HA options")
}

/// Asks the metads' agents until the one that works answers.
///
/// # Errors
/// No node's agent works, or it refuses.
pub async fn ask_leader(
    metads: Vec<SocketAddr>,
    identity: Arc<Identity>,
    ask: &Ask,
    limit: Duration,
) -> anyhow::Result<Snapshot> {
    let text = serde_json::to_string(ask)?;
    let body = Json { text }.encode_to_vec();
    let clients: Vec<_> = metads.iter().map(|a| crate::rpc::Client::new(*a, identity.clone())).collect();
    let begun = Instant::now();
    while begun.elapsed() < limit {
        for client in &clients {
            let asked = client.ask(trivet_storage::messages::CallKind::Vcenter, &body, Duration::from_secs(2)).await;
            let Ok(bytes) = asked else { continue };
            let answer: Answer = serde_json::from_str(&Json::decode(bytes)?.text)?;
            match answer {
                Answer { leads: true, error: Some(error), .. } => anyhow::bail!(error),
                Answer { leads: true, snapshot: Some(snapshot), .. } => return Ok(snapshot),
                _ => {}
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!(
        "no node's vCenter agent answered within {} s; is [vcenter] in the node.toml of every node, and is there a metad LEADER (`trivet status`)?",
        limit.as_secs()
    )
}
