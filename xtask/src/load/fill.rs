//! Nodes as a site has them: a thousand in a folder.

use super::session::{request, Session};
use super::{micros, percentiles, Args};
use anyhow::bail;
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;
use trivet_formats::client::{err, op, open_acl, CreateRequest, ReplyHeader};
use trivet_formats::{Jute, Reader};

const FOLDER: u64 = 1_000;

pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let data = Bytes::from(vec![b'x'; args.size]);
    let mut first = Session::open(args.hosts[0], 20_000).await?;
    first.make("/bulk", Bytes::new()).await?;
    for folder in 0..args.count.div_ceil(FOLDER) {
        first.make(&format!("/bulk/d{folder}"), Bytes::new()).await?;
    }
    let begun = Instant::now();
    let next = Rc::new(Cell::new(0u64));
    let latencies = Rc::new(RefCell::new(Vec::new()));
    let mut tasks = Vec::new();
    for i in 0..args.sessions {
        let mut session = Session::open(args.hosts[i % args.hosts.len()], 20_000).await?;
        let (next, latencies, data) = (next.clone(), latencies.clone(), data.clone());
        let (count, window) = (args.count, args.window);
        tasks.push(tokio::task::spawn_local(async move {
            let mut open: VecDeque<Instant> = VecDeque::new();
            let mut bytes = Vec::new();
            loop {
                bytes.clear();
                let now = Instant::now();
                while open.len() < window && next.get() < count {
                    let n = next.replace(next.get() + 1);
                    let path = format!("/bulk/d{}/n{n}", n / FOLDER);
                    let body = CreateRequest { path, data: Some(data.clone()), acl: open_acl(), flags: 0 };
                    request(1, op::CREATE, &body, &mut bytes);
                    open.push_back(now);
                }
                if open.is_empty() {
                    return Ok(());
                }
                session.send(&bytes).await?;
                let mut answer = Some(session.frame().await?);
                while let Some(frame) = answer {
                    let code = ReplyHeader::get(&mut Reader::new(&frame))?.err;
                    let Some(asked) = open.pop_front().filter(|_| code == err::OK) else {
                        bail!("a node cannot be made: error {code}");
                    };
                    latencies.borrow_mut().push(micros(asked.elapsed()));
                    answer = session.waiting()?;
                }
            }
        }));
    }
    for task in tasks {
        task.await??;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let mut latencies = latencies.take();
    println!(
        "{{\"ops\":{},\"seconds\":{seconds:.2},\"ops_s\":{:.0},{}}}",
        args.count,
        args.count as f64 / seconds,
        percentiles(&mut latencies)
    );
    Ok(())
}
