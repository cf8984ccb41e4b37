//! Leading: take the epoch, replay, then append batches under its fence until somebody takes it away.

use super::follow::{catch_up, Trouble};
use super::{log_path, Leadership, Pending, Shared, COMMANDS_MAX, EPOCH, GATEWAY_SILENCE, LEADER_PING};
use crate::clock::wall_ns;
use crate::rpc::{Client, NoAnswer};
use crate::zk_client::ZkError;
use prost::Message;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use trivet_formats::client::err;
use trivet_storage::messages::*;

/// One entry holds at most so many commands and bytes (a znode takes 1 MiB).
const BATCH_COMMANDS: usize = 256;
const BATCH_BYTES: usize = 256 << 10;

/// A gateway answers a new LEADER within this,
const PRESUME_LIMIT: Duration = Duration::from_millis(250);
/// or is heard within this, or counts as gone.
const PRESUME_FOR: Duration = Duration::from_millis(700);
/// An address moves when its holder reaches fewer gateways than another one for so long.
const BEHIND_FOR: Duration = Duration::from_millis(1_000);

/// Takes the epoch node by its version and leads until the fence refuses an append; `why` not the last LEADER.
pub(super) async fn take_over(shared: &Arc<Shared>, why: String) -> Result<(), Trouble> {
    let zk = &shared.zk;
    let node = shared.settings.node;
    let (_, stat) = zk.get(EPOCH).await?;
    let taken = zk.set(EPOCH, node.to_string().as_bytes(), stat.version).await;
    let version = match taken {
        Ok(stat) => stat.version,
        // Another candidate was faster; it will be heard.
        Err(ZkError::Code(err::BAD_VERSION)) => {
            shared.leader.lock().expect("nobody panics with it").2 = Instant::now();
            return Ok(());
        }
        Err(e) => return Err(e.into()),
    };
    let epoch = version as u64;
    *shared.leader.lock().expect("nobody panics with it") = (node, epoch, Instant::now());
    // The others are told at once, or the next candidate takes the epoch meanwhile.
    let prepare = async {
        zk.sync(EPOCH).await?;
        catch_up(shared).await?;
        presume_gateways(shared).await;
        Ok::<(), Trouble>(())
    };
    tokio::select! {
        done = prepare => done?,
        reason = tell_followers(shared, epoch) => {
            tracing::info!(epoch, %reason, "metad took the epoch and does not lead");
            return Ok(());
        }
    }
    shared.events.record("metad", format!("LEADER of epoch {epoch}"), why.clone());
    tracing::info!(epoch, %why, "metad=leader");
    let (commands, queue) = mpsc::channel(COMMANDS_MAX);
    let (confirms, asked) = mpsc::unbounded_channel();
    *shared.leading.lock().expect("nobody panics with it") =
        Some(Leadership { epoch, since: Instant::now(), commands: commands.clone(), confirms });
    let lead = async {
        tokio::select! {
            end = append(shared, version, queue) => end,
            end = confirm(shared, version, asked) => end,
            end = tell_followers(shared, epoch) => end,
            end = assign_addresses(shared, epoch) => end,
            end = super::versions::finish_upgrade(shared) => end,
            end = super::life::end_rebalance(shared) => end,
            end = super::own_znodes::close(shared) => end,
        }
    };
    let reason = lead.await;
    *shared.leading.lock().expect("nobody panics with it") = None;
    shared.leader.lock().expect("nobody panics with it").2 = Instant::now();
    shared.events.record("metad", format!("no longer LEADER of epoch {epoch}"), reason.clone());
    tracing::info!(epoch, %reason, "metad=follower");
    Ok(())
}

/// Every gateway known counts as alive from now on, unless nobody listens at its address any more; one that does
/// not answer at all only for a moment.
async fn presume_gateways(shared: &Arc<Shared>) {
    let replicas = shared.state.read().expect("nobody panics with it").replicas();
    let connects = replicas.into_iter().filter_map(|r| {
        let address: SocketAddr = r.address.parse().ok()?;
        let there = Client::new(address, shared.identity.clone());
        Some(async move { (r, there.knock(PRESUME_LIMIT).await) })
    });
    for (r, answered) in futures_util::future::join_all(connects).await {
        let refused = answered == Err(NoAnswer::Refused);
        let heard = if answered.is_err() { Instant::now() - (GATEWAY_SILENCE - PRESUME_FOR) } else { Instant::now() };
        let mut gateways = shared.gateways.lock().expect("nobody panics with it");
        if refused {
            gateways.remove(&r.node);
        } else if let Some(g) = gateways.get_mut(&r.node) {
            g.heard = heard;
        } else {
            // Its process is not known yet: leases that name this node are presumed to be alive.
            let boot = shared
                .state
                .read()
                .expect("nobody panics with it")
                .files()
                .iter()
                .map(|i| i.lease.clone())
                .find(|l| l.gateway == r.node)
                .map_or(0, |l| l.boot);
            let info = GatewayInfo {
                node: r.node,
                boot,
                address: r.address.clone(),
                replica: Some(r.clone()),
                ..Default::default()
            };
            gateways.insert(r.node, super::Gateway { info, heard });
        }
    }
}

async fn append(shared: &Arc<Shared>, version: i32, mut queue: mpsc::Receiver<Pending>) -> String {
    let mut held: Option<Pending> = None;
    loop {
        let first = match held.take() {
            Some(p) => p,
            None => match queue.recv().await {
                Some(p) => p,
                None => return "nobody asks any more".into(),
            },
        };
        let mut bytes = first.command.encoded_len();
        let mut batch = vec![first];
        while batch.len() < BATCH_COMMANDS {
            let Ok(p) = queue.try_recv() else { break };
            bytes += p.command.encoded_len();
            if bytes > BATCH_BYTES {
                held = Some(p);
                break;
            }
            batch.push(p);
        }
        let version_to_write = shared.version_to_write();
        batch = super::versions::refuse_what_does_not_fit(version_to_write, batch);
        if batch.is_empty() {
            continue;
        }
        let number = shared.state.read().expect("nobody panics with it").applied() + 1;
        let entry = Entry {
            version: version_to_write,
            time_ns: wall_ns(),
            commands: batch.iter().map(|p| p.command.clone()).collect(),
            cluster: shared.identity.cluster.clone(),
        };
        if let Err(reason) = put(shared, version, number, &entry).await {
            // Whoever asked asks the next LEADER; replies are kept with what was carried out.
            return reason;
        }
        let replies = shared.apply(number, entry);
        for (pending, reply) in batch.into_iter().zip(replies) {
            let _ = pending.done.send(Some(reply));
        }
    }
}

/// Puts one entry into the log, whatever happens to the connection. An error ends the leadership.
async fn put(shared: &Arc<Shared>, version: i32, number: u64, entry: &Entry) -> Result<(), String> {
    let bytes = entry.encode_to_vec();
    let path = log_path(number);
    loop {
        match shared.zk.create_fenced(EPOCH, version, &path, &bytes).await {
            Ok(()) => return Ok(()),
            Err(ZkError::Lost) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(ZkError::Code(err::NODE_EXISTS)) => {
                // An attempt of ours that went through without an answer, or another LEADER's entry.
                match shared.zk.get(&path).await {
                    Ok((there, _)) if there[..] == bytes[..] => return Ok(()),
                    Ok(_) => return Err(format!("another LEADER wrote entry {number}")),
                    Err(ZkError::Lost) => {}
                    Err(e) => return Err(e.to_string()),
                }
            }
            Err(ZkError::Code(err::BAD_VERSION)) => return Err("another metad took the epoch".into()),
            Err(e) => return Err(format!("an append failed: {e}")),
        }
    }
}

/// One round of sync and a look at the epoch serves all reads that were made before it.
async fn confirm(
    shared: &Arc<Shared>,
    version: i32,
    mut asked: mpsc::UnboundedReceiver<oneshot::Sender<bool>>,
) -> String {
    let mut waiting = Vec::new();
    loop {
        if asked.recv_many(&mut waiting, 4_096).await == 0 {
            return "nobody asks any more".into();
        }
        loop {
            let look = async {
                shared.zk.sync(EPOCH).await?;
                shared.zk.get(EPOCH).await
            };
            match look.await {
                Ok((_, stat)) => {
                    let mine = stat.version == version;
                    for w in waiting.drain(..) {
                        let _ = w.send(mine);
                    }
                    if !mine {
                        return "another metad took the epoch".into();
                    }
                    break;
                }
                // Held, not failed: coordination will be back.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

async fn tell_followers(shared: &Arc<Shared>, epoch: u64) -> String {
    loop {
        let leaving = shared.leaving.load(std::sync::atomic::Ordering::Relaxed);
        let ping = LeaderPing { node: shared.settings.node, epoch, leaving };
        let body = MetaRequest { ask: Some(MetaAsk::Leader(ping)) }.encode_to_vec();
        for (node, peer) in &shared.peers {
            let (shared, node) = (shared.clone(), *node);
            peer.call(kind::METAD, &body, Box::new(move |answer| shared.hear_version(node, answer)));
        }
        let newer = {
            let mut leader = shared.leader.lock().expect("nobody panics with it");
            let newer = leader.1 > epoch;
            if !newer {
                leader.2 = Instant::now();
            }
            newer
        };
        if newer {
            return "a LEADER of a newer epoch was heard".into();
        }
        tokio::time::sleep(LEADER_PING).await;
    }
}

/// Why a gateway cannot serve an address, if it said so.
fn refusal<'a>(g: &'a GatewayInfo, address: &str) -> Option<&'a str> {
    if g.leaving {
        return Some("it is about to stop, or set aside");
    }
    g.unserved.iter().find(|u| u.address == address).map(|u| u.why.as_str())
}

/// How well an address is served by a gateway: at all, not over bad links only, reaching how many others.
fn fitness(g: &GatewayInfo, address: &str, badly_linked: bool, others: &[GatewayInfo]) -> (bool, bool, usize) {
    let serves = refusal(g, address).is_none();
    if badly_linked {
        (serves, false, 0)
    } else {
        (serves, true, reach(g, others))
    }
}

/// How many of these gateways a gateway reaches, by what it says and by what they say.
fn reach(of: &GatewayInfo, known: &[GatewayInfo]) -> usize {
    let reached = |g: &&GatewayInfo| !of.unreached.contains(&g.node) && !g.unreached.contains(&of.node);
    known.iter().filter(reached).count()
}

/// Each address is served by a gateway that is alive, that can, that reaches as many others as any, and not over bad links only.
async fn assign_addresses(shared: &Arc<Shared>, _epoch: u64) -> String {
    // Since when another one reaches more than the holder, by address.
    let mut behind: HashMap<String, Instant> = HashMap::new();
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let (alive, known): (Vec<GatewayInfo>, Vec<GatewayInfo>) = {
            let gateways = shared.gateways.lock().expect("nobody panics with it");
            let alive = gateways.values().filter(|g| g.heard.elapsed() < GATEWAY_SILENCE);
            (alive.map(|g| g.info.clone()).collect(), gateways.values().map(|g| g.info.clone()).collect())
        };
        let badly_linked = shared.badly_linked.lock().expect("nobody panics with it").clone();
        let bad = |g: &GatewayInfo| badly_linked.contains_key(&g.node);
        // Who reaches such a one at the moment, and who does not, is chance.
        let others: Vec<GatewayInfo> = known.iter().filter(|g| !bad(g)).cloned().collect();
        let bindings = shared.state.read().expect("nobody panics with it").bindings();
        let removed = |a: &&String| shared.state.read().expect("nobody panics with it").address_is_removed(a);
        for address in shared.settings.addresses.iter().filter(|a| !removed(a)) {
            let fit = |g: &GatewayInfo| fitness(g, address, bad(g), &others);
            let holder = bindings.iter().find(|b| b.address == *address);
            let holds =
                |g: &&GatewayInfo| holder.is_some_and(|b| g.node == b.gateway && (g.boot == b.boot || g.boot == 0));
            let there = alive.iter().find(holds);
            // A gateway that has only been presumed is not given anything new.
            let able = alive.iter().filter(|g| g.boot != 0 && g.pid != 0);
            let Some(next) = able.max_by_key(|g| (fit(g), g.node)) else { continue };
            let mut why = holder.map_or("nobody held it".into(), |h| format!("node {} is gone", h.gateway));
            if let Some(g) = there {
                if fit(g) >= fit(next) {
                    behind.remove(address);
                    continue;
                }
                let cannot = refusal(g, address).filter(|_| refusal(next, address).is_none());
                let fewer = !bad(g) && cannot.is_none();
                if fewer && behind.entry(address.clone()).or_insert_with(Instant::now).elapsed() < BEHIND_FOR {
                    continue;
                }
                let how = if fewer { "reaches fewer others" } else { "loses packets from or to every other node" };
                why = match cannot {
                    Some(reason) => format!("node {} cannot serve it: {reason}", g.node),
                    None => format!("node {} {how}", g.node),
                };
            }
            behind.remove(address);
            let op =
                CommandOp::Bind(Binding { address: address.clone(), gateway: next.node, boot: next.boot, version: 0 });
            let Some(leading) = shared.leadership() else { continue };
            if shared.submit(&leading, Command { call: None, stamp: None, op: Some(op) }).await.is_some() {
                shared.events.record("address", format!("{address} goes to node {}", next.node), why);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_goes_to_the_one_that_can_serve_it() {
        let told = Unserved { address: "10.0.10.70".into(), why: "no CAP_NET_ADMIN".into() };
        let cannot = GatewayInfo { node: 3, unserved: vec![told], ..Default::default() };
        let (can, known) = (GatewayInfo { node: 1, unreached: vec![2], ..Default::default() }, [cannot.clone()]);
        let fit = |g: &GatewayInfo, address: &str| fitness(g, address, false, &known);
        assert!(fit(&can, "10.0.10.70") > fit(&cannot, "10.0.10.70"));
        assert!(fit(&can, "10.0.10.71") == fit(&cannot, "10.0.10.71"));
        // Rather with bad links than not at all.
        assert!(fitness(&can, "10.0.10.70", true, &known) > fit(&cannot, "10.0.10.70"));
        assert_eq!(refusal(&cannot, "10.0.10.70"), Some("no CAP_NET_ADMIN"));
        let leaving = GatewayInfo { node: 2, leaving: true, ..Default::default() };
        assert!(fit(&can, "10.0.10.71") > fit(&leaving, "10.0.10.71"));
    }

    #[test]
    fn the_gateway_in_the_middle_reaches_more_than_those_at_the_ends() {
        let gateway =
            |node, unreached: &[u32]| GatewayInfo { node, unreached: unreached.to_vec(), ..Default::default() };
        // The link between 2 and 3 is cut, and only 3 has noticed.
        let known = [gateway(1, &[]), gateway(2, &[]), gateway(3, &[2])];
        assert_eq!(known.iter().map(|g| reach(g, &known)).collect::<Vec<_>>(), [3, 2, 2]);
        // 2 is dead: nobody is better off than the other.
        let known = [gateway(1, &[2]), gateway(2, &[]), gateway(3, &[2])];
        assert_eq!(reach(&known[0], &known), reach(&known[2], &known));
    }
}
