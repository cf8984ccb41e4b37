//! Tasks that run only while this metad leads: the gateways that it presumes to be alive are looked for, and the addresses are
//! bound where `trivet_storage::metadata::placement` says.

use super::Shared;
use crate::rpc::{Client, NoAnswer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use trivet_events::Event;
use trivet_storage::messages::*;
use trivet_storage::metadata::placement::{Effect, Found, Input, Orders, LOOK_MS};

/// Time within which a gateway has to answer a new LEADER, or it counts as silent.
const PRESUME_LIMIT: Duration = Duration::from_millis(250);

/// Every gateway known is looked for once, so that a new LEADER knows which of them may be alive.
pub(super) async fn presume_gateways(shared: &Arc<Shared>) {
    let replicas = shared.state.read().replicas();
    let connects = replicas.into_iter().filter_map(|r| {
        let address: SocketAddr = r.address.parse().ok()?;
        let there = Client::new(address, shared.identity.clone());
        Some(async move { (r, there.knock(PRESUME_LIMIT).await) })
    });
    for (replica, answered) in futures_util::future::join_all(connects).await {
        let found = match answered {
            Ok(_) => Found::Answered,
            Err(NoAnswer::Refused) => Found::Refused,
            Err(_) => Found::Silent,
        };
        let files = shared.state.read().files();
        let boot = files.iter().map(|i| &i.lease).find(|l| l.gateway == replica.node).map_or(0, |l| l.boot);
        shared.placement(Input::Presumed { replica, boot, found });
    }
}

/// Each address is served by a gateway that is alive and can serve it.
pub(super) async fn assign_addresses(shared: &Arc<Shared>) {
    let addresses = &shared.settings.addresses;
    // The journal answers no more for what an earlier leadership asked.
    addresses.iter().for_each(|a| drop(shared.placement(Input::Bound { address: a.clone() })));
    loop {
        tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        let Some(leading) = shared.leadership() else { continue };
        let (bindings, orders) = {
            let state = shared.state.read();
            (state.bindings(), Orders::of(&state, addresses))
        };
        for effect in shared.placement(Input::Look { addresses, bindings: &bindings, orders: &orders }) {
            let Effect::Bind { binding, why } = effect;
            let (address, node) = (binding.address.clone(), binding.gateway.0);
            let before = bindings.iter().find(|b| b.address == address).map_or(0, |b| b.gateway.0);
            let op = Some(CommandOp::Bind(binding));
            if shared.submit(&leading, Command { call: None, stamp: None, op }).await.is_some() {
                let address = address.clone();
                shared.events.record(Event::AddressBound { address, node, before, reason: why });
            }
            shared.placement(Input::Bound { address });
        }
    }
}
