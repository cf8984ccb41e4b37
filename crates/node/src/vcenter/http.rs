//! An HTTPS connection to vCenter: requests in sequence, with limits on the time and the bytes of each reply.

use super::tls::{connector, Shown, Trust};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header;
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;
use trivet_vcenter::soap::REPLY_BYTES_MAX;

/// Time for name resolution, TCP and TLS of a new connection together.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Where vCenter is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Name or address of the server.
    pub host: String,
    /// Port; 443 unless the URL names another.
    pub port: u16,
    /// Path of the SOAP service; `/sdk` unless the URL names another.
    pub path: String,
}

impl std::str::FromStr for Target {
    type Err = anyhow::Error;
    /// `https://host[:port][/sdk]`; the scheme may be missing.
    fn from_str(url: &str) -> anyhow::Result<Target> {
        let wrong = || anyhow::anyhow!("url = {url:?}: https://HOST[:PORT] is expected");
        let rest = match url.split_once("://") {
            Some(("https", rest)) => rest,
            Some(("http", _)) => anyhow::bail!("url = {url:?}: a password is sent over https only"),
            Some(_) => return Err(wrong()),
            None => url,
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') || authority.is_empty() || path.contains(|c: char| c.is_whitespace()) {
            return Err(wrong());
        }
        let colon = authority.rfind(':').filter(|at| authority.find(']').is_none_or(|end| end < *at));
        let (host, port) = match colon {
            Some(at) => (&authority[..at], authority[at + 1..].parse().map_err(|_| wrong())?),
            None => (authority, 443),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_string();
        ServerName::try_from(host.clone()).map_err(|_| wrong())?;
        let path = if path.len() <= 1 { "/sdk" } else { path };
        Ok(Target { host, port, path: path.to_string() })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("{host}:{port}: cannot connect: {why}")]
    Connect { host: String, port: u16, why: String },
    #[error("{host}:{port}: the certificate is not trusted ({why}); it is {seen}; if that is vCenter's, set thumbprint = \"{seen}\" in [vcenter]")]
    Certificate { host: String, port: u16, why: String, seen: String },
    #[error("{host}:{port}: no answer within {} s", .limit.as_secs())]
    Slow { host: String, port: u16, limit: Duration },
    #[error("{host}:{port}: the connection ended: {why}")]
    Broken { host: String, port: u16, why: String },
    #[error("{host}:{port}: the reply is longer than {REPLY_BYTES_MAX} bytes; is this a vCenter?")]
    TooLong { host: String, port: u16 },
    #[error("{host}:{port}: the reply is not UTF-8; is this a vCenter?")]
    NotText { host: String, port: u16 },
    #[error("{host}:{port}: HTTP status {code}; is this a vCenter?")]
    Status { host: String, port: u16, code: u16 },
}

pub struct Http {
    target: Target,
    tls: TlsConnector,
    shown: Shown,
    cookie: Option<String>,
    sender: Option<http1::SendRequest<Full<Bytes>>>,
}

impl Http {
    pub fn new(target: Target, trust: &Trust) -> anyhow::Result<Http> {
        let shown = Shown::default();
        let tls = connector(trust, shown.clone())?;
        Ok(Http { target, tls, shown, cookie: None, sender: None })
    }

    /// Forgets session and connection.
    pub fn reset(&mut self) {
        self.cookie = None;
        self.sender = None;
    }

    pub fn shown(&self) -> Option<super::tls::Thumbprint> {
        *self.shown.lock()
    }

    /// Sends one request and reads its reply. A request that may have been sent is never sent again.
    ///
    /// # Errors
    /// There is no connection, no reply in time, or a reply that is none. HTTP 500 carries SOAP's faults and is a reply.
    pub async fn post(&mut self, body: String, limit: Duration) -> Result<String, HttpError> {
        let (host, port) = (self.target.host.clone(), self.target.port);
        let done = tokio::time::timeout(limit, self.exchange(body)).await;
        let result = done.unwrap_or(Err(HttpError::Slow { host, port, limit }));
        if result.is_err() {
            self.sender = None;
        }
        result
    }

    async fn exchange(&mut self, body: String) -> Result<String, HttpError> {
        let (host, port) = (self.target.host.clone(), self.target.port);
        let broken = |why: String| HttpError::Broken { host: host.clone(), port, why };
        let ready = match &mut self.sender {
            Some(s) => s.ready().await.is_ok(),
            None => false,
        };
        if !ready {
            self.sender = Some(self.connect().await?);
        }
        let mut request = hyper::Request::post(self.target.path.as_str())
            .header(header::HOST, format!("{host}:{port}"))
            .header(header::CONTENT_TYPE, "text/xml; charset=utf-8")
            .header("SOAPAction", "\"urn:vim25/6.0\"")
            .header(header::USER_AGENT, "trivet");
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, cookie);
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|e| broken(e.to_string()))?;
        let sender = self.sender.as_mut().ok_or_else(|| broken("there is none".into()))?;
        let response = sender.send_request(request).await.map_err(|e| broken(e.to_string()))?;
        let code = response.status().as_u16();
        let set = response.headers().get_all(header::SET_COOKIE).iter().filter_map(|c| c.to_str().ok());
        let session = set.filter(|c| c.starts_with("vmware_soap_session=")).filter_map(|c| c.split(';').next()).next();
        if let Some(session) = session {
            self.cookie = Some(session.to_string());
        }
        if ![200, 500].contains(&code) {
            return Err(HttpError::Status { host, port, code });
        }
        let collected = Limited::new(response.into_body(), REPLY_BYTES_MAX).collect().await;
        let bytes = collected.map_err(|e| match e.downcast_ref::<http_body_util::LengthLimitError>() {
            Some(_) => HttpError::TooLong { host: host.clone(), port },
            None => broken(e.to_string()),
        })?;
        String::from_utf8(bytes.to_bytes().into()).map_err(|_| HttpError::NotText { host: host.clone(), port })
    }

    async fn connect(&self) -> Result<http1::SendRequest<Full<Bytes>>, HttpError> {
        let (host, port) = (self.target.host.clone(), self.target.port);
        let failed = |why: String| HttpError::Connect { host: host.clone(), port, why };
        let open = async {
            let tcp = TcpStream::connect((host.as_str(), port)).await.map_err(|e| failed(e.to_string()))?;
            let _ = tcp.set_nodelay(true);
            let name = ServerName::try_from(host.clone()).map_err(|e| failed(e.to_string()))?;
            let before = self.shown.lock().take();
            let tls = self.tls.connect(name, tcp).await.map_err(|e| match self.shown() {
                Some(seen) if is_certificate(&e) => {
                    HttpError::Certificate { host: host.clone(), port, why: e.to_string(), seen: seen.to_string() }
                }
                _ => failed(format!("TLS: {e}")),
            });
            if tls.is_err() && self.shown().is_none() {
                *self.shown.lock() = before;
            }
            let (sender, connection) = http1::handshake(TokioIo::new(tls?)).await.map_err(|e| failed(e.to_string()))?;
            // Ends with the sender, or with the server.
            tokio::spawn(connection);
            Ok(sender)
        };
        let limit = CONNECT_LIMIT;
        match tokio::time::timeout(limit, open).await {
            Ok(result) => result,
            Err(_) => Err(failed(format!("nothing came within {} s", limit.as_secs()))),
        }
    }

    /// The certificate that the server shows; nothing is sent to it.
    pub async fn look(&self) -> Result<super::tls::Thumbprint, HttpError> {
        self.connect().await?;
        let (host, port) = (self.target.host.clone(), self.target.port);
        self.shown().ok_or(HttpError::Connect { host, port, why: "it shows no certificate".into() })
    }
}

fn is_certificate(e: &std::io::Error) -> bool {
    use tokio_rustls::rustls::Error;
    let tls = e.get_ref().and_then(|e| e.downcast_ref::<Error>());
    matches!(tls, Some(Error::InvalidCertificate(_) | Error::General(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_http_refused() {
        let t = |host: &str, port, path: &str| Target { host: host.into(), port, path: path.into() };
        assert_eq!("https://vc.example.org".parse::<Target>().unwrap(), t("vc.example.org", 443, "/sdk"));
        assert_eq!("vc:8989/".parse::<Target>().unwrap(), t("vc", 8989, "/sdk"));
        assert_eq!("https://[fd00::1]:444/x".parse::<Target>().unwrap(), t("fd00::1", 444, "/x"));
        assert_eq!("https://[fd00::1]".parse::<Target>().unwrap(), t("fd00::1", 443, "/sdk"));
        for bad in ["http://vc", "ftp://vc", "", "https://", "https://u:p@vc", "vc:port", "a b"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }
}
