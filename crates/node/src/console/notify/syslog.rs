//! Messages to a syslog server, by UDP or TCP.
//= RFC 5424 section 6 (the message), RFC 5426 section 3.1 (one datagram each), RFC 6587 section 3.4.1 (octet counting)

use super::{News, Target};
use crate::audit::Order;
use crate::console::api::rfc3339;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};
use trivet_observe::Severity;

/// Bytes of one message: every receiver takes 2 KiB (RFC 5424 section 6.1); the rest of a text is cut off.
const MESSAGE_BYTES_MAX: usize = 2_048;
/// local0.
const FACILITY: u32 = 16;
/// An id for examples (RFC 5612): nobody else's parameters are meant by it.
const ENTERPRISE: u32 = 32_473;

fn level(s: Severity) -> u32 {
    match s {
        Severity::Critical => 2,
        Severity::Warning => 4,
        Severity::Info => 6,
    }
}

/// A header field of RFC 5424: PRINTUSASCII up to the field's length, `-` if nothing is left.
fn field(text: &str, chars_max: usize) -> String {
    let plain: String = text.chars().filter(|c| c.is_ascii_graphic()).take(chars_max).collect();
    if plain.is_empty() {
        "-".into()
    } else {
        plain
    }
}

/// The value of a parameter: quotes, backslashes and closing brackets are escaped.
fn value(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\' | ']') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// `text`: in the target's language, one line.
pub(super) fn message(news: &News, cluster: &str, text: &str, now_ms: i64) -> Vec<u8> {
    let (severity, id, data) = match news {
        News::Incident(m) => {
            let i = &m.incident;
            let data = format!(" incident=\"{}\" alerts=\"{}\"", value(&i.id), i.members.len());
            (level(i.severity), "INCIDENT", data)
        }
        News::Audit(Order { by, from, what, outcome }) => {
            let from = from.map_or_else(String::new, |a| format!(" from=\"{a}\""));
            let data = format!(" by=\"{}\"{from} what=\"{}\" outcome=\"{}\"", value(by), value(what), value(outcome));
            (5, "AUDIT", data)
        }
        News::Alive => (6, "ALIVE", String::new()),
        News::Test => (6, "TEST", String::new()),
    };
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut out = format!(
        "<{}>1 {} {} trivet {} {id} [trivet@{ENTERPRISE} cluster=\"{}\"{data}] \u{feff}{}",
        FACILITY * 8 + severity,
        rfc3339(now_ms),
        field(&host, 255),
        std::process::id(),
        value(cluster),
        text.replace(['\r', '\n'], " | ")
    );
    let mut end = out.len().min(MESSAGE_BYTES_MAX);
    while !out.is_char_boundary(end) {
        end -= 1;
    }
    out.truncate(end);
    out.into_bytes()
}

pub(super) async fn send(target: &Target, message: &[u8]) -> Result<(), String> {
    let (transport, at) = target.server.split_once("://").unwrap_or(("udp", &target.server));
    let why = |e: std::io::Error| format!("{at}: {e}");
    match transport {
        "udp" => {
            let to = tokio::net::lookup_host(at).await.map_err(why)?.next().ok_or(format!("{at}: no address"))?;
            let any = if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
            let socket = UdpSocket::bind(any).await.map_err(why)?;
            socket.send_to(message, to).await.map_err(why)?;
        }
        "tcp" => {
            let mut stream = TcpStream::connect(at).await.map_err(why)?;
            stream.write_all(format!("{} ", message.len()).as_bytes()).await.map_err(why)?;
            stream.write_all(message).await.map_err(why)?;
            stream.shutdown().await.map_err(why)?;
        }
        other => return Err(format!("{other}: syslog goes by udp:// or tcp://")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_the_fields_of_rfc_5424_and_nothing_ends_them_early() {
        let (by, from) = ("ann\"]".into(), Some("192.0.2.7".parse().unwrap()));
        let news = News::Audit(Order { by, from, what: "silence \\ x\n".into(), outcome: "done".into() });
        let text = String::from_utf8(message(&news, "c]1", "first\nsecond", 0)).unwrap();
        assert!(text.starts_with("<133>1 1970-01-01T00:00:00.000Z "), "{text}");
        assert!(
            text.contains(
                " AUDIT [trivet@32473 cluster=\"c\\]1\" by=\"ann\\\"\\]\" from=\"192.0.2.7\" what=\"silence \\\\ x\""
            ),
            "{text}"
        );
        assert!(text.ends_with("\u{feff}first | second"), "{text}");
        let long = message(&news, "c", &"节".repeat(2_000), 0);
        assert!(long.len() <= MESSAGE_BYTES_MAX && String::from_utf8(long).is_ok());
    }
}
