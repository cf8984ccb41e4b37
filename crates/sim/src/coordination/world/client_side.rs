//! What clients say and hear.

use super::*;

impl World {
    pub(super) fn client_turn(&mut self, client: usize) {
        if self.now > self.faults_end + SETTLE_MS - QUIET_MS {
            return;
        }
        let pause = self.rng.range(5, 120);
        self.at(self.now + pause, Event::Client { client });
        // A request waits for one sync that is under way and for its own, each of which takes up to half more.
        let patience_ms = PATIENCE_MS + 3 * self.options.sync_ms;
        let c = &mut self.clients[client];
        match c.conn {
            None => {
                c.server = self.rng.index(self.options.servers);
                c.patience_ms = if self.rng.chance(30) { self.rng.range(50, patience_ms) } else { patience_ms };
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
            Some(conn) if c.idle() => {
                c.since = self.now;
                let bytes = self.clients[client].next(&mut self.rng, &mut self.checker);
                self.at(self.now + 1, Event::ToServer { client, conn, what: Said::Request(bytes) });
            }
            Some(conn) if self.now > c.since + c.patience_ms => {
                let node = c.server;
                let patient = c.patience_ms == patience_ms;
                let waited_for = c.waits_for();
                self.trace(|| format!("client {client} leaves server {}: no answer to {waited_for}", node + 1));
                // (A server that still gets a snapshot serves later.)
                let serves = self.summary(node).is_some_and(|s| s.serving);
                if serves && patient && self.well_since().is_some_and(|at| at < self.clients[client].since) {
                    self.violate(format!(
                        "client {client} got no answer to {waited_for} in {patience_ms} ms without a fault"
                    ));
                }
                let c = &mut self.clients[client];
                c.disconnected();
                self.nodes[node].conns.remove(&conn);
                // The server hears of it later than the client's next server does, much later where packets are lost.
                let late = if self.rng.chance(20) { self.rng.range(500, 10_000) } else { self.rng.range(1, 500) };
                self.at(self.now + late, Event::ToServer { client, conn, what: Said::Close });
            }
            Some(_) => {}
        }
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
        let Some(bytes) = bytes else { return c.disconnected() };
        if let Some(next) = c.heard(&bytes, &mut self.checker) {
            c.since = self.now;
            self.at(self.now + 1, Event::ToServer { client, conn, what: Said::Request(next) });
        }
    }
}
