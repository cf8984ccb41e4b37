//! The hash of the digest ACL scheme (`DigestAuthenticationProvider.digestAlg`).

use base64::Engine as _;
use sha2::Digest;

/// A hash that ids of the digest scheme may have; SHA-1 is Apache's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PasswordHash {
    /// MD5, 16 bytes.
    Md5,
    /// SHA-1, 20 bytes.
    #[default]
    Sha1,
    /// SHA-224, 28 bytes.
    Sha224,
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-384, 48 bytes.
    Sha384,
    /// SHA-512, 64 bytes.
    Sha512,
}

impl PasswordHash {
    /// By the name that Java's `MessageDigest` takes. None for one that is unknown here.
    pub fn of_java(name: &str) -> Option<PasswordHash> {
        Some(match name.to_ascii_uppercase().as_str() {
            "MD5" => PasswordHash::Md5,
            "SHA" | "SHA1" | "SHA-1" => PasswordHash::Sha1,
            "SHA-224" => PasswordHash::Sha224,
            "SHA-256" => PasswordHash::Sha256,
            "SHA-384" => PasswordHash::Sha384,
            "SHA-512" => PasswordHash::Sha512,
            _ => return None,
        })
    }

    /// The id of `user:password`: `user:` and the hash of both in base64.
    pub fn id(self, user_and_password: &str) -> String {
        let user = user_and_password.split(':').next().unwrap_or_default();
        let b = user_and_password.as_bytes();
        let hash = match self {
            PasswordHash::Md5 => md5::Md5::digest(b).to_vec(),
            PasswordHash::Sha1 => sha1::Sha1::digest(b).to_vec(),
            PasswordHash::Sha224 => sha2::Sha224::digest(b).to_vec(),
            PasswordHash::Sha256 => sha2::Sha256::digest(b).to_vec(),
            PasswordHash::Sha384 => sha2::Sha384::digest(b).to_vec(),
            PasswordHash::Sha512 => sha2::Sha512::digest(b).to_vec(),
        };
        format!("{user}:{}", base64::engine::general_purpose::STANDARD.encode(hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_javas() {
        // Printed by DigestAuthenticationProvider for super:test; the others by `printf super:test | openssl dgst`.
        assert_eq!(PasswordHash::Sha1.id("super:test"), "super:D/InIHSb7yEEbrWz8b9l71RjZJU=");
        let sha256 = PasswordHash::of_java("sha-256").unwrap();
        assert_eq!(sha256.id("super:test"), "super:wjySwxg860UATFtciuZ1lpzrCHrPeov6SPu/ZD56uig=");
        assert_eq!(PasswordHash::of_java("SHA3-256"), None);
    }
}
