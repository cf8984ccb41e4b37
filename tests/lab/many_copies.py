#!/usr/bin/env python3
"""10,000 copies on each of three nodes: how long a start takes, and what memory, descriptors and processor time they cost while
nobody uses them. Each copy belongs to a file of its own; with `--disks` a file has 100 extents, as a virtual disk of 25 GiB has.
`many_copies.py 2000` takes fewer, and `many_copies.py --disks 40000` is 10 TB on each node."""
import argparse, os, signal, struct, time
from cluster import ADDRESS, Cluster
from life import Life
from nfs_client import NFS, opaque

TICK = os.sysconf("SC_CLK_TCK")
# The bounds that are wanted. Memory and processor time of copies are those above a node without any.
START_S, BYTES_PER_COPY, CORE, NODE_BYTES = 5.0, 1024, 0.02, 256 << 20
IDLE_S = 30
EXTENT, EXTENTS_OF_A_DISK = 256 << 20, 100


def memory(pid):
    """Anonymous memory: what is not there for the kernel to take back."""
    for line in open("/proc/%d/status" % pid):
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024


def ticks(pid):
    fields = open("/proc/%d/stat" % pid).read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def fill(client, files, extents=1):
    """Makes the files, and writes one block in each of their extents."""
    handles, batch = [], 200
    for first in range(0, files, batch):
        names = [b"f%06d" % i for i in range(first, min(first + batch, files))]
        calls = [(8, opaque(client.root) + opaque(n) + struct.pack(">I", 0) + b"\0" * 24) for n in names]
        made = []
        for body in client.many(NFS, calls, 32):
            status, _, n = struct.unpack(">III", body[:12])
            assert status == 0, "CREATE answers %d" % status
            made.append(body[12:12 + n])
        for extent in range(extents):
            place = struct.pack(">QII", extent * EXTENT, 4096, 2)
            writes = [(7, opaque(h) + place + opaque(b"%4096d" % (first + i))) for i, h in enumerate(made)]
            for body in client.many(NFS, writes, 32):
                assert body[:4] == b"\0" * 4
        handles += made
    return handles


def at_rest(pids):
    """Each node's share of a core over some time."""
    used = {n: ticks(p) for n, p in pids.items()}
    time.sleep(IDLE_S)
    return {n: (ticks(p) - used[n]) / TICK / IDLE_S for n, p in pids.items()}


def main(wanted, extents):
    with Cluster("--restart", "never") as c:
        c.wait("all nodes", c.all_ready)
        life = Life.__new__(Life)
        life.c, life.mine, life.files = c, [], []
        pids = lambda: {n["node"]: n["pid"] for n in c.status()}
        time.sleep(10)
        empty = at_rest(pids())
        before = {n: memory(p) for n, p in pids().items()}
        for node in sorted(before):
            print("empty: node %d: %.0f MiB, %.1f %% of a core" % (node, before[node] / 2**20, empty[node] * 100), flush=True)
        from nfs_client import Client
        life.client = Client(ADDRESS, patience=60)
        begun = time.time()
        # Two copies of each on three nodes.
        handles = fill(life.client, wanted * 3 // 2 // extents, extents)
        print("%d files of %d extents made and written in %.0f s" % (len(handles), extents, time.time() - begun), flush=True)
        # Memory of the load goes back within half a minute.
        time.sleep(45)
        worst = []
        for round in ("as filled", "after a start"):
            running = pids()
            cpu = at_rest(running)
            held = {n: memory(p) for n, p in running.items()}
            # Asked afterwards: a status lists all files, which takes more time and memory than a minute of rest.
            copies = {n["node"]: n["copies"] for n in c.status()}
            for node, pid in sorted(running.items()):
                each = (held[node] - before[node]) / max(copies[node], 1)
                fds = len(os.listdir("/proc/%d/fd" % pid))
                print("%s: node %d: %d copies, %.0f MiB, %.0f bytes a copy above an empty node, %d descriptors, %.1f %% of a core" % (
                    round, node, copies[node], held[node] / 2**20, each, fds, cpu[node] * 100), flush=True)
                if round == "after a start":
                    worst.append((each, cpu[node] - empty[node], held[node]))
            if round == "after a start":
                break
            for node in sorted(running):
                life.kill(node, signal.SIGKILL)
                begun = time.time()
                life.start(node)
                life.wait("node %d" % node, lambda: any(n["node"] == node and n["ready"] for n in life.status()), 120)
                took = time.time() - begun
                print("node %d: killed, ready %.1f s after its start" % (node, took), flush=True)
                worst_start = max(took, locals().get("worst_start", 0))
            time.sleep(45)
        assert life.client.read(handles[-1], 0, 4096) == b"%4096d" % (len(handles) - 1)
        life.end()
        each, cpu, held = (max(figures) for figures in zip(*worst))
        missed = [text for text, ok in [
            ("a start takes %.1f s" % worst_start, worst_start <= START_S),
            ("%.0f bytes a copy" % each, each <= BYTES_PER_COPY),
            ("%.0f MiB in a node" % (held / 2**20), held <= NODE_BYTES),
            ("%.1f %% of a core" % (cpu * 100), cpu <= CORE)] if not ok]
        print("worst: a start of %.1f s, %.0f bytes a copy, %.0f MiB in a node, %.1f %% of a core above an empty node's" % (
            worst_start, each, held / 2**20, cpu * 100))
        assert not missed, "beyond what is wanted: " + "; ".join(missed)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("copies", type=int, nargs="?", default=10_000, help="copies on each node")
    p.add_argument("--disks", action="store_true", help="files of %d extents" % EXTENTS_OF_A_DISK)
    a = p.parse_args()
    main(a.copies, EXTENTS_OF_A_DISK if a.disks else 1)
