#!/usr/bin/env python3
"""Servers in the wrong place. A second server with the id of one that is alive, ours and Apache's, with a small and a
large id; and an ensemble beside ours, one of whose servers takes ours for its own because of one wrong line. They are
refused with a reason that names them, and counted; nothing changes for the ensemble, nor for the other one."""
import os, re, shutil, tempfile, time
from ensemble import HOSTS, Ensemble, Server
from load import Load


class Elsewhere(Server):
    """A server that has itself, and others, at other addresses than the ensemble of three has them."""

    def __init__(self, number, kind, folder, hosts):
        super().__init__(number, kind, os.path.join(folder, "%s-%d" % (kind, number)), list(hosts), ())
        self.host = hosts[number]
        path = os.path.join(self.folder, "zoo.cfg")
        text = open(path).read()
        for i, host in hosts.items():
            text = text.replace("server.%d=%s:" % (i, HOSTS[i]), "server.%d=%s:" % (i, host))
        with open(path, "w") as f:
            f.write(text.replace("clientPortAddress=" + HOSTS[number], "clientPortAddress=" + self.host))

    def word(self, word):
        before, HOSTS[self.number] = HOSTS[self.number], self.host
        try:
            return super().word(word)
        finally:
            HOSTS[self.number] = before


def refused(servers):
    return sum(int(re.search(r"zk_trivet_refused\t(\d+)", s.word("mntr")).group(1)) for s in servers)


def epochs(servers):
    return [int(open("%s/version-2/%s" % (s.data, f)).read()) for s in servers for f in ("acceptedEpoch", "currentEpoch")]


def logs(servers):
    return "".join(open(s.folder + "/log", errors="replace").read() for s in servers)


def told(servers, before, what):
    """How often since the logs were so."""
    return logs(servers).count(what) - before.count(what)


folder = tempfile.mkdtemp(prefix="trivet-lab.")
with Ensemble({1: "trivet", 2: "trivet", 3: "trivet"}) as e:
    e.wait_all()
    load = Load(e)
    load.progress(50)
    for kind in ("trivet", "apache"):
        for number in (1, 3):
            leader, servers = e.leader(), list(e.servers.values())
            before, count, log = epochs(servers), refused(servers), logs(servers)
            hosts = {i: HOSTS[i] for i in (1, 2, 3)}
            hosts[number] = "127.0.0.74"
            twin = Elsewhere(number, kind, folder, hosts)
            twin.start()
            end = time.time() + (4 if kind == "trivet" else 8)
            while time.time() < end:
                assert twin.mode() not in ("leader", "follower"), "the second server %d serves" % number
                time.sleep(0.2)
            assert twin.process.poll() is None, open(twin.folder + "/log").read()[-1500:]
            twin.kill()
            load.progress(50)
            counted = refused(servers) - count
            assert 0 < counted < 500 and told(servers, log, "two have one id"), (kind, number, counted)
            assert e.leader() is leader and epochs(servers) == before, (kind, number, before, epochs(servers))
            print("a second server %d, %s: refused %d times, the same leader, the same epochs" % (number, kind, counted))
    # The place of server 3 is free, so that nobody else can be preferred.
    for kind in ("trivet", "apache"):
        e.servers[3].kill()
        leader, servers = e.leader(), [e.servers[1], e.servers[2]]
        load.progress(20)
        before, count, log = epochs(servers), refused(servers), logs(servers)
        right = {1: "127.0.0.76", 2: "127.0.0.75", 3: "127.0.0.74"}
        beside = [Elsewhere(2, kind, folder + "/b", right), Elsewhere(3, kind, folder + "/b", {**right, 1: HOSTS[1]})]
        for s in beside:
            s.start()
        end = time.time() + 40
        while sorted(str(s.mode()) for s in beside) != ["follower", "leader"]:
            assert time.time() < end, "the ensemble beside does not serve: %s" % [s.mode() for s in beside]
            time.sleep(0.2)
        time.sleep(5)
        assert sorted(str(s.mode()) for s in beside) == ["follower", "leader"]
        for s in beside:
            s.kill()
        load.progress(50)
        counted = refused(servers) - count
        assert 0 < counted < 500 and told(servers, log, "of another ensemble"), (kind, counted)
        assert e.leader() is leader and epochs(servers) == before, (kind, before, epochs(servers))
        e.servers[3].start()
        e.wait_all()
        print("an ensemble beside, %s: refused %d times, both serve, the same leader, the same epochs" % (kind, counted))
        shutil.rmtree(folder + "/b")
    load.stop.set()
    load.thread.join(20)
    print("%d writes acknowledged" % len(load.acked))
shutil.rmtree(folder, ignore_errors=True)
