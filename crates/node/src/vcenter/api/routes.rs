//! The declared hosts' routes by the vSphere API: find the hosts, read their routes, move one.

use super::{Api, ApiError, HttpError, Open, PAGES_MAX, READ_LIMIT, STEP_LIMIT};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};
use trivet_vcenter::journal::Outcome;
use trivet_vcenter::soap::request::{returned_moref, Moref};
use trivet_vcenter::soap::routes::{add_names, add_page, update, Change, HostRoutes, Route, NAMES, ROUTES};
use trivet_vcenter::soap::{body, SoapError};

/// Pause before a declared host that vCenter did not know is looked for again among all hosts: with 5,000 of them that is a
/// reply of megabytes.
const NAMES_PAUSE: Duration = Duration::from_secs(60);

/// The declared hosts as vCenter knows them.
#[derive(Default)]
pub(super) struct Routed {
    refs: BTreeMap<String, Moref>,
    looked_at: Option<Instant>,
}

impl Api {
    /// The routes of the hosts with these names; one that vCenter does not know is missing.
    ///
    /// # Errors
    /// Any part of it could not be read.
    pub async fn read_routes(&mut self, names: &BTreeSet<String>) -> Result<BTreeMap<String, HostRoutes>, ApiError> {
        let mut open = self.open.take().ok_or_else(|| ApiError::Setting("there is no session".into()))?;
        let read = tokio::time::timeout(READ_LIMIT, self.read_routes_open(&mut open, names));
        let result = read.await.unwrap_or(Err(ApiError::Slow));
        if result.is_err() {
            // The host may have been removed, and added again under another identity.
            open.routed = Routed::default();
        }
        self.open = Some(open);
        result
    }

    async fn read_routes_open(
        &mut self,
        open: &mut Open,
        names: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, HostRoutes>, ApiError> {
        let m = open.managers.clone();
        let again = open.routed.looked_at.is_none_or(|at| at.elapsed() >= NAMES_PAUSE);
        if again && names.iter().any(|n| !open.routed.refs.contains_key(n)) {
            self.find_hosts(open, names).await?;
        }
        let mut hosts = BTreeMap::new();
        if open.routed.refs.is_empty() {
            return Ok(hosts);
        }
        let mut request = body::read_objects(&m, open.routed.refs.values(), &ROUTES);
        for _ in 0..PAGES_MAX {
            let page = self.post(request).await?;
            match add_page(&page, &mut hosts)? {
                Some(token) => request = body::read_on(&m, &token),
                None => return Ok(hosts),
            }
        }
        Err(SoapError::TooManyNodes.into())
    }

    async fn find_hosts(&mut self, open: &mut Open, names: &BTreeSet<String>) -> Result<(), ApiError> {
        let m = open.managers.clone();
        if open.hosts.is_none() {
            let root = m.root.clone();
            open.hosts = Some((root.value.clone(), self.view(&m, &root, "HostSystem").await?));
        }
        let view = open.hosts.as_ref().map(|(_, v)| v.clone()).ok_or(SoapError::Lacks("the hosts"))?;
        let mut refs = BTreeMap::new();
        let mut request = body::read_view(&m, &view, &[], std::slice::from_ref(&NAMES));
        for _ in 0..PAGES_MAX {
            let page = self.post(request).await?;
            match add_names(&page, |name| names.contains(name), &mut refs)? {
                Some(token) => request = body::read_on(&m, &token),
                None => {
                    open.routed = Routed { refs, looked_at: Some(Instant::now()) };
                    return Ok(());
                }
            }
        }
        Err(SoapError::TooManyNodes.into())
    }

    /// Makes the host's only route to `address` among those by `nodes` lead to `to`. Routes by other gateways are a person's and stay.
    pub async fn move_route(
        &mut self,
        host: &HostRoutes,
        address: IpAddr,
        to: Option<IpAddr>,
        nodes: &[IpAddr],
        until: Instant,
    ) -> Outcome {
        let changes = changes(&host.routes, address, to, nodes);
        if changes.is_empty() {
            return Outcome::Done;
        }
        let request = update(&host.network_system, &changes);
        let call = async { Ok::<_, ApiError>(returned_moref(&self.http.post(request, STEP_LIMIT).await?)?) };
        match tokio::time::timeout_at(until.into(), call).await {
            Ok(Ok(_)) => Outcome::Done,
            Ok(Err(ApiError::Soap(SoapError::Fault(f)))) => f.outcome(),
            Ok(Err(e @ ApiError::Http(HttpError::Connect { .. }))) => Outcome::NotStarted { why: e.to_string() },
            Ok(Err(e)) => Outcome::NoAnswer { why: e.to_string() },
            Err(_) => {
                self.forget();
                Outcome::NoAnswer { why: "time-out".into() }
            }
        }
    }
}

/// The new route comes before the old one goes, so that the host is never without one in between.
fn changes(routes: &[Route], address: IpAddr, to: Option<IpAddr>, nodes: &[IpAddr]) -> Vec<Change> {
    let wanted = to.map(|gateway| Route::to(address, gateway));
    let ours = |r: &&Route| **r == Route::to(address, r.gateway) && nodes.contains(&r.gateway);
    let add = wanted.filter(|w| !routes.contains(w)).map(Change::Add);
    let remove = routes.iter().filter(ours).filter(|r| Some(**r) != wanted).map(|r| Change::Remove(*r));
    add.into_iter().chain(remove).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_route_comes_first_and_a_persons_stays() {
        let ip = |n: u8| IpAddr::from([10, 0, 10, n]);
        let (address, nodes) = (IpAddr::from([192, 168, 33, 2]), [ip(71), ip(72), ip(73)]);
        let person = Route::to(address, ip(9));
        let default = Route { network: IpAddr::from([0, 0, 0, 0]), prefix: 0, gateway: ip(71) };
        let old = Route::to(address, ip(71));
        let new = Route::to(address, ip(72));
        let all = [default, person, old];
        assert_eq!(changes(&all, address, Some(ip(72)), &nodes), [Change::Add(new), Change::Remove(old)]);
        assert_eq!(changes(&all, address, Some(ip(71)), &nodes), []);
        assert_eq!(changes(&all, address, None, &nodes), [Change::Remove(old)]);
        assert_eq!(changes(&[person], address, None, &nodes), []);
    }
}
