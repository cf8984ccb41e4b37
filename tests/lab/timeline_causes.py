#!/usr/bin/env python3
"""The log lines of Apache ZooKeeper 3.8.0 when something is wrong with it, and whether `trivet timeline` names that. Each case is
three servers in namespaces of their own, one fault, and a probe that writes all the time: its gaps are the truth.

    timeline_causes.py [--keep FOLDER] [CASE ...]

--keep leaves each case's logs and truth in FOLDER/CASE; packed, they are the fixtures in crates/forensics/tests/causes."""
import argparse, contextlib, datetime, gzip, json, os, subprocess, sys, tempfile, threading, time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(HERE, "night"))
from lablib import Lab, load_server_file, own_name, setns, sh  # noqa: E402
from zkproto import ConnLoss, Session, SessionExpired  # noqa: E402

TRIVET = os.environ.get("TRIVET_BIN", os.path.join(ROOT, "target/release/trivet"))
# The read time-out of followers and leader: syncLimit ticks of 2 s.
TIMEOUT_S = 4


class Probe(threading.Thread):
    """Writes through any server, again and again, from the clients' namespace; remembers when nothing was written."""

    def __init__(self, lab, bytes_=10):
        super().__init__(daemon=True)
        self.lab, self.data, self.gaps, self.last, self.stop, self.written = lab, b"x" * bytes_, [], None, threading.Event(), 0

    def run(self):
        setns(self.lab.ns(0))
        sessions = {i: Session(6000) for i in self.lab.ids()}
        at, number = 0, 0
        while not self.stop.is_set():
            at += 1
            i = self.lab.ids()[at % self.lab.n]
            s = sessions[i]
            try:
                if not s.sock:
                    s.connect(self.lab.ip(i), timeout=0.5)
                number += 1
                s.create("/probe-%d" % number, self.data, timeout=1.0)
            except SessionExpired:
                s.forget()
            except (ConnLoss, OSError):
                time.sleep(0.05)
                continue
            now = time.time()
            if self.last and now - self.last > 1.0:
                self.gaps.append((self.last, now))
            self.last, self.written = now, self.written + 1
            time.sleep(0.02)

    def end(self):
        """Gaps of more than a second; one that is open has no end."""
        self.stop.set()
        self.join(5)
        if self.last and time.time() - self.last > 1.0:
            self.gaps.append((self.last, None))
        return self.gaps


class Night:
    def __init__(self, folder):
        self.lab = Lab(own_name("t"), folder)
        self.undo = []

    def __enter__(self):
        self.lab.up(3)
        server = load_server_file("zk-3.8.0")
        server["cmd"] = server["cmd"].replace("-Xmx1000m", "-Xmx128m")
        self.lab.configure(server, {"tickTime": "2000", "initLimit": "5", "syncLimit": "2"})
        return self

    def __exit__(self, *_):
        for i in self.lab.ids():
            self.lab.kill(i)
        for undo in reversed(self.undo):
            undo()
        self.lab.down()

    def edit(self, i, change):
        path = self.lab.dir(i) / "zoo.cfg"
        path.write_text(change(path.read_text()))

    def begin(self, leader=3):
        """All three serve, and `leader` leads: it and server 1 are there first."""
        self.lab.start(leader)
        self.lab.start(1)
        self.lab.wait_serving(2)
        for i in self.lab.ids():
            self.lab.start(i)
        modes = self.lab.wait_serving(3)
        assert modes[leader] == "leader", modes
        return modes

    def disk(self, i, options, *make):
        """A file system of its own for a server's data."""
        data = self.lab.dir(i) / "data"
        myid = (data / "myid").read_text()
        for command in make:
            subprocess.check_call(command)
        subprocess.check_call(["mount", *options, str(data)])
        self.undo.append(lambda: subprocess.call(["umount", str(data)]))
        (data / "myid").write_text(myid)
        return data

    def frozen_disk(self, i, seconds):
        data = self.lab.dir(i) / "data"
        subprocess.check_call(["fsfreeze", "-f", str(data)])
        try:
            time.sleep(seconds)
        finally:
            subprocess.check_call(["fsfreeze", "-u", str(data)])

    def occupy(self, i, port):
        """A program of somebody else listens there."""
        ready, done = threading.Event(), threading.Event()

        def listen():
            import socket
            setns(self.lab.ns(i))
            with socket.socket() as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                s.bind((self.lab.ip(i), port))
                s.listen()
                ready.set()
                done.wait()

        threading.Thread(target=listen, daemon=True).start()
        assert ready.wait(5), "port %d of %d is not to be had" % (port, i)
        self.undo.append(done.set)

    @contextlib.contextmanager
    def probed(self, bytes_=10):
        probe = Probe(self.lab, bytes_)
        probe.start()
        end = time.time() + 10
        while not probe.written and time.time() < end:
            time.sleep(0.05)
        assert probe.written, "nothing can be written"
        try:
            yield probe
        finally:
            self.gaps = probe.end()

    def slow_sync(self, i):
        """Syncs of server i wait while the file `flag` is there."""
        shim, self.flag = self.lab.root / "slow_sync.so", self.lab.root / "slow"
        subprocess.check_call(["cc", "-O1", "-shared", "-fPIC", "-o", str(shim), os.path.join(HERE, "slow_sync.c"), "-ldl"])
        command = self.lab.command
        self.lab.command = lambda j: (["env", "LD_PRELOAD=%s" % shim, "SLOW_SYNC=%s" % self.flag] if j == i else []) + command(j)

    def loop_disk(self, i):
        image = str(self.lab.dir(i) / "disk.img")
        self.disk(i, ["-o", "loop", image], ["truncate", "-s", "200M", image], ["mke2fs", "-q", "-F", "-t", "ext4", image])


def names(n):
    """Names of a site whose DNS is not there: node 1 knows its own address, the others not even that."""
    for i in n.lab.ids():
        for j in n.lab.ids():
            if (i, j) != (1, 1):
                n.edit(i, lambda t: t.replace("server.%d=%s:" % (j, n.lab.ip(j)), "server.%d=zk%d.site.invalid:" % (j, j)))
        n.lab.start(i)
    time.sleep(14)
    return {"causes": [["names do not resolve", 1], ["names do not resolve", 2], ["names do not resolve", 3]], "never": True}


def refused(n):
    """Two of three are not started."""
    n.lab.start(1)
    time.sleep(12)
    return {"causes": [["peers refuse", 1]], "never": True}


def disk_full(n):
    """The leader's disk. Its process goes on without its log: clients may not even notice."""
    n.disk(3, ["-t", "tmpfs", "-o", "size=3m", "tmpfs"])
    n.begin()
    with n.probed(20_000) as probe:
        end = time.time() + 40
        log = n.lab.dir(3) / "zookeeper.log"
        while "No space left" not in log.read_text(errors="replace") and time.time() < end:
            time.sleep(0.1)
        probe.data = b"x"
        time.sleep(8)
    return {"causes": [["disk full", 3]], "hypothesis": ["process ended", [3]]}


def port_in_use(n):
    """The clients' port of 3: a second instance."""
    n.occupy(3, 2181)
    for i in n.lab.ids():
        n.lab.start(i)
    n.lab.wait_serving(2)
    with n.probed():
        time.sleep(4)
    return {"causes": [["port in use", 3]]}


def election_port_in_use(n):
    n.occupy(2, 3888)
    for i in n.lab.ids():
        n.lab.start(i)
    n.lab.wait_serving(2)
    with n.probed():
        time.sleep(8)
    return {"causes": [["port in use", 2], ["cannot take part in elections", 2]]}


def out_of_memory(n):
    """The leader's heap is 24 MiB, and clients store more than that."""
    command = n.lab.command
    n.lab.command = lambda i: [w.replace("-Xmx128m", "-Xmx24m") if i == 3 else w for w in command(i)]
    n.begin()
    with n.probed(100_000) as probe:
        end = time.time() + 40
        log = n.lab.dir(3) / "zookeeper.log"
        while "OutOfMemoryError" not in log.read_text(errors="replace") and time.time() < end:
            time.sleep(0.2)
        probe.data = b"x"
        time.sleep(12)
    return {"causes": [["out of memory", 3]], "hypothesis": ["process ended", [3]]}


def id_twice(n):
    """3 is a copy of 2's machine: its address was changed, its myid was not."""
    for i in n.lab.ids():
        n.edit(i, lambda t: t + "quorumListenOnAllIPs=true\n")
    (n.lab.dir(3) / "data" / "myid").write_text("2\n")
    for i in n.lab.ids():
        n.lab.start(i)
    time.sleep(15)
    return {"causes": [["id used twice", 3]], "copied": [3, 2]}


def not_in_the_list(n):
    (n.lab.dir(3) / "data" / "myid").write_text("4\n")
    for i in n.lab.ids():
        n.lab.start(i)
    n.lab.wait_serving(2)
    with n.probed():
        time.sleep(4)
    return {"causes": [["id not in the list", 4]]}


def rolling_restart(n):
    modes = n.begin()
    leader = next(i for i, m in modes.items() if m == "leader")
    pauses = []
    with n.probed():
        for i in [j for j in n.lab.ids() if j != leader] + [leader]:
            ended = time.time()
            n.lab.stop(i)
            n.lab.start(i)
            n.lab.wait_serving(3)
            pauses.append([i, time.time() - ended])
            time.sleep(2)
    return {"causes": [["rolling restart", 1]], "restarted": pauses}


def frozen_below(n):
    """Shorter than the read time-out: it may leave nothing, and nothing may be made of it."""
    n.begin()
    with n.probed():
        time.sleep(3)
        n.lab.pause(3)
        time.sleep(TIMEOUT_S * 0.6)
        n.lab.resume(3)
        time.sleep(5)
    return {"causes": [], "below": True}


def frozen_above(n):
    n.begin()
    with n.probed():
        time.sleep(3)
        n.lab.pause(3)
        time.sleep(TIMEOUT_S + 4)
        n.lab.resume(3)
        time.sleep(8)
    return {"causes": [], "hypothesis": ["stood still", [3]]}


def slow_syncs(n):
    """The leader's syncs take long. Its followers are a majority of their own, so that clients notice nothing."""
    n.slow_sync(3)
    n.begin()
    with n.probed():
        time.sleep(3)
        n.flag.touch()
        time.sleep(TIMEOUT_S + 4)
        n.flag.unlink()
        time.sleep(5)
    return {"causes": [["disk stood still", 3]], "hypothesis": ["stood still", [3]]}


def follower_disk_frozen(n):
    """A follower whose disk stands still in a write, which no line of its own reports: its leader gives it up, and says so."""
    n.loop_disk(1)
    n.begin()
    with n.probed():
        time.sleep(3)
        n.frozen_disk(1, TIMEOUT_S * 2 + 4)
        time.sleep(8)
    return {"causes": [["transaction timeout", 3]], "hypothesis": ["stood still", [1]]}


CASES = {f.__name__.replace("_", "-"): f for f in (
    names, refused, disk_full, port_in_use, election_port_in_use, out_of_memory, id_twice, not_in_the_list, rolling_restart,
    frozen_below, frozen_above, slow_syncs, follower_disk_frozen)}


def moment(at):
    """As the servers' clocks write it: local time."""
    return at and datetime.datetime.fromtimestamp(at).isoformat(timespec="milliseconds")


def record(name, folder, root):
    """The logs of one case, with its truth."""
    with Night(root) as n:
        n.gaps = []
        began = time.time()
        truth = CASES[name](n)
        truth["outages"] = [[moment(a), moment(b)] for a, b in n.gaps]
        truth["read_timeout_s"] = TIMEOUT_S
        truth["seconds"] = round(time.time() - began)
        os.makedirs(folder, exist_ok=True)
        for i in n.lab.ids():
            log = n.lab.dir(i) / "zookeeper.log"
            if log.exists():
                with open(os.path.join(folder, "node%d.log" % i), "w") as f:
                    f.write(shortened(log.read_text(errors="replace")))
        with open(os.path.join(folder, "truth.json"), "w") as f:
            json.dump(truth, f, indent=1)


def shortened(text):
    """Without what says nothing: the environment, lines of stacks below the third, and clients' comings and goings."""
    out, stack = [], 0
    for line in text.splitlines(keepends=True):
        stack = stack + 1 if line.startswith("\tat ") else 0
        if stack <= 3 and not ("environment:" in line and "zookeeper.version" not in line):
            out.append(line)
    return "".join(out)


def parsed(text):
    return datetime.datetime.fromisoformat(text)


def check(name, folder):
    """The timeline's report against the truth; the same rules as crates/forensics/tests/causes.rs."""
    truth = json.load(open(os.path.join(folder, "truth.json")))
    logs = [os.path.join(folder, f) for f in sorted(os.listdir(folder)) if f.endswith(".log")]
    r = subprocess.run([TRIVET, "timeline", "--json", *logs], capture_output=True, text=True, timeout=60)
    assert r.returncode in (0, 1), "%s: status %d: %s" % (name, r.returncode, r.stderr)
    found = json.loads(r.stdout)
    said = [[f["kind"], n] for f in found["findings"] for n in f["nodes"]]
    for cause in truth["causes"]:
        assert cause in said, "%s: %s is not named, but %s" % (name, cause, sorted(map(tuple, said)))
    outages, slack = found["outages"], datetime.timedelta(seconds=0.5)
    if truth.get("never"):
        assert [o["what"] for o in outages] == ["no leader was elected"] and not outages[0]["to"], "%s: %s" % (name, outages)
        return
    gaps = [(parsed(a), parsed(b) if b else None) for a, b in truth["outages"]]
    for a, b in gaps if not truth.get("below") else ():
        near = [o for o in outages if parsed(o["from_earliest"]) - slack <= a <= parsed(o["from"]) + slack]
        assert near, "%s: nothing was written from %s to %s, and %s is told" % (name, a, b, outages)
    for o in outages:
        begun, end = parsed(o["from_earliest"]), o["to"] and parsed(o["to"])
        known = any((not end or a < end + slack) and (not b or begun - slack < b) for a, b in gaps)
        # The probe notes gaps above a second; of an outage that is told as an interval the certain part may be shorter.
        known = known or end and end - parsed(o["from"]) < datetime.timedelta(seconds=1)
        assert known or o["cause"] == "it restarted", "%s: invented: %s" % (name, o)
    verdict = found["verdict"]
    want = truth.get("hypothesis")
    assert not want or [verdict["hypothesis"], verdict["nodes"]] == want, "%s: %s" % (name, verdict["text"]["en"])


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--keep", help="leave each case's logs in this folder")
    args.add_argument("--record", action="store_true", help="only record, for --keep")
    args.add_argument("--pack", action="store_true", help="pack the logs that are kept")
    args.add_argument("cases", nargs="*")
    args = args.parse_args()
    wrong = []
    with tempfile.TemporaryDirectory(prefix="trivet-causes.") as root:
        for name in args.cases or CASES:
            folder = os.path.join(args.keep or root, name)
            record(name, folder, root)
            truth = json.load(open(os.path.join(folder, "truth.json")))
            try:
                if not args.record:
                    check(name, folder)
                print("%s: %s, %d s" % (name, ", ".join("%s of %d" % tuple(c) for c in truth["causes"]) or "nothing is stated", truth["seconds"]), flush=True)
            except AssertionError as e:
                wrong.append(str(e))
                print("WRONG", e, flush=True)
            for log in os.listdir(folder) if args.pack else ():
                if log.endswith(".log"):
                    path = os.path.join(folder, log)
                    with open(path, "rb") as f, open(path + ".gz", "wb") as g, gzip.GzipFile("", "wb", 9, g, 0) as z:
                        z.write(f.read())
                    os.remove(path)
    if wrong:
        raise SystemExit("%d of %d cases are told wrongly" % (len(wrong), len(args.cases or CASES)))


if __name__ == "__main__":
    main()
