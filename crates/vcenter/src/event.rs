//! Plans as a person sees them, and what goes into the node's journal of events.

use crate::action::Action;
use crate::alerts::Alert;
use crate::gate::Gate;
use crate::host_events;
use crate::journal::OpenStep;
use crate::observed::{HostEvent, HostRef};
use crate::state::State;
pub use crate::texts::EventCode;
use crate::texts::{self, Text};
use serde::{Deserialize, Serialize};

/// A step that could help now, with what holds it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The plan's id, as `trivet vcenter repair --plan` takes it.
    pub id: String,
    /// Name of the host.
    pub host_name: String,
    /// Name of the wanted datastore; none for a step on the host alone.
    pub datastore: Option<String>,
    /// The step.
    pub action: Action,
    /// Why it is not taken now; empty: it is the next step.
    pub gates: Vec<Gate>,
    /// Beginning of the fault, on the monotonic clock in milliseconds.
    #[serde(skip)]
    pub since_ms: u64,
}

/// A line of the node's journal of events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Kind of the event.
    pub code: EventCode,
    /// Managed object reference, for an event in vCenter.
    pub host: Option<HostRef>,
    /// The host's name in vCenter.
    pub host_name: Option<String>,
    /// The datastore, of an event about one.
    pub datastore: Option<String>,
    /// The event, as text.
    pub what: Text,
    /// Numbers, persons and reasons, in English.
    pub why: String,
}

impl Event {
    pub(crate) fn plain(code: EventCode, why: String) -> Event {
        Event { code, host: None, host_name: None, datastore: None, what: texts::event(code), why }
    }
    pub(crate) fn of_host(told: &HostEvent, host_name: &str) -> Event {
        let what = host_events::text(host_name, &told.kind);
        let why = format!("{} at {}: {}", told.kind, crate::soap::time::utc(told.wall_ms), told.message);
        let (host, host_name) = (Some(told.host.clone()), Some(host_name.into()));
        Event { code: EventCode::HostEvent, host, host_name, datastore: None, what, why }
    }
    pub(crate) fn of_state(host: &HostRef, host_name: &str, datastore: &str, state: &State) -> Event {
        let what = texts::fault(host_name, datastore, state);
        let (host, host_name, datastore) = (Some(host.clone()), Some(host_name.into()), Some(datastore.into()));
        Event { code: EventCode::StateChanged, host, host_name, datastore, what, why: String::new() }
    }
    pub(crate) fn of_plan(code: EventCode, plan: &Plan, more: String) -> Event {
        let what = texts::step(code, &plan.action, &plan.host_name, plan.datastore.as_deref());
        let closed: Vec<String> = plan.gates.iter().map(|g| texts::gate(g).en).collect();
        let why = [format!("plan {}", plan.id), more, closed.join("; ")];
        let why = why.into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join(", ");
        let (host, host_name) = (Some(plan.action.host().clone()), Some(plan.host_name.clone()));
        Event { code, host, host_name, datastore: plan.datastore.clone(), what, why }
    }
    pub(crate) fn of_step(code: EventCode, step: &OpenStep, why: String) -> Event {
        let what = texts::step(code, &step.action, &step.host_name, step.datastore.as_deref());
        let by = step.confirmed_by.as_ref().map(|who| format!("confirmed by {who}"));
        let parts = [Some(format!("step {}", step.number)), by, Some(why).filter(|w| !w.is_empty())];
        let why = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
        let (host, host_name) = (Some(step.action.host().clone()), Some(step.host_name.clone()));
        Event { code, host, host_name, datastore: step.datastore.clone(), what, why }
    }
    pub(crate) fn of_alert(code: EventCode, alert: &Alert) -> Event {
        let what = texts::alert(code, alert.id.name(), &alert.text);
        Event {
            code,
            host: None,
            host_name: None,
            datastore: None,
            what,
            why: format!("cause: {:?}", alert.cause).to_lowercase(),
        }
    }
}
