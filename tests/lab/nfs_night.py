#!/usr/bin/env python3
"""The fault schedules under the NFS path: three whole nodes in namespaces, a real kernel client that writes all the time.

  nfs_night.py [--ports] [SCHEDULE...]      default: cut-then-kill
  nfs_night.py --busy SECONDS               no fault, but all cores saturated by requests to ZooKeeper

The guest hangs on the nodes' bridge and mounts the datastore address, which moves between the nodes' interfaces.
It writes synced records from before the first fault until after the last; no error in any schedule, and all
acknowledged records read back in the end. `--ports` cuts only the ports 2181, 2888 and 3888: the control plane.

In the incident a pause is unavoidable while, for some file, no living holder of a complete copy reaches both another
one, if there is another one, and a majority of the metads (by the nodes' own status, read every second). In all other
schedules it is only while no two living nodes have whole links. Bars: the incident at most 5 s beyond the unavoidable
in total, node71-loss50 and all others no pause over 5 s, with `--ports` none over 2 s; `--busy`: no election.
"""
import argparse, json, os, secrets, shutil, signal, subprocess, sys, tempfile, threading, time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "night"))
from cluster import Guest, TRIVET, build  # noqa: E402
from lablib import Lab, own_name, sh  # noqa: E402
from runsched import Schedule  # noqa: E402

ADDRESS, GUEST = "10.0.10.70", "10.0.10.200"
XTASK = os.path.join(os.path.dirname(TRIVET), "xtask")
PAUSE_COUNTS_S = 0.5
SCRIPT = """
echo READY
/files/diskload write /mnt %d || exit 1
read last
mnt nosharecache /again || { dmesg | tail -5; echo FAIL second mount; exit 1; }
/files/diskload verify /again $last || exit 1
dmesg | grep -iE "i/o error|server .* error" && echo FAIL the kernel saw errors
echo END
"""
NODE = """version = 1
cluster = "night"
incarnation = 1
node = %d
key_file = "%s"
data = "%s"
datastore_addresses = ["10.0.10.70"]
[ports]
client = 2181
quorum = 2888
election = 3888
nfs = 2049
console = 8088
control = 4880
data = 4881
[nodes]
1 = "10.0.10.71"
2 = "10.0.10.72"
3 = "10.0.10.73"
"""


class NfsLab(Lab):
    """Whole nodes instead of ZooKeeper servers, a guest on the bridge, and cuts of some ports only if asked for."""
    ports_only = False

    def up(self, n=3):
        super().up(n)
        br = self.name + "-br"
        sh("ip", "netns", "exec", br, "ip", "tuntap", "add", "t0", "mode", "tap")
        sh("ip", "-n", br, "link", "set", "t0", "master", "br0", "up")

    def apply_rules(self):
        which = [""]
        if self.ports_only:
            p = "{ 2181, 2888, 3888 }"
            which = ["tcp dport %s " % p, "tcp sport %s " % p, "udp dport 3888 ", "udp sport 3888 "]
        r = ["table bridge lab", "delete table bridge lab", "table bridge lab {", "chain forward {",
             "type filter hook forward priority 0; policy accept;"]
        for w in which:
            for a, b in self.st["cuts"]:
                r.append("ip saddr %s ip daddr %s %scounter drop" % (self.ip(a), self.ip(b), w))
            for a, b, percent in self.st["losses"]:
                m = ("ip saddr %s " % self.ip(a) if a is not None else "") + ("ip daddr %s " % self.ip(b) if b is not None else "")
                r.append("%s%snumgen random mod 100 < %d counter drop" % (m, w, percent))
        sh("ip", "netns", "exec", self.name + "-br", "nft", "-f", "-", input="\n".join(r + ["}", "}"]) + "\n")
        self.save()

    def config(self, i):
        return self.dir(i) / "node.toml"

    def deploy(self):
        self.configure({"name": "trivet", "cmd": "%s serve --config {dir}/node.toml" % TRIVET}, {})
        key = self.root / "cluster.key"
        key.write_text(secrets.token_hex(32) + "\n")
        for i in self.ids():
            self.config(i).write_text(NODE % (i, key, self.dir(i) / "data"))
            shutil.rmtree(self.dir(i) / "data")
        for i in self.ids():
            self.start(i)

    def trivet(self, *args, node=1, limit=20):
        command = ["ip", "netns", "exec", self.ns(node), TRIVET] + list(args) + ["--data", str(self.config(node))]
        return subprocess.run(command, capture_output=True, text=True, timeout=limit)

    def status(self, node=1):
        out = self.trivet("status", "--json", node=node).stdout
        return json.loads(out)["nodes"] if out else []

    def wait(self, what, test, seconds=60):
        end = time.time() + seconds
        while time.time() < end:
            nodes = self.status()
            if test(nodes):
                return nodes
            time.sleep(0.2)
        raise AssertionError("not within %d s: %s\n%s" % (seconds, what, json.dumps(self.status())[:3000]))


def ready(nodes):
    leaders = [n for n in nodes if n["coordination"] and n["coordination"]["role"] == "leader"]
    return len(nodes) == 3 and all(n["ready"] for n in nodes) and len(leaders) == 1 and any(n["metad"]["leading"] for n in nodes)


def whole(nodes):
    if not ready(nodes):
        return False
    newest = max(nodes, key=lambda n: n["metad"]["entries"])
    return all(f["missing"] == 0 and f["recovering"] == 0 and f["in_sync"] >= 2 * f["extents"] for f in newest["files"])


def metad_epoch(lab):
    return max(n["metad"]["epoch"] for n in lab.status() if n["metad"])


def transfer(lab, to):
    for _ in range(10):
        if lab.modes().get(to) == "leader":
            return
        lab.trivet("coordination", "transfer", "--to", str(to))
        time.sleep(0.5)
    raise AssertionError("node %d does not lead: %s" % (to, lab.modes()))


def play(lab, schedule, names):
    """Carries the events out; returns the times of cuts and of living nodes: [(at, cuts, alive)]."""
    began, paused = time.monotonic(), set()
    marks = [(began, set(), set(lab.ids()))]
    node = lambda x: names[x] if x in names else lab.node(x)
    for offset, verb, args in schedule.events:
        time.sleep(max(0, began + offset - time.monotonic()))
        if verb == "mark":
            continue
        if verb in ("cut", "uncut", "cut-oneway", "uncut-oneway"):
            getattr(lab, verb.replace("-", "_"))(node(args[0]), node(args[1]))
        elif verb == "isolate-peers":
            lab.isolate(node(args[0]), clients=False)
        elif verb == "drop-percent":
            lab.drop_percent(node(args[0]), int(args[1]), node(args[2]) if len(args) > 2 else None)
        else:
            getattr(lab, verb.replace("-", "_"))(*[node(a) for a in args])
        if verb in ("pause", "resume"):
            (paused.add if verb == "pause" else paused.discard)(node(args[0]))
        living = {i for i in lab.ids() if lab.alive(i) and i not in paused}
        marks.append((time.monotonic(), {tuple(c) for c in lab.st["cuts"]}, living))
    time.sleep(max(0, began + schedule.duration - time.monotonic()))
    return began, marks


class Holders(threading.Thread):
    """The nodes that have complete copies, by the metad that has the most entries: [(at, {file: nodes})]."""

    def __init__(self, lab):
        super().__init__(daemon=True)
        self.lab, self.seen, self.over = lab, [], threading.Event()

    def run(self):
        entries = 0
        while not self.over.wait(1):
            for i in self.lab.ids():
                try:
                    nodes = self.lab.status(i)
                except (subprocess.TimeoutExpired, json.JSONDecodeError):
                    continue
                newest = max((n for n in nodes if n["metad"]), key=lambda n: n["metad"]["entries"], default=None)
                if newest and newest["metad"]["entries"] >= entries:
                    entries = newest["metad"]["entries"]
                    # The first extent is the one in use.
                    holders = {f["file"]: set(min(f["placement"])[1]) for f in newest["files"] if f["placement"]}
                    self.seen.append((time.monotonic(), holders))


def unavoidable(lab, marks, end, seen=None):
    """The windows in which no two living nodes have whole links to each other, or, with `seen`, in which some file has
    no living holder of a copy that reaches another holder, if there is one, and a majority of the metads."""
    windows = []
    cut = lambda cuts, a, b: not lab.ports_only and bool({(a, b), (b, a)} & cuts)
    times = sorted({m[0] for m in marks} | {t for t, _ in seen or [] if marks[0][0] < t < end})
    for at, until in zip(times, times[1:] + [end]):
        _, cuts, alive = [m for m in marks if m[0] <= at][-1]
        reaches = lambda a, them: any(b != a and b in alive and not cut(cuts, a, b) for b in them)
        known = [h for t, h in seen or [] if t <= at]
        if known:
            serves = lambda holders: any(reaches(h, alive) and (len(holders) == 1 or reaches(h, holders)) for h in holders & alive)
            bad = not all(serves(holders) for holders in known[-1].values())
        else:
            bad = not any(reaches(a, alive) for a in alive)
        if bad:
            windows.append((at, until))
    return windows


def beyond_s(acks, windows, began):
    """Pauses of `PAUSE_COUNTS_S` and more without what of them is in the windows: (sum, longest, each as a text)."""
    total, longest, told = 0.0, 0.0, []
    for a, b in zip(acks, acks[1:]):
        inside = sum(max(0, min(b, y) - max(a, x)) for x, y in windows)
        if b - a > PAUSE_COUNTS_S:
            total += b - a - inside
            longest = max(longest, b - a - inside)
            told.append("%.1f+%.2f" % (a - began, b - a) + (" (%.2f of it unavoidable)" % inside if inside else ""))
    return total, longest, told


class Busy:
    """All cores saturated by requests to ZooKeeper, and a probe that writes through every server."""

    def __init__(self, lab, seconds):
        self.epoch, self.seconds = self.read(lab), seconds
        inside = ["ip", "netns", "exec", lab.ns(0)]
        hosts = [lab.ip(i) for i in lab.ids()]
        probe = os.path.join(HERE, "night", "probe.py")
        self.probe = subprocess.Popen(inside + [sys.executable, probe, "--hosts", ",".join(hosts), "--out", str(lab.root / "probe.jsonl.gz")], stdout=subprocess.PIPE, text=True)
        load = [XTASK, "load", "--hosts", ",".join(h + ":2181" for h in hosts), "--sessions", "96", "--window", "4", "--op", "mix", "--seconds", str(seconds)]
        self.load = subprocess.Popen(inside + load, stdout=subprocess.PIPE, text=True)
        self.before = self.cpu()

    @staticmethod
    def cpu():
        """(all, idle), in ticks since the machine's start."""
        ticks = [int(t) for t in open("/proc/stat").readline().split()[1:9]]
        return sum(ticks), ticks[3] + ticks[4]

    @staticmethod
    def read(lab):
        """(coordination's leader and epoch, metad's LEADER)."""
        nodes = lab.status()
        leader = next(n for n in nodes if n["coordination"]["role"] == "leader")
        return leader["node"], leader["coordination"]["epoch"], next(n["node"] for n in nodes if n["metad"]["leading"])

    def end(self, lab):
        (all_ticks, idle), (all_before, idle_before) = self.cpu(), self.before
        busy_percent = 100 - 100 * (idle - idle_before) / (all_ticks - all_before)
        load = json.loads(self.load.communicate(timeout=60)[0])
        self.probe.send_signal(signal.SIGTERM)
        found = json.loads(self.probe.stdout.read().strip().splitlines()[-1])
        assert not found["violations"], found["violations"][:3]
        now = self.read(lab)
        assert now[:2] == self.epoch[:2], "a busy machine changed the leader: %s, then %s" % (self.epoch, now)
        assert busy_percent > 90, "the cores were only %d %% busy" % busy_percent
        print("busy for %d s: the cores %d %%, %d requests (%s/s, p99 %d ms, %d sessions lost), %d writes of the probe; coordination's leader and epoch the same, metad's LEADER %s" % (
            self.seconds, busy_percent, load["ops"], load["ops_s"], load["p99_us"] / 1000, load["sessions_lost"], found["writes_ok"], "the same" if now == self.epoch else "another"))


def once(path, ports, name, keep, busy_s=0):
    schedule = Schedule(path)
    schedule.duration = busy_s or schedule.duration
    lab = NfsLab(name, tempfile.mkdtemp(prefix="trivet-lab."))
    lab.ports_only = ports
    lab.up(3)
    passed = False
    try:
        lab.deploy()
        lab.wait("all nodes are ready", lambda n: len(n) == 3 and all(x["ready"] or not x["datastores"] for x in n) and any(x["metad"] and x["metad"]["leading"] for x in n))
        for d in ("ds1", "ds2"):
            assert lab.trivet("datastore", "create", d).returncode == 0
        lab.wait("the datastores are served", ready)
        seconds = schedule.duration + schedule.settle + 12
        options = ["--net", "tap:t0,%s/24" % GUEST, "--netns", lab.name + "-br"]
        guest = Guest(SCRIPT % seconds, files=[build("diskload")], timeout=seconds + 300, server=ADDRESS, options=options)
        guest.wait_for("READY", 90)
        guest.wait_for("ACK", 30, count=50)
        # @M: metad's LEADER; @O1 and @O2: the others.
        metad = next(n["node"] for n in lab.wait("every copy is in sync", whole) if n["metad"]["leading"])
        others = [i for i in lab.ids() if i != metad]
        names = {"@M": metad, "@O1": others[0], "@O2": others[1]}
        wanted = schedule.leader or "73"
        transfer(lab, names[wanted] if wanted in names else lab.node(wanted))
        lab.wait("every copy is in sync", whole)
        modes = lab.modes()
        names["@L"] = next(i for i, m in modes.items() if m == "leader")
        for k, i in enumerate(sorted(i for i, m in modes.items() if m == "follower")):
            names["@F%d" % (k + 1)] = i
        time.sleep(schedule.settle)
        epoch = metad_epoch(lab)
        busy = Busy(lab, busy_s) if busy_s else None
        holders = Holders(lab)
        holders.start()
        began, marks = play(lab, schedule, names)
        end = time.monotonic()
        holders.over.set()
        holders.join(60)
        if busy:
            busy.end(lab)
        lab.heal()
        for i in lab.ids():
            lab.resume(i)
            lab.start(i)
        guest.wait_for("ACK", 60, count=len(guest.acks()) + 20)
        while guest.acks()[-1][0] > time.monotonic() - 3:
            time.sleep(0.5)
        guest.say(str(guest.acks()[-1][1]))
        try:
            guest.end(180)
        except AssertionError:
            print([l for _, l in guest.lines[-12:]])
            raise
        assert any("VERIFIED" in l for _, l in guest.lines), guest.lines[-5:]
        lab.wait("every copy is in sync again", whole, 120)
        leaders = metad_epoch(lab) - epoch
        assert busy or leaders <= len(schedule.events), "metad's LEADER changed %d times" % leaders
        windows = unavoidable(lab, marks, end, holders.seen)
        acks = [t for t, _ in guest.acks() if t <= end + 10]
        beyond, longest, told = beyond_s(acks, windows, began)
        by_links, longest_by_links, _ = beyond_s(acks, unavoidable(lab, marks, end), began)
        result = {"schedule": schedule.name, "ports_only": ports, "records": len(guest.acks()), "unavoidable_s": round(sum(y - x for x, y in windows), 1),
                  "metad_leaders": leaders, "pauses_beyond_s": round(beyond, 2), "beyond_by_links_alone_s": round(by_links, 2),
                  "longest_beyond_s": round(longest, 2), "longest_by_links_s": round(longest_by_links, 2), "pauses": told}
        print(json.dumps(result), flush=True)
        passed = not keep and (busy or within(result)[0])
        return result
    finally:
        if passed:
            lab.down(purge=True)
        else:
            for i in lab.ids():
                lab.resume(i)
            lab.down()
            print("data and logs are kept in", lab.root)


def within(result):
    """Whether the guest waited no longer than it may, and how long that was."""
    if result["ports_only"]:
        limit, got = 2.0, result["longest_beyond_s"]
    elif "incident" in result["schedule"]:
        limit, got = 5.0, result["pauses_beyond_s"]
    else:
        limit, got = 5.0, result["longest_by_links_s"]
    return got <= limit, "%s: %.2f s, at most %.1f" % (result["schedule"], got, limit)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("schedules", nargs="*", default=["cut-then-kill"])
    ap.add_argument("--ports", action="store_true", help="cut only the ports 2181, 2888 and 3888")
    ap.add_argument("--busy", type=int, default=0, metavar="SECONDS", help="saturate the cores instead of a schedule")
    ap.add_argument("--keep", action="store_true", help="keep data and logs in any case")
    a = ap.parse_args()
    missed = []
    for s in ["none"] if a.busy else a.schedules:
        path = s if os.path.exists(s) else os.path.join(HERE, "night", "schedules", s + ".sched")
        r = once(path, a.ports, own_name("f"), a.keep, a.busy)
        if a.busy:
            continue
        passed, told = within(r)
        if not passed:
            missed.append(told)
    assert not missed, missed


if __name__ == "__main__":
    main()
