//! Requests to coordination: which server takes them, what is lost on the way, and what is carried out all the same.

use super::*;

/// A session that was not heard for this long ends, with its nodes.
const SESSION_MS: u64 = 6_000;
/// A server that is cut off from the majority answers reads for this long.
const UNAWARE_MS: u64 = 800;

impl World {
    /// Whether this server is one of a majority.
    pub(super) fn serves(&self, server: usize) -> bool {
        let up = |n: usize| self.nodes[n].alive && self.nodes[n].frozen.is_none();
        let others = (0..NODES).filter(|n| *n != server && up(*n) && self.reaches_both_ways(server, *n)).count();
        !self.ensemble_down && up(server) && (others + 1) * 2 > NODES
    }

    fn usable(&self, node: usize, server: usize) -> bool {
        self.reaches_both_ways(node, server)
            && self.serves(server)
            && self.ensemble.applied(server) >= self.nodes[node].metad.seen
    }

    pub(super) fn ask_coordination(&mut self, node: usize, call: u64, ask: Ask) {
        let of = self.process(node);
        let epoch = self.nodes[node].metad.core().leads();
        if !self.ensemble.is_open(self.nodes[node].metad.session) {
            // The session is over; the next request has another one.
            self.nodes[node].metad.session = self.ensemble.new_session(self.now);
            self.after(1, Event::Changed { of });
            return self.after(1, Event::Answered { of, call, answer: Answer::Lost });
        }
        let server = self.nodes[node].metad.server;
        let (session, delay) = (self.nodes[node].metad.session, self.delay(node, server));
        if !self.passes(node, server) || !self.nodes[server].alive {
            return self.lost(of, call, server);
        }
        self.after(delay, Event::AskArrives { of, call, server, session, ask, epoch });
    }

    /// The connection breaks: at once if the server is down, later if it is silent. Then another server is tried.
    fn lost(&mut self, of: Process, call: u64, server: usize) {
        let at_once = !self.nodes[server].alive || self.rng.chance(50);
        let wait = if at_once { self.rng.range(2, 100) } else { self.rng.range(500, 2_500) };
        self.after(wait, Event::Answered { of, call, answer: Answer::Lost });
    }

    pub(super) fn ask_arrives(
        &mut self,
        of: Process,
        call: u64,
        server: usize,
        session: i64,
        ask: Ask,
        epoch: Option<u64>,
    ) {
        let reads = matches!(ask, Ask::Get { .. } | Ask::Children { .. } | Ask::Watch { .. });
        let unaware = self.now < self.with_majority[server] + UNAWARE_MS;
        let up = self.nodes[server].alive && self.nodes[server].frozen.is_none();
        let behind = self.ensemble.applied(server) < self.nodes[of.node].metad.seen;
        let takes = if reads { up && (self.serves(server) || unaware) && !behind } else { self.serves(server) };
        if !takes || self.breaks() && self.rng.chance(1) {
            // Whether the request was carried out is not known to its sender, and it may be, later.
            if !reads && self.rng.chance(40) {
                let late = self.rng.range(1, 3_000);
                self.after(late, Event::AskLate { session, ask, epoch });
            }
            return self.lost(of, call, server);
        }
        let answer = if reads {
            if let Ask::Watch { path } = &ask {
                self.nodes[of.node].metad.watch = Some((server, path.clone()));
            }
            self.ensemble.read(server, &ask)
        } else {
            let answer = self.commit(session, &ask, epoch);
            self.advance(server, usize::MAX);
            answer
        };
        let seen = self.ensemble.applied(server);
        if self.passes(server, of.node) && !(self.breaks() && self.rng.chance(1)) {
            if of == self.process(of.node) {
                let known = &mut self.nodes[of.node].metad.seen;
                *known = seen.max(*known);
            }
            let delay = self.delay(server, of.node);
            return self.after(delay, Event::Answered { of, call, answer });
        }
        self.lost(of, call, server);
    }

    /// A write is committed; the servers of the majority hear of it, some late.
    pub(super) fn commit(&mut self, session: i64, ask: &Ask, epoch: Option<u64>) -> Answer {
        if !(0..NODES).any(|s| self.serves(s)) || !self.ensemble.is_open(session) {
            return Answer::Lost;
        }
        let before = self.ensemble.epoch();
        let answer = self.ensemble.write(session, ask);
        match (ask, &answer) {
            (Ask::CreateFenced { path, .. }, Answer::Done) => self.appended(path.clone(), epoch, before),
            (Ask::SetEpoch { .. }, Answer::Data { .. }) => self.report.epochs += 1,
            _ => {}
        }
        let upto = self.ensemble.committed();
        for server in (0..NODES).filter(|s| self.serves(*s)).collect::<Vec<_>>() {
            let lags = self.rng.chance(3);
            let delay = self.rng.range(1, if lags { 1_500 } else { 15 });
            self.after(delay, Event::Advance { server, upto });
        }
        answer
    }

    pub(super) fn advance(&mut self, server: usize, upto: usize) {
        if !self.nodes[server].alive || self.nodes[server].frozen.is_some() {
            return;
        }
        self.ensemble.advance(server, upto);
        for node in 0..NODES {
            let fires = |w: &(usize, String)| w.0 == server && self.ensemble.exists(server, &w.1);
            if self.nodes[node].metad.watch.as_ref().is_some_and(fires) {
                self.nodes[node].metad.watch = None;
                let of = self.process(node);
                self.send(server, node, Event::Changed { of });
            }
        }
    }

    pub(super) fn coordination_answered(&mut self, node: usize, call: u64, answer: Answer) {
        if answer == Answer::Lost {
            let usable: Vec<usize> = (0..NODES).filter(|s| self.usable(node, *s)).collect();
            let any = self.rng.index(usable.len());
            let next = usable.contains(&node).then_some(node).or_else(|| usable.get(any).copied());
            self.nodes[node].metad.server = next.unwrap_or(node);
        }
        self.metad(node, metads::Input::Coordination { call, answer });
    }

    /// A session lasts while its client reaches a server; servers catch up, and know whether they have a majority.
    pub(super) fn look_at_sessions(&mut self) {
        self.after(400, Event::Sessions);
        for node in 0..NODES {
            if self.serves(node) {
                self.with_majority[node] = self.now;
                let upto = self.ensemble.committed();
                let lag = self.rng.range(1, 400);
                self.after(lag, Event::Advance { server: node, upto });
            }
            let runs = self.nodes[node].alive && self.nodes[node].frozen.is_none();
            if runs && (0..NODES).any(|s| self.reaches_both_ways(node, s) && self.serves(s)) {
                self.ensemble.hear(self.nodes[node].metad.session, self.now);
            }
        }
        if (0..NODES).any(|s| self.serves(s)) {
            let over = self.ensemble.expire(self.now.saturating_sub(SESSION_MS));
            self.report.sessions_expired += over as u64;
        }
    }
}
