#!/usr/bin/env python3
"""Our coordination servers beside Apache's, one release of them or several, on this machine: three nodes each, one after
the other, in turns, with the same load; then one node each with many znodes. Writes docs/bench.md. Everything else that runs here is in the figures:
compare within a row, not across runs."""
import argparse, json, os, platform, statistics, subprocess, sys, tempfile, time
from ensemble import Ensemble, Server, HOSTS, ROOT, apache_classpath

XTASK = os.path.join(os.path.dirname(os.environ.get("TRIVET_BIN", os.path.join(ROOT, "target/release/trivet"))), "xtask")
SHAPES = ((1, 1), (16, 1), (128, 1), (1, 128))
WORK = [("set", 100), ("set", 1024), ("get", 100), ("create-delete", 100), ("mix", 100)]
# A percentile of a few dozen rounds would be the worst of them.
WATCH_S = 10
# As zkServer.sh sets it.
HEAP_MIB = 1000
TICKS = os.sysconf("SC_CLK_TCK")
# The Java servers' compilers need a moment.
WARM_UP = ("--op", "mix", "--sessions", 16, "--window", 8, "--seconds", 4)
NAMES = {"trivet": "Trivet", "floor": "floor"}
# A run of Apache's that does not come to its end is made again so often, and the report says so. One of ours ends it all.
AGAIN_MAX = 2
UNFINISHED = []


class Unfinished(Exception):
    """The load got no answer."""


def cpu_s(pids):
    return sum(sum(map(int, open("/proc/%d/stat" % p).read().rsplit(")", 1)[1].split()[11:13])) for p in pids) / TICKS


def rss_mib(pid):
    return next(int(l.split()[1]) for l in open("/proc/%d/status" % pid) if l.startswith("VmRSS")) / 1024


def load(hosts, *args, timeout=900):
    out = subprocess.run([XTASK, "load", "--hosts", hosts, *map(str, args)], capture_output=True, text=True, timeout=timeout)
    if out.returncode:
        raise Unfinished("the load failed: %s" % (out.stderr.strip().splitlines() or ["no reason"])[0])
    return [json.loads(l) for l in out.stdout.splitlines() if l.startswith("{")]


def measured(pids, hosts, seconds, *args):
    """The load's figures, with the servers' CPU time per operation. One second in front is not measured but in the CPU time."""
    before = cpu_s(pids)
    got = load(hosts, "--seconds", seconds, *args)[-1]
    if "ops" in got:
        got["cpu_us"] = 1e6 * (cpu_s(pids) - before) / max(1, got["ops"] * (seconds + 1) / seconds)
    return got


def to_its_end(kind, run):
    for attempt in range(AGAIN_MAX + 1):
        try:
            return run(kind)
        except Unfinished as e:
            print("a run of %s was not finished: %s" % (kind, e), file=sys.stderr, flush=True)
            UNFINISHED.append((NAMES[kind], str(e)))
            if not kind.startswith("apache") or attempt == AGAIN_MAX:
                raise SystemExit("%d runs of %s were not finished" % (attempt + 1, kind))


def in_turns(kinds, repeats, run):
    """run(kind) -> {cell: figures}, repeated; the median of each figure."""
    all_runs = {}
    for n in range(repeats):
        for kind in kinds:
            for cell, figures in to_its_end(kind, run).items():
                all_runs.setdefault((kind, cell), []).append(figures)
            print("run %d of %s" % (n + 1, kind), file=sys.stderr, flush=True)
    return {k: {f: statistics.median(r[f] for r in v) for f in v[0] if isinstance(v[0][f], (int, float))} for k, v in all_runs.items()}


def ensemble(kind):
    e = Ensemble({i: kind for i in (1, 2, 3)})
    for s in e.servers.values():
        s.heap_mib = HEAP_MIB
    return e


def three_nodes(kind, a):
    if kind == "floor":
        return floor(a)
    cells = {}
    with ensemble(kind) as e:
        e.wait_all()
        pids = [s.process.pid for s in e.servers.values()]
        load(e.hosts(), *WARM_UP)
        for op, size in WORK if not a.quick else WORK[:1] + WORK[2:3]:
            for sessions, window in SHAPES:
                cells[op, size, sessions, window] = measured(pids, e.hosts(), a.seconds, "--op", op, "--size", size, "--sessions", sessions, "--window", window)
        if not a.quick:
            cells["connect"] = measured(pids, e.hosts(), a.seconds, "--op", "connect", "--sessions", 32)
            cells["watch"] = measured(pids, e.hosts(), max(a.seconds, WATCH_S), "--op", "watch", "--sessions", 1000)
    return cells


def floor(a):
    cells = {}
    with tempfile.TemporaryDirectory(dir=ROOT + "/target") as folder:
        p = subprocess.Popen([XTASK, "floor", "--data", folder, "--listen", "127.0.0.71:2191"], stdout=subprocess.PIPE, text=True)
        try:
            p.stdout.readline()
            if not a.quick:
                cells["connect"] = measured([p.pid], "127.0.0.71:2191", a.seconds, "--op", "connect", "--sessions", 32)
                cells["watch"] = measured([p.pid], "127.0.0.71:2191,127.0.0.71:2194,127.0.0.71:2195", max(a.seconds, WATCH_S), "--op", "watch", "--sessions", 1000)
            for op, size in [w for w in WORK if w[0] != "get"] if not a.quick else WORK[:1]:
                for sessions, window in SHAPES:
                    # The floor's server answers a read before the writes in front of it.
                    if op != "mix" or window == 1:
                        cells[op, size, sessions, window] = measured([p.pid], "127.0.0.71:2191", a.seconds, "--op", op, "--size", size, "--sessions", sessions, "--window", window)
        finally:
            p.kill()
            p.wait()
    return cells


def one_node(kind, count):
    """Memory and start with `count` znodes of 100 bytes; the longest request while they are made and snapshots are written."""
    # The files that the previous run deleted keep the disk busy for a while, which is not this server's load.
    os.sync()
    time.sleep(2)
    with tempfile.TemporaryDirectory() as folder:
        s = Server(1, kind, folder, [1], ())
        # As zkServer.sh sets it, which is enough for a million; a larger one would only be filled with garbage.
        s.heap_mib = max(HEAP_MIB, HEAP_MIB * count // 1_000_000)
        s.start()
        wait(s)
        empty = rss_mib(s.process.pid)
        fill = load(HOSTS[1] + ":2181", "--op", "fill", "--count", count, "--sessions", 16, "--window", 32, timeout=3600)[-1]
        time.sleep(5)
        full = rss_mib(s.process.pid)
        starts = []
        for _ in range(3):
            s.kill()
            begun = time.time()
            s.start()
            wait(s)
            starts.append(time.time() - begun)
        after = rss_mib(s.process.pid)
        get = load(HOSTS[1] + ":2181", "--op", "get", "--sessions", 16, "--seconds", 2)[-1]
        s.kill()
    return {"empty_mib": empty, "full_mib": full, "restarted_mib": after, "start_s": statistics.median(starts), "fill_s": fill["seconds"], "stall_ms": fill["max_us"] / 1000, "get_s": get["ops_s"]}


def wait(server):
    end = time.time() + 600
    while server.mode() is None:
        if time.time() > end or server.process.poll() is not None:
            raise SystemExit("server %d does not serve" % server.number)
        time.sleep(0.01)


def idle(kind, sessions=10_000, seconds=20):
    with ensemble(kind) as e:
        e.wait_all()
        pids = [s.process.pid for s in e.servers.values()]
        before = sum(map(rss_mib, pids))
        p = subprocess.Popen([XTASK, "load", "--hosts", e.hosts(), "--op", "idle", "--sessions", str(sessions), "--seconds", str(seconds)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        said = p.stdout.readline()
        if not said:
            raise Unfinished("%d idle sessions could not be opened: %s" % (sessions, p.communicate()[1].strip().splitlines()[0]))
        opened = json.loads(said)
        time.sleep(3)
        begun, cpu = time.time(), cpu_s(pids)
        time.sleep(seconds - 6)
        cpu = (cpu_s(pids) - cpu) / (time.time() - begun)
        after = sum(map(rss_mib, pids))
        lost = json.loads(p.communicate()[0])["lost"]
    return {"opened_s": opened["opened_s"], "mib": after - before, "total_mib": after, "cpu_percent": 100 * cpu, "lost": lost}


def version(kind):
    if kind == "trivet":
        return subprocess.run([XTASK.replace("xtask", "trivet"), "--version"], capture_output=True, text=True).stdout.strip()
    with Ensemble({1: kind}) as e:
        wait(e.servers[1])
        return e.servers[1].word("srvr").splitlines()[0].split(": ")[-1].split(",")[0].split("-")[0]


def table(lines, head, rows):
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(r) + " |" for r in rows] + [""]


def ratio(a, b):
    return "%.2f" % (a / b) if b else "-"


def report(a, ours, releases, cells, filled, idled):
    """releases: the version of each of Apache's kinds. Ratios are to the better of them."""
    model = next((l.split(": ")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
    lines = ["# Benchmarks", "",
             "Written by `cargo xtask bench`%s on %s. %s and Apache ZooKeeper %s in one run, in turns, %d times; medians. The load generator," % (" -- --quick" if a.quick else "", time.strftime("%Y-%m-%d"), ours, " and ".join(releases.values()), a.repeat),
             "the three servers and their disks share one machine: %d processors (%s), Linux %s. Figures of one row are" % (os.cpu_count(), model, platform.release()),
             "comparable; those of another run are not. Ratios are to the better of Apache's releases: the one with more operations", "a second, and of times, memory and processor time the smaller figure. A row of the first table was measured for %g s, behind one" % a.seconds, "that was not; watchers for %d s." % max(a.seconds, WATCH_S), "",
             "The floor is a leader and two followers that commit what they are sent with sockets, batches and synced logs, without", "a tree (`cargo xtask floor`). It does it plainly: its logs grow with each write, and its threads sleep when they wait.",
             "It says what sockets and disks alone take here. Its clients write at the leader, which forwards nothing. 中文：[zh/bench.md](zh/bench.md)", "", "## Three nodes", ""]
    if UNFINISHED:
        lines[-2:-2] = ["Made again, for their load got no answer within its limit: " + "; ".join("%s, %s" % u for u in UNFINISHED) + ".", ""]
    rows = []
    both = lambda of: "%.2f / %.2f" % (of["p50_us"] / 1000, of["p99_us"] / 1000)
    for cell in sorted({c for k, c in cells if k == "trivet" and isinstance(c, tuple)}, key=lambda c: ([w[0] for w in WORK].index(c[0]), c[1], SHAPES.index(c[2:]))):
        x, f = cells["trivet", cell], cells.get(("floor", cell))
        better = max(releases, key=lambda k: cells[k, cell]["ops_s"])
        y = cells[better, cell]
        rows.append(["%s %d B" % cell[:2], "%d x %d" % cell[2:], "{:,.0f}".format(x["ops_s"]), "{:,.0f}".format(y["ops_s"]), releases[better], ratio(x["ops_s"], y["ops_s"]),
                     "{:,.0f}".format(f["ops_s"]) if f else "", both(x), both(y), ratio(x["p99_us"], y["p99_us"]), both(f) if f else "",
                     "%.0f" % x["cpu_us"], "%.0f" % y["cpu_us"], ratio(x["cpu_us"], y["cpu_us"]), "%.0f" % f["cpu_us"] if f else ""])
    table(lines, ["", "sessions x open", "Trivet ops/s", "Apache ops/s", "which", "ratio", "floor ops/s", "Trivet p50 / p99 ms", "Apache p50 / p99 ms", "ratio of p99", "floor p50 / p99 ms", "Trivet CPU us/op, all nodes", "Apache CPU", "ratio", "floor CPU"], rows)
    head = ["", "Trivet"] + ["Apache " + v for v in releases.values()] + ["ratio"]

    def row(name, show, value, figures, best=min):
        """figures: of each kind, ours first; nothing where it was not measured."""
        theirs = [value(f) for f in figures[1:] if f]
        return [name] + [show(f) if f else "-" for f in figures] + [ratio(value(figures[0]), best(theirs)) if theirs else ""]

    of = lambda got, cell: [got.get((k, cell)) for k in ("trivet", *releases)]
    if ("trivet", "connect") in cells:
        with_floor = lambda name, show, value, cell, best: row(name, show, value, of(cells, cell), best) + [show(cells["floor", cell])]
        table(lines, head + ["floor"], [
            with_floor("sessions opened and closed a second, 32 at a time", lambda f: "{:,.0f}".format(f["ops_s"]), lambda f: f["ops_s"], "connect", max),
            with_floor("until the last of 1,000 watchers has heard, p50 / p99 ms", both, lambda f: f["p99_us"], "watch", min)])
    plain = lambda got, cell, name, key, form="%.0f", best=min: row(name, lambda f: form % f[key], lambda f: f[key], of(got, cell), best)
    for count in sorted({c for _, c in filled}):
        lines += ["## {:,} znodes of 100 B, one node".format(count), ""]
        one = lambda *rest: plain(filled, count, *rest)
        table(lines, head, [
            one("resident, empty, MiB", "empty_mib"), one("resident, full, MiB", "full_mib"), one("resident after a restart, MiB", "restarted_mib"),
            one("start after SIGKILL until it serves, s", "start_s", "%.2f"), one("time to make them, s", "fill_s", "%.1f"), one("longest request meanwhile, with snapshots, ms", "stall_ms"),
            one("getData/s behind that, 16 sessions", "get_s", "%.0f", max)])
    if idled:
        lines += ["## 10,000 idle sessions with a watch each, three nodes", ""]
        one = lambda *rest: plain(idled, "idle", *rest)
        table(lines, head, [
            one("time to open them, s", "opened_s", "%.1f"), one("memory for them, MiB", "mib"), one("resident in all, MiB", "total_mib"),
            one("CPU of all nodes while they ping every 10 s, percent of one", "cpu_percent", "%.1f")])
    return "\n".join(lines).rstrip() + "\n"


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", default=os.path.join(ROOT, "docs/bench.md"))
    ap.add_argument("--repeat", type=int, default=3)
    ap.add_argument("--seconds", type=float, default=3)
    ap.add_argument("--quick", action="store_true", help="set and get with 100 bytes alone")
    ap.add_argument("--znodes", default="1000000", help="how many for memory and start, with commas between; nothing for none")
    ap.add_argument("--znodes-ours", default="", help="the same, without Apache")
    ap.add_argument("--no-requests", action="store_true")
    ap.add_argument("--no-idle", action="store_true")
    ap.add_argument("--also", action="append", default=[], metavar="CLASSPATH", help="another release of Apache's beside Debian's")
    a = ap.parse_args()
    apache_classpath()
    ours, releases = version("trivet"), {kind: version(kind) for kind in ["apache"] + ["apache:" + c for c in a.also]}
    NAMES.update({kind: "Apache " + v for kind, v in releases.items()})
    cells, filled, idled = {}, {}, {}

    def write():
        # After each part: what has been measured is not lost with what comes behind it.
        text = report(a, ours, releases, cells, filled, idled)
        with open(a.out, "w") as f:
            f.write(text)
        return text

    if not a.no_requests:
        cells = in_turns(["trivet", *releases, "floor"], a.repeat, lambda kind: three_nodes(kind, a))
        write()
    for counts, kinds in ((a.znodes, ("trivet", *releases)), (a.znodes_ours, ("trivet",))):
        for count in (int(c) for c in counts.split(",") if c):
            got = in_turns(kinds, a.repeat if count <= 1_000_000 and len(kinds) > 1 else 1, lambda kind: {count: one_node(kind, count)})
            filled.update({k: v for k, v in got.items()})
            write()
    if not a.no_idle:
        idled = in_turns(["trivet", *releases], 1, lambda kind: {"idle": idle(kind)})
    print(write())


if __name__ == "__main__":
    main()
