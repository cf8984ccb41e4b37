//! Access lists: who may do what, and the clean-up of lists that clients send.

use std::net::IpAddr;
use trivet_formats::client::{err, Acl, Id};

/// Whether a connection with these ids has the permission.
pub fn allows(acl: &[Acl], perm: i32, ids: &[Id]) -> bool {
    if acl.is_empty() || ids.iter().any(|i| i.scheme == "super") {
        return true;
    }
    acl.iter().filter(|a| a.perms & perm != 0).any(|a| match a.id.scheme.as_str() {
        "world" => a.id.id == "anyone",
        "ip" => ids.iter().any(|i| i.scheme == "ip" && ip_matches(&i.id, &a.id.id)),
        //= zookeeper 3.9 SASLAuthenticationProvider.matches: the user "super" is everybody
        "sasl" => ids.iter().any(|i| i.scheme == "sasl" && (i.id == a.id.id || i.id == "super")),
        scheme => ids.iter().any(|i| i.scheme == scheme && i.id == a.id.id),
    })
}

/// Replaces "auth" entries by the connection's own ids, drops duplicates, refuses invalid entries, and those of schemes by
/// which nobody can authenticate here: such a node would be out of everybody's reach.
//= zookeeper 3.9 PrepRequestProcessor.fixupACL
pub fn fix_up(acl: &[Acl], ids: &[Id], schemes: &[String]) -> Result<Vec<Acl>, i32> {
    let known = |scheme: &str| schemes.iter().any(|s| s == scheme);
    let mut out: Vec<Acl> = Vec::new();
    let mut push = |a: Acl| {
        if !out.contains(&a) {
            out.push(a);
        }
    };
    for entry in acl {
        let Id { scheme, id } = &entry.id;
        match scheme.as_str() {
            "world" if id == "anyone" => push(entry.clone()),
            "auth" => {
                let mine: Vec<_> = ids.iter().filter(|i| known(&i.scheme)).collect();
                if mine.is_empty() {
                    return Err(err::INVALID_ACL);
                }
                mine.into_iter().for_each(|i| push(Acl { perms: entry.perms, id: i.clone() }));
            }
            "digest" if known(scheme) && id.split(':').count() == 2 && id.split(':').all(|p| !p.is_empty()) => {
                push(entry.clone())
            }
            "ip" if parse_ip(id).is_some() => push(entry.clone()),
            "sasl" | "x509" if known(scheme) && !id.is_empty() => push(entry.clone()),
            _ => return Err(err::INVALID_ACL),
        }
    }
    if out.is_empty() {
        return Err(err::INVALID_ACL);
    }
    Ok(out)
}

fn parse_ip(text: &str) -> Option<(IpAddr, u32)> {
    let (addr, bits) = match text.split_once('/') {
        Some((a, b)) => (a, Some(b.parse::<u32>().ok()?)),
        None => (text, None),
    };
    let addr: IpAddr = addr.parse().ok()?;
    let width = if addr.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(width);
    (bits <= width).then_some((addr, bits))
}

fn ip_matches(client: &str, pattern: &str) -> bool {
    let (Ok(client), Some((net, bits))) = (client.parse::<IpAddr>(), parse_ip(pattern)) else { return false };
    match (client, net) {
        (IpAddr::V4(c), IpAddr::V4(n)) => bits == 0 || (u32::from(c) ^ u32::from(n)) >> (32 - bits) == 0,
        (IpAddr::V6(c), IpAddr::V6(n)) => bits == 0 || (u128::from(c) ^ u128::from(n)) >> (128 - bits) == 0,
        _ => false,
    }
}

/// The list as getACL shows it to somebody without ADMIN: the hashes of digest ids are hidden.
pub fn masked(acl: &[Acl]) -> Vec<Acl> {
    acl.iter()
        .map(|a| {
            let mut a = a.clone();
            if a.id.scheme == "digest" {
                let user = a.id.id.split(':').next().unwrap_or_default().to_string();
                a.id.id = format!("{user}:x");
            }
            a
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(scheme: &str, id: &str) -> Id {
        Id { scheme: scheme.into(), id: id.into() }
    }

    #[test]
    fn networks_match_by_prefix() {
        let acl = [Acl { perms: 1, id: id("ip", "10.0.10.0/24") }];
        assert!(allows(&acl, 1, &[id("ip", "10.0.10.73")]));
        assert!(!allows(&acl, 1, &[id("ip", "10.0.11.73")]));
        assert!(!allows(&acl, 2, &[id("ip", "10.0.10.73")]));
    }

    #[test]
    fn auth_becomes_the_connections_ids() {
        let auth = [Acl { perms: 31, id: id("auth", "") }];
        let schemes = ["digest".to_string()];
        assert_eq!(fix_up(&auth, &[id("ip", "1.2.3.4")], &schemes), Err(err::INVALID_ACL));
        let fixed =
            fix_up(&[auth[0].clone(), auth[0].clone()], &[id("digest", "a:b"), id("sasl", "c")], &schemes).unwrap();
        assert_eq!(fixed, [Acl { perms: 31, id: id("digest", "a:b") }]);
        assert_eq!(fix_up(&[], &[], &schemes), Err(err::INVALID_ACL));
        let sasl = [Acl { perms: 31, id: id("sasl", "c") }];
        assert_eq!(fix_up(&sasl, &[], &schemes), Err(err::INVALID_ACL), "nobody could be that");
        assert_eq!(fix_up(&sasl, &[], &["sasl".into()]).as_deref(), Ok(&sasl[..]));
        assert_eq!(fix_up(&[Acl { perms: 31, id: id("digest", "a:b") }], &[], &[]), Err(err::INVALID_ACL));
    }
}
