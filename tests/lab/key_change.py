#!/usr/bin/env python3
"""The cluster's key is changed, host by host, under the load of a kernel NFS client and a ZooKeeper client: add, use and retire, each
with a restart. No call fails and the mount stays; steps out of order are refused; whoever has only the key of before is refused in
the end, by the console, by metad's znodes and between nodes."""
import os, re, shutil, subprocess, time
from cluster import Guest, TRIVET, build
from quorum_tls import HOSTS, Nodes, Writer

# A planned stop hands its leads and its address over first. The bound leaves room for a machine that stalls for seconds.
PAUSE_MAX_S = 5.0


class Hosts(Nodes):
    """Each node has a key file of its own, as hosts do."""

    def __init__(self):
        super().__init__(TRIVET, None)

    def start(self, i, program, setting=None):
        key = os.path.join(self.data, "node%d" % i, "cluster.key")
        if not os.path.exists(key):
            shutil.copy(os.path.join(self.data, "cluster.key"), key)
            text = open(self.toml(i)).read()
            with open(self.toml(i), "w") as f:
                f.write(re.sub(r'^key_file = .*$', 'key_file = "%s"' % key, text, flags=re.M))
        super().start(i, program, setting)

    def key_file(self, i):
        return os.path.join(self.data, "node%d" % i, "cluster.key")

    def key(self, command, i, *more):
        return subprocess.run([TRIVET, "key", command, *more, "--data", self.toml(i)], capture_output=True, text=True, timeout=60)

    def step(self, command, i, *more):
        done = self.key(command, i, *more)
        assert done.returncode == 0, done
        return done.stdout

    def refused(self, command, i, why, *more):
        before = open(self.key_file(i)).read()
        done = self.key(command, i, *more)
        assert done.returncode and why in done.stderr, done
        assert open(self.key_file(i)).read() == before, "a refused step changed the file"


class Load:
    """A kernel client that writes records one after the other, synced, and a client of coordination."""

    def __init__(self):
        self.guest = Guest("/files/diskload write /mnt 1000 & w=$!; read last; kill $w; wait $w; echo 3 > /proc/sys/vm/drop_caches; /files/diskload verify /mnt $last",
                           files=[build("diskload")], timeout=900)
        self.guest.wait_for("ACK", 60, count=50)
        self.writer, self.pauses = Writer(), []

    def restarted(self, c, i, what):
        begun = time.monotonic()
        self.writer.pause()
        c.replace(i, TRIVET)
        c.healed()
        self.guest.wait_for("ACK", 60, count=len(self.guest.acks()) + 20)
        self.writer.progress()
        times = [begun] + [t for t, _ in self.guest.acks() if t >= begun]
        pause = max(b - a for a, b in zip(times, times[1:]))
        self.pauses.append(pause)
        print("%-7s node %d: NFS paused %.2f s at most, ZooKeeper %.2f s" % (what, i, pause, self.writer.pause()), flush=True)

    def end(self):
        self.writer.end()
        self.guest.say(str(max(n for _, n in self.guest.acks())))
        self.guest.end(180)
        assert any("VERIFIED" in l for _, l in self.guest.lines), self.guest.lines[-5:]


def change(c, load, new):
    next_key = open(new).read().strip()
    c.refused("use", 1, "no next key")
    for i in HOSTS:
        c.step("add", i, new)
        # By the file this host accepts it, and its process does not yet.
        c.refused("use", i, "does not accept the next key")
        load.restarted(c, i, "add")
    c.refused("retire", 1, "no previous key")
    told = c.step("show", 2)
    assert "trivet key use" in told and "node 1, 2, 3" in told and next_key not in told, told
    invited = subprocess.run([TRIVET, "invite", "--node", "2", "--config", c.toml(1)], capture_output=True, text=True, timeout=60)
    assert invited.returncode and "is being changed" in invited.stderr, invited
    for i in (2, 3, 1):
        c.step("use", i)
        c.refused("use", i, "no next key")
        c.refused("retire", i, "still uses the previous key")
        load.restarted(c, i, "use")
    for i in (3, 1, 2):
        c.step("retire", i)
        load.restarted(c, i, "retire")
    told = c.step("show", 1)
    assert "no change of keys is under way" in told, told


def who_has_only_the_key_of_before(c, before):
    folder = os.path.join(c.data, "stolen")
    os.mkdir(folder)
    toml, key = os.path.join(folder, "node.toml"), os.path.join(folder, "cluster.key")
    with open(key, "w") as f:
        f.write(before)
    with open(toml, "w") as f:
        f.write(re.sub(r'^key_file = .*$', 'key_file = "%s"' % key, open(c.toml(1)).read(), flags=re.M))
    # At a loopback address everybody may read the console; who changes something has to sign.
    silenced = subprocess.run([TRIVET, "silence", "add", "--rule", "NODE_DOWN", "--hours", "1", "--comment", "mine", "--data", toml], capture_output=True, text=True, timeout=60)
    assert silenced.returncode and "422" not in silenced.stderr, "the console believes the key of before: %s" % silenced
    made = subprocess.run([TRIVET, "datastore", "create", "theirs", "--data", toml], capture_output=True, text=True, timeout=60)
    assert made.returncode, "metad believes the key of before: %s" % made.stdout
    # With the key in use both are done.
    for command in (("silence", "add", "--rule", "NODE_DOWN", "--hours", "1", "--comment", "ours"), ("datastore", "create", "ours")):
        done = subprocess.run([TRIVET, *command, "--data", c.toml(1)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done
    names = subprocess.run([TRIVET, "datastore", "list", "--data", c.toml(1)], capture_output=True, text=True, timeout=60).stdout
    assert "ours" in names and "theirs" not in names, names
    # `trivet zk` signs in as the cluster's user, whose password comes from the key.
    znodes = [TRIVET, "zk", "--cluster"]
    mine = subprocess.run(znodes + [c.toml(1), "ls", "/metad"], capture_output=True, text=True, timeout=60)
    assert mine.returncode == 0 and mine.stdout.strip(), mine
    theirs = subprocess.run(znodes + [toml, "ls", "/metad"], capture_output=True, text=True, timeout=60)
    assert theirs.returncode and "permission" in theirs.stderr, theirs
    print("the key of before: refused by the console, between nodes, and at metad's znodes", flush=True)


def main():
    with Hosts() as c:
        c.all_demand()
        before = open(c.key_file(1)).read()
        load = Load()
        new = os.path.join(c.data, "cluster.key.new")
        made = subprocess.run([TRIVET, "key", "new", new], capture_output=True, text=True, timeout=60)
        assert made.returncode == 0 and os.stat(new).st_mode & 0o777 == 0o600, made
        # A wrong key is withdrawn again.
        c.step("add", 1, new)
        c.step("withdraw", 1)
        assert open(c.key_file(1)).read() == before
        change(c, load, new)
        who_has_only_the_key_of_before(c, before)
        assert len({open(c.key_file(i)).read() for i in HOSTS}) == 1
        load.end()
        # A node's log and status show the names of keys only.
        secrets = {before.split()[0], open(new).read().strip()}
        for i in HOSTS:
            log = open(os.path.join(c.data, "node%d" % i, "node.log")).read()
            assert not any(secret in log for secret in secrets), "a key stands in node %d's log" % i
        print("9 restarts: %d records acknowledged, none missing; longest pause %.2f s" % (len(load.guest.acks()), max(load.pauses)))
        assert max(load.pauses) <= PAUSE_MAX_S, load.pauses


if __name__ == "__main__":
    main()
