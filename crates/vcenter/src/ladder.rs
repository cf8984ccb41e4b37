//! The repair ladder: which step, if any, can help in a state. Gates decide whether it may be taken.

use crate::action::{Action, Rung};
use crate::config::Wanted;
use crate::journal::{Proof, StepRecord};
use crate::observed::HostRef;
use crate::state::{StaleSide, State};

/// The site's opt-ins beyond the plain steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offers {
    /// The datastore is on our own server, whose gateways can close one client's connections.
    pub reset_client: bool,
    /// Rung 4 is allowed.
    pub reconnect: bool,
}

/// The next step for a datastore on a host. `tried` are the steps of this pair since it was last well, oldest first.
pub fn next(host: &HostRef, wanted: &Wanted, state: &State, tried: &[&StepRecord], offers: Offers) -> Option<Action> {
    let done = |rung: Rung| tried.iter().any(|s| s.action.rung() == rung && s.proof != Proof::Abandoned);
    let refresh = Action::Refresh { host: host.clone() };
    let reconnect = Action::Reconnect { host: host.clone() };
    match state {
        State::Missing if !done(Rung::Refresh) => Some(refresh),
        State::Missing => Some(Action::Mount { host: host.clone(), wanted: wanted.clone() }),
        // The host has it and a refresh did not make vCenter see it: what is left is what the person did. Where that is
        // not allowed, a refresh may still help later: its answer may have been lost.
        State::StaleView { side: StaleSide::VcenterLacks } if done(Rung::Refresh) && offers.reconnect => {
            Some(reconnect)
        }
        State::StaleView { .. } => Some(refresh),
        State::Inaccessible { .. } if offers.reset_client && !done(Rung::ResetClient) => {
            Some(Action::ResetClient { host: host.clone(), server: wanted.server.clone() })
        }
        State::Inaccessible { .. } if !done(Rung::Refresh) => Some(refresh),
        // The host mounts again by itself when the server answers.
        State::Inaccessible { .. } => None,
        State::Ok
        | State::Pdl
        | State::WrongIdentity { .. }
        | State::WrongVersion { .. }
        | State::Renamed { .. }
        | State::Readonly
        | State::Unknown { .. } => None,
    }
}
