//! A file with its owners, its replicas and metad, driven by hand.
//!
//! | command | meaning |
//! |---|---|
//! | `cluster 3` | three nodes, each with a gateway (`A` on node 1, `B` on node 2, ...) and a chunk server, and metad; one file of one extent, two copies |
//! | `own A` | gateway A asks metad for the file's lease |
//! | `write A 0 x`, `read A 0` | a client's operation at gateway A on block 0; each gets a number |
//! | `again B 3` | the client has no answer to its operation 3 and sends it again, to gateway B |
//! | `deliver A->1`, `deliver A->1 2` | deliver what is in flight, or the first 2 messages; `1->A`, `A->metad`, `metad->A` likewise |
//! | `sync 1` | the journal of chunk server 1 is durable as far as it was written |
//! | `run`, `run 300` | messages and disks go their way, in order, until nothing is left; for 300 ms |
//! | `run until SEAL` | the same, until a message with this text is the next to arrive |
//! | `wait 100` | time passes: owners' timers fire, and owners hear metad |
//! | `crash 1`, `restart 1` | the process of a chunk server; its journal stays as far as it was durable |
//! | `kill A`, `freeze A`, `thaw A` | the process of a gateway: its owner is gone, or paused |
//! | `cut A 2`, `heal A 2` | messages between a gateway and a chunk server are lost |
//! | `rot 2 1`, `scrub 2`, `look A` | block 1 on disk 2 cannot be read any more; scrubbing finds it; gateway A is told that a copy has bad blocks |
//! | `in-flight`, `copies`, `metad` | messages under way; what each replica has; the configuration that metad records |
//! | `quiet` and a command | the same, and the answer is left out |
//!
//! A position is written lease/epoch/sequence, as in `1/1/3`. A line `A->1 ...` at the margin is a message that arrives; indented it
//! is one that is sent and now in flight.

mod chunks;
mod gateways;
mod wire;

use super::script::{number, Machine};
use chunks::Chunk;
use gateways::Gateway;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use trivet_storage::messages::*;
use trivet_storage::metadata::{MemoryKv, State};
use trivet_storage::replication::owner::Op;
use trivet_storage::replication::Geometry;

const BLOCK: u64 = 4096;
/// Every scene needs a single extent, of four blocks.
const GEOMETRY: Geometry = Geometry {
    extent_bytes: BLOCK * 4,
    block_bytes: BLOCK,
    push_bytes: BLOCK,
    reserve_from_bytes: u64::MAX,
    window_bytes: BLOCK as usize * 16,
    record_bytes_max: BLOCK as usize,
};
const COPIES: u32 = 2;
/// Milliseconds between two timers of an owner, as while something is open.
const TIMER_MS: u64 = 25;
/// Deliveries, syncs and timers of one command, beyond which the cluster is taken to run in circles.
const STEPS_MAX: usize = 20_000;
/// Milliseconds after which `run until` gives up.
const RUN_MS_MAX: u64 = 10_000;

/// An end of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Gateway(usize),
    Chunk(usize),
    Metad,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Gateway(g) => write!(f, "{}", (b'A' + *g as u8) as char),
            End::Chunk(c) => write!(f, "{}", c + 1),
            End::Metad => f.write_str("metad"),
        }
    }
}

struct InFlight {
    from: End,
    to: End,
    /// The owner that asked: answers to an earlier one are dropped.
    lease: LeaseId,
    what: Message,
}

enum Message {
    Call {
        call: u64,
        request: ChunkRequest,
    },
    Answer {
        call: u64,
        answer: ChunkAnswer,
    },
    /// The connection ended before the answer.
    Broken {
        call: u64,
    },
    Ask {
        call: u64,
        op: CommandOp,
    },
    Reply {
        call: u64,
        reply: Reply,
    },
    Granted {
        reply: Reply,
    },
}

/// The machine of the transcripts in `crates/sim/transcripts/storage`.
#[derive(Default)]
pub struct Cluster {
    now: u64,
    chunks: Vec<Chunk>,
    gateways: Vec<Gateway>,
    metad: Option<State<MemoryKv>>,
    file: FileId,
    in_flight: Vec<InFlight>,
    cut: BTreeSet<(usize, usize)>,
    operations: BTreeMap<u64, Op>,
    /// Starts of processes so far.
    starts: u64,
    said: Vec<String>,
    hides_sends: bool,
}

impl Machine for Cluster {
    fn command(&mut self, words: &[&str]) -> Result<Vec<String>, String> {
        match words {
            ["quiet", rest @ ..] => return self.command(rest).map(|_| Vec::new()),
            ["cluster", n] => self.make(number(n)?),
            _ if self.metad.is_none() => return Err("`cluster N` comes first".into()),
            ["own", g] => self.own(g)?,
            ["write", g, block, data] => self.write(g, number(block)?, data)?,
            ["read", g, block] => self.read(g, number(block)?)?,
            ["again", g, n] => self.operate(g, number(n)?)?,
            ["deliver", pair] => self.deliver(pair, usize::MAX)?,
            ["deliver", pair, n] => self.deliver(pair, number(n)?)?,
            ["sync", c] => self.sync_command(c)?,
            ["run"] => drop(self.run(0, "")?),
            ["run", "until", text @ ..] => {
                let text = text.join(" ");
                if !self.run(RUN_MS_MAX, &text)? {
                    return Err(format!("no message with {text:?} comes within {RUN_MS_MAX} ms"));
                }
            }
            ["run", ms] => drop(self.run(number(ms)?, "")?),
            ["wait", ms] => self.wait(number(ms)?),
            ["crash", c] => self.crash(c)?,
            ["restart", c] => self.restart(c)?,
            ["kill", g] => self.kill(g)?,
            ["freeze", g] => self.gateway(g)?.1.frozen = true,
            ["thaw", g] => self.gateway(g)?.1.frozen = false,
            ["cut" | "heal", g, c] => {
                let path = (self.gateway(g)?.0, self.chunk(c)?);
                if words[0] == "cut" {
                    self.cut.insert(path)
                } else {
                    self.cut.remove(&path)
                };
            }
            ["rot", c, block] => self.rot(c, number(block)?)?,
            ["scrub", c] => self.scrub(c)?,
            ["look", g] => self.look(g)?,
            ["in-flight"] => self.said.extend(self.in_flight.iter().map(line)),
            ["copies"] => self.show_copies(),
            ["metad"] => self.show_metad(),
            _ => return Err("no such command".into()),
        }
        Ok(std::mem::take(&mut self.said))
    }
}

fn line(m: &InFlight) -> String {
    let what = match &m.what {
        Message::Call { request, .. } => wire::request(request),
        Message::Answer { answer, .. } => wire::answer(answer),
        Message::Broken { .. } => "(no answer: the connection ended)".into(),
        Message::Ask { op, .. } => wire::ask(op),
        Message::Reply { reply, .. } => wire::reply(reply),
        Message::Granted { reply } => wire::granted(reply),
    };
    format!("{}->{} {what}", m.from, m.to)
}

impl Cluster {
    fn make(&mut self, nodes: usize) {
        self.metad = Some(State::with_extents(MemoryKv::default(), GEOMETRY.extent_bytes));
        self.apply(CommandOp::CreateDatastore(Datastore { name: "ds".into(), copies: COPIES, ..Default::default() }));
        let at = Place { dir: FileId(64), name: "disk".into() };
        let made = self.apply(CommandOp::Make(Make {
            at,
            kind: FileKind::File,
            how: CreateMode::Guarded,
            ..Default::default()
        }));
        self.file = made.attr.expect("an empty datastore takes a file").fileid;
        self.now = 1_000;
        for node in 0..nodes {
            self.starts += 1;
            self.chunks.push(Chunk::new(node, self.starts));
            self.register(node);
            self.gateways.push(Gateway::new(node as u64 + 1));
        }
    }

    fn say(&mut self, line: impl Into<String>) {
        self.said.push(line.into());
    }

    fn end(&self, word: &str) -> Result<End, String> {
        let end = match word {
            "metad" => Some(End::Metad),
            _ => match word.as_bytes() {
                [g @ b'A'..=b'Z'] => {
                    Some(End::Gateway((g - b'A') as usize)).filter(|_| ((g - b'A') as usize) < self.gateways.len())
                }
                _ => number::<usize>(word)?.checked_sub(1).filter(|c| *c < self.chunks.len()).map(End::Chunk),
            },
        };
        end.ok_or_else(|| format!("there is no {word}"))
    }
    fn chunk(&self, word: &str) -> Result<usize, String> {
        match self.end(word)? {
            End::Chunk(c) => Ok(c),
            _ => Err(format!("{word} is no chunk server")),
        }
    }
    fn gateway(&mut self, word: &str) -> Result<(usize, &mut Gateway), String> {
        match self.end(word)? {
            End::Gateway(g) => Ok((g, &mut self.gateways[g])),
            _ => Err(format!("{word} is no gateway")),
        }
    }

    // ---- messages ----

    fn send(&mut self, message: InFlight) {
        if !self.hides_sends {
            let line = format!("  {}", line(&message));
            self.say(line);
        }
        self.in_flight.push(message);
    }

    fn is_cut(&self, m: &InFlight) -> bool {
        let (End::Gateway(g), End::Chunk(c)) =
            (if let End::Gateway(_) = m.from { (m.from, m.to) } else { (m.to, m.from) })
        else {
            return false;
        };
        self.cut.contains(&(g, c))
    }

    fn is_held(&self, m: &InFlight) -> bool {
        matches!(m.to, End::Gateway(g) if self.gateways[g].frozen)
    }

    fn deliver(&mut self, pair: &str, count: usize) -> Result<(), String> {
        let (from, to) = pair.split_once("->").ok_or("deliver FROM->TO")?;
        let (from, to) = (self.end(from)?, self.end(to)?);
        let there = self.in_flight.iter().filter(|m| (m.from, m.to) == (from, to)).count();
        if there == 0 {
            return Err("nothing is in flight".into());
        }
        for _ in 0..there.min(count) {
            let at = self.in_flight.iter().position(|m| (m.from, m.to) == (from, to)).expect("counted");
            if self.is_held(&self.in_flight[at]) {
                return Err(format!("gateway {to} is frozen"));
            }
            self.arrive(at);
        }
        Ok(())
    }

    fn arrive(&mut self, at: usize) {
        let m = self.in_flight.remove(at);
        let mut text = line(&m);
        if self.is_cut(&m) {
            text += ": lost";
            return self.say(text);
        }
        let (lease, from) = (m.lease, m.from);
        match (m.to, m.what) {
            (End::Chunk(c), Message::Call { call, request }) => {
                if self.chunks[c].server.is_none() {
                    text += ": refused, it does not run";
                    self.say(text);
                    return self.no_answer(from, lease, call, true);
                }
                self.say(text);
                self.chunk_asked(c, from, lease, call, request);
            }
            (End::Gateway(g), Message::Granted { reply }) => {
                self.say(text);
                self.granted(g, reply);
            }
            (End::Gateway(g), what) => {
                if self.gateways[g].lease() != Some(lease) {
                    text += ": dropped, that owner is gone";
                    return self.say(text);
                }
                self.say(text);
                self.gateway_answered(g, what);
            }
            (End::Metad, Message::Ask { call, op }) => {
                self.say(text);
                self.metad_asked(from, lease, call, op);
            }
            _ => unreachable!("calls go to chunk servers and metad, answers to gateways"),
        }
    }

    /// Whether it stopped before a message with this text; none is looked for if that is empty.
    fn run(&mut self, ms: u64, text: &str) -> Result<bool, String> {
        let until = self.now + ms;
        self.hides_sends = true;
        let mut went = Err("messages go round without end".into());
        for _ in 0..STEPS_MAX {
            let next = self.in_flight.iter().position(|m| !self.is_held(m));
            let comes = next.map(|at| line(&self.in_flight[at]));
            if !text.is_empty() && comes.is_some_and(|line| line.contains(text)) {
                went = Ok(true);
                break;
            }
            if let Some(at) = next {
                self.arrive(at);
            } else if let Some(c) = self.chunks.iter().position(|c| !c.pending.is_empty()) {
                self.sync(c);
            } else if self.now + TIMER_MS <= until {
                self.tick();
            } else {
                self.now = if text.is_empty() { until } else { self.now };
                went = Ok(false);
                break;
            }
        }
        self.hides_sends = false;
        went
    }

    fn wait(&mut self, ms: u64) {
        let until = self.now + ms;
        while self.now + TIMER_MS <= until {
            self.tick();
        }
        self.now = until;
    }

    // ---- metad ----

    fn apply(&mut self, op: CommandOp) -> Reply {
        let time_ns = self.now * 1_000_000;
        let metad = self.metad.as_mut().expect("made");
        let commands = vec![Command { op: Some(op), ..Default::default() }];
        let entry = Entry { version: JOURNAL_VERSION, time_ns, commands, cluster: "transcript".into() };
        metad.apply(metad.applied() + 1, &entry).remove(0)
    }

    fn live_replicas(&self) -> Vec<ReplicaRef> {
        let live = self.chunks.iter().enumerate().filter(|(_, c)| c.server.is_some());
        live.map(|(i, c)| ReplicaRef { node: NodeId(i as u32 + 1), id: c.id.clone(), address: String::new() }).collect()
    }

    /// The LEADER chooses chunk servers before it journals a command; here the first ones that live.
    fn metad_asked(&mut self, from: End, lease: LeaseId, call: u64, mut op: CommandOp) {
        let chosen: Vec<ReplicaRef> = self.live_replicas().into_iter().take(COPIES as usize).collect();
        let mut grants = false;
        match &mut op {
            CommandOp::Allocate(a) => a.replicas = chosen,
            CommandOp::Grant(g) if !g.gateway.is_none() => {
                let inode = self.metad.as_ref().and_then(|m| m.inode(self.file)).expect("the file stays");
                (g.expected, g.replicas, grants) = (inode.lease.number, chosen, true);
            }
            _ => {}
        }
        let reply = self.apply(op);
        let what = if grants { Message::Granted { reply } } else { Message::Reply { call, reply } };
        self.send(InFlight { from: End::Metad, to: from, lease, what });
    }

    fn show_metad(&mut self) {
        let metad = self.metad.as_ref().expect("made");
        let lease = metad.inode(self.file).expect("the file stays").lease;
        let extents: Vec<String> = metad.extents(self.file).iter().map(wire::configuration).collect();
        self.say(format!(
            "metad: lease {} of gateway {}; {}",
            lease.number,
            wire::gateway(lease.gateway),
            extents.join("; ")
        ));
    }
}
