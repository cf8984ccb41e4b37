//! Drivers: everything that touches a socket, a disk or a clock, around cores that do not.

#![warn(missing_docs)]

pub mod admin;
pub mod audit;
mod bounded_listener;
pub mod chunk;
pub mod clock;
pub mod config;
pub mod console;
mod console_listener;
pub mod coordination;
pub mod events;
mod file_system;
pub mod folder;
pub mod gateway;
pub mod keys;
pub mod last_stop;
mod latency;
pub mod links;
pub mod log_lines;
mod memory;
pub mod metad;
pub mod new_ensemble;
pub mod node;
pub mod quorum_tls;
pub mod restore;
pub mod rpc;
mod service_manager;
pub mod status;
pub mod tls;
pub mod vcenter;
pub mod zk_client;
pub mod zk_credentials;
pub mod zk_session;
pub mod zoo_cfg;
