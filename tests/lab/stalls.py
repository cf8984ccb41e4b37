#!/usr/bin/env python3
"""No election for nothing: a disk that stalls for 2 s under a follower and under the leader, a leader that is stopped for
200 ms, both cores busy with other work.

    stalls.py [SECONDS of busy cores]       30; ten minutes are 600"""
import multiprocessing, os, re, signal, subprocess, sys, time
from ensemble import Ensemble
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
