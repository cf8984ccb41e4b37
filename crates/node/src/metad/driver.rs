//! Carries out what metad's core decides: requests to coordination, calls to the other metads, entries into the state,
//! answers to the askers. One task owns the core; everything else sends it inputs.

use super::follow::{fetch, take_state};
use super::{lead, Leadership, Shared};
use crate::clock::wall_ns;
use crate::zk_client::{ZkClient, ZkError};
use bytes::Bytes;
use prost::Message;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use trivet_events::Event;
use trivet_formats::client::err;
use trivet_storage::messages::*;
use trivet_storage::metadata::leadership::{Answer, Ask, Context, Effect, Input, Metad as Core, ELECTION, EPOCH};
use trivet_storage::nfs::names::printable;
use trivet_storage::nfs::status;

/// Time within which another metad has to say whether it hears the LEADER; the core waits as long.
const STATUS_LIMIT: Duration = Duration::from_millis(300);
/// Commands, or questions for the leadership, that are taken from their queue at a time.
const TAKEN_MAX: usize = 4_096;
/// Flags of a node that is ephemeral and sequential.
const EPHEMERAL_SEQUENTIAL: i32 = 3;

/// A command for the journal, and the epoch under which it was prepared.
pub(super) struct Pending {
    pub(super) epoch: u64,
    pub(super) command: Command,
    pub(super) done: oneshot::Sender<Option<Reply>>,
}

/// A question whether this metad still leads, of somebody who read its state under this epoch.
pub(super) struct Question {
    pub(super) epoch: u64,
    pub(super) done: oneshot::Sender<bool>,
}

/// Where the others hand in what the core has to know.
pub(super) struct Queues {
    pub(super) inputs: mpsc::UnboundedReceiver<Input>,
    pub(super) commands: mpsc::Receiver<Pending>,
    pub(super) questions: mpsc::UnboundedReceiver<Question>,
}

struct Driver {
    shared: Arc<Shared>,
    core: Core,
    next_token: u64,
    replies: HashMap<u64, oneshot::Sender<Option<Reply>>>,
    proofs: HashMap<u64, oneshot::Sender<bool>>,
    /// Tasks that run only while this metad leads.
    of_leader: Vec<AbortHandle>,
}

pub(super) async fn run(shared: Arc<Shared>, core: Core, mut queues: Queues) {
    tokio::spawn(tell_changes(shared.clone()));
    let mut d =
        Driver { shared, core, next_token: 1, replies: HashMap::new(), proofs: HashMap::new(), of_leader: Vec::new() };
    d.feed(Input::Timer);
    let (mut commands, mut questions) = (Vec::new(), Vec::new());
    loop {
        let until = d.shared.begun + Duration::from_millis(d.core.deadline_ms().min(d.shared.now_ms() + 1_000));
        let takes = d.core.leads().is_none() || d.core.has_room();
        tokio::select! {
            input = queues.inputs.recv() => match input {
                Some(input) => d.feed(input),
                None => return,
            },
            _ = queues.commands.recv_many(&mut commands, TAKEN_MAX), if takes => d.commands(&mut commands),
            _ = queues.questions.recv_many(&mut questions, TAKEN_MAX) => d.questions(&mut questions),
            () = tokio::time::sleep_until(until.into()) => d.feed(Input::Timer),
        }
    }
}

/// A watch that fired, or another connection to coordination, is looked at when it comes.
async fn tell_changes(shared: Arc<Shared>) {
    loop {
        shared.zk.changed().await;
        shared.input(Input::Changed);
    }
}

impl Driver {
    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token - 1
    }

    /// Commands that were prepared under another epoch are not carried out under this one.
    fn commands(&mut self, pending: &mut Vec<Pending>) {
        let mut batch = Vec::with_capacity(pending.len());
        for p in pending.drain(..) {
            if self.core.leads() != Some(p.epoch) {
                let _ = p.done.send(None);
                continue;
            }
            let token = self.token();
            self.replies.insert(token, p.done);
            batch.push((token, p.command));
        }
        if !batch.is_empty() {
            self.feed(Input::Commands(batch));
        }
    }

    fn questions(&mut self, questions: &mut Vec<Question>) {
        for q in questions.drain(..) {
            if self.core.leads() != Some(q.epoch) {
                let _ = q.done.send(false);
                continue;
            }
            let token = self.token();
            self.proofs.insert(token, q.done);
            self.feed(Input::Confirm(token));
        }
    }

    fn feed(&mut self, input: Input) {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            let version_to_write = self.core.leads().map_or(0, |_| self.shared.version_to_write());
            let context = Context { wall_ns: wall_ns(), session: self.shared.zk.session(), version_to_write };
            let mut effects = Vec::new();
            self.core.handle(self.shared.now_ms(), context, input, &mut effects);
            let heard = self.core.heard();
            let at = self.shared.begun + Duration::from_millis(heard.at_ms);
            *self.shared.leader.lock() = (heard.node, heard.epoch, at);
            for effect in effects {
                // A state that was taken over is known to the core before anything else is.
                next = self.carry_out(effect).or(next);
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Ask { call, ask } => {
                let shared = self.shared.clone();
                tokio::spawn(async move {
                    let answer = ask_coordination(&shared.zk, ask).await;
                    shared.input(Input::Coordination { call, answer });
                });
            }
            Effect::Ping(ping) => self.ping(ping),
            Effect::AskStatus { round } => self.ask_status(round),
            Effect::Fetch { call, from } => {
                let shared = self.shared.clone();
                tokio::spawn(async move {
                    let journal = fetch(&shared, from).await;
                    shared.input(Input::Journal { call, journal });
                });
            }
            Effect::TakeState { have, state } => {
                return Some(Input::StateTaken { applied: take_state(&self.shared, have, state) });
            }
            Effect::Apply { number, entry, tokens } => {
                let replies = self.shared.apply(number, entry);
                for (token, reply) in tokens.into_iter().zip(replies) {
                    self.reply(token, Some(reply));
                }
            }
            Effect::Presume => {
                let shared = self.shared.clone();
                tokio::spawn(async move {
                    lead::presume_gateways(&shared).await;
                    shared.input(Input::Presumed);
                });
            }
            Effect::Refuse { token, command } => {
                if let Some(CommandOp::Make(Make { at, .. })) = &command.op {
                    let name = printable(&at.name);
                    tracing::warn!(name, "a name that is not UTF-8 is refused until the upgrade is finalized");
                }
                self.reply(token, Some(Reply { status: status::INVAL, ..Default::default() }));
            }
            Effect::Unknown { token } => self.reply(token, None),
            Effect::Confirmed { token, leads } => {
                if let Some(done) = self.proofs.remove(&token) {
                    let _ = done.send(leads);
                }
            }
            Effect::Leads { epoch, why } => self.leads(epoch, &why),
            Effect::Deposed { epoch, reason } => self.deposed(epoch, &reason),
            Effect::Overtaken { epoch, reason } => {
                tracing::info!(epoch, %reason, "metad took the epoch and does not lead");
            }
            Effect::Trouble(text) => {
                if !text.is_empty() {
                    tracing::error!(reason = %text, "metad refuses to serve");
                }
                *self.shared.trouble.lock() = text;
            }
            Effect::Waits(text) => {
                tracing::warn!(reason = %text, "metad does not serve");
                *self.shared.trouble.lock() = text;
            }
            Effect::NobodyHasTheJournal => {
                tracing::warn!("the journal is trimmed below what this metad has, and no other metad answers yet");
            }
        }
        None
    }

    fn reply(&mut self, token: u64, reply: Option<Reply>) {
        if let Some(done) = self.replies.remove(&token) {
            let _ = done.send(reply);
        }
    }

    fn ping(&self, ping: LeaderPing) {
        let body = MetaRequest::of(MetaAsk::Leader(ping)).encode_to_vec();
        for (node, peer) in &self.shared.peers {
            let (shared, node) = (self.shared.clone(), *node);
            peer.call(CallKind::Metad, &body, Box::new(move |answer| shared.hear_version(node, answer)));
        }
    }

    fn ask_status(&self, round: u64) {
        let ask: Arc<[u8]> = MetaRequest::of(MetaAsk::Status(Empty {})).encode_to_vec().into();
        for (node, peer) in &self.shared.peers {
            let (shared, node, peer, ask) = (self.shared.clone(), *node, peer.clone(), ask.clone());
            tokio::spawn(async move {
                let bytes = peer.ask(CallKind::Metad, &ask, STATUS_LIMIT).await;
                let answer = bytes.ok().and_then(|b| MetaResponse::decode(b).ok()).and_then(|r| r.answer);
                let status = match answer {
                    Some(MetaAnswer::Status(s)) => Some(s),
                    _ => None,
                };
                shared.input(Input::Status { round, node, status });
            });
        }
    }

    fn leads(&mut self, epoch: u64, why: &str) {
        self.shared.events.record(Event::MetadLeads { epoch, reason: why.into() });
        tracing::info!(epoch, %why, "metad=leader");
        let since = Instant::now();
        *self.shared.leading.lock() = Some(Leadership { epoch, since });
        let [a, b, c, d] = [(); 4].map(|()| self.shared.clone());
        self.of_leader = vec![
            tokio::spawn(async move { lead::assign_addresses(&a).await }).abort_handle(),
            tokio::spawn(async move { super::versions::finish_upgrade(&b).await }).abort_handle(),
            tokio::spawn(async move { super::life::end_rebalance(&c).await }).abort_handle(),
            tokio::spawn(async move { super::own_znodes::close(&d).await }).abort_handle(),
        ];
    }

    fn deposed(&mut self, epoch: u64, reason: &str) {
        *self.shared.leading.lock() = None;
        self.of_leader.drain(..).for_each(|task| task.abort());
        self.shared.events.record(Event::MetadDeposed { epoch, reason: reason.into() });
        tracing::info!(epoch, %reason, "metad=follower");
    }
}

async fn ask_coordination(zk: &ZkClient, ask: Ask) -> Answer {
    let data = |(data, version): (Bytes, i32)| Answer::Data { data: data.to_vec(), version };
    let answer = match ask {
        Ask::Create { path, data } => zk.create(path, &data, 0).await.map(Answer::Created),
        Ask::Seat { data } => {
            let path = format!("{ELECTION}/candidate-");
            zk.create(&path, &data, EPHEMERAL_SEQUENTIAL).await.map(Answer::Created)
        }
        Ask::CreateFenced { version, path, data } => {
            zk.create_fenced(EPOCH, version, &path, &data).await.map(|()| Answer::Done)
        }
        Ask::SetEpoch { version, data: of } => {
            zk.set(EPOCH, &of, version).await.map(|stat| data((Bytes::new(), stat.version)))
        }
        Ask::Get { path } => zk.get(&path).await.map(|(bytes, stat)| data((bytes, stat.version))),
        Ask::Children { path } => zk.children(path).await.map(Answer::Children),
        Ask::Sync => zk.sync(EPOCH).await.map(|()| Answer::Done),
        Ask::Watch { path } => zk.exists_watch(&path).await.map(Answer::Exists),
    };
    answer.unwrap_or_else(|e| match e {
        ZkError::Lost => Answer::Lost,
        ZkError::Code(err::NO_NODE) => Answer::NoNode,
        ZkError::Code(err::NODE_EXISTS) => Answer::NodeExists,
        ZkError::Code(err::BAD_VERSION) => Answer::BadVersion,
        ZkError::Code(code) => Answer::Failed(code),
    })
}
