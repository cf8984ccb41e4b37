#!/usr/bin/env python3
"""One server of ours in an ensemble with two Apache 3.8.0: following, voting and leading under load, through kills of each."""
import threading, time
from kazoo.client import KazooClient
from kazoo.exceptions import KazooException
from ensemble import Ensemble


class Load:
    """Appends sequential nodes and remembers which were acknowledged."""

    def __init__(self, e):
        retry = dict(max_tries=-1, delay=0.05, max_delay=0.5)
        self.zk = KazooClient(e.hosts(), timeout=10, connection_retry=dict(retry))
        self.zk.start(timeout=60)
        self.zk.ensure_path("/load")
        self.acked, self.failed, self.stop = [], 0, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        n = 0
        while not self.stop.is_set():
            try:
                path = "/load/n%06d" % n
                self.zk.create(path, b"x" * 100)
                self.acked.append(path)
                if n % 10 == 0:
                    self.zk.set("/load", b"%d" % n)
                if n % 7 == 0:
                    t = self.zk.transaction()
                    t.set_data("/load", b"m")
                    t.check(path, 0)
                    t.commit()
            except KazooException:
                self.failed += 1
                time.sleep(0.05)
            n += 1

    def progress(self, count=50, timeout=60):
        want, end = len(self.acked) + count, time.time() + timeout
        while len(self.acked) < want:
            if time.time() > end:
                raise AssertionError("no progress: %d writes in %d s" % (len(self.acked) - want + count, timeout))
            time.sleep(0.05)


def tree_of(server):
    """Every path below /load as this one server has it."""
    zk = KazooClient("127.0.0.7%d:2181" % server.number, timeout=10)
    zk.start(timeout=30)
    zk.sync("/load")
    names = set(zk.get_children("/load"))
    count = zk.get("/load")[1].version
    zk.stop()
    return names, count


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
