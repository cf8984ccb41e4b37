//! Changes of a datastore: its name, copies, quota and networks.

use super::{Plan, View};
use crate::messages::*;
use crate::metadata::datastores;
use crate::metadata::kv::Kv;
use crate::metadata::State;
use crate::nfs::permissions::Permissions;

/// Bytes of a datastore's files. Those of its snapshots are the files' own, or of files that were there.
pub fn used<K: Kv>(state: &State<K>, datastore: DatastoreId) -> u64 {
    state.files().iter().filter(|i| i.attr.datastore == datastore && !i.frozen).map(|i| i.attr.size).sum()
}

pub(super) fn judge<K: Kv>(state: &State<K>, view: &View, change: &ChangeDatastore, plan: &mut Plan) {
    let name = &change.name;
    let Some(before) = state.datastores().into_iter().find(|d| d.name == *name) else {
        return plan.refuse(
            "unknown-datastore",
            format!("there is no datastore {name}"),
            "`trivet datastore list` names them",
        );
    };
    let mut after = before.clone();
    if let Some(networks) = &change.clients {
        after.clients.clone_from(&networks.all);
        plan.step(format!(
            "{name} may be mounted by {}",
            if networks.all.is_empty() { "everybody".into() } else { networks.all.join(", ") }
        ));
    }
    if let Some(read_only) = change.read_only {
        plan.step(format!("clients may {} {name}", if read_only { "only read" } else { "read and write" }));
    }
    if let Some(permissions) = change.permissions {
        after.permissions = permissions;
        plan.step(match Permissions::of(permissions) {
            Permissions::Trusted => format!("whoever may mount {name} may do everything in it"),
            Permissions::Checked => format!("mode bits count in {name}, and root is root"),
            Permissions::RootSquash => format!("mode bits count in {name}, and root is nobody"),
        });
    }
    if let Some(to) = change.rename.as_ref().filter(|to| *to != name) {
        after.name.clone_from(to);
        if state.datastores().iter().any(|d| d.name == *to) {
            plan.refuse("name-taken", format!("there is a datastore {to} already"), "choose another name");
        }
        plan.step(format!("/{name} is mounted as /{to} from now on; what has it mounted goes on"));
    }
    if let Some(copies) = change.copies {
        after.copies = copies;
        let servers = view.nodes.iter().filter(|n| n.alive && n.replica.is_some()).count();
        let aside = |n: &&NodeRecord| n.mode != NodeMode::Serving;
        let usable = servers.saturating_sub(state.nodes().iter().filter(aside).count());
        if copies as usize > usable && copies > before.copies {
            plan.refuse(
                "too-few-nodes",
                format!("{copies} copies of {name} need as many nodes in service, and there are {usable}"),
                "add nodes first, or end their maintenance",
            );
        }
        let verb = if copies > before.copies { "gets" } else { "keeps" };
        plan.step(format!("each extent of {name} {verb} {copies} copies, {} before", before.copies));
    }
    if let Some(minimum) = change.minimum_copies {
        plan.takes_version(state, MINIMUM_SINCE, "a minimum of copies");
        after.minimum_copies = minimum;
    }
    if change.copies.is_some() || change.minimum_copies.is_some() {
        let (minimum, copies) = (after.minimum(), after.copies);
        plan.step(format!("writes to {name} are acknowledged when {minimum} of {copies} copies are complete and have them, and wait where there are fewer"));
        if minimum == copies && copies > 1 {
            plan.step(format!("with that, writes to an extent of {name} wait whenever one of its nodes is away, until it is back or another copy is complete"));
        }
    }
    if let Some(quota) = change.quota_bytes {
        after.quota_bytes = quota;
        let used = used(state, before.id);
        if quota > 0 && quota < used {
            plan.refuse(
                "quota-below-use",
                format!("the files of {name} have {used} bytes, more than the quota of {quota}"),
                "remove files first, or choose a greater quota",
            );
        }
        plan.step(if quota == 0 {
            format!("{name} has no quota")
        } else {
            format!("the files of {name} have {quota} bytes at most")
        });
    }
    if let Err(e) = datastores::check(&after) {
        plan.refuse("wrong-value", e.to_string(), "give another value");
    }
    if plan.refusals.is_empty() {
        plan.commands.push(CommandOp::ChangeDatastore(change.clone()));
    }
}
