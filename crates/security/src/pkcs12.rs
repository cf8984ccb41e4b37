//! PKCS #12: key stores of Java since version 9, of OpenSSL and of Windows.
//!
//! A file is a list of safes, encrypted or not, with bags in them: keys and certificates; a MAC made of the password covers all.
//! A certificate belongs to a key's chain, or is trusted where Java marked it so.
//= RFC 7292; OpenJDK PKCS12KeyStore.java, "trustedKeyUsage"

use crate::der::{oid_text, tag, Elements, Malformed};
use crate::pbe::{check_mac, decrypt, open_key};
use crate::store::{Key, Store, StoreError};
use crate::x509::Certificate;

/// Bags of a file; a file with more is refused.
const BAGS_MAX: usize = 10_000;
const DATA: &str = "1.2.840.113549.1.7.1";
const ENCRYPTED_DATA: &str = "1.2.840.113549.1.7.6";
const KEY_BAG: &str = "1.2.840.113549.1.12.10.1.1";
const SHROUDED_KEY_BAG: &str = "1.2.840.113549.1.12.10.1.2";
const CERTIFICATE_BAG: &str = "1.2.840.113549.1.12.10.1.3";
const FRIENDLY_NAME: &str = "1.2.840.113549.1.9.20";
const LOCAL_KEY_ID: &str = "1.2.840.113549.1.9.21";
const TRUSTED_KEY_USAGE: &str = "2.16.840.1.113894.746875.1.1";

#[derive(Default)]
struct Attributes {
    name: String,
    key_id: Option<Vec<u8>>,
    trusted: bool,
}

#[derive(Default)]
struct Bags {
    keys: Vec<(Attributes, Vec<u8>)>,
    certificates: Vec<(Attributes, Vec<u8>)>,
}

/// Reads a PKCS12 file; one password covers all of it.
///
/// # Errors
/// If it is no PKCS12 file, uses an unknown encryption, or the password is wrong.
pub fn read(file: &[u8], password: &str) -> Result<Store, StoreError> {
    let mut pfx = Elements::new(file).within(tag::SEQUENCE).map_err(|_| StoreError::NotOfKind("PKCS12"))?;
    if pfx.number().map_err(|_| StoreError::NotOfKind("PKCS12"))? != 3 {
        return Err(StoreError::NotOfKind("PKCS12"));
    }
    let mut auth_safe = pfx.within(tag::SEQUENCE)?;
    if oid_text(auth_safe.take(tag::OID)?)? != DATA {
        return Err(StoreError::Damaged("it is protected by a public key, not by a password"));
    }
    let content = auth_safe.within(tag::context(0))?.take(tag::OCTET_STRING)?;
    if pfx.is_empty() {
        return Err(StoreError::NoMac);
    }
    let mut mac_data = pfx.within(tag::SEQUENCE)?;
    let mut digest_info = mac_data.within(tag::SEQUENCE)?;
    let digest = oid_text(digest_info.within(tag::SEQUENCE)?.take(tag::OID)?)?;
    let mac = digest_info.take(tag::OCTET_STRING)?;
    let salt = mac_data.take(tag::OCTET_STRING)?;
    let rounds = if mac_data.is_empty() { 1 } else { mac_data.number()? };
    check_mac(&digest, password, salt, rounds, content, mac)?;
    let mut bags = Bags::default();
    let mut safes = Elements::new(content).within(tag::SEQUENCE)?;
    while !safes.is_empty() {
        let mut safe = safes.within(tag::SEQUENCE)?;
        let kind = oid_text(safe.take(tag::OID)?)?;
        let mut inside = safe.within(tag::context(0))?;
        match kind.as_str() {
            DATA => take_bags(inside.take(tag::OCTET_STRING)?, password, &mut bags)?,
            ENCRYPTED_DATA => {
                let mut data = inside.within(tag::SEQUENCE)?;
                data.number()?;
                let mut info = data.within(tag::SEQUENCE)?;
                info.take(tag::OID)?;
                let algorithm = info.take(tag::SEQUENCE)?;
                let opened = decrypt(algorithm, password, info.take(tag::context_primitive(0))?)?;
                take_bags(&opened, password, &mut bags)?;
            }
            _ => return Err(StoreError::Damaged("a part of it is protected by a public key, not by a password")),
        }
    }
    Ok(assemble(bags))
}

fn take_bags(contents: &[u8], password: &str, bags: &mut Bags) -> Result<(), StoreError> {
    let mut list = Elements::new(contents).within(tag::SEQUENCE)?;
    while !list.is_empty() {
        if bags.keys.len() + bags.certificates.len() >= BAGS_MAX {
            return Err(StoreError::Damaged("it has more entries than any store"));
        }
        let mut bag = list.within(tag::SEQUENCE)?;
        let kind = oid_text(bag.take(tag::OID)?)?;
        let mut value = bag.within(tag::context(0))?;
        let attributes = attributes(bag.optional(tag::SET)?)?;
        match kind.as_str() {
            KEY_BAG => bags.keys.push((attributes, value.any()?.whole.to_vec())),
            SHROUDED_KEY_BAG => bags.keys.push((attributes, open_key(value.any()?.whole, password)?)),
            CERTIFICATE_BAG => {
                let mut certificate = value.within(tag::SEQUENCE)?;
                if oid_text(certificate.take(tag::OID)?)? == "1.2.840.113549.1.9.22.1" {
                    let der = certificate.within(tag::context(0))?.take(tag::OCTET_STRING)?;
                    bags.certificates.push((attributes, der.to_vec()));
                }
            }
            // Lists of revoked certificates, secrets and nested bags: nothing that a server uses.
            _ => {}
        }
    }
    Ok(())
}

fn attributes(set: Option<&[u8]>) -> Result<Attributes, Malformed> {
    let mut out = Attributes::default();
    let mut list = Elements::new(set.unwrap_or_default());
    while !list.is_empty() {
        let mut attribute = list.within(tag::SEQUENCE)?;
        let kind = oid_text(attribute.take(tag::OID)?)?;
        let mut values = attribute.within(tag::SET)?;
        match kind.as_str() {
            FRIENDLY_NAME => out.name = values.any().and_then(|v| crate::der::text(&v)).unwrap_or_default(),
            LOCAL_KEY_ID => out.key_id = Some(values.take(tag::OCTET_STRING)?.to_vec()),
            TRUSTED_KEY_USAGE => out.trusted = true,
            _ => {}
        }
    }
    Ok(out)
}

/// Chains are put together from the key's own certificate by the names of the issuers, as Java does.
fn assemble(bags: Bags) -> Store {
    let parsed: Vec<Option<Certificate>> =
        bags.certificates.iter().map(|(_, der)| Certificate::parse(der).ok()).collect();
    let mut store = Store::default();
    for (own, pkcs8) in bags.keys {
        let first = bags.certificates.iter().position(|(a, _)| own.key_id.is_some() && a.key_id == own.key_id);
        let mut chain = Vec::new();
        let mut next = first;
        while let Some(at) = next.filter(|at| !chain.contains(at)) {
            chain.push(at);
            next = parsed[at]
                .as_ref()
                .filter(|c| c.issuer != c.subject)
                .and_then(|c| parsed.iter().position(|other| other.as_ref().is_some_and(|o| o.subject == c.issuer)));
        }
        let chain = chain.into_iter().map(|at| bags.certificates[at].1.clone()).collect();
        store.keys.push(Key { alias: own.name, pkcs8, chain });
    }
    for (attributes, der) in bags.certificates {
        if attributes.trusted && attributes.key_id.is_none() {
            store.trusted.push(der);
        } else if attributes.key_id.is_none() {
            store.unmarked += 1;
        }
    }
    store
}
