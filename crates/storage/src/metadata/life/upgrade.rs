//! Whether an upgrade may be finalized: the point behind which no node can go back to the version of the program before.

use super::{Plan, View};
use crate::messages::{NodeId, NodeMode, JOURNAL_VERSION};
use crate::metadata::kv::Kv;
use crate::metadata::State;
use std::collections::BTreeSet;

/// The part of a node that reads metad's journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// metad, which writes the journal and replays it.
    Metad,
    /// The gateway, which keeps a copy of the state.
    Gateway,
}

/// The newest version of metad's journal that a part of a node has said it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reader {
    /// Number of the node.
    pub node: NodeId,
    /// The part of it that reads the journal.
    pub part: Part,
    /// 0: it was not heard since the LEADER began to lead.
    pub version: u32,
}

/// Whether every node that was not removed reads the newest version.
pub fn all_read_the_newest<K: Kv>(state: &State<K>, readers: &[Reader]) -> bool {
    behind(state, readers, |_| true).is_empty()
}

/// Nodes with a part that does not read the newest version, and reads one that is `wanted`.
fn behind<K: Kv>(state: &State<K>, readers: &[Reader], wanted: fn(u32) -> bool) -> BTreeSet<NodeId> {
    let here = |r: &&Reader| r.version < JOURNAL_VERSION && state.node(r.node).mode != NodeMode::Removed;
    readers.iter().filter(here).filter(|r| wanted(r.version)).map(|r| r.node).collect()
}

pub(super) fn judge<K: Kv>(state: &State<K>, view: &View, plan: &mut Plan) {
    let version = state.journal_version();
    if version >= JOURNAL_VERSION {
        return;
    }
    for node in behind(state, &view.readers, |v| v == 0) {
        let reason = format!("node {node} was not heard: which version it runs is not known");
        plan.refuse("not-heard", reason, format!("start it; `trivet node remove {node}` if it never comes back"));
    }
    for node in behind(state, &view.readers, |v| v != 0) {
        let reason = format!("node {node} runs the version of the program before");
        plan.refuse("not-upgraded", reason, format!("upgrade node {node}"));
    }
    plan.step(format!("metad's journal is written in version {JOURNAL_VERSION} instead of {version}"));
    plan.step("from then on no node can go back to the version of the program before");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{Empty, Entry, LifeAction};
    use crate::metadata::life::{judge, progress};
    use crate::metadata::MemoryKv;

    #[test]
    fn an_upgrade_is_finalized_when_every_part_of_every_node_reads_the_new_version() {
        let mut s = State::new(MemoryKv::default());
        let entry = |version| Entry { version, cluster: "c".into(), ..Default::default() };
        s.apply(1, &entry(2));
        let finalize = LifeAction::FinalizeUpgrade(Empty {});
        let reader = |node, part, version| Reader { node: NodeId(node), part, version };
        let mut view = View {
            readers: vec![
                reader(2, Part::Metad, JOURNAL_VERSION),
                reader(3, Part::Metad, 2),
                reader(2, Part::Gateway, 0),
                reader(3, Part::Gateway, JOURNAL_VERSION),
            ],
            ..Default::default()
        };
        let plan = judge(&s, &view, &finalize);
        let codes: Vec<&str> = plan.refusals.iter().map(|r| r.code.as_str()).collect();
        assert_eq!(codes, ["not-heard", "not-upgraded"]);
        assert!(plan.refusals[1].reason.contains("node 3"), "{:?}", plan.refusals);
        view.readers.iter_mut().for_each(|r| r.version = JOURNAL_VERSION);
        let plan = judge(&s, &view, &finalize);
        assert!(plan.refusals.is_empty() && plan.commands.is_empty() && plan.steps.len() == 2, "{plan:?}");
        assert!(!progress(&s, &view, &finalize).done);
        s.apply(2, &entry(JOURNAL_VERSION));
        assert!(progress(&s, &view, &finalize).done && judge(&s, &view, &finalize).steps.is_empty());
    }
}
