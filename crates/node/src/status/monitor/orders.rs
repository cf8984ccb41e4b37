//! Orders of administrators: each node keeps those that were given to it, and any node shows those of all.

use super::{ask, Monitor};
use crate::audit::{Log, Logged};
use crate::rpc::Responder;
use crate::status::peers::{Answer, What, VERSION};
use bytes::Bytes;
use std::collections::BTreeSet;

/// Newest orders that one node reports, and that the page shows for all nodes; older ones stay in the files.
const ORDERS_MAX: usize = 500;

impl Monitor {
    /// Reads files, so a thread of its own answers.
    pub(super) fn answer_with_orders(&self, wall_ms: i64, responder: Responder) {
        let (history, node) = (self.history.clone(), self.sources.config.node);
        tokio::task::spawn_blocking(move || {
            let orders = history.orders(wall_ms, node, ORDERS_MAX);
            let json = Bytes::from(serde_json::to_vec(&orders).unwrap_or_default());
            responder.answer(&Answer { version: VERSION, wall_ms, age_ms: 0, json });
        });
    }

    /// Orders of administrators as all nodes that answer have them.
    pub async fn orders_of_all(&self) -> Log {
        let (history, own, now) = (self.history.clone(), self.sources.config.node, crate::clock::wall_ms());
        let here = tokio::task::spawn_blocking(move || history.orders(now, own, ORDERS_MAX));
        let asked = self.peers.iter().map(|(node, client)| async move {
            (*node, ask::<Vec<Logged>>(client, What::Orders).await.map(|(orders, ..)| orders))
        });
        let answers = futures_util::future::join_all(asked).await;
        let mut log = Log { orders: here.await.unwrap_or_default(), silent: Vec::new() };
        let mut heard: BTreeSet<u32> = [own].into();
        for (node, orders) in answers {
            if let Some(orders) = orders {
                heard.insert(node);
                log.orders.extend(orders);
            }
        }
        log.silent = self.sources.config.numbers().into_iter().filter(|n| !heard.contains(n)).collect();
        let key = |l: &Logged| (l.at_ms, l.node, l.order.what.clone(), l.order.by.clone());
        log.orders.sort_by_cached_key(|l| std::cmp::Reverse(key(l)));
        // A node whose roles are one process answers at both of its ports.
        log.orders.dedup();
        log.orders.truncate(ORDERS_MAX);
        log
    }
}
