//! A replicated file: chunk servers, gateways that take its lease from one another, metad as an atomic log that is heard
//! late, and clients that read and write blocks and retry elsewhere.
//!
//! `world` moves messages, disks and clocks and breaks them; `register` checks the history of each block
//! of 4 KiB, and the file's size. Where clients change the size as well, `file` checks all of it together.

pub mod file;
pub mod register;
mod world;

pub use world::{run, Options, Report};
