//! TLS between nodes, and for the one call by which a new host gets the cluster's key.
//!
//! All nodes of a cluster derive one Ed25519 key pair, and a certificate of it, from the cluster's key; each side
//! accepts exactly that certificate, and while the key is changed that of the other accepted key, and proves in the TLS 1.3
//! handshake that it holds the private key. Without the cluster's key nobody can connect, nor read, replay or change the
//! traffic; session keys are ephemeral, so a key that leaks later opens no recorded traffic. This module is the only one that
//! names rustls for node traffic.

use crate::keys::Keys;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::io;
use std::sync::Arc;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{self, CryptoProvider};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::{
    version, CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The name in every certificate; certificates are compared whole, so it distinguishes nothing.
pub(crate) const NAME: &str = "trivet";

/// The certificates with which the nodes of a cluster connect and accept.
#[derive(Clone)]
pub struct Tls {
    connector: TlsConnector,
    acceptor: TlsAcceptor,
}

impl Tls {
    /// Shows the certificate of the key in use, and believes those of all accepted keys.
    ///
    /// # Errors
    /// If the TLS library refuses a derived key, which no input causes.
    pub fn of_cluster(keys: &Keys) -> io::Result<Tls> {
        let (certificate, private) = of_nodes(keys.in_use())?;
        let accepted: io::Result<Vec<_>> = keys.accepted().map(|key| Ok(of_nodes(key)?.0)).collect();
        let expected = Expected::OneOf(accepted?);
        let provider = Arc::new(crypto::ring::default_provider());
        let verifier = Arc::new(Verifier { expected, provider: provider.clone() });
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&version::TLS13])
            .map_err(io::Error::other)?
            .with_client_cert_verifier(verifier.clone())
            .with_single_cert(vec![certificate.clone()], private.clone_key())
            .map_err(io::Error::other)?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(vec![certificate], private)
            .map_err(io::Error::other)?;
        Ok(Tls { connector: Arc::new(client).into(), acceptor: Arc::new(server).into() })
    }

    /// For ports that make their own streams.
    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        self.acceptor.config().clone()
    }

    /// For a client that is no task.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        self.connector.config().clone()
    }

    /// # Errors
    /// If the peer breaks off, does not speak TLS, or does not know the cluster's key.
    pub async fn connect<S>(&self, stream: S) -> io::Result<tokio_rustls::client::TlsStream<S>>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        self.connector.connect(name(), stream).await
    }

    /// # Errors
    /// As for `connect`.
    pub async fn accept<S>(&self, stream: S) -> io::Result<tokio_rustls::server::TlsStream<S>>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        self.acceptor.accept(stream).await
    }
}

/// A server with a key pair of its own, made for one invitation: the acceptor, and the SHA-256 of its certificate.
///
/// # Errors
/// If the TLS library refuses the key, which no input causes.
pub fn invitation() -> io::Result<(TlsAcceptor, [u8; 32])> {
    let (certificate, private) = certificate(&crate::rpc::random::<32>())?;
    let fingerprint = Sha256::digest(&certificate).into();
    let server = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13])
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], private)
        .map_err(io::Error::other)?;
    Ok((Arc::new(server).into(), fingerprint))
}

/// Connects to the server whose certificate has this SHA-256, and to no other.
///
/// # Errors
/// If the peer breaks off or shows another certificate.
pub async fn connect_pinned<S>(stream: S, fingerprint: [u8; 32]) -> io::Result<tokio_rustls::client::TlsStream<S>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let provider = Arc::new(crypto::ring::default_provider());
    let verifier = Arc::new(Verifier { expected: Expected::Fingerprint(fingerprint), provider: provider.clone() });
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(client)).connect(name(), stream).await
}

pub(crate) fn name() -> ServerName<'static> {
    ServerName::try_from(NAME).expect("a constant that is a DNS name")
}

/// Certificate and private key that all nodes derive from the cluster's key.
///
/// # Errors
/// If the TLS library refuses the derived key, which no input causes.
pub(crate) fn of_nodes(key: &[u8]) -> io::Result<(CertificateDer<'static>, PrivateKeyDer<'static>)> {
    certificate(&seed(key))
}

/// The seed of the node key pair. A label of its own keeps it apart from the proofs that the same key makes.
fn seed(key: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length of key will do");
    mac.update(b"trivet: key pair of the nodes, 1");
    mac.finalize().into_bytes().into()
}

/// Key pair and self-signed certificate of an Ed25519 seed; the same bytes on every node for the same seed.
fn certificate(seed: &[u8; 32]) -> io::Result<(CertificateDer<'static>, PrivateKeyDer<'static>)> {
    //= RFC 8410 section 7: PrivateKeyInfo, version 1, of an Ed25519 seed
    const HEAD: [u8; 16] =
        [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    let der = PrivatePkcs8KeyDer::from([&HEAD[..], seed].concat());
    let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519).map_err(io::Error::other)?;
    let mut params = rcgen::CertificateParams::new(vec![NAME.to_string()]).map_err(io::Error::other)?;
    params.serial_number = Some(1.into());
    let certificate = params.self_signed(&pair).map_err(io::Error::other)?;
    Ok((certificate.der().clone(), PrivateKeyDer::Pkcs8(der)))
}

#[derive(Debug)]
enum Expected {
    OneOf(Vec<CertificateDer<'static>>),
    /// SHA-256 of the certificate.
    Fingerprint([u8; 32]),
}

/// Accepts the certificates that it expects, and checks by the handshake's signature that the peer holds its private key.
#[derive(Debug)]
struct Verifier {
    expected: Expected,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn check(&self, shown: &CertificateDer<'_>) -> Result<(), Error> {
        let same = match &self.expected {
            Expected::OneOf(accepted) => accepted.iter().any(|certificate| certificate.as_ref() == shown.as_ref()),
            Expected::Fingerprint(fingerprint) => Sha256::digest(shown)[..] == fingerprint[..],
        };
        // The alert says nothing but "bad certificate" to the peer.
        same.then_some(()).ok_or(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }
}

/// Nodes offer TLS 1.3 alone, so a signature of an older version cannot come; it is refused all the same.
fn only_tls13() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::General("nodes speak TLS 1.3 only".into()))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity).map(|()| ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        only_tls13()
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, certificate, signed)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity).map(|()| ClientCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        only_tls13()
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, certificate, signed)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn met(client: &Tls, server: &Tls) -> (bool, bool) {
        let (near, far) = tokio::io::duplex(64 << 10);
        // In TLS 1.3 the client is done before the server has judged its certificate: only an answer proves both.
        let call = async {
            let mut stream = client.connect(near).await?;
            stream.write_all(b"?").await?;
            stream.flush().await?;
            stream.read_u8().await
        };
        let answer = async {
            let mut stream = server.accept(far).await?;
            stream.read_u8().await?;
            stream.write_all(b"!").await?;
            stream.flush().await
        };
        let (a, b) = tokio::join!(call, answer);
        (a.is_ok(), b.is_ok())
    }

    #[test]
    fn a_key_makes_the_same_certificate_on_every_node() {
        assert_eq!(certificate(&seed(&[1; 32])).unwrap().0, certificate(&seed(&[1; 32])).unwrap().0);
        assert_ne!(certificate(&seed(&[1; 32])).unwrap().0, certificate(&seed(&[2; 32])).unwrap().0);
    }

    #[tokio::test]
    async fn nodes_of_one_key_meet_and_others_do_not() {
        let [a, b, other] = [1, 1, 2].map(|key| Tls::of_cluster(&Keys::of(&[key; 32])).unwrap());
        assert_eq!(met(&a, &b).await, (true, true));
        assert_eq!(met(&other, &b).await, (false, false));
        assert_eq!(met(&a, &other).await, (false, false));
    }

    #[tokio::test]
    async fn a_client_without_a_certificate_is_refused() {
        let server = Tls::of_cluster(&Keys::of(&[1; 32])).unwrap();
        let (near, far) = tokio::io::duplex(64 << 10);
        let fingerprint: [u8; 32] = Sha256::digest(certificate(&seed(&[1; 32])).unwrap().0).into();
        let stranger = async {
            let mut stream = connect_pinned(near, fingerprint).await?;
            stream.read_u8().await
        };
        let (stranger, server) = tokio::join!(stranger, server.accept(far));
        assert!(stranger.is_err() && server.is_err());
    }

    #[tokio::test]
    async fn an_invitation_is_answered_by_its_own_certificate_alone() {
        for (flip, expected) in [(0u8, true), (1, false)] {
            let (acceptor, mut fingerprint) = invitation().unwrap();
            fingerprint[0] ^= flip;
            let (near, far) = tokio::io::duplex(64 << 10);
            let (client, _) = tokio::join!(connect_pinned(near, fingerprint), acceptor.accept(far));
            assert_eq!(client.is_ok(), expected);
        }
    }
}
