//! Key material and rules, read from the files and ready for handshakes.

use super::trust::Trust;
use super::{ClientAuth, StoreFile, TlsSettings};
use crate::keys::Keys;
use parking_lot::Mutex;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::rustls::crypto::{ring, CryptoProvider};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{version, ClientConfig, ServerConfig, SupportedProtocolVersion};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use trivet_security::x509::Certificate;
use trivet_security::{Store, StoreError};

/// Bytes of a store; a longer file is refused.
const STORE_BYTES_MAX: u64 = 16 << 20;

/// Why a TLS configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The key or trust store.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A key or trust store cannot be opened: damaged, of another format, or with another password.
    #[error("{path}: {source}")]
    Store {
        /// The key or trust store.
        path: PathBuf,
        /// The reason.
        source: StoreError,
    },
    /// A store lacks a key or certificates, or has some that cannot be used.
    #[error("{path}: {reason}")]
    Content {
        /// The key or trust store.
        path: PathBuf,
        /// The reason, as a phrase.
        reason: String,
    },
    /// The settings contradict each other, or name what the TLS library does not have.
    #[error("{0}")]
    Rules(String),
}

/// The configurations of handshakes; replaced as a whole when files change.
struct Ready {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    own: Certificate,
}

/// The rules of every handshake.
struct Rules {
    limit: Duration,
    verify_host: bool,
    verify_caller: bool,
}

/// TLS of one kind of port.
pub struct Context {
    /// None for the key pair of a cluster's nodes, which stands in no store.
    settings: Option<TlsSettings>,
    rules: Rules,
    ready: Mutex<Ready>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.settings {
            Some(settings) => settings.fmt(f),
            None => f.write_str("the key pair of a cluster's nodes"),
        }
    }
}

impl Context {
    /// Reads the stores.
    ///
    /// # Errors
    /// If a file cannot be read or used, the certificate is not valid now, or a rule cannot be kept.
    pub fn new(settings: TlsSettings) -> Result<Context, ContextError> {
        let ready = Mutex::new(build(&settings, crate::clock::wall_ms() / 1000)?);
        let rules = Rules {
            limit: settings.handshake_limit,
            verify_host: settings.verify_host,
            verify_caller: settings.verify_caller,
        };
        Ok(Context { settings: Some(settings), rules, ready })
    }

    /// With the key pair that all nodes derive from their cluster's key, as calls between nodes have it: a caller that
    /// shows its certificate is a node, so names are not compared.
    ///
    /// # Errors
    /// If the TLS library refuses the derived key, which no input causes.
    pub fn of_cluster(keys: &Keys, limit: Duration) -> io::Result<Context> {
        let tls = crate::tls::Tls::of_cluster(keys)?;
        let own = Certificate::parse(&crate::tls::of_nodes(keys.in_use())?.0).map_err(io::Error::other)?;
        let ready = Ready { server: tls.server_config(), client: tls.client_config(), own };
        let rules = Rules { limit, verify_host: false, verify_caller: false };
        Ok(Context { settings: None, rules, ready: Mutex::new(ready) })
    }

    /// The files that it was made from, if there are any.
    pub(super) fn settings(&self) -> Option<&TlsSettings> {
        self.settings.as_ref()
    }

    /// A handshake takes no longer than this.
    pub(in crate::coordination) fn limit(&self) -> Duration {
        self.rules.limit
    }

    /// Reads the files again; what was in use stays if they cannot be used.
    ///
    /// # Errors
    /// As for `new`.
    pub(super) fn reload(&self) -> Result<(), ContextError> {
        let Some(settings) = &self.settings else { return Ok(()) };
        let ready = build(settings, crate::clock::wall_ms() / 1000)?;
        *self.ready.lock() = ready;
        Ok(())
    }

    /// Serial number and end (seconds since 1970) of the certificate that is shown.
    pub fn own_certificate(&self) -> (String, i64) {
        let ready = self.ready.lock();
        (ready.own.serial.clone(), ready.own.not_after)
    }

    /// A handshake with a caller.
    ///
    /// # Errors
    /// If the caller breaks off, or shows no certificate that it should show.
    pub async fn accept(&self, stream: TcpStream, names: &[&str]) -> io::Result<TlsStream<TcpStream>> {
        let config = self.ready.lock().server.clone();
        let from = stream.peer_addr()?.ip();
        let done = tokio::time::timeout(self.rules.limit, TlsAcceptor::from(config).accept(stream)).await;
        let stream = TlsStream::from(done.map_err(|_| io::ErrorKind::TimedOut)??);
        if self.rules.verify_caller {
            if let Some(shown) = shown(&stream)? {
                check_host(&shown, from, names)?;
            }
        }
        Ok(stream)
    }

    /// A handshake with a server that was called by this name.
    ///
    /// # Errors
    /// If the server breaks off, or shows no certificate that is trusted and made out to its name or address.
    pub async fn connect(&self, stream: TcpStream, host: &str) -> io::Result<TlsStream<TcpStream>> {
        let config = self.ready.lock().client.clone();
        let to = stream.peer_addr()?.ip();
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_string()).unwrap_or_else(|_| to.into());
        let done = tokio::time::timeout(self.rules.limit, TlsConnector::from(config).connect(name, stream));
        let stream = TlsStream::from(done.await.map_err(|_| io::ErrorKind::TimedOut)??);
        if self.rules.verify_host {
            let shown = shown(&stream)?.ok_or_else(|| io::Error::other("the server shows no certificate"))?;
            check_host(&shown, to, &[host])?;
        }
        Ok(stream)
    }
}

/// The certificate that the other side showed in its handshake.
///
/// # Errors
/// If it cannot be read.
pub fn shown(stream: &TlsStream<TcpStream>) -> io::Result<Option<Certificate>> {
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let parsed = chain.first().map(|c| Certificate::parse(c)).transpose();
    parsed.map_err(|e| io::Error::other(format!("the certificate that was shown: {e}")))
}

fn check_host(shown: &Certificate, ip: IpAddr, hosts: &[&str]) -> io::Result<()> {
    let ip = ip.to_canonical();
    if shown.is_for(&ip.to_string()) || hosts.iter().any(|h| shown.is_for(h)) {
        return Ok(());
    }
    let host = if hosts.is_empty() { ip.to_string() } else { format!("{} ({ip})", hosts.join(", ")) };
    let names: Vec<String> =
        shown.dns_names.iter().cloned().chain(shown.ip_addresses.iter().map(IpAddr::to_string)).collect();
    let reason = format!(
        "the certificate of {} is not made out to {host}, but to [{}]; a SubjectAlternativeName with that name or address \
         is needed, or ssl.hostnameVerification=false (ssl.quorum. between servers)",
        shown.subject_name,
        names.join(", ")
    );
    Err(io::Error::other(reason))
}

/// Whether a certificate (in DER) is made out to this host.
///
/// # Errors
/// If it is not, or cannot be read.
pub fn check_name(der: &[u8], ip: IpAddr, host: &str) -> io::Result<()> {
    let shown = Certificate::parse(der).map_err(|e| io::Error::other(format!("the server's certificate: {e}")))?;
    check_host(&shown, ip, &[host])
}

/// The configuration of a calling client. Names are the caller's to compare, by `check_name`.
///
/// # Errors
/// If a file cannot be read or used.
pub fn calling(own: Option<&StoreFile>, trust: &StoreFile) -> Result<Arc<ClientConfig>, ContextError> {
    let provider = Arc::new(ring::default_provider());
    let rules = |e: tokio_rustls::rustls::Error| ContextError::Rules(e.to_string());
    let anchors = load(trust)?.trusted;
    let trust = Trust::new(anchors, provider.clone(), ClientAuth::Need).map_err(ContextError::Rules)?;
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map_err(rules)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(trust));
    let client = match own {
        None => client.with_no_client_auth(),
        Some(file) => {
            let key = load(file)?.keys.into_iter().next().ok_or_else(|| ContextError::Content {
                path: file.path.clone(),
                reason: "it has no private key".into(),
            })?;
            let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.pkcs8));
            client
                .with_client_auth_cert(key.chain.into_iter().map(CertificateDer::from).collect(), private)
                .map_err(rules)?
        }
    };
    Ok(Arc::new(client))
}

fn load(file: &StoreFile) -> Result<Store, ContextError> {
    let read = || -> io::Result<Vec<u8>> {
        if std::fs::metadata(&file.path)?.len() > STORE_BYTES_MAX {
            return Err(io::Error::other("it is too long for a store"));
        }
        std::fs::read(&file.path)
    };
    let bytes = read().map_err(|source| ContextError::Read { path: file.path.clone(), source })?;
    Store::read(file.kind, &bytes, &file.password)
        .map_err(|source| ContextError::Store { path: file.path.clone(), source })
}

fn provider(settings: &TlsSettings) -> Result<CryptoProvider, ContextError> {
    let mut provider = ring::default_provider();
    if !settings.cipher_suites.is_empty() {
        // Java names those of TLS 1.3 TLS_AES_128_GCM_SHA256, this library TLS13_AES_128_GCM_SHA256.
        let name = |suite: &tokio_rustls::rustls::SupportedCipherSuite| {
            format!("{:?}", suite.suite()).replacen("TLS13_", "TLS_", 1)
        };
        provider.cipher_suites.retain(|s| settings.cipher_suites.contains(&name(s)));
        if provider.cipher_suites.is_empty() {
            let known: Vec<String> = ring::default_provider().cipher_suites.iter().map(name).collect();
            let reason = format!("none of the cipher suites is supported; supported are {}", known.join(", "));
            return Err(ContextError::Rules(reason));
        }
    }
    Ok(provider)
}

fn build(settings: &TlsSettings, now_s: i64) -> Result<Ready, ContextError> {
    let provider = Arc::new(provider(settings)?);
    let rules = |e: tokio_rustls::rustls::Error| ContextError::Rules(e.to_string());
    let path = &settings.key_store.path;
    let content = |reason: String| ContextError::Content { path: path.clone(), reason };
    let store = load(&settings.key_store)?;
    let key = match &store.keys[..] {
        [] => return Err(content("it has no private key".into())),
        [one] => one,
        // Java's key manager takes any that fits; which one that is, nobody could say.
        several => {
            let names: Vec<&str> = several.iter().map(|k| k.alias.as_str()).collect();
            return Err(content(format!("it has several private keys ({}); one is needed", names.join(", "))));
        }
    };
    let chain: Vec<CertificateDer<'static>> = key.chain.iter().cloned().map(CertificateDer::from).collect();
    let first = chain.first().ok_or_else(|| content("its private key has no certificate".into()))?;
    let own = Certificate::parse(first).map_err(|e| content(format!("its certificate: {e}")))?;
    if now_s < own.not_before || now_s > own.not_after {
        let what = if now_s < own.not_before { "is not valid yet" } else { "has expired" };
        return Err(content(format!(
            "its certificate {} (serial {}) {what}; nobody would accept it",
            own.subject_name, own.serial
        )));
    }
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.pkcs8.clone()));
    let signer = provider.key_provider.load_private_key(private).map_err(|_| {
        content(
            "its private key is of no supported type; RSA of 2048 bits or more, EC P-256, P-384 and Ed25519 are".into(),
        )
    })?;
    let certified = CertifiedKey::new(chain.clone(), signer);
    if certified.keys_match().is_err() {
        return Err(content("its certificate and its private key do not belong together".into()));
    }
    let mut anchors = Vec::new();
    if let Some(file) = &settings.trust_store {
        let store = load(file)?;
        let path = file.path.clone();
        if store.trusted.is_empty() {
            let reason = match (store.unmarked, store.keys.len()) {
                (0, 0) => "it has no certificates".into(),
                (0, _) => "it has a private key and no certificate that is trusted".into(),
                (n, _) => format!(
                    "none of its {n} certificates is marked as trusted, so that Java does not trust it; \
                     `keytool -importcert -file CERTIFICATE -keystore {} -storetype PKCS12` marks one",
                    path.display()
                ),
            };
            return Err(ContextError::Content { path, reason });
        }
        anchors = store.trusted;
    }
    let trust = Arc::new(Trust::new(anchors, provider.clone(), settings.client_auth).map_err(ContextError::Rules)?);
    let mut versions: Vec<&'static SupportedProtocolVersion> = Vec::new();
    let has = |v: &SupportedProtocolVersion| provider.cipher_suites.iter().any(|s| s.version() == v);
    if settings.tls13 && has(&version::TLS13) {
        versions.push(&version::TLS13);
    }
    if settings.tls12 && has(&version::TLS12) {
        versions.push(&version::TLS12);
    }
    let private = || PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.pkcs8.clone()));
    let server =
        ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&versions).map_err(rules)?;
    let server = match settings.client_auth {
        ClientAuth::None => server.with_no_client_auth(),
        ClientAuth::Want | ClientAuth::Need => server.with_client_cert_verifier(trust.clone()),
    };
    let server = server.with_single_cert(chain.clone(), private()).map_err(rules)?;
    let client = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions)
        .map_err(rules)?
        .dangerous()
        .with_custom_certificate_verifier(trust)
        .with_client_auth_cert(chain, private())
        .map_err(rules)?;
    Ok(Ready { server: Arc::new(server), client: Arc::new(client), own })
}
