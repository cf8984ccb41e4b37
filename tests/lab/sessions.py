#!/usr/bin/env python3
"""The effect of its servers' bad moments on a client. The leader is killed with SIGKILL, five times: clients of the other
servers stay connected, and what they ask meanwhile waits and is answered. Two of three servers are gone for 12 s:
sessions of 20 s survive it, with their ephemeral nodes. And a server that finds its ports in use waits for them, for a
time: they may be those of one that was killed just now."""
import socket
import time
from kazoo.client import KazooClient
from kazoo.protocol.states import KazooState
from ensemble import HOSTS, Ensemble


def client(number, timeout):
    zk = KazooClient("%s:2181" % HOSTS[number], timeout=timeout, connection_retry=dict(max_tries=-1, delay=0.1, max_delay=0.5))
    zk.start(30)
    zk.states = []
    zk.add_listener(zk.states.append)
    return zk


with Ensemble({1: "trivet", 2: "trivet", 3: "trivet"}) as e:
    e.wait_all()
    longest, rounds = 0, 5
    for n in range(rounds):
        leader = e.leader()
        others = [i for i in e.servers if i != leader.number]
        clients = {i: client(i, 10) for i in others}
        for i, zk in clients.items():
            zk.ensure_path("/round%d-%d" % (n, i))
        leader.kill()
        time.sleep(0.05)
        asked = time.monotonic()
        answers = {i: zk.set_async("/round%d-%d" % (n, i), b"while nobody leads") for i, zk in clients.items()}
        for i, answer in answers.items():
            assert answer.get(timeout=5).version == 1
            longest = max(longest, time.monotonic() - asked)
        for i, zk in clients.items():
            assert not zk.states, "a client of server %d noticed the leader's death: %s" % (i, zk.states)
            zk.stop()
        leader.start()
        e.wait_all()
    print("%d leaders killed: clients of the others stayed connected, their requests waited %.2f s at most" % (rounds, longest))
    leader = e.leader()
    kept = {i: client(i, 20) for i in e.servers}
    ids = {i: zk.client_id[0] for i, zk in kept.items()}
    for i, zk in kept.items():
        zk.create("/alive-%d" % i, b"", ephemeral=True)
    stopped = [s for s in e.servers.values() if s is not leader][:1] + [leader]
    for s in stopped:
        s.kill()
    time.sleep(12)
    for s in stopped:
        s.start()
    e.wait_all()
    for i, zk in kept.items():
        end = time.time() + 10
        while not zk.connected:
            assert time.time() < end, "the client of server %d is not connected again" % i
            time.sleep(0.1)
        assert KazooState.LOST not in zk.states and zk.client_id[0] == ids[i], (i, zk.states)
        assert zk.exists("/alive-%d" % i), "the ephemeral node of server %d's client is gone" % i
        zk.stop()
    print("two of three servers gone for 12 s: three sessions of 20 s survived, with their ephemeral nodes")
    follower = next(s for s in e.servers.values() if s is not e.leader())
    follower.kill()
    held = [socket.create_server((HOSTS[follower.number], port)) for port in (2181, 3888)]
    follower.start()
    time.sleep(1)
    assert follower.process.poll() is None, "a server whose ports are in use for 1 s ended"
    for s in held:
        s.close()
    e.wait_all(10)
    follower.kill()
    with socket.create_server((HOSTS[follower.number], 2181)):
        follower.start()
        assert follower.process.wait(10) != 0, "a server without its port ended as if all were well"
    with open(follower.folder + "/log") as f:
        said = [line for line in f if line.startswith("Error: ")][-1]
    assert HOSTS[follower.number] + ":2181" in said and "in use" in said, said
    follower.start()
    e.wait_all()
    print("a server waited 1 s for its ports, and said which one it did not get within its limit")
