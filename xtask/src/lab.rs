//! `cargo xtask lab`: the tests that need root, Java, QEMU or packages. What one of them needs and
//! does not find is said and is a failure; nothing is skipped.

use anyhow::{bail, Context};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Name, program with arguments, commands that must exist, Python modules that must exist.
struct Test {
    name: &'static str,
    script: &'static str,
    commands: &'static [&'static str],
    modules: &'static [&'static str],
}

/// A kernel NFS client in a virtual machine needs these.
const NFS: &[&str] = &["python3", "qemu-system-x86_64", "lz4", "cc", "mke2fs", "busybox"];

const POWER: &[&str] = &["python3", "qemu-system-x86_64", "lz4", "cc", "mke2fs", "busybox", "strip"];

const WRONG: &[&str] = &["python3", "qemu-system-x86_64", "lz4", "cc", "busybox", "mount", "umount"];

const NIGHT: &[&str] = &["python3", "qemu-system-x86_64", "lz4", "cc", "busybox", "ip", "nft"];

const TESTS: &[Test] = &[
    Test { name: "recipes", script: "recipes.py", commands: &["python3"], modules: &["kazoo"] },
    Test { name: "wrong-input", script: "wrong_input.py", commands: WRONG, modules: &["kazoo"] },
    Test { name: "power-loss", script: "power_loss.py", commands: POWER, modules: &[] },
    Test { name: "names", script: "names.py", commands: NFS, modules: &[] },
    Test { name: "history", script: "history.py", commands: NFS, modules: &[] },
    Test { name: "vm-disk", script: "vm_disk.py", commands: NFS, modules: &[] },
    Test { name: "frozen-control", script: "frozen_control.py", commands: NFS, modules: &[] },
    Test {
        name: "apache-coordination",
        script: "apache_coordination.py",
        commands: &["python3", "java", "qemu-system-x86_64", "cc", "lz4"],
        modules: &["kazoo"],
    },
    Test { name: "behaviour", script: "behaviour.py", commands: &["python3", "java"], modules: &["kazoo"] },
    Test { name: "kazoo", script: "kazoo_suite.py", commands: &["python3"], modules: &["kazoo", "pytest"] },
    Test { name: "clients", script: "clients.py", commands: &["python3", "java", "cc"], modules: &["kazoo"] },
    Test { name: "data-folders", script: "data_folders.py", commands: &["python3", "java"], modules: &["kazoo"] },
    Test { name: "reconfig", script: "reconfig.py", commands: &["python3", "java"], modules: &["kazoo"] },
    Test { name: "transfer", script: "transfer.py", commands: &["python3"], modules: &["kazoo"] },
    Test { name: "sessions", script: "sessions.py", commands: &["python3"], modules: &["kazoo"] },
    Test { name: "liars", script: "liars.py", commands: &["python3"], modules: &["kazoo"] },
    Test { name: "strangers", script: "strangers.py", commands: &["python3", "java"], modules: &["kazoo"] },
    Test {
        name: "stalls",
        script: "stalls.py",
        commands: &["python3", "mke2fs", "mount", "fsfreeze"],
        modules: &["kazoo"],
    },
    Test { name: "rolling", script: "rolling.py", commands: &["python3", "java"], modules: &["kazoo"] },
    Test { name: "bad-night", script: "bad_night.py", commands: &["python3", "ip", "nft"], modules: &[] },
    Test { name: "nfs-night", script: "nfs_night.py", commands: NIGHT, modules: &[] },
    Test { name: "apache-mix", script: "apache_mix.py", commands: &["python3", "java"], modules: &["kazoo"] },
];

#[derive(clap::Args)]
pub struct Args {
    /// Only these tests
    names: Vec<String>,
    /// Say what there is and what each needs
    #[arg(long)]
    list: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    for name in &args.names {
        if !TESTS.iter().any(|t| t.name == name) {
            bail!("there is no lab test named {name}; see `cargo xtask lab --list`");
        }
    }
    let chosen: Vec<_> =
        TESTS.iter().filter(|t| args.names.is_empty() || args.names.iter().any(|n| n == t.name)).collect();
    if args.list {
        for t in &chosen {
            println!("{:<16} needs {} {}", t.name, t.commands.join(" "), t.modules.join(" "));
        }
        return Ok(());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the repository")?;
    let built = Command::new("cargo")
        .args(["build", "--quiet", "--release", "--package", "trivet"])
        .current_dir(root)
        .status()?;
    if !built.success() {
        bail!("the binary does not build");
    }
    let (mut passed, mut failed) = (0, Vec::new());
    for t in chosen {
        println!("== {}", t.name);
        let missing = missing(t);
        let begun = Instant::now();
        let ok = if missing.is_empty() {
            Command::new("python3").arg(t.script).current_dir(root.join("tests/lab")).status()?.success()
        } else {
            println!("needs what is not here: {}", missing.join(", "));
            false
        };
        println!("== {} {} in {:.1} s", t.name, if ok { "passed" } else { "FAILED" }, begun.elapsed().as_secs_f64());
        if ok {
            passed += 1;
        } else {
            failed.push(t.name);
        }
    }
    println!("{passed} passed, {} failed", failed.len());
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn missing(t: &Test) -> Vec<String> {
    let there = |program: &str, args: &[&str]| {
        Command::new(program)
            .args(args)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    };
    let commands =
        t.commands.iter().filter(|c| !there("sh", &["-c", &format!("command -v {c}")])).map(|c| format!("command {c}"));
    let modules = t
        .modules
        .iter()
        .filter(|m| !there("python3", &["-c", &format!("import {m}")]))
        .map(|m| format!("Python module {m}"));
    commands.chain(modules).collect()
}
