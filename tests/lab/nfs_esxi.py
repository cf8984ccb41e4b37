#!/usr/bin/env python3
"""Plays three ESXi hosts on a datastore, as far as their behaviour is public, while the node that serves them is killed, frozen, flaps
and runs out of disk.

Each host has one connection and does what ESXi does over NFSv3: a heartbeat (GETATTR of the root), its file below
.vSphere-HA that it writes and the others read, the .lck-* file of its virtual machine, refreshed, and the machine's own synced
writes. The periods are a tenth of ESXi's, so that a gap is seen as exactly as it matters: 12 s without an answer is a late heartbeat,
125 s are a datastore that is gone. Nothing may take longer than 12 s. No call may fail, but those of the machines while the disk
is full; a lock is never somebody else's, and what was acknowledged is read back."""
import os, struct, sys, threading, time

HERE = os.path.dirname(os.path.abspath(__file__))
if os.environ.get("TRIVET_ESXI_INSIDE") != "1":
    os.environ["TRIVET_ESXI_INSIDE"] = "1"
    # The nodes' disk is a small one of their own.
    inside = "mount -t tmpfs -o size=3g tmpfs /mnt; exec \"$@\""
    os.execvp("unshare", ["unshare", "--mount", "sh", "-c", inside, "sh", sys.executable] + sys.argv)

os.environ["ZKLAB_DIR"] = "/mnt"
sys.path.insert(0, os.path.join(HERE, "night"))
from lablib import own_name, setns  # noqa: E402
from nfs_client import NFS, Client, opaque  # noqa: E402
from nfs_night import ADDRESS, NfsLab, ready, whole  # noqa: E402

HOSTS = 3
GAP_MAX_S = 12
# NFS.HeartbeatFrequency 12 s, HA's heartbeats and the refresh of locks (10 s), each a tenth.
HEARTBEAT_S, LOCK_S = 1.2, 1.0
GETATTR, LOOKUP, WRITE, CREATE, MKDIR = 1, 3, 7, 8, 9
OK, EXIST, NOSPC = 0, 17, 28
GUARDED = 1


class Host:
    """An ESXi host: threads that share nothing but the count of what they have done."""

    def __init__(self, number, ns):
        self.number, self.ns = number, ns
        self.over, self.errors = threading.Event(), []
        self.times = {"heartbeat": [], "ha": [], "lock": [], "vm": []}
        self.refused = 0
        # By host, the newest heartbeat of this one that it has read.
        self.seen = {}
        self.written = {}
        self.threads = []

    def client(self):
        # A hard mount: a call is repeated until it is answered.
        return Client(ADDRESS, patience=120)

    def name(self, c, folder, name, procedure=CREATE, how=GUARDED):
        """Status and handle of a file that is made, or of one that is there."""
        if procedure == MKDIR:
            body = opaque(folder) + opaque(name) + b"\0" * 24
        else:
            body = opaque(folder) + opaque(name) + struct.pack(">I", how) + b"\0" * 24
        answer = c.ask(NFS, procedure, body)
        status = struct.unpack(">I", answer[:4])[0]
        if status == EXIST:
            answer = c.ask(NFS, LOOKUP, opaque(folder) + opaque(name))
            assert answer[:4] == b"\0" * 4, "LOOKUP of %s answers %d" % (name, struct.unpack(">I", answer[:4])[0])
            n = struct.unpack(">I", answer[4:8])[0]
            return status, answer[8:8 + n]
        assert status == OK, "making %s answers %d" % (name, status)
        n = struct.unpack(">I", answer[8:12])[0]
        return status, answer[12:12 + n]

    def prepare(self):
        c = self.client()
        self.root = c.root
        _, ha = self.name(c, self.root, b".vSphere-HA", MKDIR)
        _, self.cluster = self.name(c, ha, b"FDM-9A7E1F-domain-c8", MKDIR)
        _, self.heartbeat_file = self.name(c, self.cluster, b"host-%d-hb" % self.number)
        _, self.folder = self.name(c, self.root, b"vm%d" % self.number, MKDIR)
        status, self.disk = self.name(c, self.folder, b"disk-flat.vmdk")
        assert status == OK, "the disk was there"
        self.lock_name = b".lck-%016x" % (0x1000 + self.number)
        status, self.lock = self.name(c, self.folder, self.lock_name)
        assert status == OK, "the lock was somebody's"
        c.write(self.heartbeat_file, [(0, b"\0" * 512)])
        c.write(self.lock, [(0, b"\0" * 84)])
        c.write(self.disk, [(0, b"\0" * 65_536)])

    def start(self, hosts):
        self.others = [h for h in hosts if h is not self]
        steps = {"heartbeat": self.heartbeat, "ha": self.ha, "lock": self.refresh, "vm": self.vm}
        for what, step in steps.items():
            self.times[what].append(time.monotonic())
            t = threading.Thread(target=self.run, args=(what, step), daemon=True)
            self.threads.append(t)
            t.start()

    def run(self, what, step):
        try:
            setns(self.ns)
            c, n = self.client(), 0
            while not self.over.is_set():
                n += 1
                step(c, n)
                self.times[what].append(time.monotonic())
        except Exception as e:
            self.errors.append("host %d, %s: %r" % (self.number, what, e))

    def heartbeat(self, c, _):
        answer = c.ask(NFS, GETATTR, opaque(self.root))
        assert answer[:4] == b"\0" * 4, "GETATTR of the root answers %d" % struct.unpack(">I", answer[:4])[0]
        self.over.wait(HEARTBEAT_S)

    def ha(self, c, n):
        c.write(self.heartbeat_file, [(0, struct.pack(">QQ", self.number, n) * 32)])
        for h in self.others:
            owner, count = struct.unpack(">QQ", c.read(h.heartbeat_file, 0, 16))
            assert owner in (0, h.number), "the heartbeat file of host %d is host %d's" % (h.number, owner)
            assert count >= h.seen.get(self.number, 0), "a heartbeat of host %d went back" % h.number
            h.seen[self.number] = count
        self.over.wait(LOCK_S)

    def refresh(self, c, n):
        owner, count = struct.unpack(">QQ", c.read(self.lock, 0, 16))
        assert (owner, count) in ((0, 0), (self.number, n - 1)), "the lock is host %d's, and stands at %d, not at %d" % (owner, count, n - 1)
        c.write(self.lock, [(0, struct.pack(">QQ", self.number, n) + b"L" * 68)])
        other = self.others[n % len(self.others)]
        status, _ = self.name(c, other.folder, other.lock_name)
        assert status == EXIST, "the lock of host %d could be taken" % other.number
        self.over.wait(LOCK_S)

    def vm(self, c, n):
        at = (n * 7919 % 4_096) * 4_096
        record = struct.pack(">QQ", self.number, n) * 256
        answer = c.ask(NFS, WRITE, opaque(self.disk) + struct.pack(">QII", at, len(record), 2) + opaque(record))
        status = struct.unpack(">I", answer[:4])[0]
        if status == NOSPC:
            self.refused += 1
            self.over.wait(0.5)
        else:
            assert status == OK, "WRITE answers %d" % status
            self.written[at] = n
        self.over.wait(0.02)

    def end(self):
        self.over.set()
        for t in self.threads:
            t.join(150)
            assert not t.is_alive(), "host %d: a thread has no answer" % self.number
        assert not self.errors, self.errors
        c = self.client()
        for at, n in self.written.items():
            found = struct.unpack(">QQ", c.read(self.disk, at, 16))
            assert found == (self.number, n), "at %d: %s, and %d was acknowledged" % (at, found, n)

    def longest(self, since, until):
        """By what it does, the longest time between two of them that overlaps this time."""
        found = {}
        for what, times in self.times.items():
            t = times + [until]
            found[what] = max((y - x for x, y in zip(t, t[1:]) if y > since), default=0)
        return found


def holder(lab):
    """The node with the address, once every copy is there again: two copies survive the loss of one node, and a second node that
    is lost before the first one's copies were made again may have the only one. Until it is back, nobody can answer for it."""
    begun = time.monotonic()
    nodes = lab.wait("every copy is in sync", whole, 180)
    print("every copy is in sync after %.1f s" % (time.monotonic() - begun), flush=True)
    newest = max((n for n in nodes if n["metad"]), key=lambda n: n["metad"]["entries"])
    return newest["addresses"][0]["node"]


def killed(lab):
    node = holder(lab)
    lab.kill(node)
    time.sleep(15)
    lab.start(node)


def frozen(lab):
    node = holder(lab)
    lab.pause(node)
    time.sleep(25)
    lab.resume(node)
    time.sleep(15)


def flaps(lab):
    """The node's link is down for 0.4 to 1.8 s, eight times, and up for 1.5 s in between."""
    node = holder(lab)
    for i in range(8):
        lab.isolate(node)
        time.sleep(0.4 + 0.2 * i)
        lab.unisolate(node)
        time.sleep(1.5)
    time.sleep(10)


def full(lab, hosts):
    """The disk of all nodes fills up to the reserve: heartbeats and locks go on; then there is room again."""
    holder(lab)
    path = "/mnt/filler"
    room = os.statvfs("/mnt")
    leave = room.f_blocks * room.f_frsize * 4 // 100
    filler = open(path, "ab")

    def fill():
        """Up to that, again: a checkpoint gives back what the journals had."""
        now = os.statvfs("/mnt")
        left = now.f_bavail * now.f_frsize - leave
        while left > 0:
            filler.write(b"\0" * min(left, 1 << 20))
            filler.flush()
            left -= 1 << 20
    end = time.monotonic() + 60
    while not any(h.refused for h in hosts):
        fill()
        assert time.monotonic() < end, "no write was refused for want of space"
        time.sleep(0.1)
    time.sleep(25)
    filler.close()
    os.unlink(path)
    end = time.monotonic() + 30
    counts = [len(h.times["vm"]) - h.refused for h in hosts]
    while not all(len(h.times["vm"]) - h.refused > n for h, n in zip(hosts, counts)):
        assert time.monotonic() < end, "the machines do not write again"
        time.sleep(0.1)
    time.sleep(5)


def inside(ns, work):
    """Runs it in a network namespace, in a thread of its own."""
    failed = []

    def run():
        try:
            setns(ns)
            work()
        except Exception as e:
            failed.append(e)
    t = threading.Thread(target=run)
    t.start()
    t.join()
    if failed:
        raise failed[0]


def main():
    lab = NfsLab(own_name("x"), None)
    lab.up(3)
    try:
        lab.deploy()
        lab.wait("all nodes", lambda n: len(n) == 3 and any(x["metad"] and x["metad"]["leading"] for x in n), 90)
        made = lab.trivet("datastore", "create", "ds1")
        assert made.returncode == 0, made.stderr
        hosts = [Host(n, lab.ns(0)) for n in range(1, HOSTS + 1)]
        lab.wait("the datastore is served", ready)
        for h in hosts:
            inside(lab.ns(0), h.prepare)
        for h in hosts:
            h.start(hosts)
        time.sleep(5)
        gaps = {}
        for name, fault in (("kill", killed), ("freeze", frozen), ("flap", flaps), ("full disk", lambda lab: full(lab, hosts))):
            if sys.argv[1:] and name.split()[0] not in sys.argv[1:]:
                continue
            begun = time.monotonic()
            fault(lab)
            until = time.monotonic()
            failed = [e for h in hosts for e in h.errors]
            assert not failed, "%s: %s" % (name, failed)
            found = [h.longest(begun, until) for h in hosts]
            worst = {what: max(f[what] for f in found) for what in found[0]}
            gaps[name] = worst
            print("%s: longest time without an answer: %s" % (name, ", ".join("%s %.1f s" % (k, v) for k, v in sorted(worst.items()))), flush=True)
        for h in hosts:
            inside(lab.ns(0), h.end)
        print("%d heartbeats, %d of HA, %d refreshed locks, %d writes of machines, %d of which were refused while the disk was full; the rest is there" % (
            tuple(sum(len(h.times[w]) - 1 for h in hosts) for w in ("heartbeat", "ha", "lock", "vm")) + (sum(h.refused for h in hosts),)))
        late = {name: worst for name, worst in gaps.items() if max(worst.values()) > GAP_MAX_S}
        assert not late, "longer than %d s: %s" % (GAP_MAX_S, late)
    finally:
        lab.down(purge=True)


main()
