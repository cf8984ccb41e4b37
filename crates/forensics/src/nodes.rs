//! Lines become facts of servers: who wrote each entry, and where it stands.

use crate::facts::{self, Fact};
use crate::line::{self, Head, LINE_BYTES_MAX};
use crate::time::LogMillis;
use std::collections::BTreeMap;

/// Servers have numbers up to 255.
const ID_MAX: u32 = 255;
/// Facts that are kept; of a log with more, the rest is counted and told.
pub const FACTS_MAX: usize = 4_000_000;

/// A line of an input, as the report names it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Index into `Reader::files`.
    pub file: u32,
    /// From 1.
    pub line: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub at: LogMillis,
    pub node: u32,
    pub place: Place,
    pub fact: Fact,
}

/// What is known of one input, or of one prefix within it.
#[derive(Debug, Default)]
struct Stream {
    /// How often the threads' names say which server it is.
    ids: BTreeMap<u32, u64>,
    /// Its last line with a time.
    end: (LogMillis, Place),
    entries: Vec<(Option<u32>, Entry)>,
}

/// Takes lines in, file after file.
#[derive(Default)]
pub struct Reader {
    pub files: Vec<String>,
    pub lines: u64,
    /// Entries with a time, whatever they say.
    pub heads: u64,
    /// Facts beyond `FACTS_MAX`.
    pub dropped: u64,
    kept: usize,
    streams: BTreeMap<(u32, String), Stream>,
    /// The stream whose newest entry waits for its cause.
    open: Option<(u32, String)>,
    line: u32,
    addresses: BTreeMap<u32, String>,
}

/// All facts, each with its server, in the order of their times.
#[derive(Debug, Default)]
pub struct Facts {
    pub entries: Vec<Entry>,
    /// Address of each server, where a thread's name says it.
    pub addresses: BTreeMap<u32, String>,
    /// The last line of each server.
    pub ends: BTreeMap<u32, (LogMillis, Place)>,
    /// Inputs of which nobody knows who wrote them.
    pub unknown: Vec<String>,
}

impl Reader {
    pub fn file(&mut self, name: &str) {
        self.files.push(name.to_string());
        self.open = None;
        self.line = 0;
    }

    /// The next line of the file. Bytes that are no UTF-8 are replaced; of a line that is too long the beginning counts.
    pub fn line(&mut self, bytes: &[u8]) {
        self.lines += 1;
        self.line = self.line.saturating_add(1);
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LINE_BYTES_MAX)]);
        let line::Prefixed { prefix, line } = line::unprefixed(&text);
        let file = self.files.len().saturating_sub(1) as u32;
        let Some(head) = line::head(line) else { return self.continued(file, prefix, line) };
        self.heads += 1;
        let key = (file, prefix.to_string());
        let place = Place { file, line: self.line };
        let stream = self.streams.entry(key).or_default();
        stream.end = (head.at, place);
        let id = id_of(&head);
        if let Some(id) = id {
            *stream.ids.entry(id).or_default() += 1;
            if let (Some(address), false) = (address_of(&head), self.addresses.contains_key(&id)) {
                self.addresses.insert(id, address);
            }
        }
        self.open = None;
        let Some(fact) = facts::fact(&head) else { return };
        if self.kept >= FACTS_MAX {
            self.dropped += 1;
            return;
        }
        self.kept += 1;
        if fact.wants_cause() {
            self.open = Some((file, prefix.to_string()));
        }
        stream.entries.push((id, Entry { at: head.at, node: 0, place, fact }));
    }

    /// The first exception behind a message is its cause.
    fn continued(&mut self, file: u32, prefix: &str, line: &str) {
        let Some(open) = self.open.as_ref().filter(|o| o.0 == file && o.1 == prefix) else { return };
        let Some(cause) = facts::cause(line) else { return };
        if let Some((_, entry)) = self.streams.get_mut(open).and_then(|s| s.entries.last_mut()) {
            entry.fact.set_cause(cause);
        }
        self.open = None;
    }

    /// Lines of the newest file so far.
    pub fn line_of_file(&self) -> u32 {
        self.line
    }

    pub fn finish(self) -> (Facts, Vec<String>) {
        let mut facts = Facts { addresses: self.addresses, ..Default::default() };
        for (key, stream) in self.streams {
            let started = stream.entries.iter().find_map(|(_, e)| match e.fact {
                Fact::Starts { id } => id,
                _ => None,
            });
            let named = stream.ids.iter().max_by_key(|(_, n)| **n).map(|(id, _)| *id);
            let whole = match stream.ids.len() {
                0 => started.or_else(|| id_of_name(&key.1)).or_else(|| id_of_name(&self.files[key.0 as usize])),
                1 => named,
                // Several servers in one file: each entry must say whose it is.
                _ => None,
            };
            if whole.is_none() && stream.ids.is_empty() && !stream.entries.is_empty() {
                facts.unknown.push(self.files[key.0 as usize].clone());
            }
            for id in whole.into_iter().chain(stream.ids.into_keys()) {
                let newest = facts.ends.entry(id).or_insert(stream.end);
                *newest = (*newest).max(stream.end);
            }
            let entries = stream.entries.into_iter();
            facts.entries.extend(entries.filter_map(|(own, e)| Some(Entry { node: own.or(whole)?, ..e })));
        }
        // Threads race to the file: the sort is stable, and the order of equal times is the file's.
        facts.entries.sort_by_key(|e| e.at);
        (facts, self.files)
    }
}

fn number_at(text: &str, what: &str) -> Option<u32> {
    let rest = &text[text.find(what)? + what.len()..];
    rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())].parse().ok().filter(|id| *id <= ID_MAX)
}

/// Names of threads say more than `[myid:]`, which newer loggers leave empty.
fn id_of(head: &Head<'_>) -> Option<u32> {
    number_at(head.thread, "[myid=").or(head.myid.filter(|id| *id <= ID_MAX))
}

/// `QuorumPeer[myid=1]/10.0.10.71:2181`, `QuorumPeer[myid=1](plain=10.0.10.71:2181)(secure=disabled)`
fn address_of(head: &Head<'_>) -> Option<String> {
    let rest = head.thread.strip_prefix("QuorumPeer[myid=")?.split_once(']')?.1;
    let address =
        rest.strip_prefix("(plain=").map_or_else(|| rest.strip_prefix('/'), |r| r.split_once(')').map(|(a, _)| a))?;
    Some(address.trim_start_matches('/').to_string())
}

/// `node2-zookeeper.log.gz`, `zoo1_1`, `logs/zk3/zookeeper.log`
fn id_of_name(name: &str) -> Option<u32> {
    let lower = name.to_ascii_lowercase();
    ["node", "myid", "server", "zoo", "zk"].iter().find_map(|word| {
        lower.match_indices(word).find_map(|(at, w)| {
            let rest = lower[at + w.len()..].trim_start_matches(['-', '_', '.', '=']);
            rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())]
                .parse()
                .ok()
                .filter(|id| *id <= ID_MAX)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Cause;

    fn read(files: &[(&str, &str)]) -> Facts {
        let mut r = Reader::default();
        for (name, text) in files {
            r.file(name);
            text.lines().for_each(|l| r.line(l.as_bytes()));
        }
        r.finish().0
    }

    #[test]
    fn a_pasted_excerpt() {
        let text = "[192_168_18_73_71]/zookeeper.log│2023-01-25T19:05:05,818 [myid:] - WARN  [QuorumPeer[myid=3](plain=10.0.10.73:2181)(secure=disabled):Follower@100] - Exception when following the leader    ┤\n\
                    [192_168_18_73_71]/zookeeper.log│java.net.SocketTimeoutException: Read timed out\n\
                    [192_168_18_73_71]/zookeeper.log│2023-01-25T19:05:05,830 [myid:] - INFO  [QuorumPeer[myid=3](plain=10.0.10.73:2181)(secure=disabled):QuorumPeer@1255] - LOOKING   │\n";
        let f = read(&[("-", text)]);
        let facts: Vec<_> = f.entries.iter().map(|e| (e.node, e.place.line, e.fact.clone())).collect();
        assert_eq!(facts, [(3, 1, Fact::LostLeader(Cause::Timeout)), (3, 3, Fact::Looks)]);
        assert_eq!(f.addresses[&3], "10.0.10.73:2181");
    }

    #[test]
    fn several_servers_in_one_file_and_a_file_that_only_its_name_tells() {
        let line =
            |t: &str, thread: &str| format!("2026-11-22T07:56:{t} [myid:] - INFO  [{thread}:QuorumPeer@1] - LOOKING\n");
        let mixed = line("19,868", "QuorumPeer[myid=1]/a:1")
            + &line("18,000", "QuorumPeer[myid=2]/b:1")
            + &line("20,000", "main");
        let f = read(&[
            ("all.log", &mixed),
            ("node7-zookeeper.log", &line("21,000", "main")),
            ("x.log", &line("22,000", "main")),
        ]);
        assert_eq!(f.entries.iter().map(|e| e.node).collect::<Vec<_>>(), [2, 1, 7]);
        assert_eq!(f.unknown, ["x.log"]);
    }
}
