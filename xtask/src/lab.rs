//! `cargo xtask lab`: the tests that need root, Java, QEMU or packages. What one of them needs and
//! does not find is said and is a failure; nothing is skipped.

use anyhow::{bail, Context};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Labs of different lanes run side by side. Each lane has a network namespace of its own, so that they can use the same addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lane {
    /// Virtual machines that are NFS clients, and the datastores.
    Guests,
    /// Servers and clients of coordination, Apache's among them, and the timeline.
    Servers,
    /// Asserts short times: nothing beside it.
    Alone,
    /// Takes longer than CI has: runs when it is named, or with `--all`.
    Long,
}

/// Name, lane, program with its arguments, commands that must exist, Python modules that must exist.
struct Test {
    name: &'static str,
    lane: Lane,
    script: &'static str,
    commands: &'static [&'static str],
    modules: &'static [&'static str],
}

/// A kernel NFS client in a virtual machine needs these.
const NFS: &[&str] = &["python3", "qemu-system-x86_64", "lz4", "cc", "mke2fs", "busybox"];

/// The same, and what builds the version before.
const UPGRADE: &[&str] = &["python3", "qemu-system-x86_64", "lz4", "cc", "busybox", "git", "cargo"];

const PORTMAP: &[&str] = &[
    "python3",
    "qemu-system-x86_64",
    "lz4",
    "cc",
    "busybox",
    "ip",
    "unshare",
    "mount",
    "setpriv",
    "rpcbind",
    "rpcinfo",
    "showmount",
];

const UNSERVED: &[&str] = &["python3", "cc", "ip", "nft", "setpriv", "rpcinfo"];

const POWER: &[&str] = &["python3", "qemu-system-x86_64", "lz4", "cc", "mke2fs", "busybox", "strip"];

const WRONG: &[&str] = &["python3", "qemu-system-x86_64", "lz4", "cc", "busybox", "mount", "umount"];

/// Debian's golang-github-vmware-govmomi-dev, which has the simulator, comes with this compiler.
const VCENTER: &[&str] = &["python3", "openssl", "/usr/lib/go-1.19/bin/go"];

/// Java's keytool makes the stores.
const TLS: &[&str] = &["python3", "java", "keytool", "openssl"];

const NIGHT: &[&str] = &["python3", "qemu-system-x86_64", "lz4", "cc", "busybox", "ip", "nft"];

/// Debian's nfs-ganesha-vfs, beside which answers are compared.
const ANSWERS: &[&str] = &["python3", "ganesha.nfsd", "rpcbind", "ip", "unshare"];

/// The same, and a simulator of vCenter.
const NIGHT_VCENTER: &[&str] =
    &["python3", "qemu-system-x86_64", "lz4", "cc", "busybox", "ip", "nft", "openssl", "/usr/lib/go-1.19/bin/go"];

/// Nodes in namespaces, and what fetches the suites.
const SUITES: &[&str] =
    &["python3", "qemu-system-x86_64", "lz4", "cc", "make", "mke2fs", "busybox", "ip", "unshare", "git"];

/// Tools that link the program, and that make an empty place to start it in.
const STATIC: &[&str] = &["python3", "cargo", "readelf", "strip", "unshare", "chroot", "mount"];

const EXPOSURE: &[&str] = &["python3", "ss"];

/// The judge of OpenAPI documents, from PyPI.
const CONSOLE_API: &[&str] = &["python3", "schemathesis"];

/// Nodes in namespaces of their own, on a small disk.
const ESXI: &[&str] = &["python3", "ip", "nft", "unshare", "mount"];

/// Debian's ZooKeeper in namespaces of its own, on disks that fill up or stand still.
const CAUSES: &[&str] = &["python3", "java", "cc", "ip", "nft", "mke2fs", "mount", "fsfreeze"];

/// The Debian package on three machines with a systemd each.
const MACHINES: &[&str] =
    &["python3", "ip", "nft", "systemd-nspawn", "systemd-analyze", "nsenter", "mount", "dpkg", "lintian"];

const TESTS: &[Test] = &[
    Test { name: "recipes", lane: Lane::Servers, script: "recipes.py", commands: &["python3"], modules: &["kazoo"] },
    Test { name: "timeline", lane: Lane::Servers, script: "timeline.py", commands: &["python3"], modules: &[] },
    Test { name: "timeline-causes", lane: Lane::Long, script: "timeline_causes.py", commands: CAUSES, modules: &[] },
    Test { name: "backup", lane: Lane::Long, script: "backup.py", commands: &["python3"], modules: &["kazoo"] },
    Test {
        name: "timeline-speed",
        lane: Lane::Long,
        script: "timeline_speed.py",
        commands: &["python3"],
        modules: &[],
    },
    Test { name: "timeline-clocks", lane: Lane::Long, script: "timeline_clocks.py", commands: CAUSES, modules: &[] },
    Test { name: "systemd", lane: Lane::Long, script: "systemd.py", commands: MACHINES, modules: &[] },
    Test { name: "install", lane: Lane::Guests, script: "install.py", commands: &["python3"], modules: &[] },
    Test { name: "wrong-input", lane: Lane::Guests, script: "wrong_input.py", commands: WRONG, modules: &["kazoo"] },
    Test { name: "power-loss", lane: Lane::Long, script: "power_loss.py", commands: POWER, modules: &[] },
    Test { name: "names", lane: Lane::Guests, script: "names.py", commands: NFS, modules: &[] },
    Test {
        name: "strangers-nfs",
        lane: Lane::Guests,
        script: "strangers_nfs.py",
        commands: &["python3"],
        modules: &[],
    },
    Test {
        name: "stranger-znodes",
        lane: Lane::Guests,
        script: "stranger_znodes.py",
        commands: &["python3"],
        modules: &["kazoo"],
    },
    Test { name: "portmap", lane: Lane::Guests, script: "portmap.py", commands: PORTMAP, modules: &[] },
    Test { name: "portmap-ipv6", lane: Lane::Long, script: "portmap_ipv6.py", commands: PORTMAP, modules: &[] },
    Test { name: "nfs-locks", lane: Lane::Long, script: "nfs_locks.py", commands: PORTMAP, modules: &[] },
    Test { name: "nfs-answers", lane: Lane::Long, script: "nfs_answers.py", commands: ANSWERS, modules: &[] },
    Test { name: "nfs-rules", lane: Lane::Long, script: "nfs_rules.py", commands: NFS, modules: &[] },
    Test { name: "exposure", lane: Lane::Servers, script: "exposure.py", commands: EXPOSURE, modules: &[] },
    Test { name: "quorum-tls", lane: Lane::Long, script: "quorum_tls.py", commands: &["python3"], modules: &["kazoo"] },
    Test { name: "static-archive", lane: Lane::Long, script: "static_archive.py", commands: STATIC, modules: &[] },
    Test { name: "key-change", lane: Lane::Long, script: "key_change.py", commands: NFS, modules: &["kazoo"] },
    Test { name: "console-api", lane: Lane::Long, script: "console_api.py", commands: CONSOLE_API, modules: &[] },
    Test { name: "nfs-snapshots", lane: Lane::Long, script: "nfs_snapshots.py", commands: NFS, modules: &[] },
    Test {
        name: "nfs-suites-1",
        lane: Lane::Long,
        script: "nfs_suites.py . --part 1/3",
        commands: SUITES,
        modules: &[],
    },
    Test {
        name: "nfs-suites-2",
        lane: Lane::Long,
        script: "nfs_suites.py . --part 2/3",
        commands: SUITES,
        modules: &[],
    },
    Test {
        name: "nfs-suites-3",
        lane: Lane::Long,
        script: "nfs_suites.py . --part 3/3",
        commands: SUITES,
        modules: &[],
    },
    Test { name: "nfs-esxi", lane: Lane::Long, script: "nfs_esxi.py", commands: ESXI, modules: &[] },
    Test { name: "nfs-local", lane: Lane::Long, script: "nfs_local.py", commands: NIGHT, modules: &[] },
    Test {
        name: "nfs-local-agent",
        lane: Lane::Long,
        script: "nfs_local.py --agent",
        commands: NIGHT_VCENTER,
        modules: &[],
    },
    Test {
        name: "vcenter-case",
        lane: Lane::Long,
        script: "vcenter_case.py",
        commands: NIGHT_VCENTER,
        modules: &["pyVmomi"],
    },
    Test { name: "history", lane: Lane::Guests, script: "history.py", commands: NFS, modules: &[] },
    Test { name: "beside-repair", lane: Lane::Long, script: "beside_repair.py", commands: &["python3"], modules: &[] },
    Test { name: "node-returns", lane: Lane::Long, script: "node_returns.py", commands: &["python3"], modules: &[] },
    Test { name: "node-gone", lane: Lane::Long, script: "node_gone.py", commands: &["python3"], modules: &[] },
    Test { name: "takeover", lane: Lane::Long, script: "takeover.py", commands: &["python3"], modules: &[] },
    Test { name: "life-damage", lane: Lane::Long, script: "life_damage.py", commands: &["python3"], modules: &[] },
    Test {
        name: "watch-vcenter",
        lane: Lane::Long,
        script: "watch_vcenter.py",
        commands: VCENTER,
        modules: &["pyVmomi"],
    },
    Test {
        name: "console-tls",
        lane: Lane::Long,
        script: "console_tls.py",
        commands: &["python3", "unshare", "ip", "openssl"],
        modules: &[],
    },
    Test { name: "audit", lane: Lane::Long, script: "audit.py", commands: &["python3"], modules: &[] },
    Test { name: "upgrade", lane: Lane::Long, script: "upgrade.py", commands: UPGRADE, modules: &[] },
    Test { name: "life", lane: Lane::Long, script: "life.py", commands: &["python3"], modules: &[] },
    Test { name: "last-resorts", lane: Lane::Long, script: "last_resorts.py", commands: &["python3"], modules: &[] },
    Test { name: "overloaded", lane: Lane::Long, script: "overloaded.py", commands: &["python3"], modules: &[] },
    Test { name: "many-copies", lane: Lane::Long, script: "many_copies.py", commands: &["python3"], modules: &[] },
    Test { name: "chaos", lane: Lane::Long, script: "chaos.py", commands: &["python3"], modules: &[] },
    Test { name: "rebuild", lane: Lane::Alone, script: "rebuild.py", commands: &["python3"], modules: &[] },
    Test { name: "vm-disk", lane: Lane::Guests, script: "vm_disk.py", commands: NFS, modules: &[] },
    Test {
        name: "frozen-control",
        lane: Lane::Guests,
        script: "frozen_control.py 25 120",
        commands: NFS,
        modules: &[],
    },
    Test { name: "frozen-control-60", lane: Lane::Long, script: "frozen_control.py", commands: NFS, modules: &[] },
    Test {
        name: "apache-coordination",
        lane: Lane::Guests,
        script: "apache_coordination.py",
        commands: &["python3", "java", "qemu-system-x86_64", "cc", "lz4"],
        modules: &["kazoo"],
    },
    Test {
        name: "behaviour",
        lane: Lane::Servers,
        script: "behaviour.py",
        commands: &["python3", "java"],
        modules: &["kazoo"],
    },
    Test {
        name: "kazoo",
        lane: Lane::Servers,
        script: "kazoo_suite.py",
        commands: TLS,
        modules: &["kazoo", "pytest", "puresasl"],
    },
    Test {
        name: "clients",
        lane: Lane::Servers,
        script: "clients.py",
        commands: &["python3", "java", "cc"],
        modules: &["kazoo"],
    },
    Test { name: "curator", lane: Lane::Servers, script: "curator.py", commands: &["python3", "java"], modules: &[] },
    Test {
        name: "data-folders",
        lane: Lane::Servers,
        script: "data_folders.py",
        commands: &["python3", "java"],
        modules: &["kazoo"],
    },
    Test {
        name: "joining",
        lane: Lane::Servers,
        script: "joining.py ours epochs",
        commands: &["python3", "java"],
        modules: &["kazoo"],
    },
    Test {
        name: "joining-apache",
        lane: Lane::Long,
        script: "joining.py apache",
        commands: &["python3", "java"],
        modules: &["kazoo"],
    },
    Test {
        name: "reconfig",
        lane: Lane::Servers,
        script: "reconfig.py",
        commands: &["python3", "java"],
        modules: &["kazoo"],
    },
    Test { name: "groups", lane: Lane::Long, script: "groups.py", commands: &["python3", "java"], modules: &["kazoo"] },
    Test {
        name: "several-addresses",
        lane: Lane::Long,
        script: "several_addresses.py",
        commands: &["python3", "java", "ip", "nft", "ss", "unshare"],
        modules: &["kazoo"],
    },
    Test {
        name: "observers",
        lane: Lane::Long,
        script: "observers.py",
        commands: &["python3", "java"],
        modules: &["kazoo"],
    },
    Test {
        name: "local-sessions",
        lane: Lane::Long,
        script: "local_sessions.py",
        commands: &["python3", "java"],
        modules: &["kazoo"],
    },
    Test { name: "alone", lane: Lane::Long, script: "alone.py", commands: &["python3", "java"], modules: &["kazoo"] },
    Test {
        name: "sasl-quorum",
        lane: Lane::Long,
        script: "sasl_quorum.py",
        commands: &["python3", "java"],
        modules: &["kazoo"],
    },
    Test { name: "transfer", lane: Lane::Servers, script: "transfer.py", commands: &["python3"], modules: &["kazoo"] },
    Test { name: "tls", lane: Lane::Long, script: "tls.py", commands: TLS, modules: &["kazoo"] },
    Test { name: "tls-quorum", lane: Lane::Long, script: "tls_quorum.py", commands: TLS, modules: &["kazoo"] },
    Test { name: "admin", lane: Lane::Long, script: "admin.py", commands: TLS, modules: &["kazoo"] },
    // TRIVET_BIN names a binary that was built with --features kerberos.
    Test {
        name: "sasl-kerberos",
        lane: Lane::Long,
        script: "sasl_kerberos.py",
        commands: &["python3", "java", "krb5kdc", "kadmin.local", "kdb5_util", "kinit"],
        modules: &["kazoo", "puresasl", "kerberos", "gssapi"],
    },
    Test {
        name: "sasl",
        lane: Lane::Long,
        script: "sasl.py",
        commands: &["python3", "java"],
        modules: &["kazoo", "puresasl"],
    },
    Test {
        name: "timeline-night",
        lane: Lane::Long,
        script: "timeline_night.py",
        commands: VCENTER,
        modules: &["pyVmomi"],
    },
    Test { name: "vcenter", lane: Lane::Long, script: "vcenter.py", commands: VCENTER, modules: &["pyVmomi"] },
    Test {
        name: "vcenter-faults",
        lane: Lane::Long,
        script: "vcenter_faults.py",
        commands: VCENTER,
        modules: &["pyVmomi"],
    },
    Test {
        name: "pipelines",
        lane: Lane::Servers,
        script: "pipelines.py",
        commands: &["python3"],
        modules: &["kazoo"],
    },
    Test { name: "sessions", lane: Lane::Alone, script: "sessions.py", commands: &["python3"], modules: &["kazoo"] },
    Test {
        name: "console-browser",
        lane: Lane::Long,
        script: "console_browser.py",
        commands: &["python3", "chromium", "chromedriver"],
        modules: &["axe_playwright_python"],
    },
    Test { name: "quiet-hour", lane: Lane::Long, script: "quiet_hour.py", commands: &["python3"], modules: &["kazoo"] },
    Test { name: "console-cost", lane: Lane::Long, script: "console_cost.py", commands: &["python3"], modules: &[] },
    Test {
        name: "console-watch",
        lane: Lane::Long,
        script: "console_watch.py",
        commands: &["python3", "java"],
        modules: &["kazoo"],
    },
    Test {
        name: "console",
        lane: Lane::Long,
        script: "console.py",
        commands: &["python3", "promtool", "tar"],
        modules: &[],
    },
    Test {
        name: "json-schemas",
        lane: Lane::Servers,
        script: "json_schemas.py",
        commands: &["python3"],
        modules: &["jsonschema"],
    },
    Test { name: "liars", lane: Lane::Servers, script: "liars.py", commands: &["python3"], modules: &["kazoo"] },
    Test {
        name: "strangers",
        lane: Lane::Alone,
        script: "strangers.py",
        commands: &["python3", "java"],
        modules: &["kazoo"],
    },
    Test { name: "large-tree", lane: Lane::Long, script: "large_tree.py", commands: &["python3"], modules: &["kazoo"] },
    Test {
        name: "stalls",
        lane: Lane::Long,
        script: "stalls.py",
        commands: &["python3", "mke2fs", "mount", "fsfreeze", "strace"],
        modules: &["kazoo"],
    },
    Test {
        name: "rolling",
        lane: Lane::Servers,
        script: "rolling.py",
        commands: &["python3", "java"],
        modules: &["kazoo"],
    },
    Test {
        name: "bad-night",
        lane: Lane::Alone,
        script: "bad_night.py ci",
        commands: &["python3", "ip", "nft"],
        modules: &[],
    },
    Test {
        name: "bad-night-seven",
        lane: Lane::Long,
        script: "bad_night.py",
        commands: &["python3", "ip", "nft"],
        modules: &[],
    },
    Test {
        name: "bad-night-nodes",
        lane: Lane::Long,
        script: "bad_night.py nodes",
        commands: &["python3", "ip", "nft"],
        modules: &[],
    },
    Test { name: "unserved", lane: Lane::Alone, script: "unserved.py", commands: UNSERVED, modules: &[] },
    Test { name: "nfs-night", lane: Lane::Alone, script: "nfs_night.py", commands: NIGHT, modules: &[] },
    Test { name: "nfs-night-metad", lane: Lane::Long, script: "nfs_night_metad.py", commands: NIGHT, modules: &[] },
    Test {
        name: "apache-mix",
        lane: Lane::Servers,
        script: "apache_mix.py",
        commands: &["python3", "java"],
        modules: &["kazoo"],
    },
];

/// Downloads that a lab needs, done before the lanes start, because a lane's namespace reaches no network.
const PREPARATIONS: &[(&str, &[&str])] = &[
    ("wrong-input", GUEST),
    ("names", GUEST),
    ("portmap", GUEST),
    ("history", GUEST),
    ("vm-disk", GUEST),
    ("frozen-control", GUEST),
    ("frozen-control-60", GUEST),
    ("apache-coordination", GUEST),
    ("clients", &["clients.py", "--build"]),
    ("key-change", GUEST),
    ("upgrade", &["upgrade.py", "--build"]),
    ("upgrade", GUEST),
    ("timeline-night", VCSIM),
    ("vcenter", VCSIM),
    ("vcenter-faults", VCSIM),
    ("watch-vcenter", VCSIM),
    ("nfs-local-agent", VCSIM),
    ("nfs-local-agent", GUEST),
    ("vcenter-case", VCSIM),
    ("vcenter-case", GUEST),
];
/// The simulator of vCenter, unless it is built.
const VCSIM: &[&str] = &["-c", "import vcenter_shim; vcenter_shim.build(vcenter_shim.CACHE)"];
/// The guest's kernel, unless it is there.
const GUEST: &[&str] = &["-c", "import cluster; cluster.prepare()"];

#[derive(clap::Args)]
pub struct Args {
    /// Only these tests
    names: Vec<String>,
    /// The long ones as well, which do not fit into CI's time
    #[arg(long)]
    all: bool,
    /// Say what there is and what each needs
    #[arg(long)]
    list: bool,
    /// Run the program as `cargo test` builds it, with overflow checks and debug assertions, instead of the release
    #[arg(long)]
    dev_build: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    for name in &args.names {
        if !TESTS.iter().any(|t| t.name == name) {
            bail!("there is no lab test named {name}; see `cargo xtask lab --list`");
        }
    }
    let chosen: Vec<_> = TESTS.iter().filter(|t| chosen(args, t)).collect();
    if args.list {
        for t in &chosen {
            println!("{:<16} needs {} {}", t.name, t.commands.join(" "), t.modules.join(" "));
        }
        return Ok(());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the repository")?;
    let (profile, folder) = if args.dev_build { ("dev", "debug") } else { ("release", "release") };
    let built = Command::new("cargo").args(["build", "--quiet", "--profile", profile]).current_dir(root).status()?;
    if !built.success() {
        bail!("the binary does not build");
    }
    let place = Place { scripts: root.join("tests/lab"), program: root.join("target").join(folder).join("trivet") };
    for (name, command) in PREPARATIONS {
        if chosen.iter().any(|t| t.name == *name) {
            let prepared = place.command("python3").args(*command).status()?;
            if !prepared.success() {
                bail!("cannot prepare {name}: python3 {}", command.join(" "));
            }
        }
    }
    let of = |lane| chosen.iter().copied().filter(move |t| t.lane == lane).collect::<Vec<_>>();
    let (guests, servers) = (of(Lane::Guests), of(Lane::Servers));
    let mut failed = Vec::new();
    if guests.is_empty() || servers.is_empty() {
        failed.extend(guests.iter().chain(&servers).filter_map(|t| run_one(t, &place, false)));
    } else {
        let lane = |tests: Vec<&'static Test>| {
            let place = place.clone();
            move || tests.into_iter().filter_map(|t| run_one(t, &place, true)).collect::<Vec<_>>()
        };
        let beside = std::thread::spawn(lane(servers));
        failed.extend(lane(guests)());
        failed.extend(beside.join().map_err(|_| anyhow::anyhow!("a lane of tests panicked"))?);
    }
    let alone = [of(Lane::Alone), of(Lane::Long)].concat();
    failed.extend(alone.iter().filter_map(|t| run_one(t, &place, false)));
    for Failed { name, said } in &failed {
        println!("== the end of what {name}, which failed, said\n{said}");
    }
    println!("{} passed, {} failed", chosen.len() - failed.len(), failed.len());
    if !failed.is_empty() {
        bail!("failed: {}", failed.iter().map(|f| f.name).collect::<Vec<_>>().join(", "));
    }
    Ok(())
}

/// The folder of the labs' scripts, and the program under test.
#[derive(Clone)]
struct Place {
    scripts: PathBuf,
    program: PathBuf,
}

impl Place {
    /// A command in the scripts' folder. The lab and everything it starts read in `TRIVET_BIN` where the program lies.
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command.current_dir(&self.scripts).env("TRIVET_BIN", &self.program);
        command
    }
}

/// A test that failed, and the end of what it said: told again behind the others, where a long record of the run is not cut.
struct Failed {
    name: &'static str,
    said: String,
}

/// Lines of a failed test's output that are told again at the end.
const LINES_TOLD_AGAIN: usize = 60;

fn chosen(args: &Args, test: &Test) -> bool {
    let named = args.names.iter().any(|n| n == test.name);
    named || (args.names.is_empty() && (args.all || args.list || test.lane != Lane::Long))
}

/// Runs a test, says how it went, and returns its failure. `beside`: in a network namespace of its own, its output printed at
/// its end.
fn run_one(t: &Test, place: &Place, beside: bool) -> Option<Failed> {
    let begun = Instant::now();
    let missing = missing(t, beside);
    let limit = if t.lane == Lane::Long { LONG_LIMIT } else { LIMIT };
    if !beside {
        println!("== {}", t.name);
    }
    let (ok, said) = if !missing.is_empty() {
        let said = format!("needs what is not here: {}\n", missing.join(", "));
        if !beside {
            print!("{said}");
        }
        (false, said)
    } else if beside {
        let script = format!("ip link set lo up && exec python3 {} 2>&1", t.script);
        output(place.command("env").args([INTERRUPTIBLE, "unshare", "--net", "sh", "-c", &script]), false, limit)
    } else {
        let script = format!("exec python3 {} 2>&1", t.script);
        output(place.command("env").args([INTERRUPTIBLE, "sh", "-c", &script]), true, limit)
    };
    let seconds = begun.elapsed().as_secs_f64();
    let (head, all) = if beside { (format!("== {}\n", t.name), said.as_str()) } else { (String::new(), "") };
    println!("{head}{all}== {} {} in {seconds:.1} s", t.name, if ok { "passed" } else { "FAILED" });
    let lines: Vec<&str> = said.lines().collect();
    let end = lines[lines.len().saturating_sub(LINES_TOLD_AGAIN)..].join("\n");
    (!ok).then_some(Failed { name: t.name, said: end })
}

/// A test that runs longer is stopped and has failed, so that the others still run. The longest of CI takes 5 minutes on a busy
/// machine.
const LIMIT: Duration = Duration::from_secs(15 * 60);
/// The same for `Lane::Long`, where the longest, an hour of quiet, takes 65 minutes.
const LONG_LIMIT: Duration = Duration::from_secs(3 * 60 * 60);
/// Argument of `env`: a shell ignores the interrupt in what it starts in the background, and all that is started there inherits that.
const INTERRUPTIBLE: &str = "--default-signal=INT";
/// Seconds between the interrupt, at which a test removes what it made, and the kill.
const CLEANING: Duration = Duration::from_secs(30);

/// Whether a command succeeds within `limit`, and what it prints, which is shown while it runs if that is wanted. The command
/// is interrupted at the limit, and killed `CLEANING` later.
fn output(command: &mut Command, shown: bool, limit: Duration) -> (bool, String) {
    let mut said = String::new();
    let mut deadlines = vec![(limit + CLEANING, "KILL"), (limit, "INT")];
    let begun = Instant::now();
    let mut child = match command.stdout(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(e) => return (false, format!("cannot be run: {e}\n")),
    };
    let (lines, read) = mpsc::channel();
    let out = child.stdout.take();
    std::thread::spawn(move || {
        let all = out.into_iter().flat_map(|out| BufReader::new(out).split(b'\n')).map_while(Result::ok);
        all.map(|line| lines.send(line)).take_while(Result::is_ok).for_each(drop);
    });
    let mut ended = None;
    loop {
        if let Some((_, signal)) = deadlines.pop_if(|(at, _)| begun.elapsed() > *at) {
            said.push_str(&format!("stopped with SIG{signal} after {:.0} s\n", begun.elapsed().as_secs_f64()));
            // A failure means that the command has ended.
            let _ = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
        }
        match read.recv_timeout(OUTPUT_AFTER_END) {
            Ok(line) => {
                let line = String::from_utf8_lossy(&line);
                if shown {
                    println!("{line}");
                }
                said.push_str(&line);
                said.push('\n');
            }
            // A process that a test left behind may hold the pipe open for ever.
            Err(mpsc::RecvTimeoutError::Timeout) if ended.is_none() => ended = child.try_wait().ok().flatten(),
            Err(_) => break,
        }
    }
    let succeeded = ended.map_or_else(|| child.wait().is_ok_and(|s| s.success()), |s| s.success());
    (succeeded && deadlines.len() == 2, said)
}

/// How long what is still in the pipe is waited for when a test has ended.
const OUTPUT_AFTER_END: Duration = Duration::from_millis(500);

/// Commands that set a lane's namespace up.
const BESIDE: &[&str] = &["unshare", "ip"];

fn missing(t: &Test, beside: bool) -> Vec<String> {
    let there = |program: &str, args: &[&str]| {
        Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
    };
    let commands = t
        .commands
        .iter()
        .chain(if beside { BESIDE } else { &[] })
        .filter(|c| !there("sh", &["-c", &format!("command -v {c}")]))
        .map(|c| format!("command {c}"));
    let modules = t
        .modules
        .iter()
        .filter(|m| !there("python3", &["-c", &format!("import {m}")]))
        .map(|m| format!("Python module {m}"));
    commands.chain(modules).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_does_not_end_is_stopped_and_has_failed() {
        let mut command = Command::new("env");
        command.args([
            INTERRUPTIBLE,
            "sh",
            "-c",
            "trap 'echo cleaned; exit 0' INT; echo begun; while :; do sleep 0.1; done",
        ]);
        let (ok, said) = output(&mut command, false, Duration::from_millis(300));
        assert!(!ok, "{said}");
        let lines: Vec<&str> = said.lines().collect();
        assert!(lines[0] == "begun" && lines[1].starts_with("stopped with SIGINT") && lines[2] == "cleaned", "{said}");
        let (ok, said) = output(Command::new("sh").args(["-c", "echo done"]), false, LIMIT);
        assert!(ok && said == "done\n", "{said}");
    }
}
