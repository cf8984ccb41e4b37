//! A session with vCenter: when it logs in, and how a session that expired is renewed.

use super::api::{Api, ApiError};
use super::settings::Settings;
use super::worker::Done;
use std::future::Future;
use std::time::Instant;
use tokio::sync::mpsc;
use trivet_vcenter::session::{Failure, Next, Session};

/// A question that is asked within a session.
pub(super) trait Reading: Sync {
    type Read: Send;
    fn read(&self, api: &mut Api) -> impl Future<Output = Result<Self::Read, ApiError>> + Send;
}

pub(super) struct Link {
    pub settings: Settings,
    pub api: Api,
    /// Names logins without telling them.
    key: Vec<u8>,
    session: Session,
    /// The login that was refused, as a digest.
    refused: Option<String>,
    /// The last trouble, for turns in which nothing is tried.
    trouble: String,
    /// vCenter's own name and version as of a login that nobody was told of yet.
    greeting: Option<String>,
    done: mpsc::Sender<Done>,
    started: Instant,
}

impl Link {
    pub fn new(settings: Settings, key: Vec<u8>, done: mpsc::Sender<Done>, started: Instant) -> anyhow::Result<Link> {
        let (api, session) = (Api::new(&settings)?, Session::default());
        let (refused, trouble, greeting) = (None, String::new(), None);
        Ok(Link { settings, api, key, session, refused, trouble, greeting, done, started })
    }

    /// This node leads; an earlier LEADER's login may have been refused.
    pub fn lead(&mut self, refused_login: Option<String>) {
        self.refused = refused_login;
        self.session = Session::default();
    }

    pub async fn logout(&mut self) {
        self.api.logout().await;
        self.session = Session::default();
    }

    /// The reply that was waited for must not be taken for the next one's.
    pub fn reset(&mut self) {
        self.api.forget();
        self.session = Session::default();
    }

    /// Where the monotonic milliseconds of the agent begin.
    pub fn started(&self) -> Instant {
        self.started
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// vCenter's own name and version, once after each login that was followed by a reading.
    pub fn greeting(&mut self) -> Option<String> {
        self.greeting.take()
    }

    /// Reads within a session, and logs in before if there is none.
    ///
    /// # Errors
    /// Why there is no reading, as text.
    pub async fn read<R: Reading>(&mut self, reading: &R) -> Result<R::Read, String> {
        let (password, digest) = self.settings.login(&self.key).map_err(|e| e.to_string())?;
        if self.refused.as_ref() == Some(&digest) {
            return Err(self.told_refused());
        }
        // Another password than the refused one: a new beginning.
        if self.session.is_stopped() {
            self.session = Session::default();
        }
        let login = match self.session.next(self.now_ms()) {
            Next::Go { login } => login,
            Next::Wait { .. } => return Err(self.trouble.clone()),
            Next::Stopped => return Err(self.told_refused()),
        };
        let mut result = self.read_once(login, &password, reading).await;
        // A session that expired is renewed at once.
        if result.as_ref().is_err_and(|e| e.failure() == Failure::NotAuthenticated)
            && self.session.next(self.now_ms()) == (Next::Go { login: true })
        {
            result = self.read_once(true, &password, reading).await;
        }
        if result.as_ref().is_err_and(|e| e.failure() == Failure::InvalidLogin) {
            self.refused = Some(digest.clone());
            let _ = self.done.send(Done::LoginRefused { digest }).await;
        }
        result.map_err(|e| {
            self.trouble = if self.session.is_stopped() { self.told_refused() } else { e.to_string() };
            self.trouble.clone()
        })
    }

    async fn read_once<R: Reading>(&mut self, login: bool, password: &str, reading: &R) -> Result<R::Read, ApiError> {
        let result = self.try_read(login, password, reading).await;
        match &result {
            Ok(_) => self.session.worked(),
            Err(e) => {
                self.session.failed(self.now_ms(), &e.failure());
                self.api.forget();
            }
        }
        result
    }

    async fn try_read<R: Reading>(&mut self, login: bool, password: &str, reading: &R) -> Result<R::Read, ApiError> {
        if login {
            self.greeting = Some(self.api.login(&self.settings.user, password).await?);
            self.session.logged_in();
        }
        reading.read(&mut self.api).await
    }

    fn told_refused(&self) -> String {
        format!(
            "vCenter refused user {} or its password; no further attempt is made, so that the account is not locked; correct the password file",
            self.settings.user
        )
    }
}
