//! Lines become facts of servers: who wrote each entry, and where it stands.

use crate::facts::{self, Fact};
use crate::gc;
use crate::line::{self, Head, LINE_BYTES_MAX};
use crate::own;
use crate::time::LogMillis;
use crate::versions::{self, Build, Seen};
use std::collections::{BTreeMap, BTreeSet};

/// Servers have numbers up to 255.
const ID_MAX: u32 = 255;
/// Facts that are kept; of a log with more, the rest is counted and told.
pub const FACTS_MAX: usize = 4_000_000;
/// A log that says nothing for so long has a hole, which may mean something.
const HOLE_MS: i64 = 2_000;
/// Log gaps that are kept of one log; further ones are not reported.
const HOLES_MAX: usize = 10_000;
/// Threads race to the log by less than this; beyond it a clock was set back, or its zone changed.
const BACK_MS: i64 = 25 * 60_000;
/// Java's collector pauses all the time; this is long.
const PAUSE_MS: u64 = 1_000;
/// Zones that lines of the collector name; more than one is none.
const ZONES_MAX: usize = 8;
/// Complaints about inputs that are kept.
const COMPLAINTS_MAX: usize = 50;

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
    /// Times without a line.
    holes: Vec<(LogMillis, LogMillis)>,
    statements: Seen,
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
    /// Lines with a time of the newest file.
    heads_of_file: u64,
    /// Where each server said first which address is its own.
    addresses: BTreeMap<u32, (String, Place)>,
    /// What is wrong with the inputs, a line each, for people.
    complaints: Vec<String>,
    /// As the collector's lines name them.
    zones: BTreeSet<String>,
}

/// All facts, each with its server, in the order of their times.
#[derive(Debug, Default)]
pub struct Facts {
    pub entries: Vec<Entry>,
    /// Address of each server, where a thread's name says it.
    pub addresses: BTreeMap<u32, String>,
    /// The last line of each server.
    pub ends: BTreeMap<u32, (LogMillis, Place)>,
    /// Times in which a server's log has no line.
    pub holes: BTreeMap<u32, Vec<(LogMillis, LogMillis)>>,
    /// By the lines of the source code.
    pub builds: BTreeMap<u32, Build>,
    /// What is wrong with the inputs.
    pub complaints: Vec<String>,
    /// The zones of the logs' clocks, as far as any line names one.
    pub zones: BTreeSet<String>,
    /// Inputs of which nobody knows who wrote them.
    pub unknown: Vec<String>,
}

impl Facts {
    /// The entries of these times, the ends included.
    pub fn between(&self, from: LogMillis, to: LogMillis) -> &[Entry] {
        let first = self.entries.partition_point(|e| e.at < from);
        let end = self.entries.partition_point(|e| e.at <= to);
        &self.entries[first..end.max(first)]
    }
}

impl Reader {
    pub fn file(&mut self, name: &str) {
        self.end_of_file();
        self.files.push(name.to_string());
        self.open = None;
        self.line = 0;
        self.heads_of_file = 0;
    }

    fn end_of_file(&mut self) {
        let Some(name) = self.files.last().filter(|_| self.heads_of_file == 0) else { return };
        let what = match self.line {
            0 => format!("{name}: it is empty"),
            n => format!("{name}: none of its {n} lines begins as a log of ZooKeeper's, or of ours, does"),
        };
        self.complain(what);
    }

    /// Something about the inputs that people should know.
    pub fn complain(&mut self, what: String) {
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(what);
        }
    }
    /// The line of the newest file was longer than what is looked at.
    pub fn was_cut(&mut self, length_bytes: u64) {
        let name = self.files.last().cloned().unwrap_or_default();
        self.complain(format!("{name}:{}: a line of {length_bytes} bytes, of which the beginning was read", self.line));
    }

    /// The next line of the file. Bytes that are no UTF-8 are replaced; of a line that is too long the beginning counts.
    pub fn line(&mut self, bytes: &[u8]) {
        self.lines += 1;
        self.line = self.line.saturating_add(1);
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LINE_BYTES_MAX)]);
        let line::Prefixed { prefix, line } = line::unprefixed(&text);
        let file = self.files.len().saturating_sub(1) as u32;
        let place = Place { file, line: self.line };
        if let Some((node, at, fact)) = line.strip_prefix('{').and_then(|_| own::record(line)) {
            self.entry(prefix, place, at, Some(node));
            return self.keep(prefix, place, at, Some(node), fact);
        }
        let Some(head) = line::head(line) else {
            return match gc::line(line) {
                Some(gc) => self.collected(prefix, place, gc),
                None => self.continued(file, prefix, line),
            };
        };
        let id = id_of(&head);
        self.entry(prefix, place, head.at, id);
        if let Some(statement) = versions::statement(&head) {
            if let Some(stream) = self.streams.get_mut(&(file, prefix.to_string())) {
                *stream.statements.entry(statement).or_default() += 1;
            }
        }
        if let Some((id, address)) = id.and_then(|id| Some((id, address_of(&head)?))) {
            self.address(id, address, place);
        }
        let fact = facts::fact(&head);
        self.keep(prefix, place, head.at, id, fact);
    }

    /// The Java collector's log, in the server's own or beside it.
    fn collected(&mut self, prefix: &str, place: Place, gc: gc::GcLine) {
        self.entry(prefix, place, gc.at, None);
        if self.zones.len() < ZONES_MAX {
            self.zones.insert(gc.zone);
        }
        let pause = (gc.pause_ms >= PAUSE_MS).then_some(Fact::PauseMs(gc.pause_ms));
        self.keep(prefix, place, gc.at, None, pause);
    }

    /// A line with a time.
    fn entry(&mut self, prefix: &str, place: Place, at: LogMillis, id: Option<u32>) {
        self.heads += 1;
        self.heads_of_file += 1;
        self.open = None;
        let stream = self.streams.entry((place.file, prefix.to_string())).or_default();
        let before = stream.end.0;
        let begun = stream.end.1 != Place::default();
        stream.end = (at, place);
        if let Some(id) = id {
            *stream.ids.entry(id).or_default() += 1;
        }
        if !begun {
            return;
        }
        if at - before >= HOLE_MS && stream.holes.len() < HOLES_MAX {
            stream.holes.push((before, at));
        } else if before - at >= BACK_MS {
            let minutes = (before - at + 30_000) / 60_000;
            let name = &self.files[place.file as usize];
            let text = format!(
                "{name}:{}: the time goes back by {} h {} min here: another zone, or the clock was set; what is before and behind is not in order",
                place.line, minutes / 60, minutes % 60
            );
            self.complain(text);
        }
    }

    /// Two servers with one id are told apart by nobody.
    fn address(&mut self, id: u32, address: String, place: Place) {
        match self.addresses.get(&id) {
            None => drop(self.addresses.insert(id, (address, place))),
            Some((known, at)) if *known != address && at.file != place.file => {
                let name = |p: &Place| format!("{}:{}", self.files[p.file as usize], p.line);
                let text = format!("{}: server {id} is {address} here and {known} in {}", name(&place), name(at));
                // Once a file.
                if !self.complaints.iter().any(|c| c.ends_with(&text[text.find(": server").unwrap_or(0)..])) {
                    self.complain(text);
                }
            }
            Some(_) => {}
        }
    }

    fn keep(&mut self, prefix: &str, place: Place, at: LogMillis, id: Option<u32>, fact: Option<Fact>) {
        let Some(fact) = fact else { return };
        if self.kept >= FACTS_MAX {
            self.dropped += 1;
            return;
        }
        self.kept += 1;
        let key = (place.file, prefix.to_string());
        if fact.wants_cause() {
            self.open = Some(key.clone());
        }
        self.streams.entry(key).or_default().entries.push((id, Entry { at, node: 0, place, fact }));
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

    pub fn finish(mut self) -> (Facts, Vec<String>) {
        self.end_of_file();
        let addresses = self.addresses.into_iter().map(|(id, (address, _))| (id, address)).collect();
        let mut facts = Facts { addresses, complaints: self.complaints, zones: self.zones, ..Default::default() };
        let mut statements: BTreeMap<u32, Seen> = BTreeMap::new();
        for (key, stream) in self.streams {
            let started = stream.entries.iter().find_map(|(_, e)| match e.fact {
                Fact::Starts { id } => id,
                Fact::Is { id } => Some(id),
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
            if let Some(id) = whole {
                facts.holes.entry(id).or_default().extend(stream.holes);
                let seen = statements.entry(id).or_default();
                stream.statements.into_iter().for_each(|(s, n)| *seen.entry(s).or_default() += n);
            }
            for id in whole.into_iter().chain(stream.ids.into_keys()) {
                let newest = facts.ends.entry(id).or_insert(stream.end);
                *newest = (*newest).max(stream.end);
            }
            let entries = stream.entries.into_iter();
            facts.entries.extend(entries.filter_map(|(own, e)| Some(Entry { node: own.or(whole)?, ..e })));
        }
        facts.builds = statements.iter().filter_map(|(id, seen)| Some((*id, versions::identify(seen)?))).collect();
        facts.holes.values_mut().for_each(|h| h.sort_unstable());
        // Threads race to the file: the sort is stable, and the order of equal times is the file's.
        facts.entries.sort_by_key(|e| e.at);
        said_twice(&mut facts.entries);
        (facts, self.files)
    }
}

/// Our own nodes write a change of role into their log and into their journal, which both may be here.
fn said_twice(entries: &mut Vec<Entry>) {
    const SAME_MS: i64 = 1_000;
    let mut last: BTreeMap<u32, (LogMillis, u32, Fact)> = BTreeMap::new();
    entries.retain(|e| {
        if !matches!(e.fact, Fact::Left { .. } | Fact::FollowsLeader { .. } | Fact::LeadsEpoch { .. }) {
            return true;
        }
        let known = last.get(&e.node);
        let again =
            known.is_some_and(|(at, file, fact)| e.at - at <= SAME_MS && *file != e.place.file && *fact == e.fact);
        if !again {
            last.insert(e.node, (e.at, e.place.file, e.fact.clone()));
        }
        !again
    });
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

    #[test]
    fn what_is_wrong_with_inputs_is_said_with_its_place() {
        let line = |day: u32, clock: &str, id: u32, address: &str| {
            format!("2026-11-{day}T{clock},000 [myid:] - INFO  [QuorumPeer[myid={id}](plain={address}:2181)(secure=disabled):QuorumPeer@1] - LOOKING\n")
        };
        let zone = line(22, "08:00:00", 1, "a") + "\tat a stack\n" + &line(22, "00:00:01", 1, "a");
        let back = line(22, "08:00:00", 2, "b") + &line(22, "07:59:58", 2, "b");
        let nginx = "127.0.0.1 - - [22/Nov/2026:07:00:00 +0000] \"GET / HTTP/1.1\" 200 0\n";
        let f = read(&[
            ("empty.log", ""),
            ("nginx.log", nginx),
            ("zone.log", &zone),
            ("back.log", &back),
            ("same.log", &line(22, "09:00:00", 1, "c")),
        ]);
        let has = |part: &str| f.complaints.iter().any(|c| c.contains(part));
        for part in [
            "empty.log: it is empty",
            "nginx.log: none of its 1 lines",
            "zone.log:3: the time goes back by 8 h 0 min",
            "same.log:1: server 1 is c:2181 here and a:2181 in zone.log:1",
        ] {
            assert!(has(part), "{part} is missing in {:#?}", f.complaints);
        }
        assert_eq!(f.complaints.len(), 4, "{:#?}", f.complaints);
        assert_eq!(f.entries.len(), 5);
    }

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
