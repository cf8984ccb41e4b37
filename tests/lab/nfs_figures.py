#!/usr/bin/env python3
"""The datastore's figures beside its peers: three nodes of ours with two copies, nfs-ganesha on glusterfs with three replicas
(gl), and nfs-ganesha on one local copy (vfs). Row by row, one system after the other, several rounds; medians, ratios, processor
time of the servers for an operation, and bytes to the disk for a written byte. With `--syncs` one more pass under strace
counts what is synced for an operation, and measures no time.

All three lie on one disk, and their loads run on one machine: figures of one run are comparable, those of two are not.

    nfs_figures.py [--rounds 3] [--seconds 2] [--row NAME ...] [--markdown] [--syncs]
                                    needs root; nfs-ganesha-gluster nfs-ganesha-vfs glusterfs-server rpcbind libnfs-dev strace"""
import argparse, json, os, re, shutil, signal, statistics, subprocess, sys, tempfile, time
from cluster import CACHE, HERE, Cluster

sys.path.insert(0, os.path.join(HERE, "night"))
from lablib import own_name  # noqa: E402

FILE_BYTES = 64 << 20
SPACE, PEER = own_name("p") + "-c", "10.99.9.1"
TICK = os.sysconf("SC_CLK_TCK")
OURS, GLUSTER, LOCAL = "ours", "gl", "vfs"

# Name: operation, bytes, depth, stable, cold; the last one is what it is counted in. The last column is the ratio to gl that is wanted.
ROWS = {
    "4k write d1": ("randwrite", 4096, 1, 2, False, "/s", 2.5),
    "4k write d16": ("randwrite", 4096, 16, 2, False, "/s", 6.5),
    "4k write d64": ("randwrite", 4096, 64, 2, False, "/s", 9.0),
    "64k write d1": ("write", 65536, 1, 2, False, "MB/s", 2.5),
    "64k write d16": ("write", 65536, 16, 2, False, "MB/s", 2.5),
    "1M write d1": ("write", 1 << 20, 1, 2, False, "MB/s", 1.5),
    "1M write d16": ("write", 1 << 20, 16, 2, False, "MB/s", 1.5),
    "1M write UNSTABLE d16": ("write", 1 << 20, 16, 0, False, "MB/s", 1.5),
    "4k read warm d1": ("randread", 4096, 1, 2, False, "/s", None),
    "4k read warm d16": ("randread", 4096, 16, 2, False, "/s", None),
    "4k read cold d1": ("randread", 4096, 1, 2, True, "/s", 1.5),
    "4k read cold d16": ("randread", 4096, 16, 2, True, "/s", 3.0),
    "1M read warm d1": ("read", 1 << 20, 1, 2, False, "MB/s", 1.3),
    "1M read cold d16": ("read", 1 << 20, 16, 2, True, "MB/s", 1.3),
    "4k mixed 70/30 d16": ("mixed", 4096, 16, 2, False, "/s", None),
    "getattr d1": ("getattr", 4096, 1, 2, False, "/s", 1.0),
    "lookup d1": ("lookup", 4096, 1, 2, False, "/s", 1.0),
    "create d16": ("create", 4096, 16, 2, False, "/s", None),
    "unlink d16": ("unlink", 4096, 16, 2, False, "/s", None),
}


def build():
    out, source = os.path.join(CACHE, "nfsload"), os.path.join(HERE, "nfsload.c")
    if not os.path.exists(out) or os.path.getmtime(out) < os.path.getmtime(source):
        subprocess.check_call(["cc", "-O2", "-o", out, source, "-lnfs"])
    return out


def processor_s(pids):
    """Processor time of the processes and of their children that ended, in seconds."""
    ticks = 0
    for pid in pids:
        with open("/proc/%s/stat" % pid) as f:
            fields = f.read().rsplit(")", 1)[1].split()
        ticks += sum(int(x) for x in fields[11:15])
    return ticks / TICK


def written(pids):
    total = 0
    for pid in pids:
        with open("/proc/%s/io" % pid) as f:
            total += int(re.search(r"write_bytes: (\d+)", f.read()).group(1))
    return total


class Syncs:
    """Counts syncs of the processes by strace."""

    def __init__(self, pids):
        self.out = tempfile.NamedTemporaryFile(prefix="trivet-strace.")
        self.process = subprocess.Popen(["strace", "-f", "-c", "-e", "trace=fsync,fdatasync,sync_file_range,syncfs,msync", "-o", self.out.name]
                                        + [x for p in pids for x in ("-p", str(p))], stderr=subprocess.DEVNULL)
        time.sleep(1)

    def end(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
        with open(self.out.name) as f:
            return sum(int(m.group(1)) for m in re.finditer(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s.*sync", f.read(), re.M))


class System:
    prefix, names = (), 0

    def run(self, operation, size, depth, seconds, stable):
        # Names that no pass before has used: ganesha refuses to create one twice, whatever the mode.
        self.names += operation == "create"
        arguments = size, depth, seconds, FILE_BYTES, stable, "n%d" % self.names
        command = list(self.prefix) + [build(), self.url, operation] + [str(x) for x in arguments]
        return json.loads(subprocess.check_output(command, text=True))

    def fill(self):
        for _ in range(2):
            self.run("write", 1 << 20, 4, 2, 2)

    def measure(self, row, seconds, count_syncs=False):
        operation, size, depth, stable, cold, _, _ = ROWS[row]
        if operation == "unlink":
            self.run("create", size, depth, seconds, stable)
        if cold:
            os.sync()
            with open("/proc/sys/vm/drop_caches", "w") as f:
                f.write("3")
        pids = self.pids()
        syncs = Syncs(pids) if count_syncs else None
        before = processor_s(pids), written(pids)
        figures = self.run(operation, size, depth, seconds, stable)
        after = processor_s(pids), written(pids)
        operations = max(figures["ops"], 1)
        figures["cpu_us"] = (after[0] - before[0]) * 1e6 / operations
        figures["disk_bytes"] = (after[1] - before[1]) / figures["bytes"] if "write" in operation and figures["bytes"] else None
        figures["syncs"] = syncs.end() / operations if syncs else None
        return figures


class Ours(Cluster, System):
    url = "nfs://127.0.0.70/ds1/load?nfsport=2049&mountport=2049"

    def pids(self):
        return [n["pid"] for n in self.status()]


class Peer(System):
    prefix = ("ip", "netns", "exec", SPACE)

    def __init__(self, peers, name):
        self.peers, self.url = peers, "nfs://%s/%s/load?nfsport=2049&mountport=20048" % (PEER, name)

    def pids(self):
        return [p for p in self.peers.pids() if self.peers.name_of(p) not in ("rpcbind",)]


class Peers:
    """nfs-ganesha with two exports: glusterfs with three bricks on this machine, and a local folder."""

    def __enter__(self):
        self.folder, self.processes = tempfile.mkdtemp(prefix="trivet-peer."), []
        subprocess.check_call(["ip", "netns", "add", SPACE])
        self.inside("ip", "link", "set", "lo", "up")
        self.inside("ip", "link", "add", "peer0", "type", "bridge")
        self.inside("ip", "addr", "add", PEER + "/24", "dev", "peer0")
        self.inside("ip", "link", "set", "peer0", "up")
        at = lambda name: os.path.join(self.folder, name)
        with open(at("glusterd.vol"), "w") as f:
            f.write("volume management\n type mgmt/glusterd\n option working-directory %s\n option run-directory %s\n"
                    " option transport-type socket\n option transport.socket.listen-port 24007\nend-volume\n" % (at("lib"), at("run")))
        for name in ("lib", "run", "log", "b1", "b2", "b3", "local"):
            os.mkdir(at(name))
        self.start("rpcbind", "-f", "-w")
        self.start("glusterd", "-N", "-f", at("glusterd.vol"), "-l", at("log/glusterd.log"), "-p", at("run/glusterd.pid"))
        for command in ("volume create load replica 3 %s force" % " ".join("%s:%s" % (PEER, at(b)) for b in ("b1", "b2", "b3")),
                        "volume start load"):
            end = time.time() + 30
            while subprocess.run(["ip", "netns", "exec", SPACE, "gluster", "--mode=script"] + command.split(),
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
                assert time.time() < end, "gluster %s did not succeed; see %s" % (command, self.folder)
                time.sleep(0.5)
        export = ("EXPORT { Export_Id = %d; Path = %s; Pseudo = /%s; Tag = %s; Access_Type = RW; Squash = None; SecType = sys;"
                  " Protocols = 3; Transports = TCP; FSAL { %s } }\n")
        with open(at("ganesha.conf"), "w") as f:
            f.write("NFS_CORE_PARAM { Protocols = 3; NFS_Port = 2049; MNT_Port = 20048; Enable_NLM = false; Enable_RQUOTA = false;"
                    " mount_path_pseudo = true; }\n"
                    + export % (1, "/", GLUSTER, GLUSTER, "Name = GLUSTER; Hostname = %s; Volume = load;" % PEER)
                    + export % (2, at("local"), LOCAL, LOCAL, "Name = VFS;"))
        self.start("ganesha.nfsd", "-F", "-f", at("ganesha.conf"), "-L", at("log/ganesha.log"), "-p", at("run/ganesha.pid"))
        for name in (GLUSTER, LOCAL):
            self.wait_served(Peer(self, name))
        return self

    def wait_served(self, peer):
        end = time.time() + 60
        while True:
            try:
                return peer.run("write", 4096, 1, 0.1, 2)
            except subprocess.CalledProcessError:
                assert time.time() < end, "nfs-ganesha does not serve %s; see %s" % (peer.url, self.folder)
                time.sleep(1)

    def pids(self):
        return subprocess.check_output(["ip", "netns", "pids", SPACE], text=True).split()

    def name_of(self, pid):
        with open("/proc/%s/comm" % pid) as f:
            return f.read().strip()

    def inside(self, *command):
        subprocess.check_call(["ip", "netns", "exec", SPACE] + list(command))

    def start(self, *command):
        self.processes.append(subprocess.Popen(["ip", "netns", "exec", SPACE] + list(command), cwd=self.folder,
                                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def __exit__(self, kind, *_):
        # The bricks and their helpers are in the namespace, with everything else that was started there.
        for pid in self.pids():
            os.kill(int(pid), signal.SIGKILL)
        for p in self.processes:
            p.wait()
        subprocess.check_call(["ip", "netns", "del", SPACE])
        if kind is None:
            shutil.rmtree(self.folder)


def show(rows, runs):
    print("| row | ours | gl | vfs | ours/gl | wanted | ours/vfs | CPU us/op ours; gl; vfs | p99 ms ours; gl | bytes to disk per byte ours; gl | syncs/op ours; gl; vfs |")
    print("|---|--:|--:|--:|--:|--:|--:|---|---|---|---|")
    for row in rows:
        unit, wanted = ROWS[row][5], ROWS[row][6]
        median = lambda name, what: statistics.median(v for v in (r[what] for r in runs[row][name]) if v is not None)
        some = lambda name, what: "%.2f" % median(name, what) if any(r[what] is not None for r in runs[row][name]) else "-"
        rate = {n: median(n, "mb_per_s" if unit == "MB/s" else "ops_per_s") for n in runs[row]}
        line = ["%s, %s" % (row, unit)] + ["%.0f" % rate[n] for n in (OURS, GLUSTER, LOCAL)]
        line += ["%.2f" % (rate[OURS] / rate[GLUSTER]), "%.1f" % wanted if wanted else "", "%.2f" % (rate[OURS] / rate[LOCAL])]
        line.append("; ".join("%.0f" % median(n, "cpu_us") for n in (OURS, GLUSTER, LOCAL)))
        line.append("; ".join("%.1f" % median(n, "p99_ms") for n in (OURS, GLUSTER)))
        line.append("; ".join(some(n, "disk_bytes") for n in (OURS, GLUSTER)))
        line.append("; ".join(some(n, "syncs") for n in (OURS, GLUSTER, LOCAL)))
        print("| " + " | ".join(line) + " |")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--seconds", type=float, default=2, help="of each row, system and round")
    ap.add_argument("--row", choices=ROWS, action="append", help="only this row; may be given more than once")
    ap.add_argument("--syncs", action="store_true", help="one more pass that counts syncs")
    args = ap.parse_args()
    rows = args.row or list(ROWS)
    runs = {row: {OURS: [], GLUSTER: [], LOCAL: []} for row in rows}
    with Peers() as peers, Ours() as ours:
        systems = [(OURS, ours), (GLUSTER, Peer(peers, GLUSTER)), (LOCAL, Peer(peers, LOCAL))]
        for _, system in systems:
            system.fill()
        for turn in range(args.rounds + args.syncs):
            for row in rows:
                for name, system in systems:
                    figures = system.measure(row, args.seconds, count_syncs=turn == args.rounds)
                    if turn == args.rounds:
                        runs[row][name][-1]["syncs"] = figures["syncs"]
                    else:
                        runs[row][name].append(figures)
                print("round %d: %-22s %s" % (turn + 1, row, {n: runs[row][n][-1] for n, _ in systems}), file=sys.stderr, flush=True)
    show(rows, runs)


main()
