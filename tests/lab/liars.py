#!/usr/bin/env python3
"""A peer that lies: two servers of ours, and in the place of the third a program that votes for servers that do not
exist, for epochs and histories out of all reach, that announces such epochs to the leader, acknowledges what was never
proposed, leads and breaks off in the middle of a snapshot. Each lie is refused with a reason that names the peer, and
is counted; nobody crashes, the leader stays, no epoch is burnt."""
import re, socket, struct, threading, time
from ensemble import HOSTS, Ensemble
from load import Load

ME = 3
LOOKING, FOLLOWING, LEADING = 0, 1, 2


def hello():
    address = ("%s:3888" % HOSTS[ME]).encode()
    return struct.pack(">qqi", -65536, ME, len(address)) + address


def vote(state, leader, zxid, round, epoch):
    body = struct.pack(">iqqqqii", state, leader, zxid, round, epoch, 2, 0)
    return struct.pack(">i", len(body)) + body


def packet(kind, zxid, data=None):
    head = struct.pack(">iq", kind, zxid)
    body = struct.pack(">i", -1) if data is None else struct.pack(">i", len(data)) + data
    return head + body + struct.pack(">i", -1)


def dial(host, port, source):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((source, 0))
    s.settimeout(3)
    s.connect((host, port))
    return s


def refused(e):
    return {n: int(re.search(r"zk_trivet_refused\t(\d+)", e.servers[n].word("mntr")).group(1)) for n in (1, 2)}


def epochs(e):
    return {n: [int(open("%s/version-2/%s" % (e.servers[n].data, f)).read()) for f in ("acceptedEpoch", "currentEpoch")] for n in (1, 2)}


def lead_and_break_off(stop):
    """Listens as a leader would: promises an epoch out of reach, or a snapshot that ends too soon."""
    with socket.socket() as l:
        l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        l.bind((HOSTS[ME], 2888))
        l.listen()
        l.settimeout(0.2)
        turn = 0
        while not stop.is_set():
            try:
                s, _ = l.accept()
            except socket.timeout:
                continue
            with s:
                s.settimeout(1)
                try:
                    s.recv(1000)
                    epoch = (1 << 30) if turn % 2 else 40
                    s.sendall(packet(17, epoch << 32, struct.pack(">i", 0x10000)))
                    s.recv(1000)
                    s.sendall(packet(15, 5) + b"ZKSN" * 10)
                except OSError:
                    pass
            turn += 1


with Ensemble({1: "trivet", 2: "trivet", 3: "trivet"}) as e:
    e.wait_all()
    e.servers[3].kill()
    time.sleep(1)
    leader = e.leader()
    load = Load(e)
    load.progress(20)
    before, counted = epochs(e), refused(e)
    told = 0
    for n in (1, 2):
        # The larger id dials.
        s = dial(HOSTS[n], 3888, HOSTS[ME])
        s.sendall(hello())
        for lie in (vote(LOOKING, 9, 5, 3, 1), vote(LOOKING, ME, 5, 3, 1 << 40), vote(LOOKING, ME, 0x7fffffff << 32, 3, 1),
                    vote(LEADING, 9, 5, 3, 1), vote(FOLLOWING, ME, 5, 3, 1 << 62)):
            s.sendall(lie)
            time.sleep(0.1)
            told += 1
        s.sendall(struct.pack(">i", 40) + b"\xff" * 40)
        time.sleep(0.2)
        s.close()
    after = refused(e)
    assert sum(after.values()) - sum(counted.values()) >= told, (counted, after, told)
    # To the leader: an epoch from the future, a stranger's id, an acknowledgement of nothing.
    def info(server):
        return struct.pack(">qiq", server, 0x10000, 0)
    for first in (packet(11, (1 << 30) << 32, info(ME)), packet(11, 1 << 32, info(77)), packet(11, 1 << 32, b"x"), packet(3, 5)):
        s = dial(HOSTS[leader.number], 2888, HOSTS[ME])
        s.sendall(first)
        try:
            while s.recv(1000):
                pass
            closed = True
        except ConnectionError:
            closed = True
        except socket.timeout:
            closed = False
        assert closed, "the leader went on talking after %r" % first[:20]
    s = dial(HOSTS[leader.number], 2888, HOSTS[ME])
    s.sendall(packet(11, before[leader.number][0] << 32, info(ME)))
    time.sleep(0.2)
    s.sendall(packet(3, 0x7fffffff))
    time.sleep(0.2)
    s.close()
    load.progress(50)
    assert e.leader() is leader and epochs(e) == before, (before, epochs(e))
    print("%d votes and 5 packets that lie: refused and counted (%s), the same leader, the same epochs" % (told, refused(e)))
    # The other one goes, too: now the liar is needed for a quorum, and is believed as far as it can be.
    stop = threading.Event()
    liar = threading.Thread(target=lead_and_break_off, args=(stop,))
    liar.start()
    leader.kill()
    other = e.servers[3 - leader.number]
    end = time.time() + 10
    while time.time() < end:
        try:
            s = dial(HOSTS[other.number], 3888, HOSTS[ME])
            s.sendall(hello())
            for round in range(1, 200, 5):
                for state in (LOOKING, LEADING):
                    s.sendall(vote(state, ME, 0x7fffffff, round, 1))
                time.sleep(0.02)
            s.close()
        except OSError:
            pass
    stop.set()
    liar.join()
    assert other.process.poll() is None, "the server that was left has died"
    leader.start()
    e.leader()
    load.progress(50)
    load.stop.set()
    load.thread.join(20)
    now = epochs(e)
    burnt = max(max(v) for v in now.values()) - max(max(v) for v in before.values())
    assert burnt < 100, "%d epochs burnt: %s" % (burnt, now)
    log = open(e.servers[other.number].folder + "/log").read()
    assert "ServerId(3)" in log or "server 3" in log, log[-1500:]
    print("a leader that lies and breaks snapshots off: the server goes on, %d epochs later both serve again; %d writes acknowledged" % (burnt, len(load.acked)))
