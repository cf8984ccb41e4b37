//! Repairs of the vCenter agent, as lines of the incident that they belong to.

use super::{Incident, Incidents};
use crate::subject::Subject;
use crate::view::StepView;

impl Incidents {
    /// Writes steps that ended into the open incidents about the same host; each once, however often it is told.
    pub fn note_steps(&mut self, steps: &[StepView]) {
        for incident in &mut self.open {
            let opened_ms = incident.opened_ms;
            for step in steps.iter().filter(|s| s.at_ms >= opened_ms) {
                if incident.is_about(&step.host)
                    && !incident.log.iter().any(|(at, what)| (*at, what) == (step.at_ms, &step.what))
                {
                    incident.log(step.at_ms, step.what.clone());
                    incident.log.sort_by_key(|(at, _)| *at);
                }
            }
        }
    }
}

impl Incident {
    fn is_about(&self, host: &str) -> bool {
        self.members.values().any(|m| match &m.subject {
            Subject::Mount { host: h, .. } | Subject::Host(h) => h == host,
            _ => false,
        })
    }
}
