//! Observers that reach the leader through followers.

use super::Follower;
use crate::api::Effect;
use trivet_formats::ServerId;

impl Follower<'_> {
    /// Through whom an observer calls its leader next: one follower after the other, or nobody where the leader votes alone.
    pub(super) fn follower_between(&self, leader: ServerId) -> Option<ServerId> {
        let cfg = &self.cx.cfg;
        if !cfg.observer_masters || !self.observes() {
            return None;
        }
        let followers: Vec<_> = cfg.voters().filter(|v| *v != leader && *v != cfg.id).collect();
        // Observers begin with different ones.
        let turn = self.cx.peers.links_dialled + cfg.id.0.unsigned_abs();
        turn.checked_rem(followers.len() as u64).map(|turn| followers[turn as usize])
    }

    /// Whether this server says that it observes. One that is in no list yet follows without a vote, to be let in by a
    /// reconfig.
    pub(super) fn observes(&self) -> bool {
        let cfg = &self.cx.cfg;
        cfg.members.get(&cfg.id).is_some_and(|m| m.observer) && !self.f.as_voter
    }

    /// A follower that serves takes observers, and passes them on.
    pub(super) fn pass_observers(&mut self) {
        if self.f.as_voter && self.cx.cfg.observer_masters {
            self.cx.out.push(Effect::PassObservers(Some(self.f.leader)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Input, Recovered};
    use crate::config::{Config, Member};
    use crate::role::Role;
    use crate::server::Server;
    use crate::tree::Tree;
    use crate::{LinkId, Millis, Now};
    use trivet_formats::jute::Jute;
    use trivet_formats::quorum::{kind, LearnerInfo, QuorumPacket, PROTOCOL_VERSION};

    /// Servers 1 to 3 vote, server 4 observes; all have the setting.
    fn server(id: i64, now: Now) -> Server {
        let members = (1..=4).map(|n| (ServerId(n), Member { observer: n == 4 })).collect();
        let cfg = Config { observer_masters: true, ..Config::new(ServerId(id), members) };
        let recovered = Recovered { tree: Tree::new(), log: Vec::new(), accepted_epoch: 0, current_epoch: 0 };
        let mut server = Server::new(cfg, recovered, now);
        server.start(now, &mut Vec::new());
        server
    }

    fn handle(server: &mut Server, mono_ms: Millis, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        server.handle(Now { mono_ms, wall_ms: 0 }, input, &mut effects);
        effects
    }

    #[test]
    fn an_observer_calls_one_follower_after_the_other_and_never_the_leader() {
        let mut observer = server(4, Now::default());
        observer.follow(ServerId(2));
        let mut called = Vec::new();
        let mut effects = handle(&mut observer, 0, Input::Timer);
        for n in 1..=4 {
            let dial = effects.iter().find_map(|e| match e {
                Effect::DialThrough { link, follower } => Some((*link, follower.0)),
                Effect::Dial { link, leader } => Some((*link, leader.0)),
                _ => None,
            });
            let (link, to) = dial.expect("it calls");
            called.push(to);
            let redial_ms = observer.cx.cfg.fast.redial_ms;
            handle(&mut observer, n * redial_ms, Input::LinkDown(link));
            effects = handle(&mut observer, (n + 1) * redial_ms, Input::Timer);
        }
        assert!(called == [1, 3, 1, 3] || called == [3, 1, 3, 1], "{called:?}");
    }

    #[test]
    fn a_follower_takes_observers_as_long_as_it_serves() {
        let mut follower = server(3, Now::default());
        follower.follow(ServerId(1));
        let Role::Following(f) = &follower.role else { panic!("it follows") };
        let link: LinkId = f.link.unwrap();
        let passes = |effects: &[Effect]| {
            let passed = effects.iter().filter_map(|e| match e {
                Effect::PassObservers(leader) => Some(leader.map(|id| id.0)),
                _ => None,
            });
            passed.collect::<Vec<_>>()
        };
        let (mut seq, mut seen) = (0, Vec::new());
        let info = LearnerInfo { server: 1, protocol: PROTOCOL_VERSION, config_version: 0 };
        let packets = [
            QuorumPacket::with(kind::LEADERINFO, 1 << 32, info.to_vec()),
            QuorumPacket::new(kind::DIFF, 0),
            QuorumPacket::new(kind::NEWLEADER, 1 << 32),
            QuorumPacket::new(kind::UPTODATE, 0),
        ];
        handle(&mut follower, 0, Input::LinkUp(link, None));
        for packet in packets {
            assert!(passes(&seen).is_empty(), "not before it serves");
            seen.extend(handle(&mut follower, 0, Input::Packets { link, packets: vec![packet] }));
            let written = seen.iter().filter_map(|e| if let Effect::Disk { seq, .. } = e { Some(*seq) } else { None });
            let newest = written.max().unwrap_or(0);
            if newest > seq {
                seq = newest;
                seen.extend(handle(&mut follower, 0, Input::Durable(seq)));
            }
        }
        assert_eq!(passes(&seen), [Some(1)]);
        let ended = handle(&mut follower, 1, Input::LinkDown(link));
        assert_eq!(passes(&ended), [None]);
    }
}
