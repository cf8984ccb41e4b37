//! Gateways: the owner of the file, its timers, and the clients' operations.

use super::{wire, Cluster, End, InFlight, Message, BLOCK, COPIES, GEOMETRY, TIMER_MS};
use trivet_storage::messages::*;
use trivet_storage::replication::owner::{Effect, Input, NoAnswer, Op, Owner, Wishes};

pub(super) struct Gateway {
    owner: Option<Owner>,
    pub(super) frozen: bool,
    /// The start of its process.
    boot: u64,
}

impl Gateway {
    pub(super) fn new(boot: u64) -> Gateway {
        Gateway { owner: None, frozen: false, boot }
    }
    pub(super) fn lease(&self) -> Option<LeaseId> {
        self.owner.as_ref().map(Owner::lease)
    }
}

impl Cluster {
    pub(super) fn own(&mut self, gateway: &str) -> Result<(), String> {
        let file = self.file;
        let (g, there) = self.gateway(gateway)?;
        let boot = there.boot;
        let grant = Grant { file, gateway: NodeId(g as u32 + 1), boot, expected: LeaseId::NONE, replicas: Vec::new() };
        let what = Message::Ask { call: 0, op: CommandOp::Grant(grant) };
        self.send(InFlight { from: End::Gateway(g), to: End::Metad, lease: LeaseId::NONE, what });
        Ok(())
    }

    pub(super) fn granted(&mut self, gateway: usize, reply: Reply) {
        let (now, node) = (self.now, NodeId(gateway as u32 + 1));
        let Some(mut owner) = Owner::new(node, GEOMETRY, reply, now, now * 1_000_000) else { return };
        let effects = owner.take_effects();
        self.gateways[gateway].owner = Some(owner);
        self.owner_effects(gateway, effects);
    }

    pub(super) fn gateway_answered(&mut self, gateway: usize, what: Message) {
        let input = match what {
            Message::Answer { call, answer } => Input::Answer { call, answer: Ok(answer), down_ms: 0 },
            Message::Broken { call } => Input::Answer { call, answer: Err(NoAnswer::Broken), down_ms: 0 },
            Message::Reply { call, reply } => Input::Meta { call, reply },
            _ => unreachable!("a gateway gets answers"),
        };
        self.feed(gateway, input);
    }

    pub(super) fn no_answer(&mut self, to: End, lease: LeaseId, call: u64, refused: bool) {
        let End::Gateway(g) = to else { return };
        if self.gateways[g].lease() == Some(lease) {
            let why = if refused { NoAnswer::Refused } else { NoAnswer::Broken };
            self.feed(g, Input::Answer { call, answer: Err(why), down_ms: 0 });
        }
    }

    pub(super) fn feed(&mut self, gateway: usize, input: Input) {
        let now = self.now;
        let Some(owner) = &mut self.gateways[gateway].owner else { return };
        let mut effects = Vec::new();
        owner.handle(now, now * 1_000_000, input, &mut effects);
        self.owner_effects(gateway, effects);
    }

    fn owner_effects(&mut self, gateway: usize, effects: Vec<Effect>) {
        let (from, lease) = (End::Gateway(gateway), self.gateways[gateway].lease().unwrap_or(LeaseId::NONE));
        for effect in effects {
            match effect {
                Effect::Send { call, to, request } => {
                    let to = End::Chunk(to.node.0 as usize - 1);
                    self.send(InFlight { from, to, lease, what: Message::Call { call, request } });
                }
                Effect::Meta { call, op } => {
                    self.send(InFlight { from, to: End::Metad, lease, what: Message::Ask { call, op } });
                }
                Effect::Done { token, outcome } => {
                    let op = self.operations.get(&token).map(wire::operation).unwrap_or_default();
                    self.say(format!("  {from} to client: #{token}, {op}: {}", wire::outcome(&outcome)));
                }
                Effect::Ended => {
                    self.gateways[gateway].owner = None;
                    self.say(format!("  {from} is not the owner any more"));
                }
            }
        }
    }

    /// Every owner hears metad, and its timer fires.
    pub(super) fn tick(&mut self) {
        self.now += TIMER_MS;
        let starts =
            self.chunks.iter().filter_map(|c| Some((c.id.clone(), c.server.as_ref()?.start()))).collect::<Vec<_>>();
        for gateway in 0..self.gateways.len() {
            if self.gateways[gateway].frozen || self.gateways[gateway].owner.is_none() {
                continue;
            }
            let mut replicas = self.live_replicas();
            replicas.retain(|r| !self.cut.contains(&(gateway, r.node.0 as usize - 1)));
            let with_space = replicas.len();
            let (elsewhere, lossy, full, exhausted) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            self.feed(gateway, Input::Alive { replicas, elsewhere, lossy, full, exhausted, with_space });
            let wishes = Wishes { copies: COPIES, keeps: true, starts: starts.clone(), ..Default::default() };
            self.feed(gateway, Input::Wishes(wishes));
            self.feed(gateway, Input::Timer);
        }
    }

    pub(super) fn kill(&mut self, gateway: &str) -> Result<(), String> {
        self.starts += 1;
        let boot = self.starts;
        let (_, there) = self.gateway(gateway)?;
        *there = Gateway::new(boot);
        Ok(())
    }

    // ---- clients ----

    pub(super) fn write(&mut self, gateway: &str, block: u64, data: &str) -> Result<(), String> {
        let number = self.operations.len() as u64 + 1;
        let id = OpId { high: 1, low: number };
        let op = Op::Write { offset: block * BLOCK, data: wire::block(data).into(), id };
        self.operations.insert(number, op);
        self.operate(gateway, number)
    }

    pub(super) fn read(&mut self, gateway: &str, block: u64) -> Result<(), String> {
        let number = self.operations.len() as u64 + 1;
        self.operations.insert(number, Op::Read { offset: block * BLOCK, length: BLOCK });
        self.operate(gateway, number)
    }

    pub(super) fn operate(&mut self, gateway: &str, number: u64) -> Result<(), String> {
        let op = self.operations.get(&number).cloned().ok_or("there is no such operation")?;
        let (g, there) = self.gateway(gateway)?;
        if there.owner.is_none() {
            return Err("it does not own the file".into());
        }
        self.feed(g, Input::Op { token: number, op, stamp: None });
        Ok(())
    }
}
