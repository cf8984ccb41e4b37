//! Takes lines in, file after file: prefixes and envelopes off, the layout's parts apart, each entry to the stream it
//! belongs to. A stream is a file, or what one prefix in it names.

use crate::causes;
use crate::complaints::{self, Complaint};
use crate::csv;
use crate::facts::{self, Fact};
use crate::gc;
use crate::identity;
use crate::json_lines::{self, Kind};
use crate::json_value;
use crate::layouts;
use crate::line::{Head, LINE_BYTES_MAX};
use crate::nodes::{Entry, Facts, Place, Stream, FACTS_MAX, HOLES_MAX, HOLE_MS};
use crate::own;
use crate::prefixes::{self, Timed};
use crate::site::{self, Patterns, SiteEvent};
use crate::stamp::{Stamp, LEAP_YEAR};
use crate::time::{self, LogMillis};
use crate::versions;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// Threads race to the log by less than this; beyond it a clock was set back, or its zone changed.
const BACK_MS: i64 = 10_000;
/// Backward steps of one log's clock that are undone; after them the log is read as it is.
const BACKS_MAX: usize = 1_000;
/// Java's collector pauses all the time; this is long.
const PAUSE_MS: u64 = 1_000;
/// Time zones that a collector's lines may name; with several the zone counts as unknown.
const ZONES_MAX: usize = 8;
/// Complaints about inputs that are kept.
const COMPLAINTS_MAX: usize = 50;
/// Nested prefixes and envelopes around a line.
const DEPTH_MAX: usize = 8;
/// Shapes of unrecognised lines of one file; further ones are counted together.
const SHAPES_MAX: usize = 16;
/// Shapes of one file that are shown.
const SHAPES_TOLD_MAX: usize = 3;
/// Streams whose line continues in the next record.
const PARTIALS_MAX: usize = 256;
/// Bytes of a pretty-printed JSON entry; a longer one is read as single lines.
const OBJECT_BYTES_MAX: usize = 256 << 10;
/// The lines of one start of a process are this near to each other.
const BOOT_MS: i64 = 60_000;
/// Months by which the date must go back, in a log without years, for a new year to begin.
const MONTHS_BACK: i64 = 6;
/// Lines of one log that state the same cause; further ones are not kept.
const STATED_MAX: usize = 200;
/// Events of machines around the ensemble that are kept; the rest is counted.
const SITE_MAX: usize = 200_000;
/// Characters of one such event; the rest of the line is not kept.
const SITE_TEXT_MAX: usize = 300;
/// Notes by people that are kept.
const REMARKS_MAX: usize = 10_000;
/// Bytes of a line in which hosts of servers are looked for; what is beyond names none.
const HOSTS_LINE_BYTES: usize = 4_096;
/// Hosts of servers that are kept.
const HOSTS_MAX: usize = 1_000;
const DAY_MS: i64 = 86_400_000;

/// The state of the file that is being read.
#[derive(Default)]
struct Current {
    line: u32,
    /// Lines with a time that a layout took, or a record of ours.
    heads: u64,
    /// Lines that no layout fits, by shape: their number, the first one and its place.
    shapes: BTreeMap<String, (u64, String, u32)>,
    first: Option<String>,
    /// Streams of this file by their prefix.
    streams: BTreeMap<String, usize>,
    /// The newest one.
    stream: Option<(String, usize)>,
    table: Option<csv::Table>,
    /// An object of JSON that goes over several lines, and how many braces are open.
    object: Option<(String, i64)>,
    /// A record of `journalctl -o export`.
    export: Option<BTreeMap<String, String>>,
    /// Beginnings of lines by their stream.
    partial: BTreeMap<String, String>,
}

/// Takes in the lines of all inputs, one after the other. A file is announced with [`Reader::file`], and
/// [`Reader::finish`] gives the facts.
#[derive(Default)]
pub struct Reader {
    /// Names of the inputs, in the order in which they came.
    pub files: Vec<String>,
    /// Lines of all inputs.
    pub lines: u64,
    /// Entries with a time, whatever they say.
    pub heads: u64,
    /// Facts beyond `FACTS_MAX`.
    pub dropped: u64,
    /// The year of dates that name none, where no input has a full date.
    pub year: Option<i64>,
    /// The year of the first full date.
    seen_year: Option<i64>,
    year_assumed: bool,
    date_assumed: bool,
    kept: usize,
    streams: Vec<Stream>,
    current: Current,
    /// The stream whose newest entry waits for its cause.
    open: Option<usize>,
    /// The row of the layout that took the last line.
    layout: usize,
    /// The line in which each server first stated its own address.
    addresses: BTreeMap<u32, (String, Place)>,
    hosts: BTreeMap<String, u32>,
    complaints: Vec<Complaint>,
    /// As the collector's lines name them.
    zones: BTreeSet<String>,
    /// The patterns of a site's own programs.
    pub patterns: Patterns,
    /// Minutes that the ensemble's clocks are ahead of UTC, if somebody said it.
    pub zone_min: Option<i32>,
    site: Vec<SiteEvent>,
    remarks: Vec<(LogMillis, String, Place)>,
}

/// `esx2/vobd.log`, `esx2-vmkernel.log`: the machine's name.
fn host_of_file(file: &str) -> &str {
    let (folder, name) = file.rsplit_once(['/', '\\']).unwrap_or(("", file));
    let stem = name.split('.').next().unwrap_or(name);
    let bare = ["vobd", "vmkernel", "vmkwarning", "messages", "syslog", "kern", "events"].contains(&stem);
    if bare && !folder.is_empty() {
        return folder.rsplit(['/', '\\']).find(|f| !["var", "log", "run"].contains(f)).unwrap_or(folder);
    }
    ["-vobd", "-vmkernel", "_vobd", "_vmkernel"].iter().find_map(|s| stem.strip_suffix(s)).unwrap_or(stem)
}

impl Reader {
    /// Begins the next input: the lines that follow are its own.
    pub fn file(&mut self, name: &str) {
        self.end_of_file();
        self.files.push(name.to_string());
        self.open = None;
        self.current = Current::default();
    }

    fn end_of_file(&mut self) {
        if self.current.export.is_some() {
            self.export_line("");
        }
        let left: Vec<_> = std::mem::take(&mut self.current.partial).into_iter().collect();
        for (name, text) in left {
            self.text(&text, &name, None, 1);
        }
        let Some(name) = self.files.last().cloned() else { return };
        let current = std::mem::take(&mut self.current);
        if current.line == 0 {
            return self.complain(Complaint::Empty { file: name });
        }
        if current.heads == 0 {
            let first = current.first.unwrap_or_default();
            return self.complain(Complaint::NoLog { file: name, lines: current.line, first });
        }
        let mut shapes: Vec<_> = current.shapes.into_values().collect();
        shapes.sort_by_key(|s| s.2);
        shapes.truncate(SHAPES_TOLD_MAX);
        for (count, first, line) in shapes {
            self.complain(Complaint::UnknownShape { place: complaints::at_place(&name, line), count, first });
        }
    }

    /// Something about the inputs that people should know.
    pub fn complain(&mut self, what: Complaint) {
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(what);
        }
    }

    /// The line of the newest file was longer than what is looked at.
    pub fn was_cut(&mut self, length_bytes: u64) {
        let file = self.files.last().cloned().unwrap_or_default();
        let place = complaints::at_place(&file, self.current.line);
        self.complain(Complaint::LongLine { place, bytes: length_bytes });
    }

    /// The rest of the newest file is missing: what its server did from there on is not known.
    pub fn not_read(&mut self, file: &str, why: &str) {
        for stream in self.current.streams.values() {
            self.streams[*stream].broken = true;
        }
        self.complain(Complaint::NotReadPast { file: file.into(), line: self.current.line, why: why.into() });
    }

    /// Lines of the newest file so far.
    pub fn line_of_file(&self) -> u32 {
        self.current.line
    }

    /// The next line of the file. Bytes that are no UTF-8 are replaced; of a line that is too long the beginning counts.
    pub fn line(&mut self, bytes: &[u8]) {
        self.lines += 1;
        self.current.line = self.current.line.saturating_add(1);
        // Most lines of a log are lines of a stack.
        let current = &self.current;
        let alone = current.object.is_none() && current.table.is_none() && current.export.is_none();
        if alone && self.open.is_none() && current.first.is_some() && is_stack(bytes) {
            return;
        }
        let bytes = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
        // Nearly every line is UTF-8, which is seen faster than what to replace.
        let text = std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed);
        let text = text.trim_end_matches(['\r', '\n', '\0']);
        let text = if self.current.line == 1 { text.trim_start_matches('\u{feff}') } else { text };
        let text =
            if text.contains('\u{1b}') { Cow::Owned(prefixes::without_colours(text)) } else { Cow::Borrowed(text) };
        if self.current.first.is_none() && !text.trim().is_empty() {
            self.current.first = Some(text.chars().take(200).collect());
            self.current.table = csv::header(&text).map(csv::Table::new);
            if self.current.table.is_some() {
                return;
            }
        }
        if let Some(table) = &mut self.current.table {
            if let Some(record) = table.line(&text) {
                for line in record.text.split('\n') {
                    self.text(line, &record.name, record.stamp, 1);
                }
            }
            return;
        }
        if self.current.export.is_some() || text.starts_with("__CURSOR=") {
            return self.export_line(&text);
        }
        if self.current.object.is_some() || text.ends_with('{') || text.trim() == "[" {
            return self.object_line(&text);
        }
        self.text(&text, "", None, 0);
    }

    /// `KEY=VALUE` of `journalctl -o export`; an empty line ends the record.
    fn export_line(&mut self, text: &str) {
        let record = self.current.export.get_or_insert_with(BTreeMap::new);
        if let Some((key, value)) = text.split_once('=') {
            if ["MESSAGE", "_HOSTNAME", "__REALTIME_TIMESTAMP"].contains(&key) {
                record.insert(key.into(), value.into());
            }
            return;
        }
        if !text.is_empty() {
            return;
        }
        let record = self.current.export.take().unwrap_or_default();
        let stamp = record.get("__REALTIME_TIMESTAMP").and_then(|t| crate::stamp::stamp(t.as_bytes())).map(|s| s.0);
        if let Some(message) = record.get("MESSAGE") {
            self.text(message, record.get("_HOSTNAME").map_or("", String::as_str), stamp, 1);
        }
    }

    /// Pretty-printed JSON, alone or in an array.
    fn object_line(&mut self, text: &str) {
        let trimmed = text.trim();
        if self.current.object.is_none() && matches!(trimmed, "[" | "]") {
            return;
        }
        let (object, depth) = self.current.object.get_or_insert_with(|| (String::new(), 0));
        object.push_str(trimmed);
        object.push('\n');
        let mut quoted = false;
        let mut escaped = false;
        for b in trimmed.bytes() {
            match b {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b'{' if !quoted => *depth += 1,
                b'}' if !quoted => *depth -= 1,
                _ => {}
            }
        }
        if *depth > 0 && object.len() < OBJECT_BYTES_MAX {
            return;
        }
        let object = self.current.object.take().map(|(o, _)| o).unwrap_or_default();
        let whole = object.trim().trim_start_matches(['[', ',']).trim_end_matches([',', ']', '\n']);
        if json_value::parse(whole).is_ok() {
            self.text(whole, "", None, 0);
        } else {
            object.lines().for_each(|l| self.text(l, "", None, 1));
        }
    }

    /// A line, within `depth` envelopes or prefixes that named `name` and gave `outer` as its time.
    fn text(&mut self, text: &str, name: &str, outer: Option<Stamp>, depth: usize) {
        let (mut name, mut outer, mut rest, mut depth) = (Cow::Borrowed(name), outer, text, depth);
        let place = self.place();
        let mut partial = false;
        let mut timed = false;
        let mut line;
        loop {
            // Most lines of a log are lines of a stack.
            if is_stack(rest.as_bytes()) && self.current.partial.is_empty() {
                return self.continued(&name, rest);
            }
            if is_thrown(rest) && self.current.partial.is_empty() && self.patterns.is_empty() {
                self.continued(&name, rest);
                return self.hosts(rest);
            }
            line = Timed::new(rest);
            // The prefix of a container's runtime is no layout's.
            let envelope = prefixes::is_cri(line);
            if !rest.starts_with('{') && !envelope {
                let mut layout = self.layout;
                let found =
                    line.leading.and_then(|(s, behind)| Some((layouts::head_after(s, behind, &mut layout)?, Some(s))));
                let found = found.or_else(|| Some((layouts::head_after(outer?, rest, &mut layout)?, outer)));
                self.layout = layout;
                if let Some((head, stamp)) = found.filter(|_| !partial) {
                    return self.head(&name, place, head, stamp, outer);
                }
                if let Some(gc) = gc::line(rest) {
                    return self.collected(&name, place, gc);
                }
            } else if let Some(peeled) = (!envelope).then(|| self.json(rest, &name, outer, place, depth)).flatten() {
                let Some((inner, inner_name, inner_outer, inner_partial)) = peeled else { return };
                let name = joined(&name, &inner_name).into_owned();
                if inner_partial {
                    return self.begun(&name, &inner, inner_outer);
                }
                let whole = self.whole(&name, inner, inner_outer);
                return whole.split('\n').for_each(|line| self.text(line, &name, inner_outer, depth + 1));
            }
            let Some(p) = prefixes::peel_timed(line).filter(|_| depth < DEPTH_MAX) else { break };
            timed |= p.stamp.is_some();
            if name.is_empty() {
                name = Cow::Borrowed(p.name);
            } else if !p.name.is_empty() && *name != *p.name {
                name = Cow::Owned(format!("{name} {}", p.name));
            }
            outer = p.stamp.or(outer);
            rest = p.rest;
            depth += 1;
            if p.partial {
                partial = true;
            }
            if p.partial || !self.current.partial.is_empty() && p.stamp.is_some() {
                let whole = self.whole(&name, rest.to_string(), outer);
                if p.partial {
                    return self.begun(&name, &whole, outer);
                }
                if whole.len() != rest.len() {
                    return self.text(&whole, &name, outer, depth);
                }
            }
        }
        if self.site_line(&name, place, line, outer) {
            return;
        }
        if text.starts_with("# ") && self.remark(text, place) {
            return;
        }
        if let Some(at) = prefixes::scan(rest, &mut self.layout) {
            let name = joined(&name, stable(&rest[..at]).trim()).into_owned();
            if let Some((head, stamp)) =
                layouts::head(rest[at..].trim_end_matches(['"', ',']), &mut self.layout.clone())
            {
                return self.head(&name, place, head, Some(stamp), outer);
            }
        }
        self.continued(&name, rest);
        self.hosts(rest);
        let unknown = self.current.heads == 0 || timed && depth == 1 || line.leading.is_some();
        if unknown && !rest.trim().is_empty() {
            let shape = complaints::shape(rest);
            let full = self.current.shapes.len() >= SHAPES_MAX;
            let shape = if full && !self.current.shapes.contains_key(&shape) { "".into() } else { shape };
            let at = place.line;
            let timed = timed || line.leading.is_some();
            if timed {
                self.current.shapes.entry(shape).or_insert_with(|| (0, text.chars().take(200).collect(), at)).0 += 1;
            }
        }
    }

    /// A line of a machine around the ensemble.
    fn site_line(&mut self, name: &str, place: Place, line: Timed<'_>, outer: Option<Stamp>) -> bool {
        let Some(stamp) = outer.or(line.leading.map(|l| l.0)) else { return false };
        let text = line.leading.map_or(line.text, |l| l.1).trim_start_matches([':', ' ']);
        let Some((kind, object)) = site::recognise(text, &self.patterns) else { return false };
        let at = self.resolved(name, stamp);
        self.heads += 1;
        self.current.heads += 1;
        self.open = None;
        if self.site.len() >= SITE_MAX {
            self.dropped += 1;
            return true;
        }
        let file = self.files.last().map_or("", String::as_str);
        let host = if name.is_empty() { host_of_file(file) } else { name };
        let text = text.chars().take(SITE_TEXT_MAX).collect();
        self.site.push(SiteEvent {
            at,
            zone_min: stamp.zone_min,
            no_year: !stamp.has_year,
            host: host.into(),
            kind,
            object,
            text,
            place,
            aligned: false,
        });
        true
    }

    /// `# ` and words: somebody wrote it.
    fn remark(&mut self, text: &str, place: Place) -> bool {
        let Some(words) = text.strip_prefix("# ") else { return false };
        if self.remarks.len() >= REMARKS_MAX {
            return true;
        }
        let (at, words) = match layouts::leading_time(words) {
            Some((stamp, rest)) => {
                (Some(self.resolved("", stamp)), rest.trim_start_matches(['，', ',', ' ', ':', '：']))
            }
            None => {
                let last = self.remarks.last().filter(|r| r.2.file == place.file).map(|r| r.0).or(self.last_of(""));
                match last.and_then(|last| clock_of(words, last)) {
                    Some((at, rest)) => (Some(at), rest),
                    None => (last, words),
                }
            }
        };
        // Without any time it says nothing of when.
        if let Some(at) = at {
            self.remarks.push((at, words.trim().to_string(), place));
            self.current.heads += 1;
        }
        true
    }

    fn place(&self) -> Place {
        Place { file: self.files.len().saturating_sub(1) as u32, line: self.current.line }
    }

    /// A line of JSON: `None` if it is none that is known; `Some(None)` if it was an entry; else what an envelope holds.
    #[allow(clippy::type_complexity)]
    fn json(
        &mut self,
        text: &str,
        name: &str,
        outer: Option<Stamp>,
        place: Place,
        depth: usize,
    ) -> Option<Option<(String, String, Option<Stamp>, bool)>> {
        if depth >= DEPTH_MAX {
            return None;
        }
        let value = json_value::parse(text.trim_end_matches([',', ' '])).ok()?;
        if let Some((node, at, fact)) = own::record_of(&value) {
            self.seen(name, place, at, node, None);
            // Records of ours count from 1970 in UTC, whatever the zone of the logs beside them.
            if let Some(stream) = self.current.stream.as_ref().map(|s| s.1) {
                self.streams[stream].zone_min.get_or_insert(0);
            }
            self.keep(place, at, node, fact);
            return Some(None);
        }
        let parsed = json_lines::parse(&value)?;
        let stamp = parsed.stamp.or(outer);
        match parsed.kind {
            Kind::Line { text, partial } => Some(Some((text.into_owned(), parsed.name.into_owned(), stamp, partial))),
            Kind::Entry { thread, class, message, myid, thrown, idle } => {
                let stamp = stamp?;
                let class = class.rsplit('.').next().unwrap_or(&class);
                let mut lines = message.split('\n');
                let first = lines.next().unwrap_or_default().trim_end();
                let head = Head {
                    at: stamp.at,
                    myid,
                    thread: &thread,
                    class,
                    source_line: None,
                    message: first,
                    serious: !idle,
                };
                let name = joined(name, &parsed.name);
                self.head(&name, place, head, Some(stamp), None);
                // The exception's class and message are one line, as Java writes them.
                let thrown = thrown.join(": ");
                lines.chain(thrown.split('\n')).filter(|l| !l.is_empty()).for_each(|l| self.continued(&name, l));
                Some(None)
            }
        }
    }

    /// Keeps the beginning of a line that continues in the stream's next record.
    fn begun(&mut self, name: &str, text: &str, _outer: Option<Stamp>) {
        let full = self.current.partial.len() >= PARTIALS_MAX;
        if full && !self.current.partial.contains_key(name) {
            return;
        }
        let open = self.current.partial.entry(name.to_string()).or_default();
        let room = LINE_BYTES_MAX.saturating_sub(open.len());
        open.push_str(text.get(..room).unwrap_or(text));
    }

    /// The line that earlier records began, completed by `text`; only `text` if that is a line of its own.
    fn whole(&mut self, name: &str, text: String, outer: Option<Stamp>) -> String {
        let Some(begun) = self.current.partial.remove(name) else { return text };
        if layouts::head(&text, &mut self.layout.clone()).is_some() {
            self.text(&begun, name, outer, 1);
            return text;
        }
        begun + &text
    }

    fn hosts(&mut self, line: &str) {
        let names =
            line.contains("server.") || line.starts_with("Follower sid: ") || line.starts_with("Cannot open channel");
        if names && self.hosts.len() < HOSTS_MAX {
            let line = line.get(..line.len().min(HOSTS_LINE_BYTES)).unwrap_or(line);
            identity::hosts_in(line, &mut self.hosts);
        }
    }

    fn head(&mut self, name: &str, place: Place, head: Head<'_>, stamp: Option<Stamp>, outer: Option<Stamp>) {
        let at = stamp.map_or(head.at, |s| self.resolved(name, s));
        let head = Head { at, ..head };
        let id = identity::of_head(&head);
        let before = self.seen(name, place, at, id, stamp);
        if let Some(stream) = self.current.stream.as_ref().map(|s| s.1) {
            let stream = &mut self.streams[stream];
            if let Some(other) = identity::other(&head) {
                stream.others.insert(other);
            }
            if let (Some(zone), None) = (stamp.and_then(|s| s.zone_min), stream.zone_min) {
                stream.zone_min = Some(zone);
            }
            // A collector's clock beside the log's own tells the latter's zone.
            if let (Some(inner), Some(outer)) =
                (stamp.filter(|s| s.zone_min.is_none() && s.has_year), outer.filter(|o| o.has_year))
            {
                if let Some(zone) = outer.zone_min.filter(|_| stream.beside_min.is_none()) {
                    let minutes = (inner.at - (outer.at - i64::from(zone) * 60_000) + 450_000).div_euclid(900_000) * 15;
                    stream.beside_min = i32::try_from(minutes).ok().filter(|m| m.abs() <= 18 * 60);
                }
            }
            if let Some(statement) = versions::statement(&head) {
                *stream.statements.entry(statement).or_default() += 1;
            }
        }
        if let Some((id, address)) = id.and_then(|id| Some((id, identity::address_of(&head)?))) {
            if let Some(stream) = self.current.stream.as_ref().map(|s| s.1) {
                let known = &mut self.streams[stream].address;
                if known.is_none() {
                    *known = Some(address.to_string());
                }
            }
            self.address(id, address, place);
        }
        self.hosts(head.message);
        if head.class == "QuorumPeerConfig" && head.message.starts_with("Reading configuration") {
            if let Some(stream) = self.current.stream.as_ref().map(|s| s.1) {
                self.streams[stream].boot = Some((before, at));
            }
        }
        let mut fact = facts::fact(&head);
        if let Some(Fact::Starts { after, .. }) = &mut fact {
            let boot = self.current.stream.as_ref().and_then(|s| self.streams[s.1].boot.take());
            *after = boot.filter(|b| (0..BOOT_MS).contains(&(at - b.1))).map_or(before, |b| b.0);
        }
        if let Some(Fact::Vote(v)) = &fact {
            if let Some(stream) = self.current.stream.as_ref().map(|s| s.1) {
                self.streams[stream].voters.insert(v.from);
            }
        }
        // The reason of a leader that gives up may state a cause, too.
        if let Some(stated) =
            fact.as_ref().and_then(|f| if let Fact::GaveUpLead { reason } = f { causes::stated(reason) } else { None })
        {
            self.keep(place, at, id, Some(Fact::States(stated)));
        }
        self.keep(place, at, id, fact);
    }

    /// The time with the year, or the date, that the line left out.
    fn resolved(&mut self, name: &str, s: Stamp) -> LogMillis {
        if s.has_year && s.has_date {
            if self.seen_year.is_none() {
                self.seen_year = Some(time::date(s.at).0);
            }
            return match (s.zone_min, self.stream_zone(name)) {
                // A stream has one clock, also when summer time ends.
                (Some(zone), Some(first)) => s.at + i64::from(first - zone) * 60_000,
                _ => s.at,
            };
        }
        let last = self.last_of(name);
        if !s.has_date {
            self.date_assumed = true;
            let Some(last) = last else { return s.at };
            let day = last.div_euclid(DAY_MS) * DAY_MS;
            let at = day + s.at;
            return if at < last - DAY_MS / 2 { at + DAY_MS } else { at };
        }
        self.year_assumed = true;
        let (_, month, _) = time::date(s.at);
        let (mut year, before) = match last {
            Some(last) => {
                let (year, month, _) = time::date(last);
                (year, month)
            }
            None => (self.seen_year.or(self.year).unwrap_or(LEAP_YEAR), month),
        };
        if before - month >= MONTHS_BACK {
            year += 1;
        } else if month - before >= MONTHS_BACK {
            year -= 1;
        }
        time::in_year(s.at, year)
    }

    fn stream_of(&self, name: &str) -> Option<usize> {
        match &self.current.stream {
            Some((current, at)) if current == name => Some(*at),
            _ => self.current.streams.get(name).copied(),
        }
    }
    fn stream_zone(&self, name: &str) -> Option<i32> {
        self.stream_of(name).and_then(|s| self.streams[s].zone_min)
    }
    fn last_of(&self, name: &str) -> Option<LogMillis> {
        self.stream_of(name).map(|s| self.streams[s].end.0)
    }

    /// The Java collector's log, in the server's own or beside it.
    fn collected(&mut self, name: &str, place: Place, gc: gc::GcLine) {
        self.seen(name, place, gc.at, None, None);
        if self.zones.len() < ZONES_MAX {
            self.zones.insert(gc.zone);
        }
        let pause = (gc.pause_ms >= PAUSE_MS).then_some(Fact::PauseMs(gc.pause_ms));
        self.keep(place, gc.at, None, pause);
    }

    /// A line with a time; the time of the one before in its stream.
    fn seen(
        &mut self,
        name: &str,
        place: Place,
        at: LogMillis,
        id: Option<u32>,
        stamp: Option<Stamp>,
    ) -> Option<LogMillis> {
        self.heads += 1;
        self.current.heads += 1;
        self.open = None;
        let known = self.stream_of(name);
        let index = known.unwrap_or_else(|| {
            self.streams.push(Stream { file: place.file, prefix: name.to_string(), first: at, ..Default::default() });
            self.current.streams.insert(name.to_string(), self.streams.len() - 1);
            self.streams.len() - 1
        });
        if self.current.stream.as_ref().is_none_or(|s| s.1 != index) {
            self.current.stream = Some((name.to_string(), index));
        }
        let stream = &mut self.streams[index];
        let before = stream.end.0;
        stream.end = (at, place);
        stream.first = stream.first.min(at);
        stream.step_ms = stream.step_ms.max(stamp.map_or(1, |s| s.step_ms));
        if let Some(id) = id {
            *stream.ids.entry(id).or_default() += 1;
        }
        known?;
        if at - before >= HOLE_MS && stream.holes.len() < HOLES_MAX {
            stream.holes.push((before, at));
        } else if before - at >= BACK_MS && stream.backs.len() < BACKS_MAX {
            stream.backs.push((at, before, place));
        }
        Some(before)
    }

    /// Two servers with one id are told apart by nobody.
    fn address(&mut self, id: u32, address: &str, place: Place) {
        match self.addresses.get(&id) {
            None => drop(self.addresses.insert(id, (address.to_string(), place))),
            Some((known, at)) if known != address && at.file != place.file => {
                let name = |p: &Place| complaints::at_place(&self.files[p.file as usize], p.line);
                let text = Complaint::SecondAddress {
                    place: name(&place),
                    id,
                    address: address.to_string(),
                    known: known.clone(),
                    known_place: name(at),
                };
                // Once a file.
                let again = |c: &Complaint| matches!(c, Complaint::SecondAddress { id: i, address: a, .. } if *i == id && *a == address);
                if !self.complaints.iter().any(again) {
                    self.complain(text);
                }
            }
            Some(_) => {}
        }
    }

    fn keep(&mut self, place: Place, at: LogMillis, id: Option<u32>, fact: Option<Fact>) {
        let (Some(fact), Some(stream)) = (fact, self.current.stream.as_ref().map(|s| s.1)) else { return };
        if matches!(fact, Fact::Expires { .. }) && self.expired_again(stream, at, id) {
            return;
        }
        if self.kept >= FACTS_MAX {
            self.dropped += 1;
            return;
        }
        self.kept += 1;
        if fact.wants_cause() {
            self.open = Some(stream);
        }
        let stream = &mut self.streams[stream];
        if matches!(fact, Fact::Expires { .. }) {
            stream.expiry = Some(stream.entries.len());
        }
        stream.entries.push((id, Entry { at, node: 0, place, fact }));
    }

    /// Counts one more session in the stream's newest entry of the kind, if that is of the same server and begins at most
    /// [`facts::EXPIRES_MS`] before.
    fn expired_again(&mut self, stream: usize, at: LogMillis, id: Option<u32>) -> bool {
        let stream = &mut self.streams[stream];
        let newest = stream.expiry.and_then(|i| stream.entries.get_mut(i));
        let Some((of, Entry { at: first, fact: Fact::Expires { count, span_ms }, .. })) = newest else { return false };
        if *of != id || !(0..=facts::EXPIRES_MS).contains(&(at - *first)) {
            return false;
        }
        *count = count.saturating_add(1);
        *span_ms = (*span_ms).max(u16::try_from(at - *first).unwrap_or(u16::MAX));
        true
    }

    /// The first exception behind a message is its cause.
    fn continued(&mut self, name: &str, line: &str) {
        if causes::may_state(line) {
            self.stated_behind(name, line);
        }
        let Some(open) = self.open else { return };
        // Lines of another container may come between.
        if !name.is_empty() && self.streams[open].prefix != name && self.current.streams.contains_key(name) {
            return;
        }
        if let Some((_, entry)) = self.streams[open].entries.last_mut() {
            if let Fact::GaveUpLead { reason } = &mut entry.fact {
                // Before 3.6 the reason stands in an exception that nobody threw.
                if let Some((_, why)) = line.split_once("shutdown Leader! reason: ") {
                    *reason = why.trim().to_string();
                    self.open = None;
                }
                return;
            }
        }
        let Some(cause) = facts::cause(line) else { return };
        if let Some((_, entry)) = self.streams[open].entries.last_mut() {
            entry.fact.set_cause(cause);
        }
        self.open = None;
    }

    /// An exception that states a cause, at the time of the entry before it.
    fn stated_behind(&mut self, name: &str, line: &str) {
        let stream = self.stream_of(name).or(self.current.stream.as_ref().map(|s| s.1));
        let (Some(stream), Some(stated)) = (stream, causes::stated(line)) else { return };
        let place = self.place();
        let (at, last) = self.streams[stream].end;
        let id = self.streams[stream].entries.last().filter(|(_, e)| e.place == last).and_then(|(id, _)| *id);
        let count = self.streams[stream].stated.entry(stated).or_default();
        *count += 1;
        if *count > STATED_MAX || self.kept >= FACTS_MAX {
            return;
        }
        self.kept += 1;
        // In front of the entry that waits for its cause.
        let entries = &mut self.streams[stream].entries;
        let before = entries.len() - usize::from(self.open == Some(stream) && !entries.is_empty());
        entries.insert(before, (id, Entry { at, node: 0, place, fact: Fact::States(stated) }));
    }

    /// Ends the last input and decides whose logs they are: the facts in the order of their times, and the names of the
    /// inputs.
    pub fn finish(mut self) -> (Facts, Vec<String>) {
        if self.files.is_empty() && self.lines > 0 {
            self.files.push("-".into());
        }
        self.end_of_file();
        if self.year_assumed {
            let year = self.seen_year.or(self.year).unwrap_or(LEAP_YEAR);
            // Events read before the first full date got the current year.
            for e in self.site.iter_mut().filter(|e| e.no_year) {
                e.at = time::in_year(e.at, year);
            }
            self.complain(Complaint::YearAssumed { year });
        }
        if self.date_assumed {
            self.complain(Complaint::DateAssumed);
        }
        if self.dropped > 0 {
            let count = self.dropped;
            self.complain(Complaint::Dropped { count, max: FACTS_MAX });
        }
        let addresses = self.addresses.into_iter().map(|(id, (address, _))| (id, address)).collect();
        let hosts = self.hosts.iter().filter(|(_, id)| **id != u32::MAX).map(|(h, id)| (h.clone(), *id)).collect();
        let (site, remarks, zone_min) = (self.site, self.remarks, self.zone_min);
        let facts = Facts {
            addresses,
            hosts,
            site,
            remarks,
            zone: zone_min,
            complaints: self.complaints,
            zones: self.zones,
            ..Default::default()
        };
        (facts.sorted(self.streams, &self.files, &self.hosts), self.files)
    }
}

/// `05:10 words`, `05:10:15 words`: on the day of the lines around it.
fn clock_of(words: &str, day_of: LogMillis) -> Option<(LogMillis, &str)> {
    let end = words.find(|c: char| !c.is_ascii_digit() && c != ':').unwrap_or(words.len());
    let at = time::moment(&words[..end], day_of)?;
    Some((at, words[end..].trim_start_matches(['，', ',', ' ', '：'])))
}

/// A line of a stack below its first.
fn is_stack(line: &[u8]) -> bool {
    line.starts_with(b"\tat ") || line.starts_with(b"\t... ")
}

/// The first line of a stack: an exception's class, alone or with a message. No prefix looks like it.
fn is_thrown(line: &str) -> bool {
    let line = line.strip_prefix("Caused by: ").unwrap_or(line);
    if !line.as_bytes().first().is_some_and(u8::is_ascii_alphabetic) {
        return false;
    }
    let end = line.bytes().position(|b| !(b.is_ascii_alphanumeric() || b"._$".contains(&b))).unwrap_or(line.len());
    let (class, rest) = line.split_at(end);
    let stem = class.strip_suffix("Exception").or(class.strip_suffix("Error"));
    stem.is_some_and(|s| !s.is_empty()) && (rest.is_empty() || rest.starts_with(": "))
}

/// A name within another one, such as a container's within a pod's.
fn joined<'a>(outer: &'a str, inner: &'a str) -> Cow<'a, str> {
    match (outer, inner) {
        (one, "") | ("", one) => Cow::Borrowed(one),
        (a, b) if a == b => Cow::Borrowed(a),
        (a, b) => Cow::Owned(format!("{a} {b}")),
    }
}

/// The part of an unknown prefix that is the same in each line: its words without digits' variety.
fn stable(prefix: &str) -> String {
    let word = |w: &&str| {
        let letters = w.chars().any(char::is_alphabetic);
        letters && w.chars().filter(char::is_ascii_digit).count() < 6 && !w.contains(':')
    };
    prefix.split([' ', '\t', ',', '"', '|']).filter(|w| !w.is_empty()).filter(word).collect::<Vec<_>>().join(" ")
}
