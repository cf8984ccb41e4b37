//! The console's certificate: the site's own where it names one, else one that this node makes for itself and renews.
//!
//! A handshake that asks for the server name `trivet` is answered with the certificate that all nodes derive from the cluster's key, so
//! that programs with the key know whom they talk to without a CA.

use crate::keys::Keys;
use anyhow::Context;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{version, Error, ServerConfig};
use tokio_rustls::TlsAcceptor;

/// A certificate that a node made for itself is valid for 398 days, the longest that browsers accept.
const OWN_VALID_S: u64 = 398 * 86_400;
/// A certificate of our own is replaced when less than 60 days of that are left, before anybody is warned.
const OWN_RENEWED_S: i64 = 60 * 86_400;
/// A certificate of our own is valid from a day before it is made, for browsers whose clocks are behind.
const OWN_BEFORE_S: u64 = 86_400;
/// Bytes of a file with certificates or a key; a longer one is refused.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Seconds between two checks of the certificates' files, and so until a changed one is in use.
const LOOK: Duration = Duration::from_secs(10);

/// `[console]` of node.toml.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct ConsoleSettings {
    /// PEM file with the certificate, and those of its CAs behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// PEM file with its private key, not encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

impl ConsoleSettings {
    /// Whether nothing is set, so that `node.toml` needs no `[console]`.
    pub fn is_default(&self) -> bool {
        *self == ConsoleSettings::default()
    }

    /// Whether a console at this address speaks TLS: everywhere but at a loopback address, where the machine's own users are, and
    /// there, too, with a certificate of the site's.
    pub fn speaks_tls(&self, address: IpAddr) -> bool {
        self.certificate.is_some() || !address.is_loopback()
    }

    /// Why the settings contradict each other.
    pub fn fault(&self) -> Option<String> {
        match (&self.certificate, &self.key) {
            (Some(_), None) => Some("[console]: certificate without key".into()),
            (None, Some(_)) => Some("[console]: key without certificate".into()),
            _ => None,
        }
    }

    /// Whether the files that are named can be used.
    ///
    /// # Errors
    /// A file cannot be read, or the key is not that of the certificate.
    pub fn check(&self) -> anyhow::Result<()> {
        match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => from_files(certificate, key).map(drop),
            _ => Ok(()),
        }
    }
}

/// The certificate that browsers are shown now.
struct Shown {
    key: Arc<CertifiedKey>,
    /// Seconds since 1970.
    not_after: i64,
    sha256: [u8; 32],
}

/// The certificates of one console; cheap to share.
pub struct Certificates {
    settings: ConsoleSettings,
    /// Where a certificate of this node's own is kept, and whom it is for.
    folder: PathBuf,
    names: Vec<String>,
    shown: Mutex<Shown>,
    of_cluster: Arc<CertifiedKey>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Certificates {
    /// Certificates of a console at this address; `None`: it speaks plain HTTP.
    ///
    /// # Errors
    /// As for [`Certificates::open`].
    pub fn of(
        settings: &ConsoleSettings,
        folder: &Path,
        address: IpAddr,
        keys: &Keys,
    ) -> anyhow::Result<Option<Arc<Certificates>>> {
        if !settings.speaks_tls(address) {
            return Ok(None);
        }
        let opened = Certificates::open(settings.clone(), folder, address, keys);
        opened.context("the console's certificate").map(Some)
    }

    /// Reads the site's files, or makes a certificate for `address` and this machine's name in `folder`.
    ///
    /// # Errors
    /// The site's files cannot be used, or the folder cannot be written.
    pub fn open(
        settings: ConsoleSettings,
        folder: &Path,
        address: IpAddr,
        keys: &Keys,
    ) -> anyhow::Result<Arc<Certificates>> {
        let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let mut names = vec![address.to_string(), "localhost".to_string()];
        if !machine.trim().is_empty() {
            names.push(machine.trim().to_string());
        }
        let (certificate, private) = crate::tls::of_nodes(keys.in_use())?;
        let of_cluster = Arc::new(certified(vec![certificate], private)?);
        let folder = folder.join("console");
        let shown = Mutex::new(read(&settings, &folder, &names)?);
        Ok(Arc::new(Certificates { settings, folder, names, shown, of_cluster }))
    }

    /// Days until the certificate that browsers are shown expires; negative afterwards.
    pub fn days_left(&self) -> f64 {
        let not_after = self.shown.lock().not_after;
        (not_after - now_s()) as f64 / 86_400.0
    }

    /// SHA-256 of the certificate that browsers are shown, as they print it.
    pub fn fingerprint(&self) -> String {
        let sha256 = self.shown.lock().sha256;
        sha256.iter().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(":")
    }

    /// Whether the site gave the certificate.
    pub fn is_of_site(&self) -> bool {
        self.settings.certificate.is_some()
    }

    /// The acceptor that makes handshakes with them.
    ///
    /// # Errors
    /// If the TLS library refuses its own defaults, which no input causes.
    pub fn acceptor(self: &Arc<Self>) -> anyhow::Result<TlsAcceptor> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config).into())
    }

    /// Looks at the files again and again; what was in use stays while new files cannot be used.
    pub async fn keep_current(self: Arc<Self>) {
        let mut seen = self.marks();
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self.marks();
            let renew = !self.is_of_site() && self.days_left() * 86_400.0 < OWN_RENEWED_S as f64;
            if now == seen && !renew {
                continue;
            }
            match read(&self.settings, &self.folder, &self.names) {
                Ok(shown) => {
                    *self.shown.lock() = shown;
                    tracing::info!(days_left = self.days_left(), "the console has a new certificate");
                }
                Err(e) => {
                    tracing::warn!(error = %e, "the console's new certificate cannot be used; the one before stays in use")
                }
            }
            seen = self.marks();
        }
    }

    /// Length and time of each file, by which a changed one is noticed.
    fn marks(&self) -> Vec<Option<(u64, SystemTime)>> {
        let of = |path: &PathBuf| std::fs::metadata(path).ok().and_then(|m| Some((m.len(), m.modified().ok()?)));
        [&self.settings.certificate, &self.settings.key].into_iter().flatten().map(of).collect()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if hello.server_name() == Some(crate::tls::NAME) {
            return Some(self.of_cluster.clone());
        }
        Some(self.shown.lock().key.clone())
    }
}

fn now_s() -> i64 {
    crate::clock::wall_ms() / 1_000
}

fn read(settings: &ConsoleSettings, folder: &Path, names: &[String]) -> anyhow::Result<Shown> {
    match (&settings.certificate, &settings.key) {
        (Some(certificate), Some(key)) => from_files(certificate, key),
        _ => own(folder, names),
    }
}

/// # Errors
/// A file cannot be read, has nothing of its kind in it, or the key is not the certificate's.
fn from_files(certificate: &Path, key: &Path) -> anyhow::Result<Shown> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bounded(certificate)?).collect();
    let chain = chain.map_err(|e| anyhow::anyhow!("{}: {e}", certificate.display()))?;
    anyhow::ensure!(!chain.is_empty(), "{}: the file contains no certificate in PEM format", certificate.display());
    let private = PrivateKeyDer::from_pem_slice(&bounded(key)?)
        .map_err(|e| anyhow::anyhow!("{}: {e}; a private key in PEM, not encrypted, is expected", key.display()))?;
    shown(chain, private).map_err(|e| anyhow::anyhow!("{} with {}: {e}", certificate.display(), key.display()))
}

fn bounded(path: &Path) -> anyhow::Result<Vec<u8>> {
    let length = std::fs::metadata(path).with_context(|| path.display().to_string())?.len();
    anyhow::ensure!(length <= FILE_BYTES_MAX, "{}: longer than {FILE_BYTES_MAX} bytes", path.display());
    std::fs::read(path).with_context(|| path.display().to_string())
}

fn certified(chain: Vec<CertificateDer<'static>>, private: PrivateKeyDer<'static>) -> anyhow::Result<CertifiedKey> {
    CertifiedKey::from_der(chain, private, &ring::default_provider()).map_err(|e| match e {
        Error::InconsistentKeys(_) => anyhow::anyhow!("the private key is not that of the certificate"),
        e => e.into(),
    })
}

fn shown(chain: Vec<CertificateDer<'static>>, private: PrivateKeyDer<'static>) -> anyhow::Result<Shown> {
    let first = chain.first().context("no certificate")?;
    let parsed = trivet_security::x509::Certificate::parse(first)
        .map_err(|e| anyhow::anyhow!("the certificate cannot be read: {e}"))?;
    let sha256 = Sha256::digest(first).into();
    let key = certified(chain, private)?;
    Ok(Shown { key: Arc::new(key), not_after: parsed.not_after, sha256 })
}

/// The certificate that this node made for itself, or a new one where there is none, it expires soon, or is for other names.
fn own(folder: &Path, names: &[String]) -> anyhow::Result<Shown> {
    let (certificate, key) = (folder.join("certificate.der"), folder.join("key.der"));
    let kept = || -> anyhow::Result<Shown> {
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(bounded(&key)?));
        shown(vec![bounded(&certificate)?.into()], private)
    };
    if let Ok(kept) = kept() {
        let parsed = trivet_security::x509::Certificate::parse(&kept.key.cert[0]);
        let is_for_all = parsed.is_ok_and(|c| names.iter().all(|n| c.is_for(n)));
        if is_for_all && kept.not_after - now_s() > OWN_RENEWED_S {
            return Ok(kept);
        }
    }
    trivet_disk::make_dir(folder).with_context(|| folder.display().to_string())?;
    let pair = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new(names.to_vec())?;
    params.distinguished_name.push(rcgen::DnType::CommonName, "Trivet console");
    let since = u64::try_from(now_s()).unwrap_or(0).saturating_sub(OWN_BEFORE_S);
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(since);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(since + OWN_VALID_S);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let made = params.self_signed(&pair)?;
    // The key first: a certificate without its key is no certificate, and both are made again.
    trivet_disk::write_atomically(&key, &pair.serialize_der()).with_context(|| key.display().to_string())?;
    trivet_disk::write_atomically(&certificate, made.der()).with_context(|| certificate.display().to_string())?;
    kept()
}

#[cfg(test)]
mod tests;
