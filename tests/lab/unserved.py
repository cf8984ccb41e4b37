#!/usr/bin/env python3
"""A node that may not have what it is given: it says so, is not ready, and the datastore address goes elsewhere.

Three nodes in namespaces, of which the third, which gets the address by default, has no CAP_NET_ADMIN. Then the nodes
with the address and with metad's lead are stopped as planned: both are elsewhere before the processes end."""
import os, shutil, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "night"))
from cluster import TRIVET  # noqa: E402
from lablib import own_name, sh  # noqa: E402
from nfs_night import ADDRESS, NODE, NfsLab  # noqa: E402
import secrets  # noqa: E402

POOR = "setpriv --bounding-set=-net_admin --inh-caps=-net_admin "


class Unserved(NfsLab):
    def deploy(self):
        self.configure({"name": "trivet", "cmd": "sh {dir}/run"}, {})
        key = self.root / "cluster.key"
        key.write_text(secrets.token_hex(32) + "\n")
        for i in self.ids():
            self.config(i).write_text(NODE % (i, key, self.dir(i) / "data"))
            (self.dir(i) / "run").write_text("exec %s%s serve --config %s\n" % (POOR if i == 3 else "", TRIVET, self.config(i)))
            shutil.rmtree(self.dir(i) / "data")
        for i in self.ids():
            self.start(i)


def holder(nodes):
    newest = max((n for n in nodes if n["metad"]), key=lambda n: n["metad"]["entries"], default=None)
    return newest["addresses"][0]["node"] if newest and newest["addresses"] else None


def served(lab):
    """Whether NFS answers at the address, asked from another namespace."""
    p = subprocess.run(["ip", "netns", "exec", lab.name + "-c", "rpcinfo", "-T", "tcp", ADDRESS, "100003", "3"], capture_output=True, text=True, timeout=20)
    return "ready and waiting" in p.stdout


# Answers for an address as a device that was given it, too: to the node that has it, once a second for 30 s.
STRANGER = """
import socket, sys, time
address, mac = socket.inet_aton(sys.argv[1]), bytes.fromhex(sys.argv[2].replace(":", ""))
own = bytes.fromhex("02000000aa99")
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind((sys.argv[3], 0))
for _ in range(30):
    out.send(mac + own + bytes.fromhex("0806" "0001" "0800" "06" "04" "0002") + own + address + mac + address)
    time.sleep(1)
"""


def another_device_has_the_address(lab):
    """Plays it in the client's namespace, and waits for the alert on the node that has the address."""
    node = holder(lab.status())
    mac = sh("ip", "netns", "exec", lab.ns(node), "cat", "/sys/class/net/eth0/address").strip()
    client = lab.name + "-c"
    device = next(l.split()[1].split("@")[0].rstrip(":") for l in sh("ip", "netns", "exec", client, "ip", "-o", "link").splitlines() if " lo:" not in l)
    stranger = subprocess.Popen(["ip", "netns", "exec", client, sys.executable, "-c", STRANGER, ADDRESS, mac, device])
    begun = time.monotonic()
    try:
        told = lambda n: any(d["address"] == ADDRESS and d["mac"] == "02:00:00:00:aa:99" for x in n for d in x["duplicates"])
        lab.wait("a node that counts the other device", told, 60)
        alerts = ""
        while "ADDRESS_DUPLICATE" not in alerts and time.monotonic() - begun < 90:
            alerts = lab.trivet("alerts").stdout
            time.sleep(0.5)
        assert "ADDRESS_DUPLICATE" in alerts and "ADDRESS_ON_NIC" not in alerts, alerts
    finally:
        stranger.kill()
        stranger.wait()
    print("another device that answers for the address: alert after %.1f s" % (time.monotonic() - begun))


def main():
    lab, passed = Unserved(own_name("u")), False
    try:
        lab.up(3)
        lab.deploy()
        begun = time.monotonic()
        lab.wait("metad's LEADER", lambda n: len(n) == 3 and any(x["metad"]["leading"] for x in n))
        made = lab.trivet("datastore", "create", "ds1")
        assert made.returncode == 0, made
        nodes = lab.wait("a node that can has the address", lambda n: len(n) == 3 and holder(n) in (1, 2) and all(x["ready"] == (x["node"] != 3) for x in n), 90)
        third = next(n for n in nodes if n["node"] == 3)
        assert [a for a, _ in third["unserved"]] == [ADDRESS] and "CAP_NET_ADMIN" in third["unserved"][0][1], third["unserved"]
        told = lab.trivet("status").stdout
        assert "node 3  cannot serve %s: " % ADDRESS in told, told
        lab.wait("NFS at the address", lambda n: served(lab), 20)
        print("without CAP_NET_ADMIN: not ready, told, the address on node %d after %.1f s" % (holder(nodes), time.monotonic() - begun))
        another_device_has_the_address(lab)
        # The holder is told to stop: the address is elsewhere before its process ends, and so is metad's lead.
        leader = next(n["node"] for n in lab.status() if n["metad"]["leading"])
        for stopped in sorted({holder(nodes), leader}):
            # Node 3 may lead metad; it only cannot have the address.
            lab.wait("all three", lambda n: len(n) == 3 and any(x["metad"]["leading"] for x in n) and served(lab), 60)
            lab.stop(stopped)
            asked = next(i for i in (1, 2, 3) if i != stopped)
            left = lab.status(asked)
            assert holder(left) not in (stopped, 3) and any(n["metad"]["leading"] for n in left), left
            print("node %d stopped as planned: the address and metad's lead were elsewhere when its process ended" % stopped)
            lab.start(stopped)
        passed = True
    finally:
        if passed:
            lab.down(purge=True)
        else:
            lab.down()
            print("data and logs are kept in", lab.root)


if __name__ == "__main__":
    main()
