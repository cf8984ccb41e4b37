//! `cargo xtask floor`: a leader and two followers with a log each that commit what clients send, and nothing else: no
//! tree, no sessions, no elections. It speaks as much of ZooKeeper's client protocol as the load generator needs. Its log
//! grows with each write, through the page cache, and its threads sleep when they wait: what it reaches is what plain
//! sockets, batches and syncs allow on this machine, and not a bound.
//!
//! Clients write at the leader, where the beginning and the end of a session are logged and committed, too. At all three
//! they can watch: a client that read with a watch is notified of the next write, whatever it is.

use anyhow::{bail, Context};
use bytes::{Buf, BytesMut};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, Notify};
use trivet_formats::client::{err, event, op, xid, ConnectResponse, ReplyHeader, Stat, WatcherEvent};
use trivet_formats::Jute;

#[derive(clap::Args)]
pub struct Args {
    /// Where clients connect; the followers listen at the two ports behind it, and for clients that watch at the next two
    #[arg(long, default_value = "127.0.0.71:2181")]
    listen: SocketAddr,
    /// Folder for the three logs
    #[arg(long)]
    data: PathBuf,
}

type Logged = mpsc::UnboundedReceiver<u64>;

/// A thread that appends to a file and syncs, whole batches at once. It reports how many records are on disk.
fn log(path: &Path) -> anyhow::Result<(std::sync::mpsc::Sender<Vec<u8>>, Logged)> {
    let mut file = std::fs::File::create(path).with_context(|| path.display().to_string())?;
    let (sender, records) = std::sync::mpsc::channel::<Vec<u8>>();
    let (done, logged) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let mut count = 0;
        let mut batch = Vec::new();
        while let Ok(first) = records.recv() {
            batch.clear();
            batch.extend(first);
            count += 1;
            while let Ok(more) = records.try_recv() {
                batch.extend(more);
                count += 1;
            }
            file.write_all(&batch).and_then(|()| file.sync_data()).expect("the log can be written");
            if done.send(count).is_err() {
                return;
            }
        }
    });
    Ok((sender, logged))
}

#[derive(Default)]
struct Outgoing {
    bytes: RefCell<Vec<u8>>,
    wake: Notify,
}

impl Outgoing {
    fn answer(&self, xid: i32, zxid: i64, body: &[u8]) {
        let mut answer = Vec::with_capacity(100);
        ((16 + body.len()) as i32).put(&mut answer);
        ReplyHeader { xid, zxid, err: err::OK }.put(&mut answer);
        answer.extend_from_slice(body);
        self.push(&answer);
    }
    fn hello(&self) {
        let hello = ConnectResponse { timeout_ms: 20_000, session: 1, password: [0; 16], read_only: Some(false) };
        let hello = hello.to_vec();
        self.push(&(hello.len() as i32).to_be_bytes());
        self.push(&hello);
    }
    fn push(&self, bytes: &[u8]) {
        self.bytes.borrow_mut().extend_from_slice(bytes);
        self.wake.notify_one();
    }
    async fn write(self: Rc<Self>, mut to: tokio::net::tcp::OwnedWriteHalf) {
        loop {
            let bytes = std::mem::take(&mut *self.bytes.borrow_mut());
            if bytes.is_empty() {
                self.wake.notified().await;
            } else if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    }
}

/// A task that ends with its client.
struct Ends(tokio::task::AbortHandle);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A client watches at one of the nodes, which are threads of this process: the followers are told of writes.
static WATCHED: AtomicBool = AtomicBool::new(false);

/// Sent by the leader in the place of a record's length when a write is committed.
const TELL: [u8; 4] = [0; 4];

/// The clients of one node that watch.
#[derive(Default)]
struct Watchers(RefCell<Vec<Rc<Outgoing>>>);

impl Watchers {
    /// Answers a read; no other request.
    fn read(&self, client: &Rc<Outgoing>, record: &[u8]) -> bool {
        let number = |at: usize| record.get(at..at + 4).map(|b| i32::from_be_bytes(b.try_into().expect("4")));
        let (Some(xid), Some(op::GET_DATA)) = (number(4), number(8)) else { return false };
        if record.last() == Some(&1) {
            WATCHED.store(true, Ordering::Relaxed);
            self.0.borrow_mut().push(client.clone());
        }
        client.answer(xid, 0, &Stat::default().to_vec());
        true
    }
    fn tell(&self) {
        let event = WatcherEvent {
            kind: event::NODE_DATA_CHANGED,
            state: event::STATE_SYNC_CONNECTED,
            path: "/watched".into(),
        };
        let event = event.to_vec();
        self.0.take().iter().for_each(|client| client.answer(xid::NOTIFICATION, -1, &event));
    }
}

/// The next frame with its length, when all of it is there.
fn frame(buffer: &mut BytesMut) -> Option<BytesMut> {
    let length = u32::from_be_bytes(buffer.get(..4)?.try_into().expect("4")) as usize;
    (buffer.len() >= 4 + length).then(|| buffer.split_to(4 + length))
}

/// Hands over what a client sends, until it ends or is refused; the first record is its hello.
async fn each_record(
    stream: TcpStream,
    mut handle: impl FnMut(&Rc<Outgoing>, &[u8], bool) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, writer) = stream.into_split();
    let out = Rc::new(Outgoing::default());
    let _writes = Ends(tokio::task::spawn_local(out.clone().write(writer)).abort_handle());
    let mut buffer = BytesMut::with_capacity(1 << 12);
    let mut first = true;
    while reader.read_buf(&mut buffer).await? > 0 {
        while let Some(record) = frame(&mut buffer) {
            handle(&out, &record, std::mem::take(&mut first))?;
        }
        buffer.reserve(1 << 12);
    }
    Ok(())
}

/// Serves a follower's client: answers the hello and reads.
async fn watcher(watchers: Rc<Watchers>, stream: TcpStream) -> anyhow::Result<()> {
    let handle = |out: &Rc<Outgoing>, record: &[u8], first| {
        if first {
            out.hello();
        } else if !watchers.read(out, record) {
            bail!("a follower of the floor only reads");
        }
        Ok(())
    };
    each_record(stream, handle).await
}

async fn follow(listen: SocketAddr, clients: SocketAddr, path: PathBuf) -> anyhow::Result<()> {
    let watchers = Rc::new(Watchers::default());
    let (own, from_clients) = (watchers.clone(), TcpListener::bind(clients).await?);
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = from_clients.accept().await {
            let watchers = own.clone();
            tokio::task::spawn_local(async move { drop(watcher(watchers, stream).await) });
        }
    });
    let listener = TcpListener::bind(listen).await?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    let (mut reader, writer) = stream.into_split();
    let (records, mut logged) = log(&path)?;
    let out = Rc::new(Outgoing::default());
    tokio::task::spawn_local(out.clone().write(writer));
    tokio::task::spawn_local(async move {
        while let Some(count) = logged.recv().await {
            out.push(&count.to_be_bytes());
        }
    });
    let mut buffer = BytesMut::with_capacity(1 << 16);
    while reader.read_buf(&mut buffer).await? > 0 {
        while let Some(record) = frame(&mut buffer) {
            if *record == TELL {
                watchers.tell();
            } else {
                records.send(record.to_vec())?;
            }
        }
        buffer.reserve(1 << 16);
    }
    Ok(())
}

/// The answer to a client whose record is committed.
enum Answer {
    Hello,
    Stat(i32),
}

struct Leader {
    /// How many records this node and the followers have on disk.
    on_disk: RefCell<[u64; 3]>,
    committed: Cell<u64>,
    waiting: RefCell<VecDeque<(Rc<Outgoing>, Answer)>>,
    watchers: Watchers,
    followers: Vec<Rc<Outgoing>>,
    records: std::sync::mpsc::Sender<Vec<u8>>,
}

impl Leader {
    fn on_disk(&self, node: usize, count: u64) {
        self.on_disk.borrow_mut()[node] = count;
        let mut sorted = *self.on_disk.borrow();
        sorted.sort_unstable();
        let stat = Stat::default().to_vec();
        for _ in self.committed.replace(sorted[1].max(self.committed.get()))..self.committed.get() {
            let Some((client, answer)) = self.waiting.borrow_mut().pop_front() else { return };
            match answer {
                Answer::Hello => client.hello(),
                Answer::Stat(xid) => {
                    if WATCHED.load(Ordering::Relaxed) {
                        self.followers.iter().for_each(|f| f.push(&TELL));
                        self.watchers.tell();
                    }
                    client.answer(xid, sorted[1] as i64, &stat);
                }
            }
        }
    }
}

async fn client(leader: Rc<Leader>, stream: TcpStream) -> anyhow::Result<()> {
    let handle = |out: &Rc<Outgoing>, record: &[u8], first| {
        let answer = if first {
            Answer::Hello
        } else if leader.watchers.read(out, record) {
            return Ok(());
        } else {
            Answer::Stat((&record[4..8]).get_i32())
        };
        leader.waiting.borrow_mut().push_back((out.clone(), answer));
        leader.followers.iter().for_each(|f| f.push(record));
        Ok(leader.records.send(record.to_vec())?)
    };
    each_record(stream, handle).await
}

async fn lead(listen: SocketAddr, followers: [SocketAddr; 2], path: PathBuf) -> anyhow::Result<()> {
    let mut acks = Vec::new();
    let mut outgoing = Vec::new();
    for address in followers {
        let stream = loop {
            match TcpStream::connect(address).await {
                Ok(stream) => break stream,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            }
        };
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        let out = Rc::new(Outgoing::default());
        tokio::task::spawn_local(out.clone().write(writer));
        outgoing.push(out);
        acks.push(reader);
    }
    let (records, mut logged) = log(&path)?;
    let leader = Rc::new(Leader {
        on_disk: RefCell::default(),
        committed: Cell::new(0),
        waiting: RefCell::default(),
        watchers: Watchers::default(),
        followers: outgoing,
        records,
    });
    for (node, mut reader) in acks.into_iter().enumerate() {
        let leader = leader.clone();
        tokio::task::spawn_local(async move {
            let mut buffer = BytesMut::new();
            while reader.read_buf(&mut buffer).await.is_ok_and(|n| n > 0) {
                // The last one says it all.
                let whole = buffer.len() / 8 * 8;
                if whole > 0 {
                    let count = (&buffer[whole - 8..whole]).get_u64();
                    buffer.advance(whole);
                    leader.on_disk(node + 1, count);
                }
            }
        });
    }
    let own = leader.clone();
    tokio::task::spawn_local(async move {
        while let Some(count) = logged.recv().await {
            own.on_disk(0, count);
        }
    });
    let listener = TcpListener::bind(listen).await?;
    println!("ready");
    loop {
        let (stream, _) = listener.accept().await?;
        let leader = leader.clone();
        tokio::task::spawn_local(async move { drop(client(leader, stream).await) });
    }
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let at = |n: u16| SocketAddr::new(args.listen.ip(), args.listen.port() + n);
    let node = |n: u16| {
        let (listen, path) = (at(n), args.data.join(format!("floor.{n}")));
        let (followers, at_clients) = ([at(1), at(2)], at(2 + n));
        std::thread::spawn(move || -> anyhow::Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let local = tokio::task::LocalSet::new();
            match n {
                0 => local.block_on(&runtime, lead(listen, followers, path)),
                _ => local.block_on(&runtime, follow(listen, at_clients, path)),
            }
        })
    };
    let nodes: Vec<_> = (0..3).map(node).collect();
    for node in nodes {
        node.join().map_err(|_| anyhow::anyhow!("a node panicked"))??;
    }
    Ok(())
}
