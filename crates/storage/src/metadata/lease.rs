//! The right to the lease of a file: the LEADER's side of rules R1 to R4 of the replication protocol.
//!
//! A grant counts the lease up and names its holder; the journal decides it, conditional on the lease that the LEADER saw.
//! This decides only whether to ask the journal: while the owner lives, others pass their operations on to it.

use super::placement::{Orders, Placement};
use super::{Kv, State};
use crate::messages::*;
use crate::nfs::status;

/// The treatment of a command before the journal decides it.
#[derive(Debug, Clone, PartialEq)]
pub enum Prepared {
    /// The command goes into the journal.
    Submit,
    /// No chunk server can take a copy: the journal is asked after a moment, and says so.
    SubmitLater,
    /// This is the answer, if this metad proves to be the LEADER still.
    AnswerIfLeader(Reply),
    /// This is the answer, and the journal is not asked.
    Answer(Reply),
}

/// Fills in what the LEADER knows and the state does not: which gateways and chunk servers live.
pub fn prepare<K: Kv>(state: &State<K>, placement: &Placement, now_ms: u64, op: &mut CommandOp) -> Prepared {
    let say = |status| Reply { status, ..Default::default() };
    match op {
        // A lease that is given back names nobody.
        CommandOp::Grant(g) if !g.gateway.is_none() => {
            let Some(inode) = state.inode(g.file) else { return Prepared::AnswerIfLeader(say(status::STALE)) };
            if inode.attr.kind != FileKind::File {
                return Prepared::AnswerIfLeader(say(status::INVAL));
            }
            if !inode.forming.is_none() {
                // Its content is still to come.
                let reply = Reply { inode: Some(inode), ..say(status::JUKEBOX) };
                return Prepared::AnswerIfLeader(reply);
            }
            if !placement.may_take(now_ms, &inode.lease, g.gateway, g.boot) {
                // Its owner is there: the gateway passes on to it.
                let reply = Reply { inode: Some(inode), ..say(status::JUKEBOX) };
                return Prepared::AnswerIfLeader(reply);
            }
            g.expected = inode.lease.number;
            let (orders, copies) = (Orders::of(state, &[]), copies(state, inode.attr.datastore));
            g.replicas = placement.replicas(now_ms, &orders, g.gateway, copies, g.file.0);
            if g.replicas.is_empty() {
                return Prepared::Answer(say(status::JUKEBOX));
            }
            Prepared::Submit
        }
        CommandOp::Allocate(a) => {
            // Without replicas the journal's answer says that the file is gone.
            let Some(inode) = state.inode(a.file) else { return Prepared::Submit };
            let (copies, turn) = (copies(state, inode.attr.datastore), a.file.0.wrapping_add(a.index));
            a.replicas = placement.replicas(now_ms, &Orders::of(state, &[]), inode.lease.gateway, copies, turn);
            if a.replicas.is_empty() {
                Prepared::SubmitLater
            } else {
                Prepared::Submit
            }
        }
        // No epoch is 0: it changes nothing, and asks what is so.
        CommandOp::Propose(p) if p.epoch == ConfigEpoch::NONE && p.went_back.is_empty() && state.counts_starts() => {
            Prepared::AnswerIfLeader(state.configurations_for(p))
        }
        _ => Prepared::Submit,
    }
}

fn copies<K: Kv>(state: &State<K>, datastore: DatastoreId) -> usize {
    state.datastore_by_id(datastore).map_or(2, |d| d.copies) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_names_the_lease_that_the_leader_saw_and_living_chunk_servers() {
        use crate::metadata::placement::Input;
        use crate::metadata::MemoryKv;
        let (mut state, mut placement) = (State::new(MemoryKv::default()), Placement::default());
        let apply = |state: &mut State<MemoryKv>, op: CommandOp| {
            let commands = vec![Command { op: Some(op), ..Default::default() }];
            let entry = Entry { version: JOURNAL_VERSION, time_ns: 1, commands, cluster: "c".into() };
            state.apply(state.applied() + 1, &entry).remove(0)
        };
        apply(&mut state, CommandOp::CreateDatastore(Datastore { name: "ds".into(), copies: 2, ..Default::default() }));
        let at = Place { dir: FileId(64), name: "disk".into() };
        let made = apply(
            &mut state,
            CommandOp::Make(Make { at, kind: FileKind::File, how: CreateMode::Guarded, ..Default::default() }),
        );
        let file = made.attr.expect("made").fileid;
        let ask = |state: &State<MemoryKv>, placement: &Placement, node: u32| {
            let grant = Grant { file, gateway: NodeId(node), boot: u64::from(node) * 10, ..Default::default() };
            let mut op = CommandOp::Grant(grant);
            let prepared = prepare(state, placement, 1_000, &mut op);
            (prepared, op)
        };
        assert_eq!(
            ask(&state, &placement, 1).0,
            Prepared::Answer(Reply { status: status::JUKEBOX, ..Default::default() })
        );
        for node in [1u32, 2] {
            let replica = ReplicaRef { node: NodeId(node), id: vec![node as u8; 16], address: String::new() };
            let info = GatewayInfo {
                node: NodeId(node),
                boot: u64::from(node) * 10,
                replica: Some(replica),
                pid: 1,
                ..Default::default()
            };
            placement.handle(1_000, Input::Heartbeat { info, aside: false }, &mut Vec::new());
        }
        let (prepared, op) = ask(&state, &placement, 1);
        let CommandOp::Grant(grant) = &op else { panic!("{op:?}") };
        assert_eq!((prepared, grant.expected, grant.replicas.len()), (Prepared::Submit, LeaseId::NONE, 2));
        apply(&mut state, op);
        // The owner lives: who else asks is told of it.
        let (prepared, _) = ask(&state, &placement, 2);
        let Prepared::AnswerIfLeader(reply) = prepared else { panic!("{prepared:?}") };
        assert_eq!((reply.status, reply.inode.expect("told").lease.gateway), (status::JUKEBOX, NodeId(1)));
        let mut op = CommandOp::Allocate(Allocate { file, lease: LeaseId(1), index: 3, ..Default::default() });
        assert_eq!(prepare(&state, &placement, 9_000, &mut op), Prepared::SubmitLater);
    }
}
