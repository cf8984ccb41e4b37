#!/usr/bin/env python3
"""TLS between the coordination servers of a cluster's nodes: three nodes that speak in clear take TLS up node by node while clients
write, and demand it in the end, without a pause longer than a planned stop; then votes, learners and datagrams of a stranger are
refused and counted, connections that say nothing keep no member out, and elections take no longer than before.

With TRIVET_BEFORE the nodes run that program first (of a version before TLS between servers), go up and back, and the upgrade is
finalized; without it the nodes of the version before are those with `quorum_tls = "off"`. --elections N does nothing but to kill N
leaders of nodes that start with the setting QUORUM_TLS, after it has measured how long writes take."""
import os, re, signal, socket, ssl, statistics, struct, subprocess, sys, threading, time
from cluster import Cluster, TRIVET
from kazoo.client import KazooClient

HOSTS = {i: "127.0.0.7%d" % i for i in (1, 2, 3)}
BEFORE = os.environ.get("TRIVET_BEFORE")
# A planned stop hands its leads over first; the bound leaves room for a machine that stalls for seconds.
PAUSE_MAX_S = 5.0
ELECTION_MAX_S = 3.0
HALF_OPEN = 300
WRITES = 1_500


class Nodes(Cluster):
    """Each node is a process of its own on folders that `up` made."""

    def __init__(self, program, setting):
        super().__init__()
        self.program, self.setting, self.running = program, setting, {}

    def __enter__(self):
        made = subprocess.run([self.program, "up", "--data", self.data, "--exec", "true"], capture_output=True, text=True, timeout=120)
        assert made.returncode == 0, made.stdout + made.stderr
        for i in HOSTS:
            self.start(i, self.program, self.setting)
        self.wait("all nodes", self.all_ready)
        return self

    def toml(self, i):
        return os.path.join(self.data, "node%d" % i, "node.toml")

    def start(self, i, program, setting=None):
        text = re.sub(r'^quorum_tls = .*\n', "", open(self.toml(i)).read(), flags=re.M)
        with open(self.toml(i), "w") as f:
            f.write(('quorum_tls = "%s"\n' % setting if setting else "") + text)
        log = open(os.path.join(self.data, "node%d" % i, "node.log"), "ab")
        self.running[i] = subprocess.Popen([program, "serve", "--config", self.toml(i)], stdout=log, stderr=log)

    def replace(self, i, program, setting=None):
        self.running[i].send_signal(signal.SIGTERM)
        code = self.running[i].wait(30)
        assert code == 0, "node %d ended with %s" % (i, code)
        self.start(i, program, setting)
        self.wait("node %d again" % i, self.all_ready, 60)

    def stop(self):
        for p in self.running.values():
            if p.poll() is None:
                p.send_signal(signal.SIGTERM)
        for p in self.running.values():
            p.wait(30)

    def speaks(self):
        return [(n["coordination"] or {}).get("quorum_tls", "") for n in self.status()]

    def all_demand(self, seconds=30):
        self.wait("every node demands TLS", lambda nodes: len(nodes) == 3 and self.speaks() == ["required"] * 3, seconds)

    def leader(self):
        return self.wait("a leader", lambda nodes: self.leaders(nodes)[0])

    def refused(self):
        return sum(n["coordination"]["refused"] for n in self.status())


class Writer:
    """Writes numbers, one after the other, and remembers the longest pause."""

    def __init__(self):
        self.zk = KazooClient(",".join("%s:2181" % h for h in HOSTS.values()), timeout=10)
        self.zk.start(timeout=60)
        self.zk.ensure_path("/w")
        self.count, self.longest, self.took, self.stop = 0, 0.0, [], False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        last = time.monotonic()
        while not self.stop:
            begun = time.monotonic()
            try:
                self.zk.set("/w", b"%d" % (self.count + 1))
            except Exception:
                time.sleep(0.02)
                continue
            self.count += 1
            now = time.monotonic()
            self.took.append(now - begun)
            self.longest, last = max(self.longest, now - last), now

    def pause(self):
        longest, self.longest = self.longest, 0.0
        return longest

    def progress(self, count=30):
        end, wanted = time.monotonic() + 60, self.count + count
        while self.count < wanted:
            assert time.monotonic() < end, "no writes"
            time.sleep(0.02)

    def end(self):
        self.stop = True
        self.thread.join(60)
        got = int(self.zk.get("/w")[0])
        self.zk.stop()
        assert got >= self.count > 0, "%d were acknowledged, and %d is there" % (self.count, got)


def roll(c, w, what, steps):
    for i, program, setting in steps:
        w.pause()
        c.replace(i, program, setting)
        w.progress()
        pause = w.pause()
        print("%-34s node %d: longest pause %.2f s, servers say %s" % (what, i, pause, ",".join(map(str, c.speaks()))), flush=True)
        assert pause <= PAUSE_MAX_S, pause


def switch(c, w):
    if not BEFORE:
        roll(c, w, "in clear -> TLS is taken", [(i, TRIVET, "accept") for i in (1, 2, 3)])
        roll(c, w, "back", [(2, TRIVET, "off"), (2, TRIVET, "accept")])
        roll(c, w, "TLS is demanded", [(i, TRIVET, None) for i in (3, 1, 2)])
    else:
        roll(c, w, "version before -> this one", [(1, TRIVET, None), (2, TRIVET, None)])
        roll(c, w, "back, and up again", [(2, BEFORE, None), (2, TRIVET, None), (3, TRIVET, None)])
        assert c.speaks() == ["accepted"] * 3, c.speaks()
        w.pause()
        end = time.time() + 30
        while subprocess.run([TRIVET, "upgrade", "finalize", "--data", c.data], capture_output=True, timeout=60).returncode:
            assert time.time() < end, "the upgrade is not finalized"
            time.sleep(0.5)
    c.all_demand()
    w.progress()
    print("every node demands TLS: longest pause %.2f s, %d writes" % (w.pause(), w.count), flush=True)


def closed(host, port, said, tls=False, source="127.0.0.1"):
    """The bytes that a stranger gets before the connection ends; None if it does not end."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((source, 0))
        s.settimeout(8)
        s.connect((host, port))
        try:
            if tls:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                s = context.wrap_socket(s)
            s.sendall(said)
            got = b""
            while part := s.recv(1000):
                got += part
            return got
        except socket.timeout:
            return None
        except (ssl.SSLError, OSError):
            return b""


def vote(node):
    """A server that is looking, would lead itself, and knows everything."""
    address = ("%s:3888" % HOSTS[node]).encode()
    body = struct.pack(">iqqqqii", 0, node, 0x7fffffff, 9, 1, 2, 0)
    return struct.pack(">qqi", -65536, node, len(address)) + address + struct.pack(">i", len(body)) + body


def follower(node):
    """FOLLOWERINFO of a member."""
    data = struct.pack(">qiq", node, 0x10000, 0)
    return struct.pack(">iqi", 11, 0, len(data)) + data + struct.pack(">i", -1)


def probe(node, number):
    """A datagram that says that its sender leads, and hears nobody."""
    return b"TRVL\x02" + struct.pack(">qIIIHBB", node, 7, number, 0, 0, 2, 0)


def strangers(c, w):
    leader = c.leader()
    other = next(i for i in HOSTS if i != leader)
    member = next(i for i in HOSTS if i not in (leader, other))
    epoch = max(n["coordination"]["epoch"] for n in c.status())
    for what, port, said in (("a vote", 3888, vote(member)), ("a learner", 2888, follower(member))):
        for tls, source in ((False, "127.0.0.1"), (False, HOSTS[member]), (True, "127.0.0.1")):
            before = c.refused()
            answer = closed(HOSTS[leader], port, said, tls, source)
            assert answer is not None and not (set(answer[:1]) - {0x15}), (what, tls, source, answer)
            c.wait("%s of a stranger is counted" % what, lambda nodes: sum(n["coordination"]["refused"] for n in nodes) > before, 10)
    before = c.refused()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((HOSTS[member], 0))
        for number in range(200):
            for to in (leader, other):
                s.sendto(probe(member, 1_000_000 + number), (HOSTS[to], 3888))
            time.sleep(0.01)
    c.wait("forged datagrams are counted", lambda nodes: sum(n["coordination"]["refused"] for n in nodes) > before, 10)
    w.progress()
    assert c.leader() == leader and max(n["coordination"]["epoch"] for n in c.status()) == epoch, "an election"
    print("votes, learners and datagrams of a stranger: refused and counted (%d), the same leader, the same epoch" % c.refused(), flush=True)


def half_open(c, w):
    leader = c.leader()
    held = []
    for port in (2888, 3888):
        for _ in range(HALF_OPEN):
            s = socket.socket()
            s.connect((HOSTS[leader], port))
            s.setblocking(False)
            held.append((port, s))
    time.sleep(0.5)
    open_now = {2888: 0, 3888: 0}
    for port, s in held:
        try:
            s.recv(1)
        except BlockingIOError:
            open_now[port] += 1
        except OSError:
            pass
    # A member joins all the same.
    node = next(i for i in HOSTS if i != leader)
    begun = time.monotonic()
    c.replace(node, TRIVET)
    took = time.monotonic() - begun
    w.progress()
    for _, s in held:
        s.close()
    assert all(0 < n <= 16 for n in open_now.values()), open_now
    print("%d connections a port that say nothing: %s of them are kept at a time; a member was back in %.1f s" % (HALF_OPEN, open_now, took), flush=True)


def elections(c, w, count):
    pauses, epochs = [], []
    for _ in range(count):
        leader = c.leader()
        w.progress()
        w.pause()
        begun = time.monotonic()
        c.running[leader].kill()
        c.running[leader].wait()
        while c.leaders()[0] in (None, leader):
            assert time.monotonic() - begun < 30, "no leader"
            time.sleep(0.05)
        w.progress(50)
        pauses.append(w.pause())
        c.start(leader, c.program, c.setting)
        c.wait("all nodes", c.all_ready)
        epochs.append(max(n["coordination"]["epoch"] for n in c.status()))
    print("%d leaders killed: writes paused %.2f s (median), %.2f s at most: %s" % (
        count, statistics.median(pauses), max(pauses), " ".join("%.2f" % p for p in pauses)), flush=True)
    return pauses


def main():
    if sys.argv[1:2] == ["--elections"]:
        with Nodes(BEFORE or TRIVET, os.environ.get("QUORUM_TLS")) as c:
            w = Writer()
            time.sleep(3)
            print("servers say", c.speaks(), flush=True)
            w.progress(WRITES)
            took = sorted(w.took[-WRITES:])
            print("%d writes one after the other: median %.2f ms, p99 %.2f ms" % (WRITES, took[WRITES // 2] * 1e3, took[WRITES * 99 // 100] * 1e3))
            if sys.argv[2] != "0":
                elections(c, w, int(sys.argv[2]))
            w.end()
        return
    with Nodes(BEFORE or TRIVET, None if BEFORE else "off") as c:
        w = Writer()
        switch(c, w)
        c.program, c.setting = TRIVET, None
        strangers(c, w)
        half_open(c, w)
        pauses = elections(c, w, 3)
        assert max(pauses) < ELECTION_MAX_S, pauses
        c.all_demand()
        w.end()


if __name__ == "__main__":
    main()
