#!/usr/bin/env python3
"""`trivet watch` with the vCenter agent, as a site uses it whose datastores another vendor serves: a host's mount is missed and put
back, nothing is done while the server does not answer, a restart goes on with its journal, and no second process acts.

The NFS server is a cluster of `trivet up` that knows nothing of vCenter."""
import json, os, shutil, signal, subprocess, tempfile, time
import vcenter_shim
from cluster import ADDRESS, Cluster, TRIVET
from vcenter import DATASTORES, HOST2, HOST3, Judge, settings, write_password


class Watch:
    def __init__(self, folder, shim):
        self.folder, self.config = folder, self.write(folder, shim)
        self.start()

    @staticmethod
    def write(folder, shim, **more):
        path = os.path.join(folder, "watch.toml")
        with open(path, "w") as f:
            f.write('name = "site"\ndata = "%s/watch"\n' % folder)
            for d in DATASTORES:
                f.write('[[export]]\nserver = "%s"\npath = "/%s"\n' % (ADDRESS, d))
            f.write(settings(shim, folder, **more))
        return path

    def start(self):
        self.log = open(os.path.join(self.folder, "watch.log"), "ab")
        self.process = subprocess.Popen([TRIVET, "watch", "--config", self.config], stdout=self.log, stderr=self.log)

    def stop(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def said(self):
        with open(self.log.name) as f:
            return f.read()

    def is_well(self):
        """By the last line of health; lines of alerts and incidents may come after it."""
        said = self.said()
        return said.rfind("Z  OK") > said.rfind("Z  degraded")

    def events(self):
        try:
            with open(os.path.join(self.folder, "watch", "events.jsonl")) as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def journal(self):
        try:
            with open(os.path.join(self.folder, "watch", "vcenter.json")) as f:
                return json.load(f)
        except FileNotFoundError:
            return {"number": 0}


def until(what, test, seconds, watch=None):
    begun = time.time()
    while time.time() - begun < seconds:
        if test():
            return time.time() - begun
        time.sleep(0.3)
    raise AssertionError("not within %d s: %s\n%s" % (seconds, what, watch.said() + watch.events()[-3000:] if watch else ""))


def main():
    folder = tempfile.mkdtemp(prefix="trivet-lab.")
    shim = vcenter_shim.Shim(folder, DATASTORES)
    cluster = Cluster(keep=True)
    try:
        write_password(folder, "geheim")
        judge = Judge(shim)
        for host in judge.hosts():
            for d in DATASTORES:
                judge.mount(host, d)
        peers = judge.nfs(HOST2)["ds2"]
        cluster.__enter__()
        run(folder, shim, judge, cluster, peers)
    finally:
        cluster.stop()
        shim.stop()
        shutil.rmtree(cluster.folder, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


def mounts(shim, since):
    return [m for t, m in shim.calls if m == "CreateNasDatastore" and t > since]


def run(folder, shim, judge, cluster, peers):
    done = subprocess.run([TRIVET, "watch", "--config", Watch.write(folder, shim, mode="propose")], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and "propose" in done.stderr and done.stderr.count("\n") == 1, done
    watch = Watch(folder, shim)
    until("the agent works", lambda: "agent works" in watch.events(), 30)
    second = subprocess.run([TRIVET, "watch", "--config", watch.config], capture_output=True, text=True, timeout=30)
    assert second.returncode == 1 and "another `trivet watch` has this folder" in second.stderr, second

    begun = time.time()
    shim.sim.lose(HOST2, "ds2")
    alert = until("the alert", lambda: "lacks datastore ds2" in watch.said(), 60, watch)
    took = until("the mount is back", lambda: judge.nfs(HOST2).get("ds2") == peers, 120)
    until("all is well again", watch.is_well, 60, watch)
    assert len(mounts(shim, begun)) == 1, shim.calls[-20:]
    print("a missing mount: alert after %.0f s, the peers' datastore again after %.0f s, by one call" % (alert, took))

    # Killed and started again: the journal tells what was done, and nothing is done twice.
    before = watch.journal()["number"]
    watch.stop()
    watch.start()
    until("the agent works again", lambda: watch.events().count("agent works") == 2, 30)
    time.sleep(5)
    assert watch.journal()["number"] >= before > 0 and len(mounts(shim, begun)) == 1

    # The NFS server is away, and a host has lost its mount: the host is not blamed, and nothing is tried.
    cluster.stop()
    until("the server's outage", lambda: "EXPORT_DOWN" in watch.said(), 60)
    away = time.time()
    shim.sim.lose(HOST3, "ds1")
    time.sleep(25)
    assert not mounts(shim, away), "a mount was tried while the server did not answer"
    cluster.__enter__()
    took = until("the mount is back", lambda: "ds1" in judge.nfs(HOST3), 180)
    assert len(mounts(shim, away)) == 1, mounts(shim, away)
    assert "geheim" not in watch.said() + watch.events()
    watch.stop()
    print("nothing is done while the NFS server is away; one mount %.0f s after it is back" % took)


main()
