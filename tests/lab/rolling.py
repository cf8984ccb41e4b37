#!/usr/bin/env python3
"""Rolling replacement: an Apache 3.8.0 ensemble becomes one of ours, one server at a time, on the same data folders and
under load, and then Apache's again; with three voters and an observer, and with five voters."""
import signal, sys, time
from ensemble import Ensemble
from load import Load, tree_of


def replace(e, load, number, kind):
    s = e.servers[number]
    s.kill(signal.SIGTERM)
    s.kind = kind
    s.start()
    e.wait_all(90)
    load.progress(30)
    leader = e.leader()
    return "%d is %s, %d (%s) leads" % (number, kind, leader.number, leader.kind)


def roll(voters, observers):
    numbers = list(range(1, voters + observers + 1))
    watching = numbers[voters:]
    with Ensemble({n: "apache" for n in numbers}, watching) as e:
        e.wait_all(90)
        load = Load(e)
        load.progress(30)
        steps = [replace(e, load, n, kind) for kind in ("trivet", "apache") for n in numbers]
        load.stop.set()
        load.thread.join(30)
        e.wait_all()
        trees = {n: tree_of(s) for n, s in e.servers.items()}
        names, version = trees[1]
        for n, (other, v) in trees.items():
            missing = [p for p in load.acked if p.rsplit("/", 1)[1] not in other]
            assert not missing, "server %d lacks %d acknowledged writes, %s first" % (n, len(missing), missing[0])
            assert (other, v) == (names, version), "servers 1 and %d differ" % n
        led = {kind for kind in ("apache", "trivet") if any("(%s) leads" % kind in s for s in steps)}
        print("%d voters, %d observers: %s" % (voters, observers, "; ".join(steps)))
        print("%d acknowledged writes, all on every server, trees the same" % len(load.acked))
        assert led == {"apache", "trivet"}, "only %s led" % led


sizes = [(3, 1), (5, 0)] if len(sys.argv) < 2 else [(int(sys.argv[1]), int(sys.argv[2]))]
for voters, observers in sizes:
    roll(voters, observers)
