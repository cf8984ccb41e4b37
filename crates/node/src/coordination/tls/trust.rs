//! Whom to trust: the certificates of a trust store, and what they have signed.

use super::ClientAuth;
use std::sync::Arc;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::{self, CryptoProvider};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};
use trivet_security::x509::Certificate;

#[derive(Debug)]
pub(super) struct Trust {
    anchors: Vec<Vec<u8>>,
    roots: Arc<RootCertStore>,
    /// None where no anchor can have signed anything.
    chains: Option<Arc<dyn ClientCertVerifier>>,
    hints: Vec<DistinguishedName>,
    provider: Arc<CryptoProvider>,
    client_auth: ClientAuth,
}

impl Trust {
    /// # Errors
    /// If callers have to show a certificate and none could be trusted.
    pub(super) fn new(
        anchors: Vec<Vec<u8>>,
        provider: Arc<CryptoProvider>,
        client_auth: ClientAuth,
    ) -> Result<Trust, String> {
        if anchors.is_empty() && client_auth != ClientAuth::None {
            return Err(
                "without a trust store no caller's certificate could be checked; name one, or set clientAuth=none"
                    .into(),
            );
        }
        let mut roots = RootCertStore::empty();
        // A certificate that cannot sign is compared whole all the same.
        roots.add_parsable_certificates(anchors.iter().cloned().map(CertificateDer::from));
        let hints = roots.subjects();
        let roots = Arc::new(roots);
        let chains = match roots.is_empty() {
            true => None,
            false => {
                let built = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build();
                Some(built.map_err(|e| e.to_string())?)
            }
        };
        Ok(Trust { anchors, roots, chains, hints, provider, client_auth })
    }

    /// Whether the certificate stands in the trust store itself, and is valid now.
    fn stands_there(&self, shown: &CertificateDer<'_>, now: UnixTime) -> Result<bool, Error> {
        if !self.anchors.iter().any(|a| a[..] == shown[..]) {
            return Ok(false);
        }
        let parsed = Certificate::parse(shown).map_err(|_| CertificateError::BadEncoding)?;
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now < parsed.not_before {
            return Err(CertificateError::NotValidYet.into());
        }
        if now > parsed.not_after {
            return Err(CertificateError::Expired.into());
        }
        Ok(true)
    }
}

impl ServerCertVerifier for Trust {
    /// The name is compared after the handshake (`Context::connect`).
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.stands_there(end_entity, now)? {
            let parsed = ParsedCertificate::try_from(end_entity)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        }
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Trust {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }
    fn client_auth_mandatory(&self) -> bool {
        self.client_auth == ClientAuth::Need
    }
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match &self.chains {
            _ if self.stands_there(end_entity, now)? => Ok(ClientCertVerified::assertion()),
            Some(chains) => chains.verify_client_cert(end_entity, intermediates, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
