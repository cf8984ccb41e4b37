#!/usr/bin/env python3
"""The archive for hosts with an older glibc: in a folder that holds nothing but it, /dev and /proc, the program starts a cluster and
resolves names by /etc/hosts. The archive is `cargo xtask dist --static`'s; TRIVET_STATIC names one that is there already."""
import glob, os, subprocess, sys, tarfile, tempfile
from cluster import ROOT

# Everything is done in namespaces of its own, which end with the shell.
BEGIN = """
set -e
mount --bind /dev {root}/dev
mount -t proc proc {root}/proc
ip link set lo up
trivet() {{ chroot {root} /usr/bin/trivet "$@"; }}
"""

# A cluster of three nodes, asked by a name of the folder's /etc/hosts.
CLUSTER = """
chroot {root} /usr/bin/trivet up --data /data > {root}/up.log 2>&1 & up=$!
tries=0
until trivet zk --server a-name-of-hosts:2181 --json ls / > {root}/ls.json 2>&1 && grep -q metad {root}/ls.json; do
    tries=$((tries + 1))
    [ $tries -lt 120 ] || {{ cat {root}/up.log {root}/ls.json; exit 1; }}
    sleep 0.5
done
kill $up
wait $up
cat {root}/ls.json
"""


def inside(root, script, seconds=180):
    script = (BEGIN + script).format(root=root)
    return subprocess.run(["unshare", "--net", "--mount", "sh", "-c", script], capture_output=True, text=True, timeout=seconds)


def main():
    archive = os.environ.get("TRIVET_STATIC")
    if not archive:
        subprocess.check_call(["cargo", "xtask", "dist", "--static"], cwd=ROOT)
        archive = max(glob.glob(os.path.join(ROOT, "target/dist/trivet-*-static.tar.gz")), key=os.path.getmtime)
    with tempfile.TemporaryDirectory() as root:
        with tarfile.open(archive) as tar:
            tar.extractall(root)
        for folder in ("dev", "proc", "tmp", "data"):
            os.mkdir(os.path.join(root, folder))
        with open(os.path.join(root, "etc/hosts"), "w") as f:
            f.write("127.0.0.1 localhost\n127.0.0.71 a-name-of-hosts\n")
        program = os.path.join(root, "usr/bin/trivet")
        assert not any(".so" in name for _, _, names in os.walk(root) for name in names)
        version = inside(root, "trivet --version")
        assert version.returncode == 0 and version.stdout.startswith("trivet "), version
        made = inside(root, CLUSTER)
        assert made.returncode == 0 and "metad" in made.stdout, made
        unknown = inside(root, "trivet zk --server no-such-name:2181 ls /")
        assert unknown.returncode and "no-such-name" in unknown.stderr, unknown
        print("%s: %.1f MiB, a program of %.1f MiB without libraries; a cluster was up in an empty folder, names by /etc/hosts"
              % (os.path.basename(archive), os.path.getsize(archive) / 2**20, os.path.getsize(program) / 2**20))


sys.exit(main())
