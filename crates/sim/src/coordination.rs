//! An ensemble of coordination servers in a simulated world.
//!
//! `world` moves messages, disks and clocks; `faults` breaks things, at random or by `schedule`; `clients` write and read
//! registers; `check` knows what may not happen.

mod check;
mod clients;
mod disk;
mod faults;
mod liveness;
mod members;
mod schedule;
pub mod small;
mod world;

pub use check::Violation;
pub use schedule::{Schedule, ScheduleError};
pub use world::{run, Options, Report};
