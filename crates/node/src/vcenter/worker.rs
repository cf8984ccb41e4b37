//! The worker: holds the session with vCenter and does one thing at a time.

use super::api::{Api, ApiError};
use super::authority::Authority;
use super::link::{Link, Reading};
use super::our_side::Seen;
use super::settings::Settings;
use crate::clock::wall_ms;
use std::time::Instant;
use tokio::sync::mpsc;
use trivet_vcenter::action::Action;
use trivet_vcenter::journal::Outcome;
use trivet_vcenter::observed::{HostRef, Observed};

/// Jobs that wait for the worker; a further one is refused, and its sender reports that.
const JOBS_MAX: usize = 16;

pub enum Job {
    Read,
    Act {
        number: u64,
        epoch: u64,
        action: Action,
        start_by: Instant,
        end_by: Instant,
    },
    Log {
        host: HostRef,
        message: String,
    },
    /// This node leads; an earlier LEADER's login may have been refused.
    Lead {
        refused_login: Option<String>,
    },
    Logout,
}

pub enum Done {
    Read(Result<Observed, String>),
    OurSide(Seen),
    Journal { epoch: u64, number: u64, durable: bool },
    Ended { number: u64, outcome: Outcome },
    LoggedIn { told: String },
    LoginRefused { digest: String },
    Route(super::routes::Told),
}

struct Worker {
    authority: Authority,
    link: Link,
    done: mpsc::Sender<Done>,
}

pub fn start(
    settings: Settings,
    authority: Authority,
    key: Vec<u8>,
    done: mpsc::Sender<Done>,
    started: Instant,
) -> anyhow::Result<mpsc::Sender<Job>> {
    let (jobs, mut queue) = mpsc::channel(JOBS_MAX);
    let mut worker = Worker { authority, link: Link::new(settings, key, done.clone(), started)?, done };
    tokio::spawn(async move {
        while let Some(job) = queue.recv().await {
            worker.work(job).await;
        }
        worker.link.logout().await;
    });
    Ok(jobs)
}

/// Everything that the agent's decisions rest on, and removals of datastores since a moment.
struct Inventory {
    started: Instant,
    since_wall_ms: i64,
}

impl Reading for Inventory {
    type Read = Observed;
    async fn read(&self, api: &mut Api) -> Result<Observed, ApiError> {
        api.read(self.started.elapsed().as_millis() as u64, self.since_wall_ms, wall_ms()).await
    }
}

impl Worker {
    async fn work(&mut self, job: Job) {
        match job {
            Job::Read => {
                let result = self.read().await;
                let _ = self.done.send(Done::Read(result)).await;
            }
            Job::Act { number, epoch, action, start_by, end_by } => {
                let outcome = self.act(epoch, &action, start_by, end_by).await;
                let _ = self.done.send(Done::Ended { number, outcome }).await;
            }
            Job::Log { host, message } => self.link.api.log_event(&host, &message).await,
            Job::Lead { refused_login } => self.link.lead(refused_login),
            Job::Logout => self.link.logout().await,
        }
    }

    async fn read(&mut self) -> Result<Observed, String> {
        let (started, since_wall_ms) = (self.link.started(), self.link.settings.declared_wall_ms);
        let observed = self.link.read(&Inventory { started, since_wall_ms }).await?;
        if let Some(product) = self.link.greeting() {
            let told = format!("{product} as {}: {}", self.link.settings.user, self.link.api.rights());
            let _ = self.done.send(Done::LoggedIn { told }).await;
        }
        Ok(observed)
    }

    async fn act(&mut self, epoch: u64, action: &Action, start_by: Instant, end_by: Instant) -> Outcome {
        let not = |why: &str| Outcome::NotStarted { why: why.into() };
        // The fence once more, as late as can be: after it the call goes out.
        match tokio::time::timeout_at(start_by.into(), self.authority.leads_confirmed(epoch)).await {
            Ok(true) if Instant::now() < start_by => match action {
                Action::ResetClient { host, server } => self.close_clients(host, server).await,
                _ => self.link.api.act(action, end_by).await,
            },
            Ok(true) | Err(_) => not("it could not begin in time"),
            Ok(false) => not("another node leads"),
        }
    }

    /// Rung 1 at our own gateway: an answer without a closed connection is no failure, the host may have none.
    async fn close_clients(&self, host: &HostRef, server: &str) -> Outcome {
        let addresses = self.link.api.addresses(host);
        if addresses.is_empty() {
            return Outcome::NotStarted { why: "vCenter shows no VMkernel address of the host".into() };
        }
        match self.authority.close_clients(server, addresses).await {
            Ok(0) => Outcome::NotStarted { why: "the host has no connection to the datastore's address".into() },
            Ok(_) => Outcome::Done,
            Err(why) => Outcome::NoAnswer { why },
        }
    }
}
