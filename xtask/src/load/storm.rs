//! Sessions are opened and closed, as fast as that goes.

use super::session::Session;
use super::{micros, percentiles, Args};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use trivet_formats::client::op;
use trivet_formats::record;

record! { pub struct Nothing {} }

pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let begin = Instant::now() + Duration::from_secs(1);
    let end = begin + Duration::from_secs_f64(args.seconds);
    let opened = Rc::new(RefCell::new((Vec::new(), 0u64)));
    let one = |i: usize| {
        let (hosts, opened) = (args.hosts.clone(), opened.clone());
        tokio::task::spawn_local(async move {
            let mut at = i;
            while Instant::now() < end {
                at += 1;
                let since = Instant::now();
                let done = async {
                    let mut session = Session::open(hosts[at % hosts.len()], 20_000).await?;
                    let took = since.elapsed();
                    session.ask(op::CLOSE_SESSION, &Nothing {}).await?;
                    anyhow::Ok(took)
                };
                let done = done.await;
                let now = Instant::now();
                match done {
                    Ok(took) if now >= begin && now < end => opened.borrow_mut().0.push(micros(took)),
                    Ok(_) => {}
                    Err(_) => opened.borrow_mut().1 += 1,
                }
            }
        })
    };
    let tasks: Vec<_> = (0..args.sessions).map(one).collect();
    for task in tasks {
        task.await?;
    }
    let (mut latencies, errors) = opened.take();
    let count = latencies.len();
    println!(
        "{{\"threads\":{},\"ops\":{count},\"ops_s\":{:.0},{},\"errors\":{errors}}}",
        args.sessions,
        count as f64 / args.seconds,
        percentiles(&mut latencies)
    );
    Ok(())
}
