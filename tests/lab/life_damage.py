#!/usr/bin/env python3
"""Data that must not be trusted: a node whose data is gone, a block that no copy has. Real processes
and real files; nodes that die stay dead until this script starts them."""
import glob, json, os, shutil, struct, subprocess, sys, time
from cluster import ADDRESS, TRIVET, Cluster
from life import Life
from nfs_client import NFS, opaque

BLOCK = 4096


def amnesia(life):
    """3 is down, and 1 and 2 acknowledge; 2 loses all its data, and 1 goes down; 2 and 3 start."""
    life.kill(3)
    time.sleep(1)
    for i in range(3):
        handle = life.client.create(b"late%d" % i)
        content = bytearray(os.urandom(50_000))
        life.client.write(handle, [(0, bytes(content))])
        life.files.append((handle, content))
    life.write_everywhere()
    life.kill(1)
    life.kill(2)
    folder = os.path.join(life.c.data, "node2")
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if name not in ("node.toml", "chunk", "belongs-to"):
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
    life.start(2)
    life.start(3)
    end = time.time() + 12
    while time.time() < end:
        nodes = life.status()
        leads = [n["node"] for n in nodes if n["coordination"] and n["coordination"]["serving"]]
        metad = [n["node"] for n in nodes if n["metad"] and n["metad"]["leading"]]
        assert not leads and not metad, "a majority that knows nothing of what was acknowledged: %s, %s" % (leads, metad)
        time.sleep(0.3)
    begun = time.time()
    life.start(1)
    life.whole()
    took = time.time() - begun
    life.check()
    return "an emptied node and a stale one served nothing for 12 s; %.1f s after the third was back all %d files are whole" % (
        took, len(life.files))


def bad_everywhere(life):
    """The bytes are changed under running processes: a block that the journal still has would be written again by a start."""
    handle, content = life.files[7]
    named = lambda: next((f for f in life.newest()["files"] if f["size_bytes"] == len(content)), None)
    name = life.wait("the file's size", named, 20)
    eid, on = name["placement"][0]
    time.sleep(1)
    at = 20 * BLOCK
    for node in on:
        path = os.path.join(life.c.data, "node%d" % node, "chunk", "extents", "extent.%d" % eid)
        assert os.path.exists(path), path
        with open(path, "r+b") as f:
            f.seek(at + 100)
            old = f.read(1)
            f.seek(at + 100)
            f.write(bytes([old[0] ^ 0xff]))

    def read(offset, length):
        return life.client.ask(NFS, 6, opaque(handle) + struct.pack(">QI", offset, length))

    status = struct.unpack(">I", read(at, BLOCK)[:4])[0]
    assert status == 5, "a block that no copy has answers %d" % status
    got = life.client.read(handle, 0, at)
    assert got == content[:at], "what is before it"
    rest = at + BLOCK
    assert life.client.read(handle, rest, 100_000) == content[rest:rest + 100_000], "what comes after it"
    # GETATTR of the file.
    assert struct.unpack(">I", life.client.ask(NFS, 1, opaque(handle))[:4])[0] == 0
    life.wait("status to tell of it", lambda: all(n["bad_blocks"] for n in life.status() if n["node"] in on), 30)
    done = subprocess.run([TRIVET, "datastore", "verify", "ds1", "--file", "file7", "--json", "--data", life.data()],
                          capture_output=True, text=True, timeout=200)
    assert done.returncode == 1 and "extents {%d}" % eid in done.stderr, (done.stdout, done.stderr)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["bad_blocks"] == len(on), told
    # Writing the whole block heals it.
    content[at:at + BLOCK] = os.urandom(BLOCK)
    life.client.write(handle, [(at, bytes(content[at:at + BLOCK]))])
    life.wait("it to be healed", lambda: not any(n["bad_blocks"] for n in life.status()), 30)
    life.check()
    done = subprocess.run([TRIVET, "datastore", "verify", "ds1", "--json", "--data", life.data()], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["bad_blocks"] == 0 and told["copies_checked"] == told["copies"] > 0, told
    return "one block of extent %d on all copies answers NFS3ERR_IO, the rest works, verify names it, a write heals it; then %d copies verified" % (
        eid, told["copies"])


CHECKS = [("bad block on all copies", bad_everywhere), ("emptied node", amnesia)]

if __name__ == "__main__":
    with Cluster("--restart", "never") as c:
        c.wait("all nodes", c.all_ready)
        life = Life(c)
        try:
            life.whole()
            for name, check in CHECKS:
                if not sys.argv[1:] or name in sys.argv[1:]:
                    print("%s:" % name, check(life), flush=True)
        finally:
            life.end()
