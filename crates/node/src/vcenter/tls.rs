//! TLS to vCenter: a pinned certificate, a CA, or the system's roots. Nothing is trusted on first use.

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::crypto::{ring, verify_tls12_signature, verify_tls13_signature, CryptoProvider};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;

/// Where distributions keep the roots that they trust.
const SYSTEM_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];
/// Bytes of a file of certificates; a longer one is refused.
const ROOTS_BYTES_MAX: u64 = 8 << 20;

/// SHA-256 of a certificate, as vSphere writes thumbprints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thumbprint(pub [u8; 32]);

impl Thumbprint {
    fn of(certificate: &CertificateDer<'_>) -> Thumbprint {
        Thumbprint(Sha256::digest(certificate).into())
    }
}

impl std::fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes: Vec<String> = self.0.iter().map(|b| format!("{b:02X}")).collect();
        f.write_str(&bytes.join(":"))
    }
}

impl std::str::FromStr for Thumbprint {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> anyhow::Result<Thumbprint> {
        let digits: String = text.chars().filter(|c| !matches!(c, ':' | ' ')).collect();
        let wrong = || {
            let sha1 = if digits.len() == 40 { " (40 digits are a SHA-1 thumbprint, which proves little)" } else { "" };
            anyhow::anyhow!(
                "thumbprint: 64 hexadecimal digits of a SHA-256 are expected{sha1}; `trivet vcenter thumbprint HOST` prints it"
            )
        };
        if digits.len() != 64 || !digits.is_ascii() {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (i, b) in bytes.iter_mut().enumerate() {
            *b = u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Thumbprint(bytes))
    }
}

/// Which certificate is the right one.
#[derive(Debug, Clone)]
pub enum Trust {
    /// The certificate with this SHA-256, with any signature.
    Pinned(Thumbprint),
    /// A PEM file of CAs.
    Ca(std::path::PathBuf),
    /// Certificates that a CA of the system signed.
    System,
    /// Nothing is sent over such a connection: it only shows the certificate.
    LookOnly,
}

/// The certificate that the server showed last, trusted or not.
pub type Shown = Arc<Mutex<Option<Thumbprint>>>;

pub fn connector(trust: &Trust, shown: Shown) -> anyhow::Result<TlsConnector> {
    let provider = Arc::new(ring::default_provider());
    let inner = match trust {
        Trust::Pinned(_) | Trust::LookOnly => None,
        Trust::Ca(path) => Some(roots_of(path, &provider)?),
        Trust::System => {
            let path = SYSTEM_ROOTS.iter().map(Path::new).find(|p| p.exists());
            let path = path.ok_or_else(|| {
                anyhow::anyhow!("no certificates of the system are found; set thumbprint or ca in [vcenter]")
            })?;
            Some(roots_of(path, &provider)?)
        }
    };
    let pin = if let Trust::Pinned(pin) = trust { Some(*pin) } else { None };
    let verifier = Verifier { pin, inner, shown, provider: provider.clone() };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn roots_of(path: &Path, provider: &Arc<CryptoProvider>) -> anyhow::Result<Arc<WebPkiServerVerifier>> {
    let name = path.display();
    let size = std::fs::metadata(path).map_err(|e| anyhow::anyhow!("{name}: {e}"))?.len();
    anyhow::ensure!(
        size <= ROOTS_BYTES_MAX,
        "{name}: the file is longer than {ROOTS_BYTES_MAX} bytes, which is no file of certificates"
    );
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|e| anyhow::anyhow!("{name}: {e}"))?;
    roots.add_parsable_certificates(certificates.filter_map(Result::ok));
    anyhow::ensure!(!roots.is_empty(), "{name}: the file contains no CA certificate");
    Ok(WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?)
}

#[derive(Debug)]
struct Verifier {
    pin: Option<Thumbprint>,
    inner: Option<Arc<WebPkiServerVerifier>>,
    shown: Shown,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let seen = Thumbprint::of(end_entity);
        *self.shown.lock() = Some(seen);
        match (&self.pin, &self.inner) {
            (Some(pin), _) if *pin != seen => Err(Error::General("the certificate is not the pinned one".into())),
            (None, Some(inner)) => inner.verify_server_cert(end_entity, intermediates, name, ocsp, now),
            (Some(_), _) | (None, None) => Ok(ServerCertVerified::assertion()),
        }
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thumbprint_is_read_as_it_is_written() {
        let t = Thumbprint(std::array::from_fn(|i| i as u8 * 7));
        assert_eq!(t.to_string().parse::<Thumbprint>().unwrap(), t);
        assert_eq!(t.to_string().to_lowercase().replace(':', "").parse::<Thumbprint>().unwrap(), t);
        for bad in ["", "AA:BB", &"zz".repeat(32), &"é".repeat(32)] {
            assert!(bad.parse::<Thumbprint>().is_err(), "{bad}");
        }
        let sha1 = "AA:".repeat(20).parse::<Thumbprint>().unwrap_err().to_string();
        assert!(sha1.contains("SHA-1"), "{sha1}");
    }
}
