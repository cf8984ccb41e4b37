//! Connections between servers: delay, loss, cuts, and what is on its way when they end.

use super::*;

impl World {
    pub(super) fn lost_percent(&self, from: usize, to: usize) -> u64 {
        self.loss[from].max(self.loss[to]).max(self.loss_towards[from][to])
    }
    pub(in super::super) fn schedule(&self) -> Option<&Schedule> {
        self.options.schedule.as_ref()
    }

    pub(super) fn delay(&mut self, a: usize, b: usize) -> u64 {
        // A lost segment is sent again after 200 ms, and again after 400, and so on.
        let loss = self.lost_percent(a, b).max(self.loss_towards[b][a]);
        let mut delay = self.rng.range(0, 3);
        let mut again = 200;
        while self.rng.chance(loss) && again < 4_000 {
            delay += again;
            again *= 2;
        }
        delay
    }

    pub(super) fn dial_arrives(&mut self, from: usize, to: usize, link: LinkId, life: u64) {
        let open = self.nodes[to].listening && self.cut[from][to] == 0 && self.cut[to][from] == 0;
        if self.nodes[from].life != life || !self.nodes[from].links.contains_key(&link) {
            return;
        }
        if !open {
            self.at(self.now + 2, Event::LinkDown { node: from, life, link });
            return;
        }
        let key = self.next_link;
        self.next_link += 1;
        let accepted = LinkId(key);
        let ends = [(from, life, link), (to, self.nodes[to].life, accepted)];
        self.links.insert(key, Link { ends, queues: Default::default(), ready_at: [0; 2], snapshot: [None, None] });
        self.nodes[from].links.insert(link, key);
        self.nodes[to].links.insert(accepted, key);
        self.feed(to, Input::LinkUp(accepted, None));
        // The dialler may be frozen, but it is not asked to do anything before it wakes.
        if !self.nodes[from].frozen {
            self.feed(from, Input::LinkUp(link, None));
        } else {
            self.close_link(to, accepted);
        }
    }

    pub(super) fn send(&mut self, node: usize, link: LinkId, bytes: Bytes) {
        let Some(key) = self.nodes[node].links.get(&link).copied() else { return };
        let Some(l) = self.links.get(&key) else { return };
        let end = usize::from(l.ends[0].0 != node);
        let other = l.ends[1 - end].0;
        let delay = self.delay(node, other);
        let at = {
            let l = self.links.get_mut(&key).expect("looked");
            let at = (self.now + delay).max(l.ready_at[end]);
            l.ready_at[end] = at;
            l.queues[end].push_back((at, bytes));
            at
        };
        if self.cut[node][other] == 0 {
            self.at(at, Event::Deliver { key, toward: other });
        }
    }

    /// A cut ended: messages that waited in the senders' kernels are delivered.
    pub(in super::super) fn release_held(&mut self, from: usize, to: usize) {
        if self.cut[from][to] > 0 {
            return;
        }
        let keys: Vec<_> = self
            .links
            .iter()
            .filter(|(_, l)| l.ends.iter().any(|e| e.0 == from) && l.ends.iter().any(|e| e.0 == to))
            .map(|(key, l)| (*key, l.queues[usize::from(l.ends[0].0 != from)].len()))
            .collect();
        let backoff = self.rng.range(1, 400);
        for (key, waiting) in keys {
            for _ in 0..waiting {
                self.at(self.now + backoff, Event::Deliver { key, toward: to });
            }
        }
    }

    pub(super) fn deliver(&mut self, key: u64, toward: usize) {
        let Some(l) = self.links.get_mut(&key) else { return };
        let end = usize::from(l.ends[0].0 == toward);
        let from = l.ends[end].0;
        if self.cut[from][toward] > 0 {
            return;
        }
        if l.queues[end].front().is_some_and(|(at, _)| *at > self.now) {
            let at = l.queues[end].front().expect("looked").0;
            return self.at(at, Event::Deliver { key, toward });
        }
        let Some((_, bytes)) = l.queues[end].pop_front() else { return };
        let (_, life, link) = l.ends[1 - end];
        let snapshot = l.snapshot[end].take();
        if self.nodes[toward].life != life || !self.nodes[toward].links.contains_key(&link) {
            return;
        }
        if let Some(mut parts) = snapshot {
            parts.extend_from_slice(&bytes);
            return self.part_arrives(key, toward, link, parts);
        }
        let packets = packets(&bytes);
        if packets.last().is_some_and(|p| p.kind == kind::SNAP) {
            self.links.get_mut(&key).expect("looked").snapshot[end] = Some(Vec::new());
        }
        self.feed(toward, Input::Packets { link, packets });
    }

    fn part_arrives(&mut self, key: u64, toward: usize, link: LinkId, parts: Vec<u8>) {
        let mut copied = snapshot::Copied::new(&parts[..], Vec::new());
        let mut tree = Tree::bare();
        match snapshot::read_stream(&mut copied, &mut tree) {
            Ok(()) => {
                let file = copied.finish(Default::default(), tree.last_zxid()).expect("memory takes it").1;
                self.feed(toward, Input::Snapshot { link, tree: Box::new(tree), image: Image::Bytes(file.into()) });
            }
            Err(e) => {
                assert_eq!(e.kind(), std::io::ErrorKind::UnexpectedEof, "what a server of ours sends is a snapshot");
                let l = self.links.get_mut(&key).expect("it delivered just now");
                let end = usize::from(l.ends[0].0 == toward);
                l.snapshot[end] = Some(parts);
                self.feed(toward, Input::SnapshotComes(link));
            }
        }
    }

    /// Closes an end of the connection after everything that was sent.
    pub(super) fn finish_link(&mut self, node: usize, link: LinkId) {
        let Some(key) = self.nodes[node].links.remove(&link) else { return };
        let Some(l) = self.links.get(&key) else { return };
        let end = usize::from(l.ends[0].0 != node);
        let (other, life, other_link) = l.ends[1 - end];
        let at = l.ready_at[end].max(self.now) + 1;
        if self.cut[node][other] == 0 {
            self.at(at, Event::LinkDown { node: other, life, link: other_link });
        }
    }

    /// Closes an end of the connection; the other end learns of it unless the network is cut.
    pub(super) fn close_link(&mut self, node: usize, link: LinkId) {
        let Some(key) = self.nodes[node].links.remove(&link).or_else(|| {
            self.links.iter().find(|(_, l)| l.ends.iter().any(|e| e.0 == node && e.2 == link)).map(|(k, _)| *k)
        }) else {
            return;
        };
        let Some(l) = self.links.remove(&key) else { return };
        let (other, life, other_link) = l.ends[usize::from(l.ends[0].0 == node && l.ends[0].2 == link)];
        if self.cut[node][other] == 0 {
            let delay = self.delay(node, other);
            self.at(self.now + delay, Event::LinkDown { node: other, life, link: other_link });
        }
    }
}
