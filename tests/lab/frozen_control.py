#!/usr/bin/env python3
"""All control processes (coordination and metad of every node) are frozen for 60 s, or as the first argument says. Reads and
writes of open files go on, a file grows by 300 MiB, or as the second argument says, heartbeats are answered; afterwards everything
settles by itself."""
import os, signal, sys, time
from cluster import Cluster, Guest

SCRIPT = """
cd /mnt; dd if=/dev/zero of=disk bs=1M count=16 conv=fsync 2>/dev/null || { echo FAIL first write; exit 1; }
exec 3<>disk
echo READY; read go
t0=$(cut -d. -f1 /proc/uptime); i=0
while [ $i -lt COUNT ]; do
  dd if=/dev/urandom of=/tmp/block bs=1M count=1 2>/dev/null
  dd if=/tmp/block of=disk bs=1M seek=$((16+i)) conv=notrunc,fsync 2>/dev/null || { echo FAIL write $i; exit 1; }
  sum=$(md5sum < /tmp/block)
  [ $((i%%20)) = 0 ] && { echo 3 > /proc/sys/vm/drop_caches; back=$(dd if=disk bs=1M skip=$((16+i)) count=1 2>/dev/null | md5sum); [ "$sum" = "$back" ] || { echo FAIL read back $i; exit 1; }; }
  [ $((i%%10)) = 0 ] && { df /mnt > /dev/null || echo FAIL df; echo "HEARTBEAT $i"; }
  echo "ACK $i"; i=$((i+1))
done
echo GROWN; read go
size=$(stat -c %%s disk); [ "$size" = $(((16+COUNT)*1048576)) ] || { echo "FAIL size $size"; exit 1; }
mkdir after || { echo FAIL mkdir after; exit 1; }
echo END
"""

SECONDS, COUNT = ([int(a) for a in sys.argv[1:3]] + [60, 300][len(sys.argv) - 1:])[:2]

with Cluster("--split") as c:
    g = Guest(SCRIPT.replace("%%", "%").replace("COUNT", str(COUNT)), timeout=400, mem=512)
    g.wait_for("READY", 90)
    # The reserve is made in the background, within a moment of the file's growth.
    time.sleep(2)
    control = [n["pid"] for n in c.status() if "Metad" in str(n["roles"]) or "metad" in n["roles"]]
    assert len(control) == 3, control
    try:
        for pid in control:
            os.kill(pid, signal.SIGSTOP)
        frozen_at = time.monotonic()
        g.say("go")
        g.wait_for("GROWN", 240)
        took = time.monotonic() - frozen_at
        while time.monotonic() < frozen_at + SECONDS:
            time.sleep(0.5)
    finally:
        for pid in control:
            os.kill(pid, signal.SIGCONT)
    thawed = time.monotonic()
    g.say("go")
    g.wait_for("END", 60)
    g.end()
    c.wait("everything settles", c.all_ready, 60)
    print("%d MiB written and read back in %.0f s while all control processes were frozen for %.0f s; longest pause %.2f s; settled %.1f s after"
          % (COUNT, took, thawed - frozen_at, g.longest_pause(), time.monotonic() - thawed))
