//! SASL GSSAPI of clients, in builds with the feature `kerberos`; without it a configuration that asks for it is refused.
//!
//! The library reads the keytab and the replay cache, which are files, so its steps run on threads that may block. The reader
//! of a connection waits for its step before it reads the next request: the core sees the outcome in the request's place.

use bytes::Bytes;
use library::{Context, Credentials};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Semaphore;
use trivet_coordination::{ClientInput, KerberosOutcome, KerberosStep};
use trivet_formats::client::{op, RequestHeader};
use trivet_formats::{Jute, Reader};
use trivet_security::gssapi::{Names, Server, Step};

/// Steps of all clients that are computed at one time; further ones wait.
const STEPS_AT_ONCE: usize = 4;

/// The key of this server, for clients that come with tickets.
pub struct Kerberos {
    credentials: Credentials,
    names: Names,
    steps: Semaphore,
}

impl std::fmt::Debug for Kerberos {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kerberos {{ {:?} }}", self.names)
    }
}

impl Kerberos {
    /// Finds the key of `principal` in the keytab. The realm of `names` becomes that of the principal.
    ///
    /// # Errors
    /// The reason and what to do, for a person: no such file, no such principal in it, or a build without Kerberos.
    pub fn open(keytab: &Path, principal: &str, names: Names) -> Result<Kerberos, String> {
        let (credentials, realm) = Credentials::acquire(keytab, principal)?;
        Ok(Kerberos { credentials, names: Names { realm, ..names }, steps: Semaphore::new(STEPS_AT_ONCE) })
    }
}

/// The authentication of one connection.
pub(super) struct Login {
    kerberos: Arc<Kerberos>,
    open: Option<Box<(Server, Context)>>,
}

impl Login {
    pub(super) fn new(kerberos: Arc<Kerberos>) -> Login {
        Login { kerberos, open: None }
    }

    /// Carries a request of SASL out; every other one stays as it is.
    pub(super) async fn taken(&mut self, frame: Bytes) -> ClientInput {
        let mut r = Reader::new(&frame);
        let header = RequestHeader::get(&mut r).ok().filter(|h| h.op == op::SASL);
        let token = header.as_ref().and_then(|_| Option::<Bytes>::get(&mut r).ok());
        let (Some(header), Some(token)) = (header, token) else { return ClientInput::Frame(frame) };
        let outcome = self.step(token.unwrap_or_default()).await;
        ClientInput::Kerberos(Box::new(KerberosStep { xid: header.xid, outcome }))
    }

    async fn step(&mut self, token: Bytes) -> KerberosOutcome {
        let kerberos = self.kerberos.clone();
        let mut open =
            self.open.take().unwrap_or_else(|| Box::new((Server::default(), kerberos.credentials.context())));
        let Ok(_turn) = self.kerberos.steps.acquire().await else {
            return KerberosOutcome::Failed("the server ends".into());
        };
        let stepped = tokio::task::spawn_blocking(move || {
            let (server, context) = &mut *open;
            let step = server.step(context, &kerberos.names, &token);
            (step, open)
        });
        match stepped.await {
            Ok((Ok(Step::Answer(token)), open)) => {
                self.open = Some(open);
                KerberosOutcome::Answer(token)
            }
            Ok((Ok(Step::Done(id)), _)) => KerberosOutcome::Done(id),
            Ok((Err(refused), _)) => KerberosOutcome::Failed(refused.to_string()),
            Err(_) => KerberosOutcome::Failed("Kerberos: the library failed".into()),
        }
    }
}

#[cfg(feature = "kerberos")]
mod library;

#[cfg(not(feature = "kerberos"))]
mod library {
    use std::path::Path;
    use trivet_security::gssapi::{Accepted, Acceptor};

    /// Nothing has this type: there is no library.
    pub(super) enum Credentials {}
    pub(super) enum Context {}

    impl Credentials {
        pub(super) fn acquire(_: &Path, _: &str) -> Result<(Credentials, String), String> {
            Err("Kerberos is not supported by this build, which was made without the feature kerberos; \
                 DigestLoginModule is, and so are certificates (ssl.clientAuth=need)"
                .into())
        }
        pub(super) fn context(&self) -> Context {
            match *self {}
        }
    }

    impl Acceptor for Context {
        fn accept(&mut self, _: &[u8]) -> Result<Accepted, String> {
            match *self {}
        }
        fn wrap(&mut self, _: &[u8]) -> Result<Vec<u8>, String> {
            match *self {}
        }
        fn unwrap(&mut self, _: &[u8]) -> Result<Vec<u8>, String> {
            match *self {}
        }
    }
}
