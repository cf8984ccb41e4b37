//! Sessions with a watch each that do nothing but stay.

use super::session::Session;
use super::Args;
use anyhow::bail;
use std::io::Write;
use std::time::{Duration, Instant};
use trivet_formats::client::{op, xid, PathWatch};
use trivet_formats::Jute;

const SESSION_MS: i32 = 30_000;
const PING_EACH: Duration = Duration::from_secs(10);
/// Sessions that are opened at the same time.
const AT_ONCE: usize = 64;

fn ping() -> Vec<u8> {
    let mut bytes = 8i32.to_vec();
    xid::PING.put(&mut bytes);
    op::PING.put(&mut bytes);
    bytes
}

/// Says so when all are there, and again at the end.
pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut sessions = Vec::new();
    for group in (0..args.sessions).collect::<Vec<_>>().chunks(AT_ONCE) {
        let open = |i: usize| {
            let server = args.hosts[i % args.hosts.len()];
            tokio::task::spawn_local(async move {
                let mut session = Session::open(server, SESSION_MS).await?;
                session.ask(op::EXISTS, &PathWatch { path: format!("/idle/k{i}"), watch: true }).await?;
                anyhow::Ok(session)
            })
        };
        let opening: Vec<_> = group.iter().map(|i| open(*i)).collect();
        for task in opening {
            sessions.push(task.await??);
        }
    }
    println!("{{\"sessions\":{},\"opened_s\":{:.2}}}", sessions.len(), begun.elapsed().as_secs_f64());
    std::io::stdout().flush()?;
    let end = Instant::now() + Duration::from_secs_f64(args.seconds);
    let stay = |(i, mut session): (usize, Session)| {
        tokio::task::spawn_local(async move {
            // Spread, as sites' clients are.
            tokio::time::sleep(PING_EACH.mul_f64((i % 1000) as f64 / 1000.0)).await;
            while Instant::now() < end {
                session.send(&ping()).await?;
                session.frame().await?;
                let left = end.saturating_duration_since(Instant::now());
                tokio::time::sleep(PING_EACH.min(left)).await;
            }
            anyhow::Ok(())
        })
    };
    let tasks: Vec<_> = sessions.into_iter().enumerate().map(stay).collect();
    let mut lost = 0;
    for task in tasks {
        lost += u64::from(task.await?.is_err());
    }
    println!("{{\"lost\":{lost}}}");
    if lost > 0 {
        bail!("{lost} sessions were lost");
    }
    Ok(())
}
