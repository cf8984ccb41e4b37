//! `cargo xtask load`: requests to ZooKeeper servers, ours or Apache's, as many as they take.
//!
//! Each session has a connection and a thread, and keeps a number of requests open. One that loses its connection
//! opens a new session, a moment later, at the next server.

use anyhow::{bail, Context};
use bytes::Bytes;
use clap::{Args as ClapArgs, ValueEnum};
use std::collections::VecDeque;
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use trivet_formats::client::{
    err, op, open_acl, ConnectRequest, ConnectResponse, CreateRequest, PathWatch, ReplyHeader, RequestHeader,
    SetDataRequest,
};
use trivet_formats::{Jute, Reader};

/// A server that says nothing for so long is left.
const SILENCE_LIMIT: Duration = Duration::from_secs(10);
const REDIAL_PAUSE: Duration = Duration::from_millis(100);
const FRAME_BYTES_MAX: usize = 4 << 20;
/// The nodes that are written: one each, of so many.
const KEYS: u64 = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Set,
    Get,
    /// One half each
    Mix,
}

#[derive(ClapArgs)]
pub struct Args {
    /// Servers, as address:port with commas between
    #[arg(long, value_delimiter = ',', required = true)]
    hosts: Vec<SocketAddr>,
    #[arg(long, value_enum, default_value = "set")]
    op: What,
    /// Sessions, spread over the servers
    #[arg(long, default_value_t = 128)]
    sessions: usize,
    /// Requests that each keeps open
    #[arg(long, default_value_t = 1)]
    window: usize,
    /// Bytes of data of a node
    #[arg(long, default_value_t = 100)]
    size: usize,
    /// Seconds that are measured, behind one that is not
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

#[derive(Default)]
struct Counts {
    latencies_us: Vec<u32>,
    errors: u64,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    if !(0.1..=86_400.0).contains(&args.seconds) || args.sessions == 0 || args.window == 0 || args.size > 1 << 20 {
        bail!("seconds are 0.1 to 86400, sessions and windows 1 and more, sizes up to 1 MiB");
    }
    let data = Bytes::from(vec![b'x'; args.size]);
    make_nodes(args, &data).context("cannot make the nodes")?;
    let begin = Instant::now() + Duration::from_secs(1);
    let end = begin + Duration::from_secs_f64(args.seconds);
    let lost = AtomicU64::new(0);
    let all = std::thread::scope(|scope| {
        let session = |i: usize| {
            let (data, lost) = (data.clone(), &lost);
            scope.spawn(move || {
                let mut counts = Counts::default();
                let mut at = i;
                while Instant::now() < end {
                    if one_session(args, args.hosts[at % args.hosts.len()], &data, (begin, end), i, &mut counts)
                        .is_err()
                    {
                        lost.fetch_add(1, Ordering::Relaxed);
                        at += 1;
                        std::thread::sleep(REDIAL_PAUSE);
                    }
                }
                counts
            })
        };
        let threads: Vec<_> = (0..args.sessions).map(session).collect();
        threads.into_iter().map(|t| t.join().expect("sessions end well")).collect::<Vec<_>>()
    });
    let errors: u64 = all.iter().map(|c| c.errors).sum();
    let mut latencies: Vec<u32> = all.into_iter().flat_map(|c| c.latencies_us).collect();
    latencies.sort_unstable();
    let part = |p: f64| latencies.get(((latencies.len() as f64 * p) as usize).min(latencies.len().saturating_sub(1)));
    let us = |p: f64| part(p).copied().unwrap_or(0);
    println!(
        "{{\"sessions\":{},\"window\":{},\"size_bytes\":{},\"ops\":{},\"ops_s\":{:.0},\"p50_us\":{},\"p99_us\":{},\"p999_us\":{},\"max_us\":{},\"errors\":{errors},\"sessions_lost\":{}}}",
        args.sessions,
        args.window,
        args.size,
        latencies.len(),
        latencies.len() as f64 / args.seconds,
        us(0.5),
        us(0.99),
        us(0.999),
        us(1.0),
        lost.into_inner(),
    );
    Ok(())
}

fn framed(parts: &[&[u8]], out: &mut Vec<u8>) {
    let length: usize = parts.iter().map(|p| p.len()).sum();
    out.extend_from_slice(&(length as i32).to_be_bytes());
    parts.iter().for_each(|p| out.extend_from_slice(p));
}

fn request<T: Jute>(xid: i32, op: i32, body: &T, out: &mut Vec<u8>) {
    framed(&[&RequestHeader { xid, op }.to_vec(), &body.to_vec()], out);
}

fn frame(from: &mut impl Read) -> anyhow::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length))?;
    if length > FRAME_BYTES_MAX {
        bail!("an answer of {length} bytes");
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn open(server: SocketAddr) -> anyhow::Result<(TcpStream, BufReader<TcpStream>)> {
    let mut out = TcpStream::connect_timeout(&server, SILENCE_LIMIT)?;
    out.set_nodelay(true)?;
    out.set_read_timeout(Some(SILENCE_LIMIT))?;
    let connect = ConnectRequest {
        last_zxid_seen: 0,
        timeout_ms: 20_000,
        session: 0,
        password: vec![0; 16],
        read_only: Some(false),
    };
    let mut bytes = Vec::new();
    framed(&[&connect.to_vec()], &mut bytes);
    out.write_all(&bytes)?;
    let mut answers = BufReader::with_capacity(64 << 10, out.try_clone()?);
    if ConnectResponse::parse(&frame(&mut answers)?)?.timeout_ms <= 0 {
        bail!("{server} refused the session");
    }
    Ok((out, answers))
}

fn path(key: u64) -> String {
    format!("/load/k{key}")
}

fn make_nodes(args: &Args, data: &Bytes) -> anyhow::Result<()> {
    let (mut out, mut answers) = open(args.hosts[0])?;
    for (path, data) in
        std::iter::once(("/load".into(), Bytes::new())).chain((0..KEYS).map(|k| (path(k), data.clone())))
    {
        let mut bytes = Vec::new();
        request(1, op::CREATE, &CreateRequest { path, data: Some(data), acl: open_acl(), flags: 0 }, &mut bytes);
        out.write_all(&bytes)?;
        let answer = ReplyHeader::get(&mut Reader::new(&frame(&mut answers)?))?;
        if answer.err != err::OK && answer.err != err::NODE_EXISTS {
            bail!("error {}", answer.err);
        }
    }
    Ok(())
}

/// Until the end, or until the connection is lost.
fn one_session(
    args: &Args,
    server: SocketAddr,
    data: &Bytes,
    (begin, end): (Instant, Instant),
    index: usize,
    counts: &mut Counts,
) -> anyhow::Result<()> {
    let (mut out, mut answers) = open(server)?;
    let mut open: VecDeque<Instant> = VecDeque::new();
    let (mut xid, mut key) = (0, index as u64 * 7_919);
    let mut bytes = Vec::new();
    let mut missing = args.window;
    loop {
        let now = Instant::now();
        if now >= end {
            return Ok(());
        }
        bytes.clear();
        for _ in 0..std::mem::take(&mut missing) {
            xid = xid % i32::MAX + 1;
            key = key.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let path = path((key >> 33) % KEYS);
            if args.op == What::Get || args.op == What::Mix && key >> 62 & 1 == 0 {
                request(xid, op::GET_DATA, &PathWatch { path, watch: false }, &mut bytes);
            } else {
                request(xid, op::SET_DATA, &SetDataRequest { path, data: Some(data.clone()), version: -1 }, &mut bytes);
            }
            open.push_back(now);
        }
        out.write_all(&bytes)?;
        // What has arrived already is answered by one write.
        loop {
            let answer = ReplyHeader::get(&mut Reader::new(&frame(&mut answers)?))?;
            let Some(asked) = open.pop_front() else { bail!("an answer to nothing") };
            missing += 1;
            counts.errors += u64::from(answer.err != err::OK);
            let now = Instant::now();
            if now >= begin && now < end {
                counts.latencies_us.push((now - asked).as_micros().min(u32::MAX.into()) as u32);
            }
            if open.is_empty() || answers.buffer().len() < 4 {
                break;
            }
        }
    }
}
