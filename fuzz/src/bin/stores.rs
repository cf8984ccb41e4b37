//! Key stores, certificates, JAAS files and SASL tokens, whatever somebody put there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trivet_fuzz as _;
use trivet_security::digest_md5::{Client, Server, CLIENTS};
use trivet_security::x509::Certificate;
use trivet_security::{jaas, Kind, Store, Users};

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 7 {
        0 => drop(Store::read(Kind::Pem, bytes, "secret")),
        1 => drop(Store::read(Kind::Pkcs12, bytes, "secret")),
        2 => drop(Store::read(Kind::Jks, bytes, "secret")),
        3 => {
            if let Ok(c) = Certificate::parse(bytes) {
                assert!(!c.is_for(""));
            }
        }
        4 => drop(jaas::parse(&String::from_utf8_lossy(bytes))),
        5 => {
            let users = Users::from([("bob".into(), "secret".into())]);
            assert!(Server::new(CLIENTS, "a nonce that no input has".into()).judge(bytes, &users).is_err());
        }
        _ => drop(Client::answer(CLIENTS, bytes, "bob", "secret", "c")),
    }
});
