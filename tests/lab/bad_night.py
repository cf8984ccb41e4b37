#!/usr/bin/env python3
"""The bad night: the fault schedules of night/schedules against ours and against Apache ZooKeeper 3.8.0, in network
namespaces, with a probe that writes all the time and checks every answer.

    bad_night.py quick            the short schedules once against ours, several at a time; fails beyond the bars
    bad_night.py ci               three of them, in one round (CI)
    bad_night.py nodes            as `quick`, against the coordination servers of nodes, with TLS between them
    bad_night.py all [RUNS]       every schedule RUNS (3) times against ours and once against Apache, the short ones
                                  RUNS times against five of ours, then `render`
    bad_night.py render           docs/bad-night.md, docs/zh/bad-night.md and docs/bad-night.svg from the newest results

Needs root, a gigabyte of memory in /dev/shm, iproute2 and nftables; for `all` Java and Debian's zookeeper."""
import glob, json, os, re, shutil, statistics, string, subprocess, sys, tempfile, time
from concurrent.futures import ThreadPoolExecutor

HERE = os.path.dirname(os.path.abspath(__file__))
NIGHT = os.path.join(HERE, "night")
sys.path.insert(0, NIGHT)
from lablib import own_name  # noqa: E402
RESULTS = os.environ.get("TRIVET_NIGHT_RESULTS", os.path.join(HERE, "results", "night"))
DOCS = os.path.join(os.path.dirname(os.path.dirname(HERE)), "docs")
# Schedule: what it does, the most that ours may be away (s, all outages together), what Apache did when it was measured first.
BARS = {
    "none": ("nothing", 0, "0"),
    "follower-kill9": ("a follower is killed", 0, "0"),
    "ring-leader3": ("one of three links is cut, the leader's are whole", 0, "0-0.3"),
    "rolling-restart": ("all servers are stopped as planned and started again, one by one", 0, "-"),
    "leader-kill9": ("the leader is killed", 0.3, "0.5"),
    "leader-isolate-10s": ("the leader is cut off for 10 s", 1.0, "10.8"),
    "oneway-leader-out": ("the leader hears and is not heard, 30 s", 1.0, "11.3"),
    "leader-sigstop-10s": ("the leader is stopped for 10 s", 1.0, "10.1"),
    "leader-flap": ("the leader's links: 3 s off, 2 s on, for 60 s", 2.0, "40.7"),
    "leader-loss30": ("the leader loses 30 % of its packets for 60 s", 3.0, "40.7"),
    "node71-loss50": ("node 71 loses 50 % of its packets for 150 s", 3.0, "94"),
    "incident-2023-01-29": ("the night itself, 640 s; beyond the unavoidable", 5.0, "44"),
}
CHINESE = {
    "none": "无故障",
    "follower-kill9": "强制终止一个 follower（SIGKILL）",
    "ring-leader3": "三条链路中断一条，leader 的链路正常",
    "rolling-restart": "按计划逐台停止并重启所有服务器",
    "leader-kill9": "强制终止 leader（SIGKILL）",
    "leader-isolate-10s": "leader 被隔离 10 秒",
    "oneway-leader-out": "leader 收得到消息但发不出消息，30 秒",
    "leader-sigstop-10s": "leader 进程被暂停 10 秒（SIGSTOP）",
    "leader-flap": "leader 的链路断 3 秒、通 2 秒，持续 60 秒",
    "leader-loss30": "leader 丢包 30%，持续 60 秒",
    "node71-loss50": "节点 71 丢包 50%，持续 150 秒",
    "incident-2023-01-29": "当晚的实际故障，640 秒；不含不可避免的部分",
}
# Three labs at a time, three or five servers each.
MEMORY_BYTES = 1 << 30
SHORT = ["rolling-restart", "leader-kill9", "leader-isolate-10s", "oneway-leader-out", "leader-sigstop-10s", "leader-flap", "leader-loss30"]
# A single round instead of three; restarts have a lab of their own, and the simulator plays all schedules.
CI = ["leader-kill9", "oneway-leader-out", "leader-flap"]


def play(job):
    schedule, server, letter, tag, nodes = job
    lab = own_name(letter)
    command = [os.path.join(NIGHT, "runsched.py"), os.path.join(NIGHT, "schedules", schedule + ".sched"), "--server", server,
               "--lab", lab, "--fresh", "--quiet", "--results", RESULTS, "--tag", tag, "-n", str(nodes)]
    try:
        out = subprocess.run([sys.executable] + command, capture_output=True, text=True, timeout=1500)
    finally:
        subprocess.run([sys.executable, os.path.join(NIGHT, "lab"), "--lab", lab, "down", "--purge"], capture_output=True)
    lines = out.stdout.strip().splitlines()
    if not lines:
        raise AssertionError("%s against %s: %s" % (schedule, server, out.stderr[-800:]))
    s = json.loads(lines[-1])
    print("%-20s %-8s %d nodes, away %7.2f s, unavoidable %7.2f s, findings %d" % (schedule, server, nodes, s["ensemble_unavailable_s"], s["unavoidable_s"], len(s["violations"])), flush=True)
    return s


def beyond(s):
    return max(0.0, s["ensemble_unavailable_s"] - s["unavoidable_s"])


def named(jobs):
    """With a letter for each one's lab; no more run at a time than there are letters."""
    return [(s, server, string.ascii_letters[i % 52], tag, nodes) for i, (s, server, tag, nodes) in enumerate(jobs)]


def run(jobs, at_a_time):
    with ThreadPoolExecutor(at_a_time) as pool:
        return list(pool.map(play, jobs))


def in_memory(play_all):
    """This lab judges the effects of links and processes. The servers' files lie in memory: a disk that all labs, and all
    else on the machine, have together would add what it happens to do. (stalls.py has disks that are slow by so much.)"""
    memory = "/dev/shm"
    room_bytes = shutil.disk_usage(memory).free if os.path.isdir(memory) else 0
    if room_bytes < MEMORY_BYTES:
        raise SystemExit("%s has %d MiB free for the servers' files: %d are needed" % (memory, room_bytes >> 20, MEMORY_BYTES >> 20))
    with tempfile.TemporaryDirectory(dir=memory, prefix="trivet-night.") as folder:
        os.environ["ZKLAB_DIR"] = folder
        return play_all()


def quick(schedules, server="trivet"):
    results = run(named([(s, server, "quick", 3) for s in schedules]), 3)
    late = ["%s: %.2f s, at most %.1f s" % (s["schedule"], beyond(s), BARS[s["schedule"]][1]) for s in results if beyond(s) > BARS[s["schedule"]][1]]
    found = [(s["schedule"], s["violations"][:3]) for s in results if s["violations"]]
    assert not found, found
    assert not late, late
    print("; ".join("%s %.2f s" % (s["schedule"], beyond(s)) for s in results))


def everything(runs):
    shutil.rmtree(RESULTS, ignore_errors=True)
    jobs = [(s, "trivet", "r%d" % r, 3) for r in range(runs) for s in BARS] + [(s, "zk-3.8.0", "", 3) for s in BARS]
    # The long ones first.
    run(named(sorted(jobs, key=lambda j: -list(BARS).index(j[0]))), 5)
    run(named([(s, "trivet", "five-r%d" % r, 5) for r in range(runs) for s in SHORT]), 3)
    render()


def load(server, nodes=3):
    found = {}
    for path in glob.glob(os.path.join(RESULTS, "*", server + "*", "*", "summary.json")):
        with open(path) as f:
            s = json.load(f)
        s["folder"] = os.path.dirname(path)
        if s["nodes"] != nodes:
            continue
        found.setdefault(s["schedule"], []).append(s)
    return found


def leads(summary):
    """[(from, to, server)] of who led, from the timeline's roles."""
    spans, leading = [], {}
    for line in open(os.path.join(summary["folder"], "timeline.txt")):
        m = re.match(r"\s*(\S+)\s+role\s+\S+\.(\d+) (\S+)", line)
        if not m:
            continue
        t = m.group(1)
        if ":" in t:
            h, mi, s = t.split(":")
            t = (int(h) - 5) * 3600 + (int(mi) - 10) * 60 + float(s)
        t, node, role = float(t), m.group(2), m.group(3)
        if role == "leader":
            leading.setdefault(node, t)
        elif node in leading:
            spans.append((leading.pop(node), t, node))
    return spans + [(since, summary["seconds"], node) for node, since in leading.items()]


def picture(apache, ours):
    width, left, lane, scale = 1000, 150, 16, 840 / 640
    out, y = [], 40
    colours = {"71": "#c0392b", "72": "#2471a3", "73": "#1e8449"}
    for name, s in (("Apache ZooKeeper 3.8.0", apache), ("Trivet", ours)):
        out.append('<text x="10" y="%d" class="h">%s</text>' % (y, name))
        y += 10
        for node in ("71", "72", "73"):
            out.append('<text x="60" y="%d">node %s leads</text>' % (y + 12, node))
            out.append('<rect x="%d" y="%d" width="840" height="%d" class="lane"/>' % (left, y, lane - 2))
            for a, b, n in leads(s):
                if n == node:
                    out.append('<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/>' % (left + a * scale, y, max(1, (b - a) * scale), lane - 2, colours[node]))
            y += lane
        out.append('<text x="60" y="%d">no writes</text>' % (y + 12))
        for a, b, _ in s["ensemble_outages"]:
            out.append('<rect x="%.1f" y="%d" width="%.1f" height="%d" class="out"/>' % (left + a * scale, y, max(1, (min(b, s["seconds"]) - a) * scale), lane - 2))
        y += lane + 24
    for minute in range(0, 11):
        x = left + minute * 60 * scale
        out.append('<line x1="%.1f" y1="34" x2="%.1f" y2="%d" class="grid"/><text x="%.1f" y="%d">05:%02d</text>' % (x, x, y - 16, x - 14, y, 10 + minute))
    style = "text{font:12px sans-serif;fill:#333}.h{font-weight:bold}.lane{fill:#f0f0f0}.out{fill:#444}.grid{stroke:#ccc;stroke-width:.5}"
    return '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d"><style>%s</style><rect width="100%%" height="100%%" fill="#fff"/>%s</svg>\n' % (width, y + 16, style, "".join(out))


ENGLISH_PAGE = """# The bad night

How long an ensemble of three accepts no write, in seconds: the sum of all outages of a schedule, beyond the time in which no
server had two-way links to a majority. A probe writes through every server all the time; a gap counts from 0.3 s on. Measured
on %s by `tests/lab/bad_night.py all`; several schedules run side by side on one machine. Since 2026-11-26 the lab keeps the
servers' files in memory, because a disk would add times of its own: an election of Trivet servers takes four syncs in
sequence (`tests/lab/stalls.py`). 中文：[zh/bad-night.md](zh/bad-night.md)

| schedule | fault | Apache 3.8.0, first measurement | Apache 3.8.0, same run | Trivet, median | Trivet, worst | runs | at most | findings, Trivet | findings, Apache |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|
%s

Findings are lost, stale or duplicated answers that the probe saw. Both ran the same zoo.cfg (tickTime 2000, initLimit 10,
syncLimit 5).

![Leaders in the night of 29 January](bad-night.svg)

The same faults with five Trivet servers:

| schedule | median | worst | runs | at most | findings |
|---|--:|--:|--:|--:|--:|
%s
"""
CHINESE_PAGE = """# 故障之夜

下表是三台服务器的集群无法写入的时间（秒）：每个故障剧本中所有中断的总和，扣除没有任何服务器与多数派双向连通的时间。探测程序始终通过每台
服务器写入；间隔达到 0.3 秒才计为中断。本页由 `tests/lab/bad_night.py all` 于 %s 测得；多个剧本在同一台机器上并行运行。自 2026-11-26 起，
服务器的文件放在内存中，以排除磁盘自身的耗时：Trivet 服务器的一次选举依次需要四次落盘（`tests/lab/stalls.py`）。
English: [../bad-night.md](../bad-night.md)

| 剧本 | 故障 | Apache 3.8.0，首次测量 | Apache 3.8.0，同一轮 | Trivet，中位数 | Trivet，最差 | 次数 | 上限 | 异常应答，Trivet | 异常应答，Apache |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|
%s

“异常应答”指探测程序观察到的丢失、过期或重复的应答。两者使用相同的 zoo.cfg（tickTime 2000、initLimit 10、syncLimit 5）。

![1 月 29 日夜间的 leader](../bad-night.svg)

同样的故障，五台 Trivet 服务器：

| 剧本 | 中位数 | 最差 | 次数 | 上限 | 异常应答 |
|---|--:|--:|--:|--:|--:|
%s
"""


def render():
    ours, apache = load("trivet"), load("zookeeper-3.8.0")
    rows = []
    for name, (what, bar, before) in BARS.items():
        o = sorted(beyond(s) for s in ours.get(name, []))
        a = [beyond(s) for s in apache.get(name, [])]
        if not o:
            continue
        figures = "%s | %s | %.2f | %.2f | %d | %g | %d | %d" % (
            before, "%.1f" % a[0] if a else "-", statistics.median(o), o[-1], len(o), bar,
            sum(len(s["violations"]) for s in ours[name]), sum(len(s["violations"]) for s in apache.get(name, [])))
        rows.append((name, what, figures))
    five = []
    for name, of_five in sorted(load("trivet", 5).items(), key=lambda i: list(BARS).index(i[0])):
        o = sorted(beyond(s) for s in of_five)
        five.append("| %s | %.2f | %.2f | %d | %g | %d |" % (name, statistics.median(o), o[-1], len(o), BARS[name][1], sum(len(s["violations"]) for s in of_five)))
    newest = max(os.path.getmtime(os.path.join(s["folder"], "summary.json")) for all_of in ours.values() for s in all_of)
    write_pages(time.strftime("%Y-%m-%d", time.gmtime(newest)), rows, five)
    night = "incident-2023-01-29"
    if ours.get(night) and apache.get(night):
        with open(os.path.join(DOCS, "bad-night.svg"), "w") as f:
            f.write(picture(apache[night][-1], ours[night][-1]))


def write_pages(day, rows, five):
    """day: when it was measured; rows: (schedule, fault in English, figures); five: whole lines."""
    english = ["| %s | %s | %s |" % row for row in rows]
    chinese = ["| %s | %s | %s |" % (name, CHINESE[name], figures) for name, _, figures in rows]
    os.makedirs(os.path.join(DOCS, "zh"), exist_ok=True)
    for page, template, lines in (("bad-night.md", ENGLISH_PAGE, english), ("zh/bad-night.md", CHINESE_PAGE, chinese)):
        text = template % (day, "\n".join(lines), "\n".join(five))
        with open(os.path.join(DOCS, page), "w") as f:
            f.write(text)
    print(ENGLISH_PAGE % (day, "\n".join(english), "\n".join(five)))


what = sys.argv[1] if len(sys.argv) > 1 else "quick"
{"quick": lambda: in_memory(lambda: quick(SHORT)), "ci": lambda: in_memory(lambda: quick(CI)), "nodes": lambda: in_memory(lambda: quick(SHORT, "trivet-node")), "all": lambda: in_memory(lambda: everything(int(sys.argv[2]) if len(sys.argv) > 2 else 3)), "render": render}[what]()
