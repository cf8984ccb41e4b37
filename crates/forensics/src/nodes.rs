//! Entries of all inputs become facts of servers: who wrote each, in the order of their times, each once.

use crate::causes::Stated;
use crate::complaints::{at_place, Complaint};
use crate::facts::Fact;
use crate::identity::{self, Unnamed};
use crate::site::SiteEvent;
use crate::time::LogMillis;
use crate::versions::{self, Build, Seen};
use std::collections::{BTreeMap, BTreeSet};

pub use crate::reader::Reader;

/// Facts that are kept; further ones are counted, and the report says so.
pub const FACTS_MAX: usize = 4_000_000;
/// A log without a line for this long, in milliseconds, has a gap, which may be the trace of a pause.
pub const HOLE_MS: i64 = 2_000;
/// Log gaps that are kept of one log; further ones are not reported.
pub const HOLES_MAX: usize = 10_000;
/// A step back by an hour that is summer time's end, but for the time between two lines, in milliseconds.
const SUMMER_TIME_MS: i64 = 60_000;
/// Backward steps of a log's clock that are reported for each log.
const BACKS_TOLD_MAX: usize = 3;

/// A line of an input, as the report names it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Index into `Reader::files`.
    pub file: u32,
    /// From 1.
    pub line: u32,
}

/// A fact with its time, its server and its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The time, by the server's own clock until clocks are corrected.
    pub at: LogMillis,
    /// Number of the server; 0 until the log's server is known.
    pub node: u32,
    /// The line.
    pub place: Place,
    /// The fact.
    pub fact: Fact,
}

/// The facts of one input, or of one prefix within it.
#[derive(Debug, Default)]
pub struct Stream {
    /// Index into the names of the inputs.
    pub file: u32,
    /// The name before the lines, where several logs are in one input; else empty.
    pub prefix: String,
    /// How often the lines say which server it is.
    pub ids: BTreeMap<u32, u64>,
    /// Servers of which the lines speak as of others.
    pub others: BTreeSet<u32>,
    /// Servers whose votes the log has.
    pub voters: BTreeSet<u32>,
    /// The time of its first line.
    pub first: LogMillis,
    /// Its last line with a time.
    pub end: (LogMillis, Place),
    /// Times without a line.
    pub holes: Vec<(LogMillis, LogMillis)>,
    /// Where the time goes back: to when, from when, and the line.
    pub backs: Vec<(LogMillis, LogMillis, Place)>,
    /// Statements of the source with their lines, from which the version is read.
    pub statements: Seen,
    /// The facts, each with the server that its line names.
    pub entries: Vec<(Option<u32>, Entry)>,
    /// The newest of the entries that count sessions which ended, as their index.
    pub expiry: Option<usize>,
    /// The clock's step in the log: 1 ms or 1 s.
    pub step_ms: u16,
    /// Minutes ahead of UTC that the lines themselves name, and that a collector's times beside them show.
    pub zone_min: Option<i32>,
    /// Minutes that a collector's times beside the lines show.
    pub beside_min: Option<i32>,
    /// The last line before a process began to start, and when it did.
    pub boot: Option<(Option<LogMillis>, LogMillis)>,
    /// Its end could not be read.
    pub broken: bool,
    /// How many lines state each cause.
    pub stated: BTreeMap<Stated, usize>,
    /// The address that its threads name as the server's own.
    pub address: Option<String>,
}

/// All facts, each with its server, in the order of their times.
#[derive(Debug, Default)]
pub struct Facts {
    /// The facts.
    pub entries: Vec<Entry>,
    /// Address of each server, where a thread's name says it.
    pub addresses: BTreeMap<u32, String>,
    /// Hosts and addresses of servers, where any line says them.
    pub hosts: BTreeMap<String, u32>,
    /// The last line of each server.
    pub ends: BTreeMap<u32, (LogMillis, Place)>,
    /// The first line of each server.
    pub begins: BTreeMap<u32, LogMillis>,
    /// Times in which a server's log has no line.
    pub holes: BTreeMap<u32, Vec<(LogMillis, LogMillis)>>,
    /// By the lines of the source code.
    pub builds: BTreeMap<u32, Build>,
    /// Complaints about the inputs.
    pub complaints: Vec<Complaint>,
    /// The zones of the logs' clocks, as far as any line names one.
    pub zones: BTreeSet<String>,
    /// Inputs of which nobody knows who wrote them.
    pub unknown: Vec<String>,
    /// Servers whose logs' clocks go by more than a millisecond a step.
    pub step_ms: BTreeMap<u32, u16>,
    /// Servers whose log's end could not be read.
    pub broken: BTreeSet<u32>,
    /// Minutes ahead of UTC, where all logs say it.
    pub zone: Option<i32>,
    /// Events of machines around the ensemble.
    pub site: Vec<SiteEvent>,
    /// Notes that people wrote between the lines.
    pub remarks: Vec<(LogMillis, String, Place)>,
    /// Some logs' own lines name a zone, and not only the collector's.
    pub named_zone: bool,
}

impl Facts {
    /// The entries of these times, the ends included.
    pub fn between(&self, from: LogMillis, to: LogMillis) -> &[Entry] {
        let first = self.entries.partition_point(|e| e.at < from);
        let end = self.entries.partition_point(|e| e.at <= to);
        &self.entries[first..end.max(first)]
    }

    pub(crate) fn sorted(mut self, mut streams: Vec<Stream>, files: &[String], hosts: &BTreeMap<String, u32>) -> Facts {
        let mut owners = owners(&streams, files, hosts);
        copied_ids(&mut self, &mut streams, &mut owners, files, hosts);
        one_zone(&mut self, &mut streams, files);
        streams.iter_mut().for_each(steps_back);
        let mut statements: BTreeMap<u32, Seen> = BTreeMap::new();
        let mut of_node: BTreeMap<u32, Vec<(LogMillis, LogMillis, Vec<(LogMillis, LogMillis)>)>> = BTreeMap::new();
        let mut segments = Segments::default();
        let mut spans: BTreeMap<u32, Vec<(LogMillis, LogMillis)>> = BTreeMap::new();
        for (s, id) in streams.iter().zip(&owners) {
            id.iter().for_each(|id| spans.entry(*id).or_default().push((s.first, s.end.0)));
        }
        for (mut stream, whole) in streams.into_iter().zip(owners) {
            let name = &files[stream.file as usize];
            if whole.is_none() && stream.ids.is_empty() && !stream.entries.is_empty() {
                self.unknown.push(name.clone());
                self.complaints.push(Complaint::NoServer { file: name.clone() });
            }
            for (at, before, place) in stream.backs.iter().take(BACKS_TOLD_MAX) {
                let place = at_place(name, place.line);
                self.complaints.push(Complaint::TimeBack { place, back_ms: before - at });
            }
            if let Some(id) = whole {
                let holes = std::mem::take(&mut stream.holes);
                of_node.entry(id).or_default().push((stream.first, stream.end.0, holes));
                let seen = statements.entry(id).or_default();
                std::mem::take(&mut stream.statements).into_iter().for_each(|(s, n)| *seen.entry(s).or_default() += n);
            }
            for id in whole.into_iter().chain(stream.ids.keys().copied()) {
                let newest = self.ends.entry(id).or_insert(stream.end);
                *newest = (*newest).max(stream.end);
                let oldest = self.begins.entry(id).or_insert(stream.first);
                *oldest = (*oldest).min(stream.first);
                if stream.step_ms > 1 {
                    self.step_ms.insert(id, stream.step_ms);
                }
                if stream.broken {
                    self.broken.insert(id);
                }
            }
            let entries: Vec<Entry> = std::mem::take(&mut stream.entries)
                .into_iter()
                .filter_map(|(own, e)| Some(Entry { node: own.or(whole)?, ..e }))
                .collect();
            let overlaps = !stream.backs.is_empty()
                || whole.is_none_or(|id| {
                    spans[&id].iter().filter(|s| s.0 < stream.end.0 && s.1 > stream.first).count() > 1
                });
            if overlaps {
                segments.add(entries, &mut self);
            } else {
                self.entries.extend(entries);
            }
        }
        segments.told(&mut self, files);
        self.builds = statements.iter().filter_map(|(id, seen)| Some((*id, versions::identify(seen)?))).collect();
        self.holes = of_node.into_iter().map(|(id, logs)| (id, holes(&logs))).collect();
        self.sort();
        said_twice(&mut self.entries);
        self.starts();
        self.one_axis();
        self
    }

    /// Events of other machines on the clock of the ensemble's logs, where both zones are known, or neither is named.
    fn one_axis(&mut self) {
        let minutes = |z: &String| crate::stamp::stamp(format!("2000-01-01T00:00:00{z}").as_bytes())?.0.zone_min;
        // Where some logs name a zone and others do not, nobody knows which one the others are of.
        let collector = self.zones.first().filter(|_| self.zones.len() == 1 && !self.named_zone).and_then(minutes);
        let axis = self.zone.or(collector);
        let mut unknown: Vec<String> = Vec::new();
        for e in &mut self.site {
            match (e.zone_min, axis) {
                (Some(zone), Some(axis)) => {
                    e.at += i64::from(axis - zone) * 60_000;
                    e.aligned = true;
                }
                (Some(_), None) if !self.entries.is_empty() => {
                    if !unknown.contains(&e.host) && unknown.len() < crate::complaints::NAMES_MAX {
                        unknown.push(e.host.clone());
                    }
                }
                // Local times beside local times.
                _ => e.aligned = true,
            }
        }
        if !unknown.is_empty() {
            self.complaints.push(Complaint::ZoneUnknown { hosts: unknown });
        }
        self.site.sort_by_key(|e| e.at);
        // vobd and vmkernel say the same.
        self.site.dedup_by(|b, a| {
            a.kind == b.kind
                && a.host == b.host
                && a.object == b.object
                && b.at - a.at <= SAID_TWICE_MS
                && a.place.file != b.place.file
        });
    }

    /// Threads race to the file: the sort is stable, and the order of equal times is the file's. Of logs without
    /// fractions of seconds what ends comes before what begins.
    pub(crate) fn sort(&mut self) {
        if self.step_ms.is_empty() {
            return self.entries.sort_by_key(|e| e.at);
        }
        let rank = |fact: &Fact| match fact {
            Fact::LostLeader(_) | Fact::GaveUpLead { .. } | Fact::Looks | Fact::LearnerLost { .. } => 0,
            Fact::HasQuorum { .. } => 2,
            Fact::Follows | Fact::Serves | Fact::Leads => 3,
            _ => 1,
        };
        self.entries.sort_by_key(|e| (e.at, rank(&e.fact)));
    }

    /// The last line before each start may be in another file.
    fn starts(&mut self) {
        let mut last: BTreeMap<u32, LogMillis> = BTreeMap::new();
        for e in &mut self.entries {
            if let Fact::Starts { after, .. } = &mut e.fact {
                *after = (*after).max(last.get(&e.node).copied());
            }
            let span_ms = if let Fact::Expires { span_ms, .. } = e.fact { i64::from(span_ms) } else { 0 };
            last.insert(e.node, e.at + span_ms);
        }
    }
}

/// Where two logs claim one id from two addresses, and the others' lines say whose address the one is, that server wrote it:
/// its `myid` is wrong, or was copied. Where no line says it, the names of the files do, if the other log has the id in its name.
fn copied_ids(
    facts: &mut Facts,
    streams: &mut [Stream],
    owners: &mut [Option<u32>],
    files: &[String],
    hosts: &BTreeMap<String, u32>,
) {
    let host = |address: &String| address.rsplit_once(':').map_or(address.clone(), |(host, _)| host.to_string());
    let of: Vec<Option<(u32, String)>> =
        streams.iter().zip(&*owners).map(|(s, id)| Some(((*id)?, s.address.clone()?))).collect();
    for (at, own) in of.iter().enumerate() {
        let Some((id, address)) = own else { continue };
        let claimed = of.iter().flatten().any(|o| o.0 == *id && o.1 != *address);
        let other_is_named = || {
            let others =
                of.iter().zip(&*streams).filter(|(o, _)| o.as_ref().is_some_and(|o| o.0 == *id && o.1 != *address));
            others.map(|(_, s)| s).any(|s| named(s, files) == Some(*id))
        };
        let by_name = || named(&streams[at], files).filter(|n| !owners.contains(&Some(*n)) && other_is_named());
        let real = hosts.get(&host(address)).copied().filter(|real| *real != u32::MAX).or_else(by_name);
        let Some(real) = real.filter(|real| real != id) else { continue };
        if !claimed {
            continue;
        }
        owners[at] = Some(real);
        streams[at].ids = BTreeMap::from([(real, 1)]);
        streams[at].entries.iter_mut().for_each(|(own, _)| *own = None);
        facts.addresses.insert(real, address.clone());
        if facts.addresses.get(id) == Some(address) {
            let other = of.iter().flatten().find(|o| o.0 == *id && o.1 != *address);
            facts.addresses.extend(other.cloned());
        }
    }
}

/// The number in a stream's name.
fn named(stream: &Stream, files: &[String]) -> Option<u32> {
    let name = if stream.prefix.is_empty() { files[stream.file as usize].as_str() } else { stream.prefix.as_str() };
    identity::of_name(name)
}

/// Whose each stream is; none where each entry must say it, or nobody knows.
fn owners(streams: &[Stream], files: &[String], hosts: &BTreeMap<String, u32>) -> Vec<Option<u32>> {
    let said = |stream: &Stream| {
        let started = stream.entries.iter().find_map(|(_, e)| match e.fact {
            Fact::Starts { id, .. } => id,
            Fact::Is { id } => Some(id),
            _ => None,
        });
        match stream.ids.len() {
            0 => started,
            1 => stream.ids.keys().next().copied(),
            _ => None,
        }
    };
    let file = |s: &Stream| files[s.file as usize].as_str();
    let name = |s: &Stream| if s.prefix.is_empty() { file(s).to_string() } else { s.prefix.clone() };
    let mut out: Vec<Option<u32>> = streams.iter().map(said).collect();
    let known: Vec<(String, u32)> = streams.iter().zip(&out).filter_map(|(s, id)| Some((name(s), (*id)?))).collect();
    let open: Vec<usize> = (0..streams.len()).filter(|i| out[*i].is_none() && streams[*i].ids.is_empty()).collect();
    let unnamed: Vec<Unnamed<'_>> = open
        .iter()
        .map(|i| &streams[*i])
        .map(|s| Unnamed { prefix: &s.prefix, file: file(s), others: &s.others, voters: &s.voters })
        .collect();
    for (at, id) in open.into_iter().zip(identity::guess(&unnamed, &known, hosts)) {
        out[at] = id;
    }
    out
}

/// Logs of different zones are put on one clock: the one that somebody named, which is also that of logs that name none.
fn one_zone(facts: &mut Facts, streams: &mut [Stream], files: &[String]) {
    let given = facts.zone;
    if given.is_some() {
        let unnamed = streams.iter_mut().filter(|s| s.zone_min.or(s.beside_min).is_none());
        unnamed.for_each(|s| s.zone_min = given);
    }
    let with_entries = || streams.iter().filter(|s| !s.entries.is_empty());
    let zones: BTreeSet<i32> = with_entries().filter_map(|s| s.zone_min.or(s.beside_min)).collect();
    let name = |zone: i32| match zone {
        0 => "Z".to_string(),
        z => format!("{}{:02}:{:02}", if z < 0 { '-' } else { '+' }, z.abs() / 60, z.abs() % 60),
    };
    let names = |of: &dyn Fn(&&Stream) -> bool| -> Vec<String> {
        let mut names: Vec<String> = with_entries().filter(of).map(|s| files[s.file as usize].clone()).collect();
        names.dedup();
        names.truncate(crate::complaints::NAMES_MAX);
        names
    };
    let (with, without) = (names(&|s| s.zone_min.is_some()), names(&|s| s.zone_min.or(s.beside_min).is_none()));
    if !with.is_empty() && !without.is_empty() && with != without {
        facts.complaints.push(Complaint::ZonesMixed { with, without });
    }
    let Some(first) = given.or(zones.first().copied()) else { return };
    facts.zones.insert(name(first));
    facts.named_zone = true;
    if facts.zone.is_none() && zones.len() == 1 && with_entries().all(|s| s.zone_min.or(s.beside_min).is_some()) {
        facts.zone = Some(first);
    }
    for s in streams.iter_mut() {
        let shift = s.zone_min.or(s.beside_min).map_or(0, |zone| i64::from(first - zone) * 60_000);
        if shift == 0 {
            continue;
        }
        s.first += shift;
        s.end.0 += shift;
        s.holes.iter_mut().for_each(|h| *h = (h.0 + shift, h.1 + shift));
        s.entries.iter_mut().for_each(|(_, e)| {
            e.at += shift;
            if let Fact::Starts { after: Some(after), .. } = &mut e.fact {
                *after += shift;
            }
        });
    }
}

/// Milliseconds within which the same event in two logs of one machine counts as one event.
const SAID_TWICE_MS: i64 = 2_000;

/// Where the clock was set back, shifts the later entries behind the earlier ones, so that order and durations stay right. A
/// second copy of earlier entries is no step back, and neither is an older log that follows a newer one.
fn steps_back(stream: &mut Stream) {
    let mut shift = 0;
    for (at, before, place) in stream.backs.clone() {
        let step = before - at;
        let summer_time = (step - 3_600_000).abs() <= SUMMER_TIME_MS;
        let first = stream.entries.iter().position(|(_, e)| e.place >= place);
        let earlier = |e: &Entry| {
            let all = first.map_or(&[][..], |first| &stream.entries[..first]);
            all.iter().any(|(_, o)| o.at == e.at && o.fact == e.fact)
        };
        let copy = first.is_some_and(|first| stream.entries[first..].iter().take(TWICE_MIN).all(|(_, e)| earlier(e)));
        if copy || at <= stream.first && !summer_time {
            continue;
        }
        shift += step;
        for (_, e) in stream.entries.iter_mut().filter(|(_, e)| e.place >= place) {
            e.at += step;
            if let Fact::Starts { after: Some(after), .. } = &mut e.fact {
                *after += if *after >= before { 0 } else { step };
            }
        }
    }
    stream.end.0 += shift;
}

/// Times without a line in any of a server's logs.
fn holes(logs: &[(LogMillis, LogMillis, Vec<(LogMillis, LogMillis)>)]) -> Vec<(LogMillis, LogMillis)> {
    let mut out = Vec::new();
    for (at, (_, _, holes)) in logs.iter().enumerate() {
        for hole in holes {
            let silent =
                |(other, (first, last, theirs)): (usize, &(LogMillis, LogMillis, Vec<(LogMillis, LogMillis)>))| {
                    let outside = *last <= hole.0 || *first >= hole.1;
                    let near = &theirs[..theirs.partition_point(|h| h.0 <= hole.0)];
                    other == at || outside || near.last().is_some_and(|h| h.1 >= hole.1)
                };
            if logs.iter().enumerate().all(silent) {
                out.push(*hole);
            }
        }
    }
    out.sort_unstable();
    out.dedup();
    out
}

/// Entries of logs that overlap: a file that was given twice, or a log and its rotated copy. What one stretch of a log
/// says several times stays; what another stretch says again does not.
#[derive(Default)]
struct Segments {
    /// How often each entry was said in one stretch.
    seen: BTreeMap<(u32, LogMillis), Vec<(Fact, usize, u32)>>,
    twice: BTreeMap<(u32, u32), usize>,
}

/// Within a stretch of a log its clock goes back by less.
const STRETCH_MS: i64 = 1_000;
/// Entries that must occur twice before a stretch counts as a copy; fewer may be coincidence.
const TWICE_MIN: usize = 3;

impl Segments {
    fn add(&mut self, entries: Vec<Entry>, facts: &mut Facts) {
        let mut newest = LogMillis::MIN;
        let mut counts: BTreeMap<(u32, LogMillis), Vec<(Fact, usize)>> = BTreeMap::new();
        for e in entries {
            if newest != LogMillis::MIN && e.at < newest - STRETCH_MS {
                counts.clear();
                newest = e.at;
            }
            newest = newest.max(e.at);
            let key = (e.node, e.at);
            let here = counts.entry(key).or_default();
            let n = match here.iter_mut().find(|(fact, _)| *fact == e.fact) {
                Some((_, n)) => {
                    *n += 1;
                    *n
                }
                None => {
                    here.push((e.fact.clone(), 1));
                    1
                }
            };
            let all = self.seen.entry(key).or_default();
            match all.iter_mut().find(|(fact, ..)| *fact == e.fact) {
                Some((_, most, _)) if n > *most => *most = n,
                Some((_, _, file)) => {
                    *self.twice.entry((e.place.file, *file)).or_default() += 1;
                    continue;
                }
                None => all.push((e.fact.clone(), 1, e.place.file)),
            }
            facts.entries.push(e);
        }
    }

    fn told(self, facts: &mut Facts, files: &[String]) {
        for ((file, of), count) in self.twice {
            if count >= TWICE_MIN {
                let name = |f: u32| files[f as usize].clone();
                facts.complaints.push(Complaint::Twice { file: name(file), of: name(of) });
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Cause;
    use crate::report::Lang;

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
        let has = |part: &str| f.complaints.iter().any(|c| c.text(Lang::English).contains(part));
        for part in [
            "empty.log: the file is empty",
            "nginx.log: no line looks like a ZooKeeper or Trivet log (1 lines); the first is: 127.0.0.1",
            "zone.log:3: the time goes back by 7 h 59 min",
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
