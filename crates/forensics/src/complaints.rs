//! Complaints about the inputs: files, lines and times that could not be used, as text for people.

use crate::report::Lang;

/// A fault of the inputs, or a limit of what they tell. Files are named as they were handed in, and a place is
/// `FILE:LINE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Complaint {
    /// The file has no bytes.
    Empty {
        /// The file's name.
        file: String,
    },
    /// No line of it is a log's.
    NoLog {
        /// The file's name.
        file: String,
        /// Lines that were read.
        lines: u32,
        /// The first line.
        first: String,
    },
    /// Lines with a time of no known layout, by their shape.
    UnknownShape {
        /// The place of the first such line.
        place: String,
        /// Lines of this shape.
        count: u64,
        /// The first such line.
        first: String,
    },
    /// The clock went back within a log, or its zone changed.
    TimeBack {
        /// The line from which on the time is less.
        place: String,
        /// Milliseconds by which it goes back.
        back_ms: i64,
    },
    /// The clock went forward within a log, by what votes before and after say.
    TimeForward {
        /// The first line by the new clock.
        place: String,
        /// Milliseconds by which it was set forward, about.
        forward_ms: i64,
    },
    /// Two lines give a server different addresses: the logs may be of two ensembles.
    SecondAddress {
        /// The later line.
        place: String,
        /// Number of the server.
        id: u32,
        /// The address in that line.
        address: String,
        /// The address that was known before.
        known: String,
        /// The line that stated the known address.
        known_place: String,
    },
    /// The line is longer than what is read of one; its beginning was read.
    LongLine {
        /// The place of the line.
        place: String,
        /// Its length in bytes.
        bytes: u64,
    },
    /// The rest could not be read: what is told of this server ends there.
    NotReadPast {
        /// The file's name.
        file: String,
        /// The last line that was read.
        line: u32,
        /// The reason, as text.
        why: String,
    },
    /// Files of a folder or an archive that were skipped because their names are not those of logs.
    Skipped {
        /// The names, [`NAMES_MAX`] at most.
        names: Vec<String>,
        /// The number of all such files.
        count: usize,
    },
    /// No server could be identified as the writer of the file.
    NoServer {
        /// The file's name, with the prefix of its lines where they have one.
        file: String,
    },
    /// Facts beyond the limit were left out.
    Dropped {
        /// Facts that were left out.
        count: u64,
        /// The limit, [`FACTS_MAX`](crate::nodes::FACTS_MAX).
        max: usize,
    },
    /// Some lines name no year.
    YearAssumed {
        /// The year that was assumed.
        year: i64,
    },
    /// Some lines name no date, and stand on 1970-01-01.
    DateAssumed,
    /// Some logs name their zone, others do not.
    ZonesMixed {
        /// Files whose lines name their zone.
        with: Vec<String>,
        /// Files whose lines do not.
        without: Vec<String>,
    },
    /// Entries that another input has already.
    Twice {
        /// The file that repeats the entries.
        file: String,
        /// The file that has them, too.
        of: String,
    },
    /// Logs in UTC beside logs of which nobody knows the zone.
    ZoneUnknown {
        /// The machines whose logs are in UTC, or name their zone.
        hosts: Vec<String>,
    },
    /// Any other text for people, shown as it is.
    Other(String),
}

/// Names of skipped files that are listed.
pub const NAMES_MAX: usize = 8;
/// Characters of a line that are shown.
const SHOWN_MAX: usize = 100;

fn shown(line: &str) -> String {
    let line = line.trim();
    let end = line.char_indices().nth(SHOWN_MAX).map(|(at, _)| at);
    end.map_or(line.to_string(), |end| format!("{}...", &line[..end]))
}

impl Complaint {
    /// The complaint as a line for people.
    pub fn text(&self, lang: Lang) -> String {
        let en = lang == Lang::English;
        let list = |names: &[String]| names.join(if en { ", " } else { "、" });
        match self {
            Complaint::Empty { file } if en => format!("{file}: the file is empty"),
            Complaint::Empty { file } => format!("{file}：文件为空"),
            Complaint::NoLog { file, lines, first } if en => {
                format!(
                    "{file}: no line looks like a ZooKeeper or Trivet log ({lines} lines); the first is: {}",
                    shown(first)
                )
            }
            Complaint::NoLog { file, lines, first } => {
                format!("{file}：{lines} 行均不像 ZooKeeper 或 Trivet 日志；首行：{}", shown(first))
            }
            Complaint::UnknownShape { place, count, first } if en => {
                format!(
                    "{place}: no known layout takes {count} line{} such as: {}",
                    if *count == 1 { "" } else { "s" },
                    shown(first)
                )
            }
            Complaint::UnknownShape { place, count, first } => {
                format!("{place}：{count} 行的格式无法识别，例如：{}", shown(first))
            }
            Complaint::TimeBack { place, back_ms } => {
                let (hours, minutes, seconds) = (back_ms / 3_600_000, back_ms / 60_000 % 60, back_ms / 1_000 % 60);
                if en {
                    format!("{place}: the time goes back by {hours} h {minutes} min {seconds} s here: the clock was set, or another zone begins; times before and after may not be comparable")
                } else {
                    format!("{place}：时间在此处倒退 {hours} 小时 {minutes} 分 {seconds} 秒：时钟被调整或时区改变，前后时间可能无法比较")
                }
            }
            Complaint::TimeForward { place, forward_ms } => {
                let (hours, minutes, seconds) =
                    (forward_ms / 3_600_000, forward_ms / 60_000 % 60, forward_ms / 1_000 % 60);
                if en {
                    format!("{place}: the clock was set forward by about {hours} h {minutes} min {seconds} s before this line; times from here on are told as by the clock before")
                } else {
                    format!("{place}：时钟在此行之前被向前调整约 {hours} 小时 {minutes} 分 {seconds} 秒；此后的时间按调整前的时钟给出")
                }
            }
            Complaint::SecondAddress { place, id, address, known, known_place } if en => {
                format!("{place}: server {id} is {address} here and {known} in {known_place}")
            }
            Complaint::SecondAddress { place, id, address, known, known_place } => {
                format!("{place}：服务器 {id} 的地址在此处为 {address}，在 {known_place} 中为 {known}")
            }
            Complaint::LongLine { place, bytes } if en => {
                format!("{place}: a line of {bytes} bytes, of which the beginning was read")
            }
            Complaint::LongLine { place, bytes } => format!("{place}：该行长 {bytes} 字节，只读取了开头部分"),
            Complaint::NotReadPast { file, line, why } if en => format!("{file}: not read past line {line}: {why}"),
            Complaint::NotReadPast { file, line, why } => format!("{file}：第 {line} 行之后未能读取：{why}"),
            Complaint::Skipped { names, count } if en => {
                let more =
                    if *count > names.len() { format!(" and {} more", count - names.len()) } else { String::new() };
                format!("skipped, for their names are not those of logs: {}{more}", list(names))
            }
            Complaint::Skipped { names, count } => {
                let more = if *count > names.len() { format!(" 等 {count} 个") } else { String::new() };
                format!("以下文件的名称不像日志，已跳过：{}{more}", list(names))
            }
            Complaint::NoServer { file } if en => {
                format!("{file}: nothing in it says which server wrote it; rename it to node1.log, for example")
            }
            Complaint::NoServer { file } => format!("{file}：无法判断由哪个服务器写入；请改名，例如 node1.log"),
            Complaint::Dropped { count, max } if en => format!("{count} facts beyond the first {max} were left out"),
            Complaint::Dropped { count, max } => format!("超出前 {max} 条的 {count} 条记录未使用"),
            Complaint::YearAssumed { year } if en => format!("some lines name no year; they are taken as of {year}"),
            Complaint::YearAssumed { year } => format!("部分日志没有年份，按 {year} 年处理"),
            Complaint::DateAssumed if en => "some lines name no date; the day is not known".into(),
            Complaint::DateAssumed => "部分日志没有日期，具体日期未知".into(),
            Complaint::ZonesMixed { with, without } if en => format!(
                "{} name their time zone, {} do not: give --zone if the latter are not in the same zone",
                list(with),
                list(without)
            ),
            Complaint::ZonesMixed { with, without } => {
                format!("{} 标明了时区，{} 没有：若时区不同，请用 --zone 指定", list(with), list(without))
            }
            Complaint::Twice { file, of } if en => format!("{file}: contains entries of {of} again; they count once"),
            Complaint::Twice { file, of } => format!("{file}：与 {of} 内容重复，只计一次"),
            Complaint::ZoneUnknown { hosts } if en => format!(
                "the logs of {} name their zone, those of the ensemble do not: give --zone +08:00, for example; until then nothing of theirs is connected",
                list(hosts)
            ),
            Complaint::ZoneUnknown { hosts } => {
                format!("{} 的日志标明了时区，而集群日志没有：请用 --zone 指定（例如 +08:00），否则不作关联", list(hosts))
            }
            Complaint::Other(text) => text.clone(),
        }
    }
}

/// A shape: letters and digits are classes, so that lines that differ in values only are one.
pub fn shape(line: &str) -> String {
    let mut out = String::new();
    for c in line.chars().take(48) {
        let class = match c {
            _ if c.is_ascii_digit() => '0',
            _ if c.is_alphabetic() => 'a',
            _ if c.is_whitespace() => ' ',
            _ => c,
        };
        if !out.ends_with(class) || !matches!(class, '0' | 'a' | ' ') {
            out.push(class);
        }
    }
    out.truncate(out.char_indices().nth(20).map_or(out.len(), |(at, _)| at));
    out
}

/// The place of a line, as complaints name it.
pub fn at_place(file: &str, line: u32) -> String {
    format!("{file}:{line}")
}
