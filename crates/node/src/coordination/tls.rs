//! TLS on ZooKeeper's ports, with the key stores and rules that Apache's settings name. Ports ask this module alone.
//!
//! Certificates are judged here: one that stands in the trust store itself is trusted while it is valid (each server's own
//! certificate in everybody's trust store is a usual way), any other by its chain. Host names are compared after the handshake
//! and before anything is said, for Apache takes a name or an address for one connection.

mod context;
mod reload;
#[cfg(test)]
mod tests;
mod trust;

pub use super::stream::Speaks;
pub(super) use context::shown;
pub use context::{calling, check_name, Context, ContextError};
pub(super) use reload::keep_current;

use std::path::PathBuf;
use std::time::Duration;
use trivet_security::Kind;

/// A key or trust store as it is configured.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreFile {
    /// Path of the file.
    pub path: PathBuf,
    /// The file's format.
    pub kind: Kind,
    /// The password; empty for none.
    pub password: String,
}

impl StoreFile {
    /// A file whose name says of which kind it is.
    ///
    /// # Errors
    /// If it does not.
    pub fn of(path: &std::path::Path, password: &str) -> Result<StoreFile, trivet_security::StoreError> {
        let kind = Kind::of("", &path.to_string_lossy())?;
        Ok(StoreFile { path: path.into(), kind, password: password.into() })
    }
}

impl std::fmt::Debug for StoreFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({:?})", self.path.display(), self.kind)
    }
}

/// Whether a caller has to show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAuth {
    /// No certificate is asked for.
    None,
    /// A certificate is asked for, and checked if there is one.
    Want,
    /// Callers without a certificate are refused.
    #[default]
    Need,
}

/// `ssl.*`, or `ssl.quorum.*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// The server's key and its certificates.
    pub key_store: StoreFile,
    /// Certificates of the CAs that others' certificates must come from.
    pub trust_store: Option<StoreFile>,
    /// Whether callers need a certificate.
    pub client_auth: ClientAuth,
    /// Servers that are called show a certificate with their name or address.
    pub verify_host: bool,
    /// Callers show a certificate with their name or address.
    pub verify_caller: bool,
    /// TLS 1.2 is accepted.
    pub tls12: bool,
    /// TLS 1.3 is accepted.
    pub tls13: bool,
    /// Names of cipher suites as Java has them; none for the provider's own.
    pub cipher_suites: Vec<String>,
    /// A caller that is not done with its handshake after this is closed.
    pub handshake_limit: Duration,
    /// Files are looked at again and again, and new certificates used without a restart.
    pub reload: bool,
}

/// Plain, TLS or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// No TLS.
    #[default]
    Plain,
    /// TLS only.
    Tls,
    /// Plain or TLS, by the first bytes of each connection (`client.portUnification`, `portUnification`).
    /// Each caller as it begins: `client.portUnification`, `portUnification`.
    Both,
}
