//! The vSphere API as the agent uses it: log in, read everything, take one step.

mod routes;

use super::http::{Http, HttpError};
use super::settings::Settings;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use trivet_vcenter::action::Action;
use trivet_vcenter::host_events;
use trivet_vcenter::journal::Outcome;
use trivet_vcenter::observed::{HostRef, Observed, Privileges};
use trivet_vcenter::session::Failure;
use trivet_vcenter::soap::inventory::{HostSystems, CLUSTERS, DATASTORES, HOSTS, HOST_STEPS};
use trivet_vcenter::soap::request::{returned_moref, session_key, Step, Wants};
use trivet_vcenter::soap::{body, Inventory, Managers, Moref, SoapError, Task};

/// Time limit of a single reply of a reading.
const CALL_LIMIT: Duration = Duration::from_secs(20);
/// Time for the answer to a step; a mount whose server is silent keeps a host busy long.
const STEP_LIMIT: Duration = Duration::from_secs(60);
/// A whole reading, all pages; a longer one fails.
const READ_LIMIT: Duration = Duration::from_secs(60);
/// Pages of one kind of objects in a reading; with more the reading fails.
const PAGES_MAX: usize = 400;
/// Time after which the user's privileges are read again.
const PRIVILEGES_FOR: Duration = Duration::from_secs(300);
/// Hosts in one query for privileges; further ones are asked for in another query.
const PRIVILEGE_HOSTS: usize = 100;
/// Removals older than this are settled, whenever the datastores were declared.
const REMOVALS_FOR_MS: i64 = 30 * 86_400_000;
/// Time between two readings of a task's state at vCenter.
const TASK_LOOK: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Soap(#[from] SoapError),
    #[error("{0}")]
    Setting(String),
    #[error("a reading took longer than {} s", READ_LIMIT.as_secs())]
    Slow,
}

impl ApiError {
    pub fn failure(&self) -> Failure {
        match self {
            ApiError::Soap(SoapError::Fault(f)) => f.failure(),
            ApiError::Http(HttpError::Certificate { .. }) => Failure::Certificate,
            _ => Failure::Other,
        }
    }
    fn is_method_not_found(&self) -> bool {
        matches!(self, ApiError::Soap(SoapError::Fault(f)) if ["MethodNotFound", "NotImplemented", "NotSupported"].contains(&f.kind.as_str()))
    }
}

/// Objects of a vCenter session; all of them end with it.
struct Open {
    managers: Managers,
    key: String,
    clusters: Moref,
    hosts: Option<(String, Moref)>,
    datastores: Moref,
    /// The hosts whose routes are moved, by their names.
    routed: routes::Routed,
}

pub struct Api {
    http: Http,
    cluster: Option<String>,
    open: Option<Open>,
    privileges: Option<(Instant, BTreeMap<HostRef, Privileges>)>,
    systems: BTreeMap<HostRef, HostSystems>,
    host_names: BTreeMap<HostRef, String>,
}

impl Api {
    pub fn new(settings: &Settings) -> anyhow::Result<Api> {
        Ok(Api {
            http: Http::new(settings.target()?, &settings.trust()?)?,
            cluster: settings.cluster.clone(),
            open: None,
            privileges: None,
            systems: BTreeMap::new(),
            host_names: BTreeMap::new(),
        })
    }

    async fn post(&mut self, body: String) -> Result<String, ApiError> {
        Ok(self.http.post(body, CALL_LIMIT).await?)
    }

    /// Opens a session. What vCenter is comes back as text.
    ///
    /// # Errors
    /// There is no vCenter, or it refuses the user.
    pub async fn login(&mut self, user: &str, password: &str) -> Result<String, ApiError> {
        self.http.reset();
        (self.open, self.privileges) = (None, None);
        let managers = Managers::parse(&self.post(body::service_content()).await?)?;
        let key = session_key(&self.post(body::login(&managers, user, password)).await?)?;
        let root = managers.root.clone();
        let clusters = self.view(&managers, &root, "ClusterComputeResource").await?;
        let datastores = self.view(&managers, &root, "Datastore").await?;
        let told = format!("{} (API {})", managers.name, managers.api_version);
        let routed = routes::Routed::default();
        self.open = Some(Open { managers, key, clusters, hosts: None, datastores, routed });
        Ok(told)
    }

    async fn view(&mut self, m: &Managers, container: &Moref, kind: &str) -> Result<Moref, ApiError> {
        let reply = self.post(body::create_view(m, container, &[kind])).await?;
        Ok(returned_moref(&reply)?.ok_or(SoapError::Lacks("the view"))?)
    }

    /// Ends the session, so that vCenter need not wait for its expiry.
    pub async fn logout(&mut self) {
        if let Some(open) = self.open.take() {
            let _ = self.post(body::logout(&open.managers)).await;
        }
        self.http.reset();
    }

    /// The session is of no use any more.
    pub fn forget(&mut self) {
        self.open = None;
        self.http.reset();
    }

    /// Reads everything that decisions rest on.
    ///
    /// # Errors
    /// Any part of it could not be read: a reading is whole or there is none.
    pub async fn read(&mut self, began_ms: u64, removals_since_ms: i64, wall_ms: i64) -> Result<Observed, ApiError> {
        let read = self.read_all(began_ms, removals_since_ms.max(wall_ms - REMOVALS_FOR_MS));
        tokio::time::timeout(READ_LIMIT, read).await.unwrap_or(Err(ApiError::Slow))
    }

    async fn read_all(&mut self, began_ms: u64, removals_since_ms: i64) -> Result<Observed, ApiError> {
        let mut open = self.open.take().ok_or_else(|| ApiError::Setting("there is no session".into()))?;
        let result = self.read_open(&mut open, began_ms, removals_since_ms).await;
        self.open = Some(open);
        result
    }

    async fn read_open(&mut self, open: &mut Open, began_ms: u64, since_ms: i64) -> Result<Observed, ApiError> {
        let m = open.managers.clone();
        let mut inventory = Inventory::default();
        let clusters = open.clusters.clone();
        self.pages(&m, &clusters, &[], std::slice::from_ref(&CLUSTERS), &mut inventory).await?;
        let cluster = self.choose(&m, std::mem::take(&mut inventory.clusters))?;
        let (name, container) = match &cluster {
            Some(c) => (c.name.clone(), c.moref.clone()),
            None => (String::new(), m.root.clone()),
        };
        // A cluster that was removed and created again has another reference.
        if open.hosts.as_ref().is_none_or(|(of, _)| *of != container.value) {
            open.hosts = Some((container.value.clone(), self.view(&m, &container, "HostSystem").await?));
        }
        let hosts = open.hosts.as_ref().map(|(_, v)| v.clone()).ok_or(SoapError::Lacks("the hosts"))?;
        self.pages(&m, &hosts, HOST_STEPS, HOSTS, &mut inventory).await?;
        let datastores = open.datastores.clone();
        self.pages(&m, &datastores, &[], std::slice::from_ref(&DATASTORES), &mut inventory).await?;
        let (mut observed, systems) = inventory.observed(began_ms);
        observed.cluster = name;
        if let Some(c) = cluster {
            let mut ha = c.ha;
            if ha.enabled {
                let reply = self.post(body::heartbeat_datastores(&c.moref)).await?;
                ha.heartbeat = optional(Inventory::heartbeat(&reply).map_err(ApiError::from))?;
            }
            observed.ha = Some(ha);
        }
        if let Some(events) = &m.events {
            let reply = self.post(body::removals(events, since_ms)).await?;
            observed.removals = optional(Inventory::removals(&reply).map_err(ApiError::from))?.unwrap_or_default();
            let reply =
                self.post(body::host_events(events, crate::clock::wall_ms() - host_events::ASKED_FOR_MS)).await?;
            observed.events = match Inventory::host_events(&reply) {
                // No decision depends on events: a vCenter that does not know one of the types must not end the reading.
                Err(SoapError::Fault(f)) if f.failure() == Failure::Other => {
                    tracing::debug!(kind = %f.kind, text = %f.text, "vcenter: no events of hosts");
                    Vec::new()
                }
                read => read?,
            };
        }
        self.ask_privileges(open, observed.hosts.keys().cloned().collect()).await?;
        let known = self.privileges.as_ref().map(|(_, p)| p);
        for (r, h) in &mut observed.hosts {
            h.privileges = known.and_then(|p| p.get(r)).copied().unwrap_or_default();
        }
        self.systems = systems;
        self.host_names = observed.hosts.iter().map(|(r, h)| (r.clone(), h.name.clone())).collect();
        Ok(observed)
    }

    async fn pages(
        &mut self,
        m: &Managers,
        view: &Moref,
        steps: &[Step<'_>],
        wants: &[Wants<'_>],
        inventory: &mut Inventory,
    ) -> Result<(), ApiError> {
        let mut request = body::read_view(m, view, steps, wants);
        for _ in 0..PAGES_MAX {
            let page = self.post(request).await?;
            match inventory.add_page(&page)? {
                Some(token) => request = body::read_on(m, &token),
                None => return Ok(()),
            }
        }
        Err(SoapError::TooManyNodes.into())
    }

    fn choose(
        &self,
        m: &Managers,
        clusters: Vec<trivet_vcenter::soap::inventory::Cluster>,
    ) -> Result<Option<trivet_vcenter::soap::inventory::Cluster>, ApiError> {
        let names = || clusters.iter().take(10).map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
        match &self.cluster {
            _ if m.single_host => Ok(None),
            Some(name) => match clusters.iter().find(|c| &c.name == name) {
                Some(c) => Ok(Some(c.clone())),
                None => Err(ApiError::Setting(format!(
                    "there is no cluster {name:?} that this user sees; there are: {}",
                    names()
                ))),
            },
            None if clusters.len() == 1 => Ok(clusters.into_iter().next()),
            None if clusters.is_empty() => Err(ApiError::Setting("there is no cluster that this user sees".into())),
            None => {
                Err(ApiError::Setting(format!("there are several clusters ({}); set cluster in [vcenter]", names())))
            }
        }
    }

    async fn ask_privileges(&mut self, open: &Open, hosts: Vec<HostRef>) -> Result<(), ApiError> {
        let current = self
            .privileges
            .as_ref()
            .is_some_and(|(at, known)| at.elapsed() < PRIVILEGES_FOR && hosts.iter().all(|h| known.contains_key(h)));
        let Some(authorization) = open.managers.authorization.as_ref().filter(|_| !current) else { return Ok(()) };
        let mut all = BTreeMap::new();
        for some in hosts.chunks(PRIVILEGE_HOSTS) {
            let reply = self.post(body::privileges(authorization, some, &open.key)).await?;
            all.extend(optional(Inventory::privileges(&reply).map_err(ApiError::from))?.unwrap_or_default());
        }
        self.privileges = Some((Instant::now(), all));
        Ok(())
    }

    /// The user's privileges over all hosts, for the first event of a session.
    pub fn rights(&self) -> String {
        let known = self.privileges.iter().flat_map(|(_, p)| p.values());
        let (mut hosts, mut counts) = (0, [0; 4]);
        for p in known {
            hosts += 1;
            for (count, granted) in counts.iter_mut().zip([p.storage, p.connection, p.log_event, p.network]) {
                *count += usize::from(granted);
            }
        }
        let parts = body::PRIVILEGES.iter().zip(counts).map(|(name, count)| match count {
            0 => format!("may not {name}"),
            n if n == hosts => format!("may {name}"),
            n => format!("may {name} on {n} of {hosts} hosts"),
        });
        parts.collect::<Vec<_>>().join(", ")
    }

    /// Takes one step; its answer proves nothing, a later reading does.
    pub async fn act(&mut self, action: &Action, until: Instant) -> Outcome {
        let left = until.saturating_duration_since(Instant::now());
        let done = tokio::time::timeout(left, self.step(action)).await;
        match done {
            Ok(Ok(())) => Outcome::Done,
            Ok(Err(ApiError::Soap(SoapError::Fault(f)))) => f.outcome(),
            Ok(Err(e @ (ApiError::Setting(_) | ApiError::Http(HttpError::Connect { .. })))) => {
                Outcome::NotStarted { why: e.to_string() }
            }
            Ok(Err(e)) => Outcome::NoAnswer { why: e.to_string() },
            Err(_) => {
                self.forget();
                Outcome::NoAnswer { why: "time-out".into() }
            }
        }
    }

    async fn step(&mut self, action: &Action) -> Result<(), ApiError> {
        let setting = |what: &str| ApiError::Setting(what.into());
        let systems = self.systems.get(action.host()).cloned();
        let systems = systems.ok_or_else(|| setting("the host's managers are not known"));
        match action {
            Action::ResetClient { .. } => Err(setting("connections are closed by the gateways, not by vCenter")),
            Action::Refresh { .. } => self.plain(body::refresh(&systems?.storage_system)).await,
            Action::Mount { wanted, .. } => self.plain(body::mount(&systems?.datastore_system, wanted)).await,
            Action::ReconfigureHa { host } => self.task(body::reconfigure_ha(host)).await,
            Action::Reconnect { host } => {
                self.task(body::disconnect(host)).await?;
                self.task(body::reconnect(host)).await
            }
        }
    }

    /// Addresses that a host's NFS calls come from.
    pub fn addresses(&self, host: &HostRef) -> Vec<IpAddr> {
        let systems = self.systems.get(host);
        systems.map(|s| s.addresses.clone()).unwrap_or_default()
    }

    async fn plain(&mut self, request: String) -> Result<(), ApiError> {
        // vCenter's newest simulator answers with an empty reference after a successful mount.
        returned_moref(&self.http.post(request, STEP_LIMIT).await?)?;
        Ok(())
    }

    async fn task(&mut self, request: String) -> Result<(), ApiError> {
        let task = returned_moref(&self.post(request).await?)?.ok_or(SoapError::Lacks("the task"))?;
        let managers = self.open.as_ref().map(|o| o.managers.clone());
        let managers = managers.ok_or_else(|| ApiError::Setting("there is no session".into()))?;
        loop {
            match Task::parse(&self.post(body::read_object(&managers, &task, &Task::WANTS)).await?)? {
                Task::Open => tokio::time::sleep(TASK_LOOK).await,
                Task::Success => return Ok(()),
                Task::Failed { kind, text } => {
                    return Err(SoapError::Fault(trivet_vcenter::soap::Fault { kind, text, fields: Vec::new() }).into())
                }
            }
        }
    }

    /// Writes what was done into vCenter's events, where the user may.
    pub async fn log_event(&mut self, host: &HostRef, message: &str) {
        let may = self.privileges.as_ref().and_then(|(_, p)| p.get(host)).is_some_and(|p| p.log_event);
        let events = self.open.as_ref().and_then(|o| o.managers.events.clone());
        let Some(events) = events.filter(|_| may) else { return };
        let told = self.post(body::log_event(&events, host, message)).await;
        let told = told.and_then(|reply| Ok(returned_moref(&reply)?));
        if told.is_err_and(|e| e.is_method_not_found()) {
            let name = self.host_names.get(host).cloned().unwrap_or_default();
            let _ = self.post(body::post_event(&events, host, &name, message)).await;
        }
    }
}

/// A method that old hosts and simulators lack is no error.
fn optional<T>(result: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.is_method_not_found() => Ok(None),
        Err(e) => Err(e),
    }
}
