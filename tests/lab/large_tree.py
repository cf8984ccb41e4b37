#!/usr/bin/env python3
"""A server with an empty disk joins an ensemble with 300,000 znodes (or as many as the argument says; a million before a
release) while clients write: the leader stays, no write waits long, the leader's memory stays, and all have the same tree in the end. Then it is away for
longer than the leader keeps transactions in memory, and gets what it lacks from the leader's log files. In the end it has
an empty disk again, and the third server is gone."""
import os, shutil, subprocess, sys, threading, time
from kazoo.client import KazooClient
from ensemble import Ensemble, HOSTS, ROOT

XTASK = os.path.join(os.path.dirname(os.environ.get("TRIVET_BIN", os.path.join(ROOT, "target/release/trivet"))), "xtask")
LONGEST_S = 0.3
WITHIN_S = 60


def rss_mib(pid):
    return next(int(l.split()[1]) for l in open("/proc/%d/status" % pid) if l.startswith("VmRSS")) / 1024


def epoch(server):
    return next(int(l.split()[1], 16) >> 32 for l in server.word("srvr").splitlines() if l.startswith("Zxid: "))


class Writer(threading.Thread):
    """Creates, changes and deletes through one server, one request after the other."""

    def __init__(self, number):
        super().__init__(daemon=True)
        self.number, self.over, self.longest_s, self.count, self.failed = number, False, 0, 0, None

    def run(self):
        try:
            self.write()
        except Exception as e:
            self.failed = repr(e)

    def write(self):
        zk = KazooClient(HOSTS[self.number] + ":2181", timeout=10)
        zk.start(timeout=30)
        # Beside what is there, and among it.
        root = "/bulk/d%d/w%d" % (self.number, self.number)
        zk.create(root)
        while not self.over:
            begun = time.time()
            n = self.count % 300
            if self.count < 300:
                zk.create("%s/%d" % (root, n), b"1")
            elif self.count % 3:
                zk.set("%s/%d" % (root, n), b"%d" % self.count)
            else:
                zk.delete("%s/%d" % (root, n))
                zk.create("%s/%d" % (root, n), b"2")
            self.longest_s = max(self.longest_s, time.time() - begun)
            self.count += 1
            time.sleep(0.005)
        zk.stop()


def digests(server):
    """The tree's digest at so many transactions, as the word `hash` gives it."""
    lines = [l for l in server.word("hash").splitlines() if l]
    return dict(l.rsplit(":", 1) for l in lines)


def count_of(server, name):
    return next(int(l.split()[1]) for l in server.word("mntr").splitlines() if l.startswith("zk_" + name + "\t"))


def from_the_log_files(e, leader, joiner):
    """12 MB of transactions while a server is away, which is more than the leader has in memory."""
    joiner.kill()
    zk = KazooClient(e.hosts(), timeout=10)
    zk.start(timeout=30)
    for i in range(120):
        for answer in [zk.set_async("/bulk", b"%05d" % (100 * i + j) * 200) for j in range(100)]:
            answer.get(timeout=30)
    zk.stop()
    before = {name: count_of(leader, name) for name in ("snap_count", "diff_count")}
    begun = time.time()
    joiner.start()
    while joiner.mode() != "follower":
        assert time.time() - begun < WITHIN_S, "it does not join within the limit"
        time.sleep(0.05)
    took = time.time() - begun
    after = {name: count_of(leader, name) for name in before}
    assert after == {"snap_count": before["snap_count"], "diff_count": before["diff_count"] + 1}, (before, after)
    with open(os.path.join(leader.folder, "log")) as log:
        assert "from the log files" in log.read(), "it was in memory"
    print("12,000 transactions of 1 kB behind: follows after %.1f s with a DIFF" % took, flush=True)


def of_which_one_is_empty(e, leader, joiner):
    """The third server is gone, and of the other two one has lost its disk: they serve as soon as it has the tree."""
    for s in e.servers.values():
        if s is not leader:
            s.kill()
    shutil.rmtree(os.path.join(joiner.data, "version-2"))
    begun = time.time()
    joiner.start()
    while joiner.mode() != "follower" or leader.mode() != "leader":
        assert time.time() - begun < WITHIN_S, "they do not serve within the limit: %s, %s" % (leader.mode(), joiner.mode())
        time.sleep(0.05)
    took = time.time() - begun
    with open(os.path.join(joiner.folder, "log")) as log:
        attempts = log.read().count("no synchronisation")
    print("two of three, one of them with an empty disk: serve after %.1f s" % took, flush=True)
    assert attempts == 0, "the snapshot took several attempts"
    for s in e.servers.values():
        if s is not leader and s is not joiner:
            s.start()
    e.wait_all()


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300_000
    with Ensemble({1: "trivet", 2: "trivet", 3: "trivet"}) as e:
        e.wait_all()
        subprocess.run([XTASK, "load", "--hosts", e.hosts(), "--op", "fill", "--count", str(count), "--sessions", "16", "--window", "32"], check=True, stdout=subprocess.DEVNULL)
        leader = e.leader()
        joiner = next(s for s in e.servers.values() if s is not leader)
        joiner.kill()
        shutil.rmtree(os.path.join(joiner.data, "version-2"))
        writers = [Writer(s.number) for s in e.servers.values() if s is not joiner]
        for w in writers:
            w.start()
        time.sleep(2)
        quiet = max(w.longest_s for w in writers)
        for w in writers:
            w.longest_s = 0
        before, memory, most = epoch(leader), rss_mib(leader.process.pid), 0
        begun = time.time()
        joiner.start()
        while joiner.mode() != "follower":
            assert time.time() - begun < WITHIN_S + count / 40_000, "it does not join within the limit"
            most = max(most, rss_mib(leader.process.pid))
            time.sleep(0.05)
        took = time.time() - begun
        time.sleep(2)
        for w in writers:
            w.over = True
        for w in writers:
            w.join()
        # With those that had begun by then.
        longest = max(w.longest_s for w in writers)
        print("%d znodes to an empty disk in %.1f s; longest of %d writes meanwhile %.0f ms (%.0f before); the leader's memory %.0f MiB, %.0f at most" % (
            count, took, sum(w.count for w in writers), 1000 * longest, 1000 * quiet, memory, most), flush=True)
        assert not any(w.failed for w in writers), [w.failed for w in writers]
        assert e.leader() is leader and epoch(leader) == before, "the leader changed"
        assert longest < LONGEST_S, "a write waited"
        assert most < 1.3 * memory + 50, "the snapshot was in the leader's memory"
        from_the_log_files(e, leader, joiner)
        # The digests of those that served all the time agree with the one that came.
        zk = KazooClient(HOSTS[joiner.number] + ":2181", timeout=10)
        zk.start(timeout=30)
        for i in range(0, 600):
            zk.set("/bulk", b"%d" % i)
        zk.stop()
        time.sleep(1)
        sizes = {s.number: [l.split()[1] for l in s.word("mntr").splitlines() if l.startswith(("zk_znode_count", "zk_approximate_data_size"))] for s in e.servers.values()}
        assert len({tuple(v) for v in sizes.values()}) == 1, sizes
        all_digests = [digests(s) for s in e.servers.values()]
        common = set.intersection(*(set(d) for d in all_digests))
        assert len(common) > 4, [len(d) for d in all_digests]
        assert all(len({d[k] for d in all_digests}) == 1 for k in common), "the digests differ"
        print("%d digests compared" % len(common))
        # The servers compare them by themselves, too.
        for s in e.servers.values():
            words = dict(l.split("\t") for l in s.word("mntr").splitlines())
            compared, differ = (int(words["zk_" + key]) for key in ("trivet_digests_compared", "digest_mismatches_count"))
            assert differ == 0 and (compared > 0 or words["zk_server_state"] == "leader"), (s.number, compared, differ)
        of_which_one_is_empty(e, leader, joiner)
    return 0


if __name__ == "__main__":
    sys.exit(main())
