#!/usr/bin/env python3
"""Faults at random, one after another, under clients that check everything they read: nodes that are killed, told to stop or
frozen, two at a time, disks with flipped bytes, disks that are empty after a start, nodes that are replaced, nodes in maintenance. After each
fault redundancy has to be whole again; in the end every copy is read and every file compared.

    chaos.py --minutes 60 --seed 7       # an hour; the seed names the order of the faults"""
import argparse, os, random, shutil, signal, subprocess, threading, time
from cluster import ADDRESS, TRIVET, Cluster
from life import Life
from nfs_client import Client

BLOCK = 4096
BLOCKS = 96


class Writer(threading.Thread):
    """A file whose blocks this client alone writes: a read returns what was acknowledged last. A call is repeated under its
    own number until it is answered, so that nothing is ever uncertain."""

    def __init__(self, number, seed):
        super().__init__(daemon=True)
        self.random = random.Random(seed * 1000 + number)
        self.client = Client(ADDRESS, patience=240)
        self.handle = self.client.create(b"chaos%d" % number)
        self.content = [bytes(BLOCK)] * BLOCKS
        self.client.write(self.handle, [(i * BLOCK, b) for i, b in enumerate(self.content)])
        self.writes, self.reads, self.longest, self.failure, self.ended = 0, 0, 0.0, None, False

    def run(self):
        try:
            while not self.ended:
                begun, block = time.time(), self.random.randrange(BLOCKS)
                if self.random.random() < 0.5:
                    data = self.random.randbytes(BLOCK)
                    self.client.write(self.handle, [(block * BLOCK, data)])
                    self.content[block] = data
                    self.writes += 1
                else:
                    got = self.client.read(self.handle, block * BLOCK, BLOCK)
                    assert got == self.content[block], "block %d is not what was acknowledged last" % block
                    self.reads += 1
                self.longest = max(self.longest, time.time() - begun)
                time.sleep(0.005)
        except Exception as e:
            self.failure = e

    def check(self):
        assert self.failure is None, self.failure


class Chaos:
    def __init__(self, life, seed):
        self.life, self.random, self.counts = life, random.Random(seed), {}

    def node(self):
        return self.random.choice((1, 2, 3))

    def killed(self):
        node = self.node()
        self.life.kill(node)
        time.sleep(self.random.choice((0.1, 2, 5, 14)))
        self.life.start(node)

    def stopped(self):
        node = self.node()
        self.life.kill(node, signal.SIGTERM)
        time.sleep(self.random.uniform(0, 5))
        self.life.start(node)

    def frozen(self):
        node = self.node()
        pid = next(n["pid"] for n in self.life.status() if n["node"] == node)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(self.random.uniform(0.3, 8))
        os.kill(pid, signal.SIGCONT)

    def two_killed(self):
        nodes = self.random.sample((1, 2, 3), 2)
        for node in nodes:
            self.life.kill(node)
        time.sleep(self.random.uniform(0, 6))
        for node in nodes:
            self.life.start(node)

    def flipped_byte(self):
        folder = os.path.join(self.life.c.data, "node%d" % self.node(), "chunk", "extents")
        names = [n for n in os.listdir(folder) if n.startswith("extent.") and os.path.getsize(os.path.join(folder, n)) > BLOCK]
        if not names:
            return
        path = os.path.join(folder, self.random.choice(sorted(names)))
        with open(path, "r+b") as f:
            at = self.random.randrange(os.path.getsize(path))
            f.seek(at)
            old = f.read(1)
            f.seek(at)
            f.write(bytes([old[0] ^ 0x10]))
        # The flipped byte is found and repaired before the next fault, which may take the other copy.
        def repaired():
            done = subprocess.run([TRIVET, "datastore", "verify", "ds1", "--data", self.life.data()], capture_output=True, text=True, timeout=300)
            return done.returncode == 0
        self.life.wait("every copy to be good", repaired, 120)

    def empty_disk(self):
        node = self.node()
        self.life.kill(node)
        self.life.empty_disk(node)
        self.life.start(node)

    def replaced(self):
        node = self.node()
        self.life.kill(node)
        self.life.wait("the others to notice", lambda: len(self.life.status()) == 2, 30)
        for _ in range(60):
            done = subprocess.run([TRIVET, "node", "replace", str(node), "--no-wait", "--data", self.life.data()], capture_output=True, text=True)
            if done.returncode == 0:
                break
            time.sleep(1)
        assert done.returncode == 0, done.stderr
        folder = os.path.join(self.life.c.data, "node%d" % node)
        for name in os.listdir(folder):
            if name != "node.toml":
                path = os.path.join(folder, name)
                shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
        self.life.start(node)

    def maintained(self):
        node = self.node()
        self.life.run("node", "maintenance", "on", str(node))
        self.life.kill(node, signal.SIGTERM)
        time.sleep(self.random.uniform(1, 6))
        self.life.start(node)
        self.life.wait("node %d" % node, lambda: len(self.life.status()) == 3)
        self.life.run("node", "maintenance", "off", str(node))

    def one(self):
        fault = self.random.choice((self.killed, self.killed, self.stopped, self.frozen, self.frozen, self.two_killed, self.flipped_byte,
                                    self.flipped_byte, self.empty_disk, self.replaced, self.maintained))
        name = fault.__name__
        print("%s %s" % (time.strftime("%H:%M:%S"), name), flush=True)
        self.counts[name] = self.counts.get(name, 0) + 1
        fault()


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--minutes", type=float, default=60)
    options.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(2), "big"))
    options = options.parse_args()
    print("seed %d, %g minutes" % (options.seed, options.minutes), flush=True)
    with Cluster("--restart", "never") as c:
        c.wait("all nodes", c.all_ready)
        life = Life(c)
        writers = [Writer(i, options.seed) for i in range(3)]
        chaos = Chaos(life, options.seed)
        try:
            life.whole()
            for w in writers:
                w.start()
            end, slowest = time.time() + options.minutes * 60, 0
            while time.time() < end:
                chaos.one()
                begun = time.time()
                life.whole()
                slowest = max(slowest, time.time() - begun)
                for w in writers:
                    w.check()
                time.sleep(chaos.random.uniform(0, 3))
            for w in writers:
                w.ended = True
            for w in writers:
                w.join(300)
                w.check()
                for i, block in enumerate(w.content):
                    assert w.client.read(w.handle, i * BLOCK, BLOCK) == block, "block %d in the end" % i
            life.check()
            done = subprocess.run([TRIVET, "datastore", "verify", "ds1", "--data", life.data()], capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, done.stdout + done.stderr
            print("%s; %d writes and %d reads, the longest %.1f s; whole again within %.0f s of each fault; nothing lost" % (
                ", ".join("%d %s" % (n, name) for name, n in sorted(chaos.counts.items())), sum(w.writes for w in writers),
                sum(w.reads for w in writers), max(w.longest for w in writers), slowest))
        finally:
            life.end()


if __name__ == "__main__":
    main()
