//! The decisions of a gateway, without I/O: which datastore addresses it serves, who owns a file, and whose answer is the
//! LEADER's.

pub mod addresses;
pub mod asking;
pub mod ownership;
