//! Thresholds and hold times as an operator changed them, within the bounds of the catalogue.

use crate::catalogue::{rule, RuleId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The shortest and longest hold time, in milliseconds, that a rule can be given.
pub const HOLD_MS_BOUNDS: (u64, u64) = (0, 86_400_000);

/// All changes; a rule without one is as the catalogue has it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    changed: BTreeMap<RuleId, Changed>,
}

/// The change of one rule; `None` leaves the catalogue's value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Changed {
    /// The threshold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// The threshold from which it is critical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical: Option<f64>,
    /// The hold time in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_ms: Option<u64>,
    /// The rule is not evaluated.
    #[serde(default)]
    pub off: bool,
}

/// A value that a rule cannot have.
#[derive(Debug, Clone, PartialEq)]
pub struct OutOfBounds {
    /// The rule.
    pub rule: RuleId,
    /// Name of the value, as text.
    pub what: &'static str,
    /// The least that is allowed; 0 with `high` where the rule has no such value.
    pub low: f64,
    /// The most that is allowed.
    pub high: f64,
}

impl std::fmt::Display for OutOfBounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} must lie between {} and {}", self.what, rule(self.rule).name, self.low, self.high)
    }
}
impl std::error::Error for OutOfBounds {}

impl Settings {
    /// Changes one rule.
    ///
    /// # Errors
    /// A value lies outside the rule's bounds, or the rule has no such value; nothing is changed.
    pub fn change(&mut self, id: RuleId, to: Changed) -> Result<(), OutOfBounds> {
        let r = rule(id);
        let check = |what, value: Option<f64>, bounds: Option<(f64, f64)>| match (value, bounds) {
            (None, _) => Ok(()),
            (Some(v), Some((low, high))) if v >= low && v <= high => Ok(()),
            (Some(_), bounds) => {
                let (low, high) = bounds.unwrap_or((0.0, 0.0));
                Err(OutOfBounds { rule: id, what, low, high })
            }
        };
        check("the threshold", to.threshold, r.threshold.map(|t| (t.min, t.max)))?;
        check("the critical threshold", to.critical, r.critical.and(r.threshold).map(|t| (t.min, t.max)))?;
        let (low, high) = (HOLD_MS_BOUNDS.0 as f64, HOLD_MS_BOUNDS.1 as f64);
        check("the hold time", to.hold_ms.map(|h| h as f64), Some((low, high)))?;
        self.changed.insert(id, to);
        Ok(())
    }
    /// Forgets the change of a rule.
    pub fn reset(&mut self, id: RuleId) {
        self.changed.remove(&id);
    }
    /// The change of a rule; an empty one where there is none.
    pub fn changed(&self, id: RuleId) -> Changed {
        self.changed.get(&id).copied().unwrap_or_default()
    }
    /// The threshold in force; 0 for a rule without one.
    pub fn threshold(&self, id: RuleId) -> f64 {
        self.changed(id).threshold.or(rule(id).threshold.map(|t| t.value)).unwrap_or(0.0)
    }
    /// The threshold from which the alert is critical, for a rule that begins as a warning.
    pub fn critical(&self, id: RuleId) -> Option<f64> {
        self.changed(id).critical.or(rule(id).critical)
    }
    /// The hold time in force, in milliseconds.
    pub fn hold_ms(&self, id: RuleId) -> u64 {
        self.changed(id).hold_ms.unwrap_or(rule(id).hold_ms)
    }
    /// Whether the rule is evaluated.
    pub fn is_on(&self, id: RuleId) -> bool {
        !self.changed(id).off
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_changed_within_its_bounds_only() {
        let mut s = Settings::default();
        s.change(RuleId::LinkLossy, Changed { threshold: Some(10.0), ..Default::default() }).unwrap();
        assert_eq!(s.threshold(RuleId::LinkLossy), 10.0);
        let wrong = s.change(RuleId::LinkLossy, Changed { threshold: Some(0.0), ..Default::default() }).unwrap_err();
        assert!(wrong.to_string().starts_with("the threshold of LINK_LOSSY must lie between"), "{wrong}");
        assert_eq!(s.threshold(RuleId::LinkLossy), 10.0);
        let none = s.change(RuleId::CoordNoQuorum, Changed { threshold: Some(1.0), ..Default::default() });
        assert!(none.is_err(), "a rule without a threshold got one");
        assert!(s.change(RuleId::NodeDown, Changed { hold_ms: Some(u64::MAX), ..Default::default() }).is_err());
    }
}
