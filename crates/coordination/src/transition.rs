//! The outcome of a phase's step. Phases return it; only the server applies it.
//!
//! A phase that has to end says so with `?`: nothing of it runs any more, and the server, which owns the role, leaves it
//! and looks for a leader.

use std::ops::ControlFlow;

/// Why a role ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leave {
    pub(crate) reason: String,
}

/// Whether the role continues, or this server has to look.
pub(crate) type Transition = ControlFlow<Box<Leave>>;

/// The role continues.
pub(crate) const STAY: Transition = ControlFlow::Continue(());

/// The role ends, and this server looks for a leader.
pub(crate) fn look(reason: impl Into<String>) -> Transition {
    ControlFlow::Break(Box::new(Leave { reason: reason.into() }))
}
