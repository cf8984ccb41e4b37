//! Lines that are JSON: entries whose fields a logger took apart itself, and envelopes in which a collector put a line
//! as it was. A row each.

use crate::json_value::Json;
use crate::stamp::{self, Stamp};
use std::borrow::Cow;

/// Where an entry has its fields; of several names the first that is there counts. A point leads into an object.
pub struct Entry {
    /// The program or the layout that writes it.
    pub name: &'static str,
    /// A line of it, which is also its test.
    pub example: &'static str,
    time: &'static str,
    thread: &'static str,
    class: &'static str,
    message: &'static str,
    /// The exception's class, its message, or its stack.
    thrown: &'static [&'static str],
}

/// The known entries, tried in this order.
pub const ENTRIES: &[Entry] = &[
    Entry {
        name: "log4j 2, JsonLayout and JsonTemplateLayout",
        example: r#"{"instant":{"epochSecond":1674673505,"nanoOfSecond":818000000},"thread":"QuorumPeer[myid=1](plain=10.0.10.71:2181)(secure=disabled)","level":"INFO","loggerName":"org.apache.zookeeper.server.quorum.QuorumPeer","message":"LOOKING","endOfBatch":false}"#,
        time: "instant",
        thread: "thread",
        class: "loggerName",
        message: "message",
        thrown: &["thrown.name", "thrown.localizedMessage", "thrown.message", "thrown.extendedStackTrace"],
    },
    Entry {
        name: "log4j 2, JsonLayout before 2.11",
        example: r#"{"timeMillis":1674673505818,"thread":"QuorumPeer[myid=1]/10.0.10.71:2181","level":"INFO","loggerName":"org.apache.zookeeper.server.quorum.QuorumPeer","message":"LOOKING"}"#,
        time: "timeMillis",
        thread: "thread",
        class: "loggerName",
        message: "message",
        thrown: &["thrown.name", "thrown.localizedMessage", "thrown.message", "thrown.extendedStackTrace"],
    },
    Entry {
        name: "ECS",
        example: r#"{"@timestamp":"2023-01-25T11:05:05.818Z","log.level":"INFO","message":"LOOKING","ecs.version":"1.2.0","process.thread.name":"QuorumPeer[myid=1]/10.0.10.71:2181","log.logger":"org.apache.zookeeper.server.quorum.QuorumPeer"}"#,
        time: "@timestamp",
        thread: "process.thread.name",
        class: "log.logger",
        message: "message",
        thrown: &["error.type", "error.message", "error.stack_trace"],
    },
    Entry {
        name: "logstash",
        example: r#"{"@timestamp":"2023-01-25T19:05:05.818+08:00","@version":"1","message":"LOOKING","logger_name":"org.apache.zookeeper.server.quorum.QuorumPeer","thread_name":"QuorumPeer[myid=1]/10.0.10.71:2181","level":"INFO","level_value":20000}"#,
        time: "@timestamp",
        thread: "thread_name",
        class: "logger_name",
        message: "message",
        thrown: &["exception.exception_class", "exception.exception_message", "exception.stacktrace", "stack_trace"],
    },
    Entry {
        name: "logback's JsonEncoder",
        example: r#"{"sequenceNumber":0,"timestamp":1674673505818,"nanoseconds":818000000,"level":"INFO","threadName":"QuorumPeer[myid=1]/10.0.10.71:2181","loggerName":"org.apache.zookeeper.server.quorum.QuorumPeer","message":"LOOKING","throwable":null}"#,
        time: "timestamp",
        thread: "threadName",
        class: "loggerName",
        message: "message",
        thrown: &["throwable.className", "throwable.message"],
    },
    Entry {
        name: "GELF",
        example: r#"{"version":"1.1","host":"zk1","short_message":"LOOKING","timestamp":1674673505.818,"level":6,"_thread":"QuorumPeer[myid=1]/10.0.10.71:2181","_logger":"org.apache.zookeeper.server.quorum.QuorumPeer"}"#,
        time: "timestamp",
        thread: "_thread",
        class: "_logger",
        message: "short_message",
        thrown: &["full_message"],
    },
    Entry {
        name: "Google Cloud's template",
        example: r#"{"timestamp":"2023-01-25T11:05:05.818Z","severity":"INFO","message":"LOOKING","_thread":"QuorumPeer[myid=1]/10.0.10.71:2181","_logger":"org.apache.zookeeper.server.quorum.QuorumPeer"}"#,
        time: "timestamp",
        thread: "_thread",
        class: "_logger",
        message: "message",
        thrown: &["_exception.class", "_exception.message", "exception", "_exception.stackTrace"],
    },
    Entry {
        name: "a template with time, thread, logger",
        example: r#"{"timestamp":"2023-01-25 19:05:05,818","level":"INFO","thread":"QuorumPeer[myid=1]/10.0.10.71:2181","logger":"org.apache.zookeeper.server.quorum.QuorumPeer","message":"LOOKING"}"#,
        time: "timestamp",
        thread: "thread",
        class: "logger",
        message: "message",
        thrown: &["exception", "stacktrace", "stackTrace"],
    },
    Entry {
        name: "the same with shorter names",
        example: r#"{"time":"2023-01-25 19:05:05,818","level":"INFO","thread":"QuorumPeer[myid=1]/10.0.10.71:2181","logger":"org.apache.zookeeper.server.quorum.QuorumPeer","msg":"LOOKING"}"#,
        time: "time",
        thread: "thread",
        class: "logger",
        message: "msg",
        thrown: &["exception", "stacktrace", "error"],
    },
];

/// A collector's record around a line.
pub struct Envelope {
    /// The collectors that write it.
    pub name: &'static str,
    /// `LINE` stands for the line, as JSON has it.
    pub example: &'static str,
    text: &'static str,
    time: &'static str,
    /// Keys of the machine or container, and whether a line without a newline at its end continues in the next record.
    names: &'static [&'static str],
    joined: bool,
}

/// The known envelopes, tried after the entries and in this order.
pub const ENVELOPES: &[Envelope] = &[
    Envelope {
        name: "docker's json-file, fluentd",
        example: r#"{"log":"LINE\n","stream":"stdout","time":"2023-01-25T11:05:05.818123456Z"}"#,
        text: "log",
        time: "time",
        names: &["kubernetes.pod_name", "container_name", "attrs.name"],
        joined: true,
    },
    Envelope {
        name: "`journalctl -o json`",
        example: r#"{"__REALTIME_TIMESTAMP":"1674673505818000","_HOSTNAME":"zk1","SYSLOG_IDENTIFIER":"zookeeper","MESSAGE":"LINE"}"#,
        text: "MESSAGE",
        time: "__REALTIME_TIMESTAMP",
        names: &["_HOSTNAME"],
        joined: false,
    },
    Envelope {
        name: "Kibana's and Elasticsearch's hits",
        example: r#"{"_index":"logs","_id":"1","_source":{"@timestamp":"2023-01-25T11:05:05.818Z","message":"LINE","host":{"name":"zk1"}}}"#,
        text: "_source.message",
        time: "_source.@timestamp",
        names: &[
            "_source.kubernetes.pod.name",
            "_source.host.name",
            "_source.host.hostname",
            "_source.container.name",
            "_source.agent.name",
            "_source.log.file.path",
        ],
        joined: false,
    },
    Envelope {
        name: "Loki (`logcli -o jsonl`), Grafana",
        example: r#"{"labels":{"pod":"zk-0"},"line":"LINE","timestamp":"2023-01-25T11:05:05.818123456Z"}"#,
        text: "line",
        time: "timestamp",
        names: &[
            "labels.pod",
            "labels.instance",
            "labels.host",
            "labels.hostname",
            "labels.container",
            "labels.filename",
            "fields.pod",
            "fields.instance",
            "fields.filename",
        ],
        joined: false,
    },
    Envelope {
        name: "vCenter's events",
        example: r#"{"key":1,"createdTime":"2023-01-25T11:05:05.818Z","fullFormattedMessage":"LINE","host":{"name":"zk1"}}"#,
        text: "fullFormattedMessage",
        time: "createdTime",
        names: &["host.name", "host", "computeResource.name"],
        joined: false,
    },
    Envelope {
        name: "vCenter's events of PowerCLI",
        example: r#"{"Key":1,"CreatedTime":"2023-01-25T11:05:05.818Z","FullFormattedMessage":"LINE","Host":{"Name":"zk1"}}"#,
        text: "FullFormattedMessage",
        time: "CreatedTime",
        names: &["Host.Name", "Host"],
        joined: false,
    },
    Envelope {
        name: "filebeat, vector",
        example: r#"{"@timestamp":"2023-01-25T11:05:05.818Z","message":"LINE","host":{"name":"zk1"},"log":{"file":{"path":"/var/log/zookeeper.log"}}}"#,
        text: "message",
        time: "@timestamp",
        names: &[
            "kubernetes.pod.name",
            "host.name",
            "host.hostname",
            "host",
            "container.name",
            "log.file.path",
            "file",
        ],
        joined: false,
    },
];

/// A line of JSON, understood.
#[derive(Debug, Default)]
pub struct Parsed<'a> {
    /// The time that the record names; an entry always has one.
    pub stamp: Option<Stamp>,
    /// The name of the machine, container or file in the record; may be empty.
    pub name: Cow<'a, str>,
    /// The content.
    pub kind: Kind<'a>,
}

/// The content of a line of JSON.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// An entry whose fields the logger took apart.
    Entry {
        /// The thread's name.
        thread: Cow<'a, str>,
        /// The class, as the logger names it.
        class: Cow<'a, str>,
        /// The message.
        message: Cow<'a, str>,
        /// The number of the server, where the entry has it.
        myid: Option<u32>,
        /// The exception's class, message and stack, as far as they are there.
        thrown: Vec<Cow<'a, str>>,
        /// The entry's level is below a warning.
        idle: bool,
    },
    /// The line in an envelope, and whether it continues in the next record.
    Line {
        /// The line.
        text: Cow<'a, str>,
        /// The line continues in the next record.
        partial: bool,
    },
}

impl Default for Kind<'_> {
    fn default() -> Self {
        Kind::Line { text: Cow::Borrowed(""), partial: false }
    }
}

/// A field by its whole name, or step by step into objects.
fn field<'a>(value: &'a Json<'_>, path: &str) -> Option<&'a Json<'a>> {
    if !matches!(value, Json::Object(_)) {
        return None;
    }
    if let Some(found) = value.get(path) {
        return Some(found).filter(|v| !matches!(v, Json::Null));
    }
    let points = path.bytes().enumerate().filter(|(_, b)| *b == b'.');
    points.map(|(at, _)| at).find_map(|at| field(value.get(&path[..at])?, &path[at + 1..]))
}

fn text_of<'a>(value: &'a Json<'_>) -> Option<Cow<'a, str>> {
    match value {
        Json::Text(s) => Some(Cow::Borrowed(s)),
        Json::Integer(n) => Some(Cow::Owned(n.to_string())),
        Json::Float(n) => Some(Cow::Owned(n.to_string())),
        // journald gives bytes that are no UTF-8 as numbers.
        Json::Array(bytes) => {
            let bytes: Option<Vec<u8>> = bytes.iter().map(|b| b.as_u64().and_then(|b| u8::try_from(b).ok())).collect();
            bytes.map(|b| Cow::Owned(String::from_utf8_lossy(&b).into_owned()))
        }
        _ => None,
    }
}

/// A time as text, as a number, or as log4j's seconds and nanoseconds.
fn stamp_of(value: &Json<'_>) -> Option<Stamp> {
    if let Some(seconds) = value.get("epochSecond").and_then(Json::as_i64) {
        let nanos = value.get("nanoOfSecond").and_then(Json::as_i64).unwrap_or(0);
        if !stamp::EPOCH_S.contains(&seconds) {
            return None;
        }
        let at = seconds.checked_mul(1_000)?.checked_add(nanos / 1_000_000 % 1_000)?;
        return Some(Stamp { at, zone_min: Some(0), has_year: true, has_date: true, step_ms: 1 });
    }
    let text = text_of(value)?;
    stamp::stamp(text.trim().as_bytes()).map(|s| s.0)
}

/// Understands a value as an entry or an envelope; `None` where it is neither.
pub fn parse<'a>(value: &'a Json<'_>) -> Option<Parsed<'a>> {
    let text = |path: &str| field(value, path).and_then(text_of);
    for row in ENTRIES {
        let (Some(class), Some(time)) = (text(row.class), field(value, row.time)) else { continue };
        let (Some(message), Some(stamp)) = (text(row.message), stamp_of(time)) else { continue };
        let kind = Kind::Entry {
            thread: text(row.thread).unwrap_or_default(),
            class,
            message,
            myid: ["contextMap.myid", "mdc.myid", "myid"].iter().find_map(|k| text(k)?.parse().ok()),
            thrown: row.thrown.iter().filter_map(|t| text(t)).collect(),
            // Numbers are those of syslog.
            idle: ["level", "log.level", "severity"].iter().find_map(|l| text(l)).is_some_and(|l| {
                ["INFO", "DEBUG", "TRACE", "CONFIG", "6", "7"].iter().any(|idle| l.eq_ignore_ascii_case(idle))
            }),
        };
        let name = NAMES.iter().find_map(|n| text(n)).unwrap_or_default();
        return Some(Parsed { stamp: Some(stamp), name, kind });
    }
    for row in ENVELOPES {
        let Some(line) = text(row.text) else { continue };
        let partial = row.joined && !line.ends_with('\n');
        let text_of_line = match line {
            Cow::Borrowed(line) => Cow::Borrowed(line.trim_end_matches(['\n', '\r'])),
            Cow::Owned(line) => Cow::Owned(line.trim_end_matches(['\n', '\r']).to_string()),
        };
        let kind = Kind::Line { text: text_of_line, partial };
        let name = row.names.iter().find_map(|n| text(n)).unwrap_or_default();
        return Some(Parsed { stamp: field(value, row.time).and_then(stamp_of), name, kind });
    }
    None
}

/// Where an entry names the machine or container that wrote it.
const NAMES: [&str; 8] =
    ["kubernetes.pod.name", "kubernetes.pod_name", "pod", "host.name", "source_host", "hostname", "host", "HOSTNAME"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{json_value, time};

    #[test]
    fn each_row_takes_its_example() {
        for row in ENTRIES {
            let value = json_value::parse(row.example).unwrap();
            let p = parse(&value).unwrap_or_else(|| panic!("{}", row.name));
            let s = p.stamp.unwrap();
            assert_eq!(time::long(s.at).get(14..), Some("05:05.818"), "{}", row.name);
            let Kind::Entry { thread, class, message, .. } = p.kind else { panic!("{}", row.name) };
            assert!(thread.starts_with("QuorumPeer[myid=1]") && class.ends_with(".QuorumPeer"), "{}", row.name);
            assert_eq!(message, "LOOKING", "{}", row.name);
        }
        for row in ENVELOPES {
            let value = json_value::parse(row.example).unwrap();
            let p = parse(&value).unwrap_or_else(|| panic!("{}", row.name));
            assert_eq!(p.kind, Kind::Line { text: "LINE".into(), partial: false }, "{}", row.name);
            assert_eq!(p.stamp.unwrap().at % 1_000, 818, "{}", row.name);
        }
        assert!(parse(&json_value::parse(r#"{"a":1}"#).unwrap()).is_none());
    }
}
