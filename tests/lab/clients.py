#!/usr/bin/env python3
"""Clients that others wrote: Debian's zkCli.sh, the C client and Rust's zookeeper-client, each with watches, a multi,
authentication, and a leader that is killed under it."""
import os, re, struct, subprocess, sys, tempfile, threading, time, urllib.request
from kazoo.client import KazooClient
from ensemble import Ensemble, HOSTS, ROOT, Server
from wire import NAMES, Session, create, setting, watched

HERE = os.path.dirname(os.path.abspath(__file__))
ZKCLI = "/usr/share/zookeeper/bin/zkCli.sh"
ZKSERVER = "/usr/share/zookeeper/bin/zkServer.sh"


class Shell:
    """zkCli.sh with its input and output."""

    def __init__(self, hosts):
        self.p = subprocess.Popen([ZKCLI, "-server", hosts], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1)
        self.lines, self.n = [], 0
        threading.Thread(target=lambda: [self.lines.append(l.rstrip("\n")) for l in self.p.stdout], daemon=True).start()

    def wait(self, pattern, since=0, seconds=30):
        end = time.time() + seconds
        while time.time() < end:
            for l in self.lines[since:]:
                if re.search(pattern, l):
                    return l
            time.sleep(0.02)
        raise AssertionError("no line %r within %d s; the last ones: %s" % (pattern, seconds, self.lines[-15:]))

    def say(self, command, pattern):
        since = len(self.lines)
        self.p.stdin.write(command + "\n")
        self.p.stdin.flush()
        # Some commands say nothing; they are carried out in order.
        return self.wait(pattern, since) if pattern else None


def kill_leader(e):
    s = e.leader()
    s.kill()
    e.leader()
    return s


def zkcli(e):
    sh = Shell(e.hosts())
    sh.wait("CONNECTED|Welcome")
    sh.say("create /cli first", "Created /cli")
    sh.say("addauth digest u:p", "")
    sh.say("create /cli/mine secret auth::cdrwa", "Created /cli/mine")
    sh.say("getAcl /cli/mine", "'digest,'u:")
    sh.say("create -e -s /cli/e- x", "Created /cli/e-0000000001")
    sh.say("create -c /cli/container", "Created /cli/container")
    sh.say("create -t 1000000 /cli/ttl", "Created /cli/ttl")
    sh.say("addWatch -m PERSISTENT_RECURSIVE /cli", "")
    sh.say("set /cli/mine other", "NodeDataChanged path:/cli/mine")
    sh.say("get -s /cli/mine", "dataVersion = 1")
    sh.say("getAllChildrenNumber /cli", "4")
    sh.say("setquota -n 100 /cli", "")
    sh.say("listquota /cli", "count=100")
    sh.say("whoami", "digest")
    sh.say("config", "server.1=")
    sh.say("sync /", "Sync is OK|Sync has succeeded")
    print("zkCli.sh: nodes of all kinds, access lists, watches, quota", flush=True)
    dead = kill_leader(e)
    for _ in range(20):
        since = len(sh.lines)
        sh.p.stdin.write("get /cli/e-0000000001\n")
        sh.p.stdin.flush()
        try:
            sh.wait("^x$", since, 2)
            break
        except AssertionError:
            pass
    else:
        raise AssertionError("zkCli.sh has lost its session: %s" % sh.lines[-10:])
    sh.say("create /cli/after x", "Created /cli/after")
    sh.wait("NodeCreated path:/cli/after")
    sh.say("deleteall /cli", "NodeDeleted path:/cli$")
    sh.say("create -e /ends x", "Created /ends")
    sh.say("quit", "")
    # zkCli prints its last event only if that thread is still in time. That its session was ended shows in the tree.
    assert sh.p.wait(30) == 0, sh.lines[-15:]
    zk = KazooClient(e.hosts())
    zk.start(timeout=30)
    zk.sync("/")
    assert not zk.exists("/ends"), "zkCli.sh has quit, and its session lives on"
    zk.stop()
    dead.start()
    e.wait_all()
    print("zkCli.sh: went on after the leader's death, with its session, its ephemeral node and its watch", flush=True)


def c_client(e, folder):
    binary = os.path.join(folder, "client")
    subprocess.run(["cc", "-O1", "-Wall", "-DTHREADED", "-o", binary, os.path.join(HERE, "client.c"), "-lzookeeper_mt"], check=True)
    through_a_death(e, binary)
    print("C client: watches, multi, authentication, the leader's death", flush=True)


def rust_client(e, binary):
    through_a_death(e, binary)
    print("Rust's zookeeper-client: watches, multi, authentication, the leader's death", flush=True)


def build_rust_client():
    target = os.path.join(ROOT, "target/rust-client")
    subprocess.run(["cargo", "build", "--quiet", "--locked", "--target-dir", target], cwd=os.path.join(HERE, "rust_client"), check=True)
    return os.path.join(target, "debug/rust-client")


def through_a_death(e, binary):
    """The client does its things and says "ready"; the leader dies; it goes on and says "done"."""
    p = subprocess.Popen([binary, e.hosts()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    assert p.stdout.readline() == "ready\n", "%s failed" % binary
    dead = kill_leader(e)
    p.stdin.write("go\n")
    p.stdin.flush()
    assert p.stdout.readline() == "done\n" and p.wait(20) == 0, "%s failed after the leader's death" % binary
    dead.start()
    e.wait_all()


def monitors(e):
    """The outputs that monitoring tools read: zkServer.sh, kazoo's command, the patterns of telegraf and nagios, Prometheus."""
    modes = set()
    for s in e.servers.values():
        out = subprocess.run([ZKSERVER, "status", os.path.join(s.folder, "zoo.cfg")], capture_output=True, text=True, timeout=60)
        modes.add(re.search("^Mode: (.*)$", out.stdout, re.M).group(1))
    assert modes == {"leader", "follower"}, modes
    zk = KazooClient(e.hosts())
    zk.start(timeout=20)
    assert zk.command(b"ruok") == "imok"
    for text in [s.word("mntr") for s in e.servers.values()]:
        figures = dict(re.findall(r"^zk_(\w+)\s+([\w.\-]+)", text, re.M))
        assert {"version", "server_state", "znode_count", "watch_count", "avg_latency", "outstanding_requests", "open_file_descriptor_count"} <= set(figures), figures
        assert {how + name for how in ("avg_", "min_", "max_", "cnt_", "sum_") for name in ("fsynctime", "election_time", "readlatency")} | {"p99_updatelatency"} <= set(figures), figures
        assert all(re.fullmatch(r"zk_\w+\t.*", l) for l in text.splitlines()), text
    assert all(re.search(r"^Zxid: 0x[0-9a-f]+$", s.word("srvr"), re.M) and re.search(r"^Latency min/avg/max: [\d.]+/[\d.]+/[\d.]+$", s.word("srvr"), re.M) for s in e.servers.values())
    zk.stop()
    for i, s in e.servers.items():
        asks = Session(HOSTS[i])
        assert asks.ask("children", watched("/"))[0] == 0
        asks.close()
        with urllib.request.urlopen("http://%s:7000/metrics" % HOSTS[i], timeout=5) as r:
            lines = r.read().decode().splitlines()
        figures = dict(l.rsplit(" ", 1) for l in lines if not l.startswith("#"))
        assert all(re.fullmatch(r'[a-zA-Z_:][a-zA-Z0-9_:]*(\{quantile="[\d.]+"\})?', k) and float(v) == float(v) for k, v in figures.items()), figures
        # The metrics that Apache's own rules for alerts use.
        assert float(figures["election_time_count"]) >= 1 and float(figures["fsynctime_count"]) > 0 and "snapshottime_count" in figures, figures
        assert float(figures['readlatency{quantile="0.99"}']) < 1_000 and float(figures["readlatency_count"]) >= 1, figures
        assert float(figures["updatelatency_count"]) >= 1 and float(figures["connection_request_count"]) >= 1 and float(figures["bytes_received_count"]) > 40, figures
        assert float(figures["znode_count"]) > 4 and float(figures["quorum_size"]) == 3, figures
        types, helped = {}, None
        for l in lines:
            if l.startswith("# TYPE"):
                name, kind = l.split()[2:]
                assert name not in types, l
                types[name] = kind
                assert helped == name, "no help before the type: " + l
            elif l.startswith("# HELP"):
                helped, text = l.split(" ", 3)[2:]
                assert text, l
            else:
                assert re.match(name + "(_count|_sum|\\{.*\\})? ", l), "a figure that does not stand behind its type: " + l
        assert set(types.values()) == {"gauge", "counter", "summary"}, types
    print("monitors: zkServer.sh status, kazoo, the patterns of telegraf and nagios, Prometheus", flush=True)


def long_requests(folder):
    """largeRequestMaxBytes: while one long request is coming in, another one is too much; short ones are not."""
    server = Server(1, "trivet", folder, [1], (), "largeRequestThreshold=100000\nlargeRequestMaxBytes=900000\n")
    server.start()
    while server.mode() is None:
        time.sleep(0.02)
    try:
        slow, other = Session(HOSTS[1]), Session(HOSTS[1])
        assert other.err("create", create("/long")) == 0
        body = setting("/long", b"x" * 600_000)
        whole = struct.pack(">iii", len(body) + 8, 1, NAMES["set"]) + body
        slow.sock.sendall(whole[:300_000])
        time.sleep(0.3)
        assert other.err("set", setting("/long", b"short")) == 0
        assert other.err("set", body) == "closed", "two long requests at a time were taken"
        slow.sock.sendall(whole[300_000:])
        assert slow.reply(1)[0] == 0
        assert Session(HOSTS[1]).err("set", body) == 0, "the place of the first one is not free again"
        assert "zk_large_requests_rejected\t1\n" in server.word("mntr"), "the one that was too much is not counted"
    finally:
        server.kill()
    print("long requests: a second one at a time is too much, short ones are not", flush=True)


def main():
    # Before the servers are started: in a clone it takes a while.
    rust = build_rust_client()
    if "--build" in sys.argv:
        return 0
    with tempfile.TemporaryDirectory() as folder, Ensemble({i: "trivet" for i in (1, 2, 3)}) as e:
        for s in e.servers.values():
            s.kill()
            with open(os.path.join(s.folder, "zoo.cfg"), "a") as f:
                f.write("metricsProvider.className=org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider\n"
                        "metricsProvider.httpHost=%s\nmetricsProvider.httpPort=7000\n" % HOSTS[s.number])
            s.start()
        e.wait_all()
        monitors(e)
        zkcli(e)
        c_client(e, folder)
        rust_client(e, rust)
    with tempfile.TemporaryDirectory() as folder:
        long_requests(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
