//! Messages to and from clients.

use super::*;

impl World {
    pub(super) fn client_turn(&mut self, client: usize) {
        if self.now > self.faults_end + SETTLE_MS - QUIET_MS {
            return;
        }
        let pause = if self.hands_over() { self.rng.range(20, 300) } else { self.rng.range(5, 120) };
        self.at(self.now + pause, Event::Client { client });
        let patience_ms = self.patience_ms();
        let in_order = self.hands_over();
        let c = &mut self.clients[client];
        match c.conn {
            None => {
                c.server = self.rng.index(self.options.servers);
                let short = !in_order && self.rng.chance(30);
                c.patience_ms = if short { self.rng.range(50, patience_ms) } else { patience_ms };
                let conn = self.next_conn;
                self.next_conn += 1;
                c.conn = Some(conn);
                c.since = self.now;
                let bytes = c.connect_request();
                let node = c.server;
                if self.nodes[node].server.is_none() {
                    return self.clients[client].disconnected();
                }
                self.nodes[node].conns.insert(conn, client);
                self.at(self.now + 1, Event::ToServer { client, conn, what: Said::Connect(bytes) });
            }
            // Sessions move during hand-overs.
            Some(conn) if in_order && c.connected() && self.rng.chance(1) => self.leaves(client, conn),
            Some(conn) if c.has_room() => {
                if c.nothing_open() {
                    c.since = self.now;
                }
                let requests = self.clients[client].next(&mut self.rng, &mut self.checker);
                for bytes in requests {
                    self.report.requests += 1;
                    self.at(self.now + 1, Event::ToServer { client, conn, what: Said::Request(bytes) });
                }
            }
            _ => {}
        }
        let c = &self.clients[client];
        let (node, waits) = (c.server, !c.nothing_open() || !c.connected());
        let Some(conn) = c.conn.filter(|_| waits && self.now > c.since + c.patience_ms) else { return };
        let patient = c.patience_ms == patience_ms;
        let waited_for = c.waits_for();
        self.trace(|| format!("client {client} leaves server {}: no answer to {waited_for}", node + 1));
        // (A server that still gets a snapshot serves later.)
        let serves = self.summary(node).is_some_and(|s| s.serving);
        let no_fault = self.well_since().is_some_and(|at| at < self.clients[client].since);
        if serves && patient && (no_fault || in_order) {
            self.violate(format!("client {client} got no answer to {waited_for} in {patience_ms} ms without a fault"));
        }
        self.leaves(client, conn);
    }

    /// A request waits for one sync that is under way and for its own, each of which takes up to half more; and for a
    /// hand-over that is given up after a second.
    fn patience_ms(&self) -> u64 {
        let hand_over_ms = if self.hands_over() { 2 * PATIENCE_MS } else { 0 };
        PATIENCE_MS + hand_over_ms + 3 * self.options.sync_ms
    }

    fn leaves(&mut self, client: usize, conn: u64) {
        let c = &mut self.clients[client];
        let node = c.server;
        c.disconnected();
        self.nodes[node].conns.remove(&conn);
        // The server hears of it later than the client's next server does, much later where packets are lost.
        let late = if self.rng.chance(20) { self.rng.range(500, 10_000) } else { self.rng.range(1, 500) };
        self.at(self.now + late, Event::ToServer { client, conn, what: Said::Close });
    }

    pub(super) fn to_server(&mut self, client: usize, conn: u64, what: Said) {
        let id = ConnId(conn);
        let node = self.clients[client].server;
        if matches!(what, Said::Close) {
            // The connection ended on the client's side; whichever server has it is told.
            for node in 0..self.nodes.len() {
                self.feed(node, Input::Client { conn: id, input: ClientInput::Closed });
            }
            return;
        }
        if self.clients[client].conn != Some(conn) {
            return;
        }
        if self.nodes[node].server.is_none() {
            return self.clients[client].disconnected();
        }
        match what {
            Said::Connect(bytes) => {
                self.nodes[node].conns.insert(conn, client);
                self.feed(
                    node,
                    Input::Client { conn: id, input: ClientInput::Connected { ip: "10.0.0.9".into(), port: 1 } },
                );
                self.feed(node, Input::Client { conn: id, input: ClientInput::Frame(bytes) });
            }
            Said::Request(bytes) => self.feed(node, Input::Client { conn: id, input: ClientInput::Frame(bytes) }),
            Said::Close => {}
        }
    }

    pub(super) fn server_says(&mut self, node: usize, conn: u64, bytes: Option<Vec<u8>>) {
        if let Some(client) = self.nodes[node].conns.get(&conn).copied() {
            let bytes = bytes.map(|b| Bytes::from(b).slice(4..));
            self.at(self.now + 1, Event::ToClient { client, conn, bytes });
        }
    }

    pub(super) fn to_client(&mut self, client: usize, conn: u64, bytes: Option<Bytes>) {
        let c = &mut self.clients[client];
        if c.conn != Some(conn) {
            return;
        }
        let Some(bytes) = bytes else {
            let (established, lost) = (c.connected(), c.open_count());
            c.disconnected();
            return self.connection_ended(client, established, lost);
        };
        c.since = self.now;
        if let Some(next) = c.heard(&bytes, &mut self.checker) {
            self.at(self.now + 1, Event::ToServer { client, conn, what: Said::Request(next) });
        }
    }

    /// The client's server ended its connection, or is gone.
    fn connection_ended(&mut self, client: usize, established: bool, lost: usize) {
        let node = self.clients[client].server;
        self.report.requests_lost += lost as u64;
        if self.hands_over() && established && self.nodes[node].server.is_some() && !self.was_away(node) {
            self.violate(format!(
                "server {} ended the connection of client {client} with {lost} requests open, and only leadership moved",
                node + 1
            ));
        }
    }
}
