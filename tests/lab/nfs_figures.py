#!/usr/bin/env python3
"""Figures of the datastore beside its peer, in one run: 4 KiB FILE_SYNC writes at random places of one file, at depth 1
and 16, on three nodes of ours and on nfs-ganesha in front of glusterfs with three replicas. One after the other, three
times; medians and ratios. The peer lives in a network namespace of its own.

    nfs_figures.py [ROUNDS] [SECONDS]        needs root; nfs-ganesha-gluster glusterfs-server rpcbind libnfs-dev"""
import json, os, shutil, signal, statistics, subprocess, sys, tempfile, time
from cluster import CACHE, HERE, Cluster

sys.path.insert(0, os.path.join(HERE, "night"))
from lablib import own_name  # noqa: E402

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 3
SECONDS = int(sys.argv[2]) if len(sys.argv) > 2 else 8
FILE_BYTES = 256 << 20
SPACE, PEER = own_name("p") + "-c", "10.99.9.1"


def build():
    out, source = os.path.join(CACHE, "nfsload"), os.path.join(HERE, "nfsload.c")
    if not os.path.exists(out) or os.path.getmtime(out) < os.path.getmtime(source):
        subprocess.check_call(["cc", "-O2", "-o", out, source, "-lnfs"])
    return out


def load(url, prefix=()):
    figures = {}
    run = lambda *a: json.loads(subprocess.check_output(list(prefix) + [build(), url] + [str(x) for x in a], text=True))
    run("write", 1 << 20, 4, 4, FILE_BYTES, 2)  # the file has its blocks
    for depth in (1, 16):
        figures[depth] = run("randwrite", 4096, depth, SECONDS, FILE_BYTES, 2)
    return figures


class Ours(Cluster):
    def figures(self):
        return load("nfs://127.0.0.70/ds1/load?nfsport=2049&mountport=2049")


class Peer:
    """nfs-ganesha on glusterfs, three bricks on this machine."""

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
        for name in ("lib", "run", "log", "b1", "b2", "b3"):
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
        with open(at("ganesha.conf"), "w") as f:
            f.write("NFS_CORE_PARAM { Protocols = 3; NFS_Port = 2049; MNT_Port = 20048; Enable_NLM = false; Enable_RQUOTA = false; }\n"
                    "EXPORT { Export_Id = 1; Path = /load; Pseudo = /load; Access_Type = RW; Squash = None; SecType = sys;\n"
                    "  Protocols = 3; Transports = TCP; FSAL { Name = GLUSTER; Hostname = %s; Volume = load; } }\n" % PEER)
        self.start("ganesha.nfsd", "-F", "-f", at("ganesha.conf"), "-L", at("log/ganesha.log"), "-p", at("run/ganesha.pid"))
        end = time.time() + 60
        url = self.url()
        while subprocess.run(["ip", "netns", "exec", SPACE, build(), url, "write", "4096", "1", "0.1", "4096", "2"],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
            assert time.time() < end, "nfs-ganesha does not serve; see %s" % self.folder
            time.sleep(1)
        return self

    def url(self):
        return "nfs://%s/load/load?nfsport=2049&mountport=20048" % PEER

    def inside(self, *command):
        subprocess.check_call(["ip", "netns", "exec", SPACE] + list(command))

    def start(self, *command):
        self.processes.append(subprocess.Popen(["ip", "netns", "exec", SPACE] + list(command), cwd=self.folder,
                                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def figures(self):
        return load(self.url(), ("ip", "netns", "exec", SPACE))

    def __exit__(self, kind, *_):
        # The bricks and their helpers are in the namespace, with everything else that was started there.
        for pid in subprocess.check_output(["ip", "netns", "pids", SPACE], text=True).split():
            os.kill(int(pid), signal.SIGKILL)
        for p in self.processes:
            p.wait()
        subprocess.check_call(["ip", "netns", "del", SPACE])
        if kind is None:
            shutil.rmtree(self.folder)


def main():
    runs = {"ours": [], "ganesha on glusterfs": []}
    for _ in range(ROUNDS):
        for name, kind in (("ours", Ours), ("ganesha on glusterfs", Peer)):
            with kind() as system:
                runs[name].append(system.figures())
            print(name, runs[name][-1], flush=True)
    for depth in (1, 16):
        median = lambda name, what: statistics.median(r[depth][what] for r in runs[name])
        ours, peer = (median(n, "ops_per_s") for n in runs)
        print("4 KiB FILE_SYNC, depth %d: ours %.0f/s p50 %.2f ms, peer %.0f/s p50 %.2f ms, ratio %.2f" % (
            depth, ours, median("ours", "p50_ms"), peer, median("ganesha on glusterfs", "p50_ms"), ours / peer))


main()
