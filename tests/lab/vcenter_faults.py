#!/usr/bin/env python3
"""The vCenter agent's long checks: races, faults of a host, a LEADER that is killed, a password that is refused."""
import sys, time
import vcenter
from vcenter import HOST3, HOST4, HOST5, Judge, repaired, well, write_password

CHECKS = [vcenter.CHECKS[0]]


def check(name):
    def add(function):
        CHECKS.append((name, function))
        return function
    return add


@check("somebody else is faster: AlreadyExists is a result, not an error")
def faster(lab):
    lab.shim.sim.lose(HOST3, "ds1")
    lab.shim.faults["CreateNasDatastore"] = [("AlreadyExists", "")]
    steps = len(lab.status()["steps"])
    for _ in range(600):
        if not lab.shim.faults["CreateNasDatastore"]:
            break
        time.sleep(0.1)
    lab.judge.mount(HOST3, "ds1")
    lab.wait("the proof", lambda s: len(s["steps"]) >= steps + 1 and well(s), 120)
    last = lab.status()["steps"][-1]
    assert (last["outcome"]["outcome"], last["proof"]) == ("already-there", "repaired"), last


@check("a fault of the host's is told with its advice, and not repeated at once")
def host_fault(lab):
    lab.shim.sim.lose(HOST4, "ds1")
    lab.shim.faults["CreateNasDatastore"] = [("NasConnectionLimitReached", "32")] * 50
    before = time.time()
    lab.wait("the failed step", lambda s: s["steps"][-1]["outcome"].get("kind") == "NasConnectionLimitReached", 180)
    assert "NFS.MaxVolumes" in lab.status()["steps"][-1]["text"]["en"]
    time.sleep(10)
    calls = [m for t, m in lab.shim.calls if m == "CreateNasDatastore" and t > before]
    assert len(calls) == 1, calls
    lab.shim.faults.clear()
    lab.judge.mount(HOST4, "ds1")
    lab.wait("all is well", well, 60)


@check("the LEADER is killed: nothing is done before the hold-down is over, then one repair by one agent")
def failover(lab):
    calls = len(lab.shim.calls)
    steps = lab.status()["steps"][-1]["number"]
    nodes = lab.cluster.status()
    leader = lab.cluster.leaders(nodes)[1]
    lab.shim.sim.lose(HOST5, "ds2")
    lab.cluster.kill(leader, nodes)
    killed = time.time()
    lab.wait("the repair", lambda s: s["steps"] and s["steps"][-1]["number"] > steps and repaired(s) and well(s), 400)
    writes = [(t, m) for t, m in lab.shim.calls[calls:] if m in ("CreateNasDatastore", "RefreshStorageSystem")]
    assert min(t for t, _ in writes) - killed >= 10, writes
    assert [m for _, m in writes].count("CreateNasDatastore") == 1, writes
    epochs = {x["epoch"] for x in lab.status()["steps"] if x["number"] > steps}
    assert len(epochs) == 1, epochs
    lab.cluster.wait("all nodes", lab.cluster.all_ready, 90)


@check("a refused password stops the agent on every node; a corrected one starts it again")
def refused(lab):
    lab.shim.password, lab.shim.refused = "neu", 0
    lab.shim.expire()
    lab.wait("the refusal", lambda s: "refused user agent" in (s["trouble"] or ""), 60)
    assert lab.shim.refused == 1, lab.shim.refused
    nodes = lab.cluster.status()
    lab.cluster.kill(lab.cluster.leaders(nodes)[1], nodes)
    lab.cluster.wait("all nodes", lab.cluster.all_ready, 90)
    lab.wait("the next LEADER knows", lambda s: "refused user agent" in (s["trouble"] or ""), 60)
    time.sleep(6)
    assert lab.shim.refused == 1, "%d attempts with a refused password" % lab.shim.refused
    write_password(lab.folder, "neu")
    lab.wait("readings again", lambda s: not s["trouble"] and well(s), 60)
    lab.judge = Judge(lab.shim)


if __name__ == "__main__":
    vcenter.main(CHECKS, sys.argv[1:])
