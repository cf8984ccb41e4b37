#!/usr/bin/env python3
"""The lead moves by decision, twenty times, and before a planned stop: clients on every server see no error, no
disconnection, and every request is answered once."""
import os, signal, subprocess, threading, time
from kazoo.client import KazooClient
from ensemble import TRIVET, Ensemble


class Client(threading.Thread):
    """Sets a counter, each time to the next number, on one server and no other."""

    def __init__(self, host, name):
        super().__init__(daemon=True)
        self.zk = KazooClient(host, timeout=6, connection_retry=dict(max_tries=1))
        self.states, self.errors, self.pauses, self.done = [], [], [], threading.Event()
        self.zk.start(20)
        self.zk.add_listener(self.states.append)
        self.path, self.count = "/counter-%s" % name, 0
        self.zk.create(self.path, b"")

    def run(self):
        last = time.monotonic()
        while not self.done.is_set():
            try:
                stat = self.zk.set(self.path, b"%d" % self.count, version=self.count)
                self.count += 1
                if stat.version != self.count:
                    self.errors.append("version %d after %d sets" % (stat.version, self.count))
            except Exception as e:
                self.errors.append(repr(e))
            now = time.monotonic()
            self.pauses.append(now - last)
            last = now


with Ensemble({1: "trivet", 2: "trivet", 3: "trivet"}) as e:
    e.wait_all()
    clients = [Client("127.0.0.7%d:2181" % n, "%d%d" % (n, i)) for n in (1, 2, 3) for i in range(2)]
    for c in clients:
        c.start()
    for n in range(20):
        to = [s for s in e.servers.values() if s.mode() != "leader"][n % 2]
        cfg = os.path.join(to.folder, "zoo.cfg")
        out = subprocess.run([TRIVET, "coordination", "transfer", "--to", str(to.number), "--zoo-cfg", cfg], capture_output=True, text=True)
        assert out.returncode == 0, out.stdout + out.stderr
        e.wait_all()
        time.sleep(0.3)
    writes = sum(c.count for c in clients)
    assert all(not c.states and not c.errors for c in clients), [(c.states, c.errors[:3]) for c in clients]
    pause = max(max(c.pauses) for c in clients)
    # A planned stop: those on the other servers notice nothing.
    leader = e.leader()
    leader.kill(signal.SIGTERM)
    e.leader()
    time.sleep(0.5)
    others = [c for c in clients if leader.number != int(c.path[-2])]
    for c in clients:
        c.done.set()
    for c in others:
        c.join(10)
        assert not c.states and not c.errors, (c.states, c.errors[:3])
    stopped = max(max(c.pauses) for c in others)
    print("20 transfers, then a planned stop of the leader: %d writes by %d clients, no error, no disconnection; longest pause %.0f ms, at the stop %.0f ms"
          % (writes, len(clients), 1000 * pause, 1000 * stopped))
