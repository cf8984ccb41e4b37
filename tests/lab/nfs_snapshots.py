#!/usr/bin/env python3
"""Snapshots and clones under a kernel client that writes all the time, through kills of the node that has everything.

A snapshot is what the files were, whatever is written later, and read-only; a clone of a disk of 100 GiB is there in under a
second and is written to by itself; a file comes back from a snapshot; what was deleted frees its space."""
import glob, os, subprocess, time
from cluster import TRIVET, Cluster, Guest, build

SNAPSHOT_MAX_S, PAUSE_MAX_S = 1.0, 5
SCRIPT = r"""
cd /mnt; mkdir vm; n=0
while [ $n -lt 40 ]; do echo file $n > vm/f$n; n=$((n+1)); done
dd if=/dev/urandom of=vm/disk bs=1M count=24 conv=fsync 2>/dev/null; md5sum < vm/disk > /tmp/first
truncate -s 100G vm/sparse; echo begin | dd of=vm/sparse conv=notrunc,fsync 2>/dev/null
/files/diskload write /mnt 100000 &
load=$!
sum() { echo 3 > /proc/sys/vm/drop_caches; [ "$(md5sum < $1)" = "$(cat $2)" ] || echo FAIL $1 is another one than $2; }
no() { eval "$1" >/dev/null 2>&1 && echo FAIL allowed: "$1"; }
echo READY
while read line; do
    case "$line" in
    end) break ;;
    *) eval "$line"; echo DONE ;;
    esac
done
kill $load; wait $load 2>/dev/null
dmesg | grep -iE "i/o error|stale" && echo FAIL the kernel saw errors
echo END
"""
MONDAY = "/mnt/.snapshots/monday"


def trivet(c, *args):
    p = subprocess.run([TRIVET, "datastore", "--data", c.data] + list(args), capture_output=True, text=True)
    assert p.returncode == 0, p.stdout + p.stderr
    return p.stdout


def timed(c, *args):
    begun = time.monotonic()
    trivet(c, *args)
    return time.monotonic() - begun


class Told:
    def __init__(self, guest):
        self.guest, self.count = guest, 0

    def __call__(self, line):
        self.count += 1
        self.guest.say(line)
        self.guest.wait_for("DONE", 90, count=self.count)


def on_disk(c):
    files = [f for n in (1, 2, 3) for f in glob.glob(os.path.join(c.data, "node%d" % n, "chunk", "extents", "*"))]
    return sum(os.stat(f).st_blocks * 512 for f in files)


def kill_holder(c):
    c.wait("all nodes", c.all_ready)
    c.kill(c.leaders()[2])


with Cluster() as c:
    g = Guest(SCRIPT, files=[build("diskload")], timeout=500)
    g.wait_for("READY", 120)
    g.wait_for("ACK", 60, count=20)
    guest = Told(g)
    took = timed(c, "snapshot", "create", "ds1", "monday")
    print("a snapshot of 43 files, one of which is being written: %.2f s" % took)
    assert "monday" in trivet(c, "snapshot", "list", "ds1")
    # Everything is changed: in place, whole, cut off, removed.
    guest("dd if=/dev/urandom of=vm/disk bs=1M count=20 seek=2 conv=notrunc,fsync 2>/dev/null; md5sum < vm/disk > /tmp/second")
    guest("rm vm/f0; echo x > vm/f1; : > vm/f2; mv vm/f3 vm/g3; ls -a | grep -q snapshots && echo FAIL listed")
    monday = "sum %s/vm/disk /tmp/first; [ $(ls %s/vm | wc -l) = 42 ] || echo FAIL $(ls %s/vm); cat %s/vm/f0 | grep -q 'file 0' || echo FAIL f0" % ((MONDAY,) * 4)
    guest(monday)
    guest("no 'echo x > %s/vm/f1'; no 'rm -f %s/vm/f1'; no 'touch %s/new'; no 'chmod 777 %s/vm/f4'; no 'mv -f %s/vm vm2'" % ((MONDAY,) * 5))
    sparse = timed(c, "clone", "ds1", "vm/sparse", "vm/sparse2")
    print("a clone of a disk of 100 GiB: %.2f s" % sparse)
    trivet(c, "clone", "ds1", ".snapshots/monday/vm/disk", "vm/disk2")
    guest("sum vm/disk2 /tmp/first; dd if=/dev/urandom of=vm/disk2 bs=64k count=9 seek=77 conv=notrunc,fsync 2>/dev/null; md5sum < vm/disk2 > /tmp/third")
    guest("[ \"$(head -c 5 vm/sparse2)\" = begin ] || echo FAIL sparse2; [ $(stat -c %s vm/sparse2) = 107374182400 ] || echo FAIL size")
    for _ in range(2):
        kill_holder(c)
        guest(monday)
        guest("sum vm/disk /tmp/second; sum vm/disk2 /tmp/third")
    c.wait("all nodes", c.all_ready)
    trivet(c, "restore", "ds1", "monday", "vm/disk")
    guest("sum vm/disk /tmp/first; sum vm/disk.before-restore-* /tmp/second; rm vm/disk.before-restore-*")
    trivet(c, "snapshot", "create", "ds1", "tuesday")
    before = on_disk(c)
    trivet(c, "snapshot", "delete", "ds1", "monday")
    guest("no 'ls %s'; sum /mnt/.snapshots/tuesday/vm/disk /tmp/first; sum vm/disk2 /tmp/third" % MONDAY)
    guest("rm vm/disk vm/disk2 vm/sparse vm/sparse2; sum /mnt/.snapshots/tuesday/vm/disk2 /tmp/third")
    trivet(c, "snapshot", "delete", "ds1", "tuesday")
    end = time.monotonic() + 150
    while on_disk(c) > before - (40 << 20):
        assert time.monotonic() < end, "the space of what was deleted is not free: %d of %d bytes" % (on_disk(c), before)
        time.sleep(1)
    g.say("end")
    g.wait_for("END", 60)
    g.end()
    pause = g.longest_pause()
    print("%d synced records meanwhile, longest pause %.2f s; %d MiB on the disks, %d MiB after the snapshots and files were deleted" % (
        len(g.acks()), pause, before >> 20, on_disk(c) >> 20))
    assert pause <= PAUSE_MAX_S, "a pause of %.2f s" % pause
    assert sparse <= SNAPSHOT_MAX_S, "the clone took %.2f s" % sparse
