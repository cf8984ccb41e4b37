//! Clients: one operation at a time, by one datastore address, sent again while there is no answer.

use super::*;

/// A client that has no answer sends the same call again, to a gateway that serves the address then.
const PATIENCE_MS: u64 = 700;
/// An address of a process that does not run is off its interface after this.
const VALID_MS: u64 = 4_000;

#[derive(Default)]
pub(super) struct Client {
    serial: u64,
    pub(super) op: Option<Op>,
    file: FileId,
    block: u64,
    value: u64,
    pub(super) begin: u64,
    sent_at: u64,
    /// The sending whose answer can arrive.
    connection: u64,
}

fn block_of(value: u64) -> Vec<u8> {
    let mut b = vec![0u8; BLOCK as usize];
    b.chunks_exact_mut(8).for_each(|c| c.copy_from_slice(&value.to_be_bytes()));
    b
}

fn value_of(data: &[u8]) -> Option<u64> {
    let mut words = data.chunks_exact(8).map(|c| u64::from_be_bytes(c.try_into().expect("8")));
    let first = words.next().unwrap_or(0);
    words.all(|w| w == first).then_some(first)
}

impl World {
    pub(super) fn client_turn(&mut self, client: usize) {
        let quiet = self.now > self.faults_end + SETTLE_MS - 10_000;
        if quiet && self.clients[client].op.is_none() {
            return;
        }
        let pause = self.rng.range(3, 80);
        self.after(pause, Event::Client { client });
        if self.clients[client].op.is_none() {
            self.new_operation(client);
        } else if self.now < self.clients[client].sent_at + PATIENCE_MS {
            return;
        }
        let address = ADDRESSES[client % ADDRESSES.len()];
        let there = |n: &usize| {
            let n = &self.nodes[*n];
            let runs = n.frozen.is_none_or(|since| self.now < since + VALID_MS);
            n.alive && runs && n.gateway.serving.contains_key(address)
        };
        // Where two gateways have an address, the one that answered ARP last gets the packets.
        let holders: Vec<usize> = (0..NODES).filter(there).collect();
        let any = self.rng.index(holders.len());
        let Some(node) = holders.get(any).copied() else { return };
        let version = self.nodes[node].gateway.serving[address];
        let c = &mut self.clients[client];
        c.sent_at = self.now;
        c.connection += 1;
        let stamp = Stamp { address: address.into(), version };
        let op = c.op.clone().expect("just begun, or still open");
        let (serial, connection, file) = (c.serial, c.connection, c.file);
        self.trace(|| format!("client {client} asks node {} over {version} of {address}: {}", node + 1, short(&op)));
        let instance = Box::new(Instance { client, serial, connection, file, stamp, op });
        self.after(1, Event::ClientOp { node, instance });
    }

    fn new_operation(&mut self, client: usize) {
        let (any, block, reads) = (self.rng.index(self.files.len()), self.rng.range(0, BLOCKS), self.rng.chance(50));
        let (file, value) = (self.files[any], self.next_value);
        let c = &mut self.clients[client];
        c.serial += 1;
        (c.file, c.block, c.begin) = (file, block, self.now);
        let offset = block * BLOCK;
        if reads {
            c.op = Some(Op::Read { offset, length: BLOCK });
            return;
        }
        self.next_value += 1;
        c.value = value;
        let id = OpId { high: client as u64 + 1, low: c.serial };
        c.op = Some(Op::Write { offset, data: block_of(value).into(), id });
        self.checks.begin_write((file, block), self.now, value);
    }

    pub(super) fn client_done(&mut self, client: usize, serial: u64, connection: u64, outcome: Outcome) {
        let c = &self.clients[client];
        if c.serial != serial || c.connection != connection || c.op.is_none() {
            return;
        }
        let (place, value, begin) = ((c.file, c.block), c.value, c.begin);
        match outcome {
            Outcome::NotOwner | Outcome::Superseded => return,
            Outcome::Written { .. } => {
                self.report.writes += 1;
                self.trace(|| format!("client {client}: {value} is written to {place:?}"));
                self.checks.end_write(place, self.now, value);
            }
            Outcome::Read { data, .. } => {
                self.report.reads += 1;
                let Some(value) = value_of(&data) else {
                    return self.violation(format!("client {client} read a torn block of {place:?}"));
                };
                self.trace(|| format!("client {client}: read {value} of {place:?}"));
                self.checks.read(place, begin, self.now, value);
            }
            other => return self.violation(format!("client {client} is answered {other:?}")),
        }
        self.clients[client].op = None;
    }
}

fn short(op: &Op) -> String {
    match op {
        Op::Write { offset, data, .. } => format!("write {:?} to block {}", value_of(data), offset / BLOCK),
        Op::Read { offset, .. } => format!("read block {}", offset / BLOCK),
        other => format!("{other:?}"),
    }
}
