//! `trivet datastore verify`: every node reads its copies, and says what it found.

use anyhow::{bail, Context};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use trivet_node::admin::{self, AcceptLoss, LifeAction, LifeAsk, VerifyAnswer, VerifyAsk};
use trivet_node::config::NodeConfig;
use trivet_node::status::NodeStatus;
use trivet_storage::ids::{ExtentId, FileId, NodeId};

/// Pause between two looks at how far it is.
const LOOK: Duration = Duration::from_secs(1);
/// A node that does not answer for this time is given up: its copies were not checked.
const SILENT: Duration = Duration::from_secs(20);
/// Time within which damage has to be repaired, or it is reported as permanent.
const REPAIR_LIMIT: Duration = Duration::from_secs(60);
/// Time within which metad's LEADER has to answer.
const LIMIT: Duration = Duration::from_secs(10);

pub struct Verify<'a> {
    pub config: &'a NodeConfig,
    /// The status of the node whose metad has the most entries.
    pub newest: &'a NodeStatus,
    pub json: bool,
}

impl Verify<'_> {
    pub async fn run(&self, datastore: &str, file: Option<&str>) -> anyhow::Result<()> {
        let on = self.extents_by_node(datastore, file).await?;
        let ask = |begin, extents: &BTreeSet<ExtentId>| VerifyAsk {
            begin,
            extents: extents.iter().copied().collect(),
            ..Default::default()
        };
        let began = Instant::now();
        let mut heard: BTreeMap<u32, (Instant, VerifyAnswer)> = BTreeMap::new();
        for (node, extents) in &on {
            if let Some(answer) = self.ask(*node, ask(true, extents)).await? {
                heard.insert(*node, (Instant::now(), answer));
            }
        }
        if let Some(node) = on.keys().find(|n| !heard.contains_key(n)) {
            bail!("node {node} does not answer, and its copies cannot be checked; nothing was changed");
        }
        loop {
            tokio::time::sleep(LOOK).await;
            for node in on.keys() {
                if let Some(answer) = self.ask(*node, VerifyAsk::default()).await? {
                    heard.insert(*node, (Instant::now(), answer));
                }
            }
            if let Some((node, _)) = heard.iter().find(|(_, (at, _))| at.elapsed() > SILENT) {
                bail!("node {node} stopped answering; what it has was not checked to the end");
            }
            self.tell("progress", &heard, began);
            if heard.values().all(|(_, a)| !a.running) {
                break;
            }
        }
        let bad: u64 = heard.values().map(|(_, a)| a.bad_blocks).sum();
        let repairing = Instant::now();
        while bad > 0 && repairing.elapsed() < REPAIR_LIMIT && heard.values().any(|(_, a)| a.unrepaired > 0) {
            tokio::time::sleep(LOOK).await;
            for node in on.keys() {
                if let Some(answer) = self.ask(*node, VerifyAsk::default()).await? {
                    heard.insert(*node, (Instant::now(), answer));
                }
            }
        }
        self.tell("done", &heard, began);
        let extents: BTreeSet<ExtentId> = heard.values().flat_map(|(_, a)| a.bad_extents.iter().copied()).collect();
        let unrepaired: u64 = heard.values().map(|(_, a)| a.unrepaired).sum();
        if unrepaired > 0 {
            bail!(
                "{unrepaired} damaged blocks are not repaired, of extents {extents:?}: no copy that can be read has them; \
                 writing the whole block heals it, and reads of it answer an error until then"
            );
        }
        if !self.json && bad > 0 {
            println!("{bad} damaged blocks, of extents {extents:?}, were repaired from other copies");
        }
        Ok(())
    }

    /// Asks chunk servers for their copies of the extents of a datastore or a file that have no complete copy in reach: for a person who has to
    /// choose.
    pub async fn what_there_is(&self, datastore: &str, file: Option<&str>, gone: &[u32]) -> anyhow::Result<AcceptLoss> {
        let file = self.file_number(datastore, file).await?.unwrap_or_default();
        let mut loss = AcceptLoss {
            datastore: datastore.into(),
            file,
            gone: gone.iter().map(|n| NodeId(*n)).collect(),
            ..Default::default()
        };
        // The LEADER knows which extents these are.
        let action = Some(LifeAction::AcceptLoss(loss.clone()));
        let first = LifeAsk { action, dry_run: true, ..Default::default() };
        loss.asked_extents = admin::life(self.config, first, LIMIT).await?.lost;
        for node in self.config.numbers() {
            let asked = VerifyAsk { list: true, extents: loss.asked_extents.clone(), ..Default::default() };
            if let Some(answer) = self.ask(node, asked).await?.filter(|a| a.listed) {
                loss.asked_nodes.push(NodeId(node));
                loss.copies.extend(answer.copies);
            }
        }
        Ok(loss)
    }

    async fn ask(&self, node: u32, asked: VerifyAsk) -> anyhow::Result<Option<VerifyAnswer>> {
        admin::verify(self.config, self.config.address(node, self.config.ports.data), asked).await
    }

    /// The number of a file that was named by its path or its number.
    async fn file_number(&self, datastore: &str, file: Option<&str>) -> anyhow::Result<Option<FileId>> {
        let export = self.newest.exports.iter().find(|e| e.name == datastore);
        let export =
            export.with_context(|| format!("there is no datastore {datastore}; `trivet datastore list` names them"))?;
        Ok(match file {
            None => None,
            Some(text) => Some(match text.parse::<u64>() {
                Ok(number) => FileId(number),
                Err(_) => admin::file_by_path(self.config, FileId(export.root), text, LIMIT).await?,
            }),
        })
    }

    /// The extents of which each node has a copy.
    async fn extents_by_node(
        &self,
        datastore: &str,
        file: Option<&str>,
    ) -> anyhow::Result<BTreeMap<u32, BTreeSet<ExtentId>>> {
        let number = self.file_number(datastore, file).await?;
        let mut on: BTreeMap<u32, BTreeSet<ExtentId>> = BTreeMap::new();
        let files = self.newest.files.iter().filter(|f| f.datastore == datastore);
        for f in files.filter(|f| number.is_none_or(|n| n.0 == f.file)) {
            for (eid, nodes) in &f.placement {
                for node in nodes {
                    on.entry(*node).or_default().insert(ExtentId(*eid));
                }
            }
        }
        match (on.is_empty(), file) {
            (true, Some(file)) => bail!("{file} is no file of {datastore} that has any bytes"),
            _ => Ok(on.into_iter().filter(|(n, _)| self.config.numbers().contains(n)).collect()),
        }
    }

    fn tell(&self, stage: &str, heard: &BTreeMap<u32, (Instant, VerifyAnswer)>, began: Instant) {
        let sum = |of: fn(&VerifyAnswer) -> u64| heard.values().map(|(_, a)| of(a)).sum::<u64>();
        let (done, all, bytes) = (sum(|a| a.extents_done), sum(|a| a.extents), sum(|a| a.bytes));
        let (bad, unrepaired) = (sum(|a| a.bad_blocks), sum(|a| a.unrepaired));
        if self.json {
            let line = serde_json::json!({
                "schema": "trivet.verify/1", "stage": stage, "copies": all, "copies_checked": done, "bytes": bytes,
                "bad_blocks": bad, "unrepaired": unrepaired,
            });
            return println!("{line}");
        }
        let mib = bytes as f64 / 1_048_576.0;
        let rate = mib / began.elapsed().as_secs_f64().max(0.1);
        println!("{done} of {all} copies checked, {mib:.0} MiB, {rate:.0} MiB/s, {bad} damaged blocks");
    }
}
