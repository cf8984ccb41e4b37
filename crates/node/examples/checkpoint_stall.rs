//! How long a checkpoint of many changed extents delays writes: one client with one open write of 4 KiB while a
//! checkpoint is written, beside a plain file on the same disk that is written and synced in the same way.
//!
//! `cargo run --release -p trivet-node --example checkpoint_stall -- FOLDER EXTENTS`, and then with `start` in the place
//! of EXTENTS for the time, the memory and the descriptors of a start with these copies.

use bytes::Bytes;
use prost::Message;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};
use trivet_node::chunk::Chunk;
use trivet_node::rpc::{Client, Handler, Identity, Responder};
use trivet_storage::messages::*;

const LIMIT: Duration = Duration::from_secs(300);
const RESEND: Duration = Duration::from_millis(50);
/// More than a segment of the journal, in writes of 1 MiB: a checkpoint begins on the way.
const FILLING_WRITES: u64 = 150;

struct Copies {
    client: Arc<Client>,
    replica: Vec<u8>,
}

impl Copies {
    async fn ask(&self, eid: ExtentId, op: ChunkOp) -> Duration {
        let began = Instant::now();
        let request = ChunkRequest {
            eid,
            replica: self.replica.clone(),
            epoch: ConfigEpoch(1),
            lease: LeaseId(1),
            op: Some(op),
            ..Default::default()
        };
        let request = request.encode_to_vec();
        // A connection on which nothing comes for a second counts as broken; the owner of a file sends again, too.
        let answer = loop {
            if let Ok(answer) = self.client.ask(CallKind::Chunk, &request, LIMIT).await {
                break answer;
            }
            tokio::time::sleep(RESEND).await;
        };
        let answer = ChunkAnswer::decode(answer).expect("an answer").result;
        assert!(matches!(answer, Some(ChunkResult::Done(_) | ChunkResult::Sealed(_))), "{answer:?}");
        began.elapsed()
    }
    async fn write(&self, eid: ExtentId, seq: u64, offset: u64, data: Bytes) -> Duration {
        let record = Record {
            pos: Pos::new(LeaseId(1), ConfigEpoch(1), seq),
            stable: Pos::new(LeaseId(1), ConfigEpoch(1), seq - 1),
            ranges: vec![Range { offset, length: data.len() as u64, ..Default::default() }],
            data,
            ..Default::default()
        };
        self.ask(eid, ChunkOp::Write(record)).await
    }
}

fn tell(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    let p99 = times[times.len() * 99 / 100];
    let median = times[times.len() / 2];
    println!(
        "{what}: {} writes, median {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
        times.len(),
        ms(median),
        ms(p99),
        ms(*times.last().expect("some"))
    );
}

/// How long a start takes with what an earlier run left, and how much memory and how many descriptors it needs.
fn start(dir: &std::path::Path) {
    let began = Instant::now();
    let chunk = Chunk::open(dir).expect("a chunk server");
    let took = began.elapsed();
    let status = std::fs::read_to_string("/proc/self/status").expect("on Linux");
    let rss = status.lines().find(|l| l.starts_with("VmRSS")).unwrap_or_default().to_string();
    let files = std::fs::read_dir("/proc/self/fd").expect("on Linux").count();
    println!("{} copies: start in {:.2} s, {rss}, {files} descriptors", chunk.copies().len(), took.as_secs_f64());
}

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let dir = std::path::PathBuf::from(args.next().expect("a folder"));
    let what = args.next().expect("how many extents, or `start`");
    if what == "start" {
        return start(&dir.join("chunk"));
    }
    let extents: u64 = what.parse().expect("a number");
    let chunk = Chunk::open(&dir.join("chunk")).expect("a chunk server");
    let replica = chunk.replica_id().to_vec();
    let handler: Handler = Arc::new(move |_, body: Bytes, r: Responder| chunk.handle(&body, r));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let identity = Arc::new(Identity {
        cluster: "c".into(),
        incarnation: 1,
        keys: trivet_node::keys::Keys::of(&[1; 32]),
        node: 1,
    });
    trivet_node::rpc::serve(listener, identity.clone(), handler);
    let copies = Arc::new(Copies { client: Client::new(address, identity), replica });

    let mut open = tokio::task::JoinSet::new();
    for eid in (0..=extents).map(ExtentId) {
        let copies = copies.clone();
        open.spawn(async move {
            copies.ask(eid, ChunkOp::Seal(Seal { create: true, first: 1, ..Default::default() })).await;
            copies.write(eid, 1, 0, Bytes::from(vec![eid.0 as u8; 4096])).await
        });
        if open.len() >= 64 {
            open.join_next().await;
        }
    }
    while open.join_next().await.is_some() {}

    let over = Arc::new(AtomicBool::new(false));
    let plain = {
        let (over, path) = (over.clone(), dir.join("plain"));
        std::thread::spawn(move || {
            let file = std::fs::File::create(path).expect("a file");
            file.write_all_at(&vec![0; 64 << 20], 0).expect("written");
            file.sync_data().expect("synced");
            let mut times = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let began = Instant::now();
                file.write_all_at(&[1; 4096], times.len() as u64 % 16_000 * 4096).expect("written");
                file.sync_data().expect("synced");
                times.push(began.elapsed());
                std::thread::sleep(Duration::from_millis(2));
            }
            times
        })
    };
    let filling = {
        let copies = copies.clone();
        tokio::spawn(async move {
            let data = Bytes::from(vec![7; 1 << 20]);
            for n in 0..FILLING_WRITES {
                copies.write(ExtentId(1 + n % extents), 2 + n / extents, 0, data.clone()).await;
            }
        })
    };
    let mut times = Vec::new();
    let mut filled = None;
    let began = Instant::now();
    // Until well after the checkpoint.
    while filled.is_none_or(|at: Instant| at.elapsed() < Duration::from_secs(15)) {
        times.push(copies.write(ExtentId(0), 2 + times.len() as u64, 0, Bytes::from(vec![9; 4096])).await);
        if filled.is_none() && filling.is_finished() {
            filled = Some(Instant::now());
        }
    }
    over.store(true, Ordering::Relaxed);
    println!("{extents} changed extents, {:.1} s", began.elapsed().as_secs_f64());
    tell("a copy", times);
    tell("a plain file", plain.join().expect("it ends"));
}
