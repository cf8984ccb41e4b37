//! The owner that carries out an operation on a file: this gateway, another one, to which the operation is passed on, or
//! nobody yet, and metad is asked for the lease.
//!
//! The knowledge of other owners is a hint: they refuse what was meant for another lease. A grant makes an owner that seals
//! the file before it serves anything (`replication/owner`); a lease that a process does not remember is never resumed (R2).

use crate::ids::{FileId, LeaseId, NodeId};
use crate::messages::{Inode, Reply};
use crate::nfs::status;
use std::collections::{BTreeMap, BTreeSet};

/// An event about the owner of a file, from an operation, from metad or from an owner on this node.
#[derive(Debug)]
pub enum Input<'a> {
    /// An operation wants its file's owner. `avoided`: nodes that are reached over bad links only, as long as this one is
    /// not.
    Op {
        /// The file's number.
        file: FileId,
        /// Nodes to which no operation is passed on while the links of this node are better.
        avoided: &'a [NodeId],
    },
    /// The file's owner is wanted here without an operation: metad wants the file repaired.
    Take {
        /// The file's number.
        file: FileId,
    },
    /// metad answered a request for the lease.
    Granted {
        /// The file whose lease was asked for.
        file: FileId,
        /// metad's reply: the grant of the lease, or the status that says why there is none.
        reply: &'a Reply,
    },
    /// The request for the lease is given up.
    NotAsked {
        /// The file whose lease was asked for.
        file: FileId,
    },
    /// An operation that was passed on there under this lease was not carried out.
    NotThere {
        /// The file's number.
        file: FileId,
        /// The node that the operation was passed on to.
        node: NodeId,
        /// The lease that the operation named (rule R19).
        lease: LeaseId,
    },
    /// The owner here has ended, or says that it does not own the file any more.
    Ended {
        /// The file's number.
        file: FileId,
        /// The lease of the owner that ended; a newer one is not affected.
        lease: LeaseId,
    },
}

/// The way of one operation, or the step that has to come before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The owner here carries it out.
    Operate {
        /// The lease of the owner on this node.
        lease: LeaseId,
    },
    /// Another gateway owns the file, and the operation is forwarded to it.
    PassOn {
        /// The node of the owner.
        node: NodeId,
        /// The lease that the forwarded operation names; another owner refuses it (rule R19).
        lease: LeaseId,
    },
    /// metad is asked for the lease, once for all operations that wait for it: each grant makes a new owner, which seals
    /// the file once more.
    Acquire,
    /// metad has been asked; the operation looks again when it has answered.
    Wait,
    /// An owner is made of the grant; one of an older lease is forgotten.
    Start {
        /// The lease that metad granted.
        lease: LeaseId,
    },
    /// The operation looks again for an owner.
    Again,
    /// Likewise, after a moment.
    Later,
    /// There is no such file any more.
    Stale,
}

/// The owners of files as one gateway process knows them: its own, and a hint for each file of another gateway.
#[derive(Debug)]
pub struct Ownership {
    boot: u64,
    /// Lease of each file that is owned here.
    owned: BTreeMap<FileId, LeaseId>,
    /// Node and lease of the owners of other files, as last heard.
    elsewhere: BTreeMap<FileId, (NodeId, LeaseId)>,
    /// Files whose lease metad has been asked for.
    asked: BTreeSet<FileId>,
}

impl Ownership {
    /// Begins without any file: a process never continues the lease of one before it (rule R2).
    pub fn new(boot: u64) -> Self {
        Ownership { boot, owned: BTreeMap::new(), elsewhere: BTreeMap::new(), asked: BTreeSet::new() }
    }

    /// The lease of the file's owner on this node, if it is owned here.
    pub fn lease_of(&self, file: FileId) -> Option<LeaseId> {
        self.owned.get(&file).copied()
    }

    /// The node that a file's owner was last heard of at.
    pub fn hint(&self, file: FileId) -> Option<NodeId> {
        self.elsewhere.get(&file).map(|(node, _)| *node)
    }

    /// Takes in one event and appends at most one effect.
    pub fn handle(&mut self, input: &Input, out: &mut Vec<Effect>) {
        out.extend(match input {
            Input::Op { file, avoided } => Some(self.way(*file, avoided)),
            Input::Take { file } => Some(self.take(*file)),
            Input::Granted { file, reply } => Some(self.granted(*file, reply)),
            Input::NotAsked { file } => {
                self.asked.remove(file);
                None
            }
            Input::NotThere { file, node, lease } => {
                if self.elsewhere.get(file) == Some(&(*node, *lease)) {
                    self.elsewhere.remove(file);
                }
                None
            }
            Input::Ended { file, lease } => {
                if self.owned.get(file) == Some(lease) {
                    self.owned.remove(file);
                }
                None
            }
        });
    }

    fn way(&mut self, file: FileId, avoided: &[NodeId]) -> Effect {
        if let Some(lease) = self.owned.get(&file) {
            return Effect::Operate { lease: *lease };
        }
        match self.elsewhere.get(&file) {
            // metad gives the lease of a badly linked owner away.
            Some((node, lease)) if !avoided.contains(node) => Effect::PassOn { node: *node, lease: *lease },
            _ => self.take(file),
        }
    }

    fn take(&mut self, file: FileId) -> Effect {
        match self.owned.get(&file) {
            Some(lease) => Effect::Operate { lease: *lease },
            None if self.asked.insert(file) => Effect::Acquire,
            None => Effect::Wait,
        }
    }

    fn granted(&mut self, file: FileId, reply: &Reply) -> Effect {
        self.asked.remove(&file);
        match (reply.status, &reply.inode) {
            (status::OK, Some(inode)) => {
                let lease = inode.lease.number;
                // Two operations may have asked: the newer lease counts.
                if self.owned.get(&file).is_some_and(|known| *known >= lease) {
                    return Effect::Again;
                }
                self.owned.insert(file, lease);
                self.elsewhere.remove(&file);
                Effect::Start { lease }
            }
            // A lease that was given back has the boot of its last owner and no gateway.
            (status::JUKEBOX, Some(Inode { lease, .. }))
                if lease.boot != self.boot && lease.boot != 0 && lease.gateway != NodeId::NONE =>
            {
                self.elsewhere.insert(file, (lease.gateway, lease.number));
                Effect::Later
            }
            (status::JUKEBOX, _) => Effect::Later,
            _ => Effect::Stale,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{Lease, NfsStatus};

    const FILE: FileId = FileId(64);

    struct World(Ownership);

    impl World {
        fn new() -> World {
            World(Ownership::new(10))
        }
        fn input(&mut self, input: &Input) -> Vec<Effect> {
            let mut out = Vec::new();
            self.0.handle(input, &mut out);
            out
        }
        fn op(&mut self, avoided: &[NodeId]) -> Effect {
            self.input(&Input::Op { file: FILE, avoided })[0]
        }
        fn granted(&mut self, status: NfsStatus, gateway: u32, number: u64) -> Effect {
            let lease = Lease { gateway: NodeId(gateway), boot: u64::from(gateway) * 10, number: LeaseId(number) };
            let inode = Some(Inode { lease, ..Default::default() });
            self.input(&Input::Granted { file: FILE, reply: &Reply { status, inode, ..Default::default() } })[0]
        }
    }

    #[test]
    fn an_operation_goes_to_the_owner_that_is_known_and_else_to_metad() {
        let mut w = World::new();
        assert_eq!(w.op(&[]), Effect::Acquire);
        assert_eq!(w.op(&[]), Effect::Wait, "metad is asked once");
        assert_eq!(w.granted(status::JUKEBOX, 2, 5), Effect::Later);
        assert_eq!(w.op(&[]), Effect::PassOn { node: NodeId(2), lease: LeaseId(5) });
        assert_eq!(w.op(&[NodeId(2)]), Effect::Acquire, "metad gives the lease of a badly linked owner away");
        w.input(&Input::NotAsked { file: FILE });
        // A lease that was given back is nobody's.
        let back = Lease { gateway: NodeId::NONE, boot: 20, number: LeaseId(6) };
        let reply = |lease| Reply {
            status: status::JUKEBOX,
            inode: Some(Inode { lease, ..Default::default() }),
            ..Default::default()
        };
        assert_eq!(w.input(&Input::Granted { file: FILE, reply: &reply(back) }), [Effect::Later]);
        assert_eq!(w.op(&[]), Effect::PassOn { node: NodeId(2), lease: LeaseId(5) });
        // An older lease does not count.
        w.input(&Input::NotThere { file: FILE, node: NodeId(2), lease: LeaseId(4) });
        assert_eq!(w.op(&[]), Effect::PassOn { node: NodeId(2), lease: LeaseId(5) });
        w.input(&Input::NotThere { file: FILE, node: NodeId(2), lease: LeaseId(5) });
        assert_eq!(w.op(&[]), Effect::Acquire);
        // A repair asks no second time, and whatever was heard of another owner.
        assert_eq!(w.input(&Input::Take { file: FILE }), [Effect::Wait]);
        assert_eq!(w.granted(status::JUKEBOX, 2, 5), Effect::Later);
        assert_eq!(w.input(&Input::Take { file: FILE }), [Effect::Acquire]);
        assert_eq!(w.granted(status::OK, 1, 6), Effect::Start { lease: LeaseId(6) });
        assert_eq!(w.op(&[]), Effect::Operate { lease: LeaseId(6) });
        assert_eq!(w.input(&Input::Take { file: FILE }), [Effect::Operate { lease: LeaseId(6) }]);
    }

    #[test]
    fn of_two_grants_the_newer_one_counts_and_an_end_is_that_of_its_lease() {
        let mut w = World::new();
        assert_eq!(w.granted(status::OK, 1, 7), Effect::Start { lease: LeaseId(7) });
        assert_eq!(w.granted(status::OK, 1, 6), Effect::Again);
        assert_eq!(w.granted(status::OK, 1, 8), Effect::Start { lease: LeaseId(8) });
        w.input(&Input::Ended { file: FILE, lease: LeaseId(7) });
        assert_eq!(w.op(&[]), Effect::Operate { lease: LeaseId(8) });
        w.input(&Input::Ended { file: FILE, lease: LeaseId(8) });
        assert_eq!(w.op(&[]), Effect::Acquire);
        assert_eq!(w.granted(status::STALE, 1, 9), Effect::Stale);
        // The lease is this process's and it does not know of it: asked again, never resumed.
        assert_eq!(w.granted(status::JUKEBOX, 1, 9), Effect::Later);
        assert_eq!(w.op(&[]), Effect::Acquire);
    }
}
