#!/usr/bin/env python3
"""Two versions side by side: a cluster of the version before is upgraded node by node, under the load of a kernel NFS client, one,
two, three of three, and goes back again the same way; then it is upgraded for good, and the upgrade finalized, which is refused
before. No call fails, nothing acknowledged is missing, and the longest pause of each step is told.

The version before is built from the commit that BEFORE names, in a folder of its own; TRIVET_BEFORE names a program instead."""
import os, shutil, signal, subprocess, sys, time
from cluster import ADDRESS, CACHE, Cluster, Guest, ROOT, TRIVET, build

# The last release whose metads write journal version 2: they know nothing of bindings that name the one before.
BEFORE = "d1d2973"
# A planned stop hands its leads and its address over first. The bound leaves room for a machine that stalls for seconds.
PAUSE_MAX_S = 5.0


def before():
    given = os.environ.get("TRIVET_BEFORE")
    if given:
        return given
    program = os.path.join(CACHE, "trivet-" + BEFORE)
    if not os.path.exists(program):
        tree, target = os.path.join(CACHE, "before"), os.path.join(CACHE, "before-target")
        subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", tree], capture_output=True)
        subprocess.check_call(["git", "-C", ROOT, "worktree", "add", "--quiet", "--detach", tree, BEFORE])
        try:
            subprocess.check_call(["cargo", "build", "--quiet", "--release", "--package", "trivet", "--target-dir", target], cwd=tree)
            shutil.copy(os.path.join(target, "release/trivet"), program)
        finally:
            subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", tree], capture_output=True)
            shutil.rmtree(target, ignore_errors=True)
    return program


class Nodes(Cluster):
    """Each node is a process of its own, of either version, on the folders that `up` of the version before made."""

    def __init__(self, old):
        super().__init__()
        self.old, self.running = old, {}

    def __enter__(self):
        made = subprocess.run([self.old, "up", "--data", self.data, "--exec", "true"], capture_output=True, text=True, timeout=120)
        assert made.returncode == 0, made.stdout + made.stderr
        for i in (1, 2, 3):
            self.start(i, self.old)
        self.wait("all nodes of the version before", self.all_ready)
        return self

    def start(self, i, program):
        log = open(os.path.join(self.data, "node%d" % i, "node.log"), "ab")
        config = os.path.join(self.data, "node%d" % i, "node.toml")
        self.running[i] = subprocess.Popen([program, "serve", "--config", config], stdout=log, stderr=log)

    def replace(self, i, program):
        p = self.running[i]
        p.send_signal(signal.SIGTERM)
        assert p.wait(30) == 0, "node %d ended with %s" % (i, p.returncode)
        self.start(i, program)
        self.wait("node %d again" % i, self.all_ready, 60)
        self.healed()

    def stop(self):
        for p in self.running.values():
            if p.poll() is None:
                p.send_signal(signal.SIGTERM)
        for p in self.running.values():
            p.wait(30)


def finalize(c, code):
    """The message of a refusal."""
    done = subprocess.run([TRIVET, "upgrade", "finalize", "--data", c.data], capture_output=True, text=True, timeout=60)
    assert code is None or done.returncode == code, done
    return done.stderr


def journal_version(c):
    metads = [n["metad"] for n in c.status() if n.get("metad")]
    return max(m["journal_version"] for m in metads), max(m["journal_version_read"] for m in metads)


def main():
    old = before()
    if sys.argv[1:] == ["--build"]:
        return
    steps = [("up", 1, TRIVET), ("up", 2, TRIVET), ("up", 3, TRIVET), ("back", 3, old), ("back", 1, old), ("back", 2, old),
             ("up", 2, TRIVET), ("up", 1, TRIVET), ("up", 3, TRIVET)]
    with Nodes(old) as c:
        g = Guest("/files/diskload write /mnt 1000 & w=$!; read last; kill $w; wait $w; echo 3 > /proc/sys/vm/drop_caches; /files/diskload verify /mnt $last",
                  files=[build("diskload")], timeout=900)
        g.wait_for("ACK", 60, count=50)
        pauses = []
        assert "not done: " in finalize(c, 1), "an upgrade that was not begun is finalized"
        for what, node, program in steps:
            begun = time.monotonic()
            c.replace(node, program)
            acknowledged = len(g.acks())
            g.wait_for("ACK", 60, count=acknowledged + 20)
            times = [begun] + [t for t, _ in g.acks() if t >= begun]
            pause = max(b - a for a, b in zip(times, times[1:]))
            pauses.append(pause)
            print("%-4s node %d: longest pause %.2f s" % (what, node, pause), flush=True)
        deadline = time.monotonic() + 30
        # Each gateway and metad says what it reads with its next heartbeat.
        while (said := finalize(c, None)) and time.monotonic() < deadline:
            time.sleep(0.5)
        assert not said, said
        version, read = journal_version(c)
        assert version == read >= 3, (version, read)
        c.wait("TLS between coordination servers is demanded",
               lambda nodes: len(nodes) == 3 and all(n["coordination"]["quorum_tls"] == "required" for n in nodes))
        # A file that only the new version made, and a datastore.
        made = subprocess.run([TRIVET, "datastore", "create", "after", "--data", c.data], capture_output=True, text=True, timeout=60)
        assert made.returncode == 0, made.stderr
        g.say(str(max(n for _, n in g.acks())))
        g.end(180)
        assert any("VERIFIED" in l for _, l in g.lines), g.lines[-5:]
        c.healed()
        c.stop()
        same = c.compare_copies()
        print("%d steps between two versions: %d records acknowledged, none missing, %d extents the same; longest pause %.2f s"
              % (len(steps), len(g.acks()), same, max(pauses)))
        assert max(pauses) <= PAUSE_MAX_S, pauses


main()
