//! Which file is which kind of store.

use crate::store::{Store, StoreError};

/// The form of a store's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text with base64 blocks: certificates, and a key in PKCS #8.
    Pem,
    /// PKCS #12 (RFC 7292).
    Pkcs12,
    /// JKS, Java's own format before PKCS #12.
    Jks,
}

impl Kind {
    /// By `keyStore.type`, or else by the ending of the file's name.
    //= zookeeper 3.9 KeyStoreFileType.fromPropertyValueOrFileName
    ///
    /// # Errors
    /// If neither names a kind that is read here.
    pub fn of(kind: &str, file_name: &str) -> Result<Kind, StoreError> {
        let ending = file_name.rsplit_once('.').map_or("", |(_, e)| e).to_lowercase();
        match (kind.to_ascii_uppercase().as_str(), ending.as_str()) {
            ("PEM", _) | ("", "pem") => Ok(Kind::Pem),
            ("PKCS12", _) | ("", "p12") => Ok(Kind::Pkcs12),
            ("JKS", _) | ("", "jks") => Ok(Kind::Jks),
            ("BCFKS", _) | ("", "bcfks") => Err(StoreError::Bcfks),
            ("", _) => Err(StoreError::UnknownKind),
            (other, _) => Err(StoreError::BadKind(other.to_string())),
        }
    }
}

impl Store {
    /// Reads a store of a known kind.
    ///
    /// # Errors
    /// If the file is of another kind or damaged, or the password is wrong.
    pub fn read(kind: Kind, file: &[u8], password: &str) -> Result<Store, StoreError> {
        // Java takes either binary form under either name: `keytool` has made PKCS12 of every NAME.jks since Java 9.
        let is_jks = file.starts_with(&[0xfe, 0xed]) || file.starts_with(&[0xce, 0xce]);
        match kind {
            Kind::Pem => crate::pem::read(file, password),
            Kind::Pkcs12 | Kind::Jks if is_jks => crate::jks::read(file, password),
            Kind::Jks if file.first() != Some(&crate::der::tag::SEQUENCE) => Err(StoreError::NotOfKind("JKS")),
            Kind::Pkcs12 | Kind::Jks => crate::pkcs12::read(file, password),
        }
    }
}
