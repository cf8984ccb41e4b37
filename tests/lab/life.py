#!/usr/bin/env python3
"""The life of a cluster, each command once, on real processes: datastores changed, maintenance, a disk that works and one that
is dead replaced, a node added, copies evened out, a node drained and removed, a node replaced, an address changed, disks that
changed places, copies verified, a second `up`. After each of them every file is read and compared. Nodes that die stay dead
until this script starts them. `life.py maintenance verify` runs these checks only."""
import json, os, random, shutil, signal, subprocess, sys, threading, time
from cluster import ADDRESS, TRIVET, Cluster
from nfs_client import Client, NFS, opaque
import struct

MIB = 1 << 20
FILES = 8


def ended(pid):
    """Whether a process that nobody has waited for is at its end, with all its threads."""
    try:
        state = open("/proc/%d/stat" % pid).read().rsplit(")", 1)[1].split()[0]
        return state == "Z" and len(os.listdir("/proc/%d/task" % pid)) == 1
    except OSError:
        return True


class Life:
    def __init__(self, c):
        self.c, self.mine, self.client = c, [], Client(ADDRESS)
        source = random.Random(11)
        self.files = []
        for i in range(FILES):
            self.files.append((self.client.create(b"file%d" % i), bytearray(source.randbytes((i + 1) * 90_000))))
        for handle, content in self.files:
            self.client.write(handle, [(at, bytes(content[at:at + MIB])) for at in range(0, len(content), MIB)])

    def run(self, *args, ok=True):
        """Runs a command of a cluster's life; the last line of its JSON, and how long it took."""
        begun = time.time()
        done = subprocess.run([TRIVET, *args, "--json", "--data", self.data()], capture_output=True, text=True, timeout=240)
        assert (done.returncode == 0) == ok, (args, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
        lines = [json.loads(l) for l in done.stdout.splitlines()]
        assert lines, (args, done.stderr)
        return lines[-1], time.time() - begun

    def data(self):
        four = os.path.join(self.c.data, "node4", "node.toml")
        return four if os.path.exists(four) else self.c.data

    def refused(self, code, *args):
        told, _ = self.run(*args, ok=False)
        codes = [r["code"] for r in told["refusals"]]
        assert not told["safe"] and code in codes and all(r["advice"] for r in told["refusals"]), (args, told)

    def dry(self, *args):
        before = self.placement()
        told, _ = self.run(*args, "--dry-run")
        assert told["safe"] and told["steps"], told
        assert self.placement() == before
        return told

    def status(self):
        out = subprocess.run([TRIVET, "status", "--json", "--data", self.data()], capture_output=True, text=True).stdout
        return json.loads(out)["nodes"] if out else []

    def newest(self, nodes=None):
        nodes = nodes or self.status()
        return max((n for n in nodes if n["metad"]), key=lambda n: n["metad"]["entries"])

    def placement(self):
        return {eid: sorted(on) for f in self.newest()["files"] for eid, on in f["placement"]}

    def counts(self):
        on = [n for nodes in self.placement().values() for n in nodes]
        return {n: on.count(n) for n in (1, 2, 3, 4)}

    def victim(self):
        """A node that has copies and not the address: one without copies would show nothing."""
        if not [n for n in (1, 2, 3) if n != holder(self) and self.counts()[n]]:
            self.run("rebalance")
        return max((n for n in (1, 2, 3) if n != holder(self)), key=lambda n: self.counts()[n])

    def wait(self, what, test, seconds=60):
        end = time.time() + seconds
        while time.time() < end:
            try:
                result = test()
            except (ValueError, KeyError, OSError):
                result = None
            if result:
                return result
            time.sleep(0.1)
        raise AssertionError("not within %d s: %s; %s" % (seconds, what, json.dumps(self.newest())[:1500]))

    def whole(self, copies=2, nodes=3):
        def good():
            status = self.status()
            files = self.newest(status)["files"]
            return len(status) >= nodes and all(n["ready"] for n in status) and len(files) >= FILES and all(
                f["missing"] == 0 and f["recovering"] == 0 and f["in_sync"] == copies * f["extents"] for f in files)
        begun = time.time()
        self.wait("every file has %d copies" % copies, good, 120)
        return time.time() - begun

    def check(self):
        for i, (handle, content) in enumerate(self.files):
            got = b"".join(self.client.read(handle, at, MIB) for at in range(0, len(content), MIB))
            assert got == content, "file %d is not what was written" % i

    def write_everywhere(self):
        for handle, content in self.files:
            content[5:9] = os.urandom(4)
            self.client.write(handle, [(5, bytes(content[5:9]))])

    def kill(self, node, how=signal.SIGKILL):
        pid = next(n["pid"] for n in self.status() if n["node"] == node)
        os.kill(pid, how)
        end = time.time() + 15
        # Its sockets are there until the last of its threads has ended, and the first may have ended long before.
        while os.path.exists("/proc/%d/stat" % pid) and not ended(pid):
            assert time.time() < end, "node %d does not end" % node
            time.sleep(0.02)
            for p in self.mine:
                p.poll()

    def start(self, node, *roles):
        folder = os.path.join(self.c.data, "node%d" % node)
        log = open(os.path.join(folder, "lab.log"), "ab")
        command = [TRIVET, "serve", "--config", os.path.join(folder, "node.toml")]
        if roles:
            command += ["--roles", ",".join(roles)]
        self.mine.append(subprocess.Popen(command, stdout=log, stderr=log))

    def replica(self, node):
        """The id of the node's disk, as its folder has it."""
        with open(os.path.join(self.c.data, "node%d" % node, "chunk", "replica-id"), "rb") as f:
            return f.read()

    def empty_disk(self, node):
        folder = os.path.join(self.c.data, "node%d" % node, "chunk")
        shutil.rmtree(folder)
        os.mkdir(folder)

    def end(self):
        for p in self.mine:
            if p.poll() is None:
                p.terminate()
        for p in self.mine:
            p.wait(20)


def holder(life):
    return life.newest()["addresses"][0]["node"]


def datastores(life):
    life.refused("too-few-nodes", "datastore", "set", "ds1", "--copies", "4")
    life.refused("unknown-datastore", "datastore", "set", "nothing", "--copies", "2")
    _, took = life.run("datastore", "set", "ds1", "--copies", "3")
    life.whole(3)
    life.run("datastore", "set", "ds1", "--copies", "2")
    life.whole(2)
    used = sum(len(content) for _, content in life.files)
    life.refused("quota-below-use", "datastore", "set", "ds1", "--quota", str(used // 2))
    life.run("datastore", "set", "ds1", "--quota", str(used + 50_000))
    time.sleep(2.5)
    handle, content = life.files[0]
    body = opaque(handle) + struct.pack(">QII", len(content), 200_000, 2) + opaque(b"x" * 200_000)
    status = struct.unpack(">I", life.client.ask(NFS, 7, body)[:4])[0]
    assert status == 28, "a write beyond the quota answers %d" % status
    life.write_everywhere()
    life.run("datastore", "set", "ds1", "--quota", "0", "--rename", "first")
    Client(ADDRESS, export=b"/first")
    life.run("datastore", "set", "first", "--rename", "ds1")
    # Networks: a client that has it mounted is refused with the next call, and continues when it is allowed again.
    life.refused("wrong-value", "datastore", "set", "ds1", "--rename", "a/b")
    life.run("datastore", "set", "ds1", "--clients", "10.0.0.0/8")
    attributes = lambda: struct.unpack(">I", life.client.ask(NFS, 1, opaque(life.files[0][0]))[:4])[0]
    life.wait("the client to be refused", lambda: attributes() != 0, 10)
    life.run("datastore", "set", "ds1", "--everybody")
    life.wait("the client to be served", lambda: attributes() == 0, 10)
    life.check()
    return "3 copies of all after %.1f s, and 2 again; a quota refuses (NFS3ERR_NOSPC); renamed; a network shut out and let in" % took


def maintenance(life):
    life.refused("unknown-node", "node", "maintenance", "on", "9")
    node = holder(life)
    life.dry("node", "maintenance", "on", str(node))
    _, took = life.run("node", "maintenance", "on", str(node))
    nodes = life.status()
    assert holder(life) != node, "the address is still there"
    assert not next(n for n in nodes if n["node"] == node)["metad"]["leading"], "metad's lead is still there"
    other = next(n for n in (1, 2, 3) if n != node)
    life.refused("another-node", "node", "maintenance", "on", str(other))
    before = life.placement()
    life.kill(node, signal.SIGTERM)
    begun, longest = time.time(), 0
    while time.time() < begun + 8:
        one = time.time()
        life.write_everywhere()
        longest = max(longest, time.time() - one)
    # Active files go on without that node's copies, and get no others.
    during = life.placement()
    for eid, on in during.items():
        assert set(on) <= set(before[eid]), "extent %d went from %s to %s" % (eid, before[eid], on)
    life.start(node)
    life.wait("the node", lambda: len(life.status()) == 3)
    life.run("node", "maintenance", "off", str(node))
    back = life.whole()
    life.check()
    assert life.placement() == before, "copies are elsewhere"
    return "address and leads handed over in %.1f s; 8 s away under writes, no copy made elsewhere; whole %.1f s after its end" % (took, back)


def disk_that_works(life):
    node = life.victim()
    life.dry("disk", "replace", str(node))
    had = life.counts()[node]
    told, took = life.run("disk", "replace", str(node))
    assert life.counts()[node] == 0 and told["done"] and "stop node" in told["next"], told
    life.kill(node, signal.SIGTERM)
    life.empty_disk(node)
    life.start(node)
    life.whole()
    told, _ = life.run("disk", "replace", str(node))
    assert told["done"]
    life.check()
    return node, "%d copies elsewhere after %.1f s, then the disk of node %d is changed" % (had, took, node)


def rebalance(life, node, nodes=3):
    assert life.counts()[node] == 0
    def heard():
        done = subprocess.run([TRIVET, "rebalance", "--dry-run", "--json", "--data", life.data()], capture_output=True, text=True)
        return done.returncode == 0 and "node %d has 0" % node in done.stdout
    life.wait("node %d to be heard" % node, heard, 20)
    life.dry("rebalance")
    _, took = life.run("rebalance")
    counts = life.counts()
    there = [counts[n] for n in range(1, nodes + 1)]
    assert max(there) - min(there) <= 1, counts
    life.check()
    return "copies a node: %s after %.1f s" % (there, took)


def disk_that_is_dead(life):
    node = life.victim()
    had, old = life.counts()[node], life.replica(node)
    assert had > 0
    life.kill(node)
    life.empty_disk(node)
    life.start(node)
    # No operator acts: a node that is back with an empty disk is not waited for.
    begun = time.time()
    life.wait("node %d with another disk" % node, lambda: life.replica(node) != old, 20)
    life.wait("all copies", lambda: len([1 for on in life.placement().values() if len(on) == 2]) == len(life.placement()), 100)
    life.whole()
    whole = time.time() - begun
    life.check()
    told, _ = life.run("disk", "replace", str(node))
    assert told["done"], told
    assert time.time() - begun < 100
    return "%d copies of node %d made again %.1f s after it was back with an empty disk (300 s is what an absent one gets)" % (had, node, whole)


def add_and_remove(life):
    folder = os.path.join(life.c.data, "node4")
    os.makedirs(folder)
    text = open(os.path.join(life.c.data, "node1", "node.toml")).read()
    first = next(l for l in text.splitlines() if l.startswith("1 = ") or l.startswith('"1" = ') or l.startswith("1="))
    text = text.replace("node = 1\n", "node = 4\n").replace(os.path.join("node1"), "node4")
    text = text.replace(first, first + "\n" + first.replace("1", "4", 1).replace("127.0.0.71", "127.0.0.74"))
    open(os.path.join(folder, "node.toml"), "w").write(text)
    life.start(4, "chunk", "gateway")
    life.wait("node 4", lambda: any(n["node"] == 4 and n["ready"] for n in life.status()))
    evened = rebalance(life, 4, 4)
    life.refused("has-copies", "node", "remove", "4")
    life.dry("node", "drain", "4")
    _, took = life.run("node", "drain", "4")
    assert life.counts()[4] == 0
    life.run("node", "remove", "4")
    life.kill(4, signal.SIGTERM)
    shutil.rmtree(folder)
    life.whole()
    life.check()
    return "node 4 added, %s; drained in %.1f s, and removed" % (evened, took)


def addresses(life):
    life.refused("last-address", "address", "remove", ADDRESS)
    life.refused("unknown-address", "address", "remove", "127.0.0.99")
    return "the only address is not removed"


def replace_node(life):
    node = life.victim()
    had = life.counts()[node]
    assert had > 0
    life.refused("alive", "node", "replace", str(node))
    life.kill(node)
    life.wait("the others to notice", lambda: any(f["missing"] for f in life.newest()["files"]), 20)
    _, took = life.run("node", "replace", str(node))
    assert life.counts()[node] == 0
    folder = os.path.join(life.c.data, "node%d" % node)
    for name in os.listdir(folder):
        if name != "node.toml":
            path = os.path.join(folder, name)
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
    life.start(node)
    life.whole()
    life.check()
    return "%d copies of node %d elsewhere %.1f s after the command; a new host has its number" % (had, node, took)


def change_address(life):
    """Node by node: the one that moves first, then the others, which are told by their node.toml."""
    node = next(n for n in (1, 2, 3) if n != holder(life))
    old, new = "127.0.0.7%d" % node, "127.0.0.8%d" % node
    longest = 0
    for at in [node] + [n for n in (1, 2, 3) if n != node]:
        path = os.path.join(life.c.data, "node%d" % at, "node.toml")
        text = open(path).read()
        assert old in text, text
        life.kill(at, signal.SIGTERM)
        open(path, "w").write(text.replace('"%s"' % old, '"%s"' % new))
        life.start(at)
        life.wait("node %d" % at, lambda: len(life.status()) == (2 if at == node else 3), 30)
        one = time.time()
        life.write_everywhere()
        longest = max(longest, time.time() - one)
    took = life.whole()
    life.check()
    return "node %d has another address, the nodes restarted one by one; %d files written in %.1f s at most meanwhile, whole %.1f s later" % (
        node, len(life.files), longest, took)


def swapped(life):
    pair = sorted(n for n in (1, 2, 3) if n != holder(life))
    ids = [life.replica(n) for n in pair]
    for n in pair:
        life.kill(n)
    one, other = (os.path.join(life.c.data, "node%d" % n, "chunk") for n in pair)
    os.rename(one, one + ".away")
    os.rename(other, one)
    os.rename(one + ".away", other)
    for n in pair:
        life.start(n)
    life.wait("both nodes", lambda: len(life.status()) == 3)
    took = life.whole()
    assert [life.replica(n) for n in pair] == ids[::-1]
    life.check()
    life.write_everywhere()
    life.check()
    return "the chunk folders of nodes %d and %d changed places: all in sync after %.1f s, read and written" % (*pair, took)


def verify(life):
    done = subprocess.run([TRIVET, "datastore", "verify", "ds1", "--json", "--data", life.data()], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["bad_blocks"] == 0 and told["copies_checked"] == told["copies"] >= 2 * FILES, told
    return "%d copies read, none bad" % told["copies"]


def second_up(life):
    def files():
        return {n: open(os.path.join(life.c.data, "node%d" % n, "node.toml")).read() for n in (1, 2, 3)}
    before, pids = files(), sorted(n["pid"] for n in life.status())
    done = subprocess.run([TRIVET, "up", "--data", life.c.data, "--nodes", "5"], capture_output=True, text=True, timeout=30)
    said = (done.stdout + done.stderr).strip()
    assert done.returncode != 0 and files() == before, said
    assert sorted(n["pid"] for n in life.status()) == pids and not os.path.exists(os.path.join(life.c.data, "node5"))
    life.check()
    return "refused, nothing changed: %s" % said.splitlines()[-1]


def texts(life):
    """The messages that an administrator reads: a refusal says why and what to do, a dry run what would happen, an end what comes next."""
    def said(*args):
        done = subprocess.run([TRIVET, *args, "--data", life.data()], capture_output=True, text=True, timeout=240)
        return done.returncode, done.stdout + done.stderr
    node = holder(life)
    code, text = said("node", "replace", str(node))
    assert code == 1 and "not done: node %d is there; stop it first" % node in text, text
    code, text = said("node", "drain", str(node), "--dry-run")
    assert code == 0 and "copies on node %d are made on other nodes" % node in text and "this is safe" in text, text
    code, text = said("node", "maintenance", "on", str(node))
    assert code == 0 and "done after" in text and "next: node %d may be stopped" % node in text, text
    code, text = said("node", "maintenance", "off", str(node))
    assert code == 0 and "done after" in text, text
    life.whole()
    return "refusals, dry runs and ends read as they should"


CHECKS = [("texts", texts), ("second up", second_up), ("verify", verify), ("datastore set", datastores), ("maintenance", maintenance), ("dead disk", disk_that_is_dead), ("address", addresses),
          ("add, rebalance, drain, remove", add_and_remove), ("replace node", replace_node),
          ("swapped disks", swapped), ("change address", change_address)]

if __name__ == "__main__":
    with Cluster("--restart", "never") as c:
        c.wait("all nodes", c.all_ready)
        life = Life(c)
        try:
            life.whole()
            wanted = sys.argv[1:]
            if not wanted or "disk" in wanted:
                node, said = disk_that_works(life)
                print("disk replace:", said, flush=True)
                print("rebalance:", rebalance(life, node), flush=True)
            for name, check in CHECKS:
                if not wanted or name in wanted:
                    print("%s:" % name, check(life), flush=True)
        finally:
            life.end()
