//! Clients: one operation at a time each, sent again to any gateway while there is no answer.

use super::*;

/// A client of an idle world begins an operation within this time of the one before.
const IDLE_MS: u64 = 15_000;

fn in_short(op: &Op) -> String {
    match op {
        Op::Write { offset, data, .. } => format!("a write of {:?} to block {}", read_value(data), offset / BLOCK),
        Op::Read { offset, .. } => format!("block {}", offset / BLOCK),
        Op::SetSize { size, .. } => format!("a size of {} blocks", size / BLOCK),
        other => format!("{other:?}"),
    }
}

fn answer_in_short(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Read { data, .. } => format!("read {:?}", read_value(data)),
        Outcome::Written { after, .. } | Outcome::Attr(after) => format!("done, {} blocks", after.size / BLOCK),
        other => format!("{other:?}"),
    }
}

impl World {
    pub(super) fn client_turn(&mut self, client: usize) {
        let idle = self.options.filled && self.filled_to >= self.blocks;
        let open = self.clients[client].op.is_some();
        // Time for an answer; an operation that had none is asked again with the client's next turn.
        let last = if idle { 5_000 + IDLE_MS } else { 5_000 };
        if self.now > self.faults_end + SETTLE_MS - last && !open {
            return;
        }
        let pause = if idle && !open { self.rng.range(500, IDLE_MS) } else { self.rng.range(3, 60) };
        self.at(self.now + pause, Event::Client { client });
        if self.clients[client].op.is_none() {
            self.new_operation(client);
        } else if self.now < self.clients[client].sent_at + PATIENCE_MS {
            return;
        }
        // A retry carries the id of its first attempt, goes to any gateway, and may overtake the first attempt.
        let gateway = self.rng.index(GATEWAYS);
        self.clients[client].sent_at = self.now;
        let serial = self.clients[client].serial;
        let version = if moves_its_address(client) {
            if self.metad_down {
                return;
            }
            self.move_address(client, gateway)
        } else {
            0
        };
        self.clients[client].version = version;
        let op = self.clients[client].op.clone().expect("just begun, or still open");
        self.trace(|| format!("client {client} asks gateway {} for {}", gateway + 1, in_short(&op)));
        let instance = Instance { client, serial, gateway, version, op };
        self.at(self.now + 1, Event::ClientOp(Box::new(instance)));
    }

    /// A datastore address of the client's own goes to this gateway, and the retry comes in there.
    pub(super) fn move_address(&mut self, client: usize, gateway: usize) -> u64 {
        let address = client.to_string();
        let binding = Binding { address: address.clone(), gateway: NodeId(gateway as u32 + 1), ..Default::default() };
        self.apply(CommandOp::Bind(binding));
        self.metad.bindings().iter().find(|b| b.address == address).expect("just bound").version
    }

    pub(super) fn new_operation(&mut self, client: usize) {
        let (mut block, mut kind) = (self.rng.range(0, self.blocks), self.rng.range(0, 10));
        if self.options.filled && self.filled_to < self.blocks {
            (block, kind) = (self.filled_to, 0);
            self.filled_to += 1;
        }
        let value = self.next_value;
        let sizes = self.options.sizes;
        let c = &mut self.clients[client];
        c.serial += 1;
        c.block = block;
        c.begin = self.now;
        c.op = Some(match kind {
            4 if sizes => {
                let id = OpId { high: client as u64 + 1, low: c.serial };
                Op::SetSize { size: block * BLOCK, id }
            }
            0..=4 => {
                self.next_value += 1;
                c.value = value;
                self.size_ceiling = self.size_ceiling.max((block + 1) * BLOCK);
                let id = OpId { high: client as u64 + 1, low: c.serial };
                Op::Write { offset: block * BLOCK, data: block_of(value).into(), id }
            }
            5 => {
                c.value = self.size_floor;
                Op::Attr
            }
            _ => Op::Read { offset: block * BLOCK, length: BLOCK },
        });
        let action = match c.op {
            Some(Op::Write { .. }) => Some(Action::Write { block: block as usize, value }),
            Some(Op::SetSize { .. }) => Some(Action::SetSize(block as usize)),
            _ => None,
        };
        if let (true, Some(action)) = (sizes, action) {
            c.step = self.steps.len();
            self.steps.push(Step { begin: self.now, end: NEVER, action });
        } else if let Some(Op::Write { .. }) = c.op {
            let op = Operation { begin: self.now, end: NEVER, value, write: true };
            self.history.entry(block).or_default().push(op);
        }
    }

    pub(super) fn client_op(&mut self, mut instance: Instance) {
        let gateway = instance.gateway;
        if !self.gateways[gateway].alive {
            return;
        }
        let owner_here = self.gateways[gateway].owner.is_some();
        if !owner_here {
            // Passed on to the owner, if metad knows one that lives; else this gateway takes the lease.
            let lease = self.metad.inode(self.file).expect("the file is never removed").lease;
            if self.owner_is_gone() {
                if !self.gateways[gateway].asking && !self.metad_down {
                    self.gateways[gateway].asking = true;
                    let boot = self.gateways[gateway].boot;
                    let grant = Grant {
                        file: self.file,
                        gateway: NodeId(gateway as u32 + 1),
                        boot,
                        expected: LeaseId::NONE,
                        replicas: vec![],
                    };
                    self.at(self.now + 2, Event::MetaArrives { gateway, boot, call: 0, op: CommandOp::Grant(grant) });
                }
            } else if let Some(other) = self.gateways.iter().position(|g| g.boot == lease.boot) {
                instance.gateway = other;
                self.at(self.now + 2, Event::ClientOp(Box::new(instance)));
            }
            return;
        }
        let Instance { client, serial, version, op, .. } = instance;
        let stamp = moves_its_address(client).then(|| Stamp { address: client.to_string(), version });
        let g = &mut self.gateways[gateway];
        let token = g.next_token;
        g.next_token += 1;
        g.waiting.insert(token, (client, serial, version));
        let instance = g.instance;
        self.feed(gateway, instance, Input::Op { token, op, stamp });
    }

    /// An owner acknowledges a write only while its configuration has as many members as the datastore's minimum.
    pub(super) fn acknowledged_with_enough(&mut self, gateway: usize, token: u64, outcome: &Outcome) {
        let g = &self.gateways[gateway];
        let (Some(owner), Some((client, serial, _))) = (&g.owner, g.waiting.get(&token)) else { return };
        let c = &self.clients[*client];
        let write = c.serial == *serial && matches!(c.op, Some(Op::Write { .. }));
        if !write || !matches!(outcome, Outcome::Written { .. }) {
            return;
        }
        let index = c.block * BLOCK / self.geometry.extent_bytes;
        let minimum = self.metad.datastores().first().map_or(0, |d| d.minimum() as usize);
        // The bytes of an extent that was cut off meanwhile are waited for no longer.
        let Some(members) = owner.configurations().find(|e| e.index == index).map(|e| e.replicas.len()) else { return };
        if members < minimum {
            let what = format!("gateway {} acknowledged a write of block {}", gateway + 1, c.block);
            self.report.violations.push(format!("{what} with {members} copies, {minimum} are wanted"));
        }
    }

    /// Whether metad would give the lease to another gateway now. Some suspicions are wrong.
    pub(super) fn owner_is_gone(&mut self) -> bool {
        let lease = self.metad.inode(self.file).expect("the file is never removed").lease;
        let live = self.gateways.iter().any(|g| g.boot == lease.boot && g.alive && g.owner.is_some());
        lease.boot == 0 || !live || self.rng.chance(if self.now < self.faults_end { 4 } else { 0 })
    }

    pub(super) fn client_done(&mut self, client: usize, serial: u64, outcome: Outcome) {
        if self.clients[client].serial != serial || self.clients[client].op.is_none() {
            return;
        }
        let (block, value, begin) =
            (self.clients[client].block, self.clients[client].value, self.clients[client].begin);
        self.trace(|| format!("client {client}: {}", answer_in_short(&outcome)));
        match outcome {
            Outcome::NotOwner | Outcome::Superseded => return,
            Outcome::Unreadable => self.report.unreadable += 1,
            // Asked again, as a person does who made room.
            Outcome::NoSpace if self.options.fills => {
                self.report.refused += 1;
                return;
            }
            Outcome::NoSpace => return self.report.violations.push("no disk is full".into()),
            Outcome::ReadOnly => return self.report.violations.push("no file is frozen".into()),
            Outcome::Stale => return self.report.violations.push("the file is called stale".into()),
            Outcome::Written { .. } if self.options.sizes => {
                let resized = matches!(self.clients[client].op, Some(Op::SetSize { .. }));
                self.report.size_changes += u64::from(resized);
                self.report.writes += u64::from(!resized);
                self.steps[self.clients[client].step].end = self.now;
            }
            Outcome::Written { .. } => {
                self.report.writes += 1;
                self.size_floor = self.size_floor.max((block + 1) * BLOCK);
                let history = self.history.entry(block).or_default();
                let op = history.iter_mut().rev().find(|o| o.write && o.value == value).expect("begun");
                op.end = self.now;
            }
            Outcome::Read { data, .. } => {
                self.report.reads += 1;
                let value = read_value(&data);
                let Ok(value) = value else {
                    return self.report.violations.push(format!("client {client} read a torn block {block}"));
                };
                if self.options.sizes {
                    let action = Action::Read { block: block as usize, value };
                    self.steps.push(Step { begin, end: self.now, action });
                } else {
                    let read = Operation { begin, end: self.now, value, write: false };
                    self.history.entry(block).or_default().push(read);
                }
            }
            Outcome::Attr(attr) if self.options.sizes => {
                let action = Action::Size((attr.size / BLOCK) as usize);
                self.steps.push(Step { begin, end: self.now, action });
            }
            Outcome::Attr(attr) => {
                if attr.size < value || attr.size > self.size_ceiling {
                    let ceiling = self.size_ceiling;
                    self.report
                        .violations
                        .push(format!("size {} after {value} was acknowledged, {ceiling} attempted", attr.size));
                }
            }
        }
        self.clients[client].op = None;
    }
}
