#!/usr/bin/env python3
"""`trivet timeline` of a cluster of ours: its leader is killed, the next one stands still for 3 s. The running nodes, asked
with --live, and their logs and journals must tell both, and when."""
import datetime, json, os, signal, subprocess, sys, tempfile, time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TRIVET = os.environ.get("TRIVET_BIN", os.path.join(ROOT, "target/release/trivet"))


def run(*args, timeout=30):
    return subprocess.run([TRIVET, *args], capture_output=True, text=True, timeout=timeout)


def leader(data):
    """Its number and its process."""
    end = time.time() + 10
    while time.time() < end:
        nodes = json.loads(run("status", "--json", "--data", data).stdout)["nodes"]
        for n in nodes:
            if n["coordination"] and n["coordination"]["role"] == "leader" and n["coordination"]["serving"]:
                return n["node"], n["pid"]
        time.sleep(0.1)
    raise SystemExit("nobody leads")


def timeline(*args):
    r = run("timeline", "--json", *args)
    if r.returncode != 1:
        raise SystemExit("timeline %s: status %d, 1 wanted: %s" % (args, r.returncode, r.stderr))
    return json.loads(r.stdout)


def moment(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def check(found, faults, where):
    """faults: leader, when, what its outage is called."""
    outages = [o for o in found["outages"] if o["to"]]
    if len(outages) != len(faults):
        raise SystemExit("%s: %d outages, %d wanted: %s" % (where, len(outages), len(faults), outages))
    for o, (node, at, what) in zip(outages, faults):
        begun, seen = moment(o["from_earliest"]), moment(o["from"])
        if o["leader"] != node or what not in o["what"] or not (begun - 0.3 <= at <= seen + 0.1):
            raise SystemExit("%s: leader %d at %.3f (%s) is told as %s" % (where, node, at, what, o))
    print("%s: %s" % (where, "; ".join("leader %d away for %.2f s, %s" % (o["leader"], moment(o["to"]) - moment(o["from_earliest"]), o["what"]) for o in outages)))


def inside(data):
    """The load that runs while the cluster does."""
    faults = []
    node, pid = leader(data)
    faults.append((node, time.time(), "process ended"))
    os.kill(pid, signal.SIGKILL)
    time.sleep(6)
    node, pid = leader(data)
    faults.append((node, time.time(), "stood still"))
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(3)
    finally:
        os.kill(pid, signal.SIGCONT)
    time.sleep(3)
    check(timeline("--live", "--data", data), faults, "live")
    folders = [os.path.join(data, "node%d" % n) for n in (1, 2, 3)]
    # The journals, and the logs beside them, which say the same again.
    check(timeline(*folders), faults, "logs and journals")
    one = timeline("--node", str(faults[1][0]), "--from", datetime.datetime.fromtimestamp(faults[1][1] - 1, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S"), *folders)
    check(one, faults[1:], "from the second on")
    # Lines are broken at 120 columns, Chinese ones between any two characters.
    text = run("timeline", "--lang", "zh", *folders).stdout.replace("\n" + " " * 14, "")
    if "集群停止工作" not in text or "进程停顿" not in text:
        raise SystemExit("not in Chinese: %s" % text)


def main():
    with tempfile.TemporaryDirectory() as folder:
        data = os.path.join(folder, "data")
        command = "%s %s --inside %s" % (sys.executable, os.path.abspath(__file__), data)
        r = subprocess.run([TRIVET, "up", "--data", data, "--exec", command], timeout=120)
    if r.returncode:
        raise SystemExit("timeline of a running cluster: failed")
    print("timeline: a killed and a frozen leader of ours are told, live and from logs")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(sys.argv[2])
    else:
        main()
