//! Drivers: everything that touches a socket, a disk or a clock, around cores that do not.

pub mod clock;
pub mod coordination;
pub mod zoo_cfg;
