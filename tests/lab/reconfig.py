#!/usr/bin/env python3
"""Members change while clients write: a fourth server joins and gets a vote, an Apache server is among them, the leader is taken
out, two are exchanged at once; then all are killed and come back with what was decided. And a server that votes alone."""
import sys, threading, time
from kazoo.client import KazooClient
from ensemble import Ensemble, Server, HOSTS

SETTINGS = "reconfigEnabled=true\nDigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU=\n"
PAUSE_MAX_S = 2.0


def line(i, role="participant"):
    return "server.%d=%s:2888:3888:%s;%s:2181" % (i, HOSTS[i], role, HOSTS[i])


class Writer(threading.Thread):
    """Counts up in one node; remembers what was acknowledged, and the longest time without an acknowledgement."""

    def __init__(self, hosts):
        super().__init__(daemon=True)
        self.zk = KazooClient(hosts, timeout=10)
        self.zk.start(20)
        self.zk.ensure_path("/count")
        self.value, self.longest, self.end = 0, 0.0, False

    def run(self):
        last = time.time()
        while not self.end:
            try:
                self.zk.set("/count", b"%d" % (self.value + 1))
                self.value += 1
                self.longest, last = max(self.longest, time.time() - last), time.time()
            except Exception:
                time.sleep(0.02)


def members(zk):
    text = zk.get("/zookeeper/config")[0].decode()
    return sorted(int(l.split(".")[1].split("=")[0]) for l in text.splitlines() if l.startswith("server."))


def voters(zk):
    text = zk.get("/zookeeper/config")[0].decode()
    return sorted(int(l.split(".")[1].split("=")[0]) for l in text.splitlines() if ":participant" in l)


def wait(what, f, seconds=20):
    end = time.time() + seconds
    while time.time() < end:
        try:
            if f():
                return
        except Exception:
            pass
        time.sleep(0.05)
    raise AssertionError("not within %d s: %s" % (seconds, what))


def admin(host):
    zk = KazooClient("%s:2181" % host, timeout=10, auth_data=[("digest", "super:test")])
    zk.start(20)
    return zk


def change(e, **kw):
    leader = e.leader()
    zk = admin(HOSTS[leader.number])
    try:
        args = dict(joining=None, leaving=None, new_members=None)
        args.update(kw)
        return zk.reconfig(**args)[0].decode()
    finally:
        zk.stop()
        zk.close()


def join(e, number, kind="trivet"):
    """Starts a server that knows the others; it follows without a vote."""
    # A server that joins says so by its own list: the members, and itself as an observer at first.
    s = Server(number, kind, e.folder + "/n%d" % number, [], ())
    with open(s.folder + "/zoo.cfg", "a") as f:
        f.write(SETTINGS)
        for i in sorted(e.servers):
            f.write(line(i).split(";")[0] + "\n")
        f.write("server.%d=%s:2888:3888:observer\n" % (number, HOSTS[number]))
    e.servers[number] = s
    s.start()
    wait("server %d follows" % number, lambda: s.mode() in ("follower", "observer"))
    return s


def scenario(kinds, joiner):
    e = Ensemble(kinds, settings=SETTINGS)
    with e:
        e.wait_all()
        w = Writer(e.hosts() + ",%s:2181" % HOSTS[4])
        w.start()
        join(e, 4, joiner)
        change(e, joining=line(4))
        wait("4 votes", lambda: e.servers[4].mode() in ("follower", "leader"))
        print("server 4 (%s) joined, longest pause %.2f s" % (joiner, w.longest), flush=True)
        before = e.leader().number
        change(e, leaving=str(before))
        wait("another leads", lambda: e.leader().number != before)
        print("the leader, %d, was taken out: %d leads, longest pause %.2f s" % (before, e.leader().number, w.longest), flush=True)
        e.servers[before].kill()
        kind = e.servers.pop(before).kind
        rest = sorted(e.servers)
        zk = admin(HOSTS[e.leader().number])
        assert voters(zk) == rest, (voters(zk), rest)
        zk.stop()
        # A follower is exchanged against the one that was taken out, in one step.
        out = next(i for i in rest if i != e.leader().number)
        back = join(e, before, kind)
        change(e, joining=line(before), leaving=str(out))
        wait("%d votes again" % before, lambda: back.mode() in ("follower", "leader"))
        e.servers[out].kill()
        e.servers.pop(out)
        print("%d against %d in one step, longest pause %.2f s" % (out, before, w.longest), flush=True)
        longest = w.longest
        # All servers are killed; their files say which of them vote.
        for s in e.servers.values():
            s.kill()
        for s in e.servers.values():
            s.start()
        e.wait_all()
        zk = admin(HOSTS[e.leader().number])
        assert voters(zk) == sorted(e.servers), voters(zk)
        w.end = True
        w.join(20)
        zk.sync("/count")
        found = int(zk.get("/count")[0])
        assert found >= w.value, (found, w.value)
        print("%d writes acknowledged, %d found after all were killed; members %s" % (w.value, found, members(zk)), flush=True)
        zk.stop()
        return longest


def one_voter(kinds):
    """A server that votes alone, beside observers: it leads, also after it was killed."""
    # (Apache asks for standaloneEnabled=false where one server votes.)
    e = Ensemble(kinds, observers=[i for i in kinds if i != 1], settings=SETTINGS + "standaloneEnabled=false\n")
    with e:
        e.wait_all()
        zk = KazooClient("%s:2181" % HOSTS[2], timeout=10)
        zk.start(20)
        zk.create("/by-an-observer", b"1")
        assert e.leader().number == 1
        e.servers[1].kill()
        e.servers[1].start()
        e.wait_all()
        wait("the observer serves again", lambda: zk.set("/by-an-observer", b"2") is not None)
        zk.stop()
        zk = KazooClient("%s:2181" % HOSTS[1], timeout=10)
        zk.start(20)
        assert zk.get("/by-an-observer")[0] == b"2"
        zk.stop()
    print("one voter beside observers: %s" % kinds, flush=True)


def main():
    one_voter({1: "trivet", 2: "trivet", 3: "apache"})
    one_voter({1: "apache", 2: "trivet"})
    ours = scenario({1: "trivet", 2: "trivet", 3: "trivet"}, "trivet")
    assert ours <= PAUSE_MAX_S, ours
    scenario({1: "trivet", 2: "trivet", 3: "apache"}, "apache")
    return 0


if __name__ == "__main__":
    sys.exit(main())
