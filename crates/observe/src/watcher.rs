//! The whole of it as one core: views in, alerts, incidents and messages out.

use crate::alerts::{Acknowledgement, Alert, Alerts, Change};
use crate::catalogue::RuleId;
use crate::health::Health;
use crate::incidents::{Incidents, Message};
use crate::rules::{Evaluation, Rules};
use crate::settings::{Changed, OutOfBounds, Settings};
use crate::silences::{Controls, Maintenance, Refused, Silence};
use crate::view::ClusterView;
use serde::{Deserialize, Serialize};
use trivet_forensics::verdict::Verdict;

/// An input of the core.
#[derive(Debug, Clone)]
pub enum Input<'a> {
    /// The node's current view, and the verdict of the logs' analysis.
    View(&'a ClusterView, Option<&'a Verdict>),
    /// A person looks after the alert with this fingerprint.
    Acknowledge(String, Acknowledgement),
    /// A person adds or changes a silence.
    Silence(Silence),
    /// A person ends the silence with this id.
    EndSilence(String),
    /// A person sets a node in maintenance, or changes that.
    Maintain(Maintenance),
    /// A person ends the maintenance of a node.
    EndMaintenance(u32),
    /// Silences, maintenances and acknowledgements that another node knows.
    Merge(&'a Controls, &'a [(String, Acknowledgement)]),
    /// A person changes a rule.
    ChangeRule(RuleId, Changed),
}

/// Steps for the driver.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// To the history on disk.
    Keep(Alert),
    /// To the receivers of messages.
    Send(Message),
}

/// Why an operator's wish was not carried out.
#[derive(Debug)]
pub enum Failed {
    /// A silence, maintenance or acknowledgement is refused.
    Refused(Refused),
    /// A rule's value is out of its bounds.
    OutOfBounds(OutOfBounds),
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failed::Refused(e) => e.fmt(f),
            Failed::OutOfBounds(e) => e.fmt(f),
        }
    }
}
impl std::error::Error for Failed {}

/// State that must survive a restart.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Saved {
    /// Alerts that are not forgotten.
    pub alerts: Alerts,
    /// Incidents that are remembered.
    pub incidents: Incidents,
    /// Silences and maintenances.
    pub controls: Controls,
    /// Changes of rules.
    pub settings: Settings,
}

/// Rules, alerts and incidents of one node; begin with `default()` or [`Watcher::restore`].
#[derive(Debug, Default)]
pub struct Watcher {
    rules: Rules,
    alerts: Alerts,
    incidents: Incidents,
    controls: Controls,
    last: Evaluation,
}

impl Watcher {
    /// A watcher with what was saved; what rules have to count begins from zero.
    pub fn restore(saved: Saved) -> Watcher {
        let rules = Rules::new(saved.settings);
        Watcher {
            rules,
            alerts: saved.alerts,
            incidents: saved.incidents,
            controls: saved.controls,
            last: Evaluation::default(),
        }
    }
    /// A copy of all that a restart must not lose.
    pub fn save(&self) -> Saved {
        Saved {
            alerts: self.alerts.clone(),
            incidents: self.incidents.clone(),
            controls: self.controls.clone(),
            settings: self.rules.settings.clone(),
        }
    }
    /// The alerts.
    pub fn alerts(&self) -> &Alerts {
        &self.alerts
    }
    /// The incidents.
    pub fn incidents(&self) -> &Incidents {
        &self.incidents
    }
    /// Silences and maintenances.
    pub fn controls(&self) -> &Controls {
        &self.controls
    }
    /// Changes of rules.
    pub fn settings(&self) -> &Settings {
        &self.rules.settings
    }
    /// The health by the present alerts.
    pub fn health(&self) -> Health {
        Health::of_alerts(&self.alerts)
    }
    /// Acknowledgements of firing alerts, for the other nodes.
    pub fn acknowledged(&self) -> Vec<(String, Acknowledgement)> {
        self.alerts.firing().filter_map(|a| Some((a.fingerprint.clone(), a.acknowledged.clone()?))).collect()
    }
    /// The result of the last view.
    pub fn last_evaluation(&self) -> &Evaluation {
        &self.last
    }

    /// Takes one input at `now_ms`, milliseconds since 1970.
    ///
    /// # Errors
    /// An operator asked for what is not allowed; nothing was changed.
    pub fn handle(&mut self, now_ms: i64, input: Input<'_>, out: &mut Vec<Effect>) -> Result<(), Failed> {
        match input {
            Input::View(view, verdict) => {
                self.controls.expire(now_ms);
                let found = self.rules.evaluate(now_ms, view);
                let mut changes = Vec::new();
                self.alerts.step(now_ms, &found, &self.rules.settings, &self.controls, &mut changes);
                self.last = found;
                self.incidents.note_steps(view.vcenter.as_ref().map_or(&[], |v| &v.steps));
                let messages = self.incidents.step(now_ms, &self.alerts, &changes, verdict);
                out.extend(changes.into_iter().map(|c| match c {
                    Change::Fired(a) | Change::Rose(a) | Change::Resolved(a) | Change::Closed(a) => Effect::Keep(a),
                }));
                out.extend(messages.into_iter().map(Effect::Send));
                Ok(())
            }
            Input::Acknowledge(fingerprint, ack) => {
                let unknown = || Failed::Refused(Refused::Unknown(format!("a firing alert {fingerprint}")));
                let alert = self.alerts.acknowledge(&fingerprint, ack).ok_or_else(unknown)?;
                out.push(Effect::Keep(alert.clone()));
                Ok(())
            }
            Input::Silence(s) => self.controls.silence(now_ms, s).map_err(Failed::Refused),
            Input::EndSilence(id) => self.controls.end_silence(now_ms, &id).map_err(Failed::Refused),
            Input::Maintain(m) => self.controls.maintain(now_ms, m).map_err(Failed::Refused),
            Input::EndMaintenance(node) => self.controls.end_maintenance(now_ms, node).map_err(Failed::Refused),
            Input::Merge(controls, acknowledged) => {
                self.controls.merge(now_ms, controls);
                for (fingerprint, ack) in acknowledged {
                    let open = |a: &Alert| a.acknowledged.is_none() && a.fired_ms.is_some_and(|at| at <= ack.at_ms);
                    if self.alerts.get(fingerprint).is_some_and(open) {
                        self.alerts.acknowledge(fingerprint, ack.clone());
                    }
                }
                Ok(())
            }
            Input::ChangeRule(id, to) => self.rules.settings.change(id, to).map_err(Failed::OutOfBounds),
        }
    }
}
