#!/usr/bin/env python3
"""No election for nothing: a disk that stalls for 2 s under a follower and under the leader, a leader that is stopped for
200 ms, both cores busy with other work. And one for something where every sync of every disk takes long: it takes some
of them, and ends. And a client that asks for more than is done costs no more memory than its limit, nor do many together;
what comes beyond request_throttle_max_requests gets from ours what Apache answers.

    stalls.py [SECONDS of busy cores]       30; ten minutes are 600"""
import multiprocessing, os, re, signal, subprocess, sys, time
import wire
from ensemble import HOSTS, Ensemble
from load import Load

BUSY_SECONDS = int(sys.argv[1]) if len(sys.argv) > 1 else 30


def epoch(e):
    zxid = re.search(r"Zxid: 0x([0-9a-f]+)", e.leader().word("srvr")).group(1)
    return int(zxid, 16) >> 32


def spin(end):
    while time.time() < end:
        sum(i * i for i in range(1000))


class OwnDisks(Ensemble):
    """Each server's data lies on a file system of its own."""

    def __enter__(self):
        self.mounted = []
        for s in self.servers.values():
            image = s.folder + ".img"
            subprocess.check_call(["truncate", "-s", "300M", image])
            subprocess.check_call(["mke2fs", "-q", "-F", "-t", "ext4", image])
            myid = open(os.path.join(s.data, "myid")).read()
            subprocess.check_call(["mount", "-o", "loop", image, s.data])
            self.mounted.append(s.data)
            with open(os.path.join(s.data, "myid"), "w") as f:
                f.write(myid)
        return super().__enter__()

    def __exit__(self, kind, *rest):
        for s in self.servers.values():
            s.kill()
        for path in self.mounted:
            subprocess.check_call(["umount", path])
        super().__exit__(kind, *rest)


def stall(server, seconds):
    subprocess.check_call(["fsfreeze", "-f", server.data])
    try:
        time.sleep(seconds)
    finally:
        subprocess.check_call(["fsfreeze", "-u", server.data])


SYNC_MS = 300
# The requests under way, the promise, the epoch; half as much again for the rest.
TAKEOVER_S = 4.5 * SYNC_MS / 1000 + 0.5


def slow_syncs():
    """Three servers, all of whose syncs take SYNC_MS: strace holds each of them up before the kernel sees it."""
    e = Ensemble({1: "trivet", 2: "trivet", 3: "trivet"})
    for s in e.servers.values():
        # As a grandchild: the process that is killed is the server itself.
        s.under = ["strace", "-D", "-f", "--seccomp-bpf", "-qq", "-o", os.path.join(s.folder, "syncs"), "-e", "trace=fsync,fdatasync",
                   "-e", "inject=fsync,fdatasync:delay_enter=%dms" % SYNC_MS]
    with e:
        e.wait_all(20)
        load, took = Load(e), []
        load.progress(5)
        for _ in range(3):
            leader, since = e.leader(), time.time()
            leader.kill()
            e.leader(20)
            took.append(time.time() - since)
            load.progress(5)
            leader.start()
            e.wait_all(20)
        load.stop.set()
        load.thread.join(30)
        held_up = sum(open(os.path.join(s.folder, "syncs")).read().count("(DELAYED)") for s in e.servers.values())
        assert held_up > 50, "only %d syncs were held up" % held_up
        print("each of %d syncs took %d ms: the next one leads after %s s" % (held_up, SYNC_MS, ", ".join("%.2f" % t for t in took)))
        assert max(took) <= TAKEOVER_S, "at most %.2f" % TAKEOVER_S


# Open requests of one client (4 MiB and the one that goes beyond), what both ends' kernels hold, and room for the rest.
TAKEN_MIB = 16


def resident_mib(server):
    return int(re.search(r"VmRSS:\s+(\d+)", open("/proc/%d/status" % server.process.pid).read()).group(1)) / 1024


def asks_for_more_than_is_done():
    """A single server of three keeps running, without a leader; a client there says 128 MiB of requests."""
    with Ensemble({1: "trivet", 2: "trivet", 3: "trivet"}) as e:
        e.wait_all(20)
        server = next(s for s in e.servers.values() if s.mode() == "follower")
        others = [s for s in e.servers.values() if s is not server]
        client = wire.Session(HOSTS[server.number], 20_000)
        assert client.ask("create", wire.create("/much"))[0] == 0
        before = resident_mib(server)
        for s in others:
            s.process.send_signal(signal.SIGSTOP)
        asked, taken, end = wire.setting("/much", b"x" * (512 << 10)), 0, time.time() + 2
        client.sock.settimeout(0.2)
        try:
            while taken < 256 and time.time() < end:
                client.request("set", asked)
                taken += 1
        except (TimeoutError, ConnectionError):
            pass
        grown = resident_mib(server) - before
        for s in others:
            s.process.send_signal(signal.SIGCONT)
        e.wait_all(20)
        # Another client is served as before.
        other = wire.Session(HOSTS[server.number])
        assert other.ask("set", wire.setting("/much", b"less"))[0] == 0
        other.close()
        print("a client said %.0f MiB of 128 while nothing was done; memory grew by %.0f MiB" % (taken / 2, grown))
        assert 4 <= taken / 2 <= TAKEN_MIB and grown <= TAKEN_MIB, "at most %d MiB" % TAKEN_MIB


OPEN_MAX, CLIENTS, REQUESTS = 40, 20, 50
# Requests of 32 KiB that one reading of a client brings.
A_READING = 3


def ask_for_more_together():
    """A server whose disk stands still, and many clients with many requests each: it reads until the limit that they share."""
    with OwnDisks({1: "trivet"}, settings="globalOutstandingLimit=%d\n" % OPEN_MAX) as e:
        e.wait_all(20)
        server = e.servers[1]
        with_nothing_open = wire.Session(HOSTS[1], 20_000)
        clients = [wire.Session(HOSTS[1], 20_000) for _ in range(CLIENTS)]
        assert clients[0].ask("create", wire.create("/together"))[0] == 0
        subprocess.check_call(["fsfreeze", "-f", server.data])
        try:
            for _ in range(REQUESTS):
                for c in clients:
                    c.sock.settimeout(0.02)
                    try:
                        c.request("set", wire.setting("/together", b"x" * (32 << 10)))
                    except TimeoutError:
                        # The part of it that went out would garble this client's next request: the client sends no more.
                        c.sock.settimeout(None)
                        clients = [other for other in clients if other is not c]
            time.sleep(0.5)
            open_ = int(re.search(r"zk_outstanding_requests\t(\d+)", server.word("mntr")).group(1))
            assert with_nothing_open.ask("exists", wire.watched("/together"))[0] == 0
        finally:
            subprocess.check_call(["fsfreeze", "-u", server.data])
        print("%d clients with %d requests each while nothing was done: %d were open" % (CLIENTS, REQUESTS, open_))
        most = OPEN_MAX + CLIENTS * A_READING
        assert OPEN_MAX <= open_ <= most, "at most %d" % most
        late = wire.Session(HOSTS[1])
        assert late.ask("set", wire.setting("/together", b"less"))[0] == 0


def late_requests(kind):
    """With request_throttle_max_requests: who comes beyond it waits, and is answered with THROTTLEDOP if that took too long. What each of a client's requests got."""
    settings = "request_throttle_max_requests=4\nthrottled_op_wait_time=300\n"
    with OwnDisks({1: kind}, settings=settings) as e:
        e.wait_all(20)
        server = e.servers[1]
        client = wire.Session(HOSTS[1], 20_000)
        assert client.ask("create", wire.create("/late"))[0] == 0
        subprocess.check_call(["fsfreeze", "-f", server.data])
        try:
            asked = [client.request("set", wire.setting("/late", b"%d" % n)) for n in range(7)]
            time.sleep(0.8)
        finally:
            subprocess.check_call(["fsfreeze", "-u", server.data])
        got = [client.reply(xid)[0] for xid in asked]
        # No late request was carried out, and those after them are.
        data = client.ask("get", wire.watched("/late"))[1].buffer()
        return got, data, client.ask("set", wire.setting("/late", b"on time"))[0]


def throttled_as_apache():
    ours, apache = late_requests("trivet"), late_requests("apache")
    print("of 7 requests 4 may be open: %s, then %s is there" % (ours[0], ours[1]))
    assert ours == apache == ([0] * 4 + [-127] * 3, b"3", 0), "Apache: %s, %s" % (apache, ours)


slow_syncs()
throttled_as_apache()
asks_for_more_than_is_done()
ask_for_more_together()
with OwnDisks({1: "trivet", 2: "trivet", 3: "trivet"}) as e:
    e.wait_all()
    load = Load(e)
    load.progress(50)
    first = epoch(e)
    follower = next(s for s in e.servers.values() if s.mode() == "follower")
    stall(follower, 2)
    load.progress(50)
    e.wait_all()
    assert epoch(e) == first, "a follower's slow disk changed the leader"
    print("follower's disk stalled for 2 s: the same leader")
    stall(e.leader(), 2)
    load.progress(50)
    e.wait_all()
    changes = epoch(e) - first
    assert changes <= 1, "%d changes of leader" % changes
    print("leader's disk stalled for 2 s: %d changes of leader" % changes)
    before = epoch(e)
    for _ in range(10):
        leader = e.leader()
        leader.process.send_signal(signal.SIGSTOP)
        time.sleep(0.2)
        leader.process.send_signal(signal.SIGCONT)
        time.sleep(0.5)
    load.progress(50)
    assert epoch(e) == before, "a leader stopped for 200 ms lost the lead"
    print("leader stopped for 200 ms, ten times: the same leader")
    end = time.time() + BUSY_SECONDS
    spinners = [multiprocessing.Process(target=spin, args=(end,)) for _ in range(2 * os.cpu_count())]
    for s in spinners:
        s.start()
    acked = len(load.acked)
    for s in spinners:
        s.join()
    assert epoch(e) == before, "a busy machine changed the leader"
    e.wait_all()
    load.stop.set()
    load.thread.join(30)
    print("%d busy processes on %d cores for %d s, %d writes beside them: the same leader" % (len(spinners), os.cpu_count(), BUSY_SECONDS, len(load.acked) - acked))
