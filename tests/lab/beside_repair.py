#!/usr/bin/env python3
"""Writes to other files while a node's copies are resynchronised, and while they are rebuilt on an empty disk: their rate beside that
of before, and the longest time without an answer."""
import multiprocessing, os, random, shutil, subprocess, sys, time
from cluster import ADDRESS, TRIVET, Cluster
from nfs_client import Client
from node_away import Away, newest

MIB, BLOCK, EXTENT = 1 << 20, 4096, 256 << 20
FILES, DEPTH = 4, 8
BEFORE_S, LIMIT_S = 8, 240
# The bounds that are wanted.
RATE, GAP_S = 0.7, 0.3


def writes(handles, stop, out):
    """Writes blocks of the files in turn, and notes when answers came."""
    client, source, ends = Client(ADDRESS, patience=60), random.Random(2), []
    data, at = os.urandom(BLOCK), 0
    while not stop.is_set():
        at += 1
        client.write(handles[at % FILES], [(source.randrange(2048) * BLOCK, data) for _ in range(DEPTH)], DEPTH)
        ends.append(time.time())
    out.put(ends)


def figures(ends, begin, end):
    """Writes in a second and the longest gap between answers within a time."""
    inside = [t for t in ends if begin <= t <= end]
    edges = [begin] + inside + [end]
    return len(inside) * DEPTH / (end - begin), max(b - a for a, b in zip(edges, edges[1:]))


def whole(nodes):
    files = (newest(nodes) or {"files": []})["files"]
    return len(nodes) == 3 and len(files) == FILES + 1 and all(
        f["missing"] == 0 and f["recovering"] == 0 and f["in_sync"] == 3 * f["extents"] for f in files)


def beside(c, away, handles, what, change):
    stop, out = multiprocessing.Event(), multiprocessing.Queue()
    load = multiprocessing.Process(target=writes, args=(handles, stop, out))
    load.start()
    try:
        time.sleep(2)
        before = (time.time(), time.time() + BEFORE_S)
        time.sleep(BEFORE_S)
        away.stop()
        change()
        # The members that are left go on without it.
        time.sleep(4)
        begun = time.time()
        away.start()
        while not whole(c.status()):
            assert time.time() < begun + LIMIT_S, "not whole within %d s" % LIMIT_S
            time.sleep(0.25)
        during = (begun, time.time())
    finally:
        stop.set()
        ends = out.get(timeout=90)
        load.join()
    rate, _ = figures(ends, *before)
    beside_rate, gap = figures(ends, *during)
    print("%s: whole after %.1f s; %.0f writes/s of %.0f (%.0f %%), longest gap %.2f s" % (
        what, during[1] - during[0], beside_rate, rate, 100 * beside_rate / rate, gap), flush=True)
    return beside_rate / rate, gap


with Cluster("--restart", "never") as c:
    c.wait("all nodes", c.all_ready)
    subprocess.check_call([TRIVET, "datastore", "set", "ds1", "--copies", "3", "--data", c.data], stdout=subprocess.DEVNULL)
    client, source = Client(ADDRESS), random.Random(1)
    full = client.create(b"full")
    for at in range(0, EXTENT, 16 * MIB):
        client.write(full, [(at + i * MIB, source.randbytes(MIB)) for i in range(16)])
    handles = [client.create(b"other%d" % i) for i in range(FILES)]
    for h in handles:
        client.write(h, [(0, b"x" * BLOCK)])
    c.wait("three copies of all", whole, 120)
    nodes = c.status()
    held = {c.leaders(nodes)[2]} | {f["owner"] for f in newest(nodes)["files"]}
    away = Away(c, next(n for n in (1, 2, 3) if n not in held))
    blocks = lambda: client.write(full, [(at * BLOCK, source.randbytes(BLOCK)) for at in source.sample(range(EXTENT // BLOCK), 256)])

    def empty():
        shutil.rmtree(os.path.join(away.folder, "chunk"))
        os.mkdir(os.path.join(away.folder, "chunk"))
        blocks()

    try:
        results = [beside(c, away, handles, "a node returns", blocks), beside(c, away, handles, "an empty disk", empty)]
        away.stop()
    finally:
        if away.process and away.process.poll() is None:
            away.process.kill()
    missed = [r for r in results if r[0] < RATE or r[1] > GAP_S]
    assert not missed, "wanted: %.0f %% of the rate and no gap above %.1f s" % (100 * RATE, GAP_S)
