//! The state of the paths between nodes, by coordination's probes: nodes that are reached over lossy paths only.

use super::Shared;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use trivet_coordination::links::LinkState;
use trivet_storage::ids::NodeId;
use trivet_storage::metadata::leadership::Input;
use trivet_storage::metadata::placement;

/// Pause between two looks at the links.
const LOOK: Duration = Duration::from_millis(100);
/// Time with bad links only after which a node counts as badly linked, while other nodes have a good link.
const BAD_FOR: Duration = Duration::from_millis(1_000);

/// Keeps [`Shared::badly_linked`] current, whether this metad leads or not. Where coordination is not ours nobody
/// knows, and the list stays empty.
pub(super) async fn watch(shared: Arc<Shared>) {
    let Some(coordination) = &shared.coordination else { return };
    let mut since = BTreeMap::new();
    loop {
        let mut nodes: BTreeSet<NodeId> = shared.settings.metads.keys().copied().collect();
        nodes.extend(shared.gateways.lock().known().map(|g| g.info.node));
        let bad = without_good_links(&nodes, &coordination.summary().links);
        shared.set_badly_linked(for_long(bad, &mut since));
        tokio::time::sleep(LOOK).await;
    }
}

impl Shared {
    fn set_badly_linked(&self, nodes: BTreeMap<NodeId, Instant>) {
        let mut known = self.badly_linked.lock();
        if *known != nodes {
            self.input(Input::BadLinks(nodes.iter().map(|(node, at)| (*node, self.ms_of(*at))).collect()));
            self.placement(placement::Input::BadLinks(nodes.keys().copied().collect()));
            *known = nodes;
        }
    }
}

/// Nodes that reach the others over bad links only, while others have a good one. Packets get lost on the way to them:
/// all that they do takes long, though it does not fail.
fn without_good_links(nodes: &BTreeSet<NodeId>, links: &[LinkState]) -> Vec<NodeId> {
    let bad = |a: NodeId, b: NodeId| {
        links
            .iter()
            .any(|l| l.bad && [(a, b), (b, a)].map(|(a, b)| (a.0.into(), b.0.into())).contains(&(l.from.0, l.to.0)))
    };
    let linked = |a: &NodeId| nodes.iter().any(|b| a != b && !bad(*a, *b));
    if !nodes.iter().any(&linked) {
        return Vec::new();
    }
    nodes.iter().copied().filter(|n| !linked(n)).collect()
}

/// Which have been so for long enough, and since when they count; `since` is kept from call to call.
fn for_long(now: Vec<NodeId>, since: &mut BTreeMap<NodeId, Instant>) -> BTreeMap<NodeId, Instant> {
    since.retain(|node, _| now.contains(node));
    for node in now {
        since.entry(node).or_insert_with(Instant::now);
    }
    since.iter().filter(|(_, at)| at.elapsed() >= BAD_FOR).map(|(n, at)| (*n, *at + BAD_FOR)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_only_bad_links_is_told_from_those_at_their_other_ends() {
        let known = |nodes: &[u32]| nodes.iter().map(|n| NodeId(*n)).collect::<BTreeSet<_>>();
        let bad = |from: i64, to: i64| LinkState {
            from: trivet_formats::ServerId(from),
            to: trivet_formats::ServerId(to),
            bad: true,
            loss_percent: 30,
            silence_ms: 0,
            round_trip_ms: None,
            since_ms: None,
        };
        let all = known(&[1, 2, 3]);
        // A bad direction is enough for a link to be bad.
        assert_eq!(without_good_links(&all, &[bad(3, 1), bad(2, 3)]), [NodeId(3)]);
        assert!(without_good_links(&all, &[bad(3, 1), bad(1, 3)]).is_empty());
        // With two nodes nothing shows which of them is at fault; where all links are bad no node is better than another.
        assert!(without_good_links(&known(&[1, 3]), &[bad(3, 1), bad(3, 2)]).is_empty());
        assert!(without_good_links(&all, &[bad(3, 1), bad(2, 3), bad(1, 2)]).is_empty());
    }
}
