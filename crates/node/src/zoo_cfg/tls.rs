//! `secureClientPort`, `sslQuorum`, and the `ssl.` and `ssl.quorum.` settings: stores, certificates and rules.

use super::members::resolve;
use super::properties::Properties;
use super::ConfigError;
use crate::coordination::tls::{ClientAuth, Context, Mode, Speaks, StoreFile, TlsSettings};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use trivet_security::Kind;

/// TLS of each kind of port.
pub(super) struct Ports {
    /// The ports that `clientPort` names.
    pub client: Speaks,
    pub secure: Option<(SocketAddr, Speaks)>,
    pub quorum: Speaks,
    /// Between servers: TLS where this one calls.
    pub quorum_dials_tls: bool,
    /// The AdminServer's, with the certificates of the quorum port.
    pub admin: Speaks,
}

pub(super) fn read(p: &mut Properties) -> Result<Ports, ConfigError> {
    let secure_port = match p.take("secureClientPort") {
        Some(v) => Some(v.parse::<u16>().map_err(|_| p.bad("secureClientPort", &v, "it is not a port"))?),
        None => None,
    };
    let secure_host = p.take("secureClientPortAddress").unwrap_or_else(|| "0.0.0.0".into());
    let unified = p.flag("client.portUnification");
    let quorum_tls = p.flag("sslQuorum");
    let quorum_unified = p.flag("portUnification");
    let reload = [p.flag("client.certReload"), p.flag("sslQuorumReloadCertFiles")];
    let client = settings(p, "ssl.", reload[0], secure_port.is_some() || unified)?;
    //= zookeeper 3.9 JettyAdminServer: forceHttps is TLS alone; portUnification takes both
    let (https, https_unified) = (p.flag("admin.forceHttps"), p.flag("admin.portUnification"));
    let need_client = p.flag("admin.needClientAuth");
    let admin_mode = match (https, https_unified) {
        _ if !super::admin_is_wanted(p) => Mode::Plain,
        (true, _) => Mode::Tls,
        (false, true) => Mode::Both,
        (false, false) => Mode::Plain,
    };
    let quorum = settings(p, "ssl.quorum.", reload[1], quorum_tls || quorum_unified || admin_mode != Mode::Plain)?;
    let admin = quorum.clone().filter(|_| admin_mode != Mode::Plain).map(|settings| TlsSettings {
        client_auth: if need_client { ClientAuth::Need } else { ClientAuth::None },
        verify_caller: false,
        ..settings
    });
    let quorum = quorum.filter(|_| quorum_tls || quorum_unified);
    refuse_other_providers(p)?;
    let client = context(p, "ssl.", client)?;
    let quorum = context(p, "ssl.quorum.", quorum)?;
    let admin = Speaks { mode: admin_mode, tls: context(p, "ssl.quorum.", admin)? };
    let secure = match secure_port {
        Some(port) => {
            let at = resolve(&secure_host, port).map_err(|r| p.bad("secureClientPortAddress", &secure_host, &r))?;
            Some((at, Speaks { mode: Mode::Tls, tls: client.clone() }))
        }
        None => None,
    };
    //= zookeeper 3.9 QuorumPeer: sslQuorum and not portUnification is TLS alone; portUnification takes both
    let quorum_mode = match (quorum_tls, quorum_unified) {
        (_, true) => Mode::Both,
        (true, false) => Mode::Tls,
        (false, false) => Mode::Plain,
    };
    let client = if unified { Speaks { mode: Mode::Both, tls: client } } else { Speaks::default() };
    Ok(Ports { client, secure, quorum: Speaks { mode: quorum_mode, tls: quorum }, quorum_dials_tls: quorum_tls, admin })
}

/// Takes all settings of a prefix; they count if TLS is wanted.
fn settings(
    p: &mut Properties,
    prefix: &'static str,
    reload: bool,
    wanted: bool,
) -> Result<Option<TlsSettings>, ConfigError> {
    let key = |name: &str| format!("{prefix}{name}");
    for name in ["crl", "ocsp"] {
        if p.flag(&key(name)) {
            let reason =
                "revocation of certificates is not checked here; trust certificates that end soon instead, and \
                          replace them while the server runs (client.certReload, sslQuorumReloadCertFiles)";
            return Err(p.bad(&key(name), "true", reason));
        }
    }
    if let Some(class) = p.take(&key("context.supplier.class")) {
        return Err(p.bad(&key("context.supplier.class"), &class, "classes of Java cannot be used here"));
    }
    let key_store = store(p, &key("keyStore"))?;
    let trust_store = store(p, &key("trustStore"))?;
    let auth = p.take(&key("clientAuth"));
    let client_auth = match auth.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None | Some("need") => ClientAuth::Need,
        Some("want") => ClientAuth::Want,
        Some("none") => ClientAuth::None,
        Some(other) => return Err(p.bad(&key("clientAuth"), other, "it is none of none, want and need")),
    };
    let verify_host = p.take(&key("hostnameVerification")).is_none_or(|v| v.eq_ignore_ascii_case("true"));
    let verify_caller = p.take(&key("clientHostnameVerification"));
    let verify_caller = verify_caller.map_or(prefix == "ssl.quorum.", |v| v.eq_ignore_ascii_case("true"));
    // Names of callers are compared with certificates by address; a name that DNS tells for an address proves nothing.
    p.take(&key("allowReverseDnsLookup"));
    let (tls12, tls13) = protocols(p, &key("enabledProtocols"), &key("protocol"))?;
    let suites = p.take(&key("ciphersuites")).unwrap_or_default();
    let cipher_suites = suites.split(',').map(|s| s.trim().to_string()).filter(|s| !s.is_empty()).collect();
    let limit_ms: i64 = p.number(&key("handshakeDetectionTimeoutMillis"), 5_000)?;
    if !wanted {
        return Ok(None);
    }
    let Some(key_store) = key_store else {
        let reason = format!("{} names no file, and a server shows a certificate", key("keyStore.location"));
        let what = if prefix == "ssl." { "secureClientPort" } else { "sslQuorum or admin.forceHttps" };
        return Err(p.bad(what, "", &reason));
    };
    Ok(Some(TlsSettings {
        key_store,
        trust_store,
        client_auth,
        verify_host,
        verify_caller: verify_caller && verify_host,
        tls12,
        tls13,
        cipher_suites,
        handshake_limit: Duration::from_millis(u64::try_from(limit_ms).ok().filter(|ms| *ms > 0).unwrap_or(5_000)),
        reload,
    }))
}

/// Protocols by Java's names. Those that this library does not have are left out, unless nothing remains.
fn protocols(p: &mut Properties, enabled: &str, default: &str) -> Result<(bool, bool), ConfigError> {
    let default_value = p.take(default);
    let (key, list) = match p.take(enabled) {
        Some(list) => (enabled, list),
        None => match default_value {
            // "TLS" is any.
            Some(one) if !one.eq_ignore_ascii_case("TLS") => (default, one),
            _ => return Ok((true, true)),
        },
    };
    let has = |name: &str| list.split(',').any(|v| v.trim().eq_ignore_ascii_case(name));
    match (has("TLSv1.2"), has("TLSv1.3")) {
        (false, false) => Err(p.bad(key, &list, "TLSv1.2 and TLSv1.3 are supported")),
        found => Ok(found),
    }
}

fn store(p: &mut Properties, key: &str) -> Result<Option<StoreFile>, ConfigError> {
    let location = p.take(&format!("{key}.location")).filter(|l| !l.is_empty());
    let kind = p.take(&format!("{key}.type")).unwrap_or_default();
    let mut password = p.take(&format!("{key}.password")).unwrap_or_default();
    if let Some(path) = p.take(&format!("{key}.passwordPath")).filter(|l| !l.is_empty()) {
        let path = PathBuf::from(path);
        let text = std::fs::read_to_string(&path).map_err(|source| ConfigError::Read { path, source })?;
        password = text.trim_end_matches(['\r', '\n']).to_string();
    }
    let Some(location) = location else { return Ok(None) };
    let kind = Kind::of(&kind, &location).map_err(|e| p.bad(&format!("{key}.location"), &location, &e.to_string()))?;
    Ok(Some(StoreFile { path: location.into(), kind, password }))
}

fn context(p: &Properties, prefix: &str, settings: Option<TlsSettings>) -> Result<Option<Arc<Context>>, ConfigError> {
    let Some(settings) = settings else { return Ok(None) };
    let location = settings.key_store.path.display().to_string();
    let context = Context::new(settings);
    context
        .map(|c| Some(Arc::new(c)))
        .map_err(|e| p.bad(&format!("{prefix}keyStore.location"), &location, &e.to_string()))
}

/// A provider of certificates' names that is written in Java, or one of OpenSSL.
fn refuse_other_providers(p: &mut Properties) -> Result<(), ConfigError> {
    if let Some(scheme) = p.take("ssl.authProvider").filter(|s| s != "x509") {
        return Err(p.bad("ssl.authProvider", &scheme, "x509 is the only one here; classes of Java cannot be used"));
    }
    for key in ["ssl.sslProvider", "ssl.tcnative.ocsp.stapling"] {
        p.take(key);
    }
    Ok(())
}
