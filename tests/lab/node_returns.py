#!/usr/bin/env python3
"""A node comes back after files were written to without it: a full one of 256 MiB in one block of a hundred, and one of the same size
that is mostly holes. Says how many bytes were compared and sent, and how long that took; then the node gets an empty disk, for
comparison. In the end all copies and what the client wrote are compared, byte by byte."""
import os, random, shutil, subprocess, time
from cluster import ADDRESS, TRIVET, Cluster
from nfs_client import Client
from node_away import Away, newest

MIB, BLOCK = 1 << 20, 4096
EXTENT = 256 * MIB
BLOCKS = EXTENT // BLOCK
LIMIT_S = 120


class File:
    def __init__(self, client, name, source):
        self.client, self.source = client, source
        self.handle = client.create(name)
        self.content = bytearray(EXTENT)

    def write(self, pieces):
        for at, data in pieces:
            self.content[at:at + len(data)] = data
        for first in range(0, len(pieces), 16):
            self.client.write(self.handle, pieces[first:first + 16])

    def write_blocks(self, count):
        self.write([(at * BLOCK, self.source.randbytes(BLOCK)) for at in self.source.sample(range(BLOCKS), count)])

    def check(self):
        for at in range(0, EXTENT, MIB):
            assert self.client.read(self.handle, at, MIB) == self.content[at:at + MIB], "MiB %d is not what was written" % (at // MIB)


class Returns(Away):
    def comes_back(self, what):
        """Starts it, and waits until all copies are whole; says what that took."""
        figure = lambda nodes, name: sum(n.get(name, 0) for n in nodes)
        before = self.c.status()
        begun = time.time()
        self.start()
        wholes = 0
        while wholes < 5:
            nodes = self.c.status()
            files = (newest(nodes) or {"files": []})["files"]
            good = len(nodes) == 3 and len(files) == 2 and all(
                f["missing"] == 0 and f["recovering"] == 0 and f["in_sync"] == 3 * f["extents"] for f in files)
            whole_at = whole_at if wholes else time.time()
            wholes = wholes + 1 if good else 0
            assert time.time() < begun + LIMIT_S, "not whole within %d s: %s" % (LIMIT_S, files)
            time.sleep(0.1)
        compared = figure(nodes, "resync_compared_bytes") - figure(before, "resync_compared_bytes")
        sent = figure(nodes, "resync_sent_bytes") - figure(before, "resync_sent_bytes")
        with open("/proc/%d/io" % self.process.pid) as f:
            written = next(int(l.split()[1]) for l in f if l.startswith("wchar"))
        print("%s: whole %.1f s after its start; %.1f MiB compared, %.2f MiB sent; its process wrote %.1f MiB" % (
            what, whole_at - begun, compared / MIB, sent / MIB, written / MIB), flush=True)
        return compared, sent


with Cluster("--restart", "never") as c:
    c.wait("all nodes", c.all_ready)
    subprocess.check_call([TRIVET, "datastore", "set", "ds1", "--copies", "3", "--data", c.data], stdout=subprocess.DEVNULL)
    client, source = Client(ADDRESS), random.Random(1)
    full, sparse = File(client, b"full", source), File(client, b"sparse", source)
    full.write([(at, source.randbytes(MIB)) for at in range(0, EXTENT, MIB)])
    sparse.write([(EXTENT - BLOCK, source.randbytes(BLOCK))])
    sparse.write_blocks(BLOCKS // 100)
    three = lambda nodes: all(f["missing"] == 0 and f["in_sync"] == 3 * f["extents"] for f in newest(nodes)["files"])
    c.wait("three copies of all", lambda nodes: len(nodes) == 3 and len(newest(nodes)["files"]) == 2 and three(nodes), 120)
    time.sleep(3)
    nodes = c.status()
    held = {c.leaders(nodes)[2]} | {f["owner"] for f in newest(nodes)["files"]}
    away = Returns(c, next((n for n in (1, 2, 3) if n not in held), next(n for n in (1, 2, 3) if n != c.leaders(nodes)[2])))
    try:
        away.stop()
        full.write_blocks(BLOCKS // 100)
        changed = BLOCKS // 100 * BLOCK
        compared, sent = away.comes_back("a full file of 256 MiB, 1 % of its blocks written meanwhile")
        kept = compared > 0
        assert not kept or changed <= sent <= 2 * changed, (changed, sent)
        away.stop()
        sparse.write_blocks(BLOCKS // 1000)
        changed = BLOCKS // 1000 * BLOCK
        compared, sent = away.comes_back("a file of 256 MiB with 1 % of blocks, 0.1 % written meanwhile")
        assert not kept or changed <= sent <= 2 * changed, (changed, sent)
        away.stop()
        shutil.rmtree(os.path.join(away.folder, "chunk"))
        os.mkdir(os.path.join(away.folder, "chunk"))
        full.write_blocks(1)
        sparse.write_blocks(1)
        compared, sent = away.comes_back("both files on an empty disk")
        data = EXTENT + sum(any(sparse.content[at:at + BLOCK]) for at in range(0, EXTENT, BLOCK)) * BLOCK
        assert not kept or sent == data, (data, sent)
        full.check()
        sparse.check()
        c.healed()
        away.stop()
    finally:
        if away.process and away.process.poll() is None:
            away.process.kill()
    c.stop()
    print("%d extents' copies compared" % c.compare_copies())
    assert kept, "no copy was compared: each was made anew"
