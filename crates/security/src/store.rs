//! A key store, whatever file it came from.

use crate::der::Malformed;
use crate::pbe::PbeError;

/// A private key and the certificates that go with it, its own first.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    pub alias: String,
    pub pkcs8: Vec<u8>,
    pub chain: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key itself must not get into a log.
        write!(f, "Key({}, {} certificates)", self.alias, self.chain.len())
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Store {
    pub keys: Vec<Key>,
    pub trusted: Vec<Vec<u8>>,
    /// Certificates of a PKCS12 file that Java would neither trust nor show: the mark of `keytool -importcert` is missing.
    pub unmarked: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("it is not a {0} store")]
    NotOfKind(&'static str),
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    #[error("the password is wrong, or the file is damaged")]
    Password,
    #[error("the store's password does not open its key; `keytool -keypasswd` gives the key the same one")]
    KeyPassword,
    #[error("it has no MAC, so that nobody can tell whether it was changed; `openssl pkcs12 -export` makes one")]
    NoMac,
    #[error("its key has the form of PKCS #1 or SEC 1; `openssl pkcs8 -topk8 -nocrypt -in FILE` makes PKCS #8 of it, which ZooKeeper wants")]
    KeyForm,
    #[error("its key has OpenSSL's old encryption; `openssl pkcs8 -topk8 -in FILE` makes PKCS #8 of it, which ZooKeeper wants")]
    OldPemEncryption,
    #[error("it is a JCEKS store; `keytool -importkeystore -srckeystore FILE -srcstoretype JCEKS -destkeystore NEW.p12 -deststoretype PKCS12` converts it")]
    Jceks,
    #[error("BCFKS stores are not supported; `keytool -importkeystore -srckeystore FILE -srcstoretype BCFKS -providerclass org.bouncycastle.jcajce.provider.BouncyCastleFipsProvider -destkeystore NEW.p12 -deststoretype PKCS12` converts one")]
    Bcfks,
    #[error(
        "its kind is unknown: the name ends in none of .jks, .pem and .p12; the setting that ends in .type says it"
    )]
    UnknownKind,
    #[error("there is no kind of stores with the name {0}; PEM, PKCS12 and JKS are read")]
    BadKind(String),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    Encryption(#[from] PbeError),
}
