#!/usr/bin/env python3
"""A server of ours in an ensemble with two Apache 3.8.0: following, voting and leading under load, through kills of each."""
from ensemble import Ensemble
from load import Load, tree_of


def main():
    with Ensemble({1: "apache", 2: "trivet", 3: "apache"}) as e:
        e.wait_all()
        print("leader at first: server %d (%s)" % ((l := e.leader()).number, l.kind))
        load = Load(e)
        load.progress()
        led = set()
        for round in range(2):
            for n in (2, 1, 3):
                s = e.servers[n]
                s.kill()
                leader = e.leader()
                led.add(leader.kind)
                load.progress()
                print("server %d (%s) killed: server %d (%s) leads, writes go on" % (n, s.kind, leader.number, leader.kind))
                s.start()
                e.wait_all()
                load.progress()
        # With an Apache follower that starts from nothing, ours leading: it needs a snapshot.
        load.stop.set()
        load.thread.join(30)
        trees = {n: tree_of(s) for n, s in e.servers.items()}
        for n, (names, _) in trees.items():
            missing = [p for p in load.acked if p.rsplit("/", 1)[1] not in names]
            assert not missing, "server %d lacks %d acknowledged nodes, first %s" % (n, len(missing), missing[:3])
        assert len(set((frozenset(a), b) for a, b in trees.values())) == 1, "the servers' trees differ"
        print("%d acknowledged writes on all three, %d of unknown outcome; led: %s" % (len(load.acked), load.failed, sorted(led)))
        assert led == {"apache", "trivet"}, "both kinds have to lead in this test, only %s did" % led
        load.zk.stop()


main()
