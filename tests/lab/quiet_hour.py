#!/usr/bin/env python3
"""An hour with load and without a fault: the console of three nodes raises no alert and opens no incident. A load of virtual machines:
synced writes and reads over NFS and writes to ZooKeeper, at a rate that leaves the machine time. QUIET_SECONDS sets another length.

A machine that stalls for seconds is a fault, and is told as one: what was raised is printed with its evidence."""
import json, os, random, sys, threading, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cluster import ADDRESS, Cluster
from console import trivet
from kazoo.client import KazooClient
from nfs_client import Client

SECONDS = int(os.environ.get("QUIET_SECONDS", "3600"))
# Operations a second; each synced write of 4 KiB is two on this machine's disk.
NFS_RATE, ZOOKEEPER_RATE = 20, 10
DISKS, DISK_MIB = 4, 64


class Load(threading.Thread):
    """Operations one after the other, at a rate; the first error ends it."""

    def __init__(self, rate, operation):
        super().__init__(daemon=True)
        self.rate, self.operation, self.count, self.slowest, self.error, self.stop = rate, operation, 0, 0.0, None, False

    def run(self):
        due = time.monotonic()
        while not self.stop:
            begun = time.monotonic()
            try:
                self.operation(self.count)
            except Exception as e:
                self.error = e
                return
            self.slowest = max(self.slowest, time.monotonic() - begun)
            self.count += 1
            due = max(due + 1 / self.rate, begun)
            time.sleep(max(0.0, due - time.monotonic()))


def nfs_load():
    client, draw = Client(ADDRESS), random.Random(1)
    disks = [client.create(b"disk-%d.vmdk" % i) for i in range(DISKS)]
    pieces = [os.urandom(4096) for _ in range(16)]

    def operation(n):
        disk, offset = draw.choice(disks), 4096 * draw.randrange(DISK_MIB * 256)
        if n % 3 == 2:
            client.read(disk, offset, 4096)
        else:
            client.write(disk, [(offset, pieces[n % 16])])
    return Load(NFS_RATE, operation)


def zookeeper_load():
    zk = KazooClient("127.0.0.71:2181,127.0.0.72:2181,127.0.0.73:2181", timeout=10)
    zk.start(timeout=60)
    zk.ensure_path("/quiet")
    return Load(ZOOKEEPER_RATE, lambda n: zk.set("/quiet", b"%d" % n))


def raised(c):
    alerts = json.loads(trivet(c, "alerts", "--json").stdout)["alerts"]
    # An alert is raised once its condition has lasted as long as its rule demands. The disk of this machine may really be nearly full.
    of_this_machine = lambda rule: rule.startswith("DISK_NEAR")
    alerts = [a for a in alerts if (a["fired_ms"] or a["fires"]) and not of_this_machine(a["rule"])]
    incidents = json.loads(trivet(c, "incident", "list", "--json").stdout)["incidents"]
    return alerts, [i for i in incidents if not all(of_this_machine(m["rule"]) for m in i["members"].values())]


def main():
    with Cluster() as c:
        loads = [nfs_load(), zookeeper_load()]
        for load in loads:
            load.start()
        end = time.monotonic() + SECONDS
        told = set()
        while time.monotonic() < end:
            time.sleep(min(30, max(1, end - time.monotonic())))
            for a in raised(c)[0]:
                alert = json.dumps([a["rule"], a.get("subject")], sort_keys=True)
                if alert not in told:
                    print("%s: %s" % (time.strftime("%H:%M:%S"), json.dumps(a, ensure_ascii=False)[:900]), flush=True)
                told.add(alert)
            assert not any(load.error for load in loads), [load.error for load in loads]
        for load in loads:
            load.stop = True
            load.join(30)
        alerts, incidents = raised(c)
        print("%d s: %d NFS calls (slowest %.2f s), %d writes to ZooKeeper (slowest %.2f s), %d alerts, %d incidents"
              % (SECONDS, loads[0].count, loads[0].slowest, loads[1].count, loads[1].slowest, len(alerts), len(incidents)))
        assert loads[0].count > SECONDS * NFS_RATE / 4 and loads[1].count > SECONDS * ZOOKEEPER_RATE / 4, "there was hardly any load"
        assert not alerts and not incidents, "something was raised"


main()
