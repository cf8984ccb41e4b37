//! The parts of a certificate that ZooKeeper looks at: names, dates, and the name of its subject as Java prints it.

use crate::der::{oid_text, tag, text, Element, Elements, Malformed};
use std::net::IpAddr;

/// Parts of a certificate. Signatures are not checked here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Digits in hexadecimal, as `openssl x509 -serial` prints them.
    pub serial: String,
    /// Names as they stand, in DER.
    pub issuer: Vec<u8>,
    /// Name of the subject, as the issuer's.
    pub subject: Vec<u8>,
    /// As `X500Principal.getName()` prints it: the id of the ACL scheme x509.
    pub subject_name: String,
    /// Beginning of its validity, in seconds since 1970.
    pub not_before: i64,
    /// End of its validity, in seconds since 1970; that second is a part of it.
    pub not_after: i64,
    /// The last common name (CN) of the subject, if it is text.
    pub common_name: Option<String>,
    /// DNS names of the subject alternative name extension, in small letters.
    pub dns_names: Vec<String>,
    /// Addresses of that extension.
    pub ip_addresses: Vec<IpAddr>,
    /// Whether that extension has a DNS name or an address.
    pub has_alternative_names: bool,
}

impl Certificate {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// If the bytes are no X.509 certificate.
    pub fn parse(der: &[u8]) -> Result<Certificate, Malformed> {
        let mut tbs = Elements::new(der).within(tag::SEQUENCE)?.within(tag::SEQUENCE)?;
        tbs.optional(tag::context(0))?;
        let serial = tbs.take(tag::INTEGER)?;
        tbs.take(tag::SEQUENCE)?;
        let issuer = tbs.any()?;
        let mut validity = tbs.within(tag::SEQUENCE)?;
        let (not_before, not_after) = (time(&validity.any()?)?, time(&validity.any()?)?);
        let subject = tbs.any()?;
        if issuer.tag != tag::SEQUENCE || subject.tag != tag::SEQUENCE {
            return Err(Malformed);
        }
        tbs.take(tag::SEQUENCE)?;
        let serial = serial.strip_prefix(&[0]).filter(|s| !s.is_empty()).unwrap_or(serial);
        let mut out = Certificate {
            serial: serial.iter().map(|b| format!("{b:02X}")).collect(),
            issuer: issuer.whole.to_vec(),
            subject: subject.whole.to_vec(),
            subject_name: name_text(subject.content)?,
            not_before,
            not_after,
            common_name: common_name(subject.content)?,
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            has_alternative_names: false,
        };
        while !tbs.is_empty() {
            let element = tbs.any()?;
            if element.tag == tag::context(3) {
                let mut extensions = Elements::new(element.content).within(tag::SEQUENCE)?;
                while !extensions.is_empty() {
                    out.extension(extensions.within(tag::SEQUENCE)?)?;
                }
            }
        }
        Ok(out)
    }

    fn extension(&mut self, mut e: Elements<'_>) -> Result<(), Malformed> {
        let oid = oid_text(e.take(tag::OID)?)?;
        e.optional(tag::BOOLEAN)?;
        if oid != "2.5.29.17" {
            return Ok(());
        }
        let mut names = Elements::new(e.take(tag::OCTET_STRING)?).within(tag::SEQUENCE)?;
        while !names.is_empty() {
            let name = names.any()?;
            const DNS: u8 = tag::context_primitive(2);
            const IP: u8 = tag::context_primitive(7);
            match (name.tag, name.content) {
                (DNS, text) => self.dns_names.push(String::from_utf8_lossy(text).to_lowercase()),
                (IP, b) if b.len() == 4 => {
                    self.ip_addresses.push(IpAddr::from(<[u8; 4]>::try_from(b).expect("4 bytes")));
                }
                (IP, b) if b.len() == 16 => {
                    self.ip_addresses.push(IpAddr::from(<[u8; 16]>::try_from(b).expect("16 bytes")));
                }
                _ => {}
            }
        }
        self.has_alternative_names = !self.dns_names.is_empty() || !self.ip_addresses.is_empty();
        Ok(())
    }

    /// Whether the certificate is made out to this host, by name or by address. The common name counts where there
    /// are no alternative names.
    //= zookeeper 3.9 ZKHostnameVerifier.verify
    pub fn is_for(&self, host: &str) -> bool {
        let bare = host.trim_matches(['[', ']']);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            let common = || self.common_name.as_deref().and_then(|c| c.parse::<IpAddr>().ok()) == Some(ip);
            return self.ip_addresses.contains(&ip.to_canonical()) || !self.has_alternative_names && common();
        }
        let host = bare.trim_end_matches('.').to_lowercase();
        match &self.common_name {
            Some(common) if !self.has_alternative_names => name_fits(&common.to_lowercase(), &host),
            _ => self.dns_names.iter().any(|pattern| name_fits(pattern, &host)),
        }
    }
}

/// A star stands for one whole first label, and for no host directly below a top-level domain.
fn name_fits(pattern: &str, host: &str) -> bool {
    let pattern = pattern.trim_end_matches('.');
    match pattern.strip_prefix("*.") {
        Some(rest) => {
            rest.contains('.') && host.split_once('.').is_some_and(|(first, tail)| !first.is_empty() && tail == rest)
        }
        None => !pattern.is_empty() && pattern == host,
    }
}

/// Types and values of a name's parts: a list of sets.
fn parts(name: &[u8]) -> Result<Vec<Vec<(String, Element<'_>)>>, Malformed> {
    let mut out = Vec::new();
    let mut sets = Elements::new(name);
    while !sets.is_empty() {
        let mut set = sets.within(tag::SET)?;
        let mut one = Vec::new();
        while !set.is_empty() {
            let mut pair = set.within(tag::SEQUENCE)?;
            one.push((oid_text(pair.take(tag::OID)?)?, pair.any()?));
        }
        out.push(one);
    }
    Ok(out)
}

fn common_name(name: &[u8]) -> Result<Option<String>, Malformed> {
    let parts = parts(name)?;
    let common = parts.iter().flatten().rev().find(|(oid, _)| oid == "2.5.4.3");
    Ok(common.and_then(|(_, value)| text(value).ok()))
}

/// The text that Java's `X500Principal.getName()` makes of a name (the content of its SEQUENCE): last part first, keywords of
/// RFC 2253 alone, other types by number and in hexadecimal.
//= OpenJDK sun.security.x509.AVA.toRFC2253String
fn name_text(name: &[u8]) -> Result<String, Malformed> {
    let parts = parts(name)?;
    let sets = parts.iter().rev().map(|set| set.iter().map(|(oid, v)| part_text(oid, v)).collect::<Vec<_>>().join("+"));
    Ok(sets.collect::<Vec<_>>().join(","))
}

fn part_text(oid: &str, value: &Element<'_>) -> String {
    let keyword = match oid {
        "2.5.4.3" => "CN",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "STREET",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        _ => "",
    };
    match text(value) {
        Ok(text) if !keyword.is_empty() => format!("{keyword}={}", escaped(&text)),
        _ => {
            let hex: String = value.whole.iter().map(|b| format!("{b:02x}")).collect();
            format!("{}=#{hex}", if keyword.is_empty() { oid } else { keyword })
        }
    }
}

fn escaped(text: &str) -> String {
    let mut out = Vec::new();
    for c in text.chars() {
        match c {
            ',' | '=' | '+' | '<' | '>' | '#' | ';' | '"' | '\\' => out.extend(['\\', c]),
            '\0' => out.extend(['\\', '0', '0']),
            c => out.push(c),
        }
    }
    let is_space = |c: &char| *c == ' ' || *c == '\r';
    let lead = out.iter().take_while(|c| is_space(c)).count();
    let trail = out.len() - out.iter().rev().take_while(|c| is_space(c)).count();
    let mut text = String::new();
    for (i, c) in out.iter().enumerate() {
        if i < lead || i >= trail {
            text.push('\\');
        }
        text.push(*c);
    }
    text
}

/// UTCTime or GeneralizedTime, as RFC 5280 allows them in certificates: with seconds, in UTC.
fn time(e: &Element<'_>) -> Result<i64, Malformed> {
    let digits = e.content.strip_suffix(b"Z").ok_or(Malformed)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(Malformed);
    }
    let at = |from: usize, n: usize| digits[from..from + n].iter().fold(0i64, |v, d| v * 10 + i64::from(d - b'0'));
    let (year, rest) = match (e.tag, digits.len()) {
        (tag::UTC_TIME, 12) => (if at(0, 2) < 50 { 2000 + at(0, 2) } else { 1900 + at(0, 2) }, 2),
        (tag::GENERALIZED_TIME, 14) => (at(0, 4), 4),
        _ => return Err(Malformed),
    };
    let [month, day, hour, minute, second] = [0, 2, 4, 6, 8].map(|i| at(rest + i, 2));
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return Err(Malformed);
    }
    // Days since 1970 of a date of the Gregorian calendar, whose years begin in March here.
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let of_era = y.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Ok(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_since_1970() {
        let of = |tag, text: &str| time(&Element { tag, content: text.as_bytes(), whole: &[] });
        assert_eq!(of(tag::UTC_TIME, "700101000000Z"), Ok(0));
        assert_eq!(of(tag::UTC_TIME, "261129123456Z"), Ok(1_795_955_696));
        assert_eq!(of(tag::GENERALIZED_TIME, "20000229235959Z"), Ok(951_868_799));
        for bad in ["261129123456", "26112912345Z", "261329123456Z", "2611291234xxZ", ""] {
            assert!(of(tag::UTC_TIME, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn stars_stand_for_one_label() {
        assert!(name_fits("*.example.org", "zk1.example.org") && name_fits("zk1.example.org", "zk1.example.org"));
        for (pattern, host) in [
            ("*.example.org", "example.org"),
            ("*.example.org", "a.b.example.org"),
            ("*.org", "x.org"),
            ("*", "x"),
            ("", ""),
        ] {
            assert!(!name_fits(pattern, host), "{pattern} {host}");
        }
    }

    #[test]
    fn values_are_escaped_as_java_does() {
        assert_eq!(escaped("a, b+c"), "a\\, b\\+c");
        assert_eq!(escaped(" x "), "\\ x\\ ");
        assert_eq!(escaped("#\"\\"), "\\#\\\"\\\\");
        assert_eq!(escaped("M\u{fc}ller"), "M\u{fc}ller");
    }
}
