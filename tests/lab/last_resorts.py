#!/usr/bin/env python3
"""The last resorts when redundancy is gone: a minimum of copies below which writes wait, an accepted loss of what only dead disks
had, and a cluster that continues with one node. Each is judged, shown by a dry run, confirmed and recorded."""
import json, os, shutil, signal, subprocess, sys, threading, time
from cluster import TRIVET, Cluster
from life import Life


def run(life, *args, data=None):
    done = subprocess.run([TRIVET, *args, "--data", data or life.data()], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


def word(text):
    return text.split("--confirm ")[1].split("`")[0]


def minimum(life):
    """2 of 2: a write waits while one of its nodes is away, and is acknowledged when a second copy is complete."""
    life.refused("wrong-value", "datastore", "set", "ds1", "--minimum-copies", "3")
    life.run("datastore", "set", "ds1", "--minimum-copies", "2")
    time.sleep(2.5)
    life.refused("below-minimum", "node", "maintenance", "on", str(life.victim()))
    node = life.victim()
    on = life.placement()
    files = {f["file"]: [e for e, _ in f["placement"]] for f in life.newest()["files"]}
    index = next(i for i, f in enumerate(sorted(files)) if any(node in on[e] for e in files[f]))
    handle, content = life.files[index]
    life.kill(node)
    content[0:3] = b"abc"
    begun, done = time.time(), []
    thread = threading.Thread(target=lambda: (life.client.write(handle, [(0, b"abc")]), done.append(time.time())))
    life.client.patience = 60
    thread.start()
    time.sleep(4)
    assert not done, "acknowledged with one copy, after %.1f s" % (done[0] - begun)
    # Reading continues, over another connection.
    from nfs_client import Client
    from cluster import ADDRESS
    assert len(Client(ADDRESS).read(handle, 4096, 4096)) == 4096
    thread.join(60)
    assert done, "never acknowledged"
    life.start(node)
    life.run("datastore", "set", "ds1", "--minimum-copies", "0")
    life.whole()
    life.check()
    return "a write with 1 of 2 copies waited %.1f s, until a second one was complete; reads went on" % (done[0] - begun)


def accept_loss(life):
    """Node V is down while its files are written; then the node that has the newest copies loses its disk."""
    code, text = run(life, "datastore", "accept-loss", "ds1", "--dry-run")
    assert code == 1 and "has a complete copy that can be reached" in text, text
    life.run("datastore", "set", "ds1", "--copies", "1")
    life.whole(1)
    # The copy on the owner's node is the one that stays: others get some of them.
    node = life.victim()
    life.whole(1)
    lost = [e for e, on in life.placement().items() if on == [node]]
    gone = ("--gone", str(node))
    life.kill(node)
    time.sleep(3)
    life.wait("a LEADER that has heard all", lambda: "has a new LEADER" not in run(life, "datastore", "accept-loss", "ds1", "--dry-run")[1], 30)
    code, text = run(life, "datastore", "accept-loss", "ds1", "--dry-run")
    assert code == 1 and "may come back" in text and "--gone %d" % node in text and "--confirm" not in text, text
    code, text = run(life, "datastore", "accept-loss", "ds1", "--dry-run", *gone)
    assert code == 0 and "THIS LOSES DATA" in text and "extent %d of file" % lost[0] in text, text
    confirm = word(text)
    code, text = run(life, "datastore", "accept-loss", "ds1", "--confirm", confirm)
    assert code == 1 and "may come back" in text, text
    code, text = run(life, "datastore", "accept-loss", "ds1", *gone)
    assert code == 1 and "has to be confirmed" in text, text
    code, text = run(life, "datastore", "accept-loss", "ds1", "--confirm", confirm + "x", *gone)
    assert code == 1 and "confirms something else" in text, text
    code, text = run(life, "datastore", "accept-loss", "ds1", "--confirm", confirm, *gone)
    assert code == 0, text
    code, text = run(life, "datastore", "losses")
    assert code == 0 and len(text.splitlines()) == len(lost) and "node %d" % node in text, text
    code, text = run(life, "audit")
    assert "accept the loss of extents of datastore ds1; nodes gone for good: %d; confirmed by %s (begun)" % (node, confirm) in text, text
    assert "not confirmed (refused" in text, text
    events = [e for n in life.status() for e in n.get("events", [])]
    assert any("在没有完整副本的情况下继续使用" in (e.get("what_zh") or "") for e in events), events[-5:]
    # Every file answers again; what was lost reads as zeros.
    life.client.patience = 60
    zeros = 0
    for handle, content in life.files:
        got = b"".join(life.client.read(handle, at, 1 << 20) for at in range(0, len(content), 1 << 20))
        if got != content:
            assert got == b"\0" * len(content), "neither what was written nor zeros"
            content[:] = got
            zeros += 1
    assert zeros <= len(lost), (zeros, lost)
    # The old disk comes back, and what it has does not count.
    life.start(node)
    life.wait("node %d" % node, lambda: any(n["node"] == node and n["ready"] for n in life.status()), 30)
    life.run("datastore", "set", "ds1", "--copies", "2")
    life.whole(2)
    life.check()
    return "%d extents of node %d accepted as lost: refused without the word, recorded, %d read as zeros, 2 copies again" % (len(lost), node, zeros)


def old_disk(life):
    """The only copies come back on a disk as it was before its last start: they count for nothing, and no old byte is read."""
    from nfs_client import Client
    from cluster import ADDRESS
    life.run("datastore", "set", "ds1", "--copies", "1")
    life.whole(1)
    node = life.victim()
    alone = [e for e, on in life.placement().items() if on == [node]]
    chunk = os.path.join(life.c.data, "node%d" % node, "chunk")
    here = lambda: any(n["node"] == node and n["ready"] for n in life.status())
    events = lambda: [e["what"] for n in life.status() if n["node"] == node for e in n.get("events", [])]
    life.kill(node)
    shutil.copytree(chunk, chunk + ".old")
    life.start(node)
    life.wait("node %d" % node, here)
    life.client.patience = 60
    life.write_everywhere()
    begun = time.time()
    life.kill(node)
    os.rename(chunk, chunk + ".right")
    os.rename(chunk + ".old", chunk)
    life.start(node)
    life.wait("metad's judgement of the old disk", lambda: any("went back in time" in e for e in events()), 60)
    took = time.time() - begun
    held = 0
    for handle, content in life.files:
        # An answer is right, or there is none.
        try:
            assert Client(ADDRESS, patience=1.0).read(handle, 0, 16) == bytes(content[:16]), "an old byte is read"
        except AssertionError as e:
            assert "no answer" in str(e), e
            held += 1
    assert held > 0, "no extent of node %d holds: %s" % (node, alone)
    # The right disk, with a complete copy of everything: only an administrator knows.
    life.kill(node)
    shutil.rmtree(chunk)
    os.rename(chunk + ".right", chunk)
    life.start(node)
    life.wait("node %d" % node, here)
    life.wait("a dry run that loses something", lambda: "--confirm" in run(life, "datastore", "accept-loss", "ds1", "--dry-run")[1], 60)
    confirm = word(run(life, "datastore", "accept-loss", "ds1", "--dry-run")[1])
    code, text = run(life, "datastore", "accept-loss", "ds1", "--confirm", confirm)
    assert code == 0, text
    life.check()
    life.run("datastore", "set", "ds1", "--copies", "2")
    life.whole(2)
    life.check()
    return "refused %.1f s after the kill, %d of %d files held, whole again with the right disk" % (took, held, len(life.files))


def force_single(life):
    """Nodes 1 and 2 are gone for good; 3 continues alone, and has all files since each had 3 copies."""
    life.run("datastore", "set", "ds1", "--copies", "3")
    life.whole(3)
    config = os.path.join(life.c.data, "node3", "node.toml")
    code, text = run(life, "node", "force-single", "--dry-run", data=config)
    assert code == 1 and "stop it first" in text, text
    life.kill(3)
    code, text = run(life, "node", "force-single", "--dry-run", "--gone", "1,2", data=config)
    assert code == 1 and "node 1 answers" in text, text
    for node in (1, 2):
        life.kill(node)
    code, text = run(life, "node", "force-single", "--dry-run", "--gone", "1", data=config)
    assert code == 1 and "node 2 may come back" in text and "--confirm" not in text, text
    code, text = run(life, "node", "force-single", "--dry-run", "--gone", "1,2", data=config)
    assert code == 0 and "nodes 1, 2 must never start again" in text, text
    before = open(config).read()
    code, refused = run(life, "node", "force-single", "--gone", "1,2", data=config)
    assert code == 1 and open(config).read() == before, refused
    code, text = run(life, "node", "force-single", "--gone", "1,2", "--confirm", word(text), data=config)
    assert code == 0 and "incarnation = 2" in open(config).read(), text
    shutil.rmtree(os.path.join(life.c.data, "node1"))
    life.start(3)
    life.data = lambda: config
    begun = time.time()
    life.wait("node 3 alone", lambda: [n["node"] for n in life.status() if n["ready"]] == [3], 60)
    took = time.time() - begun
    life.client.patience = 60
    # A write of 3 copies wants 2: this datastore is to take writes with the one that is left.
    life.run("datastore", "set", "ds1", "--copies", "1")
    life.write_everywhere()
    life.check()
    # The other one, started as it was, is refused by its incarnation and changes nothing.
    life.start(2)
    time.sleep(6)
    life.write_everywhere()
    life.check()
    assert os.path.exists(os.path.join(life.c.data, "node3", "force-single.log"))
    code, text = run(life, "audit")
    assert "continue node 3 without nodes 1, 2, gone for good" in text, text
    return "node 3 alone ready after %.1f s; files written and read, also beside an old node" % took


CHECKS = [("minimum", minimum), ("accept-loss", accept_loss), ("old-disk", old_disk), ("force-single", force_single)]

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
