//! Thresholds and hold times as an operator changed them, within the bounds of the catalogue.

use crate::catalogue::{rule, RuleId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The shortest and longest hold time, in milliseconds, that a rule can be given.
pub const HOLD_MS_BOUNDS: (u64, u64) = (0, 86_400_000);

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    changed: BTreeMap<RuleId, Changed>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Changed {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_ms: Option<u64>,
    #[serde(default)]
    pub off: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct OutOfBounds {
    pub rule: RuleId,
    pub what: &'static str,
    pub low: f64,
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
    pub fn reset(&mut self, id: RuleId) {
        self.changed.remove(&id);
    }
    pub fn changed(&self, id: RuleId) -> Changed {
        self.changed.get(&id).copied().unwrap_or_default()
    }
    pub fn threshold(&self, id: RuleId) -> f64 {
        self.changed(id).threshold.or(rule(id).threshold.map(|t| t.value)).unwrap_or(0.0)
    }
    /// The threshold from which the alert is critical, for a rule that begins as a warning.
    pub fn critical(&self, id: RuleId) -> Option<f64> {
        self.changed(id).critical.or(rule(id).critical)
    }
    pub fn hold_ms(&self, id: RuleId) -> u64 {
        self.changed(id).hold_ms.unwrap_or(rule(id).hold_ms)
    }
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
