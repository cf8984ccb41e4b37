//! Kerberos in a JAAS file: the options of a `Krb5LoginModule`, and how principals become ids.

use super::properties::Properties;
use super::ConfigError;
use crate::coordination::Kerberos;
use std::path::Path;
use trivet_security::gssapi::Names;
use trivet_security::jaas::Module;

/// The settings about names, which are taken whether Kerberos is used or not.
//= zookeeper 3.9 SaslServerCallbackHandler, KerberosName
pub(super) fn names(p: &mut Properties) -> Result<Names, ConfigError> {
    let remove_host = p.flag("kerberos.removeHostFromPrincipal");
    let remove_realm = p.flag("kerberos.removeRealmFromPrincipal");
    match p.take("security.auth_to_local") {
        Some(rules) if rules.trim() != "DEFAULT" => {
            let reason = "rules for names are not supported; kerberos.removeHostFromPrincipal and \
                          kerberos.removeRealmFromPrincipal are";
            Err(p.bad("security.auth_to_local", &rules, reason))
        }
        _ => Ok(Names { realm: String::new(), remove_host, remove_realm }),
    }
}

/// The keytab and the principal that a module of servers names.
//= OpenJDK com.sun.security.auth.module.Krb5LoginModule
fn key(module: &Module) -> Result<(&str, &str), String> {
    let is_true = |key: &str| module.options.get(key).is_some_and(|v| v.eq_ignore_ascii_case("true"));
    for option in ["useKeyTab", "storeKey"] {
        if !is_true(option) {
            return Err(format!("Krb5LoginModule has no {option}=true, without which a server has no key"));
        }
    }
    let Some(keytab) = module.options.get("keyTab") else {
        return Err("Krb5LoginModule has no keyTab: name the file with the server's key".into());
    };
    let principal = module.options.get("principal").map_or("", String::as_str);
    if principal.is_empty() || principal == "*" {
        return Err("Krb5LoginModule names no principal: zookeeper/HOST@REALM, as clients ask for it".into());
    }
    Ok((keytab.trim_start_matches("file:"), principal))
}

/// Finds the server's key.
///
/// # Errors
/// The reason and what to do, as text.
pub(super) fn open(module: &Module, names: Names) -> Result<Kerberos, String> {
    // A build without Kerberos says so before it finds fault with the options.
    if !cfg!(feature = "kerberos") {
        return Kerberos::open(Path::new(""), "", names);
    }
    let (keytab, principal) = key(module)?;
    Kerberos::open(Path::new(keytab), principal, names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use trivet_security::jaas;

    #[test]
    fn a_module_names_the_key_of_a_server_or_is_refused_with_what_is_missing() {
        let read = |options: &str| {
            let text = format!("Server {{ com.sun.security.auth.module.Krb5LoginModule required {options}; }};");
            key(&jaas::parse(&text).unwrap()["Server"][0]).map(|(keytab, principal)| format!("{keytab} {principal}"))
        };
        let all =
            r#"useKeyTab=true storeKey="TRUE" useTicketCache=false keyTab="/etc/zk.keytab" principal="zookeeper/h@R""#;
        assert_eq!(read(all).as_deref(), Ok("/etc/zk.keytab zookeeper/h@R"));
        for (without, said) in [
            (all.replace("useKeyTab=true", ""), "useKeyTab=true"),
            (all.replace("TRUE", "false"), "storeKey=true"),
            (all.replace("keyTab=\"/", "other=\"/"), "no keyTab"),
            (all.replace("principal", "other"), "no principal"),
            (all.replace("zookeeper/h@R", "*"), "no principal"),
        ] {
            let refused = read(&without).unwrap_err();
            assert!(refused.contains(said), "{without}: {refused}");
        }
    }

    #[cfg(feature = "kerberos")]
    #[test]
    fn a_keytab_that_is_not_there_or_is_none_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("zk.keytab");
        let open = || Kerberos::open(&path, "zookeeper/h@R", Names::default()).unwrap_err();
        assert!(open().contains("zk.keytab cannot be read"), "{}", open());
        std::fs::write(&path, b"\x05\x02").unwrap();
        assert!(open().contains("has no key of zookeeper/h@R"), "{}", open());
        std::fs::write(&path, b"no keytab").unwrap();
        assert!(open().contains("has no key of zookeeper/h@R"), "{}", open());
    }
}
