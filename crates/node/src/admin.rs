//! Commands of an administrator: over the nodes' own connections, with the cluster's key.

use crate::config::NodeConfig;
use crate::rpc::Client;
use prost::Message;
use std::sync::Arc;
use std::time::{Duration, Instant};
use trivet_storage::messages::*;
use trivet_storage::metadata::datastores;
use trivet_storage::nfs::status;

/// Hands a command to metad's LEADER. Errors when there is none within the limit.
pub async fn command(config: &NodeConfig, op: CommandOp, limit: Duration) -> anyhow::Result<Reply> {
    let identity = Arc::new(config.identity()?);
    let clients: Vec<_> = config.metads().into_values().map(|a| Client::new(a, identity.clone())).collect();
    let body =
        MetaRequest { ask: Some(MetaAsk::Command(Command { call: None, stamp: None, op: Some(op) })) }.encode_to_vec();
    let begun = Instant::now();
    while begun.elapsed() < limit {
        for client in &clients {
            let Ok(bytes) = client.ask(kind::METAD, &body, Duration::from_secs(2)).await else { continue };
            if let Some(MetaAnswer::Reply(reply)) = MetaResponse::decode(bytes)?.answer {
                return Ok(reply);
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!(
        "no metad answered as LEADER within {} s; `trivet status` tells which nodes are there",
        limit.as_secs()
    )
}

pub async fn create_datastore(
    config: &NodeConfig,
    name: &str,
    copies: u32,
    clients: Vec<String>,
    read_only: bool,
    limit: Duration,
) -> anyhow::Result<()> {
    let datastore = Datastore { name: name.into(), copies, clients, read_only, ..Default::default() };
    datastores::check(&datastore)?;
    let op = CommandOp::CreateDatastore(datastore);
    match command(config, op, limit).await?.status {
        status::OK => Ok(()),
        status::EXIST => anyhow::bail!("there is a datastore {name} already"),
        status::INVAL => anyhow::bail!("metad refused the name, the copies or the networks of {name}"),
        code => anyhow::bail!("metad refused with status {code}"),
    }
}

/// What an administrator changes of a datastore; `None` stays as it is.
#[derive(Debug, Default, PartialEq)]
pub struct Changes {
    /// Networks that may mount; an empty list is everybody.
    pub clients: Option<Vec<String>>,
    pub read_only: Option<bool>,
}

pub async fn change_datastore(
    config: &NodeConfig,
    name: &str,
    changes: Changes,
    limit: Duration,
) -> anyhow::Result<()> {
    trivet_storage::nfs::networks::check(changes.clients.as_deref().unwrap_or_default())?;
    let op = CommandOp::ChangeDatastore(ChangeDatastore {
        name: name.into(),
        clients: changes.clients.map(|all| Networks { all }),
        read_only: changes.read_only,
    });
    match command(config, op, limit).await?.status {
        status::OK => Ok(()),
        status::NOENT => anyhow::bail!("there is no datastore {name}"),
        status::INVAL => anyhow::bail!(
            "metad refused the change of {name}: either the networks are wrong, or a node runs an older version of this program"
        ),
        code => anyhow::bail!("metad refused with status {code}"),
    }
}

pub async fn delete_datastore(config: &NodeConfig, name: &str, limit: Duration) -> anyhow::Result<()> {
    let op = CommandOp::DeleteDatastore(Datastore { name: name.into(), ..Default::default() });
    match command(config, op, limit).await?.status {
        status::OK => Ok(()),
        status::NOENT => anyhow::bail!("there is no datastore {name}"),
        status::NOTEMPTY => anyhow::bail!("{name} is not empty: remove what is in it first"),
        code => anyhow::bail!("metad refused with status {code}"),
    }
}
