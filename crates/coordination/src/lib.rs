//! The coordination core: a ZooKeeper server without clock, disk or socket.
//!
//! [`Server::handle`]`(now, input, &mut effects)` is the whole interface: an [`Input`] goes in, each [`Effect`] is an order to
//! the driver, and [`Server::deadline`] says when the core wants to be woken. A driver recovers the disk into a
//! [`Recovered`], makes a [`Server`] of it and a [`Config`], calls [`Server::start`] once, and from then on `handle`, one
//! input at a time.
//!
//! A write that must be durable goes out as [`Effect::Disk`] with a number, and all that depends on it waits for
//! [`Input::Durable`] with that number; the order *transactions, then epoch, then ACK* of the protocol is therefore one visible match arm
//! (`durability.rs`).
//!
//! Where to begin: [`server`] takes inputs apart; [`election`] decides whom to follow; `leading` and `following` are the two
//! sides of ZAB; `prep` turns requests into transactions, `requests` answers clients, [`tree`] and [`watches`] are the data,
//! [`history`] is the log as far as it is in memory. [`config`] and [`ensemble`] are the settings and the list of servers,
//! [`monitor`] the four-letter words.

#![warn(missing_docs)]

pub mod acl;
mod admin;
mod api;
mod audit;
pub mod config;
mod context;
mod digest_check;
mod digests;
mod durability;
pub mod election;
pub mod ensemble;
mod following;
pub mod groups;
pub mod history;
mod leading;
pub mod links;
pub mod membership;
pub mod monitor;
mod outbox;
pub mod paths;
mod prep;
mod reconfig;
mod requests;
mod role;
mod roles;
pub mod server;
pub mod sessions;
mod snapshots;
mod stats;
mod transition;
pub mod tree;
mod voting;
pub mod watches;

pub use admin::AdminRefusal;
pub use api::{
    ClientInput, Commits, DiskOp, Effect, ElectionReport, Event, Image, Input, KerberosOutcome, KerberosStep, Now,
    Recovered, RoleEnd, RoleName, Security, Summary, HANDED_OVER, NUMBERS_USED_UP, TRANSFER_GIVEN_UP,
};
pub use audit::AuditLine;
pub use config::{Auth, Bug, Config, FastLimits};
pub use leading::STOP_LIMIT_MS;
pub use requests::OpenRequests;
pub use server::Server;
pub use stats::Counters;

/// A map with a fixed hasher: the same inputs give the same run.
pub type Map<K, V> = hashbrown::HashMap<K, V, foldhash::fast::FixedState>;

/// Milliseconds of a monotonic clock.
pub type Millis = u64;

/// A client's connection, numbered by the driver; a number is never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// A connection of the quorum port. The driver numbers those it accepted, the core those it dials
/// (their top bit is set); a number is never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

impl LinkId {
    /// The bit of the connections that the core dials.
    pub const DIALLED: u64 = 1 << 63;
}
