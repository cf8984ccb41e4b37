//! An ensemble that a script drives by hand: time passes, messages arrive and disks finish only when a command says so.
//!
//! | command | meaning |
//! |---|---|
//! | `servers 3` | the ensemble, with empty disks; `ring=200` bounds the bytes of transactions kept in memory |
//! | `start 1 2`, `restart 1` | start a server with what is on its disk |
//! | `crash 1` | kill it; what its disk had not finished is lost |
//! | `deliver 1->2`, `deliver 1->2 3` | deliver everything that is in flight from 1 to 2, or the first 3 messages |
//! | `lose 1->2` | what is in flight from 1 to 2 is lost with the sender's crash; the end of the connection arrives |
//! | `sync 1`, `sync 1 2` | the disk of server 1 finishes everything, or its first 2 operations |
//! | `run`, `run 300` | messages and disks go their way, in order, until nothing is left; for 300 ms |
//! | `run until NEWLEADER` | the same, until a message with this text is the next to arrive |
//! | `slow-disk 1`, `quick-disk 1` | `run` leaves this disk alone, and only `sync` lets it finish something; and ends that |
//! | `quiet` and a command | the same, and the answer is left out |
//! | `settle` | the same for as long as it takes until every reachable server serves; only the result is shown |
//! | `wait 50` | 50 ms pass: timers fire, nothing but heartbeats is delivered |
//! | `cut 3`, `heal 3` | the network holds everything to and from server 3, and lets it go |
//! | `freeze 3`, `thaw 3` | the process is paused: its timers do not fire, and inputs wait |
//! | `in-flight`, `status`, `disk 1` | what is under way; roles, epochs and logs; the contents of a disk |
//! | `connect A 1`, `leave A` | client A opens its session at server 1, or comes with it; its connection ends |
//! | `create A /a`, `set A /a x`, `get A /a`, `sync-read A /a` | requests of client A; they may be pipelined |
//! | `ask-to-lead 2`, `step-down 3` | the commands of an operator |
//!
//! A line `1->2 ...` at the margin is a message that arrives; indented it is one that is sent and now in flight. Probes and
//! pings are delivered by themselves and left out.

mod clients;
mod network;
mod servers;
mod wire;

use super::script::{number, Machine};
use crate::coordination::Disk;
use clients::Client;
use network::{Connection, InFlight};
use std::collections::{BTreeMap, VecDeque};
use trivet_coordination::{Input, LinkId, RoleName, Server};
use trivet_formats::Zxid;

/// Deliveries, syncs and timers of one command, beyond which the ensemble is taken to run in circles.
const STEPS_MAX: usize = 20_000;
/// Milliseconds after which `settle` gives up.
const SETTLE_MS_MAX: u64 = 10_000;

struct Node {
    server: Option<Server>,
    disk: Disk,
    /// Operations that were handed to the disk and are not finished, as the transcript names them.
    pending: VecDeque<(u64, String)>,
    listening: bool,
    crashed: bool,
    slow_disk: bool,
    frozen: bool,
    cut: bool,
    connections: BTreeMap<LinkId, u64>,
    /// The role, the leader and whether it serves, as shown last.
    shown: Option<(RoleName, Option<i64>, bool)>,
    applied: Zxid,
}

/// The machine of the transcripts in `crates/sim/transcripts/coordination`.
#[derive(Default)]
pub struct Ensemble {
    /// Server `n` has the index `n - 1`.
    nodes: Vec<Node>,
    now: u64,
    ring_bytes_max: Option<usize>,
    in_flight: Vec<InFlight>,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    /// Probes and the answers of the harness itself, handed in before anything else.
    inbox: VecDeque<(usize, Input)>,
    clients: BTreeMap<String, Client>,
    next_conn: u64,
    names: wire::Names,
    /// Lines of the answer.
    said: Vec<String>,
    /// While messages are delivered in the order of sending, their sending is not shown as well.
    hides_sends: bool,
}

impl Machine for Ensemble {
    fn command(&mut self, words: &[&str]) -> Result<Vec<String>, String> {
        match words {
            ["quiet", rest @ ..] => return self.command(rest).map(|_| Vec::new()),
            ["servers", n, options @ ..] => self.servers(number(n)?, options)?,
            _ if self.nodes.is_empty() => return Err("`servers N` comes first".into()),
            ["start", ids @ ..] => ids.iter().try_for_each(|id| self.start(id))?,
            ["restart", id] => self.start(id)?,
            ["crash", id] => self.crash(id)?,
            ["deliver", pair] => self.deliver_command(pair, usize::MAX)?,
            ["deliver", pair, n] => self.deliver_command(pair, number(n)?)?,
            ["lose", pair] => self.lose(pair)?,
            ["sync", id] => self.sync_command(id, usize::MAX)?,
            ["sync", id, n] => self.sync_command(id, number(n)?)?,
            ["run"] => self.run(0)?,
            ["run", "until", text @ ..] => self.run_until(&text.join(" "))?,
            ["run", ms] => self.run(number(ms)?)?,
            ["settle"] => self.settle()?,
            ["wait", ms] => self.wait(number(ms)?)?,
            ["slow-disk", id] => self.live(id)?.slow_disk = true,
            ["quick-disk", id] => self.live(id)?.slow_disk = false,
            ["cut", id] => self.live(id)?.cut = true,
            ["heal", id] => self.live(id)?.cut = false,
            ["freeze", id] => self.live(id)?.frozen = true,
            ["thaw", id] => self.live(id)?.frozen = false,
            ["in-flight"] => self.show_in_flight(),
            ["status"] => self.show_status(),
            ["disk", id] => self.show_disk(id)?,
            ["ask-to-lead", id] => self.ask_to_lead(id)?,
            ["step-down", id] => {
                let node = self.index(id)?;
                self.feed(node, Input::StepDown);
            }
            ["connect", client, id] => self.connect(client, id)?,
            ["leave", client] => self.leave(client)?,
            [what, client, path, rest @ ..] => self.request(what, client, path, rest)?,
            _ => return Err("no such command".into()),
        }
        Ok(std::mem::take(&mut self.said))
    }
}

impl Ensemble {
    fn say(&mut self, line: impl Into<String>) {
        self.said.push(line.into());
    }

    fn index(&self, id: &str) -> Result<usize, String> {
        let node = number::<usize>(id)?.checked_sub(1).filter(|i| *i < self.nodes.len());
        node.ok_or_else(|| format!("there is no server {id}"))
    }

    fn live(&mut self, id: &str) -> Result<&mut Node, String> {
        let node = self.index(id)?;
        let node = &mut self.nodes[node];
        if node.server.is_none() {
            return Err(format!("server {id} does not run"));
        }
        Ok(node)
    }

    fn is_reachable(&self, node: usize) -> bool {
        let n = &self.nodes[node];
        n.server.is_some() && !n.cut && !n.frozen
    }

    fn sync_command(&mut self, id: &str, operations: usize) -> Result<(), String> {
        self.live(id)?;
        let node = self.index(id)?;
        if self.nodes[node].pending.is_empty() {
            return Err("its disk has nothing to do".into());
        }
        self.sync(node, operations);
        Ok(())
    }

    /// Time passes, and only timers and heartbeats move.
    fn wait(&mut self, ms: u64) -> Result<(), String> {
        let until = self.now + ms;
        for _ in 0..STEPS_MAX {
            if !self.fire_next_timer(until) {
                self.now = until;
                return Ok(());
            }
        }
        Err("timers fire without end".into())
    }

    /// Messages in the order of sending, disks when nothing is in flight, timers when nothing else is left.
    fn run(&mut self, ms: u64) -> Result<(), String> {
        let until = self.now + ms;
        self.go(until, "")?;
        self.now = until;
        Ok(())
    }

    fn run_until(&mut self, text: &str) -> Result<(), String> {
        match self.go(self.now + SETTLE_MS_MAX, text)? {
            true => Ok(()),
            false => Err(format!("no message with {text:?} comes within {SETTLE_MS_MAX} ms")),
        }
    }

    /// Whether it stopped before a message that has this text (none is looked for, if that is empty).
    fn go(&mut self, until: u64, text: &str) -> Result<bool, String> {
        self.hides_sends = true;
        let mut went = Err("messages go round without end".into());
        for _ in 0..STEPS_MAX {
            let comes = self.next_to_arrive().map(|at| self.line(&self.in_flight[at]));
            if !text.is_empty() && comes.is_some_and(|line| line.contains(text)) {
                went = Ok(true);
                break;
            }
            if !(self.deliver_next() || self.sync_next() || self.fire_next_timer(until)) {
                went = Ok(false);
                break;
            }
        }
        self.hides_sends = false;
        went
    }

    fn settle(&mut self) -> Result<(), String> {
        let (until, before) = (self.now + SETTLE_MS_MAX, self.said.len());
        while self.now < until {
            self.run(10)?;
            let all = 0..self.nodes.len();
            let serves = |n: &Node| n.server.as_ref().is_some_and(|s| s.summary().serving);
            if all.filter(|n| self.is_reachable(*n)).all(|n| serves(&self.nodes[n])) {
                self.said.truncate(before);
                self.show_status();
                return Ok(());
            }
        }
        Err(format!("not every server serves after {SETTLE_MS_MAX} ms"))
    }
}
