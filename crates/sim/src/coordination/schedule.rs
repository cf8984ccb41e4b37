//! A night that was written down: the lab's schedules (`tests/lab/night/schedules`), played in the simulated world.
//!
//! Lines are `OFFSET VERB ARGS...`, with offsets in seconds, or `START+STEP*COUNT`. Servers are named by number in
//! the order of the file's own (71 is the one that `require-leader` names, or the first), or as @L, @F1, @F2 as of
//! offset 0; @M, @O1, @O2, which concern metad, stand for two followers and the leader.

use super::world::{Event, World};
use std::collections::BTreeMap;

/// Before offset 0 everybody finds a leader and clients begin.
const SETTLE_MS: u64 = 5_000;
/// A schedule waits this long for a leader, at most; without one it fails.
const LEADER_WITHIN_MS: u64 = 20_000;
/// A pause of service counts from here on, as in the lab's probe.
pub(super) const PAUSE_MS: u64 = 300;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Verb {
    Cut(String, String),
    Uncut(String, String),
    Isolate(String),
    IsolateOut(String),
    IsolateIn(String),
    Drop { server: String, percent: u64, towards: Option<String> },
    Heal,
    Pause(String),
    Resume(String),
    Kill(String),
    Stop(String),
    Start(String),
}

/// A schedule of faults, as read from a file of the lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// The name that the file gives it, or an empty string.
    pub name: String,
    duration_ms: u64,
    leader: Option<String>,
    /// In the order of their times.
    events: Vec<(u64, Verb)>,
}

/// A line of a schedule that is not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleError {
    line: usize,
    text: String,
}

impl std::fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {} of the schedule cannot be played: {}", self.line, self.text)
    }
}

impl std::error::Error for ScheduleError {}

fn ms(seconds: &str) -> Option<u64> {
    seconds.parse::<f64>().ok().filter(|s| (0.0..1e6).contains(s)).map(|s| (s * 1_000.0) as u64)
}

fn offsets(word: &str) -> Option<Vec<u64>> {
    let Some((start, repeat)) = word.split_once('+') else { return Some(vec![ms(word)?]) };
    let (step, count) = repeat.split_once('*')?;
    let (start, step) = (ms(start)?, ms(step)?);
    Some((0..count.parse::<u64>().ok().filter(|n| *n < 1_000)?).map(|i| start + step * i).collect())
}

fn verb(words: &[&str]) -> Option<Option<Verb>> {
    let name = |i: usize| words.get(i).map(|w| w.to_string());
    Some(Some(match *words.first()? {
        "cut" => Verb::Cut(name(1)?, name(2)?),
        "uncut" => Verb::Uncut(name(1)?, name(2)?),
        // Clients' links are not simulated.
        "isolate" | "isolate-peers" => Verb::Isolate(name(1)?),
        "isolate-out" => Verb::IsolateOut(name(1)?),
        "isolate-in" => Verb::IsolateIn(name(1)?),
        "drop-percent" => {
            let percent = words.get(2)?.parse().ok().filter(|p| *p <= 100)?;
            Verb::Drop { server: name(1)?, percent, towards: name(3) }
        }
        "heal" => Verb::Heal,
        "pause" => Verb::Pause(name(1)?),
        "resume" => Verb::Resume(name(1)?),
        "kill" => Verb::Kill(name(1)?),
        "stop" => Verb::Stop(name(1)?),
        "start" => Verb::Start(name(1)?),
        "mark" => return Some(None),
        _ => return None,
    }))
}

impl Schedule {
    /// Reads a schedule. Lines that matter to the lab alone (`settle`, `origin`, `nodes`, `mark`) are skipped.
    ///
    /// # Errors
    /// A line has an unknown verb, lacks an argument, or has a time or a number that is out of bounds.
    pub fn parse(text: &str) -> Result<Schedule, ScheduleError> {
        let mut s = Schedule { name: String::new(), duration_ms: 0, leader: None, events: Vec::new() };
        for (i, whole) in text.lines().enumerate() {
            let wrong = || ScheduleError { line: i + 1, text: whole.to_string() };
            let words: Vec<&str> = whole.split('#').next().unwrap_or_default().split_whitespace().collect();
            match words[..] {
                [] | ["settle" | "origin" | "nodes", ..] => {}
                ["name", name] => s.name = name.to_string(),
                ["duration", seconds] => s.duration_ms = ms(seconds).ok_or_else(wrong)?,
                ["require-leader", leader] => s.leader = Some(leader.to_string()),
                [at, ..] => {
                    let offsets = offsets(at).ok_or_else(wrong)?;
                    let what = verb(&words[1..]).ok_or_else(wrong)?;
                    s.events.extend(what.iter().flat_map(|v| offsets.iter().map(|at| (*at, v.clone()))));
                }
            }
        }
        s.events.sort_by_key(|e| e.0);
        Ok(s)
    }

    /// Which server each name means, when that one leads.
    fn names(&self, leader: usize, servers: usize) -> BTreeMap<String, usize> {
        let others: Vec<usize> = (0..servers).filter(|x| *x != leader).collect();
        let mut names = BTreeMap::from([("@L".to_string(), leader), ("@O2".to_string(), leader)]);
        for (i, x) in others.iter().enumerate() {
            names.insert(format!("@F{}", i + 1), *x);
            names.insert(["@M", "@O1", "@O3", "@O4"][i.min(3)].to_string(), *x);
        }
        let leading = self.leader.as_ref().and_then(|l| l.parse::<usize>().ok()).unwrap_or(71);
        names.insert(leading.to_string(), leader);
        let numbers = (71..71 + servers).filter(|n| *n != leading);
        names.extend(numbers.zip(others).map(|(n, x)| (n.to_string(), x)));
        names
    }

    /// At the latest.
    pub(super) fn ends_at(&self) -> u64 {
        SETTLE_MS + LEADER_WITHIN_MS + self.duration_ms
    }
}

/// The position in a schedule.
#[derive(Default)]
pub(super) struct Play {
    /// Empty until it begins.
    pub(super) names: BTreeMap<String, usize>,
    began: u64,
    next: usize,
}

impl World {
    pub(super) fn begin_schedule(&mut self) {
        self.at(SETTLE_MS, Event::Play);
    }

    pub(super) fn play(&mut self) {
        let schedule = self.schedule().expect("there is one, or nobody would play it").clone();
        if self.play.names.is_empty() {
            let Some(leader) = self.leader().filter(|_| self.somebody_serves()) else {
                if self.now > SETTLE_MS + LEADER_WITHIN_MS {
                    return self.violate("nobody leads before the schedule begins".into());
                }
                return self.at(self.now + 100, Event::Play);
            };
            self.play = Play { names: schedule.names(leader, self.nodes.len()), began: self.now, next: 0 };
            self.faults_end = self.now + schedule.duration_ms;
        }
        while let Some((at, verb)) = schedule.events.get(self.play.next) {
            let at = self.play.began + at;
            if at > self.now {
                return self.at(at, Event::Play);
            }
            self.play.next += 1;
            self.trace(|| format!("{verb:?}"));
            self.do_verb(verb, &schedule);
        }
        if self.now < self.faults_end {
            self.at(self.faults_end, Event::Play);
        } else {
            self.do_verb(&Verb::Heal, &schedule);
            (0..self.nodes.len()).for_each(|x| self.restart(x));
        }
    }

    fn do_verb(&mut self, verb: &Verb, schedule: &Schedule) {
        let known = |name: &String| self.play.names.get(name).copied();
        let wanted: Vec<&String> = match verb {
            Verb::Cut(a, b) | Verb::Uncut(a, b) => vec![a, b],
            Verb::Drop { server, towards, .. } => std::iter::once(server).chain(towards).collect(),
            Verb::Heal => vec![],
            Verb::Isolate(a) | Verb::IsolateOut(a) | Verb::IsolateIn(a) => vec![a],
            Verb::Pause(a) | Verb::Resume(a) | Verb::Kill(a) | Verb::Stop(a) | Verb::Start(a) => vec![a],
        };
        let Some(x) = wanted.into_iter().map(known).collect::<Option<Vec<usize>>>() else {
            return self.violate(format!("the schedule names a server that is not there: {verb:?}"));
        };
        let others = |a: usize| (0..self.nodes.len()).filter(move |o| *o != a).collect::<Vec<_>>();
        match verb {
            Verb::Cut(..) => self.set_cut(&[(x[0], x[1]), (x[1], x[0])], 1),
            Verb::Uncut(..) => self.set_cut(&[(x[0], x[1]), (x[1], x[0])], 0),
            Verb::Isolate(_) => {
                let both: Vec<_> = others(x[0]).iter().flat_map(|o| [(x[0], *o), (*o, x[0])]).collect();
                self.set_cut(&both, 1);
            }
            Verb::IsolateOut(_) => {
                let out: Vec<_> = others(x[0]).iter().map(|o| (x[0], *o)).collect();
                self.set_cut(&out, 1);
            }
            Verb::IsolateIn(_) => {
                let into: Vec<_> = others(x[0]).iter().map(|o| (*o, x[0])).collect();
                self.set_cut(&into, 1);
            }
            Verb::Drop { percent, towards: None, .. } => self.loss[x[0]] = *percent,
            Verb::Drop { percent, .. } => self.loss_towards[x[0]][x[1]] = *percent,
            Verb::Heal => {
                let n = self.nodes.len();
                let all: Vec<_> = (0..n).flat_map(|a| (0..n).map(move |b| (a, b))).collect();
                self.set_cut(&all, 0);
                self.loss.fill(0);
                self.loss_towards.iter_mut().for_each(|row| row.fill(0));
            }
            Verb::Pause(name) => {
                let later = &schedule.events[self.play.next..];
                let resume = later.iter().find(|(_, v)| *v == Verb::Resume(name.clone()));
                let until = resume.map_or(self.faults_end, |(at, _)| self.play.began + at);
                self.freeze(x[0], until);
            }
            // The pause knows its end.
            Verb::Resume(_) => {}
            Verb::Kill(_) => self.crash(x[0]),
            Verb::Stop(_) => self.stop_as_planned(x[0]),
            Verb::Start(_) => self.restart(x[0]),
        }
    }

    fn set_cut(&mut self, links: &[(usize, usize)], to: u32) {
        for (a, b) in links {
            let was = std::mem::replace(&mut self.cut[*a][*b], to);
            if was > 0 && to == 0 {
                self.release_held(*a, *b);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_read() {
        let text = "# a comment\nname flap\nrequire-leader 72\nduration 60\n5+5*3  isolate-peers @L\n\
                    7.5 drop-percent 71 50 73 # half\n1 mark begins\n20 heal\n";
        let s = Schedule::parse(text).unwrap();
        assert_eq!((s.name.as_str(), s.duration_ms, s.events.len()), ("flap", 60_000, 5));
        let times: Vec<u64> = s.events.iter().map(|e| e.0).collect();
        assert_eq!(times, [5_000, 7_500, 10_000, 15_000, 20_000]);
        let names = s.names(2, 3);
        assert_eq!((names["72"], names["71"], names["73"], names["@F1"]), (2, 0, 1, 0));
        let wrong = Schedule::parse("name x\n5 explode 71\n").unwrap_err();
        assert_eq!(wrong.to_string(), "line 2 of the schedule cannot be played: 5 explode 71");
        assert!(Schedule::parse("5+5 heal\n").is_err() && Schedule::parse("5 cut 71\n").is_err());
    }
}
