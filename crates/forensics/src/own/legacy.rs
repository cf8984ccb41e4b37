//! Events by their wording: of records that earlier releases wrote, which had no codes, and of log lines.

use trivet_events::{AgentStep, Event, RoleEnd, Text};

/// The beginnings of records about the agent's steps.
const AGENT_STEPS: [(&str, AgentStep); 3] = [
    ("repair begins: ", AgentStep::Begins),
    ("repaired, ", AgentStep::Repaired),
    ("not repaired: ", AgentStep::NotProved),
];

/// Whether the report of an election is the first one behind a start of the process.
pub(super) fn started(report: &str) -> bool {
    report.starts_with("this server started")
}

/// A role that ended for this reason.
pub(super) fn looking(reason: &str) -> Event {
    let silent_ms = reason.split_once("silent for ").and_then(|(_, r)| r.split(' ').next()?.parse().ok());
    let is = |any: &[&str]| any.iter().any(|s| reason.contains(s));
    let end = if silent_ms.is_some() || is(&["is silent"]) {
        RoleEnd::Silence
    } else if is(&["closed", "does not lead any more"]) {
        RoleEnd::Closed
    } else if is(&["hands over", "the lead goes to", "members changed"]) {
        RoleEnd::Decision
    } else {
        RoleEnd::Other
    };
    Event::Looking { end, silent_ms, reason: reason.into() }
}

/// The event of a record without a code, where the report has a use for it.
pub(super) fn event(subject: &str, what: &str, why: &str) -> Option<Event> {
    let reason = || why.to_string();
    match subject {
        "coordination" => {
            if what == "looking for a leader" {
                return Some(looking(why));
            }
            if let Some(rest) = what.strip_prefix("follows node ") {
                let (leader, epoch) = rest.split_once(" in epoch ")?;
                let (leader, epoch) = (leader.parse().ok()?, epoch.parse().ok()?);
                return Some(Event::FollowsLeader { leader, epoch, started: started(why), reason: reason() });
            }
            let epoch = what.strip_prefix("leads epoch ")?.parse().ok()?;
            Some(Event::LeadsEpoch { epoch, started: started(why), reason: reason() })
        }
        "metad" => {
            if let Some(epoch) = what.strip_prefix("no longer LEADER of epoch ") {
                return Some(Event::MetadDeposed { epoch: epoch.parse().ok()?, reason: reason() });
            }
            let epoch = what.strip_prefix("LEADER of epoch ")?.parse().ok()?;
            Some(Event::MetadLeads { epoch, reason: reason() })
        }
        "address" => {
            let (address, node) = what.split_once(" goes to node ")?;
            // The reason names the node that was lost.
            let before = why.strip_prefix("node ").and_then(|rest| rest.split(' ').next()?.parse().ok()).unwrap_or(0);
            Some(Event::AddressBound { address: address.into(), node: node.parse().ok()?, before, reason: reason() })
        }
        "vcenter" => {
            let step = AGENT_STEPS.iter().find(|(begins, _)| what.starts_with(begins))?.1;
            Some(Event::Agent { step, host: None, datastore: None, what: Text::new(what, ""), reason: reason() })
        }
        _ => None,
    }
}
