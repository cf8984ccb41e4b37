//! The vCenter agent as a core without I/O: a missing NFS datastore is seen, explained and put back, carefully.
//!
//! A host that lost one of two datastores still runs its virtual machines, and vCenter only says that vSphere HA has one
//! heartbeat datastore instead of two. The agent compares every host with the wanted datastores, tells an outage of the
//! storage from a fault of one host, and repairs with the smallest step that can, if a mode above `watch` allows it.
//!
//! [`observed::Observed`] is one reading of vCenter; [`agent::Agent::handle`] takes it and returns effects, at most one
//! action among them. An action passes every gate of [`gate`] twice: when it is chosen and again when its journal entry
//! is durable under metad's epoch fence. The agent never unmounts, never destroys and never sets an option of vSphere HA.
//! `node/vcenter` drives it.
//!
//! | module | holds |
//! |---|---|
//! | [`agent`], [`ladder`], [`action`], [`gate`] | the decisions: plans, rungs, steps, and what holds them back |
//! | [`config`], [`wanted`] | what a person declares, and the datastores that follow from it |
//! | [`observed`], [`state`] | a reading, and the state of a datastore on a host |
//! | [`journal`], [`event`], [`host_events`], [`alerts`], [`snapshot`], [`texts`] | what is kept, told and shown |
//! | [`routes`] | the second core: routes of hosts to the local address |
//! | [`session`] | when to log in, to wait and to stop |
//! | [`soap`] | the calls and replies of the vSphere API, as text |
//!
//! Begin with [`Agent::new`]; hand in [`Input::Lead`] with the journal, then an [`Observed`] for each reading, and carry
//! out each [`Effect`]. [`Now`] comes with every input.

#![warn(missing_docs)]

pub mod action;
pub mod agent;
pub mod alerts;
pub mod config;
pub mod event;
pub mod gate;
pub mod host_events;
pub mod journal;
pub mod ladder;
pub mod now;
pub mod observed;
pub mod routes;
pub mod session;
pub mod snapshot;
pub mod soap;
pub mod state;
pub mod texts;
pub mod wanted;

pub use agent::{Agent, Effect, Input};
pub use config::{Config, Mode};
pub use now::Now;
pub use observed::Observed;
pub use snapshot::Snapshot;
