#!/usr/bin/env python3
"""A filled extent of 256 MiB whose other copy was away is rebuilt while nobody uses it, once, within limits on the journal's
checkpoint and on memory; then all copies and what the client wrote are compared, byte by byte."""
import os, random, time
from cluster import ADDRESS, Cluster
from nfs_client import Client

MIB = 1 << 20
EXTENT = 256 * MIB
# Bytes of a checkpoint while an extent is rebuilt: the limit on its records, some of them twice, and the rest of the state.
# Before 2026-11-29 it was as large as the extent.
CHECKPOINT_MAX = 64 * MIB


def resident(pid):
    try:
        with open("/proc/%d/status" % pid) as f:
            return next((int(l.split()[1]) * 1024 for l in f if l.startswith("VmRSS:")), 0)
    except OSError:
        return 0


def checkpoint(c, node):
    try:
        return os.path.getsize(os.path.join(c.data, "node%d" % node, "chunk", "checkpoint"))
    except OSError:
        return 0


def newest(nodes):
    return max((n for n in nodes if n["metad"]), key=lambda n: n["metad"]["entries"], default=None)


def the_file(nodes):
    files = (newest(nodes) or {"files": []})["files"]
    return files[0] if files else None


with Cluster() as c:
    c.wait("all nodes", c.all_ready)
    client = Client(ADDRESS)
    handle = client.create(b"disk")
    source = random.Random(1)
    content = [source.randbytes(MIB) for _ in range(EXTENT // MIB)]
    begun = time.time()
    for at in range(0, len(content), 16):
        client.write(handle, [((at + i) * MIB, content[at + i]) for i in range(16)])
    filled = time.time() - begun
    nodes = c.status()
    f = the_file(nodes)
    eid, on = f["placement"][0]
    victim = next(n for n in on if n != f["owner"])
    alone = lambda nodes: (lambda f: f and dict(f["placement"]).get(eid) not in (None, on) and f)(the_file(nodes))
    removed = None
    for attempt in range(8):
        c.kill(victim)
        end = time.time() + 1.5
        while time.time() < end and not removed:
            i = random.randrange(len(content))
            content[i] = source.randbytes(4096) + content[i][4096:]
            client.write(handle, [(i * MIB, content[i][:4096])])
            removed = alone(c.status())
        if removed:
            break
    assert removed, "node %d was killed eight times and stayed a member" % victim
    # No client writes from here on.
    begun = time.time()
    largest, memory, whole = 0, 0, 0
    while True:
        nodes = c.status()
        largest = max([largest] + [checkpoint(c, n) for n in (1, 2, 3)])
        memory = max([memory] + [resident(n["pid"]) for n in nodes])
        f = the_file(nodes)
        whole = whole + 1 if f and f["missing"] == 0 and f["recovering"] == 0 and f["in_sync"] == 2 * f["extents"] else 0
        if whole >= 20:
            break
        assert time.time() < begun + 60, "not rebuilt within 60 s: %s" % f
        time.sleep(0.1)
    took = time.time() - begun - 2
    c.healed()
    for i, expected in enumerate(content):
        assert client.read(handle, i * MIB, MIB) == expected, "MiB %d is not what was written" % i
    c.stop()
    copies = c.compare_copies()
    print("256 MiB filled in %.1f s; the other copy, removed, was whole again after %.1f s without a write; largest checkpoint "
          "%.1f MiB, most memory of a node %.0f MiB; %d extents' copies compared" % (
              filled, took, largest / MIB, memory / MIB, copies))
    assert largest < CHECKPOINT_MAX, largest
