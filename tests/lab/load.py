"""Load on an ensemble, and what each server has of it afterwards."""
import threading, time
from kazoo.client import KazooClient
from kazoo.exceptions import KazooException


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
