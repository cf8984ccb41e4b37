//! The ids of a client: by its address, its certificate, `addauth`, or SASL. A client that has to authenticate and does not is closed.

use super::{framed, Requests};
use crate::api::{KerberosOutcome, KerberosStep, Security};
use crate::ConnId;
use bytes::Bytes;
use trivet_formats::client::{err, AuthPacket, Id, ReplyHeader};
use trivet_formats::jute::put_buffer;
use trivet_formats::Jute;
use trivet_security::digest_md5;

/// How far the SASL of a connection has come.
#[derive(Default)]
pub(super) struct Sasl {
    nonce: String,
    /// Challenges so far; each has a nonce of its own.
    challenges: u32,
    open: Option<digest_md5::Server>,
}

impl Requests<'_> {
    pub(super) fn security(&mut self, id: ConnId, security: Security) {
        let super_user = self.cx.cfg.auth.x509_super_user.clone();
        let Some(conn) = self.cx.clients.conns.get_mut(&id) else { return };
        conn.sasl.nonce = security.nonce;
        if let Some(name) = security.certificate {
            //= zookeeper 3.9 X509AuthenticationProvider.handleAuthentication
            if super_user.as_ref() == Some(&name) {
                conn.ids.push(Id { scheme: "super".into(), id: name.clone() });
            }
            conn.ids.push(Id { scheme: "x509".into(), id: name });
        }
    }

    pub(super) fn authenticate(&mut self, id: ConnId, xid: i32, body: &[u8]) {
        let parsed = AuthPacket::parse(body).ok();
        let Some(conn) = self.cx.clients.conns.get_mut(&id) else { return };
        let mut add = |scheme: &str, id: String| {
            let id = Id { scheme: scheme.into(), id };
            if !conn.ids.contains(&id) {
                conn.ids.push(id);
            }
        };
        let known = |scheme: &str| self.cx.cfg.auth_schemes.iter().any(|s| s == scheme);
        let ok = match parsed {
            Some(AuthPacket { scheme, auth, .. }) if scheme == "digest" && known("digest") => {
                let text = String::from_utf8_lossy(&auth.unwrap_or_default()).into_owned();
                let digest = self.cx.cfg.auth.digest_hash.id(&text);
                if self.cx.cfg.super_digests.contains(&digest) {
                    add("super", String::new());
                }
                add("digest", digest);
                true
            }
            Some(AuthPacket { scheme, .. }) if scheme == "ip" => true,
            // The certificate was looked at when the connection began.
            Some(AuthPacket { scheme, .. }) if scheme == "x509" => conn.ids.iter().any(|i| i.scheme == "x509"),
            _ => false,
        };
        let header = ReplyHeader { xid, zxid: 0, err: if ok { err::OK } else { err::AUTH_FAILED } };
        self.client_send(id, framed(&[&header.to_vec()]));
        if !ok {
            self.close(id);
        }
    }

    /// Carries out a step of SASL: the empty token asks for the challenge, the next one answers it.
    //= zookeeper 3.9 ZooKeeperServer.processSasl
    pub(super) fn sasl(&mut self, id: ConnId, xid: i32, body: &[u8]) {
        let Ok(token) = Option::<Bytes>::parse(body) else { return self.close(id) };
        let auth = &self.cx.cfg.auth;
        let Some(conn) = self.cx.clients.conns.get_mut(&id) else { return };
        let Some(users) = &auth.sasl_users else {
            // A server without SASL answers with no token, and the client continues without:
            // "cnxn object did not initialize its saslServer properly".
            return self.sasl_answer(id, xid, None);
        };
        let token = token.unwrap_or_default();
        let Some(open) = conn.sasl.open.take() else {
            conn.sasl.challenges += 1;
            let nonce = format!("{}{:x}", conn.sasl.nonce, conn.sasl.challenges);
            let server = digest_md5::Server::new(digest_md5::CLIENTS, nonce);
            let challenge = server.challenge();
            conn.sasl.open = Some(server);
            return self.sasl_answer(id, xid, Some(challenge));
        };
        match open.judge(&token, users) {
            Ok((user, proof)) => self.sasl_done(id, xid, user, Some(proof)),
            Err(refused) => self.sasl_failed(id, xid, refused.to_string()),
        }
    }

    /// A step of SASL that comes with its outcome.
    pub(super) fn kerberos(&mut self, id: ConnId, step: KerberosStep) {
        match step.outcome {
            KerberosOutcome::Answer(token) => self.sasl_answer(id, step.xid, Some(token)),
            KerberosOutcome::Done(user) => self.sasl_done(id, step.xid, user, None),
            KerberosOutcome::Failed(reason) => self.sasl_failed(id, step.xid, reason),
        }
    }

    fn sasl_done(&mut self, id: ConnId, xid: i32, user: String, proof: Option<Vec<u8>>) {
        let Some(conn) = self.cx.clients.conns.get_mut(&id) else { return };
        //= zookeeper 3.9 ZooKeeperServer.isSaslSuperUser
        if self.cx.cfg.auth.sasl_super_users.contains(&user) {
            conn.ids.push(Id { scheme: "super".into(), id: String::new() });
        }
        let own = Id { scheme: "sasl".into(), id: user };
        if !conn.ids.contains(&own) {
            conn.ids.push(own);
        }
        self.sasl_answer(id, xid, proof);
    }

    fn sasl_failed(&mut self, id: ConnId, xid: i32, reason: String) {
        let auth = &self.cx.cfg.auth;
        let required = auth.required_schemes.iter().any(|s| s == "sasl");
        if auth.sasl_may_fail && !required {
            return self.sasl_answer(id, xid, None);
        }
        let Some(conn) = self.cx.clients.conns.get(&id) else { return };
        let code = if required { err::SESSION_CLOSED_REQUIRE_SASL } else { err::AUTH_FAILED };
        let who = format!("the client at {}:{}", conn.ip, conn.port);
        self.cx.refuse(who, reason);
        let mut none = Vec::new();
        put_buffer(&mut none, None);
        self.client_send(id, framed(&[&ReplyHeader { xid, zxid: 0, err: code }.to_vec(), &none]));
        self.close(id);
    }

    fn sasl_answer(&mut self, id: ConnId, xid: i32, token: Option<Vec<u8>>) {
        let mut body = Vec::new();
        put_buffer(&mut body, token.as_deref());
        self.client_send(id, framed(&[&ReplyHeader { xid, zxid: 0, err: err::OK }.to_vec(), &body]));
    }

    /// Whether the client has shown who it is, where it has to.
    pub(super) fn is_admitted(&self, id: ConnId) -> bool {
        let required = &self.cx.cfg.auth.required_schemes;
        required.is_empty()
            || self.cx.clients.conns.get(&id).is_some_and(|c| c.ids.iter().any(|i| required.contains(&i.scheme)))
    }

    //= zookeeper 3.9 AuthenticationHelper.enforceAuthentication
    pub(super) fn turn_away(&mut self, id: ConnId, xid: i32) {
        if let Some(conn) = self.cx.clients.conns.get(&id) {
            let who = format!("the client at {}:{}", conn.ip, conn.port);
            let required = self.cx.cfg.auth.required_schemes.join(", ");
            self.cx.refuse(who, format!("it sent a request without authentication by one of: {required}"));
        }
        let header = ReplyHeader { xid, zxid: 0, err: err::SESSION_CLOSED_REQUIRE_SASL };
        self.client_send(id, framed(&[&header.to_vec()]));
        self.close(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{ClientInput, Effect, Input, Now, Recovered};
    use crate::config::{Auth, Config, Member};
    use crate::server::Server;
    use crate::tree::Tree;
    use trivet_formats::client::{op, xid, ConnectRequest, PathWatch, RequestHeader};
    use trivet_formats::{Reader, ServerId};

    /// A server that is alone, with a user bob, and one client after the other.
    struct Alone {
        server: Server,
        said: Vec<Vec<u8>>,
        closed: bool,
    }

    impl Alone {
        fn new(auth: Auth) -> Alone {
            let users = trivet_security::Users::from([("bob".into(), "secret".into()), ("admin".into(), "a".into())]);
            let auth = Auth { sasl_users: Some(users), sasl_super_users: vec!["admin".into()], ..auth };
            let members = [(ServerId(1), Member { observer: false })].into();
            let cfg = Config { auth, ..Config::new(ServerId(1), members) };
            let recovered = Recovered { tree: Tree::new(), log: Vec::new(), accepted_epoch: 0, current_epoch: 0 };
            let mut alone =
                Alone { server: Server::new(cfg, recovered, Now::default()), said: Vec::new(), closed: false };
            let mut effects = Vec::new();
            alone.server.start(Now::default(), &mut effects);
            alone.carry_out(effects);
            alone
        }
        fn carry_out(&mut self, effects: Vec<Effect>) {
            for effect in effects {
                match effect {
                    Effect::Disk { seq, .. } => self.handle(Input::Durable(seq)),
                    Effect::Client { bytes, .. } => self.said.push(bytes[4..].to_vec()),
                    Effect::CloseClient(_) => self.closed = true,
                    _ => {}
                }
            }
        }
        fn handle(&mut self, input: Input) {
            let mut effects = Vec::new();
            self.server.handle(Now::default(), input, &mut effects);
            self.carry_out(effects);
        }
        fn client(&mut self, input: ClientInput) {
            self.handle(Input::Client { conn: ConnId(1), input });
        }
        fn connects(&mut self, certificate: Option<&str>) {
            self.client(ClientInput::Connected { ip: "10.0.0.9".into(), port: 1 });
            let certificate = certificate.map(str::to_string);
            self.client(ClientInput::Security(Box::new(Security { secure: true, certificate, nonce: "n".into() })));
            let (session, password) = (0, vec![0; 16]);
            let connect = ConnectRequest { last_zxid_seen: 0, timeout_ms: 6_000, session, password, read_only: None };
            self.client(ClientInput::Frame(connect.to_vec().into()));
            self.said.clear();
        }
        /// The answer: its code and its body.
        fn asks(&mut self, op: i32, body: &[u8]) -> (i32, Vec<u8>) {
            let frame = [&RequestHeader { xid: 7, op }.to_vec(), body].concat();
            self.client(ClientInput::Frame(frame.into()));
            let said = self.said.pop().expect("an answer");
            let mut r = Reader::new(&said);
            let header = ReplyHeader::get(&mut r).unwrap();
            assert!(header.xid == 7 || op == op::PING && header.xid == xid::PING);
            (header.err, r.rest().to_vec())
        }
        fn sasl(&mut self, user: &str, password: &str) -> (i32, Option<Bytes>) {
            let (_, body) = self.asks(op::SASL, &Some(Bytes::new()).to_vec());
            let challenge = Option::<Bytes>::parse(&body).unwrap().unwrap();
            let (_, answer) = digest_md5::Client::answer(digest_md5::CLIENTS, &challenge, user, password, "c").unwrap();
            let (code, body) = self.asks(op::SASL, &Some(Bytes::from(answer)).to_vec());
            (code, Option::<Bytes>::parse(&body).unwrap())
        }
        fn ids(&self) -> Vec<String> {
            let (_, conn) = self.server.cx.clients.conns().next().unwrap();
            conn.ids.iter().map(|i| format!("{}:{}", i.scheme, i.id)).collect()
        }
    }

    fn get() -> Vec<u8> {
        PathWatch { path: "/".into(), watch: false }.to_vec()
    }

    #[test]
    fn a_client_is_who_its_password_and_its_certificate_say() {
        let mut a = Alone::new(Auth { x509_super_user: Some("CN=root".into()), ..Auth::default() });
        a.connects(Some("CN=c"));
        let (code, proof) = a.sasl("bob", "secret");
        assert!(code == err::OK && proof.unwrap().starts_with(b"rspauth="));
        assert_eq!(a.ids(), ["ip:10.0.0.9", "x509:CN=c", "sasl:bob"]);
        let mut a = Alone::new(Auth { x509_super_user: Some("CN=root".into()), ..Auth::default() });
        a.connects(Some("CN=root"));
        assert_eq!(a.sasl("admin", "a").0, err::OK);
        assert_eq!(a.ids(), ["ip:10.0.0.9", "super:CN=root", "x509:CN=root", "super:", "sasl:admin"]);
    }

    #[test]
    fn a_ticket_counts_in_its_turn() {
        let step = |xid, outcome| ClientInput::Kerberos(Box::new(KerberosStep { xid, outcome }));
        let required = || Auth { required_schemes: vec!["sasl".into()], ..Auth::default() };
        let header = |said: &[u8]| ReplyHeader::get(&mut Reader::new(said)).unwrap();
        let mut a = Alone::new(required());
        a.connects(None);
        a.client(step(1, KerberosOutcome::Answer(b"mutual".to_vec())));
        assert!(a.said.pop().unwrap().ends_with(b"mutual"));
        a.client(step(2, KerberosOutcome::Done("admin".into())));
        let said = a.said.pop().unwrap();
        assert_eq!((header(&said).xid, header(&said).err, &said[16..]), (2, err::OK, &(-1i32).to_be_bytes()[..]));
        assert_eq!(a.ids(), ["ip:10.0.0.9", "super:", "sasl:admin"]);
        assert_eq!(a.asks(op::GET_DATA, &get()).0, err::OK);
        for (auth, code, closed) in [
            (required(), err::SESSION_CLOSED_REQUIRE_SASL, true),
            (Auth::default(), err::AUTH_FAILED, true),
            (Auth { sasl_may_fail: true, ..Auth::default() }, err::OK, false),
        ] {
            let mut a = Alone::new(auth);
            a.connects(None);
            a.client(step(1, KerberosOutcome::Failed("no ticket".into())));
            assert_eq!((header(&a.said.pop().unwrap()).err, a.closed), (code, closed));
        }
        // Before its session a client has nothing to say.
        let mut a = Alone::new(Auth::default());
        a.client(ClientInput::Connected { ip: "10.0.0.9".into(), port: 1 });
        a.client(step(1, KerberosOutcome::Done("admin".into())));
        assert!(a.closed);
    }

    #[test]
    fn a_wrong_password_ends_the_connection_unless_it_may_fail() {
        let mut a = Alone::new(Auth::default());
        a.connects(None);
        assert_eq!(a.sasl("bob", "Secret"), (err::AUTH_FAILED, None));
        assert!(a.closed);
        let mut a = Alone::new(Auth { sasl_may_fail: true, ..Auth::default() });
        a.connects(None);
        assert_eq!(a.sasl("bob", "Secret"), (err::OK, None));
        assert_eq!((a.closed, a.ids().len(), a.asks(op::GET_DATA, &get()).0), (false, 1, err::OK));
        // A challenge that was answered wrongly is not judged again.
        assert_eq!(a.sasl("bob", "secret").0, err::OK);
    }

    #[test]
    fn nothing_is_served_to_a_client_that_has_to_authenticate_and_does_not() {
        let required = || Auth { required_schemes: vec!["sasl".into()], ..Auth::default() };
        for op in [op::GET_DATA, op::SET_DATA, op::PING, op::SYNC, op::CLOSE_SESSION] {
            let mut a = Alone::new(required());
            a.connects(Some("CN=c"));
            assert_eq!(a.asks(op, &get()), (err::SESSION_CLOSED_REQUIRE_SASL, Vec::new()), "{op}");
            assert!(a.closed);
        }
        let mut a = Alone::new(required());
        a.connects(None);
        assert_eq!(a.sasl("bob", "x"), (err::SESSION_CLOSED_REQUIRE_SASL, None));
        let mut a = Alone::new(required());
        a.connects(None);
        assert_eq!((a.sasl("bob", "secret").0, a.asks(op::GET_DATA, &get()).0), (err::OK, err::OK));
        assert!(!a.closed);
    }
}
