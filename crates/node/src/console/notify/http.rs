//! One POST, and the answer to it.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes of an answer that are read; receivers say little.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

struct Url<'a> {
    host: &'a str,
    port: u16,
    path: &'a str,
}

fn parse(url: &str) -> Result<Url<'_>, String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| {
        format!("{url}: only http:// is spoken here; a relay on this machine can carry it on by https")
    })?;
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| format!("{url}: no port"))?),
        _ => (authority, 80),
    };
    let plain = |s: &str| s.bytes().all(|b| b.is_ascii_graphic());
    if host.is_empty() || !plain(host) || !plain(path) {
        return Err(format!("{url}: it is no address"));
    }
    Ok(Url { host: host.trim_matches(['[', ']']), port, path })
}

/// Sends a body and gives the answer's body.
pub(super) async fn post(url: &str, kind: &str, body: &[u8]) -> Result<Vec<u8>, String> {
    let u = parse(url)?;
    let why = |e: std::io::Error| format!("{}:{}: {e}", u.host, u.port);
    let mut stream = TcpStream::connect((u.host, u.port)).await.map_err(why)?;
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {}:{}\r\nUser-Agent: trivet\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        u.path,
        u.host,
        u.port,
        body.len()
    );
    stream.write_all(head.as_bytes()).await.map_err(why)?;
    stream.write_all(body).await.map_err(why)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await.map_err(why)?;
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
        assert_eq!((u.host, u.port, u.path), ("::1", 9093, "/api?x=1"));
        let u = parse("http://relay").unwrap();
        assert_eq!((u.host, u.port, u.path), ("relay", 80, "/"));
        assert!(parse("ftp://x").is_err() && parse("http://").is_err() && parse("http://a/\r\nb").is_err());
    }
}
