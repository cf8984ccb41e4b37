//! Messages between owner, chunk server, gateway and metad, and the records of metad's journal.
//!
//! Encoded with prost: a field can be added without breaking a peer of another version. Bulk data
//! travels outside of the message.

mod backup;
mod changes;
mod chunk;
mod cluster;
mod commands;
mod datastores;
mod extents;
mod files;
mod forks;
mod life;
mod locks;
mod records;
mod starts;
mod usage;
mod versions;

pub use crate::codes::*;
pub use crate::ids::*;
pub use backup::*;
pub use changes::*;
pub use chunk::*;
pub use cluster::*;
pub use commands::*;
pub use datastores::*;
pub use extents::*;
pub use files::*;
pub use forks::*;
pub use life::*;
pub use locks::*;
pub use records::*;
pub use starts::*;
pub use usage::*;
pub use versions::*;
