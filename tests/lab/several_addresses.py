#!/usr/bin/env python3
"""Servers with two addresses each, in two networks, an Apache 3.8.0 server among them: they meet over either network, the members'
node names both as Apache does, one network and then the other is cut under writes, each kind leads over the one that is left,
and a reconfig brings a fourth server with two addresses.

It runs in a network namespace of its own, for networks are cut with nft."""
import os, shutil, subprocess, sys, tempfile, threading, time
from kazoo.client import KazooClient
from kazoo.exceptions import BadArgumentsError
from ensemble import Ensemble, Server, HOSTS, BASE
from reconfig import SETTINGS, admin, change, wait

KINDS = {1: "trivet", 2: "apache", 3: "trivet"}
MULTI = SETTINGS + "multiAddress.enabled=true\nmultiAddress.reachabilityCheckTimeoutMs=500\n"
PORTS = "{ 2888, 3888 }"
# With one network cut the ensemble serves again within this, also where an Apache server has to notice it.
PAUSE_MAX_S = 25.0


def second(i):
    return HOSTS[i].replace("127.0.0.", "127.0.1.")


def line(i, role=""):
    return "server.%d=%s:2888:3888|%s:2888:3888%s" % (i, HOSTS[i], second(i), role)


def nft(text):
    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)


def heal():
    subprocess.run(["nft", "delete", "table", "ip", "lab"], stderr=subprocess.DEVNULL)


def cut(network):
    """Nothing gets through between servers over this network; clients are not touched."""
    heal()
    servers = "{ %s }" % ", ".join((HOSTS if network == 1 else {i: second(i) for i in HOSTS}).values())
    rules = ["ip %saddr %s meta l4proto { tcp, udp } th %sport %s drop" % (d, servers, d, PORTS) for d in "ds"]
    rules += ["ip %saddr %s icmp type { echo-request, echo-reply } drop" % (d, servers) for d in "ds"]
    nft("table ip lab {\n chain in {\n type filter hook input priority 0\n%s\n}\n}\n" % "\n".join(rules))


class Writer(threading.Thread):
    """Counts up in one node over all servers; remembers the longest time without an acknowledgement."""

    def __init__(self, hosts):
        super().__init__(daemon=True)
        self.zk = KazooClient(hosts, timeout=30)
        self.zk.start(30)
        self.zk.ensure_path("/count")
        self.value, self.longest, self.last, self.end = 0, 0.0, time.time(), False

    def run(self):
        while not self.end:
            try:
                self.zk.set("/count", b"%d" % (self.value + 1))
                self.value += 1
                self.longest, self.last = max(self.longest, time.time() - self.last), time.time()
            except Exception:
                time.sleep(0.02)

    def pause(self):
        """The longest since this was asked for."""
        longest, self.longest = max(self.longest, time.time() - self.last), 0.0
        return longest


def connections(number, port):
    """Established connections to this port of this server, by the network that they are over."""
    out = subprocess.run(["ss", "-Htn", "state", "established", "sport", "= :%d" % port], capture_output=True, text=True).stdout
    local = [l.split()[2].rsplit(":", 1)[0].strip("[]").removeprefix("::ffff:") for l in out.splitlines()]
    return local.count(HOSTS[number]), local.count(second(number))


def all_over(e, network):
    """Whether two learners, and no more, are connected to the leader, over this network."""
    by_network = connections(e.leader().number, 2888)
    return by_network[network - 1] == 2 and by_network[2 - network] == 0


def lead(e, kind):
    """Kills leaders until one of this kind leads."""
    for _ in range(8):
        leader = e.leader()
        if leader.kind == kind:
            return leader
        leader.kill()
        time.sleep(1)
        e.leader()
        leader.start()
        e.wait_all(90)
    raise AssertionError("no server of kind %s led" % kind)


def text_of(number):
    zk = admin(HOSTS[number])
    try:
        return zk.get("/zookeeper/config")[0].decode()
    finally:
        zk.stop()
        zk.close()


def checks(e):
    e.wait_all()
    texts = {text_of(n) for n in KINDS}
    assert len(texts) == 1, "the servers name their members differently: %s" % texts
    expected = ["%s:participant" % line(n) for n in KINDS]
    assert texts.pop().splitlines()[:3] == expected, "not as Apache writes it"
    print("three servers with two addresses each, one of them Apache's, say the same")

    writer = Writer(e.hosts())
    writer.start()
    for kind in ("trivet", "apache"):
        for network in (1, 2):
            leader = lead(e, kind)
            writer.pause()
            cut(network)
            begun, before = time.time(), writer.value
            # Connections over that network end, and come back over the other one.
            wait("writes over network %d alone" % (3 - network), lambda: writer.value > before + 200, 60)
            # (An Apache server notices after syncLimit that nothing comes any more.)
            wait("both learners reach the leader over network %d" % (3 - network), lambda: all_over(e, 3 - network), 60)
            e.wait_all(60)
            now = e.leader()
            pause = writer.pause()
            print("network %d cut while %s led (server %d): the longest pause %.1f s, all back after %.1f s" % (
                network, kind, leader.number, pause, time.time() - begun))
            assert pause < PAUSE_MAX_S, pause
            # A server that starts while one network is cut finds the others over the other one.
            one = e.servers[1 if now.number != 1 else 3]
            one.kill()
            one.start()
            e.wait_all(60)
            heal()
            time.sleep(1)

    e4 = Server(4, "trivet", e.folder + "/n4", [], (), MULTI + "".join(line(n) + ";%s:2181\n" % HOSTS[n] for n in KINDS) + line(4, ":observer") + ";%s:2181\n" % HOSTS[4])
    e.servers[4] = e4
    e4.start()
    try:
        change(e, joining="server.4=%s:2888:3888;%s:2181" % (HOSTS[4], HOSTS[4]) + "x")
        raise AssertionError("a broken line was taken")
    except BadArgumentsError:
        pass
    lead(e, "trivet")
    wait("server 4 follows", lambda: e4.mode() in ("observer", "follower"), 30)
    change(e, joining=line(4, ":participant") + ";%s:2181" % HOSTS[4])
    wait("all four say so", lambda: all(line(4, ":participant") in text_of(n) for n in e.servers), 30)
    cut(1)
    e4.kill()
    e4.start()
    before = writer.value
    wait("writes go on", lambda: writer.value > before + 100, 60)
    wait("server 4 comes back over network 2", lambda: e4.mode() in ("follower", "leader"), 60)
    heal()
    dynamic = [l for l in open(e.folder + "/n4/zoo.cfg").read().splitlines() if l.startswith("dynamicConfigFile=")]
    assert line(4, ":participant") in open(dynamic[0].partition("=")[2]).read(), "the file of the members keeps both addresses"
    writer.end = True
    writer.join()
    assert int(writer.zk.get("/count")[0]) >= writer.value
    writer.zk.stop()
    print("a fourth server with two addresses joined by a reconfig, and came back over its second network; %d writes" % writer.value)


def late_network():
    """A network that is missing at the start gets its sockets once it is there: for connections, and for the datagrams that measure loss."""
    late, folder = "10.77.0.1", tempfile.mkdtemp(prefix="trivet-lab.")
    members = MULTI + "server.1=%s:2888:3888|%s:2888:3888\n" % (HOSTS[1], late) + line(2) + "\n" + line(3) + "\n"
    server = Server(1, "trivet", folder, [], (), members)

    def listens(kind):
        out = subprocess.run(["ss", "-Hln", kind, "sport", "= :3888"], capture_output=True, text=True).stdout
        return (HOSTS[1] + ":3888" in out, late + ":3888" in out)
    server.start()
    try:
        wait("one network", lambda: listens("-t") == (True, False) and listens("-u") == (True, False), 30)
        subprocess.run(["ip", "addr", "add", late + "/32", "dev", "lo"], check=True)
        wait("the network that came late", lambda: listens("-t") == (True, True) and listens("-u") == (True, True), 30)
    finally:
        server.kill()
    shutil.rmtree(folder)
    print("a network that was missing at the start has its sockets now")


def main():
    if "LAB_NAMESPACE" not in os.environ:
        os.environ["LAB_NAMESPACE"] = "1"
        again = "ip link set lo up && exec '%s' '%s'" % (sys.executable, os.path.abspath(__file__))
        os.execvp("unshare", ["unshare", "--net", "sh", "-c", again])
    assert BASE.startswith("127.0.0."), "both networks are of this machine's loopback device"
    late_network()
    servers = "".join(line(n) + "\n" for n in KINDS)
    properties = {"zookeeper.multiAddress.enabled": "true"}
    e = Ensemble({}, settings="")
    e.servers = {n: Server(n, k, "%s/n%d" % (e.folder, n), [n], (), MULTI + servers, properties) for n, k in KINDS.items()}
    try:
        with e:
            checks(e)
    finally:
        heal()


main()
