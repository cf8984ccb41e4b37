//! Readers of Java's key stores, certificates, JAAS files and SASL tokens, without I/O.
//!
//! A site that moves from Apache ZooKeeper brings its key stores (PEM, PKCS12, JKS), its JAAS file and access lists with
//! certificate names in them. These readers take untrusted bytes: they never panic, never allocate more than the bytes at hand
//! justify, and bound the work that a file may ask for.
//!
//! | module | reads |
//! |---|---|
//! | [`store`], [`kind`] | a key store of any kind: begin with [`Kind::of`] and [`Store::read`] |
//! | [`pem`], [`pkcs12`], [`jks`] | the three kinds |
//! | [`x509`] | names and dates of a certificate; signatures are the TLS library's work |
//! | [`jaas`] | login modules and their users |
//! | [`digest_md5`] | SASL tokens, both sides: [`digest_md5::Server`] and [`digest_md5::Client`] |
//! | [`gssapi`] | SASL by Kerberos, around a library, and the ids that principals have |
//! | [`password_hash`] | ids of the digest scheme in access lists |
//! | [`der`], [`pbe`] | the encoding and the encryption below them |

#![warn(missing_docs)]

pub mod der;
pub mod digest_md5;
pub mod gssapi;
pub mod jaas;
pub mod jks;
pub mod kind;
pub mod password_hash;
pub mod pbe;
pub mod pem;
pub mod pkcs12;
pub mod store;
pub mod x509;

pub use digest_md5::Users;
pub use kind::Kind;
pub use password_hash::PasswordHash;
pub use store::{Store, StoreError};

#[cfg(test)]
mod tests;
