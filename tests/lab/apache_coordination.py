#!/usr/bin/env python3
"""metad with a plain Apache ZooKeeper 3.8.0 ensemble for coordination: the same code path, through the death
of the ensemble's leader."""
import subprocess, os
from cluster import Cluster, Guest
from ensemble import Ensemble

SCRIPT = """
cd /mnt; i=0
while [ $i -lt 120 ]; do
  echo "line $i" >> log || { echo FAIL append $i; exit 1; }
  mkdir d$i && rmdir d$i || { echo FAIL mkdir $i; exit 1; }
  echo "ACK $i"; i=$((i+1))
done
[ $(wc -l < log) = 120 ] || echo FAIL lines
echo END
"""

with Ensemble({1: "apache", 2: "apache", 3: "apache"}) as e:
    e.wait_all()
    with Cluster("--coordination", "zookeeper://" + e.hosts()) as c:
        assert all(n["coordination"] is None for n in c.status())
        g = Guest(SCRIPT)
        g.wait_for("ACK", 60, count=30)
        leader = e.leader()
        leader.kill()
        new = e.leader()
        g.wait_for("END", 90)
        g.end()
        print("metad on Apache ZooKeeper: leader %d killed, %d leads; 120 rounds, longest pause %.2f s" % (leader.number, new.number, g.longest_pause()))
