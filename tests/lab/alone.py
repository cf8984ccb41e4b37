#!/usr/bin/env python3
"""A server that is alone becomes one of an ensemble, and is alone again, without a restart (standaloneEnabled=false): ours, with
an Apache 3.8.0 server among those that join; and one of Apache's that ours join."""
from ensemble import Ensemble, HOSTS, Server
from reconfig import SETTINGS, Writer, admin, change, line, voters, wait


def join(e, number, kind):
    """Starts a server that follows, in no list yet. (Of two servers both are the quorum, and an observer is in none.)"""
    s = Server(number, kind, e.folder + "/n%d" % number, [], ())
    with open(s.folder + "/zoo.cfg", "a") as f:
        f.write(SETTINGS)
        for i in sorted([*e.servers, number]):
            f.write(line(i).split(";")[0] + "\n")
    e.servers[number] = s
    s.start()
    wait("server %d follows" % number, lambda: s.mode() in ("follower", "observer"), 60)


def grows(first, joiners):
    # With one member the lab writes no server line; a server that others can join has one.
    own = line(1).split(";")[0]
    with Ensemble({1: first}, settings=SETTINGS + "standaloneEnabled=false\n%s\n" % own) as e:
        wait("it leads alone", lambda: e.servers[1].mode() == "leader", 60)
        pid = e.servers[1].process.pid
        w = Writer("%s:2181" % HOSTS[1])
        w.start()
        wait("it writes", lambda: w.value > 20)
        for number, kind in joiners.items():
            join(e, number, kind)
            change(e, joining=line(number))
            wait("server %d votes" % number, lambda: e.servers[number].mode() in ("follower", "leader"))
        zk = admin(HOSTS[2])
        assert voters(zk) == [1, *joiners], voters(zk)
        zk.sync("/count")
        assert int(zk.get("/count")[0]) > 0
        zk.stop()
        for number in reversed(joiners):
            wait("server 1 leads", lambda: e.leader().number == 1 or move_lead(e))
            change(e, leaving=str(number))
            e.servers.pop(number).kill()
        before = w.value
        wait("it goes on alone", lambda: w.value > before + 20)
        assert e.servers[1].mode() == "leader" and e.servers[1].process.pid == pid and e.servers[1].process.poll() is None
        w.end = True
        print("%s alone, with %s, and alone again: %d writes, longest pause %.2f s" % (first, joiners, w.value, w.longest))


def move_lead(e):
    """Another one leads: it is stopped for a moment, and server 1 is left."""
    s = e.leader()
    s.kill(15)
    s.start()
    wait("it is back", lambda: s.mode() in ("follower", "leader"))
    return e.leader().number == 1


def main():
    grows("trivet", {2: "trivet", 3: "apache"})
    grows("apache", {2: "trivet", 3: "trivet"})


main()
