//! Versions of what is kept on disk and in metad's journal, and since when something is said there.

/// Version of the copies of extents and their journal; a newer one is refused.
pub const VERSION: u32 = 1;
/// Newest version of metad's journal entries and state that this program reads and writes; a newer one is refused.
///
/// 1: names, link targets and paths are UTF-8. 2: they are bytes, and file handles carry a tag. 3: a local address is bound by the
/// gateway that saw the binding before it only. 4: snapshots and clones. 5: an allocation from before a truncate is refused; a minimum of
/// copies for writes, and accepted losses. 6: nodes demand TLS between their coordination servers. 7: a copy that joins again keeps its
/// bytes, which its node's journal says. 8: starts of chunk servers are registered. A LEADER writes the newest
/// once an administrator has finalized the upgrade, which takes that every metad and gateway has said that it reads it (`LeaderPing`,
/// `GatewayInfo::journal_version`); how an entry is applied depends on the entry's version only, so that all metads come to the same state.
pub const JOURNAL_VERSION: u32 = 8;
/// A datastore's minimum of copies, and accepted losses, are written in metad's journal from this version on.
pub const MINIMUM_SINCE: u32 = 5;
/// Accepted losses are recorded in metad's journal from this version on.
pub const LOSSES_SINCE: u32 = 5;
/// Programs that read this version dial and accept TLS between coordination servers, so that a node demands it from then on.
pub const QUORUM_TLS_SINCE: u32 = 6;
/// Programs that read this version know that a joining copy may have kept its bytes; one before would replay that as an emptied copy.
pub const KEEPS_SINCE: u32 = 7;
/// From this version on starts of chunk servers are registered, and every program understands a member that waits for that.
pub const STARTS_SINCE: u32 = 8;
