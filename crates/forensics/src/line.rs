//! A line of a log, cut into the fields of its layout and the message.

use crate::layouts;
use crate::time::LogMillis;

/// Bytes of a line that are examined; the rest adds nothing.
pub const LINE_BYTES_MAX: usize = 64 << 10;

/// The first line of an entry, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head<'a> {
    /// The time of the line, by the clock of its machine.
    pub at: LogMillis,
    /// The server's id from `[myid:N]`; `None` where the brackets are empty.
    pub myid: Option<u32>,
    /// May be empty: not every layout names the thread.
    pub thread: &'a str,
    /// The last part of the class's name.
    pub class: &'a str,
    /// The line of the source that wrote it, from `Class@LINE`.
    pub source_line: Option<u32>,
    /// The text after everything else.
    pub message: &'a str,
    /// A warning or worse, or nobody knows.
    pub serious: bool,
}

/// `None`: a continuation of the entry above, or no log line at all.
pub fn head(line: &str) -> Option<Head<'_>> {
    layouts::head(line, &mut 0).map(|(head, _)| head)
}
