//! The coordination role as a running thing: the core and its ports on a thread and runtime of their
//! own, its disk on another thread.
//!
//! `start` opens everything; `driver` owns the core and routes its effects; `ports` own the connections and hand what
//! comes in to the `inbox`; `store` and what it uses own the data folder.

pub mod admin;
pub mod audit;
mod busy_poll;
pub mod chop;
mod disk_queue;
mod driver;
mod handle;
mod inbox;
pub mod inspect;
mod kerberos;
mod listen;
mod load;
mod loading;
mod log_file;
mod log_reader;
pub(crate) mod machine;
mod member_lookup;
mod packed;
mod packing;
mod peer_sasl;
mod peer_tls;
mod places;
mod ports;
pub mod restored;
mod settings;
mod start;
pub mod store;
mod stream;
pub mod tls;

pub use handle::Handle;
pub use kerberos::Kerberos;
pub use listen::BindError;
pub use log_reader::SNAPSHOT_SIZE_FACTOR;
pub use packing::Packing;
pub use peer_sasl::PeerSasl;
pub use peer_tls::{ClusterTls, PeerSpeaks};
pub use places::{Members, Place, Places};
pub use ports::Throttle;
pub use settings::{Security, Settings};
pub use start::{start, StartError};
