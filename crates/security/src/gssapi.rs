//! The server's side of SASL GSSAPI, around a library that has the keys, and the id of a client in access lists.
//!
//! A Kerberos library accepts the client's tokens until both sides have a context. Then the server offers the layers of
//! security that it has (none beyond the authentication, as ZooKeeper), the client chooses one, and is who its ticket says.
//= RFC 4752, 3.2; OpenJDK com.sun.security.sasl.gsskerb.GssKrb5Server
//= zookeeper 3.9 auth/SaslServerCallbackHandler.handleAuthorizeCallback, server/auth/KerberosName

/// Bytes of a client's token; a longer one is refused. Tickets with many groups have some 64 KiB.
pub const TOKEN_BYTES_MAX: usize = 128 << 10;
/// Tokens of a context that is not established; Kerberos needs one or two.
const TOKENS_MAX: u32 = 8;
/// The offer: authentication alone is bit 1. Java names the size of a buffer there, too, which has no use without a layer.
const OFFER: [u8; 4] = [1, 1, 0, 0];

/// Reasons for which a client is not authenticated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GssapiError {
    /// The library refused a token; its words.
    #[error("Kerberos: {0}")]
    Library(String),
    /// The client did not follow the protocol.
    #[error("Kerberos: {0}")]
    Protocol(&'static str),
    /// A name that is no principal of the form `service/host@REALM`.
    #[error("Kerberos: {0:?} is no name of the form service/host@REALM")]
    Name(String),
}

/// A token for the client, and its name once the context stands.
pub struct Accepted {
    /// Sent to the client, if the library has something to say.
    pub token: Option<Vec<u8>>,
    /// The client's principal as the library prints it. Some: the context is established.
    pub peer: Option<String>,
}

/// A context of the library, for one client.
pub trait Acceptor {
    /// Takes a token of the client.
    ///
    /// # Errors
    /// The library's words, if it refuses the token.
    fn accept(&mut self, token: &[u8]) -> Result<Accepted, String>;
    /// Seals a message for the client, without encryption.
    ///
    /// # Errors
    /// The library's words, if it cannot.
    fn wrap(&mut self, message: &[u8]) -> Result<Vec<u8>, String>;
    /// Opens a message of the client.
    ///
    /// # Errors
    /// The library's words, if the message is not the client's.
    fn unwrap(&mut self, message: &[u8]) -> Result<Vec<u8>, String>;
}

/// The answer to a client's token.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Another token is awaited.
    Answer(Vec<u8>),
    /// The client is authenticated, under this id. Its answer has no token.
    Done(String),
}

#[derive(Debug)]
enum Stage {
    /// No context yet, after this number of tokens.
    Context(u32),
    /// The context stands for this principal, and the client acknowledges it with an empty token.
    Established(String),
    /// The layers were offered.
    Offered(String),
    Over,
}

/// An authentication of a client.
#[derive(Debug)]
pub struct Server {
    stage: Stage,
}

impl Default for Server {
    fn default() -> Self {
        Server { stage: Stage::Context(0) }
    }
}

impl Server {
    /// Takes the client's next token.
    ///
    /// # Errors
    /// The client is not authenticated; every further token is refused, too.
    pub fn step(&mut self, library: &mut impl Acceptor, names: &Names, token: &[u8]) -> Result<Step, GssapiError> {
        if token.len() > TOKEN_BYTES_MAX {
            self.stage = Stage::Over;
            return Err(GssapiError::Protocol("a token is too long"));
        }
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Context(TOKENS_MAX) => Err(GssapiError::Protocol("the context does not come about")),
            Stage::Context(taken) => {
                let Accepted { token, peer } = library.accept(token).map_err(GssapiError::Library)?;
                match (peer, token) {
                    (Some(peer), None) => self.offer(library, peer),
                    (Some(peer), Some(token)) => {
                        self.stage = Stage::Established(peer);
                        Ok(Step::Answer(token))
                    }
                    (None, token) => {
                        self.stage = Stage::Context(taken + 1);
                        Ok(Step::Answer(token.unwrap_or_default()))
                    }
                }
            }
            Stage::Established(_) if !token.is_empty() => Err(GssapiError::Protocol("an empty token was due")),
            Stage::Established(peer) => self.offer(library, peer),
            Stage::Offered(peer) => {
                let chosen = library.unwrap(token).map_err(GssapiError::Library)?;
                match chosen.first() {
                    Some(layers) if layers & OFFER[0] != 0 && chosen.len() >= OFFER.len() => {}
                    _ => return Err(GssapiError::Protocol("the client chose a layer that was not offered")),
                }
                names.id(&peer).map(Step::Done)
            }
            Stage::Over => Err(GssapiError::Protocol("the authentication is over")),
        }
    }

    fn offer(&mut self, library: &mut impl Acceptor, peer: String) -> Result<Step, GssapiError> {
        let offer = library.wrap(&OFFER).map_err(GssapiError::Library)?;
        self.stage = Stage::Offered(peer);
        Ok(Step::Answer(offer))
    }
}

/// How principals become ids of the scheme sasl.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    /// The realm whose principals Java's default rule knows: the server's own.
    pub realm: String,
    /// `kerberos.removeHostFromPrincipal`
    pub remove_host: bool,
    /// `kerberos.removeRealmFromPrincipal`
    pub remove_realm: bool,
}

impl Names {
    /// The id of a principal. The whole principal if its realm is another one: Apache's default rule does not match there,
    /// and it takes the name that the client asks for, unchecked.
    ///
    /// # Errors
    /// The principal has more than one host or realm.
    pub fn id(&self, principal: &str) -> Result<String, GssapiError> {
        let bad = || GssapiError::Name(principal.to_string());
        if principal.is_empty() {
            return Err(bad());
        }
        let Some((name, realm)) = principal.split_once('@') else {
            return Ok(principal.to_string());
        };
        let (service, host) = match name.split_once('/') {
            Some((service, host)) => (service, Some(host)),
            None => (name, None),
        };
        if realm.contains(['@', '/']) || host.is_some_and(|h| h.contains('/')) {
            return Err(bad());
        }
        if realm != self.realm {
            return Ok(principal.to_string());
        }
        let mut id = service.to_string();
        if let Some(host) = host.filter(|_| !self.remove_host) {
            id = format!("{id}/{host}");
        }
        if !self.remove_realm {
            id = format!("{id}@{realm}");
        }
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A library that takes `ticket:NAME`, with an answer unless the name is upper case, and seals with brackets.
    struct Fake;

    impl Acceptor for Fake {
        fn accept(&mut self, token: &[u8]) -> Result<Accepted, String> {
            let text = String::from_utf8_lossy(token);
            match text.split_once(':') {
                Some(("ticket", name)) => Ok(Accepted {
                    token: name.starts_with(char::is_lowercase).then(|| b"mutual".to_vec()),
                    peer: Some(name.to_string()),
                }),
                Some(("more", _)) => Ok(Accepted { token: None, peer: None }),
                _ => Err("Wrong principal in request".into()),
            }
        }
        fn wrap(&mut self, message: &[u8]) -> Result<Vec<u8>, String> {
            Ok([b"[", message, b"]"].concat())
        }
        fn unwrap(&mut self, message: &[u8]) -> Result<Vec<u8>, String> {
            let inner = message.strip_prefix(b"[").and_then(|m| m.strip_suffix(b"]"));
            inner.map(<[u8]>::to_vec).ok_or_else(|| "A token had an invalid MIC".into())
        }
    }

    fn names(remove_host: bool, remove_realm: bool) -> Names {
        Names { realm: "LAB".into(), remove_host, remove_realm }
    }

    /// The outcome of these tokens in sequence.
    fn run(tokens: &[&[u8]]) -> Result<Step, GssapiError> {
        let mut server = Server::default();
        let mut last = Err(GssapiError::Protocol("no token"));
        for token in tokens {
            last = server.step(&mut Fake, &names(false, false), token);
        }
        last
    }

    #[test]
    fn a_client_with_a_ticket_is_who_it_says() {
        assert_eq!(run(&[b"ticket:bob@LAB"]), Ok(Step::Answer(b"mutual".to_vec())));
        assert_eq!(run(&[b"ticket:bob@LAB", b""]), Ok(Step::Answer(b"[\x01\x01\x00\x00]".to_vec())));
        let done = Ok(Step::Done("bob@LAB".into()));
        assert_eq!(run(&[b"ticket:bob@LAB", b"", b"[\x01\x00\x00\x00]"]), done);
        // Java's client and kazoo's name themselves behind the choice; the ticket decides.
        assert_eq!(run(&[b"ticket:bob@LAB", b"", b"[\x01\x00\x00\x00admin@LAB]"]), done);
        // Without mutual authentication the offer comes at once.
        assert_eq!(run(&[b"ticket:Bob@LAB", b"[\x01\x00\x00\x00]"]), Ok(Step::Done("Bob@LAB".into())));
        assert_eq!(run(&[b"more:", b"ticket:Bob@LAB", b"[\x01\x00\x00\x00]"]), Ok(Step::Done("Bob@LAB".into())));
    }

    #[test]
    fn whatever_else_a_client_sends_is_refused_and_ends_the_exchange() {
        let refused = |tokens: &[&[u8]]| {
            assert!(run(tokens).is_err(), "{tokens:?}");
            let more = [tokens, &[b"ticket:bob@LAB".as_slice()]].concat();
            assert!(run(&more).is_err(), "{more:?}");
        };
        refused(&[b""]);
        refused(&[b"forged"]);
        refused(&[b"ticket:bob@LAB", b"[\x01\x00\x00\x00]"]);
        refused(&[b"ticket:bob@LAB", b"", b"\x01\x00\x00\x00"]);
        for choice in [&b"[]"[..], b"[\x01]", b"[\x02\x00\x00\x00]", b"[\x04\x00\x00\x00]"] {
            refused(&[b"ticket:bob@LAB", b"", choice]);
        }
        refused(&[b"ticket:bob@LAB", b"", b"[\x01\x00\x00\x00]", b""]);
        refused(&[b"ticket:a/b/c@LAB", b"", b"[\x01\x00\x00\x00]"]);
        refused(&[&vec![b'x'; TOKEN_BYTES_MAX + 1]]);
        let endless = [b"more:".as_slice(); TOKENS_MAX as usize + 1];
        assert!(run(&endless[1..]).is_ok());
        refused(&endless);
    }

    #[test]
    fn ids_are_those_that_java_prints() {
        for (principal, as_it_is, without_host, without_realm, without_both) in [
            ("bob@LAB", "bob@LAB", "bob@LAB", "bob", "bob"),
            ("hbase/h1.lab@LAB", "hbase/h1.lab@LAB", "hbase@LAB", "hbase/h1.lab", "hbase"),
            ("hbase/@LAB", "hbase/@LAB", "hbase@LAB", "hbase/", "hbase"),
            ("bob", "bob", "bob", "bob", "bob"),
            // Another realm: no rule of Java's matches.
            ("bob@OTHER", "bob@OTHER", "bob@OTHER", "bob@OTHER", "bob@OTHER"),
            ("hbase/h1@OTHER", "hbase/h1@OTHER", "hbase/h1@OTHER", "hbase/h1@OTHER", "hbase/h1@OTHER"),
        ] {
            let ids = [(false, false), (true, false), (false, true), (true, true)];
            let ids = ids.map(|(host, realm)| names(host, realm).id(principal).unwrap());
            assert_eq!(ids, [as_it_is, without_host, without_realm, without_both], "{principal}");
        }
        for bad in ["", "a/b/c@LAB", "a@b@LAB", "a@LAB/b"] {
            assert_eq!(names(true, true).id(bad), Err(GssapiError::Name(bad.into())));
        }
    }
}
