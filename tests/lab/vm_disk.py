#!/usr/bin/env python3
"""A virtual disk keeps being written while the node that serves it, owns it and leads everything is killed.

A real kernel NFS client makes a 512 MiB image on ds1, an ext4 file system in it through a loop device, and
writes synced records. Half-way the node with the address, the file and both leads gets SIGKILL. No error; no
pause over 5 s; afterwards every acknowledged record reads back, and all copies are the same.
"""
import sys, time
from cluster import Cluster, Guest, build

SCRIPT = """
dd if=/dev/zero of=/mnt/disk.img bs=1M seek=511 count=1 conv=fsync 2>/dev/null || { echo FAIL image; exit 1; }
/usr/bin/mke2fs -q -F -t ext4 -E lazy_itable_init=1,lazy_journal_init=1 /mnt/disk.img || { echo FAIL mkfs; exit 1; }
mkdir -p /disk; losetup /dev/loop0 /mnt/disk.img && mount -t ext4 /dev/loop0 /disk || { echo FAIL mount; dmesg | tail -3; exit 1; }
echo READY
/files/diskload write /disk %d || exit 1
read last
umount /disk; echo 3 > /proc/sys/vm/drop_caches
mount -t ext4 /dev/loop0 /disk || { echo FAIL second mount; exit 1; }
/files/diskload verify /disk $last || exit 1
umount /disk; losetup -d /dev/loop0; sync
dmesg | grep -iE "i/o error|EXT4-fs error" && echo FAIL the kernel saw errors
echo END
"""


def once(run, seconds=24):
    with Cluster() as c:
        c.gather_roles()
        g = Guest(SCRIPT % seconds, files=[build("diskload")], bins=["mke2fs"])
        g.wait_for("READY", 90)
        g.wait_for("ACK", 30, count=50)
        time.sleep(seconds / 2 - 2)
        before = c.status()
        coordination, metad, holder = c.leaders(before)
        owner = {f["owner"] for n in before for f in n["files"] if f["size_bytes"] > 1 << 20}
        assert (coordination, metad, holder) == (3, 3, 3) and owner == {3}, (coordination, metad, holder, owner)
        killed_at = time.monotonic()
        c.kill(3, before)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with g.changed:
                if any(t > killed_at + seconds / 2 - 3 for t, _ in g.acks()):
                    break
            time.sleep(0.2)
        time.sleep(6)
        acks = g.acks()
        g.say(str(acks[-1][1]))
        g.end(120)
        pause = g.longest_pause()
        assert any("VERIFIED" in l for _, l in g.lines), g.lines[-5:]
        c.healed()
        c.stop()
        compared = c.compare_copies()
        assert compared >= 1
        print("run %d: %d records acknowledged, longest pause %.2f s, all verified, %d extents the same on both copies" % (run, len(acks), pause, compared))
        assert pause <= 5.0, "a pause of %.2f s" % pause
        return pause


runs = int(sys.argv[1]) if len(sys.argv) > 1 else 1
pauses = [once(i + 1) for i in range(runs)]
print("longest pauses: %s" % ", ".join("%.2f s" % p for p in pauses))
