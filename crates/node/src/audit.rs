//! Orders of administrators to metad, for the audit log: who gave which, from where, and what became of it.
//!
//! Every holder of the cluster's key may give orders, so the name is as that program says of its user; the address is the
//! connection's.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;
use trivet_storage::messages::*;
use trivet_storage::nfs::permissions::Permissions;
use trivet_storage::nfs::status;

/// Characters of a user's name that are kept, because it comes from another program.
const BY_CHARS_MAX: usize = 100;

/// An order that was carried out or refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The user: an account of the console, or a user of a host.
    pub by: String,
    /// Address that it came from, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
    /// The order, as text.
    pub what: String,
    /// Its outcome, as text.
    pub outcome: String,
}

/// An order as one node's log has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logged {
    /// Milliseconds since 1970, by that node's clock.
    pub at_ms: i64,
    /// The node that judged and recorded it.
    pub node: u32,
    /// The order.
    #[serde(flatten)]
    pub order: Order,
}

/// The logs of all nodes that answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// Newest first.
    pub orders: Vec<Logged>,
    /// Nodes that did not answer: what they were told is not here.
    pub silent: Vec<u32>,
}

/// Where orders are written down.
pub type Audit = Arc<dyn Fn(Order) + Send + Sync>;

/// The author of orders on a command line: the user, the caller's name under sudo, and the host.
pub fn who() -> String {
    let behind_sudo = std::env::var("SUDO_USER").ok().filter(|user| !user.is_empty());
    let user = behind_sudo.unwrap_or_else(crate::coordination::audit::user_name);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    bounded(&format!("{user}@{}", host.trim()))
}

/// A name as the log keeps it: bounded, and without what would steer a terminal.
pub fn bounded(by: &str) -> String {
    by.chars().take(BY_CHARS_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The order of an administrator in words; `None` where nothing is to change.
pub fn ordered(ask: &MetaAsk) -> Option<String> {
    match ask {
        MetaAsk::Lead(_) => Some("this node's coordination server is to lead".into()),
        MetaAsk::Command(c) => match c.op.as_ref()? {
            CommandOp::CreateDatastore(d) => {
                let clients = if d.clients.is_empty() { "any client".into() } else { d.clients.join(", ") };
                let access = if d.read_only { ", read-only" } else { "" };
                Some(format!("create datastore {}: {} copies, for {clients}{access}", d.name, d.copies))
            }
            CommandOp::DeleteDatastore(d) => Some(format!("delete datastore {}", d.name)),
            CommandOp::TakeSnapshot(s) => Some(format!("take snapshot {} of datastore {}", s.name, s.datastore)),
            CommandOp::DeleteSnapshot(s) => Some(format!("delete snapshot {} of datastore {}", s.name, s.datastore)),
            CommandOp::Fork(f) => {
                Some(format!("clone file {} as {}", f.file, bounded(&String::from_utf8_lossy(&f.to.name))))
            }
            CommandOp::Lock(l) if l.what == LockUse::FreeAll => {
                Some(format!("release the locks of NFS client {}", l.wanted.lock.owner.client))
            }
            _ => None,
        },
        MetaAsk::Life(l) if !l.dry_run && !l.progress => Some(match l.action.as_ref()? {
            LifeAction::MaintenanceOn(n) => format!("maintenance of node {n}"),
            LifeAction::MaintenanceOff(n) => format!("end the maintenance of node {n}"),
            LifeAction::Drain(n) => format!("drain node {n}"),
            LifeAction::Undrain(n) => format!("end the drain of node {n}"),
            LifeAction::Remove(n) => format!("remove node {n}"),
            LifeAction::ReplaceDisk(n) => format!("replace the disk of node {n}"),
            LifeAction::ReplaceNode(n) => format!("replace node {n}"),
            LifeAction::Rebalance(_) => "even copies out".into(),
            LifeAction::RemoveAddress(a) => format!("remove datastore address {a}"),
            LifeAction::RestoreAddress(a) => format!("restore datastore address {a}"),
            LifeAction::Change(c) => format!("change datastore {}: {}", c.name, changes(c)),
            LifeAction::FinalizeUpgrade(_) => "finalize the upgrade".into(),
            LifeAction::AcceptLoss(a) => accepted(a, &l.confirmation),
        }),
        _ => None,
    }
}

fn accepted(a: &AcceptLoss, word: &str) -> String {
    let what = if a.file.is_none() { String::new() } else { format!("file {} of ", a.file) };
    let gone: Vec<String> = a.gone.iter().map(NodeId::to_string).collect();
    let gone = if gone.is_empty() { "none".into() } else { gone.join(", ") };
    let word = if word.is_empty() { "not confirmed".into() } else { format!("confirmed by {}", bounded(word)) };
    format!("accept the loss of extents of {what}datastore {}; nodes gone for good: {gone}; {word}", a.datastore)
}

fn changes(c: &ChangeDatastore) -> String {
    let clients = c.clients.as_ref().map(|n| format!("clients {}", n.all.join(" ")));
    let read_only = c.read_only.map(|r| format!("read-only {r}"));
    let rename = c.rename.as_ref().map(|n| format!("name {n}"));
    let copies = c.copies.map(|n| format!("copies {n}"));
    let quota = c.quota_bytes.map(|n| format!("quota {n} bytes"));
    let permissions = c.permissions.map(|p| format!("permissions {}", Permissions::of(p).name()));
    let minimum = c.minimum_copies.map(|n| format!("minimum of copies {n}"));
    let all = [rename, copies, minimum, clients, read_only, quota, permissions];
    all.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The outcome of an order; `None` where it was not judged here, and is given to another metad.
pub fn outcome(answer: &MetaAnswer) -> Option<String> {
    match answer {
        MetaAnswer::NotLeader(_) => None,
        MetaAnswer::Reply(r) if r.status == status::OK => Some("done".into()),
        MetaAnswer::Reply(r) => Some(format!("refused: {}", reason(r.status))),
        MetaAnswer::Life(l) => Some(match l.refusals.first() {
            Some(r) => format!("refused: {}", r.reason),
            None if l.begun => "begun".into(),
            None => "nothing was left to do".into(),
        }),
        MetaAnswer::Said(said) => Some(said.trim().into()),
        _ => Some("done".into()),
    }
}

fn reason(code: NfsStatus) -> String {
    match code {
        status::EXIST => "the name is taken".into(),
        status::NOENT => "there is none".into(),
        status::NOTEMPTY => "it is not empty".into(),
        status::INVAL => "metad does not take these values".into(),
        code => format!("status {code}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_nothing_is_no_order() {
        let drain = |dry_run, progress| LifeAsk {
            action: Some(LifeAction::Drain(NodeId(2))),
            dry_run,
            progress,
            ..Default::default()
        };
        assert_eq!(ordered(&MetaAsk::Life(drain(false, false))).as_deref(), Some("drain node 2"));
        assert_eq!(ordered(&MetaAsk::Life(drain(true, false))), None);
        assert_eq!(ordered(&MetaAsk::Life(drain(false, true))), None);
        let command = |op| MetaAsk::Command(Command { op: Some(op), ..Default::default() });
        let list = LockCommand { what: LockUse::List, ..Default::default() };
        assert_eq!(ordered(&command(CommandOp::Lock(list))), None);
        let made = Datastore { name: "ds2".into(), copies: 3, ..Default::default() };
        let text = ordered(&command(CommandOp::CreateDatastore(made))).unwrap();
        assert_eq!(text, "create datastore ds2: 3 copies, for any client");
        let squash = ChangeDatastore { name: "ds2".into(), permissions: Some(2), ..Default::default() };
        let change = LifeAsk { action: Some(LifeAction::Change(squash)), ..Default::default() };
        assert_eq!(ordered(&MetaAsk::Life(change)).unwrap(), "change datastore ds2: permissions root-squash");
        let loss = AcceptLoss { datastore: "ds2".into(), gone: vec![NodeId(2), NodeId(3)], ..Default::default() };
        let action = Some(LifeAction::AcceptLoss(loss));
        let loss = LifeAsk { action, confirmation: "lose-4-0".into(), ..Default::default() };
        assert_eq!(
            ordered(&MetaAsk::Life(loss)).unwrap(),
            "accept the loss of extents of datastore ds2; nodes gone for good: 2, 3; confirmed by lose-4-0"
        );
    }

    #[test]
    fn a_refusal_is_written_down_and_an_order_that_another_metad_judges_is_not() {
        assert_eq!(outcome(&MetaAnswer::NotLeader(NodeId(2))), None);
        let refused = MetaAnswer::Reply(Reply { status: status::NOTEMPTY, ..Default::default() });
        assert_eq!(outcome(&refused).unwrap(), "refused: it is not empty");
        let reason = Refusal { reason: "it has the last copy of 3 files".into(), ..Default::default() };
        let judged = LifeAnswer { refusals: vec![reason], ..Default::default() };
        assert_eq!(outcome(&MetaAnswer::Life(judged)).unwrap(), "refused: it has the last copy of 3 files");
        assert_eq!(outcome(&MetaAnswer::Life(LifeAnswer::default())).unwrap(), "nothing was left to do");
    }

    #[test]
    fn a_name_is_bounded_and_steers_no_terminal() {
        assert_eq!(bounded("ann\u{1b}[2J"), "ann\u{fffd}[2J");
        assert_eq!(bounded(&"x".repeat(1_000)).len(), BY_CHARS_MAX);
    }
}
