//! Authentication of clients: `authProvider.*`, `enforce.auth.*`, SASL's settings and its JAAS file.

use super::kerberos;
use super::properties::Properties;
use super::ConfigError;
use crate::coordination::{Kerberos, PeerSasl};
use std::path::PathBuf;
use std::sync::Arc;
use trivet_coordination::Auth;
use trivet_security::jaas::{self, Module, Sections};
use trivet_security::PasswordHash;

pub(super) struct Read {
    pub auth: Auth,
    pub schemes: Vec<String>,
    /// Clients authenticate by Kerberos, and not by passwords.
    pub kerberos: Option<Arc<Kerberos>>,
    /// SASL between servers.
    pub peers: Option<Arc<PeerSasl>>,
}

/// `tls`: clients may come with certificates.
pub(super) fn read(p: &mut Properties, tls: bool) -> Result<Read, ConfigError> {
    let digest = p.take("DigestAuthenticationProvider.enabled").is_none_or(|v| v.eq_ignore_ascii_case("true"));
    let mut schemes: Vec<String> = if digest { vec!["digest".into()] } else { Vec::new() };
    schemes.extend(providers(p)?);
    if tls && !schemes.iter().any(|s| s == "x509") {
        //= zookeeper 3.9 QuorumPeerConfig.configureSSLAuth
        schemes.push("x509".into());
    }
    let hash = match p.take("DigestAuthenticationProvider.digestAlg") {
        Some(name) => PasswordHash::of_java(&name).ok_or_else(|| {
            p.bad(
                "DigestAuthenticationProvider.digestAlg",
                &name,
                "MD5, SHA1, SHA-224, SHA-256, SHA-384 and SHA-512 are supported",
            )
        })?,
        None => PasswordHash::default(),
    };
    let (jaas_path, sections) = jaas_file(p)?;
    let fips = p.flag("fips-mode");
    let section = p.take("sasl.serverconfig");
    let server = sections.get(section.as_deref().unwrap_or("Server"));
    if let (Some(name), None) = (&section, server) {
        return Err(p.bad("sasl.serverconfig", name, "the JAAS file has no section of that name"));
    }
    let super_password = p.take("SASLAuthenticationProvider.superPassword");
    let (mut sasl_users, mut kerberos) = (None, None);
    let names = kerberos::names(p)?;
    if let Some([module]) = server.map(Vec::as_slice)
        && module.name() == "Krb5LoginModule"
    {
        let reason = |reason: String| p.bad("java.security.auth.login.config", &jaas_path, &reason);
        kerberos = Some(Arc::new(kerberos::open(module, names).map_err(reason)?));
    } else if let Some(modules) = server {
        let module = digest_module(p, &jaas_path, modules, fips)?;
        let mut users = module.users();
        if let Some(password) = super_password {
            users.insert("super".into(), password);
        }
        sasl_users = Some(users);
    }
    let required = required_schemes(p, &schemes)?;
    if required.iter().any(|s| s == "sasl") && sasl_users.is_none() && kerberos.is_none() {
        let reason = "clients have to authenticate by SASL, and no JAAS file with a Server section is named: \
                      -Djava.security.auth.login.config=FILE, here or in SERVER_JVMFLAGS";
        return Err(p.bad("sessionRequireClientSASLAuth", "true", reason));
    }
    let super_keys: Vec<String> =
        p.keys().filter(|k| *k == "superUser" || k.starts_with("superUser.")).cloned().collect();
    let auth = Auth {
        sasl_users,
        sasl_super_users: super_keys.iter().filter_map(|k| p.take(k)).collect(),
        x509_super_user: p.take("X509AuthenticationProvider.superUser"),
        digest_hash: hash,
        required_schemes: required,
        sasl_may_fail: p.flag("allowSaslFailedClients"),
    };
    let peers = quorum_sasl(p, &jaas_path, &sections, fips)?;
    Ok(Read { auth, schemes, kerberos, peers })
}

/// `authProvider.1=org.apache...SASLAuthenticationProvider`: which schemes access lists may name.
fn providers(p: &mut Properties) -> Result<Vec<String>, ConfigError> {
    let keys: Vec<String> = p.keys().filter(|k| k.starts_with("authProvider.")).cloned().collect();
    let mut out = Vec::new();
    for key in keys {
        let class = p.take(&key).unwrap_or_default();
        match class.rsplit('.').next().unwrap_or_default() {
            "SASLAuthenticationProvider" => out.push("sasl".to_string()),
            "X509AuthenticationProvider" => out.push("x509".to_string()),
            "DigestAuthenticationProvider" => out.push("digest".to_string()),
            "IPAuthenticationProvider" => {}
            _ => {
                return Err(p.bad(
                    &key,
                    &class,
                    "classes of Java cannot be used here; SASL, X509, Digest and IP are supported",
                ))
            }
        }
    }
    out.sort();
    out.dedup();
    Ok(out)
}

//= zookeeper 3.9 AuthenticationHelper.initConfigurations
fn required_schemes(p: &mut Properties, known: &[String]) -> Result<Vec<String>, ConfigError> {
    let enforced = p.flag("enforce.auth.enabled");
    let listed = p.take("enforce.auth.schemes").unwrap_or_default();
    let sasl = p.flag("sessionRequireClientSASLAuth");
    if !enforced {
        return Ok(if sasl { vec!["sasl".into()] } else { Vec::new() });
    }
    let list: Vec<String> = listed.split(',').map(|s| s.trim().to_string()).filter(|s| !s.is_empty()).collect();
    if list.is_empty() {
        return Err(p.bad("enforce.auth.enabled", "true", "enforce.auth.schemes names no scheme"));
    }
    if let Some(unknown) = list.iter().find(|s| *s != "ip" && !known.contains(s)) {
        return Err(p.bad(
            "enforce.auth.schemes",
            &listed,
            &format!("no authProvider of the scheme {unknown} is configured"),
        ));
    }
    Ok(list)
}

fn jaas_file(p: &mut Properties) -> Result<(String, Sections), ConfigError> {
    let Some(path) = p.take("java.security.auth.login.config") else { return Ok((String::new(), Sections::new())) };
    // Java takes `=FILE` for "this file and no other".
    let name = path.trim_start_matches('=').trim_start_matches("file:").to_string();
    let file = PathBuf::from(&name);
    let text = std::fs::read_to_string(&file).map_err(|source| ConfigError::Read { path: file, source })?;
    let sections = jaas::parse(&text).map_err(|e| p.bad("java.security.auth.login.config", &name, &e.to_string()))?;
    Ok((name, sections))
}

/// The one module of a section, of the kind that is supported.
fn digest_module<'a>(p: &Properties, path: &str, modules: &'a [Module], fips: bool) -> Result<&'a Module, ConfigError> {
    let bad = |reason: &str| Err(p.bad("java.security.auth.login.config", path, reason));
    match modules {
        [one] if one.name() == "DigestLoginModule" && fips => {
            bad("DIGEST-MD5 is off with fips-mode=true; set it to false, or authenticate by certificates (ssl.clientAuth=need)")
        }
        [one] if one.name() == "DigestLoginModule" => Ok(one),
        [one] if one.name() == "Krb5LoginModule" => {
            bad("Kerberos is not supported between servers; DigestLoginModule is, and so is TLS (sslQuorum)")
        }
        [one] => bad(&format!("the login module {} is not supported; DigestLoginModule is", one.class)),
        _ => bad("a section has one login module here"),
    }
}

/// How servers show each other who they are.
//= zookeeper 3.9 QuorumPeerConfig.parseProperties, quorum/auth
fn quorum_sasl(
    p: &mut Properties,
    path: &str,
    sections: &Sections,
    fips: bool,
) -> Result<Option<Arc<PeerSasl>>, ConfigError> {
    let mut flag = |key: &str| p.flag(&format!("quorum.auth.{key}"));
    let (enabled, server, learner) = (flag("enableSasl"), flag("serverRequireSasl"), flag("learnerRequireSasl"));
    let mut section = |key: &str, usual: &str| p.take(&format!("quorum.auth.{key}")).unwrap_or_else(|| usual.into());
    let of_server = section("server.saslLoginContext", "QuorumServer");
    let of_learner = section("learner.saslLoginContext", "QuorumLearner");
    p.take("quorum.auth.kerberos.servicePrincipal");
    p.take("quorum.cnxn.threads.size");
    if !enabled && (server || learner) {
        let key = if server { "quorum.auth.serverRequireSasl" } else { "quorum.auth.learnerRequireSasl" };
        return Err(p.bad(key, "true", "quorum.auth.enableSasl is not true"));
    }
    if server && !learner {
        let reason = "this server could not follow one that demands the same; set quorum.auth.learnerRequireSasl, too";
        return Err(p.bad("quorum.auth.serverRequireSasl", "true", reason));
    }
    if !enabled {
        return Ok(None);
    }
    let module = |name: &str| match sections.get(name) {
        Some(modules) => digest_module(p, path, modules, fips),
        None => {
            let reason = format!(
                "no JAAS file has a section {name}: name one by -Djava.security.auth.login.config=FILE, here or in \
                 SERVER_JVMFLAGS"
            );
            Err(p.bad("quorum.auth.enableSasl", "true", &reason))
        }
    };
    let users = module(&of_server)?.users();
    let shown = &module(&of_learner)?.options;
    let credentials = match (shown.get("username"), shown.get("password")) {
        (Some(user), Some(password)) => (user.clone(), password.clone()),
        _ => {
            let reason = format!("section {of_learner} has no username and password");
            return Err(p.bad("java.security.auth.login.config", path, &reason));
        }
    };
    Ok(Some(Arc::new(PeerSasl { users, demanded: server, credentials: learner.then_some(credentials) })))
}

#[cfg(test)]
mod tests {
    use crate::zoo_cfg::{load, ConfigError, ZooCfg};
    use trivet_coordination::Config;

    struct Site {
        dir: tempfile::TempDir,
    }

    impl Site {
        fn load(&self, jaas: &str, lines: &str) -> Result<Config, ConfigError> {
            self.load_all(jaas, lines).map(|z| z.settings.config)
        }
        fn load_all(&self, jaas: &str, lines: &str) -> Result<ZooCfg, ConfigError> {
            let (cfg, file) = (self.dir.path().join("zoo.cfg"), self.dir.path().join("jaas.conf"));
            std::fs::write(&file, jaas).unwrap();
            let base = format!("dataDir={}\nclientPort=2181\n{lines}", self.dir.path().display());
            std::fs::write(&cfg, base).unwrap();
            let define = format!("java.security.auth.login.config={}", file.display());
            load(&cfg, if jaas.is_empty() { &[] } else { std::slice::from_ref(&define) })
        }
        fn refused(&self, jaas: &str, lines: &str) -> String {
            self.load(jaas, lines).expect_err(lines).to_string()
        }
    }

    const DIGEST: &str = "Server { org.apache.zookeeper.server.auth.DigestLoginModule required user_bob=\"s\"; };";
    const QUORUM: &str = "QuorumServer { org.apache.zookeeper.server.auth.DigestLoginModule required user_z=\"p\"; };\
                          QuorumLearner { org.apache.zookeeper.server.auth.DigestLoginModule required username=\"z\" password=\"p\"; };";
    const KERBEROS_PEERS: &str = "QuorumServer { com.sun.security.auth.module.Krb5LoginModule required keyTab=x; };";
    const SASL: &str = "authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider\n";

    #[test]
    fn users_schemes_and_requirements_are_those_of_the_settings() {
        let site = Site { dir: tempfile::tempdir().unwrap() };
        let c = site.load("", "").unwrap();
        assert!(c.auth.sasl_users.is_none() && c.auth.required_schemes.is_empty() && c.auth_schemes == ["digest"]);
        let lines = format!("{SASL}sessionRequireClientSASLAuth=True\nsuperUser=bob\nsuperUser.2=eve\n");
        let c = site.load(DIGEST, &lines).unwrap();
        assert_eq!(c.auth.sasl_users.unwrap()["bob"], "s");
        assert_eq!(
            (&c.auth_schemes[..], &c.auth.required_schemes[..]),
            (&["digest".into(), "sasl".into()][..], &["sasl".into()][..])
        );
        assert_eq!(c.auth.sasl_super_users, ["bob", "eve"]);
        let lines = format!("{SASL}enforce.auth.enabled=true\nenforce.auth.schemes=sasl,digest\nDigestAuthenticationProvider.digestAlg=SHA-256\n");
        let c = site.load(DIGEST, &lines).unwrap();
        assert_eq!(c.auth.required_schemes, ["sasl", "digest"]);
        assert_ne!(c.auth.digest_hash, Default::default());
        assert!(site.load("", "DigestAuthenticationProvider.enabled=false\n").unwrap().auth_schemes.is_empty());
        // A JAAS file without a section for servers does not enable SASL.
        assert!(site.load("Client { X required; };", "").unwrap().auth.sasl_users.is_none());
    }

    #[test]
    fn servers_show_each_other_what_the_settings_say() {
        let site = Site { dir: tempfile::tempdir().unwrap() };
        let sasl = |lines: &str| site.load_all(QUORUM, lines).unwrap().settings.security.peers.sasl;
        assert_eq!(sasl(""), None);
        let enabled = sasl("quorum.auth.enableSasl=true\n").unwrap();
        assert!(enabled.users["z"] == "p" && enabled.credentials.is_none() && !enabled.demanded);
        let lines =
            "quorum.auth.enableSasl=true\nquorum.auth.learnerRequireSasl=true\nquorum.auth.serverRequireSasl=TRUE\n";
        let all = sasl(lines).unwrap();
        assert!(all.demanded && all.credentials == Some(("z".into(), "p".into())));
        assert!(!format!("{all:?}").contains("\"p\""), "passwords do not get into a log");
    }

    #[test]
    fn what_would_protect_and_cannot_stops_the_start() {
        let site = Site { dir: tempfile::tempdir().unwrap() };
        let kerberos = "Server { com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true; };";
        for (jaas, lines, reason) in [
            ("", "sessionRequireClientSASLAuth=true\n", "JAAS file"),
            (kerberos, "", if cfg!(feature = "kerberos") { "storeKey=true" } else { "not supported by this build" }),
            (KERBEROS_PEERS, "quorum.auth.enableSasl=true\n", "not supported between servers"),
            ("", "security.auth_to_local=RULE:[1:$1]\n", "auth_to_local"),
            ("Server { com.example.Login required; };", "", "com.example.Login"),
            (DIGEST, "fips-mode=true\n", "fips-mode"),
            ("Server {", "", "line 1"),
            (DIGEST, "sasl.serverconfig=Other\n", "no section"),
            ("", "enforce.auth.enabled=true\n", "names no scheme"),
            ("", "enforce.auth.enabled=true\nenforce.auth.schemes=sasl\n", "no authProvider"),
            ("", "authProvider.1=com.example.Provider\n", "classes of Java"),
            ("", "DigestAuthenticationProvider.digestAlg=SHA3-256\n", "SHA-256"),
            ("", "quorum.auth.enableSasl=true\n", "section QuorumServer"),
            ("", "quorum.auth.serverRequireSasl=true\n", "enableSasl is not true"),
            (QUORUM, "quorum.auth.enableSasl=true\nquorum.auth.serverRequireSasl=true\n", "learnerRequireSasl"),
            (QUORUM, "quorum.auth.enableSasl=true\nquorum.auth.learner.saslLoginContext=X\n", "section X"),
            (QUORUM, "quorum.auth.enableSasl=true\nquorum.auth.learner.saslLoginContext=QuorumServer\n", "no username"),
            (QUORUM, "quorum.auth.enableSasl=true\nfips-mode=true\n", "fips-mode"),
        ] {
            let said = site.refused(jaas, lines);
            assert!(said.contains(reason), "{lines}: {said}");
        }
    }
}
