//! Reads and writes. A session that loses its connection is opened again, a moment later, at the next server.

use super::session::{request, Session};
use super::{micros, percentiles, Args, What};
use anyhow::{bail, Context};
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};
use trivet_formats::client::{err, op, open_acl, CreateRequest, DeleteRequest, PathWatch, ReplyHeader, SetDataRequest};
use trivet_formats::{Jute, Reader};

const REDIAL_PAUSE: Duration = Duration::from_millis(100);
/// Znodes that the operations read and write, at random.
const KEYS: u64 = 1_000;
const SESSION_MS: i32 = 20_000;

#[derive(Default)]
struct Counts {
    latencies_us: Vec<u32>,
    errors: u64,
    lost: u64,
}

struct Work {
    op: What,
    window: usize,
    data: Bytes,
    begin: Instant,
    end: Instant,
}

fn key(key: u64) -> String {
    format!("/load/k{key}")
}

pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let data = Bytes::from(vec![b'x'; args.size]);
    let mut first = Session::open(args.hosts[0], SESSION_MS).await?;
    let last = PathWatch { path: key(KEYS - 1), watch: false };
    let there = first.ask(op::GET_DATA, &last).await?.0 == err::OK;
    first.make("/load", Bytes::new()).await.context("cannot make the nodes")?;
    for k in (0..KEYS).filter(|_| !there) {
        first.make(&key(k), data.clone()).await.context("cannot make the nodes")?;
    }
    let begin = Instant::now() + Duration::from_secs(1);
    let end = begin + Duration::from_secs_f64(args.seconds);
    let work = Rc::new(Work { op: args.op, window: args.window, data, begin, end });
    let counts = Rc::new(RefCell::new(Counts::default()));
    let session = |i: usize| {
        let (work, counts, hosts) = (work.clone(), counts.clone(), args.hosts.clone());
        tokio::task::spawn_local(async move {
            let mut at = i;
            while Instant::now() < work.end {
                if one_session(&work, hosts[at % hosts.len()], i, &counts).await.is_err() {
                    counts.borrow_mut().lost += 1;
                    at += 1;
                    tokio::time::sleep(REDIAL_PAUSE).await;
                }
            }
        })
    };
    let tasks: Vec<_> = (0..args.sessions).map(session).collect();
    for task in tasks {
        task.await?;
    }
    let mut counts = counts.take();
    let ops = counts.latencies_us.len();
    println!(
        "{{\"sessions\":{},\"window\":{},\"size_bytes\":{},\"ops\":{ops},\"ops_s\":{:.0},{},\"errors\":{},\"sessions_lost\":{}}}",
        args.sessions,
        args.window,
        args.size,
        ops as f64 / args.seconds,
        percentiles(&mut counts.latencies_us),
        counts.errors,
        counts.lost,
    );
    Ok(())
}

impl Work {
    /// The session's request of this number.
    fn put(&self, index: usize, number: u64, out: &mut Vec<u8>) {
        let dice = ((number + (index as u64)) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let xid = (number % 0x7fff_ffff) as i32 + 1;
        let path = key((dice >> 33) % KEYS);
        match self.op {
            What::CreateDelete => {
                let path = format!("/load/s{index}-{}", number / 2);
                if number.is_multiple_of(2) {
                    let data = Some(self.data.clone());
                    request(xid, op::CREATE, &CreateRequest { path, data, acl: open_acl(), flags: 0 }, out);
                } else {
                    request(xid, op::DELETE, &DeleteRequest { path, version: -1 }, out);
                }
            }
            What::Get => request(xid, op::GET_DATA, &PathWatch { path, watch: false }, out),
            What::Mix if dice >> 63 == 0 => request(xid, op::GET_DATA, &PathWatch { path, watch: false }, out),
            _ => request(xid, op::SET_DATA, &SetDataRequest { path, data: Some(self.data.clone()), version: -1 }, out),
        }
    }
}

/// Until the end, or until the connection is lost.
async fn one_session(
    work: &Work,
    server: std::net::SocketAddr,
    index: usize,
    counts: &RefCell<Counts>,
) -> anyhow::Result<()> {
    let mut session = Session::open(server, SESSION_MS).await?;
    let mut open: VecDeque<Instant> = VecDeque::new();
    let mut bytes = Vec::new();
    // Another session's nodes of before a connection was lost are not in the way.
    let (mut number, mut missing) = (u64::from(std::process::id()) << 20, work.window);
    loop {
        let now = Instant::now();
        if now >= work.end {
            return Ok(());
        }
        bytes.clear();
        for _ in 0..std::mem::take(&mut missing) {
            work.put(index, number, &mut bytes);
            number += 1;
            open.push_back(now);
        }
        session.send(&bytes).await?;
        // Requests that have arrived already are answered by a single write.
        let mut next = Some(session.frame().await?);
        let now = Instant::now();
        while let Some(frame) = next {
            let answer = ReplyHeader::get(&mut Reader::new(&frame))?;
            let Some(asked) = open.pop_front() else { bail!("an answer to nothing") };
            missing += 1;
            let mut counts = counts.borrow_mut();
            counts.errors += u64::from(answer.err != err::OK);
            if now >= work.begin && now < work.end {
                counts.latencies_us.push(micros(now - asked));
            }
            next = session.waiting()?;
        }
    }
}
