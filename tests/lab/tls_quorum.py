#!/usr/bin/env python3
"""TLS between servers: an ensemble goes from plain to both to TLS alone, server by server, while a client writes; one with an Apache
server in it; a server whose certificate nobody trusts stays outside. tls_quorum.py [CHECK...]"""
import os, sys, tempfile, threading, time
from kazoo.client import KazooClient
from certificates import Authority, settings
from ensemble import HOSTS, Ensemble
from tls import APACHE

ROUNDS = (("portUnification, calls plain", "portUnification=true\n"), ("portUnification, calls with TLS", "sslQuorum=true\nportUnification=true\n"), ("TLS alone", "sslQuorum=true\n"))
NETTY = {"zookeeper.serverCnxnFactory": "org.apache.zookeeper.server.NettyServerCnxnFactory"}


def configure(server, lines):
    """Appends to the configuration that the server was made with."""
    path = os.path.join(server.folder, "zoo.cfg")
    if not hasattr(server, "plain"):
        server.plain = open(path).read()
    with open(path, "w") as f:
        f.write(server.plain + lines)


class Writer:
    """Writes numbers, one after the other, and remembers the longest pause."""

    def __init__(self, hosts):
        self.zk = KazooClient(hosts, timeout=10)
        self.zk.start(timeout=60)
        self.zk.create("/w", b"0")
        self.count, self.longest, self.errors, self.stop = 0, 0.0, 0, False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        last = time.time()
        while not self.stop:
            try:
                self.zk.set("/w", b"%d" % (self.count + 1))
                self.count += 1
                now = time.time()
                self.longest, last = max(self.longest, now - last), now
            except Exception:
                self.errors += 1
                time.sleep(0.05)

    def end(self):
        self.stop = True
        self.thread.join(60)
        got = int(self.zk.get("/w")[0])
        self.zk.stop()
        assert got >= self.count > 0, "%d were acknowledged, and %d is there" % (self.count, got)


def restart(e, i, lines):
    s = e.servers[i]
    configure(s, lines)
    s.kill(15)
    s.start()
    e.wait_all(90)


def rolling(ca, stores):
    own = {i: ca.issue("peer%d" % i, hosts="IP:" + HOSTS[i], stores=("p12",)) for i in (1, 2, 3)}
    with Ensemble({1: "trivet", 2: "trivet", 3: "trivet"}) as e:
        e.wait_all()
        w = Writer(e.hosts())
        for name, lines in ROUNDS:
            begun = time.time()
            for i in (1, 2, 3):
                restart(e, i, lines + settings("ssl.quorum.", own[i], ca, "p12" if i == 1 else "pem"))
            print("%-32s three restarts in %.1f s, %d writes so far, longest pause %.2f s" % (name, time.time() - begun, w.count, w.longest), flush=True)
        w.end()


def mixed(ca, stores):
    # An Apache server calls from any address of the machine.
    own = {i: ca.issue("mixed%d" % i, hosts="IP:127.0.0.1,IP:" + HOSTS[i], stores=("p12", "jks")) for i in (1, 2, 3)}
    with Ensemble({1: "trivet", 2: APACHE, 3: "trivet"}, properties={}) as e:
        for i, s in e.servers.items():
            configure(s, "sslQuorum=true\n" + settings("ssl.quorum.", own[i], ca, "jks"))
            if s.kind != "trivet":
                s.properties.update(NETTY)
            s.kill()
            s.start()
        e.wait_all(120)
        w = Writer(e.hosts())
        for led in range(2):
            leader = e.leader()
            leader.kill()
            time.sleep(0.2)
            other = e.leader(90)
            print("%s led over TLS; now %s does" % (leader.kind.partition(":")[0], other.kind.partition(":")[0]), flush=True)
            leader.start()
            e.wait_all(120)
        w.end()


def stranger(ca, stores):
    own = {i: ca.issue("good%d" % i, hosts="IP:" + HOSTS[i], stores=()) for i in (1, 2)}
    other = Authority(os.path.join(ca.folder, "x"), "foreign")
    own[3] = other.issue("bad3", hosts="IP:" + HOSTS[3], stores=())
    with Ensemble({1: "trivet", 2: "trivet", 3: "trivet"}) as e:
        for i, s in e.servers.items():
            configure(s, "sslQuorum=true\n" + settings("ssl.quorum.", own[i], ca, "pem"))
            s.kill()
            s.start()
        leader = e.leader(60)
        time.sleep(3)
        assert leader.number in (1, 2) and e.servers[3].mode() not in ("leader", "follower"), {n: s.mode() for n, s in e.servers.items()}
        log = open(os.path.join(leader.folder, "log"), errors="replace").read()
        assert "TLS" in log, log[-2000:]
        print("a server with another authority's certificate stays outside", flush=True)


def main():
    folder = tempfile.mkdtemp(prefix="trivet-lab.")
    ca = Authority(folder)
    checks = {"rolling": rolling, "mixed": mixed, "stranger": stranger}
    for name in sys.argv[1:] or checks:
        checks[name](ca, None)
    print("ok")


if __name__ == "__main__":
    main()
