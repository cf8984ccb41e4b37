//! The part of the vSphere SOAP API that the agent speaks, as text in and text out. `node/vcenter/http.rs` carries it.
//!
//! Parsing is lenient in what vCenter, ESXi and simulators differ in (prefixes, unknown elements, empty references) and
//! strict in what could hurt: bytes, depth, number of nodes, document type definitions.

pub mod inventory;
pub mod request;
pub mod routes;
pub mod time;
pub mod tree;

pub use inventory::Inventory;
pub use request::{body, Managers, Moref, Task};
pub use tree::{Fault, SoapError, Tree, REPLY_BYTES_MAX};
