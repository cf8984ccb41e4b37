//! The decisions of a gateway, without I/O: which datastore addresses it serves, and who owns a file.

pub mod addresses;
pub mod ownership;
