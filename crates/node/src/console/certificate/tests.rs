use super::*;

fn open(settings: ConsoleSettings, folder: &Path) -> anyhow::Result<Arc<Certificates>> {
    Certificates::open(settings, folder, "10.0.0.11".parse().unwrap(), &crate::keys::Keys::of(&[1; 32]))
}

#[test]
fn a_node_makes_its_certificate_once_and_for_its_address() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(ConsoleSettings::default(), dir.path()).unwrap();
    assert!((396.0..398.0).contains(&first.days_left()), "{}", first.days_left());
    let again = open(ConsoleSettings::default(), dir.path()).unwrap();
    assert_eq!(first.fingerprint(), again.fingerprint());
    let other = Certificates::open(
        ConsoleSettings::default(),
        dir.path(),
        "10.0.0.12".parse().unwrap(),
        &crate::keys::Keys::of(&[1; 32]),
    );
    assert_ne!(first.fingerprint(), other.unwrap().fingerprint(), "a node that has another address");
    std::fs::write(dir.path().join("console/key.der"), b"torn").unwrap();
    assert!(open(ConsoleSettings::default(), dir.path()).is_ok(), "a key that cannot be read is made anew");
}

/// Certificate and key as PEM files.
fn site(folder: &Path, name: &str) -> ConsoleSettings {
    let pair = rcgen::KeyPair::generate().unwrap();
    let made = rcgen::CertificateParams::new(vec![name.to_string()]).unwrap().self_signed(&pair).unwrap();
    let pem = |label: &str, der: &[u8]| {
        let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
    };
    let at = |suffix: &str| folder.join(format!("{name}.{suffix}"));
    std::fs::write(at("crt"), pem("CERTIFICATE", made.der())).unwrap();
    std::fs::write(at("key"), pem("PRIVATE KEY", &pair.serialize_der())).unwrap();
    ConsoleSettings { certificate: Some(at("crt")), key: Some(at("key")) }
}

#[test]
fn a_site_s_files_are_used_and_what_is_wrong_with_them_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (site(dir.path(), "a"), site(dir.path(), "b"));
    assert!(open(a.clone(), dir.path()).unwrap().is_of_site() && a.check().is_ok());
    let mixed = ConsoleSettings { certificate: a.certificate.clone(), key: b.key.clone() };
    let gone = ConsoleSettings { certificate: Some(dir.path().join("none")), key: a.key.clone() };
    let swapped = ConsoleSettings { certificate: a.key.clone(), key: a.key.clone() };
    for (settings, word) in [(mixed, "not that of the certificate"), (gone, "none"), (swapped, "no certificate")] {
        let error = format!("{:#}", open(settings, dir.path()).unwrap_err());
        assert!(error.contains(word), "{error}");
    }
    let half = ConsoleSettings { key: None, ..a };
    assert!(half.fault().is_some_and(|f| f.contains("without key")));
}
