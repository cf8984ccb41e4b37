//! Encryption by password, as key stores and encrypted keys use it: PBES2 of PKCS #5, and the older schemes of PKCS #12
//! that Java wrote before version 16.

use crate::der::{oid_text, tag, Elements, Malformed};
use cbc::cipher::{block_padding::Pkcs7, BlockModeDecrypt, KeyIvInit};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};

/// Rounds of a key derivation; a file that asks for more is refused. Java's own limit.
pub const ROUNDS_MAX: u32 = 5_000_000;

/// Why something encrypted could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PbeError {
    /// Its description is no DER of the expected shape.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The padding or the MAC does not fit, which a wrong password looks like.
    #[error("the password is wrong, or the file is damaged")]
    Password,
    /// The object identifier of a scheme, cipher or hash that is not read here.
    #[error("its encryption {0} is not supported; `openssl pkcs12 -export` and `keytool -importkeystore` of Java 17 write a supported one")]
    Unsupported(String),
    /// The store asks for this many rounds: more than [`ROUNDS_MAX`], or none.
    #[error("it asks for {0} rounds of key derivation; the limit is {ROUNDS_MAX}")]
    Rounds(u32),
}

fn rounds(n: u32) -> Result<u32, PbeError> {
    if (1..=ROUNDS_MAX).contains(&n) {
        Ok(n)
    } else {
        Err(PbeError::Rounds(n))
    }
}

/// Decrypts by an AlgorithmIdentifier (its content).
///
/// # Errors
/// If the scheme is unknown or malformed, or the password does not fit.
pub fn decrypt(algorithm: &[u8], password: &str, data: &[u8]) -> Result<Vec<u8>, PbeError> {
    let mut a = Elements::new(algorithm);
    let oid = oid_text(a.take(tag::OID)?)?;
    let mut p = a.within(tag::SEQUENCE)?;
    if oid == "1.2.840.113549.1.5.13" {
        return pbes2(p, password, data);
    }
    let (key_bytes, bits) = match oid.as_str() {
        "1.2.840.113549.1.12.1.3" => (24, 0),
        "1.2.840.113549.1.12.1.4" => (16, 0),
        "1.2.840.113549.1.12.1.5" => (16, 128),
        "1.2.840.113549.1.12.1.6" => (5, 40),
        _ => return Err(PbeError::Unsupported(oid)),
    };
    let salt = p.take(tag::OCTET_STRING)?;
    let rounds = rounds(p.number()?)?;
    let password = bmp(password);
    let mut key = derive::<Sha1, 20, 64>(1, &password, salt, rounds, key_bytes);
    let iv = derive::<Sha1, 20, 64>(2, &password, salt, rounds, 8);
    if bits == 0 {
        if key.len() == 16 {
            // Two keys: the first one is the third as well.
            let first = key[..8].to_vec();
            key.extend(first);
        }
        return open::<cbc::Decryptor<des::TdesEde3>>(&key, &iv, data);
    }
    let cipher = rc2::Rc2::new_with_eff_key_len(&key, bits);
    let decryptor = <cbc::Decryptor<rc2::Rc2> as cbc::cipher::InnerIvInit>::inner_iv_slice_init(cipher, &iv);
    let decryptor = decryptor.map_err(|_| Malformed)?;
    decryptor.decrypt_padded_vec::<Pkcs7>(data).map_err(|_| PbeError::Password)
}

fn pbes2(mut p: Elements<'_>, password: &str, data: &[u8]) -> Result<Vec<u8>, PbeError> {
    let mut kdf = p.within(tag::SEQUENCE)?;
    let mut scheme = p.within(tag::SEQUENCE)?;
    let kdf_oid = oid_text(kdf.take(tag::OID)?)?;
    if kdf_oid != "1.2.840.113549.1.5.12" {
        return Err(PbeError::Unsupported(kdf_oid));
    }
    let mut kdf = kdf.within(tag::SEQUENCE)?;
    let salt = kdf.take(tag::OCTET_STRING)?;
    let rounds = rounds(kdf.number()?)?;
    if kdf.peek() == Some(tag::INTEGER) {
        kdf.number()?;
    }
    let prf = match kdf.peek() {
        Some(tag::SEQUENCE) => oid_text(kdf.within(tag::SEQUENCE)?.take(tag::OID)?)?,
        _ => "1.2.840.113549.2.7".into(),
    };
    let cipher = oid_text(scheme.take(tag::OID)?)?;
    let iv = scheme.take(tag::OCTET_STRING)?;
    let key_bytes = match cipher.as_str() {
        "2.16.840.1.101.3.4.1.2" => 16,
        "2.16.840.1.101.3.4.1.22" | "1.2.840.113549.3.7" => 24,
        "2.16.840.1.101.3.4.1.42" => 32,
        _ => return Err(PbeError::Unsupported(cipher)),
    };
    let mut key = vec![0; key_bytes];
    let derived = match prf.as_str() {
        "1.2.840.113549.2.7" => pbkdf2::pbkdf2::<Hmac<Sha1>>(password.as_bytes(), salt, rounds, &mut key),
        "1.2.840.113549.2.9" => pbkdf2::pbkdf2::<Hmac<Sha256>>(password.as_bytes(), salt, rounds, &mut key),
        "1.2.840.113549.2.10" => pbkdf2::pbkdf2::<Hmac<Sha384>>(password.as_bytes(), salt, rounds, &mut key),
        "1.2.840.113549.2.11" => pbkdf2::pbkdf2::<Hmac<Sha512>>(password.as_bytes(), salt, rounds, &mut key),
        _ => return Err(PbeError::Unsupported(prf)),
    };
    derived.map_err(|_| Malformed)?;
    match cipher.as_str() {
        "2.16.840.1.101.3.4.1.2" => open::<cbc::Decryptor<aes::Aes128>>(&key, iv, data),
        "2.16.840.1.101.3.4.1.22" => open::<cbc::Decryptor<aes::Aes192>>(&key, iv, data),
        "2.16.840.1.101.3.4.1.42" => open::<cbc::Decryptor<aes::Aes256>>(&key, iv, data),
        _ => open::<cbc::Decryptor<des::TdesEde3>>(&key, iv, data),
    }
}

fn open<D: KeyIvInit + BlockModeDecrypt>(key: &[u8], iv: &[u8], data: &[u8]) -> Result<Vec<u8>, PbeError> {
    let decryptor = D::new_from_slices(key, iv).map_err(|_| Malformed)?;
    decryptor.decrypt_padded_vec::<Pkcs7>(data).map_err(|_| PbeError::Password)
}

/// A password as PKCS #12 hashes it: UTF-16, with a zero behind it.
pub fn bmp(password: &str) -> Vec<u8> {
    password.encode_utf16().chain([0]).flat_map(u16::to_be_bytes).collect()
}

/// Derives bytes for a purpose (1 key, 2 initialization vector, 3 key of a MAC).
//= RFC 7292 appendix B.2
fn derive<D: Digest, const U: usize, const V: usize>(
    purpose: u8,
    password: &[u8],
    salt: &[u8],
    rounds: u32,
    bytes: usize,
) -> Vec<u8> {
    let filled =
        |source: &[u8]| -> Vec<u8> { source.iter().copied().cycle().take(source.len().div_ceil(V) * V).collect() };
    let mut input = [filled(salt), filled(password)].concat();
    let mut out = Vec::with_capacity(bytes + U);
    loop {
        let mut a = D::new().chain_update([purpose; V]).chain_update(&input).finalize().to_vec();
        for _ in 1..rounds {
            a = D::digest(&a).to_vec();
        }
        out.extend_from_slice(&a);
        if out.len() >= bytes {
            out.truncate(bytes);
            return out;
        }
        let b: Vec<u8> = a.iter().copied().cycle().take(V).collect();
        for block in input.chunks_exact_mut(V) {
            let mut carry = 1u16;
            for (x, y) in block.iter_mut().zip(&b).rev() {
                carry += u16::from(*x) + u16::from(*y);
                *x = carry as u8;
                carry >>= 8;
            }
        }
    }
}

/// Whether a PKCS #12 file's MAC fits its content. `digest` is the object identifier of its hash.
///
/// # Errors
/// If the hash is unknown, the rounds are too many, or the MAC does not fit.
pub fn check_mac(
    digest: &str,
    password: &str,
    salt: &[u8],
    n: u32,
    content: &[u8],
    mac: &[u8],
) -> Result<(), PbeError> {
    let n = rounds(n)?;
    let password = bmp(password);
    let fits = match digest {
        "1.3.14.3.2.26" => {
            let key = derive::<Sha1, 20, 64>(3, &password, salt, n, 20);
            Hmac::<Sha1>::new_from_slice(&key).expect("any length").chain_update(content).verify_slice(mac)
        }
        "2.16.840.1.101.3.4.2.1" => {
            let key = derive::<Sha256, 32, 64>(3, &password, salt, n, 32);
            Hmac::<Sha256>::new_from_slice(&key).expect("any length").chain_update(content).verify_slice(mac)
        }
        "2.16.840.1.101.3.4.2.3" => {
            let key = derive::<Sha512, 64, 128>(3, &password, salt, n, 64);
            Hmac::<Sha512>::new_from_slice(&key).expect("any length").chain_update(content).verify_slice(mac)
        }
        _ => return Err(PbeError::Unsupported(format!("(MAC) {digest}"))),
    };
    fits.map_err(|_| PbeError::Password)
}

/// Opens an EncryptedPrivateKeyInfo; what is inside is a PrivateKeyInfo (PKCS #8).
///
/// # Errors
/// As for `decrypt`.
pub fn open_key(encrypted: &[u8], password: &str) -> Result<Vec<u8>, PbeError> {
    let mut info = Elements::new(encrypted).within(tag::SEQUENCE)?;
    let algorithm = info.take(tag::SEQUENCE)?;
    let key = decrypt(algorithm, password, info.take(tag::OCTET_STRING)?)?;
    // A padding that fits by chance (1 of 256) has no key in it.
    if Elements::new(&key).within(tag::SEQUENCE).is_err() {
        Err(PbeError::Password)
    } else {
        Ok(key)
    }
}
