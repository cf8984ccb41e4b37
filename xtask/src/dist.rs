//! `cargo xtask dist`: the Debian package and the archive, from a stripped release build.
//!
//! `target/dist/trivet_VERSION_ARCH.deb` holds the program, its unit, its user, completions, man pages and documents;
//! `trivet-dbgsym_...deb` the debug information; `trivet-VERSION-ARCH.tar.gz` the same files without a package, and
//! `trivet-VERSION-ARCH-static.tar.gz` those with a program that needs no libraries, for hosts with another or an older glibc.
//! `dpkg-deb` and `dpkg-shlibdeps` are what every Debian system has; nothing is downloaded.

use anyhow::{bail, Context};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(clap::Args)]
pub struct Args {
    /// Package the release build that is there, instead of building one
    #[arg(long)]
    no_build: bool,
    /// Make nothing but the archive whose program needs no libraries
    #[arg(long = "static")]
    only_static: bool,
}

/// Source, target and mode of each file that is installed as it lies in the repository.
const FILES: &[(&str, &str, u32)] = &[
    ("packaging/trivet.service", "usr/lib/systemd/system/trivet.service", 0o644),
    ("packaging/trivet.sysusers", "usr/lib/sysusers.d/trivet.conf", 0o644),
    ("packaging/trivet.tmpfiles", "usr/lib/tmpfiles.d/trivet.conf", 0o644),
    ("packaging/needrestart.conf", "etc/needrestart/conf.d/trivet.conf", 0o644),
    ("packaging/debian/copyright", "usr/share/doc/trivet/copyright", 0o644),
    ("packaging/debian/lintian-overrides", "usr/share/lintian/overrides/trivet", 0o644),
    ("docs/install.md", "usr/share/doc/trivet/install.md", 0o644),
    ("docs/zh/install.md", "usr/share/doc/trivet/zh/install.md", 0o644),
];

pub fn run(args: &Args) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the repository")?;
    let version = env!("CARGO_PKG_VERSION");
    let arch = text(Command::new("dpkg").arg("--print-architecture"))?;
    let dist = root.join("target/dist");
    if args.only_static {
        return static_archive(root, &dist, version, &arch);
    }
    if !args.no_build {
        // The release profile keeps line tables for the package of debug information; only the stripped program ships.
        // Whatever the caller's environment says of other builds.
        let mut build = Command::new("cargo");
        build.args(["build", "--release", "--package", "trivet"]).env_remove("CARGO_PROFILE_RELEASE_DEBUG");
        must(build.current_dir(root))?;
    }
    if dist.exists() {
        fs::remove_dir_all(&dist)?;
    }
    let tree = dist.join("tree");
    let program = tree.join("usr/bin/trivet");
    let symbols = dist.join("trivet.debug");
    make_parent(&program)?;
    let built = root.join("target/release/trivet");
    must(Command::new("objcopy").arg("--only-keep-debug").arg(&built).arg(&symbols))?;
    must(Command::new("strip").arg("-o").arg(&program).arg(&built))?;
    let link = format!("--add-gnu-debuglink={}", symbols.display());
    must(Command::new("objcopy").arg(link).arg(&program))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    other_files(root, &tree, &program, version)?;
    let archive = archive(&dist.join(format!("trivet-{version}-{arch}.tar.gz")), &tree)?;
    let depends = depends(&dist, &program)?;
    let control = control("trivet", version, &arch, &depends, "three hosts' disks as NFS datastores that stay up");
    let scripts: Vec<_> = ["postinst", "prerm", "postrm"].map(|s| root.join("packaging/debian").join(s)).into();
    let package = package(&dist, &tree, &format!("trivet_{version}_{arch}.deb"), &control, &scripts)?;
    let symbols_tree = dist.join("symbols");
    let target = symbols_tree.join("usr/lib/debug/usr/bin/trivet.debug");
    make_parent(&target)?;
    fs::rename(&symbols, &target)?;
    debug_documents(&symbols_tree)?;
    let needs = format!("trivet (= {version})");
    let control = self::control("trivet-dbgsym", version, &arch, &needs, "debug information of trivet");
    let debug = self::package(&dist, &symbols_tree, &format!("trivet-dbgsym_{version}_{arch}.deb"), &control, &[])?;
    told(root, &[package, debug, archive])
}

/// The documents of the package of debug information are those of the package that it needs.
fn debug_documents(tree: &Path) -> anyhow::Result<()> {
    let link = tree.join("usr/share/doc/trivet-dbgsym");
    make_parent(&link)?;
    Ok(std::os::unix::fs::symlink("trivet", &link)?)
}

fn told(root: &Path, files: &[PathBuf]) -> anyhow::Result<()> {
    for file in files {
        let mib = fs::metadata(file)?.len() as f64 / f64::from(1 << 20);
        println!("{:>8.2} MiB  {}", mib, file.strip_prefix(root).unwrap_or(file).display());
    }
    Ok(())
}

/// The same build, linked with glibc's static libraries. Names are resolved by `/etc/hosts` and DNS, which glibc 2.34 and newer have
/// within; what a host's `nsswitch.conf` names beside these is not asked.
fn static_archive(root: &Path, dist: &Path, version: &str, arch: &str) -> anyhow::Result<()> {
    let host = text(Command::new("rustc").arg("-vV"))?;
    let host = host.lines().find_map(|l| l.strip_prefix("host: ")).context("rustc names its host")?;
    // Naming the target keeps these flags from build scripts and macros, which cannot be static: rustc loads them as libraries.
    let flags = "-C target-feature=+crt-static";
    must(
        Command::new("cargo")
            .args(["build", "--release", "--package", "trivet", "--target", host])
            .env("RUSTFLAGS", flags)
            .current_dir(root),
    )?;
    let built = root.join("target").join(host).join("release/trivet");
    let needed = text(Command::new("readelf").arg("--dynamic").arg(&built))?;
    if needed.contains("(NEEDED)") {
        bail!("{} still needs libraries: {needed}", built.display());
    }
    let tree = dist.join("tree-static");
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    let program = tree.join("usr/bin/trivet");
    make_parent(&program)?;
    must(Command::new("strip").arg("-o").arg(&program).arg(&built))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    other_files(root, &tree, &program, version)?;
    told(root, &[archive(&dist.join(format!("trivet-{version}-{arch}-static.tar.gz")), &tree)?])
}

/// Everything but the program: what lies in the repository, what the program writes itself, and the changelog.
fn other_files(root: &Path, tree: &Path, program: &Path, version: &str) -> anyhow::Result<()> {
    for (source, target, mode) in FILES {
        let target = tree.join(target);
        make_parent(&target)?;
        fs::copy(root.join(source), &target).with_context(|| format!("cannot copy {source}"))?;
        fs::set_permissions(&target, fs::Permissions::from_mode(*mode))?;
    }
    shell_files(tree, program)?;
    changelog(root, tree, version)
}

fn archive(file: &Path, tree: &Path) -> anyhow::Result<PathBuf> {
    let mut tar = Command::new("tar");
    must(tar.args(["--owner=0", "--group=0", "-czf"]).arg(file).arg("-C").arg(tree).args(["usr", "etc"]))?;
    Ok(file.to_path_buf())
}

/// Completions and man pages come from the program itself, so that they cannot differ from `--help`.
fn shell_files(tree: &Path, program: &Path) -> anyhow::Result<()> {
    let made = tree.with_file_name("shell");
    must(Command::new(program).arg("shell").arg(&made))?;
    for entry in fs::read_dir(&made)? {
        let name = entry?.file_name().into_string().unwrap_or_default();
        let target = match name.as_str() {
            "trivet.bash" => "usr/share/bash-completion/completions/trivet".to_string(),
            "_trivet" => "usr/share/zsh/vendor-completions/_trivet".into(),
            "trivet.fish" => "usr/share/fish/vendor_completions.d/trivet.fish".into(),
            page => format!("usr/share/man/man1/{page}"),
        };
        let target = tree.join(target);
        make_parent(&target)?;
        fs::copy(made.join(&name), &target)?;
        if name.ends_with(".1") {
            must(Command::new("gzip").args(["-9n"]).arg(&target))?;
        }
    }
    Ok(())
}

/// Debian wants its own form of a changelog beside ours.
fn changelog(root: &Path, tree: &Path, version: &str) -> anyhow::Result<()> {
    let folder = tree.join("usr/share/doc/trivet");
    let date = text(Command::new("date").arg("-R"))?;
    let debian = format!(
        "trivet ({version}) unstable; urgency=medium\n\n  * See CHANGELOG.md in this folder.\n\n \
         -- The Trivet authors <trivet@localhost>  {date}\n"
    );
    fs::write(folder.join("changelog"), debian)?;
    fs::copy(root.join("CHANGELOG.md"), folder.join("CHANGELOG.md"))?;
    must(Command::new("gzip").args(["-9n"]).arg(folder.join("changelog")))
}

/// `shlibs:Depends` as dpkg-shlibdeps finds it; it wants a `debian/control` where it runs.
fn depends(dist: &Path, program: &Path) -> anyhow::Result<String> {
    let folder = dist.join("shlibs");
    fs::create_dir_all(folder.join("debian"))?;
    fs::write(folder.join("debian/control"), "Source: trivet\n\nPackage: trivet\nArchitecture: any\n")?;
    let out = text(Command::new("dpkg-shlibdeps").args(["-O", "-e"]).arg(program).current_dir(&folder))?;
    let found = out.strip_prefix("shlibs:Depends=").context("dpkg-shlibdeps names no dependencies")?;
    Ok(format!("{found}, systemd | systemd-standalone-sysusers, adduser | systemd"))
}

fn control(name: &str, version: &str, arch: &str, depends: &str, about: &str) -> String {
    let (section, built) =
        if name.ends_with("dbgsym") { ("debug", "Auto-Built-Package: debug-symbols\n") } else { ("admin", "") };
    format!(
        "Package: {name}\nVersion: {version}\nArchitecture: {arch}\nSection: {section}\nPriority: optional\n{built}\
         Maintainer: The Trivet authors <trivet@localhost>\nDepends: {depends}\nDescription: {about}\n \
         Coordination (a ZooKeeper ensemble), metadata service, chunk servers and NFS\n gateways in one program, \
         for the hosts of virtual machines.\n"
    )
}

fn package(dist: &Path, tree: &Path, name: &str, control: &str, scripts: &[PathBuf]) -> anyhow::Result<PathBuf> {
    let meta = tree.join("DEBIAN");
    fs::create_dir_all(&meta)?;
    fs::write(meta.join("control"), control)?;
    // Below /etc nothing is overwritten that an administrator has changed.
    let etc = tree.join("etc");
    if etc.exists() {
        let all = text(Command::new("find").arg("etc").args(["-type", "f"]).current_dir(tree))?;
        let conffiles: String = all.lines().map(|l| format!("/{l}\n")).collect();
        fs::write(meta.join("conffiles"), conffiles)?;
    }
    let sums = Command::new("sh")
        .args(["-c", "find usr -type f -print0 | sort -z | xargs -0 md5sum"])
        .current_dir(tree)
        .output()?;
    fs::write(meta.join("md5sums"), sums.stdout)?;
    for script in scripts {
        let target = meta.join(script.file_name().context("a script has a name")?);
        fs::copy(script, &target)?;
        fs::set_permissions(&target, fs::Permissions::from_mode(0o755))?;
    }
    let file = dist.join(name);
    // Folders in the repository's checkout may have any mode; those of a package have one.
    must(Command::new("find").arg(tree).args(["-type", "d", "-exec", "chmod", "0755", "{}", "+"]))?;
    must(Command::new("dpkg-deb").args(["--root-owner-group", "-Zxz", "--build"]).arg(tree).arg(&file))?;
    Ok(file)
}

fn make_parent(path: &Path) -> anyhow::Result<()> {
    let parent = path.parent().context("a file lies in a folder")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))
}

fn must(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let out = command.output().with_context(|| format!("cannot run {program}"))?;
    if !out.status.success() {
        bail!("{program} failed: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(())
}

fn text(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let out = command.output().with_context(|| format!("cannot run {program}"))?;
    if !out.status.success() {
        bail!("{program} failed: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_string())
}
