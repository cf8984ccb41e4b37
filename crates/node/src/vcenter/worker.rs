//! The worker: holds the session with vCenter and does one thing at a time.

use super::api::{Api, ApiError};
use super::authority::Authority;
use super::our_side::Seen;
use super::settings::Settings;
use crate::clock::wall_ms;
use std::time::Instant;
use tokio::sync::mpsc;
use trivet_vcenter::action::Action;
use trivet_vcenter::journal::Outcome;
use trivet_vcenter::observed::{HostRef, Observed};
use trivet_vcenter::session::{Failure, Next, Session};

/// Jobs that wait for the worker; one beyond them is not taken, and its sender says so.
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
    settings: Settings,
    authority: Authority,
    /// Names logins without telling them.
    key: Vec<u8>,
    api: Api,
    session: Session,
    /// The login that was refused, as a digest.
    refused: Option<String>,
    /// The last trouble, for turns in which nothing is tried.
    trouble: String,
    done: mpsc::Sender<Done>,
    started: Instant,
}

pub fn start(
    settings: Settings,
    authority: Authority,
    key: Vec<u8>,
    done: mpsc::Sender<Done>,
    started: Instant,
) -> anyhow::Result<mpsc::Sender<Job>> {
    let (jobs, mut queue) = mpsc::channel(JOBS_MAX);
    let api = Api::new(&settings)?;
    let (session, trouble) = (Session::default(), String::new());
    let mut worker = Worker { settings, authority, key, api, session, refused: None, trouble, done, started };
    tokio::spawn(async move {
        while let Some(job) = queue.recv().await {
            worker.work(job).await;
        }
        worker.api.logout().await;
    });
    Ok(jobs)
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
            Job::Log { host, message } => self.api.log_event(&host, &message).await,
            Job::Lead { refused_login } => {
                self.refused = refused_login;
                self.session = Session::default();
            }
            Job::Logout => {
                self.api.logout().await;
                self.session = Session::default();
            }
        }
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    async fn read(&mut self) -> Result<Observed, String> {
        let (password, digest) = match self.settings.login(&self.key) {
            Ok(read) => read,
            Err(e) => return Err(e.to_string()),
        };
        if self.refused.as_ref() == Some(&digest) {
            return Err(self.told_refused());
        }
        // Another password than the refused one: a new beginning.
        if self.session.is_stopped() {
            self.session = Session::default();
        }
        match self.session.next(self.now_ms()) {
            Next::Go { login } => {
                let result = self.read_now(login, &password).await;
                // A session that expired is renewed at once.
                let result = match (&result, self.session.next(self.now_ms())) {
                    (Err(e), Next::Go { login: true }) if e.failure() == Failure::NotAuthenticated => {
                        self.read_now(true, &password).await
                    }
                    _ => result,
                };
                if result.as_ref().is_err_and(|e| e.failure() == Failure::InvalidLogin) {
                    self.refused = Some(digest.clone());
                    let _ = self.done.send(Done::LoginRefused { digest }).await;
                }
                result.map_err(|e| {
                    let stopped = self.session.is_stopped();
                    self.trouble = if stopped { self.told_refused() } else { e.to_string() };
                    self.trouble.clone()
                })
            }
            Next::Wait { .. } => Err(self.trouble.clone()),
            Next::Stopped => Err(self.told_refused()),
        }
    }

    async fn read_now(&mut self, login: bool, password: &str) -> Result<Observed, ApiError> {
        let result = self.try_read(login, password).await;
        match &result {
            Ok(_) => self.session.worked(),
            Err(e) => {
                self.session.failed(self.now_ms(), &e.failure());
                self.api.forget();
            }
        }
        result
    }

    async fn try_read(&mut self, login: bool, password: &str) -> Result<Observed, ApiError> {
        let mut told = None;
        if login {
            told = Some(self.api.login(&self.settings.user, password).await?);
            self.session.logged_in();
        }
        let began_ms = self.now_ms();
        let observed = self.api.read(began_ms, self.settings.declared_wall_ms, wall_ms()).await?;
        if let Some(product) = told {
            let told = format!("{product} as {}: {}", self.settings.user, self.api.rights());
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
                _ => self.api.act(action, end_by).await,
            },
            Ok(true) | Err(_) => not("it could not begin in time"),
            Ok(false) => not("another node leads"),
        }
    }

    /// Rung 1 at our own gateway: an answer without a closed connection is no failure, the host may have none.
    async fn close_clients(&self, host: &HostRef, server: &str) -> Outcome {
        let addresses = self.api.addresses(host);
        if addresses.is_empty() {
            return Outcome::NotStarted { why: "vCenter shows no VMkernel address of the host".into() };
        }
        match self.authority.close_clients(server, addresses).await {
            Ok(0) => Outcome::NotStarted { why: "the host has no connection to the datastore's address".into() },
            Ok(_) => Outcome::Done,
            Err(why) => Outcome::NoAnswer { why },
        }
    }

    fn told_refused(&self) -> String {
        format!(
            "vCenter refused user {} or its password; no further attempt is made, so that the account is not locked; correct the password file",
            self.settings.user
        )
    }
}
