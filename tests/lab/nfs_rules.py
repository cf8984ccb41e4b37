#!/usr/bin/env python3
"""Permissions of a datastore, shown by the kernel client: trusted (nothing is checked but the address), checked, root-squash.

Each line of the guest's script is what knfsd does on an export with no_root_squash or root_squash."""
import subprocess
from cluster import TRIVET, Cluster, Guest

SCRIPT = r"""
also() { mkdir -p $2; mount -t nfs -o "addr=$NFS_SERVER,$NFS_OPTS,noac" "$NFS_SERVER:$1" $2 2>/dev/null || echo FAIL mount $1; }
user() { su user -c "$1" 2>/dev/null; }
tests() { su tests -c "$1" 2>/dev/null; }
also /checked /checked; also /squashed /squashed
yes() { eval "$1" >/dev/null 2>&1 || echo FAIL refused: "$1"; }
no() { eval "$1" >/dev/null 2>&1 && echo FAIL allowed: "$1"; }
owner() { stat -c %u:%g "$1"; }

# Trusted: root writes everything, and names are given to whom a host says.
echo x > /mnt/r; chmod 600 /mnt/r; yes 'cat /mnt/r'
yes 'chown 1000:1000 /mnt/r && cat /mnt/r'

cd /checked
chmod 1777 /checked
user 'echo secret > mine; chmod 600 mine'
[ "$(owner mine)" = 1000:1000 ] || echo FAIL owner $(owner mine)
yes 'cat mine'; no "tests 'cat mine'"; no "tests 'echo x >> mine'"
no "tests 'chmod 666 mine'"; no "tests 'rm -f mine'"; no "tests 'mv mine theirs'"; no "user 'chown 1001 mine'"
user 'chmod 644 mine'; yes "tests 'cat mine'"; no "tests 'echo x >> mine'"; no "tests 'touch mine'"
yes "user 'touch -d 2020-01-01 mine'"; yes 'chown 1001 mine'; yes "tests 'rm mine'"
mkdir closed; chmod 700 closed; echo x > closed/in
no "user 'ls closed'"; no "user 'cat closed/in'"; no "user 'touch closed/new'"
chmod 711 closed; no "user 'ls closed'"; yes "user 'cat closed/in'"
chmod 755 closed; no "user 'mkdir closed/d'"; no "user 'ln -s x closed/l'"; no "user 'rm -f closed/in'"
user 'echo x > run; chmod 4755 run'; yes '[ -u run ]'; chmod 4777 run; tests 'echo y >> run'; no '[ -u run ]'
no "user 'mknod dev b 1 1'"; yes "user 'mkfifo fifo'"; yes 'mknod dev b 1 1'

cd /squashed
echo x > f
[ "$(owner f)" = 65534:65534 ] || echo FAIL root is $(owner f)
no 'chown 1000 f'
user 'echo x > u; chmod 600 u'; no 'cat u'; no 'echo x > u'; no 'chmod 666 u'; yes "user 'cat u'"

# Space: a sparse file takes what was written to it, to the block.
cd /mnt
truncate -s 100G sparse
[ $(du -k sparse | cut -f1) -le 64 ] || echo FAIL du $(du -k sparse)
dd if=/dev/zero of=sparse bs=64k count=16 seek=77777 conv=notrunc,fsync 2>/dev/null; sleep 4
used=$(du -k sparse | cut -f1); [ $used -ge 1024 ] && [ $used -le 1200 ] || echo FAIL du of 1 MiB: $used
set -- $(df -k /mnt | tail -1); [ $3 -lt $2 ] || echo FAIL df: "$@"
echo END
"""


def datastore(c, *args):
    p = subprocess.run([TRIVET, "datastore", "--data", c.data] + list(args), capture_output=True, text=True)
    assert p.returncode == 0, p.stdout + p.stderr
    return p.stdout


with Cluster() as c:
    # Mounted at once: nobody waits for heartbeats.
    datastore(c, "create", "checked", "--permissions", "checked")
    datastore(c, "create", "squashed")
    datastore(c, "set", "squashed", "--permissions", "root-squash")
    assert "permissions  root-squash" in datastore(c, "show", "squashed")
    g = Guest(SCRIPT)
    g.wait_for("END", 180)
    g.end()
    print("trusted, checked and root-squash: as knfsd")
