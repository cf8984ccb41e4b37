#!/usr/bin/env python3
"""Groups and weights, with an Apache 3.8.0 server configured the same way: which servers are a quorum, who leads, what the
node of the members says, and a reconfig that makes a majority of them and groups again."""
import time
from kazoo.exceptions import KazooException
from ensemble import Ensemble, HOSTS
from reconfig import SETTINGS, admin, change, line, wait

# Server 5 weighs nothing, so its group has no part. A quorum has both other groups: servers 1 and 3 at least.
GROUPS = ["group.1=1:2", "group.2=3:4", "group.3=5", "weight.1=2", "weight.2=1", "weight.3=2", "weight.4=1", "weight.5=0"]
KINDS = {1: "trivet", 2: "apache", 3: "trivet", 4: "apache", 5: "trivet"}


def text_of(e, number):
    zk = admin(HOSTS[number])
    try:
        return zk.get("/zookeeper/config")[0].decode()
    finally:
        zk.stop()
        zk.close()


def writes(e, number, what):
    zk = admin(HOSTS[number])
    try:
        zk.create("/lab", what.encode(), sequence=True)
    finally:
        zk.stop()
        zk.close()


def serves(e, seconds=20):
    wait("a leader", lambda: any(s.process and s.mode() == "leader" for s in e.servers.values()), seconds)
    return e.leader()


def nobody_serves(e, seconds=4):
    wait("nobody leads", lambda: not any(s.process and s.mode() in ("leader", "follower") for s in e.servers.values()), 20)
    end = time.time() + seconds
    while time.time() < end:
        assert not any(s.process and s.mode() == "leader" for s in e.servers.values()), "a leader without a quorum"
        time.sleep(0.2)


def checks(e):
    e.wait_all()
    texts = {n: text_of(e, n) for n in KINDS}
    assert len(set(texts.values())) == 1, "the servers name their members differently: %s" % texts
    lines = texts[1].splitlines()
    assert lines[5:-1] == GROUPS, "groups are written otherwise than Apache does: %s" % lines
    assert e.leader().number != 5, "a server without weight leads"
    print("five servers, two of them Apache's, say the same: %s" % " ".join(lines[5:]))

    # Two of five are a quorum, where they are the right ones.
    for n in (2, 4, 5):
        e.servers[n].kill()
    writes(e, serves(e).number, "1 and 3")
    # Four of five are none: the first group lacks its heavy server.
    for n in (2, 4, 5):
        e.servers[n].start()
    e.wait_all()
    e.servers[1].kill()
    nobody_serves(e)
    print("servers 1 and 3 write; 2, 3, 4 and 5, a majority, do not")
    e.servers[1].start()
    e.wait_all()

    # Each of the four may lead, ours and Apache's; the one without weight never does.
    led = set()
    for _ in range(6):
        leader = serves(e)
        led.add(leader.kind)
        assert leader.number != 5
        leader.kill(9)
        leader.start()
        e.wait_all(90)
        writes(e, 5, "by the one without weight")
    assert led == {"apache", "trivet"}, "both kinds have to lead here, only %s did" % led
    print("led, one after the other: %s" % sorted(led))

    # A reconfig says the whole list, or is refused, whoever leads.
    try:
        change(e, leaving="5")
        raise AssertionError("an incremental reconfig of groups was taken")
    except KazooException as refused:
        print("an incremental reconfig is refused: %s" % type(refused).__name__)
    plain = [line(n) for n in KINDS]
    change(e, new_members=",".join(plain))
    wait("a majority holds everywhere", lambda: all("group" not in text_of(e, n) for n in KINDS))
    e.wait_all(90)
    e.servers[1].kill()
    writes(e, serves(e).number, "a majority")
    e.servers[1].start()
    e.wait_all(90)
    change(e, new_members=",".join(plain + ["group.1=1:2:3", "group.2=4", "group.3=5", "weight.1=3"]))
    wait("groups hold everywhere", lambda: all("weight.1=3" in text_of(e, n) for n in KINDS))
    texts = {text_of(e, n) for n in KINDS}
    assert len(texts) == 1, texts
    for s in e.servers.values():
        s.kill()
    for n in (1, 5):
        e.servers[n].start()
    writes(e, serves(e, 60).number, "server 1 and server 5 of five")
    print("a majority by reconfig, groups again by another, and after a restart servers 1 and 5 are a quorum")


def main():
    with Ensemble(KINDS, settings=SETTINGS + "".join("%s\n" % g for g in GROUPS)) as e:
        checks(e)


main()
