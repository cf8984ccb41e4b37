#!/usr/bin/env python3
"""Observers behind followers (observerMasterPort), with Apache 3.8.0 servers: an observer of ours and one of Apache's, behind
followers of ours and behind Apache's. Their clients' writes, reads, syncs, watches and sessions, in order; then the follower
between them and the leader is killed, and the leader."""
import threading, time
from kazoo.client import KazooClient
from ensemble import Ensemble, HOSTS
from reconfig import wait
from wire import Session, create, setting

PORT = 2191
WRITES = 300


def passed():
    """Connections to the observers' port that stand, by the address that they go to."""
    out = []
    # (Java's sockets are those of IPv6, to addresses of IPv4.)
    for line in open("/proc/net/tcp").read().splitlines()[1:] + open("/proc/net/tcp6").read().splitlines()[1:]:
        remote, state = line.split()[2:4]
        ip, port = remote.split(":")
        if int(port, 16) == PORT and state == "01":
            out.append(".".join(str(b) for b in bytes.fromhex(ip[-8:])[::-1]))
    return out


def client(number, **kw):
    zk = KazooClient("%s:2181" % HOSTS[number], timeout=10, **kw)
    zk.start(30)
    return zk


def in_order(number):
    """Writes and reads, all asked at once: each read sees the write before it, and the answers come in order."""
    zk = client(number)
    path = zk.create("/order", b"", sequence=True)
    answers, handles = [], []
    for i in range(WRITES):
        handles.append(zk.set_async(path, b"%d" % i))
        handles[-1].rawlink(lambda h, i=i: answers.append((i, "set")))
        handles.append(zk.get_async(path))
        handles[-1].rawlink(lambda h, i=i: answers.append((i, "get")))
    values = [h.get(30) for h in handles]
    assert [v[0] for v in values[1::2]] == [b"%d" % i for i in range(WRITES)], "a read did not see the write before it"
    wait("every answer was told", lambda: len(answers) == 2 * WRITES)
    assert answers == [(i, what) for i in range(WRITES) for what in ("set", "get")], "answers came out of order"
    zk.stop()
    zk.close()


def sync_sees(writer, reader):
    """A write at one server is seen at the other after a sync."""
    a, b = client(writer), client(reader)
    path = a.create("/sync", b"", sequence=True)
    for i in range(20):
        a.set(path, b"%d" % i)
        b.sync(path)
        assert b.get(path)[0] == b"%d" % i, "a read behind a sync saw something older"
    for zk in (a, b):
        zk.stop()
        zk.close()


def watch_and_session(observer, voter):
    """A watch fires, an ephemeral node lives as long as its session, and the session moves to a voter and back."""
    seen = threading.Event()
    b = client(voter)
    a = Session(HOSTS[observer])
    assert a.err("create", create("/watched", flags=1)) == 0
    b.sync("/watched")
    assert b.exists("/watched", watch=lambda _: seen.set())
    for target in (voter, observer):
        a.sock.close()
        before = a.id
        # (A server closes a client that has seen more than it has: it may be a moment behind.)
        a = Session(HOSTS[target], session=a.id, password=a.password)
        assert a.id == before, "the session did not move"
        assert a.err("set", setting("/watched", b"moved")) == 0
        assert seen.wait(20), "the watch did not fire"
    seen.clear()
    assert b.exists("/watched", watch=lambda _: seen.set())
    assert a.close() == 0
    assert seen.wait(20), "the ephemeral node of a closed session stays"
    b.stop()
    b.close()


def serve(e, numbers):
    for n in numbers:
        wait("server %d serves" % n, lambda n=n: e.servers[n].mode() == "observer", 60)


def checks(e, kinds):
    e.wait_all(90)
    wait("observers are passed on", lambda: len(passed()) >= 2)
    leader = e.leader()
    through = sorted(set(passed()))
    assert HOSTS[leader.number] not in through, "an observer called the leader although there are followers"
    print("led by server %d (%s); observers of ours and of Apache's are behind %s" % (leader.number, leader.kind, ", ".join(through)))
    voter = next(n for n in (1, 2, 3) if n != leader.number)
    for n in (4, 5):
        in_order(n)
        sync_sees(voter, n)
        sync_sees(n, leader.number)
        watch_and_session(n, voter)
    print("both observers: %d writes and reads in order, syncs, watches, sessions that move" % (4 * WRITES))
    # The follower in between is killed: they come by the other one.
    between = next(n for n in (1, 2, 3) if HOSTS[n] in passed())
    e.servers[between].kill()
    serve(e, (4, 5))
    for n in (4, 5):
        in_order(n)
    e.servers[between].start()
    e.wait_all(90)
    e.leader().kill()
    e.leader(60)
    serve(e, (4, 5))
    for n in (4, 5):
        in_order(n)
    print("the follower in between killed, and the leader: both observers serve on")


def main():
    for voters in ({1: "trivet", 2: "trivet", 3: "trivet"}, {1: "apache", 2: "apache", 3: "trivet"}, {1: "trivet", 2: "trivet", 3: "apache"}):
        kinds = {**voters, 4: "trivet", 5: "apache"}
        with Ensemble(kinds, observers=(4, 5), settings="observerMasterPort=%d\n" % PORT) as e:
            checks(e, kinds)


main()
