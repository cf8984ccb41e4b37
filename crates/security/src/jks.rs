//! JKS, the key stores that `keytool` made before Java 9. (JCEKS, its relative, is refused.)
//!
//! Layout: magic, version, entries (private keys with their chains, trusted certificates), and SHA-1 over the password, a
//! constant phrase and all of it. Each key is XORed with a stream of SHA-1 made of the password, and has a check sum.
//= OpenJDK JavaKeyStore.java, KeyProtector.java

use crate::der::{tag, Elements};
use crate::store::{Key, Store, StoreError};
use sha1::{Digest, Sha1};

const MAGIC: u32 = 0xfeed_feed;
const MAGIC_JCEKS: u32 = 0xcece_cece;
const PHRASE: &[u8] = b"Mighty Aphrodite";
/// Entries of a store, and certificates of a chain; a store with more is refused.
const ENTRIES_MAX: u32 = 10_000;
const DIGEST_BYTES: usize = 20;

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], StoreError> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(StoreError::Damaged("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }
    fn u32(&mut self) -> Result<u32, StoreError> {
        self.take(4).map(|b| u32::from_be_bytes(b.try_into().expect("4 bytes")))
    }
    fn text(&mut self) -> Result<String, StoreError> {
        let n = self.take(2)?;
        let n = usize::from(u16::from_be_bytes([n[0], n[1]]));
        Ok(String::from_utf8_lossy(self.take(n)?).into_owned())
    }
    fn block(&mut self) -> Result<&'a [u8], StoreError> {
        let n = self.u32()?;
        self.take(n as usize)
    }
    fn certificate(&mut self, version: u32) -> Result<Vec<u8>, StoreError> {
        if version == 2 {
            let kind = self.text()?;
            if kind != "X.509" {
                return Err(StoreError::Damaged("it has a certificate that is not X.509"));
            }
        }
        self.block().map(<[u8]>::to_vec)
    }
}

/// Reads a JKS store; its password opens the keys, too.
///
/// # Errors
/// If it is no JKS store, damaged, or the password is wrong.
pub fn read(file: &[u8], password: &str) -> Result<Store, StoreError> {
    let mut b = Bytes(file);
    match b.u32()? {
        MAGIC => {}
        MAGIC_JCEKS => return Err(StoreError::Jceks),
        _ => return Err(StoreError::NotOfKind("JKS")),
    }
    let version = b.u32()?;
    if !(1..=2).contains(&version) {
        return Err(StoreError::Damaged("its version is unknown"));
    }
    let body = file.len().checked_sub(DIGEST_BYTES).ok_or(StoreError::Damaged("it ends too early"))?;
    let password: Vec<u8> = password.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let digest = Sha1::new().chain_update(&password).chain_update(PHRASE).chain_update(&file[..body]).finalize();
    if digest[..] != file[body..] {
        return Err(StoreError::Password);
    }
    b.0 = &b.0[..b.0.len() - DIGEST_BYTES];
    let mut store = Store::default();
    let entries = b.u32()?;
    if entries > ENTRIES_MAX {
        return Err(StoreError::Damaged("it has more entries than any store"));
    }
    for _ in 0..entries {
        let kind = b.u32()?;
        let alias = b.text()?;
        b.take(8)?;
        match kind {
            1 => {
                let protected = b.block()?;
                let count = b.u32()?;
                if count > ENTRIES_MAX {
                    return Err(StoreError::Damaged("it has a chain that is too long"));
                }
                let chain = (0..count).map(|_| b.certificate(version)).collect::<Result<_, _>>()?;
                store.keys.push(Key { alias, pkcs8: open(protected, &password)?, chain });
            }
            2 => store.trusted.push(b.certificate(version)?),
            _ => return Err(StoreError::Damaged("it has an entry of an unknown kind")),
        }
    }
    if !b.0.is_empty() {
        return Err(StoreError::Damaged("something follows its entries"));
    }
    Ok(store)
}

/// A key: 20 bytes of salt, the key XORed with the stream, and a check sum.
fn open(protected: &[u8], password: &[u8]) -> Result<Vec<u8>, StoreError> {
    let mut info = Elements::new(protected).within(tag::SEQUENCE)?;
    info.take(tag::SEQUENCE)?;
    let sealed = info.take(tag::OCTET_STRING)?;
    let (salt, rest) = sealed.split_at_checked(DIGEST_BYTES).ok_or(StoreError::Damaged("a key is too short"))?;
    let n = rest.len().checked_sub(DIGEST_BYTES).ok_or(StoreError::Damaged("a key is too short"))?;
    let (cipher, check) = rest.split_at(n);
    let mut stream: [u8; DIGEST_BYTES] = salt.try_into().expect("20 bytes");
    let mut key = Vec::with_capacity(n);
    for block in cipher.chunks(DIGEST_BYTES) {
        stream = Sha1::new().chain_update(password).chain_update(stream).finalize().into();
        key.extend(block.iter().zip(stream).map(|(c, s)| c ^ s));
    }
    let digest = Sha1::new().chain_update(password).chain_update(&key).finalize();
    if digest[..] != *check {
        return Err(StoreError::KeyPassword);
    }
    Ok(key)
}
