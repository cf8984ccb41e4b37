#!/usr/bin/env python3
"""A night with every source that `trivet timeline` knows, told as one story in both languages.

A cluster of ours with its vCenter agent serves two datastores to vcsim's hosts, and a client writes all the time. Then one node
stands still while the leader's node is killed: no quorum, metad without LEADER, an address that moves, a host that loses its
datastores, one of which the agent mounts again. Our nodes' logs and journals, the alerts and vCenter's events are as they
were written. The lab writes in the documented form of ESXi, of the kernel, of chronyd, of a site's console and of a person what
the client, the simulator and the lab itself saw, at the time at which they saw it (a real ESXi host takes 125 s to call a server
lost).

    timeline_night.py [--keep FOLDER]

--keep leaves the night in FOLDER, packed: the fixture in crates/forensics/tests/night."""
import argparse, datetime, gzip, json, os, shutil, signal, subprocess, tempfile, threading, time

from cluster import ADDRESS, TRIVET
from nfs_client import Client
from vcenter import HOST2, Lab, repaired, well

STANDS_STILL_S = 8
PATTERNS = "metadata service without LEADER = cannot connect to * LEADER\n"


def utc(at, form="%Y-%m-%dT%H:%M:%S"):
    at = datetime.datetime.fromtimestamp(at, datetime.timezone.utc)
    return at.strftime(form) + ".%03dZ" % (at.microsecond // 1000)


class Writer(threading.Thread):
    """Writes through the datastore's address, 4 KiB at a time; remembers when nothing was written for more than a second."""

    def __init__(self):
        super().__init__(daemon=True)
        self.gaps, self.stop, self.client = [], threading.Event(), Client(ADDRESS, patience=60)
        self.file, self.files = self.client.create(b"night"), 0

    def run(self):
        at, last = 0, time.time()
        while not self.stop.is_set():
            self.client.write(self.file, [(at % (64 << 20), b"x" * 4096)])
            now = time.time()
            if now - last > 1.0:
                self.gaps.append((last, now))
            at, last = at + 4096, now
            time.sleep(0.02)


class Console(threading.Thread):
    """A site's own program, which looks for metad's LEADER."""

    def __init__(self, lab, path):
        super().__init__(daemon=True)
        self.lab, self.stop, self.path = lab, threading.Event(), path

    def run(self):
        told = False
        with open(self.path, "w") as f:
            while not self.stop.is_set():
                missing = not self.lab.cluster.leaders()[1]
                if missing and not told:
                    f.write("%s console: cannot connect to the node in the LEADER role\n" % utc(time.time()))
                    f.flush()
                told = missing
                time.sleep(0.3)


def hypervisor(folder, gap, back):
    """The lines of the host: ds1 while the client could not write, ds2 from then until the agent had mounted it."""
    begun, ended = gap
    os.makedirs(os.path.join(folder, HOST2))
    lost, restored = "[esx.problem.vmfs.nfs.server.disconnect]", "[esx.clear.vmfs.nfs.server.restored]"
    lines = [(at + 0.2, "[vmfsCorrelator] 4466us: %s %s /%s 8f3c-%s %s" % (lost, ADDRESS, name, name, name))
             for at, name in [(begun, "ds1"), (begun, "ds2")]]
    device = "Device or filesystem with identifier [8f3c-%s] has %s the All Paths Down state."
    lines += [(begun + 0.4, "[APDCorrelator] 1us: [esx.problem.storage.apd.start] " + device % ("ds1", "entered"))]
    lines += [(at, "[vmfsCorrelator] 4470us: %s %s /%s 8f3c-%s %s" % (restored, ADDRESS, name, name, name)) for at, name in [(ended, "ds1"), (back, "ds2")]]
    lines += [(ended + 0.1, "[APDCorrelator] 2us: [esx.clear.storage.apd.exit] " + device % ("ds1", "exited"))]
    with open(os.path.join(folder, HOST2, "vobd.log"), "w") as f:
        f.writelines("%s: %s\n" % (utc(at), text) for at, text in sorted(lines))
    kernel = "cpu3:2097661)WARNING: NFS: 337: Lost connection to the server %s mount point /ds1, mounted as 8f3c-ds1 (\"ds1\")"
    with open(os.path.join(folder, HOST2, "vmkernel.log"), "w") as f:
        f.write("%s %s\n" % (utc(begun + 0.2), kernel % ADDRESS))


def record(folder):
    lab = Lab()
    console = None
    try:
        lab.start()
        lab.wait("a healthy matrix", lambda s: well(s) and len(s["matrix"]) == 2 * 5, 90)
        lab.cluster.gather_roles(3)
        lab.cluster.wait("all nodes", lab.cluster.all_ready)
        time.sleep(5)
        writer = Writer()
        writer.start()
        console = Console(lab, os.path.join(folder, "console.log"))
        console.start()
        lab.wait("an agent that works", well, 90)
        time.sleep(5)
        pids = {n["node"]: n["pid"] for n in lab.cluster.status()}
        begun = time.time()
        os.kill(pids[2], signal.SIGSTOP)
        try:
            os.kill(pids[3], signal.SIGKILL)
            lab.shim.sim.lose(HOST2, "ds2")
            time.sleep(STANDS_STILL_S)
        finally:
            os.kill(pids[2], signal.SIGCONT)
        thawed = time.time()
        issue = None
        end = time.time() + 240
        while time.time() < end and not (issue and repaired(lab.status() or {"steps": []})):
            few = lab.judge.issues(HOST2)
            if few and not issue:
                issue = (time.time(), few[0])
            time.sleep(0.3)
        assert issue, "vSphere HA did not complain"
        while "ds2" not in lab.judge.nfs(HOST2) and time.time() < end:
            time.sleep(0.3)
        back = time.time()
        lab.wait("a healthy matrix", well, 120)
        time.sleep(3)
        for thread in (writer, console):
            thread.stop.set()
            thread.join(60)
        gaps = [g for g in writer.gaps if g[1] > begun]
        assert gaps, "the client noticed nothing"
        for n in (1, 2, 3):
            source, target = os.path.join(lab.cluster.data, "node%d" % n), os.path.join(folder, "node%d" % n)
            for name in ("node.log", "events/events.jsonl", "alerts/history.jsonl"):
                if os.path.exists(os.path.join(source, name)):
                    os.makedirs(os.path.dirname(os.path.join(target, name)), exist_ok=True)
                    shutil.copy(os.path.join(source, name), os.path.join(target, name))
    finally:
        if console:
            console.stop.set()
        lab.stop()
    hypervisor(folder, (gaps[0][0], gaps[0][1]), back)
    with open(os.path.join(folder, "vcenter.json"), "w") as f:
        event = {"eventTypeId": "com.vmware.vc.HA.HeartbeatDatastoreNotSufficient", "createdTime": utc(issue[0]), "fullFormattedMessage": issue[1], "host": {"name": HOST2}}
        f.write(json.dumps(event, ensure_ascii=False) + "\n")
    with open(os.path.join(folder, "messages"), "w") as f:
        f.write("%s zk3 kernel: ixgbe 0000:01:00.0 eth0: NIC Link is Down\n" % utc(begun))
        f.write("%s zk2 chronyd[99]: System clock was stepped by %.6f seconds\n" % (utc(thawed), 0.1))
    with open(os.path.join(folder, "notes.txt"), "w") as f:
        f.write("# %s node 2 is stopped and node 3 killed\n" % utc(begun)[:19])
        f.write("# %s node 2 may run again\n" % utc(thawed)[:19])
    with open(os.path.join(folder, "patterns.txt"), "w") as f:
        f.write(PATTERNS)
    truth = {"begun": utc(begun)[:-1], "thawed": utc(thawed)[:-1], "gap": [utc(t)[:-1] for t in gaps[0]], "back": utc(back)[:-1], "host": HOST2}
    with open(os.path.join(folder, "truth.json"), "w") as f:
        json.dump(truth, f)


def told(folder, *args):
    sources = [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name not in ("truth.json", "patterns.txt")]
    command = [TRIVET, "timeline", "--patterns", os.path.join(folder, "patterns.txt"), *args, *sources]
    r = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert r.returncode == 1, "status %d: %s" % (r.returncode, r.stderr)
    return r.stdout


def check(folder):
    truth = json.load(open(os.path.join(folder, "truth.json")))
    found = json.loads(told(folder, "--json"))
    assert not any("time zone" in c["en"] for c in found["complaints"]), found["complaints"]
    near = [o for o in found["outages"] if o["from_earliest"][:-1] <= truth["thawed"] and (not o["to"] or o["to"][:-1] >= truth["begun"])]
    assert len(near) == 1, found["outages"]
    chain = [c for c in found["chains"] if "lost NFS datastore ds2" in c["en"]]
    assert len(chain) == 1, found["chains"]
    steps = {"en": ["no quorum", "no longer LEADER" if "no longer LEADER" in chain[0]["en"] else "LEADER of epoch", "goes to node", "lost NFS datastore ds1", "all paths down", "too few vSphere HA heartbeat",
                    "repair begins", "repaired", "has NFS datastore ds2 again"],
             "zh": ["集群停止工作", "LEADER", "转到节点", "失去 NFS 数据存储 ds1", "APD", "检测信号数据存储不足", "开始修复", "已修复", "恢复 NFS 数据存储 ds2"]}
    for lang, parts in steps.items():
        missing = [p for p in parts if p not in chain[0][lang]]
        assert not missing, "%s is missing in: %s" % (missing, chain[0][lang])
    subjects = {n["subject"] for n in found["own"]}
    wanted = {"metad", "address", "lease", "gateway", "vcenter", "alert"}
    assert wanted <= subjects, "of %s only %s is told" % (wanted, subjects)
    assert {"zk3", "zk2"} <= {e["host"] for e in found["site"]} and len(found["remarks"]) == 2, found["site"]
    assert any("metadata service without LEADER" in e["text"]["en"] for e in found["site"]), found["site"]
    english = [n["text"]["zh"] for n in found["own"] if not any("\u4e00" <= c for c in n["text"]["zh"])]
    assert not english, "not in Chinese: %s" % english
    for lang in ("en", "zh"):
        text = told(folder, "--lang", lang)
        width = lambda l: sum(1 + (ord(c) >= 0x2e80) for c in l)
        wide = [l for l in text.splitlines() if width(l) > 120]
        assert not wide, wide
    print(chain[0]["en"])
    print(chain[0]["zh"])
    print("timeline: one night with %d records of our nodes, %d of other machines, told as one story" % (len(found["own"]), len(found["site"])))


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--keep", help="leave the night in this folder, packed")
    args.add_argument("--check", help="check a night that was kept, not packed")
    args = args.parse_args()
    if args.check:
        return check(args.check)
    with tempfile.TemporaryDirectory(prefix="trivet-night.") as root:
        folder = os.path.join(root, "night")
        os.makedirs(folder)
        record(folder)
        if args.keep:
            shutil.copytree(folder, args.keep, dirs_exist_ok=True)
        check(folder)
    for top, _, names in os.walk(args.keep) if args.keep else ():
        for name in names:
            if name.endswith((".log", ".jsonl")):
                path = os.path.join(top, name)
                with open(path, "rb") as f, open(path + ".gz", "wb") as g, gzip.GzipFile("", "wb", 9, g, 0) as z:
                    z.write(f.read())
                os.remove(path)


if __name__ == "__main__":
    main()
