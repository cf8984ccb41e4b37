#!/usr/bin/env python3
"""Local address mode: three nodes in namespaces serve the same private address, and a kernel client's route leads to one.

The client writes synced records all the time. Its node is killed: the route is moved to another node as soon as this
node's port is silent, as an agent on the host would do it, and moved back later, when the first node runs again. No pause
of more than 5 s, no error, the same handles on all nodes, and everything that was acknowledged is read back.

With `--agent` the route is moved by the vCenter agent on metad's LEADER, through a simulator of vCenter whose first host is
the client: no pause of more than 12 s (a missed heartbeat of ESXi), and back after three minutes as the agent has it."""
import argparse, json, os, shutil, subprocess, sys, tempfile, threading, time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "night"))
import nfs_night  # noqa: E402
from cluster import Guest, build  # noqa: E402
from lablib import own_name  # noqa: E402
from nfs_night import GUEST, NfsLab, ready  # noqa: E402

LOCAL = "192.168.33.2"
# A node is given up when it has not accepted a connection for this long, and counts as well again after `--back`.
SILENT_S, PAUSE_MAX_S, AGENT_PAUSE_MAX_S = 0.7, 5, 12
nfs_night.NODE = nfs_night.NODE.replace("[ports]", '[gateway]\nlocal_address = "%s"\n[ports]' % LOCAL)
SCRIPT = """
ip route replace %s/32 via 10.0.10.71
i=0; until mnt; do i=$((i+1)); [ $i -lt 20 ] || { dmesg | tail -3; echo FAIL mount; exit 1; }; sleep 0.5; done
mkdir /tmp/done; cd /mnt
# A shell's background processes have no input of their own.
exec 3<&0
( while read via last <&3; do [ $via = stop ] && { touch /tmp/done/stop; continue; }; [ $via = verify ] && { echo $last > /tmp/done/verify; break; }; ip route replace %s/32 via $via; echo ROUTE $via; done ) &
echo READY
/files/diskload write /mnt 100000 &
load=$!
while [ ! -e /tmp/done/stop ]; do sleep 0.1; done
kill $load; wait $load 2>/dev/null
echo STOPPED; while [ ! -e /tmp/done/verify ]; do sleep 0.1; done
sleep 0.3; mnt nosharecache /again || echo FAIL second mount
/files/diskload verify /again $(cat /tmp/done/verify) || echo FAIL the records
dmesg | grep -iE "i/o error|stale|server .* error" && echo FAIL the kernel saw errors
echo END
"""


class Host:
    """The part of an agent: looks which node answers, and moves the route."""

    def __init__(self, lab, guest, back_s):
        self.lab, self.guest, self.back_s = lab, guest, back_s
        self.via, self.well_since, self.over = 1, {}, threading.Event()
        self.moves = []
        threading.Thread(target=self.run, daemon=True).start()

    def answers(self, node):
        command = ["ip", "netns", "exec", self.lab.ns(0), "timeout", "0.5", "bash", "-c", "exec 3<>/dev/tcp/%s/2049" % self.lab.ip(node)]
        return subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0

    def run(self):
        silent_since = None
        while not self.over.wait(0.2):
            now = time.monotonic()
            for node in self.lab.ids():
                if self.answers(node):
                    self.well_since.setdefault(node, now)
                else:
                    self.well_since.pop(node, None)
            silent_since = (silent_since or now) if self.via not in self.well_since else None
            if silent_since and now - silent_since >= SILENT_S and self.well_since:
                self.move(min(self.well_since))
            elif self.via != 1 and now - self.well_since.get(1, now) >= self.back_s:
                self.move(1)

    def move(self, node):
        self.via = node
        self.moves.append((time.monotonic(), node))
        self.guest.say(self.lab.ip(node))


class Agent:
    """vCenter's simulator, whose routes of the first host are the client's."""
    HOST = "DC0_C0_H0"

    def __init__(self, lab):
        import vcenter_shim
        self.lab, self.guest, self.via, self.moves = lab, None, 1, []
        self.folder = tempfile.mkdtemp(prefix="trivet-vcenter.")
        self.shim = vcenter_shim.Shim(self.folder, [])
        self.shim.on_routes = self.moved
        password = os.path.join(self.folder, "password")
        with open(os.open(password, os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
            f.write(self.shim.password + "\n")
        values = {"url": "https://%s:%d" % (lab.ip(0), self.shim.listen_in(lab.ns(0), lab.ip(0))), "user": self.shim.user, "password_file": password,
                  "thumbprint": vcenter_shim.thumbprint(self.shim.cert), "mode": "repair"}
        self.settings = "[vcenter]\n" + "".join("%s = %s\n" % (k, json.dumps(v)) for k, v in values.items())
        for node in lab.ids():
            self.settings += '[[vcenter.routes]]\nhost = "DC0_C0_H%d"\nnode = %d\nvia = "%s"\n' % (node - 1, node, lab.ip(node))

    def moved(self, host, routes):
        if host != self.HOST:
            return
        ours = [gateway for network, _, gateway in routes if network == LOCAL]
        via = ours[-1] if ours else self.lab.ip(1)
        before, self.via = self.via, next(n for n in self.lab.ids() if self.lab.ip(n) == via)
        if self.via != before:
            self.moves.append((time.monotonic(), self.via))
            self.guest.say(via)

    def second_route(self):
        """A removal that vCenter refused left a second route, and refuses once more: it goes all the same."""
        routes = [(LOCAL, "32", self.lab.ip(n)) for n in (2, 3)]
        self.shim.refuse_removals = 1
        self.shim.routes[self.HOST] = list(routes)
        end = time.monotonic() + 90
        while self.shim.routes[self.HOST] != routes[:1]:
            assert time.monotonic() < end, self.shim.routes
            time.sleep(0.5)
        assert self.shim.refuse_removals == 0

    def stop(self):
        self.shim.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def main(back_s, with_agent):
    lab = NfsLab(own_name("l"), tempfile.mkdtemp(prefix="trivet-lab."))
    lab.up(3)
    agent = None
    try:
        if with_agent:
            agent = Agent(lab)
            nfs_night.NODE += agent.settings
        lab.deploy()
        lab.wait("all nodes", lambda n: len(n) == 3 and any(x["metad"] and x["metad"]["leading"] for x in n), 90)
        made = lab.trivet("datastore", "create", "ds1")
        assert made.returncode == 0, made.stderr
        lab.wait("the datastore is served", ready)
        for node in lab.ids():
            shown = subprocess.run(["ip", "netns", "exec", lab.ns(node), "ip", "-o", "address"], capture_output=True, text=True).stdout
            assert LOCAL + "/32" in shown, shown
        g = Guest(SCRIPT % (LOCAL, LOCAL), files=[build("diskload")], timeout=back_s + 240, server=LOCAL, options=[
            "--no-mount", "--netns", lab.name + "-br", "--net", "tap:t0,%s/24" % GUEST])
        g.wait_for("READY", 120)
        g.wait_for("ACK", 60)
        host = agent or Host(lab, g, back_s)
        if agent:
            agent.guest = g
            end = time.monotonic() + 60
            while "served by its own node 1" not in lab.trivet("vcenter", "status", node=2).stdout:
                assert time.monotonic() < end, lab.trivet("vcenter", "status", node=2)
                time.sleep(0.5)
        time.sleep(5)
        killed = time.monotonic()
        lab.kill(1)
        end = time.monotonic() + 30
        while host.via == 1:
            assert time.monotonic() < end, "the route did not move"
            time.sleep(0.1)
        time.sleep(5)
        if agent:
            agent.second_route()
        lab.start(1)
        end = time.monotonic() + back_s + 90
        while host.via != 1:
            assert time.monotonic() < end, "the route did not come back"
            time.sleep(0.1)
        time.sleep(6)
        if agent:
            told = lab.trivet("vcenter", "status", node=2).stdout
            assert "served by its own node 1" in told, told
            events = "".join(path.read_text() for n in lab.ids() for path in lab.dir(n).rglob("events.jsonl"))
            assert "leads to node 2 now" in events and "已切换到节点 2" in events and "serves it again" in events, events[-3000:]
        else:
            host.over.set()
        # The record that the number names is the last one: later ones would lie where the verified ones lay.
        g.say("stop")
        g.wait_for("STOPPED", 60)
        time.sleep(1)
        g.say("verify %d" % g.acks()[-1][1])
        g.wait_for("END", 120)
        g.end()
        assert any("VERIFIED" in l for _, l in g.lines), g.lines[-5:]
        pause, acks = g.longest_pause(), len(g.acks())
        times = [t for t, _ in g.acks()]
        gaps = [(x - killed, y - killed) for x, y in zip(times, times[1:]) if y - x > 1]
        moves = [(round(t - killed, 1), n) for t, n in host.moves]
        print("seconds after the kill: pauses over 1 s %s, moves %s" % (", ".join("%.1f-%.1f" % gap for gap in gaps), moves))
        print("%d synced records by the local address; route %s; longest pause %.2f s" % (acks, " -> ".join(str(n) for _, n in host.moves), pause))
        assert pause <= (AGENT_PAUSE_MAX_S if agent else PAUSE_MAX_S), "a pause of %.2f s" % pause
        # With the second route the client is led to node 3 and back within seconds, and must not stand still for that.
        assert [n for _, n in host.moves] == ([2, 3, 2, 1] if agent else [2, 1]), host.moves
    finally:
        lab.down(purge=True)
        if agent:
            agent.stop()


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--back", type=float, default=180, help="seconds for which the first node has to be well before the route comes back")
    p.add_argument("--agent", action="store_true", help="the vCenter agent moves the route")
    a = p.parse_args()
    main(a.back, a.agent)
