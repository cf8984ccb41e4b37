//! Stores that OpenSSL 3.0 and Java 17's keytool wrote, of one key and one certificate. Password: secret.

use crate::x509::Certificate;
use crate::{Kind, Store, StoreError};

fn file(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/testdata/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn read(name: &str, password: &str) -> Result<Store, StoreError> {
    Store::read(Kind::of("", name).unwrap(), &file(name), password)
}

fn certificate() -> Vec<u8> {
    crate::pem::blocks(&file("cert.pem")).unwrap().remove(0).1
}

#[test]
fn every_store_has_the_same_key_and_certificate() {
    let plain = read("plain.pem", "").unwrap();
    assert_eq!(plain.keys[0].chain, [certificate()]);
    for name in ["encrypted.pem", "openssl.p12", "legacy.p12", "java.p12", "java.jks"] {
        let store = read(name, "secret").unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!((store.keys.len(), store.trusted.len()), (1, 0), "{name}");
        assert_eq!(store.keys[0].chain, plain.keys[0].chain, "{name}");
        assert!(store.keys[0].pkcs8 == plain.keys[0].pkcs8, "{name}: the key");
        let refused = read(name, "Secret").expect_err(name);
        assert!(refused.to_string().contains("the password is wrong"), "{name}: {refused}");
    }
    for name in ["trust.jks", "trust.p12", "cert.pem"] {
        let store = read(name, "secret").unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!((store.keys.len(), &store.trusted[..]), (0, &[certificate()][..]), "{name}");
    }
}

#[test]
fn java_takes_either_binary_form_under_either_name() {
    assert_eq!(Store::read(Kind::Jks, &file("java.p12"), "secret").unwrap().keys.len(), 1);
    assert_eq!(Store::read(Kind::Pkcs12, &file("java.jks"), "secret").unwrap().keys.len(), 1);
}

#[test]
fn what_java_would_not_use_is_refused_with_the_way_out() {
    assert_eq!(read("nomac.p12", "secret"), Err(StoreError::NoMac));
    assert_eq!(Store::read(Kind::Jks, &file("java.jceks"), "secret"), Err(StoreError::Jceks));
    let unmarked = read("unmarked.p12", "secret").unwrap();
    assert_eq!((unmarked.trusted.len(), unmarked.unmarked), (0, 1), "it lacks keytool's mark");
    assert_eq!(Kind::of("", "a.bcfks"), Err(StoreError::Bcfks));
    assert_eq!(Kind::of("", "store"), Err(StoreError::UnknownKind));
    assert_eq!(Kind::of("pkcs12", "store.jks"), Ok(Kind::Pkcs12));
    assert!(matches!(Store::read(Kind::Jks, b"\x00\x01", "x"), Err(StoreError::NotOfKind("JKS"))));
    assert!(matches!(Store::read(Kind::Pem, b"nothing", "x"), Err(StoreError::NotOfKind("PEM"))));
}

/// Whatever byte of a store is another one: it is refused, or only names of entries have changed, which nothing relies on.
#[test]
fn damaged_stores_never_give_other_keys_or_certificates() {
    for name in ["java.jks", "trust.jks", "openssl.p12", "java.p12"] {
        let whole = file(name);
        let good = read(name, "secret").unwrap();
        let kind = Kind::of("", name).unwrap();
        // A derivation of 10,000 rounds takes some milliseconds: not every byte of those.
        let step = if name == "java.p12" || name == "openssl.p12" { 41 } else { 7 };
        for at in (0..whole.len()).step_by(step) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x20;
            if let Ok(store) = Store::read(kind, &bytes, "secret") {
                let same = store.keys.iter().zip(&good.keys).all(|(a, b)| a.pkcs8 == b.pkcs8);
                assert!(same && store.trusted == good.trusted, "{name} at {at}");
            }
            assert!(Store::read(kind, &whole[..at], "secret").is_err(), "{name} cut at {at}");
        }
    }
}

#[test]
fn a_subject_is_named_as_java_names_it() {
    let c = Certificate::parse(&certificate()).unwrap();
    // Printed by X500Principal.getName() of OpenJDK 17.
    assert_eq!(c.subject_name, "1.2.840.113549.1.9.1=#16056140622e63,CN=zk1.example.org,OU=ops,O=Bl\\,au \\+ Co,C=DE");
    assert_eq!(c.serial, "5620B34127AD4A29232D55AAAFE3B8FEBDCE5252");
    assert_eq!((c.not_before, c.not_after), (1_795_956_460, 4_949_556_460));
    assert_eq!(c.dns_names, ["zk1.example.org", "*.zk.local"]);
    assert_eq!(c.ip_addresses.len(), 2);
    for host in ["zk1.example.org", "ZK1.example.org.", "a.zk.local", "127.0.0.1", "[::1]"] {
        assert!(c.is_for(host), "{host}");
    }
    for host in ["zk2.example.org", "zk.local", "a.b.zk.local", "127.0.0.2", "::2", ""] {
        assert!(!c.is_for(host), "{host}");
    }
}
