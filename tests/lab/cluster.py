"""A cluster of `trivet up` for lab tests, with a real Linux kernel NFS client in a small virtual machine."""
import json, os, shutil, signal, subprocess, sys, tempfile, threading, time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
TRIVET = os.environ.get("TRIVET_BIN", os.path.join(ROOT, "target/release/trivet"))
CACHE = os.path.join(HERE, "cache")
os.environ.setdefault("NFS_GUEST_CACHE", CACHE)
os.environ["RUST_BACKTRACE"] = "0"  # messages are compared
ADDRESS = "127.0.0.70"


class Cluster:
    def __init__(self, *options, keep=False):
        self.folder = tempfile.mkdtemp(prefix="trivet-lab.")
        self.data = os.path.join(self.folder, "data")
        self.options, self.keep = list(options), keep

    def __enter__(self):
        ready = os.path.join(self.folder, "ready")
        command = "touch %s; exec sleep 100000" % ready
        self.log = open(os.path.join(self.folder, "up.log"), "wb")
        self.process = subprocess.Popen([TRIVET, "up", "--data", self.data, "--exec", command] + self.options,
                                        stdout=self.log, stderr=self.log)
        end = time.time() + 90
        while not os.path.exists(ready):
            if time.time() > end or self.process.poll() is not None:
                raise AssertionError("the cluster did not start:\n" + open(self.log.name).read())
            time.sleep(0.05)
        os.unlink(ready)
        return self

    def __exit__(self, kind, *_):
        self.stop()
        if kind is None and not self.keep:
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            print("data and logs are kept in", self.folder)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)

    def status(self):
        out = subprocess.run([TRIVET, "status", "--json", "--data", self.data], capture_output=True, text=True).stdout
        return json.loads(out)["nodes"] if out else []

    def wait(self, what, test, seconds=60):
        end = time.time() + seconds
        while time.time() < end:
            nodes = self.status()
            result = test(nodes)
            if result:
                return result
            time.sleep(0.1)
        raise AssertionError("not within %d s: %s\n%s" % (seconds, what, json.dumps(self.status())[:3000]))

    def leaders(self, nodes=None):
        """(coordination's leader, metad's LEADER, holder of the address) as far as there are any."""
        nodes = nodes if nodes is not None else self.status()
        coordination = [n["node"] for n in nodes if n["coordination"] and n["coordination"]["role"] == "leader"]
        metad = [n["node"] for n in nodes if n["metad"] and n["metad"]["leading"]]
        newest = max((n for n in nodes if n["metad"]), key=lambda n: n["metad"]["entries"], default=None)
        holder = [a["node"] for a in newest["addresses"]] if newest else []
        first = lambda l: l[0] if len(l) == 1 else None
        return first(coordination), first(metad), first(holder)

    def all_ready(self, nodes):
        return len(nodes) >= 3 and all(n["ready"] for n in nodes) and all(self.leaders(nodes))

    def kill(self, node, nodes=None):
        for n in nodes or self.status():
            if n["node"] == node:
                os.kill(n["pid"], signal.SIGKILL)

    def gather_roles(self, node=3):
        """Moves leads to one node by killing those that have them; node 3 has the address from the start."""
        for _ in range(12):
            nodes = self.wait("all nodes", lambda n: n if self.all_ready(n) else None)
            coordination, metad, holder = self.leaders(nodes)
            wrong = [x for x in (metad, coordination, holder) if x != node]
            if not wrong:
                return
            self.kill(wrong[0], nodes)
            time.sleep(0.5)
            self.wait("all nodes", self.all_ready)
        raise AssertionError("the roles did not come together on node %d" % node)

    def healed(self):
        def good(nodes):
            if not self.all_ready(nodes):
                return False
            if any(n.get("bad_blocks") or n.get("suspect_copies") for n in nodes):
                return False
            newest = max((n for n in nodes if n["metad"]), key=lambda n: n["metad"]["entries"])
            return all(f["missing"] == 0 and f["recovering"] == 0 and f["in_sync"] >= 2 * f["extents"] for f in newest["files"])
        self.wait("every file has both copies", good, 120)
        nodes = self.status()
        newest = max((n for n in nodes if n["metad"]), key=lambda n: n["metad"]["entries"])
        self.placement = {eid: on for f in newest["files"] for eid, on in f["placement"]}

    def compare_copies(self):
        """Every extent's copies, byte by byte; the cluster must be stopped. Returns how many."""
        checked = 0
        for eid, nodes in self.placement.items():
            name = "extent.%d" % eid
            paths = [os.path.join(self.data, "node%d" % n, "chunk", "extents", name) for n in nodes]
            paths = [p if os.path.exists(p) else "/dev/null" for p in paths]
            assert len(paths) >= 2, "%s has one copy only" % name
            files = [open(p, "rb") for p in paths]
            end = max(os.path.getsize(p) for p in paths)
            at = 0
            while at < end:
                blocks = [f.read(1 << 20) for f in files]
                n = max(len(b) for b in blocks)
                padded = set(b + b"\0" * (n - len(b)) for b in blocks)
                assert len(padded) == 1, "%s differs between copies at %d: %s" % (name, at, paths)
                at += 1 << 20
            checked += 1
        return checked


def prepare():
    os.environ["NFS_GUEST_FORWARD"] = build("forward")
    if not os.path.exists(os.path.join(CACHE, "vmlinuz")):
        subprocess.check_call([os.path.join(HERE, "nfs_guest.py"), "prepare"])


class Guest:
    """A kernel NFS client that runs a script; its lines arrive with the time of their arrival."""

    def __init__(self, script, files=(), bins=(), timeout=300, mem=512, server=ADDRESS, options=()):
        prepare()
        self.path = tempfile.mktemp(prefix="trivet-guest.")
        with open(self.path, "w") as f:
            f.write(script)
        command = [os.path.join(HERE, "nfs_guest.py"), "run", "--server", server, "--port", "2049", "--export", "/ds1",
                   "--script", self.path, "--timeout", str(timeout), "--mem", str(mem), "--stdin",
                   "--opts", "hard,timeo=100,retrans=2"] + list(options)
        for f in files:
            command += ["--file", f]
        for b in bins:
            command += ["--bin", b]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines, self.changed = [], threading.Condition()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append((time.monotonic(), line.rstrip("\n")))
                self.changed.notify_all()
        with self.changed:
            self.changed.notify_all()

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def wait_for(self, prefix, seconds=120, count=1):
        end = time.monotonic() + seconds
        with self.changed:
            while True:
                if sum(1 for _, l in self.lines if l.startswith(prefix)) >= count:
                    return
                if any(l.startswith("FAIL") for _, l in self.lines):
                    raise AssertionError([l for _, l in self.lines if l.startswith("FAIL")][:5])
                left = end - time.monotonic()
                if left <= 0 or self.process.poll() is not None:
                    raise AssertionError("no line %r from the guest; last lines: %s" % (prefix, [l for _, l in self.lines[-8:]]))
                self.changed.wait(min(left, 1))

    def end(self, seconds=120):
        code = self.process.wait(seconds)
        time.sleep(0.2)
        os.unlink(self.path)
        failed = [l for _, l in self.lines if l.startswith("FAIL")]
        assert not failed, failed[:5]
        assert code == 0, "the guest's script ended with %d: %s\n%s" % (code, [l for _, l in self.lines[-8:]], self.process.stderr.read()[-2000:])

    def acks(self):
        return [(t, int(l.split()[1])) for t, l in self.lines if l.startswith("ACK ")]

    def longest_pause(self):
        a = [t for t, _ in self.acks()]
        return max((y - x for x, y in zip(a, a[1:])), default=None)


def build(name):
    out = os.path.join(CACHE, name)
    source = os.path.join(HERE, name + ".c")
    if not os.path.exists(out) or os.path.getmtime(out) < os.path.getmtime(source):
        os.makedirs(CACHE, exist_ok=True)
        subprocess.check_call(["cc", "-O2", "-static", "-o", out, source])
    return out
