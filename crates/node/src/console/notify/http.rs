//! A POST over HTTP or HTTPS, and the answer to it.

use super::{Target, TRY_LIMIT};
use crate::vcenter::{connector, Trust};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::Uri;
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::ServerName;

/// Bytes of an answer that are read; the rest is ignored.
const ANSWER_BYTES_MAX: usize = 64 << 10;

struct Url {
    tls: bool,
    host: String,
    port: u16,
    /// The host as the address has it, and the port if it has one.
    authority: String,
    path: String,
}

fn parse(url: &str) -> Result<Url, String> {
    let uri: Uri = url.parse().map_err(|e| format!("{url}: it is no address: {e}"))?;
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(format!("{url}: an address begins with https:// or http://")),
    };
    let authority = uri.authority().ok_or_else(|| format!("{url}: it is no address: it has no host"))?;
    if authority.as_str().contains('@') {
        return Err(format!("{url}: a name and a password are not sent; leave them out"));
    }
    let port = match authority.as_str()[authority.host().len()..].strip_prefix(':') {
        Some(port) => port.parse().map_err(|_| format!("{url}: no port"))?,
        None if tls => 443,
        None => 80,
    };
    let path = uri.path_and_query().map_or("/", |p| p.as_str()).to_string();
    let host = authority.host().trim_matches(['[', ']']).to_string();
    Ok(Url { tls, host, port, authority: authority.to_string(), path })
}

/// Which certificates a target's server may show.
fn trust(t: &Target) -> Result<Trust, String> {
    match (&t.thumbprint, &t.ca) {
        (Some(pin), _) => Ok(Trust::Pinned(pin.parse().map_err(|e| format!("{e}"))?)),
        (None, Some(ca)) => Ok(Trust::Ca(ca.clone())),
        (None, None) => Ok(Trust::System),
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn connect(t: &Target, u: &Url) -> Result<Box<dyn Stream>, String> {
    let why = |e: std::io::Error| format!("{}:{}: {e}", u.host, u.port);
    let stream = TcpStream::connect((u.host.as_str(), u.port)).await.map_err(why)?;
    if !u.tls {
        return Ok(Box::new(stream));
    }
    let trust = trust(t)?;
    // Files of certificates are read.
    let made = tokio::task::spawn_blocking(move || connector(&trust, Arc::default()));
    let connector = made.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    let name = ServerName::try_from(u.host.clone()).map_err(|e| format!("{}: {e}", u.host))?;
    Ok(Box::new(connector.connect(name, stream).await.map_err(why)?))
}

/// Whether a server ended a connection without the farewell of TLS, as some do after an answer that has no length.
fn ended_abruptly(e: &hyper::Error) -> bool {
    let cause = e.source().and_then(|s| s.downcast_ref::<std::io::Error>());
    cause.is_some_and(|e| e.kind() == std::io::ErrorKind::UnexpectedEof)
}

/// Sends a body and gives the answer's body.
///
/// # Errors
/// The address is none, there is no connection, no answer, or one with a status other than 2xx.
pub(super) async fn post(t: &Target, url: &str, kind: &str, body: &[u8]) -> Result<Vec<u8>, String> {
    let u = parse(url)?;
    let why = |e: hyper::Error| match e.source() {
        Some(cause) => format!("{}:{}: {e}: {cause}", u.host, u.port),
        None => format!("{}:{}: {e}", u.host, u.port),
    };
    let stream = connect(t, &u).await?;
    // Some receivers know the names of headers in their usual letters only.
    let opened = http1::Builder::new().title_case_headers(true).handshake(TokioIo::new(stream));
    let (mut sender, connection) = opened.await.map_err(why)?;
    // Ends with the answer's body, or with the server; a server that takes nothing is left when the try ends.
    tokio::spawn(tokio::time::timeout(TRY_LIMIT, connection));
    let request = hyper::Request::post(u.path.as_str())
        .header(HOST, u.authority.as_str())
        .header(USER_AGENT, "trivet")
        .header(CONTENT_TYPE, kind)
        .header(CONNECTION, "close")
        .body(Full::new(Bytes::copy_from_slice(body)))
        .map_err(|e| format!("{url}: it is no address: {e}"))?;
    let response = sender.send_request(request).await.map_err(why)?;
    if !response.status().is_success() {
        return Err(format!("{}:{} answers: {:?} {}", u.host, u.port, response.version(), response.status()));
    }
    let (mut answer, mut rest) = (Vec::new(), response.into_body());
    while answer.len() < ANSWER_BYTES_MAX {
        match rest.frame().await {
            Some(Ok(frame)) => answer.extend_from_slice(frame.data_ref().map_or(&[][..], |d| d)),
            Some(Err(e)) if !ended_abruptly(&e) => return Err(why(e)),
            Some(Err(_)) | None => break,
        }
    }
    answer.truncate(ANSWER_BYTES_MAX);
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        let u = parse("http://[::1]:9093/api?x=1").unwrap();
        assert_eq!((u.tls, u.host.as_str(), u.port, u.path.as_str()), (false, "::1", 9093, "/api?x=1"));
        let u = parse("https://relay").unwrap();
        assert_eq!((u.tls, u.host.as_str(), u.port, u.path.as_str()), (true, "relay", 443, "/"));
        for wrong in [
            "ftp://x",
            "http://",
            "http://a/\r\nb",
            "http://a:b/",
            "http://ann:secret@relay/",
            "relay",
            "",
            "http://a:70000/",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
