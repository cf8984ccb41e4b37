//! `cargo xtask sim`: seeds in parallel, counts at the end, the command that replays a failure.

use anyhow::{bail, Context};
use clap::{Args as ClapArgs, ValueEnum};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;
use trivet_sim::coordination::small;
use trivet_sim::{coordination, nodes, replication};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Core {
    /// Small worlds of the coordination core, every one of them, instead of seeds
    Small,
    Coordination,
    /// The lab's schedules, played in the simulated world of the coordination core
    Schedules,
    Replication,
    /// Whole nodes: metad, gateways and chunk servers on simulated coordination
    Nodes,
}

#[derive(ClapArgs)]
pub struct Args {
    /// Which core to run
    #[arg(long, value_enum, default_value = "coordination")]
    core: Core,
    /// How many seeds
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Only this seed, with a trace
    #[arg(long)]
    seed: Option<u64>,
    /// Simulated minutes with faults in each run
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Threads
    #[arg(long, default_value_t = 2)]
    jobs: u64,
    /// Coordination only: members join, leave, get votes and lose them meanwhile
    #[arg(long)]
    reconfig: bool,
    /// Coordination only: servers are in groups and have weights, which say what a quorum is
    #[arg(long)]
    groups: bool,
    /// Coordination only: one server is treated as an Apache server, and gets digests in proposals
    #[arg(long)]
    apache_like: bool,
    /// Coordination only: requests that a client may have open
    #[arg(long, default_value_t = 1)]
    pipeline: usize,
    /// Coordination only: this many leadership transfers, completed and abandoned, instead of random faults
    #[arg(long, default_value_t = 0)]
    hand_overs: u64,
    /// Clients of each world of coordination
    #[arg(long, default_value_t = 4)]
    clients: usize,
    /// Coordination and schedules: each sync of each disk takes at least this many milliseconds, and up to half more
    #[arg(long, default_value_t = 0)]
    sync_ms: u64,
    /// Replication only: clients change the file's size, too
    #[arg(long)]
    sizes: bool,
    /// Replication only: large extents, written full and then mostly idle
    #[arg(long)]
    filled: bool,
    /// Replication only: damage hits blocks, not whole copies
    #[arg(long)]
    rot: bool,
    /// Replication only: copies are moved off one chunk server and another
    #[arg(long)]
    moves: bool,
    /// Replication only: the file is cloned, and the clones are looked at
    #[arg(long)]
    forks: bool,
    /// Replication only: disks fill up, and have room again
    #[arg(long)]
    fills: bool,
    /// Replication only: each extent has one copy, and disks go back in time all the same
    #[arg(long)]
    sole: bool,
    /// Run each seed twice and compare
    #[arg(long)]
    twice: bool,
    /// Print the hash of each seed's run, over events and effects: a change that keeps behaviour keeps it
    #[arg(long)]
    hashes: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    match args.core {
        Core::Small => run_small(),
        Core::Coordination => run_coordination(args),
        Core::Schedules => run_schedules(args),
        Core::Replication => run_replication(args),
        Core::Nodes => run_nodes(args),
    }
}

/// A crash at every point, and a cut at every point, each with one deviation from the usual order; and both, with a disk
/// that is slow.
fn run_small() -> anyhow::Result<()> {
    for (what, logs, committed) in small::WORLDS {
        let usual = small::Bounds::of(logs, committed);
        // A slow disk under the one that the two elect which meet first, and under the other one.
        let apart = |slow| small::Bounds {
            crashes: 1,
            cuts: 1,
            cut: Some(2),
            slow: Some(slow),
            deviations: 0,
            ..usual.clone()
        };
        search(what, "one crash", &usual)?;
        search(what, "one cut", &small::Bounds { crashes: 0, cuts: 1, ..usual.clone() })?;
        search(what, "a slow leader, two quorums", &apart(1))?;
        search(what, "a slow follower, two quorums", &apart(0))?;
    }
    Ok(())
}

fn search(what: &str, faults: &str, bounds: &small::Bounds) -> anyhow::Result<()> {
    let f = small::search(bounds);
    println!(
        "small world \"{what}\", {faults}: {} states, {} of them serving, {} steps, {}, {} paths ended at {} steps",
        f.states,
        f.serving,
        f.steps,
        if f.exhausted { "no choice left" } else { "choices LEFT" },
        f.cut_short,
        bounds.steps
    );
    if let Some((reason, path)) = f.violation {
        bail!("{reason}, by {path:?}");
    }
    if !f.exhausted {
        bail!("too many states");
    }
    Ok(())
}

fn run_coordination(args: &Args) -> anyhow::Result<()> {
    // Every second seed has five servers.
    let options = |seed: u64, trace: bool| coordination::Options {
        seed,
        servers: if seed.is_multiple_of(2) { 5 } else { 3 },
        clients: args.clients,
        minutes: args.minutes,
        schedule: None,
        reconfig: args.reconfig,
        groups: args.groups,
        apache_like: args.apache_like,
        pipeline: args.pipeline,
        hand_overs: args.hand_overs,
        sync_ms: args.sync_ms,
        bug: None,
        trace,
    };
    if let Some(seed) = args.seed {
        let report = coordination::run(options(seed, true));
        println!("{report:#?}");
        return if report.violations.is_empty() { Ok(()) } else { bail!("seed {seed} violates") };
    }
    let (t, failed) = each_seed(
        args,
        |seed| {
            let r = coordination::run(options(seed, false));
            let violations = r.violations.iter().map(|v| v.0.clone()).collect();
            (r.hash, violations, r)
        },
        add_coordination,
    );
    println!(
        "coordination: {} seeds of {} simulated minutes, {} events: {} elections, {} leaders, {} commits, {} of them seen early, {} answers, \
         {} DIFF, {} parts of the log for them, {} TRUNC, {} SNAP, {} torn tails, {} kills, {} power losses, {} freezes, {} leads to hand over, {} with all numbers used up, {} lists of members taken over, {} sessions expired, {} digests of trees compared with the leader's, {} foretold in proposals and {} left out there, a whole majority served after {} ms at the latest, and {} times after more than 1000 ms",
        args.seeds,
        args.minutes,
        t.events,
        t.elections,
        t.leaders,
        t.commits,
        t.commits_early,
        t.answers,
        t.diffs,
        t.log_parts,
        t.truncs,
        t.snaps,
        t.torn_tails,
        t.crashes,
        t.power_losses,
        t.freezes,
        t.transfers,
        t.used_up,
        t.members_changes,
        t.expired_sessions,
        t.digests_compared,
        t.digests_proposed,
        t.digests_left_out,
        t.longest_without_ms,
        t.late,
    );
    report_failures(args, "coordination", &failed)
}

/// How long a schedule may keep an ensemble from committing, as a median over the seeds, or with any of them where it is
/// 0: the lab's bars, in milliseconds. (Some seeds have disks that take 60 ms for a sync.)
const BARS_MS: &[(&str, u64)] = &[
    ("none", 0),
    ("follower-kill9", 0),
    ("ring-leader3", 0),
    ("rolling-restart", 0),
    ("leader-kill9", 300),
    ("leader-isolate-10s", 1_000),
    ("oneway-leader-out", 1_000),
    ("leader-sigstop-10s", 1_000),
    ("leader-flap", 2_000),
    ("leader-loss30", 3_000),
    ("node71-loss50", 3_000),
    ("incident-2023-01-29", 5_000),
    ("quorum-loss", 1_000),
    ("cut-then-kill", 1_000),
];
const SCHEDULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/lab/night/schedules");

/// Each schedule with each seed, on three and on five servers.
fn run_schedules(args: &Args) -> anyhow::Result<()> {
    let mut over = Vec::new();
    for (name, bar_ms) in BARS_MS {
        let path = std::path::Path::new(SCHEDULES).join(format!("{name}.sched"));
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let schedule = coordination::Schedule::parse(&text).with_context(|| path.display().to_string())?;
        for servers in [3, 5] {
            let options = |seed: u64, trace: bool| coordination::Options {
                seed,
                servers,
                clients: 9,
                minutes: 0,
                schedule: Some(schedule.clone()),
                reconfig: false,
                groups: false,
                apache_like: false,
                pipeline: 1,
                hand_overs: 0,
                sync_ms: args.sync_ms,
                bug: None,
                trace,
            };
            if let Some(seed) = args.seed {
                let report = coordination::run(options(seed, true));
                println!("{name}, {servers} servers: {report:#?}");
                if !report.violations.is_empty() {
                    bail!("seed {seed} violates in {name}");
                }
                continue;
            }
            let (mut paused, failed) = each_seed(
                args,
                |seed| {
                    let r = coordination::run(options(seed, false));
                    (r.hash, r.violations.iter().map(|v| v.0.clone()).collect(), vec![(r.paused_ms, seed, r.leaders)])
                },
                |all: &mut Vec<_>, one| all.extend(one),
            );
            paused.sort_unstable();
            let (worst_ms, seed, _) = paused.last().copied().unwrap_or_default();
            let median_ms = paused.get(paused.len() / 2).copied().unwrap_or_default().0;
            let leaders = paused.iter().map(|p| p.2).max().unwrap_or(0);
            println!(
                "{name}, {servers} servers, {} seeds: paused {median_ms} ms (median), {worst_ms} ms (seed {seed}), at most {bar_ms}; {leaders} times a new leader at most",
                args.seeds
            );
            // A schedule whose bar is 0 must cost nothing with any seed.
            let counted_ms = if *bar_ms == 0 { worst_ms } else { median_ms };
            if counted_ms > *bar_ms {
                over.push(format!("{name} with {servers} servers: {counted_ms} ms"));
            }
            report_failures(args, "schedules", &failed)?;
        }
    }
    if !over.is_empty() {
        bail!("paused too long: {}", over.join("; "));
    }
    Ok(())
}

/// Runs every seed, on several threads; each run gives its hash, its violations and its counts.
fn each_seed<T: Default + Send>(
    args: &Args,
    run: impl Fn(u64) -> (u64, Vec<String>, T) + Sync,
    add: fn(&mut T, &T),
) -> (T, Vec<(u64, Vec<String>)>) {
    let next = AtomicU64::new(args.from);
    let total = Mutex::new((T::default(), Vec::new()));
    let hashes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..args.jobs {
            scope.spawn(|| loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= args.from + args.seeds {
                    return;
                }
                let (hash, mut violations, counts) = run(seed);
                if args.twice && run(seed).0 != hash {
                    violations.push("the second run differs from the first".into());
                }
                hashes.lock().expect("no thread panics while it holds this").push((seed, hash));
                let mut total = total.lock().expect("no thread panics while it holds this");
                add(&mut total.0, &counts);
                if !violations.is_empty() {
                    // A run of a thousand seeds takes long; its summary repeats the first ten.
                    eprintln!("seed {seed}: {}", violations[0]);
                    total.1.push((seed, violations));
                }
            });
        }
    });
    let (counts, mut failed) = total.into_inner().expect("all threads ended well");
    failed.sort_by_key(|f| f.0);
    if args.hashes {
        let mut hashes = hashes.into_inner().expect("all threads ended well");
        hashes.sort_unstable();
        hashes.iter().for_each(|(seed, hash)| println!("seed {seed} hash {hash:016x}"));
    }
    (counts, failed)
}

fn report_failures(args: &Args, core: &str, failed: &[(u64, Vec<String>)]) -> anyhow::Result<()> {
    for (seed, violations) in failed.iter().take(10) {
        println!("seed {seed}: {}", violations[0]);
        let reconfig = if args.reconfig { " --reconfig" } else { "" };
        let slow = if args.sync_ms > 0 { format!(" --sync-ms {}", args.sync_ms) } else { String::new() };
        let worlds = [
            (args.apache_like, " --apache-like"),
            (args.sizes, " --sizes"),
            (args.filled, " --filled"),
            (args.rot, " --rot"),
            (args.moves, " --moves"),
            (args.forks, " --forks"),
            (args.fills, " --fills"),
            (args.sole, " --sole"),
        ];
        let worlds: String = worlds.iter().filter(|(on, _)| *on).map(|(_, option)| *option).collect();
        println!(
            "  replay: cargo xtask sim --core {core}{reconfig}{slow}{worlds} --minutes {} --seed {seed}",
            args.minutes
        );
    }
    if !failed.is_empty() {
        bail!("{} seeds violate", failed.len());
    }
    Ok(())
}

fn add_coordination(t: &mut coordination::Report, r: &coordination::Report) {
    t.events += r.events;
    t.elections += r.elections;
    t.leaders += r.leaders;
    t.diffs += r.diffs;
    t.log_parts += r.log_parts;
    t.truncs += r.truncs;
    t.snaps += r.snaps;
    t.torn_tails += r.torn_tails;
    t.crashes += r.crashes;
    t.power_losses += r.power_losses;
    t.freezes += r.freezes;
    t.transfers += r.transfers;
    t.used_up += r.used_up;
    t.members_changes += r.members_changes;
    t.commits += r.commits;
    t.answers += r.answers;
    t.expired_sessions += r.expired_sessions;
    t.commits_early += r.commits_early;
    t.digests_compared += r.digests_compared;
    t.digests_proposed += r.digests_proposed;
    t.digests_left_out += r.digests_left_out;
    t.late += r.late;
    t.longest_without_ms = t.longest_without_ms.max(r.longest_without_ms);
}

fn run_replication(args: &Args) -> anyhow::Result<()> {
    let options = |seed: u64, trace: bool| replication::Options {
        seed,
        clients: 4,
        minutes: args.minutes,
        sizes: args.sizes,
        filled: args.filled,
        rot: args.rot,
        moves: args.moves,
        forks: args.forks,
        fills: args.fills,
        sole: args.sole,
        bug: None,
        trace,
    };
    if let Some(seed) = args.seed {
        let report = replication::run(options(seed, true));
        println!("{report:#?}");
        return if report.violations.is_empty() { Ok(()) } else { bail!("seed {seed} violates") };
    }
    let (t, failed) = each_seed(
        args,
        |seed| {
            let r = replication::run(options(seed, false));
            (r.hash, r.violations.clone(), r)
        },
        add_replication,
    );
    println!(
        "replication: {} seeds of {} simulated minutes, {} events: {} reads, {} writes, {} changes of size, {} leases ({} given back), {} seals, \
         {} roll-forwards, {} removals, {} joins, {} promotions, {} torn tails, {} kills, {} power losses, {} freezes, \
         {} damaged copies, {} orders to free a copy, {} disks that went back, {} empty ones, {} members asked what they have, \
         {} of them unknown to metad, {} found to have gone back, owners came to rest {} times; {} upgrades finalized meanwhile",
        args.seeds,
        args.minutes,
        t.events,
        t.reads,
        t.writes,
        t.size_changes,
        t.leases,
        t.given_up,
        t.seals,
        t.roll_forwards,
        t.removals,
        t.joins,
        t.promotions,
        t.torn_tails,
        t.crashes,
        t.power_losses,
        t.freezes,
        t.damages,
        t.freed,
        t.disks_back,
        t.disks_wiped,
        t.checks,
        t.checks_without_metad,
        t.went_back,
        t.rests,
        t.finalized,
    );
    if args.fills {
        println!(
            "{} disks filled up: {} writes were refused, {} blocks were overwritten",
            t.full_disks, t.refused, t.overwritten_when_full
        );
    }
    if args.sole {
        println!(
            "{} owners were deposed unnoticed, {} disks of before had the only copies, {} of which were distrusted; {} marks",
            t.deposed, t.old_disks, t.distrusted, t.marks
        );
    }
    report_failures(args, "replication", &failed)
}

fn add_replication(t: &mut replication::Report, r: &replication::Report) {
    t.full_disks += r.full_disks;
    t.refused += r.refused;
    t.overwritten_when_full += r.overwritten_when_full;
    t.rests += r.rests;
    t.marks += r.marks;
    t.distrusted += r.distrusted;
    t.deposed += r.deposed;
    t.old_disks += r.old_disks;
    t.events += r.events;
    t.reads += r.reads;
    t.writes += r.writes;
    t.size_changes += r.size_changes;
    t.leases += r.leases;
    t.given_up += r.given_up;
    t.seals += r.seals;
    t.roll_forwards += r.roll_forwards;
    t.removals += r.removals;
    t.joins += r.joins;
    t.promotions += r.promotions;
    t.crashes += r.crashes;
    t.torn_tails += r.torn_tails;
    t.power_losses += r.power_losses;
    t.freezes += r.freezes;
    t.damages += r.damages;
    t.freed += r.freed;
    t.disks_back += r.disks_back;
    t.disks_wiped += r.disks_wiped;
    t.checks += r.checks;
    t.checks_without_metad += r.checks_without_metad;
    t.finalized += r.finalized;
    t.went_back += r.went_back;
}

fn run_nodes(args: &Args) -> anyhow::Result<()> {
    let options = |seed: u64, trace: bool| nodes::Options {
        seed,
        clients: args.clients,
        minutes: args.minutes,
        bug: None,
        trace,
    };
    if let Some(seed) = args.seed {
        let report = nodes::run(options(seed, true));
        println!("{report:#?}");
        return if report.violations.is_empty() { Ok(()) } else { bail!("seed {seed} violates") };
    }
    let (t, failed) = each_seed(
        args,
        |seed| {
            let r = nodes::run(options(seed, false));
            (r.hash, r.violations.clone(), r)
        },
        nodes::Report::add,
    );
    println!(
        "nodes: {} seeds of {} simulated minutes, {} events: {} reads, {} writes, {} epochs taken, {} LEADERs, {} entries, \
         {} bindings, {} leases, {} seals, {} operations passed on, {} superseded, {} retries of writes that SEAL found, {} states taken over, {} sessions expired, \
         {} kills, {} power losses, {} freezes, {} cuts, {} nodes that lost what they had",
        args.seeds,
        args.minutes,
        t.events,
        t.reads,
        t.writes,
        t.epochs,
        t.leaders,
        t.entries,
        t.bindings,
        t.leases,
        t.seals,
        t.passed_on,
        t.superseded,
        t.retries_known,
        t.states_taken,
        t.sessions_expired,
        t.crashes,
        t.power_losses,
        t.freezes,
        t.cuts,
        t.wipes,
    );
    report_failures(args, "nodes", &failed)
}
