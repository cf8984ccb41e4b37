//! All sessions watch a znode and another one writes it: the time until the last session has its notification.

use super::session::{request, Session};
use super::{micros, percentiles, Args};
use anyhow::bail;
use bytes::Bytes;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use trivet_formats::client::{err, op, xid, PathWatch, ReplyHeader, SetDataRequest};
use trivet_formats::{Jute, Reader};

const NODE: &str = "/watched";
const SESSION_MS: i32 = 20_000;

pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let mut writer = Session::open(args.hosts[0], SESSION_MS).await?;
    writer.make(NODE, Bytes::new()).await?;
    let (heard, mut all_heard) = mpsc::channel(args.sessions);
    let (next_round, round) = watch::channel(());
    let mut watchers = Vec::new();
    for i in 0..args.sessions {
        let mut session = Session::open(args.hosts[i % args.hosts.len()], SESSION_MS).await?;
        // Its server may be behind the one that made the node.
        while session.ask(op::GET_DATA, &PathWatch { path: NODE.into(), watch: false }).await?.0 != err::OK {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let (heard, mut round) = (heard.clone(), round.clone());
        watchers.push(tokio::task::spawn_local(async move {
            let mut bytes = Vec::new();
            request(1, op::GET_DATA, &PathWatch { path: NODE.into(), watch: true }, &mut bytes);
            // `None` when it watches, and the time when it heard.
            let watching = async {
                loop {
                    session.send(&bytes).await?;
                    loop {
                        let header = ReplyHeader::get(&mut Reader::new(&session.frame().await?))?;
                        if header.xid == xid::NOTIFICATION {
                            let _ = heard.send(Some(Instant::now())).await;
                            round.changed().await?;
                            break;
                        }
                        let _ = heard.send(None).await;
                    }
                }
            };
            let ended: anyhow::Result<()> = watching.await;
            ended
        }));
    }
    drop(heard);
    all_watch(&mut all_heard, args.sessions).await?;
    let end = Instant::now() + Duration::from_secs_f64(args.seconds);
    let mut latencies = Vec::new();
    while Instant::now() < end {
        let since = Instant::now();
        let set = SetDataRequest { path: NODE.into(), data: Some(Bytes::new()), version: -1 };
        if writer.ask(op::SET_DATA, &set).await?.0 != err::OK {
            bail!("the node cannot be written");
        }
        let mut last = since;
        for _ in 0..args.sessions {
            match all_heard.recv().await {
                Some(Some(at)) => last = last.max(at),
                _ => bail!("a watcher lost its connection, or watches again too early"),
            }
        }
        latencies.push(micros(last - since));
        // The watchers watch again when all have heard: the time measured is that of the notifications.
        next_round.send(())?;
        all_watch(&mut all_heard, args.sessions).await?;
        if watchers.iter().any(|w| w.is_finished()) {
            bail!("a watcher lost its connection");
        }
    }
    let rounds = latencies.len();
    println!("{{\"watchers\":{},\"rounds\":{rounds},{}}}", args.sessions, percentiles(&mut latencies));
    Ok(())
}

async fn all_watch(heard: &mut mpsc::Receiver<Option<Instant>>, count: usize) -> anyhow::Result<()> {
    for _ in 0..count {
        if !matches!(heard.recv().await, Some(None)) {
            bail!("a watcher got an event for a node that was not written, or lost its connection");
        }
    }
    Ok(())
}
