//! Handshakes over loopback, with the stores that keytool and OpenSSL wrote for `trivet-security`.

use super::*;
use crate::coordination::stream::{Speaks, Stream};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn store(name: &str) -> StoreFile {
    let path = format!("{}/../security/testdata/{name}", env!("CARGO_MANIFEST_DIR"));
    StoreFile::of(std::path::Path::new(&path), "secret").unwrap()
}

fn settings() -> TlsSettings {
    TlsSettings {
        key_store: store("java.p12"),
        trust_store: Some(store("trust.jks")),
        client_auth: ClientAuth::Need,
        verify_host: true,
        verify_caller: true,
        tls12: true,
        tls13: true,
        cipher_suites: Vec::new(),
        handshake_limit: Duration::from_secs(20),
        reload: false,
    }
}

async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

/// Whether a word goes there and back; what the server says of its caller.
async fn met(client: &Context, server: &Context) -> Result<Option<String>, String> {
    let (near, far) = connected().await;
    let call = async {
        let mut stream = client.connect(near, "127.0.0.1").await?;
        stream.write_all(b"?").await?;
        stream.flush().await?;
        stream.read_u8().await
    };
    let answer = async {
        let mut stream = server.accept(far, &[]).await?;
        let shown = shown(&stream)?.map(|c| c.subject_name);
        stream.read_u8().await?;
        stream.write_all(b"!").await?;
        stream.flush().await?;
        Ok::<_, std::io::Error>(shown)
    };
    let (call, answer) = tokio::join!(call, answer);
    call.map_err(|e| e.to_string())?;
    answer.map_err(|e| e.to_string())
}

#[tokio::test]
async fn servers_with_each_others_certificates_meet_over_either_version() {
    for (tls12, tls13) in [(true, false), (false, true), (true, true)] {
        let a = Context::new(TlsSettings { tls12, tls13, ..settings() }).unwrap();
        let b = Context::new(TlsSettings {
            key_store: store("java.jks"),
            trust_store: Some(store("trust.p12")),
            ..settings()
        });
        let shown = met(&a, &b.unwrap()).await.unwrap();
        assert!(shown.unwrap().ends_with("CN=zk1.example.org,OU=ops,O=Bl\\,au \\+ Co,C=DE"));
    }
    let old = Context::new(TlsSettings { tls13: false, ..settings() }).unwrap();
    let new = Context::new(TlsSettings { tls12: false, ..settings() }).unwrap();
    assert!(met(&old, &new).await.is_err());
}

#[tokio::test]
async fn callers_and_servers_that_are_not_trusted_are_refused() {
    let good = Context::new(settings()).unwrap();
    // A certificate of an unknown CA, made here.
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_string()]).unwrap();
    let path = dir.path().join("other.pem");
    let pem = |label: &str, der: &[u8]| {
        let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    };
    let (key, certificate) = (made.signing_key.serialize_der(), made.cert.der().to_vec());
    std::fs::write(&path, pem("PRIVATE KEY", &key) + &pem("CERTIFICATE", &certificate)).unwrap();
    let other = TlsSettings { key_store: StoreFile::of(&path, "").unwrap(), ..settings() };
    let other = Context::new(other).unwrap();
    assert!(met(&other, &good).await.is_err());
    assert!(met(&good, &other).await.is_err());
    // Without any certificate: only where none is needed.
    let config = calling(None, &store("trust.jks")).unwrap();
    for (client_auth, expected) in [(ClientAuth::None, true), (ClientAuth::Want, true), (ClientAuth::Need, false)] {
        let server = Context::new(TlsSettings { client_auth, ..settings() }).unwrap();
        let (near, far) = connected().await;
        let call = async {
            let name = tokio_rustls::rustls::pki_types::ServerName::try_from("zk1.example.org").unwrap();
            let mut stream = tokio_rustls::TlsConnector::from(config.clone()).connect(name, near).await?;
            stream.read_u8().await
        };
        let answer = async {
            let mut stream = server.accept(far, &[]).await?;
            stream.write_all(b"!").await?;
            stream.shutdown().await
        };
        let (call, answer) = tokio::join!(call, answer);
        assert_eq!((call.is_ok(), answer.is_ok()), (expected, expected), "{client_auth:?}");
    }
}

#[tokio::test]
async fn a_port_of_both_kinds_answers_each_caller_as_it_begins() {
    let context = Arc::new(Context::new(settings()).unwrap());
    let both = Speaks { mode: Mode::Both, tls: Some(context.clone()) };
    let (mut near, far) = connected().await;
    near.write_all(b"ruok").await.unwrap();
    let mut stream = both.accept(far, &[]).await.unwrap();
    let mut word = [0; 4];
    stream.read_exact(&mut word).await.unwrap();
    assert!(matches!(stream, Stream::Plain(_)) && &word == b"ruok");
    let (near, far) = connected().await;
    let (near, far) = tokio::join!(context.connect(near, "zk1.example.org"), both.accept(far, &[]));
    assert!(near.is_ok() && far.unwrap().is_secure());
    let silent = Context::new(TlsSettings { handshake_limit: Duration::from_millis(50), ..settings() }).unwrap();
    let (_near, far) = connected().await;
    let both = Speaks { mode: Mode::Both, tls: Some(Arc::new(silent)) };
    assert!(both.accept(far, &[]).await.is_err_and(|e| e.kind() == std::io::ErrorKind::TimedOut));
}

#[test]
fn what_could_not_be_served_with_is_refused_at_the_start() {
    let refused = |s: TlsSettings| Context::new(s).expect_err("refused").to_string();
    let without_trust = refused(TlsSettings { trust_store: None, ..settings() });
    assert!(without_trust.contains("trust store"), "{without_trust}");
    let unmarked = refused(TlsSettings { trust_store: Some(store("unmarked.p12")), ..settings() });
    assert!(unmarked.contains("keytool -importcert"), "{unmarked}");
    let no_key = refused(TlsSettings { key_store: store("trust.jks"), ..settings() });
    assert!(no_key.contains("no private key"), "{no_key}");
    let suites = refused(TlsSettings { cipher_suites: vec!["TLS_RSA_WITH_NULL_SHA".into()], ..settings() });
    assert!(suites.contains("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"), "{suites}");
}
