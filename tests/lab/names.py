#!/usr/bin/env python3
"""Names are bytes: two names in GBK are two files, with the target of a link beside them.

create, append, mkdir, rename, rmdir and remove in a loop through the kill of the node that serves and
leads everything: none fails, none is done twice."""
import time
from cluster import Cluster, Guest

SCRIPT = """
cd /mnt; i=0; echo READY
while [ $i -lt %d ]; do
  echo "line $i" >> log || { echo FAIL append $i; exit 1; }
  : > f$i || { echo FAIL create $i; exit 1; }
  mkdir d$i || { echo FAIL mkdir $i; exit 1; }
  mv f$i d$i/g || { echo FAIL rename $i; exit 1; }
  rm d$i/g || { echo FAIL remove $i; exit 1; }
  rmdir d$i || { echo FAIL rmdir $i; exit 1; }
  echo "ACK $i"; i=$((i+1))
done
n=$(wc -l < log); [ "$n" = %d ] || { echo "FAIL log has $n lines"; exit 1; }
awk '{ if ($2 != NR-1) { print "FAIL line", NR, $0; exit 1 } }' log || exit 1
a=$(printf '\\320\\351'); b=$(printf '\\304\\342')
echo one > $a; echo two > $b; ln -s $a-$b link
[ "$(cat $a)$(cat $b)" = onetwo ] || { echo "FAIL two names in GBK are one file"; exit 1; }
[ "$(readlink link)" = $a-$b ] || { echo "FAIL the target of a link is changed"; exit 1; }
n=0; for f in *; do case $f in $a|$b) n=$((n+1));; esac; done
[ $n = 2 ] || { echo "FAIL $n of two GBK names are listed as they are"; exit 1; }
rm $a $b link
left=$(ls | grep -v '^log$' | wc -l); [ "$left" = 0 ] || { echo "FAIL $left names are left"; exit 1; }
echo END
"""
ROUNDS = 300

with Cluster() as c:
    c.gather_roles()
    g = Guest(SCRIPT % (ROUNDS, ROUNDS))
    g.wait_for("ACK", 60, count=ROUNDS // 4)
    before = c.status()
    assert c.leaders(before) == (3, 3, 3), c.leaders(before)
    c.kill(3, before)
    g.wait_for("END", 120)
    g.end()
    pause = g.longest_pause()
    print("%d rounds of six operations, none failed, none done twice, longest pause %.2f s" % (ROUNDS, pause))
    assert pause <= 5.0
