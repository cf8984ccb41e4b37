//! The metads of a cluster and the ensemble that keeps their journal, driven by hand.
//!
//! | command | meaning |
//! |---|---|
//! | `metads 3`, `start 1 2 3` | the metads; a process of each |
//! | `run`, `run 1500` | writes to the ensemble arrive, time passes, until the time is over |
//! | `make 1 disk` | a gateway hands metad 1 the command to make a file of this name |
//! | `deliver 1`, `deliver 1 2` | the writes of metad 1 reach the ensemble and are answered, or the first 2 |
//! | `freeze 1`, `thaw 1` | the process is paused; answers to it wait |
//! | `journal`, `status` | the entries of the journal; what each metad knows |
//! | `quiet` and a command | the same, and the answer is left out |
//!
//! A metad asks coordination for a lot, by reads. They are answered at once and left out, and so are pings between metads; the writes
//! that decide something are the two under the fence: the one that takes the epoch, and the one that appends an entry.

use super::script::{number, Machine};
use crate::nodes::ensemble::Ensemble;
use prost::Message;
use std::collections::{BTreeSet, VecDeque};
use trivet_storage::messages::*;
use trivet_storage::metadata::leadership::{
    log_path, Answer, Ask, Context, Effect, Input, Metad, Settings, APPLIED, ELECTION, EPOCH, LOG,
};
use trivet_storage::metadata::{MemoryKv, State};

/// Answers and timers of one command, beyond which the metads are taken to run in circles.
const STEPS_MAX: usize = 50_000;

struct Node {
    core: Option<Metad>,
    state: State<MemoryKv>,
    session: i64,
    frozen: bool,
    /// The znode whose creation it waits for.
    watch: Option<String>,
    /// Inputs that came while the process was paused, and those of the step under way.
    inbox: VecDeque<Input>,
    /// Writes under the fence that have not reached the ensemble.
    writes: VecDeque<(u64, Ask)>,
}

/// The machine of the transcripts in `crates/sim/transcripts/metad`.
pub struct Metads {
    now: u64,
    nodes: Vec<Node>,
    ensemble: Ensemble,
    commands: u64,
    said: Vec<String>,
}

impl Default for Metads {
    fn default() -> Self {
        Metads { now: 1_000, nodes: Vec::new(), ensemble: Ensemble::new(1), commands: 0, said: Vec::new() }
    }
}

impl Machine for Metads {
    fn command(&mut self, words: &[&str]) -> Result<Vec<String>, String> {
        match words {
            ["quiet", rest @ ..] => return self.command(rest).map(|_| Vec::new()),
            ["metads", n] => self.make(number(n)?),
            ["start", nodes @ ..] => {
                for node in nodes {
                    let node = self.node(node)?;
                    self.start(node);
                }
            }
            ["run"] => self.run(0)?,
            ["run", ms] => self.run(number(ms)?)?,
            ["make", node, name] => self.make_file(node, name)?,
            ["deliver", node] => self.deliver(node, usize::MAX)?,
            ["deliver", node, n] => self.deliver(node, number(n)?)?,
            ["freeze", node] => {
                let node = self.node(node)?;
                self.nodes[node].frozen = true;
            }
            ["thaw", node] => {
                let node = self.node(node)?;
                self.nodes[node].frozen = false;
                self.work()?;
            }
            ["journal"] => self.show_journal(),
            ["status"] => self.show_status(),
            _ => return Err("no such command".into()),
        }
        Ok(std::mem::take(&mut self.said))
    }
}

fn command_text(c: &Command) -> String {
    match &c.op {
        Some(CommandOp::Make(m)) => format!("make {}", String::from_utf8_lossy(&m.at.name)),
        Some(CommandOp::CreateDatastore(d)) => format!("create datastore {}", d.name),
        other => format!("{other:?}"),
    }
}

fn entry_text(bytes: &[u8]) -> String {
    let entry = Entry::decode(bytes).expect("a metad wrote it");
    entry.commands.iter().map(command_text).collect::<Vec<_>>().join(", ")
}

fn ask_text(ask: &Ask) -> String {
    match ask {
        Ask::SetEpoch { version, data } => {
            format!("set {EPOCH} to {:?}, if its version is {version}", String::from_utf8_lossy(data))
        }
        Ask::CreateFenced { version, path, data } => {
            let number = path.rsplit('/').next().unwrap_or_default().trim_start_matches('0');
            format!("append entry {number} ({}), if the version of {EPOCH} is {version}", entry_text(data))
        }
        other => format!("{other:?}"),
    }
}

fn answer_text(answer: &Answer) -> String {
    match answer {
        Answer::Data { version, .. } => format!("done, version {version}"),
        Answer::Done | Answer::Created(_) => "done".into(),
        Answer::BadVersion => "refused: the version does not match".into(),
        Answer::NodeExists => "refused: that entry exists".into(),
        other => format!("{other:?}"),
    }
}

impl Metads {
    fn make(&mut self, count: usize) {
        for path in ["/metad", ELECTION, LOG, APPLIED] {
            self.ensemble.create(path, Vec::new());
        }
        self.ensemble.create(EPOCH, b"0".to_vec());
        let datastore = CommandOp::CreateDatastore(Datastore { name: "ds".into(), copies: 2, ..Default::default() });
        let commands = vec![Command { op: Some(datastore), ..Default::default() }];
        let first = Entry { version: JOURNAL_VERSION, time_ns: 1, commands, cluster: "transcript".into() };
        self.ensemble.create(&log_path(1), first.encode_to_vec());
        for _ in 0..count {
            self.nodes.push(Node {
                core: None,
                state: State::with_extents(MemoryKv::default(), 1 << 20),
                session: 0,
                frozen: false,
                watch: None,
                inbox: VecDeque::new(),
                writes: VecDeque::new(),
            });
        }
    }

    fn node(&self, word: &str) -> Result<usize, String> {
        let node = number::<usize>(word)?.checked_sub(1).filter(|n| *n < self.nodes.len());
        node.ok_or_else(|| format!("there is no metad {word}"))
    }

    fn start(&mut self, node: usize) {
        let id = NodeId(node as u32 + 1);
        let peers: BTreeSet<NodeId> = (1..=self.nodes.len() as u32).map(NodeId).filter(|n| *n != id).collect();
        let settings = Settings { node: id, peers, cluster: "transcript".into(), folder: "/data/metad".into() };
        let session = self.ensemble.new_session(self.now);
        let n = &mut self.nodes[node];
        n.session = session;
        n.core = Some(Metad::new(settings, n.state.applied(), self.now));
        n.inbox.push_back(Input::Timer);
    }

    fn say(&mut self, line: impl Into<String>) {
        self.said.push(line.into());
    }

    /// Everything but fenced writes and time: answers, pings, watches.
    fn work(&mut self) -> Result<(), String> {
        for _ in 0..STEPS_MAX {
            let due = |n: &Node| n.core.is_some() && !n.frozen && !n.inbox.is_empty();
            let Some(node) = self.nodes.iter().position(due) else { return Ok(()) };
            let input = self.nodes[node].inbox.pop_front().expect("looked");
            self.handle(node, input);
        }
        Err("the metads ask without end".into())
    }

    fn handle(&mut self, node: usize, input: Input) {
        let (now, n) = (self.now, &mut self.nodes[node]);
        let context = Context { wall_ns: now * 1_000_000, session: n.session, version_to_write: JOURNAL_VERSION };
        let mut effects = Vec::new();
        n.core.as_mut().expect("the caller looked").handle(now, context, input, &mut effects);
        effects.into_iter().for_each(|effect| self.carry_out(node, effect));
    }

    fn carry_out(&mut self, node: usize, effect: Effect) {
        let id = node + 1;
        let others: Vec<usize> = (0..self.nodes.len()).filter(|n| *n != node).collect();
        match effect {
            Effect::Ask { call, ask: ask @ (Ask::SetEpoch { .. } | Ask::CreateFenced { .. }) } => {
                self.say(format!("  {id} -> ensemble: {}", ask_text(&ask)));
                self.nodes[node].writes.push_back((call, ask));
            }
            Effect::Ask { call, ask } => {
                let answer = self.answer(node, &ask);
                self.nodes[node].inbox.push_back(Input::Coordination { call, answer });
            }
            Effect::Ping(ping) => {
                // A datagram to a paused process is too old when it runs again.
                let hears = |n: &&usize| self.nodes[**n].core.is_some() && !self.nodes[**n].frozen;
                let to: Vec<usize> = others.iter().filter(hears).copied().collect();
                to.into_iter().for_each(|n| self.nodes[n].inbox.push_back(Input::Ping(ping.clone())));
            }
            Effect::AskStatus { round } => {
                for other in others {
                    let there = &self.nodes[other];
                    let status = there.core.as_ref().filter(|_| !there.frozen).map(|c| c.status(self.now));
                    self.nodes[node].inbox.push_back(Input::Status { round, node: NodeId(other as u32 + 1), status });
                }
            }
            Effect::Fetch { call, .. } => self.nodes[node].inbox.push_back(Input::Journal { call, journal: None }),
            Effect::TakeState { .. } => self.nodes[node].inbox.push_back(Input::StateTaken { applied: None }),
            Effect::Presume => self.nodes[node].inbox.push_back(Input::Presumed),
            Effect::Apply { number, entry, tokens } => {
                let text = entry_text(&entry.encode_to_vec());
                self.nodes[node].state.apply(number, &entry);
                self.say(format!("  {id} applies entry {number} ({text})"));
                tokens
                    .into_iter()
                    .for_each(|token| self.say(format!("  {id} to the gateway: command {token} is done")));
            }
            Effect::Refuse { token, .. } => {
                self.say(format!("  {id} to the gateway: command {token} cannot be written"))
            }
            Effect::Unknown { token } => {
                self.say(format!("  {id} to the gateway: the outcome of command {token} is unknown, ask the LEADER"));
            }
            Effect::Confirmed { token, leads } => self.say(format!("  {id} confirms {token}: leads {leads}")),
            Effect::Leads { epoch, why } => self.say(format!("  {id} is LEADER of epoch {epoch}: {why}")),
            Effect::Deposed { epoch, reason } => self.say(format!("  {id} is deposed, epoch {epoch}: {reason}")),
            Effect::Overtaken { epoch, reason } => self.say(format!("  {id} does not lead epoch {epoch}: {reason}")),
            Effect::Trouble(text) | Effect::Waits(text) if !text.is_empty() => {
                self.say(format!("  {id} does not serve: {text}"))
            }
            Effect::Trouble(_) | Effect::Waits(_) | Effect::NobodyHasTheJournal => {}
        }
    }

    /// The ensemble answers; a server of it shows what is committed.
    fn answer(&mut self, node: usize, ask: &Ask) -> Answer {
        self.ensemble.advance(0, usize::MAX);
        match ask {
            Ask::Get { .. } | Ask::Children { .. } => self.ensemble.read(0, ask),
            Ask::Watch { path } => {
                let there = self.ensemble.exists(0, path);
                self.nodes[node].watch = Some(path.clone()).filter(|_| !there);
                self.ensemble.read(0, ask)
            }
            write => self.write(node, write),
        }
    }

    fn write(&mut self, node: usize, ask: &Ask) -> Answer {
        let session = self.nodes[node].session;
        let answer = self.ensemble.write(session, ask);
        self.ensemble.advance(0, usize::MAX);
        for n in &mut self.nodes {
            if n.watch.as_ref().is_some_and(|path| self.ensemble.exists(0, path)) {
                n.watch = None;
                n.inbox.push_back(Input::Changed);
            }
        }
        answer
    }

    fn deliver(&mut self, node: &str, count: usize) -> Result<(), String> {
        let at = self.node(node)?;
        if self.nodes[at].writes.is_empty() {
            return Err("no write of it is under way".into());
        }
        for _ in 0..count.min(self.nodes[at].writes.len()) {
            self.deliver_one(at);
            self.work()?;
        }
        Ok(())
    }

    fn deliver_one(&mut self, node: usize) {
        let Some((call, ask)) = self.nodes[node].writes.pop_front() else { return };
        let answer = self.write(node, &ask);
        self.say(format!("{} -> ensemble: {}: {}", node + 1, ask_text(&ask), answer_text(&answer)));
        self.nodes[node].inbox.push_back(Input::Coordination { call, answer });
    }

    fn run(&mut self, ms: u64) -> Result<(), String> {
        let until = self.now + ms;
        for _ in 0..STEPS_MAX {
            self.work()?;
            if let Some(node) = self.nodes.iter().position(|n| !n.writes.is_empty() && !n.frozen) {
                self.deliver_one(node);
                continue;
            }
            let live = self.nodes.iter().enumerate().filter(|(_, n)| !n.frozen);
            let due = live.filter_map(|(at, n)| Some((n.core.as_ref()?.deadline_ms(), at))).min();
            let Some((at, node)) = due.filter(|(at, _)| *at <= until) else {
                self.now = until;
                return Ok(());
            };
            self.now = self.now.max(at);
            self.nodes[node].inbox.push_back(Input::Timer);
        }
        Err("timers fire without end".into())
    }

    fn make_file(&mut self, node: &str, name: &str) -> Result<(), String> {
        let node = self.node(node)?;
        self.commands += 1;
        let at = Place { dir: FileId(64), name: name.into() };
        let op = CommandOp::Make(Make { at, kind: FileKind::File, how: CreateMode::Guarded, ..Default::default() });
        let command = Command { op: Some(op), ..Default::default() };
        self.nodes[node].inbox.push_back(Input::Commands(vec![(self.commands, command)]));
        self.work()
    }

    fn show_journal(&mut self) {
        let version = self.ensemble.epoch();
        self.say(format!("{EPOCH} has version {version}"));
        for number in 1.. {
            let Some(data) = self.ensemble.data(&log_path(number)) else { break };
            let text = entry_text(data);
            self.say(format!("entry {number}: {text}"));
        }
    }

    fn show_status(&mut self) {
        for node in 0..self.nodes.len() {
            let id = node + 1;
            let n = &self.nodes[node];
            let text = match n.core.as_ref() {
                None => format!("{id} does not run"),
                Some(core) => {
                    let role = match core.leads() {
                        Some(epoch) => format!("leads epoch {epoch}"),
                        None => format!("hears metad {}", core.heard().node),
                    };
                    format!("{id} {role}, has applied {} entries", core.applied())
                }
            };
            self.say(text);
        }
    }
}
