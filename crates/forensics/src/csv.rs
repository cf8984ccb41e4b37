//! Exports as CSV: the first line names the columns. A field in quotes may go over several lines.

use crate::stamp::{self, Stamp};

/// Bytes of a record of several lines; a longer one is cut there.
const RECORD_BYTES_MAX: usize = 64 << 10;

const TEXTS: &[&str] = &[
    "message",
    "_source.message",
    "line",
    "log",
    "msg",
    "event.original",
    "description",
    "event message",
    "描述",
    "说明",
    "事件",
    "消息",
];
const TIMES: &[&str] = &[
    "@timestamp",
    "_source.@timestamp",
    "timestamp",
    "time",
    "date time",
    "date",
    "datetime",
    "created time",
    "createdtime",
    "时间",
    "日期时间",
    "日期",
];
const NAMES: &[&str] = &[
    "pod",
    "kubernetes.pod.name",
    "host.name",
    "host.hostname",
    "hostname",
    "host",
    "container.name",
    "container",
    "instance",
    "filename",
    "log.file.path",
    "entity",
    "target",
    "对象",
    "目标",
];

/// Which column is what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    text: usize,
    time: Option<usize>,
    name: Option<usize>,
    separator: char,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Record {
    pub text: String,
    pub name: String,
    pub stamp: Option<Stamp>,
}

/// The columns that the header line of a CSV file names; `None` if it has no column of messages.
pub fn header(line: &str) -> Option<Columns> {
    let separator = [',', ';', '\t'].into_iter().find(|s| line.contains(*s))?;
    let fields: Vec<String> = fields(line, separator)?.iter().map(|f| f.trim().to_lowercase()).collect();
    let find = |names: &[&str]| names.iter().find_map(|n| fields.iter().position(|f| f == n));
    let text = find(TEXTS)?;
    Some(Columns { text, time: find(TIMES), name: find(NAMES).filter(|n| *n != text), separator })
}

/// `None`: a quotation has not ended.
fn fields(line: &str, separator: char) -> Option<Vec<String>> {
    let (mut out, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            _ if c == separator && !quoted => out.push(std::mem::take(&mut field)),
            _ => field.push(c),
        }
    }
    out.push(field);
    (!quoted).then_some(out)
}

/// Takes lines in until a record is whole.
#[derive(Debug)]
pub struct Table {
    columns: Columns,
    open: String,
}

impl Table {
    pub fn new(columns: Columns) -> Self {
        Table { columns, open: String::new() }
    }

    pub fn line(&mut self, line: &str) -> Option<Record> {
        if !self.open.is_empty() {
            self.open.push('\n');
        }
        self.open.push_str(line);
        let found = fields(&self.open, self.columns.separator);
        if found.is_none() && self.open.len() < RECORD_BYTES_MAX {
            return None;
        }
        self.open.clear();
        let found = found?;
        let of = |at: Option<usize>| at.and_then(|at| found.get(at)).map(|f| f.trim().to_string()).unwrap_or_default();
        let text = of(Some(self.columns.text));
        let stamp = stamp::stamp(of(self.columns.time).as_bytes()).map(|s| s.0);
        (!text.is_empty()).then(|| Record { text, name: of(self.columns.name), stamp })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_over_several_lines() {
        let columns = header("\"@timestamp\",\"message\",\"host.name\"").unwrap();
        let mut table = Table::new(columns);
        assert_eq!(table.line("\"Jan 25, 2023 @ 19:05:05.818\",\"a \"\"b\"\", c"), None);
        let r = table.line("java.net.X: y\",zk1").unwrap();
        assert_eq!((r.text.as_str(), r.name.as_str(), r.stamp.is_some()), ("a \"b\", c\njava.net.X: y", "zk1", true));
        assert_eq!(header("2023-01-25 19:05:05,818 [myid:1] - INFO  [main:X@1] - y"), None);
        assert_eq!(header(""), None);
    }
}
