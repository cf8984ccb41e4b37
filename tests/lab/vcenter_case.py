#!/usr/bin/env python3
"""The case from end to end: three nodes in namespaces, a kernel client that writes all the time in the place of an ESXi host,
and vcsim behind vcenter_shim.py with the hosts' mounts. The agent has its default settings and mode `repair`.

First a host loses one of two datastores: alert within 60 s, repair, proof by pyVmomi, one incident in both languages, and the
kernel client notices nothing. Then the night of 29 January: a host loses a datastore in the middle of it; nothing is done
while the night lasts, and one mount is made afterwards.

    vcenter_case.py [SCHEDULE]      default: incident-2023-01-29"""
import argparse, json, os, shutil, sys, tempfile, threading, time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "night"))
import nfs_night  # noqa: E402
import vcenter_shim  # noqa: E402
from cluster import Guest, build  # noqa: E402
from lablib import own_name  # noqa: E402
from nfs_night import ADDRESS, GUEST, NfsLab, play, ready, transfer, whole  # noqa: E402
from runsched import Schedule  # noqa: E402
from vcenter import DATASTORES, HOST2, HOST3, Judge, write_password  # noqa: E402

PAUSE_MAX_S = 5  # of the kernel client while nothing but a mount is missing
LOST_AFTER_S = 60  # a host loses its datastore this long after the night began
HOLD_S = 60  # the agent's `failover_hold_seconds`
SCRIPT = """
echo READY
/files/diskload write /mnt 100000 &
load=$!
read word; kill $load; wait $load 2>/dev/null
echo STOPPED
read last
mnt nosharecache /again || { dmesg | tail -5; echo FAIL second mount; exit 1; }
/files/diskload verify /again $last || exit 1
dmesg | grep -iE "i/o error|server .* error" && echo FAIL the kernel saw errors
echo END
"""


def settings(lab, shim, folder):
    write_password(folder, shim.password)
    values = dict(url="https://%s:%d" % (lab.ip(0), shim.listen_in(lab.ns(0), lab.ip(0))), user=shim.user,
                  password_file=os.path.join(folder, "password"), thumbprint=vcenter_shim.thumbprint(shim.cert), mode="repair")
    text = "[vcenter]\n" + "".join("%s = %s\n" % (k, json.dumps(v)) for k, v in values.items())
    return text + "".join('[[vcenter.datastores]]\nname = "%s"\nserver = "%s"\npath = "/%s"\n' % (d, ADDRESS, d) for d in DATASTORES)


def agent(lab):
    """The agent's status, asked at any node."""
    for node in lab.ids():
        out = lab.trivet("vcenter", "status", "--json", node=node).stdout
        if out:
            return json.loads(out)
    return None


def until(what, test, seconds):
    begun = time.time()
    while time.time() - begun < seconds:
        found = test()
        if found:
            return found
        time.sleep(0.5)
    raise AssertionError("not within %d s: %s" % (seconds, what))


def steps(shim, since, end=None):
    """The calls that change something, as seconds after `since`."""
    return [(round(t - since, 1), m) for t, m in shim.calls if m in ("CreateNasDatastore", "RefreshStorageSystem") and since < t < (end or time.time())]


def well(s):
    return s and s["matrix"] and all(c["state"] == "OK" for c in s["matrix"]) and not s["open_step"] and not s["alerts"]


def calm(lab, shim, judge, guest):
    peers = judge.nfs("DC0_C0_H0")["ds2"]
    acks = len(guest.acks())
    shim.sim.lose(HOST2, "ds2")
    begun = time.time()
    until("the alarm in vCenter", lambda: judge.issues(HOST2), 20)
    assert judge.heartbeats(HOST2) == 1
    wanted = {("DS_NOT_MOUNTED", HOST2), ("HA_HEARTBEAT_FEW", HOST2)}
    until("the agent's alerts", lambda: wanted <= {(a["id"], a["host"]) for a in (agent(lab) or {"alerts": []})["alerts"]}, 90)
    alerted = time.time() - begun
    until("the repair", lambda: well(agent(lab)), 300)
    took = time.time() - begun
    assert alerted < 60, "the alerts came after %.0f s" % alerted
    assert judge.nfs(HOST2)["ds2"] == peers and not judge.issues(HOST2) and judge.heartbeats(HOST2) == 2
    made = steps(shim, begun)
    assert [m for _, m in made] == ["RefreshStorageSystem", "CreateNasDatastore"], made
    listed = json.loads(lab.trivet("incident", "list", "--json").stdout)["incidents"]
    found = []
    for incident in listed:
        texts = {lang: lab.trivet("incident", "export", incident["id"], "--format", "md", "--lang", lang).stdout.replace("\\", "") for lang in ("en", "zh")}
        if HOST2 in texts["en"]:
            found.append(texts)
    assert len(found) == 1, "%d incidents name %s of %s" % (len(found), HOST2, [i["id"] for i in listed])
    for lang, wanted in {"en": ["DS_NOT_MOUNTED", "HA_HEARTBEAT_FEW", "mount datastore ds2", "repaired"],
                         "zh": ["DS_NOT_MOUNTED", "HA_HEARTBEAT_FEW", "挂载数据存储 ds2", "已修复"]}.items():
        for text in wanted:
            assert text in found[0][lang], "%r is not in the incident:\n%s" % (text, found[0][lang][:6000])
    pauses = [b - a for (a, _), (b, _) in zip(guest.acks()[acks:], guest.acks()[acks + 1:])]
    assert max(pauses) < PAUSE_MAX_S, "the kernel client stood still for %.1f s" % max(pauses)
    print("a mount is missing: alerts after %.0f s, repaired and proved after %.0f s, one incident; the kernel client's longest pause %.2f s" % (alerted, took, max(pauses)))


def night(lab, shim, judge, guest, path):
    schedule = Schedule(path)
    names = {}
    metad = next(n["node"] for n in lab.wait("every copy is in sync", whole, 120) if n["metad"]["leading"])
    others = [i for i in lab.ids() if i != metad]
    names.update({"@M": metad, "@O1": others[0], "@O2": others[1]})
    wanted = schedule.leader or "73"
    transfer(lab, names[wanted] if wanted in names else lab.node(wanted))
    modes = lab.modes()
    names["@L"] = next(i for i, m in modes.items() if m == "leader")
    for k, i in enumerate(sorted(i for i, m in modes.items() if m == "follower")):
        names["@F%d" % (k + 1)] = i
    peers = judge.nfs("DC0_C0_H0")["ds2"]
    before, lost = time.time(), []

    def lose():
        shim.sim.lose(HOST3, "ds2")
        lost.append(time.time())
    timer = threading.Timer(min(LOST_AFTER_S, schedule.duration / 2), lose)
    timer.start()
    play(lab, schedule, names)
    last = before + max((offset for offset, verb, _ in schedule.events if verb != "mark"), default=0)
    timer.join()
    lab.heal()
    for i in lab.ids():
        lab.resume(i)
        lab.start(i)
    over = time.time()
    assert judge.issues(HOST3) and "ds2" not in judge.nfs(HOST3)
    during = steps(shim, before, over)
    assert not during, "the agent acted during the night: %s" % during
    until("the repair after the night", lambda: judge.nfs(HOST3).get("ds2") == peers, 600)
    until("all is well", lambda: well(agent(lab)), 120)
    after = steps(shim, over)
    assert [m for _, m in after] == ["RefreshStorageSystem", "CreateNasDatastore"], after
    waited = over + after[0][0] - last
    assert waited >= HOLD_S - 5, "the agent did not wait for calm: %s, %.0f s after the last fault" % (after, waited)
    assert not judge.issues(HOST3) and judge.heartbeats(HOST3) == 2
    told = ", ".join("%s after %.0f s" % (m, over + t - last) for t, m in after)
    print("%s: the mount was missing for %.0f s of it, no step; after the last fault %s" % (schedule.name, over - lost[0], told))


def main(path):
    folder = tempfile.mkdtemp(prefix="trivet-vcenter.")
    lab = NfsLab(own_name("v"), tempfile.mkdtemp(prefix="trivet-lab."))
    lab.up(3)
    shim, passed = None, False
    try:
        shim = vcenter_shim.Shim(folder, DATASTORES)
        judge = Judge(shim)
        for host in judge.hosts():
            for d in DATASTORES:
                judge.mount(host, d, ADDRESS)
        nfs_night.NODE += settings(lab, shim, folder)
        lab.deploy()
        lab.wait("all nodes", lambda n: len(n) == 3 and any(x["metad"] and x["metad"]["leading"] for x in n), 90)
        for d in DATASTORES:
            assert lab.trivet("datastore", "create", d).returncode == 0
        lab.wait("the datastores are served", ready)
        guest = Guest(SCRIPT, files=[build("diskload")], timeout=1800, server=ADDRESS, options=[
            "--net", "tap:t0,%s/24" % GUEST, "--netns", lab.name + "-br"])
        guest.wait_for("READY", 120)
        guest.wait_for("ACK", 60, count=50)
        until("a healthy matrix", lambda: well(agent(lab)) and len(agent(lab)["matrix"]) == 10, 120)
        time.sleep(HOLD_S)
        calm(lab, shim, judge, guest)
        night(lab, shim, judge, guest, path)
        guest.say("stop")
        guest.wait_for("STOPPED", 60)
        time.sleep(1)
        guest.say(str(guest.acks()[-1][1]))
        guest.end(180)
        assert any("VERIFIED" in l for _, l in guest.lines), guest.lines[-5:]
        print("%d synced records of the kernel client, read back" % len(guest.acks()))
        passed = True
    finally:
        if not passed:
            print("data and logs are kept in", lab.root)
        lab.down(purge=passed)
        if shim:
            shim.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("schedule", nargs="?", default="incident-2023-01-29")
    name = p.parse_args().schedule
    main(name if os.path.exists(name) else os.path.join(HERE, "night", "schedules", name + ".sched"))
