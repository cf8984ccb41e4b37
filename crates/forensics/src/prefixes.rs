//! Prefixes that log viewers, containers, log collectors and people put before a line, nested in any depth: a row each.

use crate::layouts;
use crate::stamp::{self, Stamp};

/// A prefix that was taken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peeled<'a> {
    /// Names the file, the container or the machine, hence the server; may be empty.
    pub name: &'a str,
    /// The time that the prefix names.
    pub stamp: Option<Stamp>,
    /// The line without the prefix.
    pub rest: &'a str,
    /// More of the line follows in the next one.
    pub partial: bool,
}

/// A line with the time at its beginning, which is read once and of use to several rows.
#[derive(Debug, Clone, Copy)]
pub struct Timed<'a> {
    /// The line.
    pub text: &'a str,
    /// The time, and what stands behind it.
    pub leading: Option<(Stamp, &'a str)>,
}

impl<'a> Timed<'a> {
    /// Reads the time at the beginning of a line.
    pub fn new(text: &'a str) -> Self {
        Timed { text, leading: layouts::leading_time(text) }
    }
}

/// A prefix that a collector or a tool puts before lines.
pub struct Prefix {
    /// The tools that write it.
    pub name: &'static str,
    /// An example of a prefixed line, in which `LINE` stands for the log's own line.
    pub example: &'static str,
    take: for<'a> fn(Timed<'a>) -> Option<Peeled<'a>>,
}

/// In this order they are tried, again and again until a layout takes the rest.
pub const PREFIXES: &[Prefix] = &[
    Prefix { name: "lnav's file column", example: "[zk1]/zookeeper.log│LINE   ┤", take: viewer },
    Prefix { name: "`cat -n`", example: "    17\tLINE", take: numbered },
    Prefix { name: "quotation", example: "> LINE", take: quoted },
    Prefix { name: "CRI (containerd, CRI-O)", example: "2023-01-25T11:05:05.818123456Z stdout F LINE", take: cri },
    Prefix { name: "`kubectl logs --prefix`", example: "[pod/zk-0/zookeeper] LINE", take: pod },
    Prefix {
        name: "syslog, RFC 5424",
        example: "<14>1 2023-01-25T11:05:05.818Z zk1 zookeeper 99 - - LINE",
        take: syslog_5424,
    },
    Prefix {
        name: "syslog, RFC 3164; journald, short, short-iso, short-unix, short-full",
        example: "Jan 25 19:05:05 zk1 zookeeper[99]: LINE",
        take: syslog,
    },
    Prefix {
        name: "a time of its own: `kubectl logs --timestamps`, Loki, Grafana",
        example: "2023-01-25T11:05:05.818123456Z LINE",
        take: time,
    },
    Prefix { name: "docker compose", example: "zk1_1  | LINE", take: compose },
    Prefix { name: "Loki's labels", example: "{namespace=\"prod\", pod=\"zk-0\"} LINE", take: labels },
    Prefix { name: "`grep -H`, `grep -n`, `grep -Hn`", example: "logs/zk1/zookeeper.log:17:LINE", take: grep },
];

/// Bytes in which a prefix that no row takes is looked for.
const SCANNED_BYTES: usize = 256;

/// The outermost prefix, if a row takes it.
pub fn peel(text: &str) -> Option<Peeled<'_>> {
    peel_timed(Timed::new(text))
}

/// The same for a line whose time was read already.
pub(crate) fn peel_timed(line: Timed<'_>) -> Option<Peeled<'_>> {
    PREFIXES.iter().find_map(|p| (p.take)(line)).filter(|p| p.rest.len() < line.text.len())
}

/// A place in a line where a layout's line begins behind something that no row takes: where it is.
pub fn scan(text: &str, hint: &mut usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let near = &bytes[..bytes.len().min(SCANNED_BYTES)];
    // A time begins with a digit, behind something else.
    let begins = |at: &usize| near[*at].is_ascii_digit() && *at > 0 && !bytes[at - 1].is_ascii_alphanumeric();
    (0..near.len()).filter(begins).find_map(|at| {
        let at = at - usize::from(bytes[at - 1] == b'[');
        let rest = text.get(at..)?;
        layouts::head(rest, hint).is_some().then_some(at)
    })
}

fn named<'a>(name: &'a str, rest: &'a str) -> Peeled<'a> {
    Peeled { name, stamp: None, rest, partial: false }
}

fn viewer(line: Timed<'_>) -> Option<Peeled<'_>> {
    let text = line.text;
    let (prefix, rest) = text.split_once('│')?;
    (prefix.len() < 256 && stamp::stamp(prefix.as_bytes()).is_none()).then_some(())?;
    Some(named(prefix.trim(), rest.trim_end_matches(['┤', '│', ' ', '\t'])))
}

fn quoted(line: Timed<'_>) -> Option<Peeled<'_>> {
    let text = line.text;
    let rest = text.strip_prefix('>').or_else(|| text.strip_prefix('|')).or_else(|| text.strip_prefix("# "));
    if let Some(rest) = rest {
        // A note that begins with `#` but has no time is a remark of a person, and no line of the log.
        return (!text.starts_with('#') || layouts::leading_time(rest).is_some()).then(|| named("", rest.trim_start()));
    }
    let rest = text.trim_start_matches([' ', '\u{3000}']);
    // Lines of a stack are indented, too.
    (rest.len() < text.len() && !rest.starts_with("at ")).then(|| named("", rest))
}

/// Whether a line looks like the runtime's: its stream stands where the time ends.
pub(crate) fn is_cri(line: Timed<'_>) -> bool {
    // The longest time that it writes has nine digits and an offset.
    const TIME_BYTES: std::ops::Range<usize> = 20..36;
    let bytes = line.text.as_bytes();
    let near = bytes.get(TIME_BYTES.start..bytes.len().min(TIME_BYTES.end)).unwrap_or_default();
    let Some(at) = near.iter().position(|b| *b == b' ').map(|at| at + TIME_BYTES.start) else { return false };
    let rest = &bytes[at..];
    (rest.starts_with(b" stdout ") || rest.starts_with(b" stderr ")) && cri(line).is_some()
}

fn cri(line: Timed<'_>) -> Option<Peeled<'_>> {
    // Its time begins with the year.
    line.text.as_bytes().first().filter(|b| b.is_ascii_digit())?;
    let (stamp, rest) = line.leading?;
    let rest = rest.strip_prefix(' ')?;
    let rest = rest.strip_prefix("stdout ").or_else(|| rest.strip_prefix("stderr "))?;
    let (tag, rest) = (rest.as_bytes().first()?, rest.get(1..)?);
    let partial = match tag {
        b'P' => true,
        b'F' => false,
        _ => return None,
    };
    let rest = rest.strip_prefix(' ').unwrap_or(rest);
    Some(Peeled { name: "", stamp: Some(stamp), rest, partial })
}

fn pod(line: Timed<'_>) -> Option<Peeled<'_>> {
    let (name, rest) = line.text.strip_prefix('[')?.split_once(']')?;
    let is =
        name.contains('/') && !name.contains(char::is_whitespace) && !name.starts_with(|c: char| c.is_ascii_digit());
    is.then(|| named(name, rest.strip_prefix(' ').unwrap_or(rest)))
}

fn syslog_5424(line: Timed<'_>) -> Option<Peeled<'_>> {
    let rest = priority(line.text)?.strip_prefix("1 ")?;
    let (stamp, n) = stamp::stamp(rest.as_bytes())?;
    let (host, rest) = rest.get(n..)?.strip_prefix(' ')?.split_once(' ')?;
    // Application, process, message id.
    let rest = rest.splitn(4, ' ').nth(3)?;
    let rest = match rest.strip_prefix('-') {
        Some(rest) => rest,
        None => &rest[rest.find("] ")? + 1..],
    };
    let rest = rest.strip_prefix(' ').unwrap_or(rest);
    Some(Peeled { name: host, stamp: Some(stamp), rest: rest.strip_prefix('\u{feff}').unwrap_or(rest), partial: false })
}

fn priority(text: &str) -> Option<&str> {
    let (number, rest) = text.strip_prefix('<')?.split_once('>')?;
    (number.len() <= 3 && number.bytes().all(|b| b.is_ascii_digit())).then_some(rest)
}

/// `TIME HOST TAG[PID]: `; the tag may have no number.
fn syslog(line: Timed<'_>) -> Option<Peeled<'_>> {
    let (stamp, rest) = priority(line.text).map_or(line.leading, layouts::leading_time)?;
    // A zone of letters, as journald's short-full has it.
    let mut rest = rest.strip_prefix(' ')?;
    let letters = rest.bytes().take_while(u8::is_ascii_uppercase).count();
    if (3..=4).contains(&letters) && rest.as_bytes().get(letters) == Some(&b' ') && !is_level(&rest[..letters]) {
        rest = &rest[letters + 1..];
    }
    let (host, rest) = rest.split_once(' ')?;
    let (tag, rest) = rest.split_once(": ").or_else(|| rest.strip_suffix(':').map(|t| (t, "")))?;
    let word = |t: &str| !t.is_empty() && !t.contains(char::is_whitespace) && t.len() < 128;
    let process = tag.split_once('[').map_or(tag, |(t, _)| t);
    // A level is no machine, and a class no process.
    let is =
        word(host) && word(tag) && !is_level(host) && !host.contains(['[', '(', '|', ')']) && !process.contains('.');
    is.then_some(Peeled { name: host, stamp: Some(stamp), rest, partial: false })
}

fn is_level(text: &str) -> bool {
    ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"].contains(&text)
}

fn time(line: Timed<'_>) -> Option<Peeled<'_>> {
    let (stamp, rest) = line.leading?;
    let rest = rest.strip_prefix([' ', '\t', ',', ';'])?;
    Some(Peeled { name: "", stamp: Some(stamp), rest: rest.trim_start(), partial: false })
}

fn compose(line: Timed<'_>) -> Option<Peeled<'_>> {
    let text = line.text;
    let (prefix, rest) = [" | ", " ¦ ", "| "].iter().find_map(|bar| text.split_once(bar))?;
    let name = prefix.trim();
    let is = prefix.len() < 128
        && !prefix.starts_with(char::is_whitespace)
        && !name.is_empty()
        && !name.contains(char::is_whitespace)
        && !name.contains('[');
    is.then(|| named(name, rest.trim_end()))
}

fn labels(line: Timed<'_>) -> Option<Peeled<'_>> {
    let (labels, rest) = line.text.strip_prefix('{')?.split_once('}')?;
    let value = |key: &str| {
        let at =
            labels.match_indices(key).find(|(at, _)| *at == 0 || !labels.as_bytes()[at - 1].is_ascii_alphanumeric())?.0;
        labels[at + key.len()..].strip_prefix("=\"")?.split('"').next()
    };
    labels.contains("=\"").then_some(())?;
    let name = ["pod", "instance", "host", "hostname", "container", "filename", "job"].iter().find_map(|k| value(k));
    Some(named(name.unwrap_or(labels), rest.trim_start()))
}

/// `PATH:NUMBER:`, `PATH:`, `NUMBER:`, with dashes around lines of the context.
fn grep(line: Timed<'_>) -> Option<Peeled<'_>> {
    let text = line.text;
    let digits = |t: &str| t.bytes().take_while(u8::is_ascii_digit).count();
    let begins = |t: &str| {
        t.is_empty()
            || layouts::leading_time(t).is_some()
            || t.starts_with(['{', '<', '\t', '>', ' ', '['])
            || t.contains("Exception")
    };
    let number = digits(text);
    if number > 0 && number < 9 {
        let rest = text[number..].strip_prefix([':', '-'])?;
        return begins(rest).then(|| named("", rest));
    }
    // A path says so by a dot or a slash.
    let mut from = 0;
    while let Some(at) = text[from..].find([':', '-']).map(|at| at + from).filter(|at| *at < 256) {
        let (path, rest) = (&text[..at], &text[at + 1..]);
        let number = digits(rest);
        let behind = rest.get(number..).and_then(|r| r.strip_prefix([':', '-'])).filter(|_| number > 0 && number < 9);
        let rest =
            behind.filter(|r| begins(r)).or(Some(rest).filter(|r| begins(r) && !r.is_empty() && !r.starts_with(' ')));
        let is_path = path.contains(['.', '/', '\\']) && !path.contains([' ', '(']);
        if let Some(rest) = rest.filter(|_| is_path && !path.ends_with("Exception") && !path.ends_with("Error")) {
            return Some(named(path, rest));
        }
        from = at + 1;
    }
    None
}

fn numbered(line: Timed<'_>) -> Option<Peeled<'_>> {
    let text = line.text.trim_start_matches(' ');
    let n = text.bytes().take_while(u8::is_ascii_digit).count();
    let rest = text.get(n..)?.strip_prefix('\t')?;
    (n > 0).then(|| named("", rest))
}

/// Colours and other sequences of terminals.
pub fn without_colours(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\u{1b}') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(sequence) = rest.strip_prefix('[') {
            let end =
                sequence.find(|c: char| c.is_ascii_alphabetic() || !c.is_ascii()).map_or(sequence.len(), |e| e + 1);
            rest = sequence.get(end..).unwrap_or_default();
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::head;

    const LINE: &str = "2023-01-25T19:05:05,818 [myid:] - WARN  [QuorumPeer[myid=1](plain=a:2181)(secure=disabled):Follower@100] - Exception when following the leader";

    /// All prefixes off, with their names.
    fn bare(text: &str) -> (Vec<&str>, &str) {
        let (mut names, mut rest) = (Vec::new(), text);
        while head(rest).is_none() {
            let Some(p) = peel(rest) else { break };
            rest = p.rest;
            names.extend(Some(p.name).filter(|n| !n.is_empty()));
        }
        (names, rest)
    }

    #[test]
    fn each_row_takes_its_example_alone_and_within_others() {
        for outer in PREFIXES {
            let text = outer.example.replace("LINE", LINE);
            assert_eq!(bare(&text).1, LINE, "{}", outer.name);
            let stack = outer.example.replace("LINE", "java.net.SocketTimeoutException: Read timed out");
            assert_eq!(
                peel(&stack).map(|p| p.rest),
                Some("java.net.SocketTimeoutException: Read timed out"),
                "{}",
                outer.name
            );
            for inner in PREFIXES {
                let text = outer.example.replace("LINE", &inner.example.replace("LINE", LINE));
                assert_eq!(bare(&text).1, LINE, "{} in {}: {text}", inner.name, outer.name);
            }
        }
    }

    #[test]
    fn who_is_named() {
        let names = |prefix: &str| bare(&format!("{prefix}{LINE}")).0.join(" ");
        assert_eq!(names("zk1_1  | "), "zk1_1");
        assert_eq!(names("2023-01-25T11:05:05Z stdout F "), "");
        assert_eq!(names("[pod/zk-0/zookeeper] "), "pod/zk-0/zookeeper");
        assert_eq!(names("Jan 25 19:05:05 zk1 zookeeper[99]: "), "zk1");
        assert_eq!(names("2023-01-25T19:05:05+0800 zk1 java[99]: "), "zk1");
        assert_eq!(names("{app=\"zk\",pod=\"zk-2\"} "), "zk-2");
        assert_eq!(names("node-3/zookeeper.log:17:"), "node-3/zookeeper.log");
        assert_eq!(names("> > 17:"), "");
        assert_eq!(scan(&format!("zk-0 zookeeper {LINE}"), &mut 0), Some(15));
        assert_eq!(without_colours("\u{1b}[36mzk1_1  |\u{1b}[0m x"), "zk1_1  | x");
    }
}
