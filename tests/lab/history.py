#!/usr/bin/env python3
"""Several processes of a kernel NFS client read and write the same 4 KiB blocks and file sizes, past its caches, while one
node after the other is killed; the checker of the simulator judges what they saw."""
import os, subprocess, sys, tempfile, time
from cluster import ROOT, TRIVET, Cluster, Guest, build

SECONDS = 40
XTASK = os.path.join(os.path.dirname(TRIVET), "xtask")
SCRIPT = """
umount /mnt; mount -t nfs -o vers=3,tcp,nolock,noac,port=2049,mountport=2049,mountproto=tcp,addr=$NFS_SERVER,hard,timeo=100 $NFS_SERVER:/ds1 /mnt || { echo FAIL mount; exit 1; }
for p in 1 2 3 4; do /files/history /mnt %d $p & done
wait; echo END
""" % SECONDS

with Cluster() as c:
    g = Guest("cd /\n" + SCRIPT, files=[build("history")])
    g.wait_for("H ", 90, count=50)
    for node in (3, 1, 2):
        time.sleep(SECONDS / 5)
        before = c.wait("all nodes", lambda n: n if c.all_ready(n) else None)
        c.kill(node, before)
    g.wait_for("END", 120)
    g.end()
    path = os.path.join(c.folder, "history")
    with open(path, "w") as f:
        f.writelines(l + "\n" for _, l in g.lines if l.startswith("H "))
    code = subprocess.run([XTASK, "history", path], cwd=ROOT).returncode
    if code:
        print("the history is in", path)
        c.keep = True
        sys.exit(code)
