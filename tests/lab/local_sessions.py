#!/usr/bin/env python3
"""Local sessions (localSessionsEnabled) in an ensemble with Apache 3.8.0: sessions that an Apache server keeps to itself write
through a leader of ours, become the ensemble's with their first ephemeral node, and end; and ours behind a leader of Apache's."""
from ensemble import Ensemble, HOSTS
from reconfig import wait
from wire import Session, create, setting, watched

SETTINGS = "localSessionsEnabled=true\nlocalSessionsUpgradingEnabled=true\n"


def sessions(e):
    """The sessions that the leader knows, as its word `dump` lists them with their ephemeral nodes."""
    return e.leader().word("dump")


def client(e, number):
    kind = e.servers[number].kind
    a = Session(HOSTS[number])
    known = "%x" % (a.id & (1 << 64) - 1)
    path = "/of-%d" % number
    err = a.err("create", create(path))
    assert err in (0, -110), "a write of a session at server %d (%s): %s" % (number, kind, err)
    # Requests sent in a row without waiting: each has its answer, in order.
    asked = [a.request(op, body) for i in range(200) for op, body in (("set", setting(path, b"%d" % i)), ("exists", watched(path)))]
    for xid in asked:
        assert a.reply(xid)[0] == 0
    err = a.err("create", create("/ephemeral-%d" % number, flags=1))
    assert err == 0, "an ephemeral node of a session at server %d (%s): %s" % (number, kind, err)
    wait("the leader has the ephemeral node", lambda: known in sessions(e))
    # From here on the session is the ensemble's, and moves.
    other = next(n for n in e.servers if n != number)
    a.sock.close()
    b = Session(HOSTS[other], session=a.id, password=a.password)
    assert b.id == a.id, "a session with an ephemeral node does not move"
    assert b.err("set", setting("/ephemeral-%d" % number, b"moved")) == 0
    assert b.close() == 0
    wait("the ephemeral node goes", lambda: known not in sessions(e))


def main():
    led = set()
    with Ensemble({1: "apache", 2: "trivet", 3: "apache"}, settings=SETTINGS) as e:
        e.wait_all(90)
        for _ in range(6):
            leader = e.leader()
            for number in e.servers:
                client(e, number)
            if leader.kind not in led:
                print("led by server %d (%s): sessions at each server write, get an ephemeral node, move and end" % (leader.number, leader.kind))
            led.add(leader.kind)
            if led == {"apache", "trivet"}:
                return
            leader.kill()
            e.leader(60)
            leader.start()
            e.wait_all(90)
    raise AssertionError("both kinds have to lead here, only %s did" % led)


main()
