//! A key store, whatever file it came from.

use crate::der::Malformed;
use crate::pbe::PbeError;

/// A private key and the certificates that go with it, its own first.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// Name of the entry in the store.
    pub alias: String,
    /// The key as a PrivateKeyInfo, in DER and not encrypted.
    pub pkcs8: Vec<u8>,
    /// Certificates in DER, that of the key first.
    pub chain: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key itself must not get into a log.
        write!(f, "Key({}, {} certificates)", self.alias, self.chain.len())
    }
}

/// The content of a key store of any kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Store {
    /// Private keys.
    pub keys: Vec<Key>,
    /// Trusted certificates, in DER.
    pub trusted: Vec<Vec<u8>>,
    /// Certificates of a PKCS12 file that Java would neither trust nor show: the mark of `keytool -importcert` is missing.
    pub unmarked: usize,
}

/// Why a store cannot be used; the text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The file's format is not the one that the setting or its name says.
    #[error("it is not a {0} store")]
    NotOfKind(&'static str),
    /// The file contradicts its form, in this way.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// The MAC or the encryption of the store does not fit the password.
    #[error("the password is wrong, or the file is damaged")]
    Password,
    /// The store opens and its key does not: the key has a password of its own.
    #[error("the store's password does not open its key; `keytool -keypasswd` gives the key the same one")]
    KeyPassword,
    /// A PKCS #12 file without a MAC.
    #[error("it has no MAC, so that nobody can tell whether it was changed; `openssl pkcs12 -export` makes one")]
    NoMac,
    /// A PEM key in the form of PKCS #1 or SEC 1.
    #[error("its key has the form of PKCS #1 or SEC 1; `openssl pkcs8 -topk8 -nocrypt -in FILE` makes PKCS #8 of it, which ZooKeeper wants")]
    KeyForm,
    /// A PEM key with the header `Proc-Type`, OpenSSL's old encryption.
    #[error("its key has OpenSSL's old encryption; `openssl pkcs8 -topk8 -in FILE` makes PKCS #8 of it, which ZooKeeper wants")]
    OldPemEncryption,
    /// A store of Java's JCE.
    #[error("it is a JCEKS store; `keytool -importkeystore -srckeystore FILE -srcstoretype JCEKS -destkeystore NEW.p12 -deststoretype PKCS12` converts it")]
    Jceks,
    /// A store of Bouncy Castle's FIPS provider.
    #[error("BCFKS stores are not supported; `keytool -importkeystore -srckeystore FILE -srcstoretype BCFKS -providerclass org.bouncycastle.jcajce.provider.BouncyCastleFipsProvider -destkeystore NEW.p12 -deststoretype PKCS12` converts one")]
    Bcfks,
    /// Neither the setting nor the ending of the name tells the kind.
    #[error(
        "its kind is unknown: the name ends in none of .jks, .pem and .p12; the setting that ends in .type says it"
    )]
    UnknownKind,
    /// The setting names this kind, which is none.
    #[error("there is no kind of stores with the name {0}; PEM, PKCS12 and JKS are read")]
    BadKind(String),
    /// Its DER is not well formed.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Something encrypted in it could not be opened.
    #[error(transparent)]
    Encryption(#[from] PbeError),
}
