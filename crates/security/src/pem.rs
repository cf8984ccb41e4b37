//! PEM: certificates and keys as text, one file with a key and its chain, or with certificates to trust.

use crate::store::{Key, Store, StoreError};
use base64::Engine as _;

/// Blocks of a file; a file with more is refused.
const BLOCKS_MAX: usize = 10_000;

/// Labels and contents of all blocks, in order.
///
/// # Errors
/// If a block does not end, or is no base64.
pub fn blocks(file: &[u8]) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let text = String::from_utf8_lossy(file);
    let mut out = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines().map(str::trim) {
        match &mut open {
            None => {
                let label = line.strip_prefix("-----BEGIN ").and_then(|l| l.strip_suffix("-----"));
                open = label.map(|l| (l.to_string(), String::new()));
            }
            Some((label, body)) => {
                if line.strip_prefix("-----END ").and_then(|l| l.strip_suffix("-----")) == Some(label) {
                    let bytes = base64::engine::general_purpose::STANDARD.decode(&body);
                    let bytes = bytes.map_err(|_| StoreError::Damaged("a PEM block is not base64"))?;
                    out.push((std::mem::take(label), bytes));
                    open = None;
                    if out.len() > BLOCKS_MAX {
                        return Err(StoreError::Damaged("it has more PEM blocks than any store"));
                    }
                } else if line.contains(':') {
                    // Traditional OpenSSL encryption, which Java cannot read either.
                    if line.starts_with("Proc-Type") {
                        return Err(StoreError::OldPemEncryption);
                    }
                } else {
                    body.push_str(line);
                }
            }
        }
    }
    if open.is_some() {
        return Err(StoreError::Damaged("a PEM block has no end"));
    }
    Ok(out)
}

/// Reads a file of PEM blocks. Its certificates are the chain of its key, if it has one, or are trusted.
///
/// # Errors
/// If it has neither, a block is damaged, or the password does not open the key.
pub fn read(file: &[u8], password: &str) -> Result<Store, StoreError> {
    let mut certificates = Vec::new();
    let mut key = None;
    for (label, bytes) in blocks(file)? {
        match label.as_str() {
            "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE" => certificates.push(bytes),
            "PRIVATE KEY" => key = Some((bytes, Form::Pkcs8)),
            "RSA PRIVATE KEY" => key = Some((bytes, Form::Pkcs1)),
            "EC PRIVATE KEY" => key = Some((bytes, Form::Sec1)),
            "ENCRYPTED PRIVATE KEY" => key = Some((crate::pbe::open_key(&bytes, password)?, Form::Pkcs8)),
            _ => {}
        }
    }
    if certificates.is_empty() && key.is_none() {
        return Err(StoreError::NotOfKind("PEM"));
    }
    Ok(match key {
        Some((der, form)) => {
            let pkcs8 = match form {
                Form::Pkcs8 => der,
                Form::Pkcs1 | Form::Sec1 => return Err(StoreError::KeyForm),
            };
            Store { keys: vec![Key { alias: "pem".into(), pkcs8, chain: certificates }], ..Store::default() }
        }
        None => Store { trusted: certificates, ..Store::default() },
    })
}

enum Form {
    Pkcs8,
    Pkcs1,
    Sec1,
}
