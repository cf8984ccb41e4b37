//! The same night in every form in which logs reach an analyst: each form must give the same outages, verdict and clock
//! differences as the logs as they were written. The forms are made here, from the tables of layouts, prefixes, JSON and
//! times.

use serde_json::{json, Value};
use std::io::Read;
use std::path::PathBuf;
use trivet_forensics::json_lines::{ENTRIES, ENVELOPES};
use trivet_forensics::layouts::LAYOUTS;
use trivet_forensics::prefixes::PREFIXES;
use trivet_forensics::{analyse, report, time, Reader};

/// A file's name and its text.
type Files = Vec<(String, String)>;

/// A line of the night, taken apart; one without a head continues the entry above.
struct Line {
    at: i64,
    head: Option<Head>,
    text: String,
}

struct Head {
    level: String,
    thread: String,
    class: String,
    number: u32,
    message: String,
}

struct Log {
    id: u32,
    lines: Vec<Line>,
}

fn night(set: &str) -> Vec<Log> {
    let log = |id: u32| {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/logs/{set}/node7{id}.log.gz"));
        let mut text = String::new();
        flate2::read::MultiGzDecoder::new(std::fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
        // The last second differs by set; clocks that differ make a difference to find.
        let ahead_ms = [0, 3_700, -1_200][id as usize - 1];
        let mut at = 0;
        let mut lines: Vec<Line> = text.lines().map(|l| line(l, ahead_ms, &mut at)).collect();
        // Lines about clients are most of a log, and say nothing here.
        let (mut clients, mut drop) = (0, false);
        lines.retain(|l| {
            if let Some(h) = &l.head {
                let client = h.class.starts_with("NIOServerCnxn");
                clients += usize::from(client);
                drop = client && clients > 40;
            }
            !drop && !l.text.starts_with("\tat ")
        });
        Log { id, lines }
    };
    (1..=3).map(log).collect()
}

fn line(text: &str, ahead_ms: i64, last: &mut i64) -> Line {
    let plain = |at: i64| Line { at, head: None, text: text.to_string() };
    let Some(h) = trivet_forensics::line::head(text) else { return plain(*last) };
    *last = h.at + ahead_ms;
    let level =
        ["INFO", "WARN", "ERROR", "DEBUG"].into_iter().find(|l| text.contains(&format!(" {l} "))).unwrap_or("INFO");
    let head = Head {
        level: level.into(),
        thread: h.thread.into(),
        class: h.class.into(),
        number: h.source_line.unwrap_or(1),
        message: h.message.into(),
    };
    Line { at: *last, head: Some(head), text: text.into() }
}

fn iso(at: i64) -> String {
    time::long(at).replace('.', ",")
}

fn native(l: &Line, time: &str) -> String {
    match &l.head {
        Some(h) => format!("{time} [myid:] - {:<5} [{}:{}@{}] - {}", h.level, h.thread, h.class, h.number, h.message),
        None => l.text.clone(),
    }
}

fn qualified(class: &str) -> String {
    let package = match class {
        "FileTxnLog" => "org.apache.zookeeper.server.persistence",
        "ZooKeeperServer" | "NIOServerCnxn" | "NIOServerCnxnFactory" => "org.apache.zookeeper.server",
        _ => "org.apache.zookeeper.server.quorum",
    };
    format!("{package}.{class}")
}

fn by_pattern(l: &Line, pattern: &str) -> String {
    let Some(h) = &l.head else { return l.text.clone() };
    let class = qualified(&h.class);
    [
        ("{time}", iso(l.at)),
        ("{myid}", String::new()),
        ("{level}", h.level.clone()),
        ("{place}", format!("{}:{}@{}", h.thread, h.class, h.number)),
        ("{location}", format!("{class}.run({}.java:{})", h.class, h.number)),
        ("{thread}", h.thread.clone()),
        ("{class}", class),
        ("{word}", "1".into()),
        ("{mdc}", "   ".into()),
        ("{message}", h.message.clone()),
    ]
    .iter()
    .fold(pattern.to_string(), |text, (field, value)| text.replace(field, value))
}

/// Each log's lines by `of`, in files with names that say nothing.
fn each(night: &[Log], of: &dyn Fn(&Log, &Line) -> String) -> Files {
    let file = |log: &Log| {
        let text: String = log.lines.iter().map(|l| of(log, l) + "\n").collect();
        (format!("{}.log", ["a", "b", "c"][log.id as usize - 1]), text)
    };
    night.iter().map(file).collect()
}

/// All in one file, in the order of their times.
fn mixed(night: &[Log], of: &dyn Fn(&Log, &Line) -> String) -> Files {
    let mut all: Vec<(i64, String)> = Vec::new();
    for log in night {
        all.extend(log.lines.iter().map(|l| (l.at, of(log, l) + "\n")));
    }
    all.sort_by_key(|l| l.0);
    vec![("all.txt".into(), all.into_iter().map(|l| l.1).collect())]
}

/// An entry's first line and the lines behind it.
fn entries(log: &Log) -> Vec<(&Line, Vec<&str>)> {
    let mut out: Vec<(&Line, Vec<&str>)> = Vec::new();
    for l in &log.lines {
        match out.last_mut() {
            Some((_, more)) if l.head.is_none() => more.push(&l.text),
            _ => out.push((l, Vec::new())),
        }
    }
    out
}

/// The entry in a row's fields, from its example.
fn by_example(example: &str, l: &Line, more: &[&str]) -> Value {
    let mut v: Value = serde_json::from_str(example).unwrap();
    let h = l.head.as_ref().unwrap();
    let stack = more.join("\n");
    let zone = if example.contains("+08:00") { "+08:00" } else { "Z" };
    for (key, value) in v.as_object_mut().unwrap() {
        *value = match key.as_str() {
            "instant" => {
                json!({"epochSecond": l.at.div_euclid(1_000), "nanoOfSecond": l.at.rem_euclid(1_000) * 1_000_000})
            }
            "timeMillis" => json!(l.at),
            "timestamp" if value.is_f64() => json!(l.at as f64 / 1e3),
            "timestamp" if value.is_number() => json!(l.at),
            "timestamp" | "@timestamp" | "time" if value.as_str().is_some_and(|t| t.contains('T')) => {
                json!(time::long(l.at) + zone)
            }
            "timestamp" | "time" => json!(iso(l.at).replace('T', " ")),
            "thread" | "process.thread.name" | "thread_name" | "threadName" | "_thread" => json!(h.thread),
            "loggerName" | "log.logger" | "logger_name" | "_logger" | "logger" => json!(qualified(&h.class)),
            "message" | "msg" | "short_message" => json!(h.message),
            _ => value.clone(),
        };
    }
    if !more.is_empty() {
        let thrown = match () {
            () if example.contains("ecs.version") => ("error.stack_trace", json!(stack)),
            () if example.contains("short_message") => ("full_message", json!(stack)),
            () if example.contains("@version") => ("stack_trace", json!(stack)),
            () if example.contains("severity") => ("exception", json!(stack)),
            () if example.contains("throwable") => {
                let (class, message) = more[0].split_once(": ").unwrap_or((more[0], ""));
                ("throwable", json!({"className": class, "message": message}))
            }
            () if example.contains("loggerName") => {
                let (class, message) = more[0].split_once(": ").unwrap_or((more[0], ""));
                ("thrown", json!({"name": class, "localizedMessage": message, "extendedStackTrace": stack}))
            }
            () => ("exception", json!(stack)),
        };
        v[thrown.0] = thrown.1;
    }
    v
}

fn host(id: u32) -> String {
    format!("zk-host-{}", ["a", "b", "c"][id as usize - 1])
}

/// Name, files, and whether its times have milliseconds.
fn forms(night: &[Log]) -> Vec<(String, Files, bool)> {
    let mut out: Vec<(String, Files, bool)> = Vec::new();
    let mut add = |name: &str, files: Files| out.push((name.to_string(), files, true));
    for layout in LAYOUTS.iter().filter(|l| l.name != "Trivet") {
        add(layout.name, each(night, &|_, l| by_pattern(l, layout.pattern)));
    }
    add(
        "the time in brackets",
        each(night, &|_, l| {
            by_pattern(l, "{time} {level} {message} ({class})").replacen(&iso(l.at), &format!("[{}]", iso(l.at)), 1)
        }),
    );
    for prefix in PREFIXES {
        add(prefix.name, each(night, &|_, l| prefix.example.replace("LINE", &native(l, &iso(l.at)))));
        for outer in PREFIXES.iter().filter(|p| p.example.contains("zk")) {
            let name = format!("{} in {}", prefix.name, outer.name);
            add(
                &name,
                mixed(night, &|log, l| {
                    let inner = prefix.example.replace("LINE", &native(l, &iso(l.at))).replace("zk", "x");
                    outer.example.replace("LINE", &inner).replace("zk1", &host(log.id)).replace("zk-0", &host(log.id))
                }),
            );
        }
    }
    add(
        "compose with colours",
        mixed(night, &|log, l| format!("\u{1b}[36;1m{}  |\u{1b}[0m {}", host(log.id), native(l, &iso(l.at)))),
    );
    add("stern", mixed(night, &|log, l| format!("{} zookeeper {}", host(log.id), native(l, &iso(l.at)))));
    add("ends of lines of Windows, and a mark of the byte order", {
        let mut files = each(night, &|_, l| native(l, &iso(l.at)) + "\r");
        files.iter_mut().for_each(|f| f.1.insert(0, '\u{feff}'));
        files
    });
    add(
        "a layout without a time behind syslog's",
        each(night, &|_, l| {
            let rest = l.head.as_ref().map_or(l.text.clone(), |_| native(l, "").trim_start().to_string());
            format!("{}+0800 zk1 java[9]: {rest}", time::long(l.at))
        }),
    );
    // Collectors that cut long lines.
    add(
        "CRI with partial lines",
        each(night, &|_, l| {
            let (text, stamp) = (native(l, &iso(l.at)), time::long(l.at) + "Z");
            let at = text.char_indices().nth(60).map(|c| c.0);
            match at {
                Some(at) => format!("{stamp} stdout P {}\n{stamp} stdout F {}", &text[..at], &text[at..]),
                None => format!("{stamp} stdout F {text}"),
            }
        }),
    );
    add(
        "docker's json-file with partial lines",
        each(night, &|_, l| {
            let text = native(l, &iso(l.at)) + "\n";
            let record =
                |log: &str| json!({"log": log, "stream": "stdout", "time": time::long(l.at) + "Z"}).to_string();
            match text.char_indices().nth(60).map(|c| c.0) {
                Some(at) => format!("{}\n{}", record(&text[..at]), record(&text[at..])),
                None => record(&text),
            }
        }),
    );
    for row in ENTRIES {
        add(
            &format!("JSON of {}", row.name),
            night
                .iter()
                .map(|log| {
                    let lines = entries(log).into_iter().filter(|(l, _)| l.head.is_some());
                    (
                        format!("{}.json", host(log.id)),
                        lines.map(|(l, more)| by_example(row.example, l, &more).to_string() + "\n").collect(),
                    )
                })
                .collect(),
        );
    }
    add(
        "pretty-printed JSON",
        night
            .iter()
            .map(|log| {
                let lines = entries(log).into_iter().filter(|(l, _)| l.head.is_some());
                let text = |(l, more): (&Line, Vec<&str>)| {
                    serde_json::to_string_pretty(&by_example(ENTRIES[0].example, l, &more)).unwrap() + "\n"
                };
                (format!("{}.json", host(log.id)), lines.map(text).collect())
            })
            .collect(),
    );
    for row in ENVELOPES {
        // An array of hits, as they are exported.
        for array in [false, true] {
            let name = format!("{}{}", row.name, if array { ", an array" } else { "" });
            let mut files = mixed(night, &|log, l| {
                let text = serde_json::to_string(&native(l, &iso(l.at))).unwrap();
                let line = row
                    .example
                    .replace("LINE", &text[1..text.len() - 1])
                    .replace("zk1", &host(log.id))
                    .replace("zk-0", &host(log.id));
                // Docker has a log file per container.
                let line = if line.contains("\"stream\"") {
                    line.replacen('{', &format!("{{\"container_name\":\"{}\",", host(log.id)), 1)
                } else {
                    line
                };
                line + if array { "," } else { "" }
            });
            if array {
                files[0].1 = format!("[\n{}\n]\n", files[0].1.trim_end_matches([',', '\n']));
            }
            add(&name, files);
        }
    }
    add(
        "`journalctl -o export`",
        mixed(night, &|log, l| {
            format!(
                "__CURSOR=s\n__REALTIME_TIMESTAMP={}000\nMESSAGE={}\n_HOSTNAME={}\n",
                l.at,
                native(l, &iso(l.at)),
                host(log.id)
            )
        }),
    );
    add("Kibana's CSV", {
        let mut all: Vec<(i64, String)> = Vec::new();
        for log in night {
            for (l, more) in entries(log) {
                let text = std::iter::once(native(l, &iso(l.at)))
                    .chain(more.iter().map(|m| m.to_string()))
                    .collect::<Vec<_>>()
                    .join("\n");
                all.push((
                    l.at,
                    format!("\"Jan 25, 2023 @ 19:05:05.818\",\"{}\",{}\n", text.replace('"', "\"\""), host(log.id)),
                ));
            }
        }
        all.sort_by_key(|l| l.0);
        let text: String = all.into_iter().map(|l| l.1).collect();
        vec![("kibana.csv".into(), format!("\"@timestamp\",message,\"host.name\"\n{text}"))]
    });
    // Times.
    let date = |at: i64| time::long(at)[..10].to_string();
    let day = |at: i64| {
        let names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let d = date(at);
        (d[..4].to_string(), names[d[5..7].parse::<usize>().unwrap() - 1], d[8..10].to_string(), d[5..7].to_string())
    };
    let half = |at: i64| {
        let hour = at.div_euclid(3_600_000).rem_euclid(24);
        format!("{}{} {}", (hour + 11) % 12 + 1, &time::clock(at)[2..], if hour < 12 { "AM" } else { "PM" })
    };
    type Time<'a> = (&'a str, Box<dyn Fn(i64) -> String + 'a>, bool);
    let times: Vec<Time<'_>> = vec![
        ("a blank and a comma", Box::new(|at| iso(at).replace('T', " ")), true),
        ("a point", Box::new(time::long), true),
        ("no fraction", Box::new(|at| time::long(at)[..19].to_string()), false),
        ("six digits", Box::new(|at| time::long(at) + "123"), true),
        ("nine digits and Z", Box::new(|at| time::long(at) + "123456Z"), true),
        ("an offset", Box::new(|at| iso(at) + "+0800"), true),
        ("an offset with a colon", Box::new(|at| time::long(at) + "+08:00"), true),
        ("slashes", Box::new(|at| time::long(at).replace('-', "/").replace('T', " ")), true),
        (
            "the month first, 12 hours",
            Box::new(|at| {
                let (y, _, d, m) = day(at);
                format!("{m}/{d}/{y} {}", half(at))
            }),
            true,
        ),
        (
            "a month's name",
            Box::new(|at| {
                let (y, m, d, _) = day(at);
                format!("{d} {m} {y} {}", time::clock(at))
            }),
            true,
        ),
        (
            "no year",
            Box::new(|at| {
                let (_, m, d, _) = day(at);
                format!("{m} {d} {}", time::clock(at))
            }),
            true,
        ),
        (
            "no year, numbers",
            Box::new(|at| {
                let (_, _, d, m) = day(at);
                format!("{m}-{d} {}", time::clock(at))
            }),
            true,
        ),
        ("no date", Box::new(time::clock), true),
        ("seconds since 1970", Box::new(|at| format!("{}.{:03}", at / 1_000, at % 1_000)), true),
        ("milliseconds since 1970", Box::new(|at| at.to_string()), true),
        ("basic ISO", Box::new(|at| iso(at).replace(['-', ':'], "")), true),
        ("in brackets", Box::new(|at| format!("[{}]", iso(at))), true),
    ];
    for (name, of, fine) in &times {
        let files = each(night, &|_, l| native(l, &of(l.at)));
        out.push((name.to_string(), files, *fine));
    }
    out
}

fn found(files: &Files) -> Value {
    let mut reader = Reader::default();
    for (name, text) in files {
        reader.file(name);
        text.lines().for_each(|l| reader.line(l.as_bytes()));
    }
    let (facts, names) = reader.finish();
    report::json(&analyse(facts, names))
}

fn at(v: &Value) -> i64 {
    time::parse(v.as_str().unwrap().as_bytes()).unwrap().0
}

/// Lengths of outages in milliseconds, and when each begins behind the first.
fn outages(v: &Value) -> Vec<(i64, Option<i64>, Value)> {
    let all = v["outages"].as_array().unwrap();
    let first = all.first().map_or(0, |o| at(&o["from"]));
    let of = |o: &Value| {
        (at(&o["from_earliest"]) - first, (!o["to"].is_null()).then(|| at(&o["to"]) - first), o["leader"].clone())
    };
    all.iter().map(of).collect()
}

#[test]
fn every_form_of_a_night_tells_the_same() {
    let mut wrong = Vec::new();
    for set in ["3.8.0-incident", "3.9.5-outgoing"] {
        let night = night(set);
        let want = found(&each(&night, &|_, l| native(l, &iso(l.at))));
        assert!(set != "3.8.0-incident" || outages(&want).len() > 4, "{want:#}");
        let forms = forms(&night);
        assert!(forms.len() > 43);
        for (name, files, fine) in forms {
            let got = found(&files);
            let mut differs = Vec::new();
            if fine {
                if outages(&got) != outages(&want) {
                    differs.push(format!("outages {:?}, {:?} wanted", outages(&got), outages(&want)));
                }
            } else {
                // By clocks of whole seconds what takes less than four of them may be no outage.
                let near = |a: i64, b: i64| (a - b).abs() <= 2_000;
                let long = |o: &(i64, Option<i64>, Value)| o.1.is_none_or(|to| to - o.0 > 4_000);
                let (mut g, mut w) = (outages(&got), outages(&want));
                g.retain(long);
                w.retain(long);
                let same = |(g, w): (&(i64, Option<i64>, Value), &(i64, Option<i64>, Value))| {
                    near(g.0, w.0) && near(g.1.unwrap_or(0), w.1.unwrap_or(0)) && g.2 == w.2
                };
                if g.len() != w.len() || !g.iter().zip(&w).all(same) {
                    differs.push(format!("outages {g:?}, {w:?} wanted"));
                }
            }
            let verdict = |v: &Value| (v["verdict"]["hypothesis"].clone(), v["verdict"]["nodes"].clone());
            if verdict(&got) != verdict(&want) {
                differs.push(format!("verdict {:?}", verdict(&got)));
            }
            for (g, w) in got["nodes"].as_array().unwrap().iter().zip(want["nodes"].as_array().unwrap()) {
                let (g_off, w_off) = (g["clock_offset_s"].as_f64(), w["clock_offset_s"].as_f64());
                let error = g["clock_error_s"].as_f64().unwrap_or(0.0);
                let same = match (g_off, w_off) {
                    (Some(a), Some(b)) if !fine => (a - b).abs() <= error,
                    (a, b) => a == b,
                };
                if !same {
                    differs.push(format!("clock {g} instead of {w}"));
                }
            }
            if !differs.is_empty() {
                wrong.push(format!(
                    "{set}, {name}: {}\n{}",
                    differs.join("; ").chars().take(600).collect::<String>(),
                    files[0].1.chars().take(300).collect::<String>()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} forms differ:\n{}", wrong.len(), wrong.join("\n\n"));
}

/// `docs/timeline.md` lists what the tables have. With `TRIVET_UPDATE_DOCS=1` the test writes it.
#[test]
fn the_documentation_lists_the_tables() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/timeline.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- layouts: generated by crates/forensics/tests/forms.rs -->\n", "<!-- end of layouts -->");
    let (before, rest) = text.split_once(begin).expect("the list's beginning");
    let (_, after) = rest.split_once(end).expect("the list's end");
    let wanted = format!("{before}{begin}{}{end}{after}", trivet_forensics::layouts::documentation());
    if std::env::var_os("TRIVET_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    assert!(
        text == wanted || std::env::var_os("TRIVET_UPDATE_DOCS").is_some(),
        "docs/timeline.md is not up to date: TRIVET_UPDATE_DOCS=1 cargo test -p trivet-forensics --test forms"
    );
}
