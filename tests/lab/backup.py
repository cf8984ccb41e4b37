#!/usr/bin/env python3
"""The metadata of all three nodes is lost, and a backup of before is restored: files that were written, grown, made and removed
since are what they were, by the handles that clients have; a node that was left out is refused, and joins when it is restored, too."""
import json, os, random, shutil, signal, struct, subprocess, time
from cluster import ADDRESS, TRIVET, Cluster
from kazoo.client import KazooClient
from nfs_client import NFS, Client, opaque

MIB = 1 << 20
FILES = 6


def trivet(*args, ok=True):
    done = subprocess.run([TRIVET, *args], capture_output=True, text=True)
    assert (done.returncode == 0) == ok, (args, done.stdout, done.stderr)
    return done.stdout + done.stderr


def remove(client, name):
    answer = client.ask(NFS, 12, opaque(client.root) + opaque(name))
    assert answer[:4] == b"\0" * 4, answer[:4]


def lookup(client, folder, name):
    """The handle, or none."""
    answer = client.ask(NFS, 3, opaque(folder) + opaque(name))
    if answer[:4] != b"\0" * 4:
        return None
    n = struct.unpack(">I", answer[4:8])[0]
    return answer[8:8 + n]


def kill_everything(c):
    """As a power loss; nobody starts again."""
    nodes = c.status()
    c.process.send_signal(signal.SIGKILL)
    c.process.wait(30)
    for n in nodes:
        try:
            os.kill(n["pid"], signal.SIGKILL)
        except ProcessLookupError:
            pass
    time.sleep(0.5)


def znodes(port_host="127.0.0.71"):
    zk = KazooClient(hosts=port_host + ":2181")
    zk.start(30)
    return zk


class World:
    def __init__(self, c):
        self.c, self.random = c, random.Random(11)
        self.client = Client(ADDRESS)
        self.written = {}

    def write(self, handle, at, size):
        content = self.random.randbytes(size)
        self.client.write(handle, [(at + i, content[i:i + MIB]) for i in range(0, size, MIB)])
        self.written[handle, at] = content

    def check(self, client):
        for (handle, at), content in self.written.items():
            got = b"".join(client.read(handle, at + i, min(MIB, len(content) - i)) for i in range(0, len(content), MIB))
            assert got == content, "at %d of %s" % (at, handle.hex())
        return len(self.written)


def node_toml(c, n):
    return os.path.join(c.data, "node%d" % n, "node.toml")


def restore(c, n, backup, inventories):
    return trivet("backup", "restore", backup, "--inventory", *inventories, "--new-incarnation", "--data", node_toml(c, n))


c = Cluster(keep=True)
with c:
    c.wait("all nodes", c.all_ready)
    w = World(c)
    files = [w.client.create(b"old-%d" % i) for i in range(FILES)]
    for i, handle in enumerate(files):
        w.write(handle, 0, 300_000 * (i + 1))
    removed = w.client.create(b"removed")
    w.client.write(removed, [(0, b"x" * 5000)])
    zk = znodes()
    zk.create("/app/config", b"of a site's own program", makepath=True)
    zk.create("/app/lock", b"", ephemeral=True)
    zk.stop()
    backup = os.path.join(c.folder, "trivet.tar.gz")
    print(trivet("backup", "create", backup, "--data", node_toml(c, 1)), end="")
    told = json.loads(trivet("backup", "verify", backup, "--json", "--data", node_toml(c, 1)))
    assert told["files"] == FILES + 1 and told["znodes"] > 5, told
    assert os.stat(backup).st_mode & 0o77 == 0

    # The life after the backup: other contents, configurations, sizes; a file more, and one less.
    w.write(files[0], 0, 300_000)
    w.write(files[1], 300 * MIB, 2 * MIB)
    later = w.client.create(b"later")
    w.write(later, 0, 700_000)
    remove(w.client, b"removed")
    holder = c.leaders()[2]
    away = next(n for n in (1, 2, 3) if n != holder)
    c.kill(away)
    for i in range(2, FILES):
        del w.written[files[i], 0]
        w.write(files[i], 0, 300_000 * (i + 1))
    c.wait("all nodes", c.all_ready)
    c.healed()
    w.check(w.client)
    def swept(nodes):
        newest = max((n for n in nodes if n["metad"]), key=lambda n: n["metad"]["entries"])
        return sum(n["copies"] for n in nodes) == 2 * newest["contents"]["extents"]
    c.wait("the copies of the removed file are gone", swept, 90)
    kill_everything(c)

    aside = os.path.join(c.folder, "aside")
    for n in (1, 2, 3):
        for role in ("metad", "coordination"):
            lost = os.path.join(c.data, "node%d" % n, role)
            shutil.move(lost, os.path.join(aside, "node%d" % n, role)) if n == 3 else shutil.rmtree(lost)
    inventories = []
    for n in (1, 2, 3):
        inventories.append(os.path.join(c.folder, "node%d.inventory" % n))
        print(trivet("backup", "inventory", inventories[-1], "--data", node_toml(c, n)), end="")
    said = trivet("backup", "restore", backup, "--inventory", *inventories, "--data", node_toml(c, 1), ok=False)
    assert "--new-incarnation" in said, said
    said = trivet("backup", "restore", backup, "--inventory", *inventories[:2], "--dry-run", "--data", node_toml(c, 1), ok=False)
    assert "no inventory of node 3" in said, said
    said = trivet("backup", "restore", backup, "--inventory", *inventories, "--dry-run", "--json", "--data", node_toml(c, 1))
    report = json.loads(said)
    assert report["removed"]["names"] == ["/ds1/removed"] and report["recovered"]["count"] == 1, report
    assert report["attached"] >= 1 and report["incomplete"]["count"] == 0, report
    for n in (1, 2):
        said = restore(c, n, backup, inventories)
    print(said, end="")
    assert "move it to another place" in trivet("backup", "restore", backup, "--inventory", *inventories, "--new-incarnation",
                                                "--data", node_toml(c, 1), ok=False)
    # Node 3 comes back with what it had, of the incarnation before.
    for role in ("metad", "coordination"):
        shutil.move(os.path.join(aside, "node3", role), os.path.join(c.data, "node3", role))

begun = time.time()
command = "sleep 100000"
c.process = subprocess.Popen([TRIVET, "up", "--data", c.data, "--exec", command], stdout=c.log, stderr=c.log)
try:
    def two(nodes):
        ready = {n["node"]: n["ready"] for n in nodes}
        return ready.get(1) and ready.get(2) and all(c.leaders([n for n in nodes if n["node"] != 3]))
    c.wait("nodes 1 and 2 serve", two, 90)
    took = time.time() - begun
    client = Client(ADDRESS)
    checked = w.check(client)
    assert lookup(client, client.root, b"removed") is None
    folder = lookup(client, client.root, b"recovered")
    assert lookup(client, folder, b"file-%d" % int.from_bytes(later[16:24], "big")) == later
    zk = znodes("127.0.0.71")
    assert zk.get("/app/config")[0] == b"of a site's own program" and not zk.exists("/app/lock")
    zk.stop()
    c.wait("node 3, of the incarnation before, is not ready", lambda nodes: not any(n["ready"] for n in nodes if n["node"] == 3), 20)
    assert "was left out when the cluster was restored" in open(os.path.join(c.data, "node1", "node.log")).read() + \
        open(os.path.join(c.data, "node3", "node.log")).read()
    fresh = client.create(b"made after the restore")
    client.write(fresh, [(0, b"y" * 9000)])
    kill_everything(c)

    for role in ("metad", "coordination"):
        shutil.move(os.path.join(c.data, "node3", role), os.path.join(aside, "node3", role))
    # The other two have gone on: node 3 takes metad's state and coordination from them.
    text = open(node_toml(c, 1)).read()
    incarnation = next(l for l in text.splitlines() if l.startswith("incarnation"))
    lines = [incarnation if l.startswith("incarnation") else l for l in open(node_toml(c, 3)).read().splitlines()]
    open(node_toml(c, 3), "w").write("\n".join(lines) + "\n")
    c.process = subprocess.Popen([TRIVET, "up", "--data", c.data, "--exec", command], stdout=c.log, stderr=c.log)
    c.wait("all nodes", c.all_ready, 90)
    c.healed()
    client = Client(ADDRESS)
    w.check(client)
    assert client.read(fresh, 0, 9000) == b"y" * 9000
    c.stop()
    copies = c.compare_copies()
    print("metadata of three nodes lost: restored from a backup of before, two nodes served %.1f s after they were started; %d written "
          "pieces the same by the handles of before, a node of the incarnation before was refused; %d extents' copies compared" % (took, checked, copies))
    shutil.rmtree(c.folder, ignore_errors=True)
finally:
    if c.process.poll() is None:
        c.process.kill()
        c.process.wait()
