//! SASL DIGEST-MD5, both sides, as far as ZooKeeper uses it: authentication only, md5-sess, one realm.
//!
//! MD5 and a password that the server knows in clear: an old mechanism, kept for clients that have nothing else. It protects the
//! password on the wire and nothing that follows.
//= RFC 2831

use md5::{Digest, Md5};
use std::collections::BTreeMap;

/// Users and their passwords, as a JAAS file names them.
pub type Users = BTreeMap<String, String>;

/// Bytes of a token, RFC 2831's own limit for an answer; a longer one is refused.
pub const TOKEN_BYTES_MAX: usize = 4_096;

/// Which service this is: the realm is offered to clients, and they name the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    /// Name of the service, the first part of the digest-uri.
    pub protocol: &'static str,
    /// Realm that the server offers, and the second part of the digest-uri.
    pub realm: &'static str,
}

/// The service of the client port.
pub const CLIENTS: Service = Service { protocol: "zookeeper", realm: "zk-sasl-md5" };
/// The service between servers, on the election and quorum ports.
pub const QUORUM: Service = Service { protocol: "zookeeper-quorum", realm: "zk-quorum-sasl-md5" };

/// Why an authentication failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A token is too long, has no well-formed directives, or is for another service or challenge.
    #[error("a SASL token is not one of DIGEST-MD5: {0}")]
    Malformed(&'static str),
    /// This user is unknown or gave a wrong password; both look the same to the client.
    #[error("the user {0} is unknown, or the password is wrong")]
    Wrong(String),
    /// The server's last token does not fit the password.
    #[error("the server did not prove that it knows the password")]
    ServerUnproved,
}

/// A server's side of one authentication.
#[derive(Debug, Clone)]
pub struct Server {
    service: Service,
    nonce: String,
}

impl Server {
    /// `nonce`: printable, without quotes, and never used before.
    pub fn new(service: Service, nonce: String) -> Self {
        Server { service, nonce }
    }

    /// The first token, which the server sends.
    pub fn challenge(&self) -> Vec<u8> {
        let Server { service, nonce } = self;
        format!("realm=\"{}\",nonce=\"{nonce}\",charset=utf-8,algorithm=md5-sess", service.realm).into_bytes()
    }

    /// Judges the client's answer: who it is, and what the server proves itself with.
    ///
    /// # Errors
    /// If the token is malformed, for another service or nonce, or the password is wrong.
    pub fn judge(&self, token: &[u8], users: &Users) -> Result<(String, Vec<u8>), Refused> {
        let t = directives(token)?;
        let get = |key: &'static str| t.get(key).map(String::as_str);
        let need = |key: &'static str| get(key).ok_or(Refused::Malformed("a directive is missing"));
        let user = need("username")?;
        let uri = format!("{}/{}", self.service.protocol, self.service.realm);
        if need("nonce")? != self.nonce || need("nc")? != "00000001" {
            return Err(Refused::Malformed("it answers another challenge"));
        }
        if !need("digest-uri")?.eq_ignore_ascii_case(&uri) || get("realm").unwrap_or_default() != self.service.realm {
            return Err(Refused::Malformed("it is for another service"));
        }
        if get("qop").is_some_and(|q| q != "auth") || get("charset").is_some_and(|c| !c.eq_ignore_ascii_case("utf-8")) {
            return Err(Refused::Malformed("it wants a protection or charset that was not offered"));
        }
        let exchange = Exchange {
            realm: self.service.realm,
            nonce: &self.nonce,
            cnonce: need("cnonce")?,
            uri: need("digest-uri")?,
            authzid: get("authzid"),
        };
        // An unknown user costs the same as a wrong password.
        let password = users.get(user);
        let expected = exchange.proof("AUTHENTICATE", user, password.map_or("", String::as_str));
        let given = need("response")?;
        if !equal(expected.as_bytes(), given.as_bytes()) || password.is_none() {
            return Err(Refused::Wrong(user.to_string()));
        }
        let password = password.expect("asked");
        Ok((user.to_string(), format!("rspauth={}", exchange.proof("", user, password)).into_bytes()))
    }
}

/// A client's side, of an answer that is on its way.
#[derive(Debug, Clone)]
pub struct Client {
    expected: String,
}

impl Client {
    /// Answers a server's challenge.
    ///
    /// # Errors
    /// If the challenge is malformed, or offers nothing that is done here.
    pub fn answer(
        service: Service,
        challenge: &[u8],
        user: &str,
        password: &str,
        cnonce: &str,
    ) -> Result<(Client, Vec<u8>), Refused> {
        let t = directives(challenge)?;
        let nonce = t.get("nonce").ok_or(Refused::Malformed("a directive is missing"))?;
        if t.get("algorithm").is_some_and(|a| a != "md5-sess") || nonce.contains(['"', '\\']) {
            return Err(Refused::Malformed("it offers nothing that is done here"));
        }
        if t.get("qop").is_some_and(|q| !q.split(',').any(|q| q.trim() == "auth")) {
            return Err(Refused::Malformed("it offers nothing that is done here"));
        }
        let realm = t.get("realm").map_or(service.realm, String::as_str);
        let uri = format!("{}/{}", service.protocol, service.realm);
        let exchange = Exchange { realm, nonce, cnonce, uri: &uri, authzid: None };
        let proof = exchange.proof("AUTHENTICATE", user, password);
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let answer = format!(
            "charset=utf-8,username=\"{}\",realm=\"{}\",nonce=\"{nonce}\",nc=00000001,cnonce=\"{cnonce}\",digest-uri=\"{uri}\",\
             response={proof},qop=auth",
            quoted(user),
            quoted(realm)
        );
        Ok((Client { expected: exchange.proof("", user, password) }, answer.into_bytes()))
    }

    /// Checks that the server knows the password, too.
    ///
    /// # Errors
    /// If it does not show that.
    pub fn finish(&self, token: &[u8]) -> Result<(), Refused> {
        let t = directives(token)?;
        let proved = t.get("rspauth").is_some_and(|r| equal(r.as_bytes(), self.expected.as_bytes()));
        if proved {
            Ok(())
        } else {
            Err(Refused::ServerUnproved)
        }
    }
}

struct Exchange<'a> {
    realm: &'a str,
    nonce: &'a str,
    cnonce: &'a str,
    uri: &'a str,
    authzid: Option<&'a str>,
}

impl Exchange<'_> {
    fn proof(&self, method: &str, user: &str, password: &str) -> String {
        let secret = Md5::digest(latin(&[user, self.realm, password]));
        let mut a1 = Md5::new().chain_update(secret).chain_update(format!(":{}:{}", self.nonce, self.cnonce));
        if let Some(authzid) = self.authzid {
            a1.update(format!(":{authzid}"));
        }
        let a1 = hex(&a1.finalize());
        let a2 = hex(&Md5::digest(format!("{method}:{}", self.uri)));
        hex(&Md5::digest(format!("{a1}:{}:00000001:{}:auth:{a2}", self.nonce, self.cnonce)))
    }
}

/// Joined by colons; in ISO 8859-1 where that has all characters, as the RFC wants it for compatibility with HTTP.
fn latin(parts: &[&str]) -> Vec<u8> {
    let one = |text: &str| -> Vec<u8> {
        let narrow: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
        narrow.unwrap_or_else(|| text.as_bytes().to_vec())
    };
    parts.iter().map(|p| one(p)).collect::<Vec<_>>().join(&b':')
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// In the same time wherever they differ.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |d, (x, y)| d | (x ^ y)) == 0
}

/// `key=value` pairs with commas between them; values quoted or bare.
fn directives(token: &[u8]) -> Result<BTreeMap<String, String>, Refused> {
    let bad = Refused::Malformed("it is no list of directives");
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Refused::Malformed("it is too long"));
    }
    let text = std::str::from_utf8(token).map_err(|_| bad.clone())?;
    let mut out = BTreeMap::new();
    let mut rest = text.trim_start_matches([',', ' ', '\t', '\r', '\n']);
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or_else(|| bad.clone())?;
        let key = key.trim().to_ascii_lowercase();
        if key.is_empty() || key.contains([',', '"']) {
            return Err(bad);
        }
        let after = after.trim_start();
        let value;
        if let Some(quoted) = after.strip_prefix('"') {
            let mut text = String::new();
            let mut chars = quoted.char_indices();
            let end = loop {
                match chars.next() {
                    Some((at, '"')) => break at,
                    Some((_, '\\')) => text.push(chars.next().ok_or_else(|| bad.clone())?.1),
                    Some((_, c)) => text.push(c),
                    None => return Err(bad),
                }
            };
            value = text;
            rest = quoted[end + 1..].trim_start();
            if !rest.is_empty() && !rest.starts_with(',') {
                return Err(bad);
            }
        } else {
            let (bare, next) = after.split_once(',').unwrap_or((after, ""));
            value = bare.trim().to_string();
            rest = next;
        }
        rest = rest.trim_start_matches([',', ' ', '\t', '\r', '\n']);
        if out.insert(key, value).is_some() {
            return Err(Refused::Malformed("a directive stands twice"));
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Users {
        Users::from([("bob".into(), "bobsecret".into()), ("m\u{fc}ller".into(), "\u{4e2d}\"\\".into())])
    }

    #[test]
    fn a_proof_is_that_of_the_rfc() {
        //= RFC 2831 section 4, the example with IMAP
        let e = Exchange {
            realm: "elwood.innosoft.com",
            nonce: "OA6MG9tEQGm2hh",
            cnonce: "OA6MHXh6VqTrRk",
            uri: "imap/elwood.innosoft.com",
            authzid: None,
        };
        assert_eq!(e.proof("AUTHENTICATE", "chris", "secret"), "d388dad90d4bbd760a152321f2143af7");
        assert_eq!(e.proof("", "chris", "secret"), "ea40f60335c427b5527b84dbabcdfffd");
    }

    #[test]
    fn both_sides_prove_that_they_know_the_password() {
        for (user, password) in users() {
            let server = Server::new(CLIENTS, "bm9uY2U".into());
            let (client, answer) = Client::answer(CLIENTS, &server.challenge(), &user, &password, "Y25vbmNl").unwrap();
            let (who, proof) = server.judge(&answer, &users()).unwrap();
            assert_eq!(who, user);
            assert_eq!(client.finish(&proof), Ok(()));
            assert_eq!(client.finish(b"rspauth=00"), Err(Refused::ServerUnproved));
        }
    }

    #[test]
    fn wrong_passwords_nonces_and_services_are_refused() {
        let server = Server::new(CLIENTS, "one".into());
        let answer = |service, challenge: &[u8], user, password| {
            Client::answer(service, challenge, user, password, "c").unwrap().1
        };
        let judge = |token: &[u8]| server.judge(token, &users());
        assert_eq!(judge(&answer(CLIENTS, &server.challenge(), "bob", "x")), Err(Refused::Wrong("bob".into())));
        assert_eq!(judge(&answer(CLIENTS, &server.challenge(), "eve", "")), Err(Refused::Wrong("eve".into())));
        let other = Server::new(CLIENTS, "two".into()).challenge();
        assert!(matches!(judge(&answer(CLIENTS, &other, "bob", "bobsecret")), Err(Refused::Malformed(_))));
        assert!(matches!(judge(&answer(QUORUM, &server.challenge(), "bob", "bobsecret")), Err(Refused::Malformed(_))));
        for token in [&b""[..], b"=", b"a", b"a=\"", b"a=\"b\"c", b"a=b,a=b", b"\xff", &[b'a'; TOKEN_BYTES_MAX + 1]] {
            assert!(matches!(judge(token), Err(Refused::Malformed(_))), "{token:?}");
        }
    }
}
