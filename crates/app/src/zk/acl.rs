//! Access lists as zkCli.sh writes them: `world:anyone:r,digest:u:HASH:cdrwa`.

use trivet_formats::client::{perms, Acl, Id};

const LETTERS: [(char, i32); 5] =
    [('c', perms::CREATE), ('d', perms::DELETE), ('r', perms::READ), ('w', perms::WRITE), ('a', perms::ADMIN)];

/// An id may have colons and commas in it (a certificate's name has): what ends an entry is a list of permissions.
pub fn parse(text: &str) -> Result<Vec<Acl>, String> {
    let mut out = Vec::new();
    let mut entry = String::new();
    for part in text.split(',') {
        if entry.is_empty() && part.is_empty() {
            // A comma too many.
            out.clear();
            break;
        }
        if !entry.is_empty() {
            entry.push(',');
        }
        entry.push_str(part);
        if let Some(acl) = one(&entry) {
            out.push(acl);
            entry.clear();
        }
    }
    if entry.is_empty() && !out.is_empty() {
        Ok(out)
    } else {
        Err(format!("{text} is no access list; SCHEME:ID:PERMISSIONS is expected, permissions of the letters cdrwa"))
    }
}

fn one(entry: &str) -> Option<Acl> {
    let (rest, letters) = entry.rsplit_once(':')?;
    let (scheme, id) = rest.split_once(':')?;
    let mut bits = 0;
    for letter in letters.chars() {
        bits |= LETTERS.iter().find(|(c, _)| *c == letter)?.1;
    }
    (bits != 0).then(|| Acl { perms: bits, id: Id { scheme: scheme.into(), id: id.into() } })
}

pub fn text(acl: &Acl) -> String {
    let letters: String = LETTERS.iter().filter(|(_, bit)| acl.perms & bit != 0).map(|(c, _)| *c).collect();
    format!("{}:{}:{letters}", acl.id.scheme, acl.id.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_they_are_written() {
        for list in
            ["world:anyone:r", "auth::cdrwa,ip:10.0.0.0/8:r", "x509:CN=a,O=b\\, c:rw,digest:u:h=:cdrwa", "ip:::1:r"]
        {
            let entries = parse(list).unwrap();
            assert_eq!(entries.iter().map(text).collect::<Vec<_>>().join(","), list);
        }
        assert_eq!(parse("x509:CN=a,O=b:r").unwrap().len(), 1);
        for bad in [
            "",
            "world",
            "world:anyone",
            "world:anyone:x",
            "world:anyone:",
            "world:anyone:r,",
            "world:anyone:r,,ip:::1:r",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
