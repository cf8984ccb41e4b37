//! Versions of metad's journal and state, and how a cluster goes from one to the next while its nodes are replaced one
//! after the other.
//!
//! A LEADER writes the version of its state until an administrator finalizes the upgrade, which is refused while a metad or gateway has
//! not said that it reads the newest version. Until then each node can go back to the version of the program before. The first entry of
//! a newer version is the point of no return: older metads refuse it and say so. File handles
//! without a tag are given out up to version 2; when every gateway has the first entry of version 2, the greatest file id is recorded, and from
//! then on untagged handles count for the files up to it only.

use super::kv::Kv;
use super::state::State;
use crate::messages::*;

/// Counter that holds the version of the newest entry applied.
const VERSION_COUNTER: &str = "journal-version";
/// Number of the first entry of version 2, or of the newest version since.
const SECOND_AT: &str = "journal-version-2-at";
/// Counter that holds the first file id for which handles without a tag are refused; absent while they are accepted for all.
const UNTAGGED_BELOW: &str = "untagged-below";

impl<K: Kv> State<K> {
    /// Version of the newest entry in this state; 1 for one that was written before there were others.
    pub fn journal_version(&self) -> u32 {
        (self.number(VERSION_COUNTER) as u32).max(1)
    }

    pub(super) fn note_version(&mut self, number: u64, version: u32) {
        if version <= self.journal_version() {
            return;
        }
        self.set_number(VERSION_COUNTER, version.into());
        self.set_number(SECOND_AT, number);
        if self.number("fileid") == 0 {
            // A new cluster: no handle without a tag was ever given out.
            self.tag_all_handles();
        }
    }

    pub(super) fn tag_all_handles(&mut self) -> Reply {
        if self.untagged_below().is_none() {
            self.set_number(UNTAGGED_BELOW, self.newest_fileid().next().0);
        }
        Reply::default()
    }

    /// Handles without a tag count for files with an id below this one; `None`: for all of them.
    pub fn untagged_below(&self) -> Option<FileId> {
        Some(FileId(self.number(UNTAGGED_BELOW))).filter(|file| !file.is_none())
    }

    /// Whether all gateways give out tagged handles only, and the journal does not say so yet.
    pub fn may_tag_all_handles(&self, heard: &[GatewayInfo]) -> bool {
        let since = self.number(SECOND_AT);
        let tags = |node: NodeId| heard.iter().any(|g| g.node == node && g.applied >= since);
        self.journal_version() >= 2
            && self.untagged_below().is_none()
            && heard.iter().all(|g| g.applied >= since)
            && self.replicas().iter().all(|r| tags(r.node))
    }

    /// Version in which a LEADER writes its next entry. `finalizing`: an administrator finalizes the upgrade, and every metad and
    /// gateway known reads the newest version.
    pub fn version_to_write(&self, finalizing: bool) -> u32 {
        if finalizing || self.applied() == 0 {
            JOURNAL_VERSION
        } else {
            self.journal_version()
        }
    }
}

/// Whether a command can be written in this version of the journal, so that a program that reads no newer one reads it
/// as it is meant.
pub fn fits(version: u32, op: Option<&CommandOp>) -> bool {
    let text = |name: &[u8]| std::str::from_utf8(name).is_ok();
    let since_4 = |op: &CommandOp| {
        matches!(
            op,
            CommandOp::Fork(_) | CommandOp::ForkStep(_) | CommandOp::TakeSnapshot(_) | CommandOp::DeleteSnapshot(_)
        )
    };
    let since = |op: &CommandOp| match op {
        CommandOp::LoseExtents(_) => LOSSES_SINCE,
        CommandOp::RegisterStart(_) | CommandOp::MarkReplica(_) => STARTS_SINCE,
        CommandOp::ChangeDatastore(c) if c.minimum_copies.is_some() => MINIMUM_SINCE,
        CommandOp::CreateDatastore(d) if d.minimum_copies != 0 => MINIMUM_SINCE,
        _ => 1,
    };
    if op.is_some_and(|op| version < 4 && since_4(op) || version < since(op)) {
        return false;
    }
    version >= 2
        || match op {
            Some(CommandOp::Make(m)) => text(&m.at.name) && text(&m.symlink),
            Some(CommandOp::Remove(r)) => text(&r.at.name),
            Some(CommandOp::Rename(r)) => text(&r.from.name) && text(&r.to.name),
            Some(CommandOp::Link(l)) => text(&l.to.name),
            Some(CommandOp::TagAllHandles(_) | CommandOp::ChangeDatastore(_)) => false,
            Some(
                CommandOp::SetNode(_) | CommandOp::SetRebalance(_) | CommandOp::SetAddress(_) | CommandOp::Lock(_),
            ) => false,
            Some(CommandOp::CreateDatastore(d)) => !d.read_only && d.quota_bytes == 0 && d.permissions == 0,
            _ => true,
        }
}

#[cfg(test)]
mod tests;
