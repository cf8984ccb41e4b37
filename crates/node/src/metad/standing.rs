//! The LEADER as this metad sees it; the core judges it (`trivet_storage::metadata::candidacy`).

use super::Shared;
use trivet_storage::metadata::candidacy::View;

pub(super) fn view(shared: &Shared) -> View {
    let (node, _, heard_at) = *shared.leader.lock().expect("nobody panics with it");
    let badly_linked = shared.badly_linked.lock().expect("nobody panics with it");
    View {
        node,
        silent_ms: heard_at.elapsed().as_millis() as u64,
        lossy_ms: badly_linked.get(&node).map(|since| since.elapsed().as_millis() as u64),
        unfit: badly_linked.contains_key(&shared.settings.node),
    }
}
