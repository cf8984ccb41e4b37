#!/usr/bin/env python3
"""A node dies for good while nobody uses the files: its copies stop counting at once, and after --rebuild-after they are made
elsewhere, those of extents that nobody ever wrote to as well. Then every file's content and copies are compared."""
import random, time
from cluster import ADDRESS, Cluster
from nfs_client import Client

MIB = 1 << 20
FILES, AFTER_S, LIMIT_S = 12, 5, 90


def newest(nodes):
    return max((n for n in nodes if n["metad"]), key=lambda n: n["metad"]["entries"], default=None)


with Cluster("--restart", "never", "--rebuild-after", str(AFTER_S)) as c:
    c.wait("all nodes", c.all_ready)
    client = Client(ADDRESS)
    source = random.Random(7)
    files = []
    for i in range(FILES):
        handle = client.create(b"file%d" % i)
        content = source.randbytes((i + 1) * 300_000)
        client.write(handle, [(at, content[at:at + MIB]) for at in range(0, len(content), MIB)])
        files.append((handle, content))
    c.healed()
    nodes = c.status()
    before = newest(nodes)["files"]
    holder = c.leaders(nodes)[2]
    # The node with most copies but the one that serves the address: that one's clients would open every file.
    counts = {n: sum(n in on for f in before for _, on in f["placement"]) for n in (1, 2, 3) if n != holder}
    victim = max(counts, key=counts.get)
    c.kill(victim, nodes)
    begun = time.time()
    noticed, trace = None, []
    while True:
        nodes = [n for n in c.status() if n["node"] != victim]
        seen = newest(nodes)
        if seen and len(seen["files"]) == FILES:
            missing = sum(f["missing"] for f in seen["files"])
            in_sync = sum(f["in_sync"] for f in seen["files"])
            extents = sum(f["extents"] for f in seen["files"])
            trace.append((round(time.time() - begun, 1), in_sync, missing))
            if missing and noticed is None:
                noticed = time.time() - begun
            whole = not missing and in_sync == 2 * extents and not any(f["recovering"] for f in seen["files"])
            left = sum(victim in on for f in seen["files"] for _, on in f["placement"])
            if noticed is not None and whole and not left:
                break
        assert time.time() < begun + LIMIT_S, trace[-20:]
        time.sleep(0.2)
    took = time.time() - begun
    c.placement = {eid: on for f in seen["files"] for eid, on in f["placement"]}
    for i, (handle, content) in enumerate(files):
        got = b"".join(client.read(handle, at, MIB) for at in range(0, len(content), MIB))
        assert got == content, "file %d is not what was written" % i
    c.stop()
    copies = c.compare_copies()
    print("node %d with %d of %d copies died for good, nobody used the files: %d copies called missing after %.1f s, all made "
          "elsewhere after %.1f s (%d s of them waiting); %d extents' copies compared" % (
              victim, counts[victim], 2 * extents, max(m for _, _, m in trace), noticed, took, AFTER_S, copies))
    assert noticed < AFTER_S + 3
