//! Commands of an administrator: over the nodes' own connections, with the cluster's key.

pub mod snapshots;

use crate::config::NodeConfig;
use crate::rpc::Client;
use prost::Message;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use trivet_storage::gateway::asking::{heard, Heard};
use trivet_storage::messages::*;
pub use trivet_storage::messages::{
    AcceptLoss, ChangeDatastore, CopyState, Empty, LifeAction, LifeAnswer, LifeAsk, Networks, Refusal, SnapshotLine,
    VerifyAnswer, VerifyAsk,
};
use trivet_storage::metadata::{datastores, MemoryKv, State};
pub use trivet_storage::nfs::networks;
pub use trivet_storage::nfs::permissions::Permissions;
use trivet_storage::nfs::status;

/// Stands for a client's address in the record of calls that were carried out.
const ADMINISTRATOR: &str = "administrator";

/// Asks metad's LEADER. Errors when there is none within the limit.
async fn ask(config: &NodeConfig, ask: MetaAsk, limit: Duration) -> anyhow::Result<MetaAnswer> {
    let identity = Arc::new(config.identity()?);
    let clients: Vec<_> = config.metads().into_values().map(|a| Client::new(a, identity.clone())).collect();
    let body = MetaRequest { ask: Some(ask), by: crate::audit::who() }.encode_to_vec();
    let begun = Instant::now();
    while begun.elapsed() < limit {
        for client in &clients {
            let Ok(bytes) = client.ask(CallKind::Metad, &body, Duration::from_secs(2)).await else { continue };
            // A hint does not matter here: all are asked in turn.
            if let Heard::Answered(answer) = heard(NodeId::NONE, Some(MetaResponse::decode(bytes)?)) {
                return Ok(answer);
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!(
        "no metad answered as LEADER within {} s; `trivet status` tells which nodes are there",
        limit.as_secs()
    )
}

/// Hands a command to metad's LEADER.
pub async fn command(config: &NodeConfig, op: CommandOp, limit: Duration) -> anyhow::Result<Reply> {
    // An answer that is lost is asked for again; with an id, the command is not carried out, and judged, a second time.
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|e| anyhow::anyhow!("no random bytes: {e}"))?;
    let number = u128::from_le_bytes(id);
    let body = OpId { high: (number >> 64) as u64, low: number as u64 };
    let call = CallId { client: ADMINISTRATOR.into(), xid: 0, body };
    let command = Command { call: Some(call), stamp: None, op: Some(op) };
    match ask(config, MetaAsk::Command(command), limit).await? {
        MetaAnswer::Reply(reply) => Ok(reply),
        _ => anyhow::bail!("metad's answer does not match the question; are all nodes of one version?"),
    }
}

/// Asks metad's LEADER to judge what an administrator wants, to begin it, or how far it is.
pub async fn life(config: &NodeConfig, asked: LifeAsk, limit: Duration) -> anyhow::Result<LifeAnswer> {
    match ask(config, MetaAsk::Life(asked), limit).await? {
        MetaAnswer::Life(answer) => Ok(answer),
        _ => anyhow::bail!(
            "metad runs an older version of this program, which does not know this command: upgrade it first"
        ),
    }
}

/// Has the coordination server of a node ask for the leadership. Returns what it said.
///
/// # Errors
/// The node's metad does not answer, or runs a version that does not know the question.
pub async fn ask_for_the_lead(config: &NodeConfig, node: u32) -> anyhow::Result<String> {
    let address = config
        .metads()
        .remove(&NodeId(node))
        .ok_or_else(|| anyhow::anyhow!("node {node} has no coordination server"))?;
    let client = Client::new(address, Arc::new(config.identity()?));
    let body = MetaRequest { ask: Some(MetaAsk::Lead(Empty {})), by: crate::audit::who() }.encode_to_vec();
    match client.ask(CallKind::Metad, &body, Duration::from_secs(3)).await {
        Ok(bytes) => match MetaResponse::decode(bytes)?.answer {
            Some(MetaAnswer::Said(said)) => Ok(said),
            _ => anyhow::bail!("node {node} runs an older version of this program; upgrade it first"),
        },
        Err(_) => {
            anyhow::bail!("node {node} does not answer at {address}; `trivet status` tells which nodes are there")
        }
    }
}

/// Asks a node's chunk server to check copies, or how far that is. `None`: it does not answer.
pub async fn verify(
    config: &NodeConfig,
    address: std::net::SocketAddr,
    asked: VerifyAsk,
) -> anyhow::Result<Option<VerifyAnswer>> {
    let client = Client::new(address, Arc::new(config.identity()?));
    let answer = client.ask(CallKind::Verify, &asked.encode_to_vec(), Duration::from_secs(3)).await;
    Ok(answer.ok().and_then(|bytes| VerifyAnswer::decode(bytes).ok()))
}

/// The state of the metad that has the most entries of the journal. Every metad answers, so that a cluster without a LEADER can
/// be backed up, too.
///
/// # Errors
/// No metad answers.
pub async fn state(config: &NodeConfig, limit: Duration) -> anyhow::Result<Vec<Pair>> {
    let identity = Arc::new(config.identity()?);
    let body = MetaRequest { ask: Some(MetaAsk::Follow(0)), by: crate::audit::who() }.encode_to_vec();
    let mut newest: Option<(u64, Vec<Pair>)> = None;
    for address in config.metads().into_values() {
        let Ok(bytes) = Client::new(address, identity.clone()).ask(CallKind::Metad, &body, limit).await else {
            continue;
        };
        let Some(MetaAnswer::Journal(journal)) = MetaResponse::decode(bytes)?.answer else { continue };
        let load = journal.state.iter().map(|p| (p.key.clone(), p.value.clone()));
        let applied = State::new(MemoryKv::load(load)).applied();
        if !journal.state.is_empty() && newest.as_ref().is_none_or(|(n, _)| applied > *n) {
            newest = Some((applied, journal.state));
        }
    }
    let newest = newest.map(|(_, state)| state);
    newest.ok_or_else(|| anyhow::anyhow!("no metad answers; `trivet status` tells which nodes are there"))
}

/// The number of a file, by its path in a datastore.
///
/// # Errors
/// There is no such file.
pub async fn file_by_path(config: &NodeConfig, root: FileId, path: &str, limit: Duration) -> anyhow::Result<FileId> {
    let mut at = root;
    for name in path.split('/').filter(|n| !n.is_empty()) {
        let lookup = MetaAsk::Lookup(LookupAsk { dir: at, name: name.into() });
        let MetaAnswer::Reply(reply) = ask(config, lookup, limit).await? else {
            anyhow::bail!("metad's answer does not match the question; are all nodes of one version?")
        };
        at = match (reply.status, reply.attr) {
            (status::OK, Some(attr)) => attr.fileid,
            _ if path.trim_matches('/').ends_with(name) => anyhow::bail!("there is no {path} in the datastore"),
            _ => anyhow::bail!("there is no {path} in the datastore: its folder {name} is missing"),
        };
    }
    Ok(at)
}

/// Refuses a name that begins with a dot: `.snapshots` and what may follow it are the system's.
///
/// # Errors
/// The name begins with a dot.
pub fn refuse_leading_dot(name: &str) -> anyhow::Result<()> {
    anyhow::ensure!(
        !name.starts_with('.'),
        "\"{name}\" cannot be the name of a datastore: a name does not begin with a dot"
    );
    Ok(())
}

/// Creates a datastore with `copies` copies of each extent. `clients` are the networks that may mount it; none for
/// all.
///
/// # Errors
/// The name or an option is not allowed, the name is taken, or metad's LEADER did not answer within `limit`; in the
/// last case the datastore may exist all the same.
pub async fn create_datastore(
    config: &NodeConfig,
    name: &str,
    copies: u32,
    clients: Vec<String>,
    read_only: bool,
    permissions: Permissions,
    limit: Duration,
) -> anyhow::Result<()> {
    let permissions = permissions as u32;
    let datastore = Datastore { name: name.into(), copies, clients, read_only, permissions, ..Default::default() };
    datastores::check(&datastore)?;
    refuse_leading_dot(name)?;
    let op = CommandOp::CreateDatastore(datastore);
    match command(config, op, limit).await?.status {
        status::OK => Ok(()),
        status::EXIST => anyhow::bail!("there is a datastore {name} already"),
        status::INVAL => anyhow::bail!("metad refused the name, the copies or the networks of {name}"),
        code => anyhow::bail!("metad refused with status {code}"),
    }
}

/// Locks of NFS clients that are held, and requests that wait for one.
pub async fn locks(config: &NodeConfig, limit: Duration) -> anyhow::Result<(Vec<Granted>, Vec<Granted>)> {
    let list = LockCommand { what: LockUse::List, ..Default::default() };
    let reply = command(config, CommandOp::Lock(list), limit).await?;
    let locks = reply.lock.ok_or_else(|| anyhow::anyhow!("metad refused with status {}", reply.status))?;
    Ok((locks.granted, locks.waiting))
}

/// Takes all locks away from a client that will not come back to free them.
pub async fn release_locks(config: &NodeConfig, client: IpAddr, limit: Duration) -> anyhow::Result<()> {
    let owner = LockOwner { client: client.to_string(), ..Default::default() };
    let wanted = WaitingLock { lock: HeldLock { owner, ..Default::default() }, ..Default::default() };
    let free = LockCommand { what: LockUse::FreeAll, wanted, ..Default::default() };
    match command(config, CommandOp::Lock(free), limit).await?.status {
        status::OK => Ok(()),
        code => anyhow::bail!("metad refused with status {code}"),
    }
}

/// Deletes an empty datastore.
///
/// # Errors
/// There is none of this name, it holds files, or metad's LEADER did not answer within `limit`; in the last case it
/// may be deleted all the same.
pub async fn delete_datastore(config: &NodeConfig, name: &str, limit: Duration) -> anyhow::Result<()> {
    let op = CommandOp::DeleteDatastore(Datastore { name: name.into(), ..Default::default() });
    match command(config, op, limit).await?.status {
        status::OK => Ok(()),
        status::NOENT => anyhow::bail!("there is no datastore {name}"),
        status::NOTEMPTY => anyhow::bail!("{name} is not empty: remove what is in it first"),
        code => anyhow::bail!("metad refused with status {code}"),
    }
}
