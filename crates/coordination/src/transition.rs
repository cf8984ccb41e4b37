//! The outcome of a phase's step. Phases return it; only the server applies it.
//!
//! A phase that has to end says so with `?`: nothing of it runs any more, and the server, which owns the role, leaves it
//! and looks for a leader.

use crate::api::RoleEnd;
use std::ops::ControlFlow;

/// Why a role ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leave {
    pub(crate) end: RoleEnd,
    /// How long the leader had been silent, where that ended the role.
    pub(crate) silent_ms: Option<u64>,
    /// For people.
    pub(crate) reason: String,
}

impl<T: Into<String>> From<T> for Leave {
    fn from(reason: T) -> Leave {
        Leave { end: RoleEnd::Other, silent_ms: None, reason: reason.into() }
    }
}

impl Leave {
    /// The leader was silent for this long.
    pub(crate) fn silent(ms: Option<u64>, reason: impl Into<String>) -> Leave {
        Leave { end: RoleEnd::Silence, silent_ms: ms, reason: reason.into() }
    }
    /// The leader ended the connection, or its leadership.
    pub(crate) fn closed(reason: impl Into<String>) -> Leave {
        Leave { end: RoleEnd::Closed, silent_ms: None, reason: reason.into() }
    }
    /// Leadership or following ends by a decision, and not by a fault.
    pub(crate) fn decided(reason: impl Into<String>) -> Leave {
        Leave { end: RoleEnd::Decision, silent_ms: None, reason: reason.into() }
    }
}

/// Whether the role continues, or this server has to look.
pub(crate) type Transition = ControlFlow<Box<Leave>>;

/// The role continues.
pub(crate) const STAY: Transition = ControlFlow::Continue(());

/// The role ends, and this server looks for a leader.
pub(crate) fn look(why: impl Into<Leave>) -> Transition {
    ControlFlow::Break(Box::new(why.into()))
}
