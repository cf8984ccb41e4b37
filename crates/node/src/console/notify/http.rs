//! A POST over HTTP or HTTPS, and the answer to it.

use super::Target;
use crate::vcenter::{connector, Trust};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::ServerName;

/// Bytes of an answer that are read; the rest is ignored.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

struct Url<'a> {
    tls: bool,
    host: &'a str,
    port: u16,
    path: &'a str,
}

fn parse(url: &str) -> Result<Url<'_>, String> {
    let (tls, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => return Err(format!("{url}: an address begins with https:// or http://")),
    };
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| format!("{url}: no port"))?),
        _ => (authority, if tls { 443 } else { 80 }),
    };
    let plain = |s: &str| s.bytes().all(|b| b.is_ascii_graphic());
    if host.is_empty() || !plain(host) || !plain(path) {
        return Err(format!("{url}: it is no address"));
    }
    Ok(Url { tls, host: host.trim_matches(['[', ']']), port, path })
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

async fn connect(t: &Target, u: &Url<'_>) -> Result<Box<dyn Stream>, String> {
    let why = |e: std::io::Error| format!("{}:{}: {e}", u.host, u.port);
    let stream = TcpStream::connect((u.host, u.port)).await.map_err(why)?;
    if !u.tls {
        return Ok(Box::new(stream));
    }
    let trust = trust(t)?;
    // Files of certificates are read.
    let made = tokio::task::spawn_blocking(move || connector(&trust, Arc::default()));
    let connector = made.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    let name = ServerName::try_from(u.host.to_string()).map_err(|e| format!("{}: {e}", u.host))?;
    Ok(Box::new(connector.connect(name, stream).await.map_err(why)?))
}

/// Sends a body and gives the answer's body.
pub(super) async fn post(t: &Target, url: &str, kind: &str, body: &[u8]) -> Result<Vec<u8>, String> {
    let u = parse(url)?;
    let why = |e: std::io::Error| format!("{}:{}: {e}", u.host, u.port);
    let mut stream = connect(t, &u).await?;
    let host = if u.host.contains(':') { format!("[{}]", u.host) } else { u.host.to_string() };
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {host}:{}\r\nUser-Agent: trivet\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        u.path,
        u.port,
        body.len()
    );
    stream.write_all(head.as_bytes()).await.map_err(why)?;
    stream.write_all(body).await.map_err(why)?;
    stream.flush().await.map_err(why)?;
    let mut answer = Vec::new();
    let read = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await;
    // Some servers end a connection without the farewell of TLS.
    if let Err(e) = read {
        if answer.is_empty() || e.kind() != std::io::ErrorKind::UnexpectedEof {
            return Err(why(e));
        }
    }
    let at = answer.windows(4).position(|w| w == b"\r\n\r\n").ok_or("the answer is not HTTP")?;
    let first = String::from_utf8_lossy(&answer[..at]).lines().next().unwrap_or_default().to_string();
    match first.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok()) {
        Some(200..=299) => Ok(answer.split_off(at + 4)),
        _ => Err(format!("{}:{} answers: {}", u.host, u.port, first.chars().take(100).collect::<String>())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        let u = parse("http://[::1]:9093/api?x=1").unwrap();
        assert_eq!((u.tls, u.host, u.port, u.path), (false, "::1", 9093, "/api?x=1"));
        let u = parse("https://relay").unwrap();
        assert_eq!((u.tls, u.host, u.port, u.path), (true, "relay", 443, "/"));
        assert!(parse("ftp://x").is_err() && parse("http://").is_err() && parse("http://a/\r\nb").is_err());
    }
}
