//! `cargo xtask load`: requests to ZooKeeper servers, ours or Apache's, as many as they take, on one thread.
//!
//! Says what it saw in one line of JSON. Times are in microseconds.

mod fill;
mod idle;
mod requests;
mod session;
mod storm;
mod watchers;

use anyhow::bail;
use clap::{Args as ClapArgs, ValueEnum};
use std::net::SocketAddr;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// setData
    Set,
    /// getData
    Get,
    /// Half reads, half writes
    Mix,
    /// create and delete in turns
    CreateDelete,
    /// Sessions are opened and closed
    Connect,
    /// All sessions watch one node, which is written
    Watch,
    /// --count nodes are made, below /bulk
    Fill,
    /// Sessions with a watch each that only ping
    Idle,
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
    /// Nodes to make
    #[arg(long, default_value_t = 100_000)]
    count: u64,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let bounds = (0.1..=86_400.0).contains(&args.seconds) && args.size <= 1 << 20;
    if !bounds || args.sessions == 0 || args.window == 0 || args.count == 0 {
        bail!("--seconds must be between 0.1 and 86400, --sessions, --window and --count at least 1, and --size at most 1048576");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        match args.op {
            What::Set | What::Get | What::Mix | What::CreateDelete => requests::run(args).await,
            What::Connect => storm::run(args).await,
            What::Watch => watchers::run(args).await,
            What::Fill => fill::run(args).await,
            What::Idle => idle::run(args).await,
        }
    })
}

/// Percentiles of latencies, as a part of the line.
fn percentiles(latencies_us: &mut [u32]) -> String {
    latencies_us.sort_unstable();
    let last = latencies_us.len().saturating_sub(1);
    let at = |p: f64| latencies_us.get(((latencies_us.len() as f64 * p) as usize).min(last)).copied().unwrap_or(0);
    format!("\"p50_us\":{},\"p99_us\":{},\"p999_us\":{},\"max_us\":{}", at(0.5), at(0.99), at(0.999), at(1.0))
}

fn micros(d: std::time::Duration) -> u32 {
    d.as_micros().min(u32::MAX.into()) as u32
}
