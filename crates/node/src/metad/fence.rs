//! Interface for the LEADER's other tasks: whether this node leads, and writes that only the LEADER can make.

use super::Metad;
use crate::zk_client::ZkError;
use bytes::Bytes;
use prost::Message;
use std::time::Duration;
use trivet_formats::client::err;
use trivet_storage::messages::{CallKind, ClientsClosed, CloseClients, NodeId};
use trivet_storage::metadata::leadership::EPOCH;

/// A write whose answer was lost is asked about again after this.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Time within which a gateway has to answer an order to close connections.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// The fence refused a write, or could not be asked in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotLeader;

/// The side that serves datastores, as the LEADER knows it.
pub(crate) struct Serving {
    /// Each datastore address, and whether a living gateway holds it.
    pub addresses: Vec<(String, bool)>,
    pub datastores: Vec<String>,
    /// Changes whenever an address or a gateway does.
    pub mark: String,
}

impl Metad {
    /// The epoch under which this node leads.
    pub(crate) fn leads(&self) -> Option<u64> {
        self.shared.leadership().map(|l| l.epoch)
    }

    /// The epoch of metad's LEADER as this node heard it last; 0: it heard none.
    pub(crate) fn epoch_heard(&self) -> u64 {
        self.shared.leader.lock().1
    }

    /// Whether coordination's quorum says so, too, after this was asked.
    pub(crate) async fn leads_confirmed(&self, epoch: u64) -> bool {
        match self.shared.leadership() {
            Some(l) if l.epoch == epoch => self.shared.confirmed(&l).await,
            _ => false,
        }
    }

    /// A node's data as of now. `None`: there is no such node.
    pub(crate) async fn read_current(&self, path: &str) -> Result<Option<Bytes>, ZkError> {
        self.shared.zk.sync(path).await?;
        match self.shared.zk.get(path).await {
            Ok((data, _)) => Ok(Some(data)),
            Err(ZkError::Code(err::NO_NODE)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Writes a node under the fence of `epoch`; repeats itself until it is done or another node leads.
    pub(crate) async fn write_fenced(&self, epoch: u64, path: &str, data: &[u8]) -> Result<(), NotLeader> {
        let zk = &self.shared.zk;
        let version = i32::try_from(epoch).map_err(|_| NotLeader)?;
        while self.leads() == Some(epoch) {
            match zk.set_fenced(EPOCH, version, path, data).await {
                Ok(()) => return Ok(()),
                Err(ZkError::Code(err::NO_NODE)) => match zk.create_fenced(EPOCH, version, path, data).await {
                    Ok(()) => return Ok(()),
                    Err(ZkError::Code(err::BAD_VERSION)) => return Err(NotLeader),
                    Err(_) => {}
                },
                Err(ZkError::Code(err::BAD_VERSION)) => return Err(NotLeader),
                Err(_) => {}
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        Err(NotLeader)
    }

    /// Has the gateway that serves a datastore address close the connections of a host.
    ///
    /// # Errors
    /// No living gateway serves the address, or it does not answer.
    pub(crate) async fn close_clients(&self, address: &str, clients: Vec<String>) -> Result<u32, String> {
        let bindings = self.shared.state.read().bindings();
        let binding = bindings.iter().find(|b| b.address == address);
        let holder =
            self.shared.alive().into_iter().find(|g| binding.is_some_and(|b| (b.gateway, b.boot) == (g.node, g.boot)));
        let holder = holder.ok_or_else(|| format!("no node serves {address} now"))?;
        let at = holder.address.parse().map_err(|_| format!("node {} has no address", holder.node))?;
        let order = CloseClients { address: address.into(), clients }.encode_to_vec();
        let client = crate::rpc::Client::new(at, self.shared.identity.clone());
        let answer = client.ask(CallKind::CloseClients, &order, CLOSE_LIMIT).await;
        let closed = answer.ok().and_then(|bytes| ClientsClosed::decode(bytes).ok());
        closed.map(|c| c.connections).ok_or_else(|| format!("node {} does not answer", holder.node))
    }

    /// The nodes whose gateways send heartbeats.
    pub(crate) fn alive_gateways(&self) -> std::collections::BTreeSet<u32> {
        self.shared.alive().iter().map(|g| g.node.0).collect()
    }

    pub(crate) fn serving(&self) -> Serving {
        let alive: Vec<(NodeId, u64)> = self.shared.alive().iter().map(|g| (g.node, g.boot)).collect();
        let s = self.shared.state.read();
        let bindings = s.bindings();
        let addresses = bindings.iter().map(|b| (b.address.clone(), alive.contains(&(b.gateway, b.boot)))).collect();
        let places: Vec<_> = bindings.iter().map(|b| (&b.address, b.gateway, b.boot, b.version)).collect();
        let mark = format!("{places:?} {alive:?}");
        Serving { addresses, datastores: s.datastores().into_iter().map(|d| d.name).collect(), mark }
    }
}
