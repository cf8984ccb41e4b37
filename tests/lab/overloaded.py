#!/usr/bin/env python3
"""A machine that has too much to do loses no copies: both cores and the disk are busy with other work, nodes are stopped for up
to 1.2 s one after the other, and all of them together for 3 s, while clients write. No copy is removed meanwhile, since
none is filled again, and each file reads as it was written.

    overloaded.py [SECONDS]       20"""
import multiprocessing, os, random, signal, sys, threading, time
from cluster import ADDRESS, Cluster
from nfs_client import Client

SECONDS = int(sys.argv[1]) if len(sys.argv) > 1 else 20
FILES, BYTES = 6, 300_000
STOPPED_S_MAX, ALL_STOPPED_S = 1.2, 3.0


def spin(end):
    while time.time() < end:
        sum(i * i for i in range(1000))


def sync_much(folder, end):
    """Syncs of other data, with which the nodes' syncs have to share the disk."""
    path = os.path.join(folder, "other-%d" % os.getpid())
    piece = os.urandom(1 << 20)
    while time.time() < end:
        with open(path, "wb") as f:
            for _ in range(16):
                f.write(piece)
                f.flush()
                os.fsync(f.fileno())
    os.unlink(path)


def copied(c):
    """Bytes of copies that were compared or sent: a copy that was removed is filled again, and both grow."""
    return sum(n["resync_compared_bytes"] + n["resync_sent_bytes"] for n in c.status())


def write_on(c, files, end, counts):
    source, client = random.Random(5), Client(ADDRESS, patience=90)
    while time.time() < end:
        handle, content = source.choice(files)
        at = source.randrange(BYTES - 4096)
        data = source.randbytes(4096)
        content[at:at + 4096] = data
        client.write(handle, [(at, data)])
        counts.append(time.time())


with Cluster("--restart", "never") as c:
    c.wait("all nodes", c.all_ready)
    client, source = Client(ADDRESS, patience=90), random.Random(3)
    files = [(client.create(b"disk%d" % i), bytearray(source.randbytes(BYTES))) for i in range(FILES)]
    for handle, content in files:
        client.write(handle, [(0, bytes(content))])
    c.healed()
    pids = {n["node"]: n["pid"] for n in c.status()}
    before = copied(c)
    end = time.time() + SECONDS
    work = [multiprocessing.Process(target=spin, args=(end,)) for _ in range(4)]
    work += [multiprocessing.Process(target=sync_much, args=(c.folder, end)) for _ in range(2)]
    for p in work:
        p.start()
    counts = []
    writer = threading.Thread(target=write_on, args=(c, files, end, counts))
    writer.start()
    stops = 0
    while time.time() < end - ALL_STOPPED_S:
        node = source.choice(sorted(pids))
        os.kill(pids[node], signal.SIGSTOP)
        time.sleep(source.uniform(0.3, STOPPED_S_MAX))
        os.kill(pids[node], signal.SIGCONT)
        time.sleep(source.uniform(0.2, 1.0))
        stops += 1
        if stops % 4 == 0:
            for pid in pids.values():
                os.kill(pid, signal.SIGSTOP)
            time.sleep(ALL_STOPPED_S)
            for pid in pids.values():
                os.kill(pid, signal.SIGCONT)
    for p in work:
        p.join()
    writer.join(90)
    assert not writer.is_alive(), "a write is never answered"
    c.wait("all nodes", c.all_ready)
    c.healed()
    assert copied(c) == before, "copies were removed, and made again: %d bytes, %d before" % (copied(c), before)
    for i, (handle, content) in enumerate(files):
        assert client.read(handle, 0, BYTES) == bytes(content), "file %d is not what was written" % i
    longest = max((b - a for a, b in zip(counts, counts[1:])), default=0)
    print("%d stops in %d s with busy cores and disk, %d writes, longest gap %.1f s: no copy was removed" %
          (stops, SECONDS, len(counts), longest))
