#!/usr/bin/env python3
"""Eight writes at a time to one file while nodes die: first the one with the datastore address, the file's owner and metad's
lead, later the next one that has them. No call fails, every acknowledged byte is read back, and each takeover asks metad for the
lease once, not once for every write that waits."""
import json, os, random, time
from cluster import ADDRESS, Cluster
from nfs_client import Client

KIB, SLOTS, ROUNDS, PAUSE_MAX_S, GRANTS_MAX = 1 << 10, 64, 3, 40, 3


def grants(c):
    """(wall clock, node) of each lease of the only file."""
    found = []
    for node in (1, 2, 3):
        with open(os.path.join(c.data, "node%d" % node, "events", "events.jsonl")) as f:
            events = [json.loads(line) for line in f if line.strip()]
        found += [(e["wall_ms"] / 1000, node) for e in events if e["what"].startswith("owner of file ")]
    return sorted(found)


with Cluster() as c:
    c.wait("all nodes", c.all_ready)
    client = Client(ADDRESS, patience=90)
    handle = client.create(b"disk")
    source, written = random.Random(3), {}

    def write_all():
        pieces = [(n * 4 * KIB, source.randbytes(4 * KIB)) for n in range(SLOTS)]
        begun = time.time()
        client.write(handle, pieces)
        written.update(pieces)
        return time.time() - begun

    write_all()
    pauses, kills = [], []
    for _ in range(ROUNDS):
        nodes = c.wait("all nodes", lambda n: n if c.all_ready(n) else None, 120)
        holder = c.leaders(nodes)[2]
        kills.append(time.time())
        c.kill(holder, nodes)
        pauses.append(max(write_all() for _ in range(4)))
    for at, content in written.items():
        assert client.read(handle, at, 4 * KIB) == content, "offset %d is not what was written" % at
    leases = grants(c)
    after = [sum(at <= t < end for t, _ in leases) for at, end in zip(kills, kills[1:] + [time.time() + 1])]
    print("%d kills of the node with the address: pauses %s s; leases granted after each %s" % (
        ROUNDS, [round(p, 1) for p in pauses], after))
    assert max(pauses) < PAUSE_MAX_S
    assert max(after) <= GRANTS_MAX, leases
